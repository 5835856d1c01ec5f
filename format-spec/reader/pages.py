"""The page walk: proves that LMDB can open a data.mdb safely ("The LMDB environment" of ../store-format.md).

The specification says what to walk. The layout of the pages is LMDB's own, that of mdb.c of LMDB 0.9.
"""

import os
import struct
from collections import namedtuple

MAGIC, VERSION, HEADER, NONE = 0xBEEFC0DE, 1, 16, 2**64 - 1
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
BIG, TABLE = 1, 2  # flags of an entry: its value has pages of its own; it is the header of a named table
DEEPEST = 32

Tree = namedtuple("Tree", "pad flags depth branches leaves overflows entries root")
TREE = struct.Struct("<IHHQQQQQ")


class BadPages(Exception):
    pass


def bad(page, why):
    raise BadPages(f"page {page}: {why}")


def walk(path):
    """Raises BadPages at the first thing wrong in the file at `path`."""
    file = os.open(path, os.O_RDONLY)
    try:
        Walk(file, os.fstat(file).st_size).run()
    finally:
        os.close(file)


class Walk:
    def __init__(self, file, size):
        self.file, self.file_size = file, size
        self.owned = {0: "meta", 1: "meta"}

    def run(self):
        first = self.meta(0, 0)
        self.page_size = first["trees"][0].pad
        if self.page_size < 512 or self.page_size > 65536 or self.page_size & (self.page_size - 1):
            bad(0, f"page size {self.page_size}")
        second = self.meta(1, self.page_size)
        if second["trees"][0].pad != self.page_size:
            bad(1, "another page size than page 0")
        newest = second if second["transaction"] > first["transaction"] else first
        self.last = newest["last"]

        free, main = newest["trees"]
        free_pages = []
        self.tree("free list", free, lambda key, value, flags: free_pages.extend(self.free_entry(key, value, flags)), True)
        tables = []

        def main_entry(key, value, flags):
            if flags != TABLE or len(value) != TREE.size:
                raise BadPages(f"entry {key!r} of the main table is no table")
            tables.append((key, Tree._make(TREE.unpack(value))))

        self.tree("main table", main, main_entry)
        for name, tree in tables:
            self.tree(f"table {name.decode(errors='replace')}", tree, None)
        for page in free_pages:
            self.own(page, 1, "free list")
        for page in range(self.last + 1):
            if page not in self.owned:
                bad(page, "belongs to nothing")

    def read(self, offset, length):
        data = os.pread(self.file, length, offset)
        if len(data) != length:
            raise BadPages(f"the file ends at {self.file_size}, before byte {offset + length}")
        return data

    def meta(self, page, offset):
        data = self.read(offset, 152)
        number, _, flags = struct.unpack_from("<QHH", data)
        magic, version, _, _ = struct.unpack_from("<IIQQ", data, HEADER)
        if (number, flags & META, magic, version) != (page, META, MAGIC, VERSION):
            bad(page, "is no meta page of LMDB 0.9")
        trees = [Tree._make(TREE.unpack_from(data, HEADER + 24 + i * TREE.size)) for i in (0, 1)]
        last, transaction = struct.unpack_from("<QQ", data, HEADER + 24 + 2 * TREE.size)
        return {"trees": trees, "last": last, "transaction": transaction}

    def own(self, page, count, owner):
        if page < 2 or page + count - 1 > self.last:
            bad(page, f"named by the {owner}, but the last page is {self.last}")
        for number in range(page, page + count):
            if number in self.owned:
                bad(number, f"belongs to the {owner} and to the {self.owned[number]}")
            self.owned[number] = owner

    def page(self, number):
        data = self.read(number * self.page_size, self.page_size)
        own_number, _, flags, lower, upper = struct.unpack_from("<QHHHH", data)
        if own_number != number:
            bad(number, f"says that it is page {own_number}")
        return data, flags, lower, upper

    def tree(self, name, tree, entry, integer_keys=False):
        self.found = {"branches": 0, "leaves": 0, "overflows": 0, "entries": 0}
        if tree.depth > DEEPEST:
            raise BadPages(f"{name}: a depth of {tree.depth}")
        if tree.root == NONE:
            if tree.depth:
                raise BadPages(f"{name}: a depth of {tree.depth} without a root")
        else:
            order = (lambda key: int.from_bytes(key, "little")) if integer_keys else bytes
            self.branch_or_leaf(name, tree.root, tree.depth, None, None, order, entry)
        for what, count in self.found.items():
            if getattr(tree, what) != count:
                raise BadPages(f"{name}: {count} {what}, but its header says {getattr(tree, what)}")

    def branch_or_leaf(self, name, number, depth, low, high, order, entry):
        """`low` and `high` bound the keys of the page, from the branch above it."""
        self.own(number, 1, name)
        data, flags, lower, upper = self.page(number)
        kind = LEAF if depth <= 1 else BRANCH
        if flags != kind:
            bad(number, f"flags {flags:#x} at depth {depth} of the {name}")
        if not HEADER <= lower <= upper <= self.page_size or lower % 2:
            bad(number, f"bounds {lower} and {upper}")
        count = (lower - HEADER) // 2
        if count < (1 if kind == LEAF else 2):
            bad(number, f"{count} entries")
        self.found["leaves" if kind == LEAF else "branches"] += 1

        entries, taken, before = [], [], None
        for index, at in enumerate(struct.unpack_from(f"<{count}H", data, HEADER)):
            if at < upper or at + 8 > self.page_size or at % 2:
                bad(number, f"entry {index} begins at {at}")
            low_size, high_size, flags, key_size = struct.unpack_from("<HHHH", data, at)
            size = low_size | high_size << 16
            end = at + 8 + key_size
            if kind == LEAF:
                end += 8 if flags & BIG else size
            if end > self.page_size:
                bad(number, f"entry {index} ends at {end}")
            taken.append((at, end))
            key = data[at + 8 : at + 8 + key_size]
            if kind == LEAF or index:  # the first key of a branch is not looked at
                if not 1 <= key_size <= 511 or (order is not bytes and key_size != 8):
                    bad(number, f"entry {index} has a key of {key_size} bytes")
                place = order(key)
                if before is not None and place <= before:
                    bad(number, f"key {index} is out of order")
                if (low is not None and place < low) or (high is not None and place >= high):
                    bad(number, f"key {index} is not where the branch above says")
                before = place
            entries.append((key, flags, size, data[at + 8 + key_size : end]))
        taken.sort()
        if any(one[1] > next[0] for one, next in zip(taken, taken[1:])):
            bad(number, "entries overlap")

        if kind == BRANCH:
            bounds = [low] + [order(key) for key, *_ in entries[1:]] + [high]
            for index, (_, flags, size, _) in enumerate(entries):
                self.branch_or_leaf(name, size | flags << 32, depth - 1, bounds[index], bounds[index + 1], order, entry)
            return
        for key, flags, size, value in entries:
            if flags not in (0, BIG, TABLE) or (flags == TABLE and name != "main table"):
                bad(number, f"an entry has flags {flags:#x}")
            self.found["entries"] += 1
            if flags == BIG:
                value = self.large(name, int.from_bytes(value, "little"), size, entry is not None)
            if entry:
                entry(key, value, flags)

    def large(self, name, number, size, wanted):
        own_number, _, flags, pages = struct.unpack("<QHHI", self.read(number * self.page_size, HEADER))
        if own_number != number or flags != OVERFLOW:
            bad(number, f"does not begin a large value, as the {name} says")
        if pages * self.page_size < HEADER + size:
            bad(number, f"{size} bytes do not fit into its {pages} pages")
        self.own(number, pages, name)
        if (number + pages) * self.page_size > self.file_size:
            bad(number, "its pages end after the file")
        self.found["overflows"] += pages
        return self.read(number * self.page_size + HEADER, size) if wanted else b""

    def free_entry(self, key, value, flags):
        numbers = struct.unpack(f"<{len(value) // 8}Q", value[: len(value) // 8 * 8])
        if not numbers or numbers[0] > len(numbers) - 1:
            raise BadPages("free list: an entry is shorter than it says")
        return numbers[1 : 1 + numbers[0]]
