#!/usr/bin/env python3
"""Reads ckpt stores. Written from ../store-format.md alone, and laid out in its order.

    reader.py STORE ls                  the snapshots
    reader.py STORE check               a complete check; exits 2 when something is wrong, 65 when it refuses the store
    reader.py STORE extract REF DIR     a snapshot's files, into a directory that it makes
    reader.py STORE tensors REF         name, dtype, shape, SHA-256 of the contiguous bytes, file
    reader.py STORE probes              each probe with its samples, as JSON lines
    reader.py STORE entropies           each entropy record with its figures, as JSON lines

REF is run@step, a run (its highest step), a tag, or the first digits of a snapshot's id. Nothing in the store is
changed and no lock is taken: read a store that nobody writes to.
"""

import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import struct
import sys
from collections import Counter, namedtuple

import lmdb
import numpy
import xxhash
import zstandard

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import pages  # noqa: E402

# This reader's own limit on what it writes or holds for one request.
MOST = 4 << 30

# Raw blocks that are kept, so that one that others are coded against is not decoded for each of them.
KEPT_BLOCKS = 16


# --- Conventions


class Refused(Exception):
    """Nothing is read from this store."""


class Damaged(Exception):
    """This record is not used, nor what needs it."""


class UnknownCodec(Damaged):
    """A block in order as far as one can see, but coded in a way that this reader does not know."""


def require(fine, why):
    if not fine:
        raise Damaged(why)


class Fields:
    """The fields of a structure, one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, length):
        require(length <= self.left(), "ends in the middle of a field")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def u8(self):
        return self.number(1)

    def u32(self):
        return self.number(4)

    def u64(self):
        return self.number(8)

    def i64(self):
        return int.from_bytes(self.take(8), "little", signed=True)

    def id(self):
        return self.take(32)

    def str(self):
        return text(self.take(self.u32()))

    def flag(self):
        flag = self.u8()
        require(flag <= 1, f"a flag is {flag}")
        return flag == 1

    def optional(self, read):
        return read() if self.flag() else None

    def list(self, read, least):
        """`least` is the fewest bytes that an entry takes: the count is checked before anything is made."""
        count = self.u32()
        require(count * least <= self.left(), f"a list of {count} entries does not fit")
        return [read() for _ in range(count)]

    def magic(self, magic):
        require(self.take(8) == magic, f"does not begin with {magic.decode()}")

    def end(self):
        require(self.left() == 0, f"{self.left()} bytes are left over")


def text(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Damaged("text is not UTF-8") from None


def utf8(string):
    return string.encode("utf-8")


def ascending(values):
    return all(a < b for a, b in zip(values, values[1:]))


def printable(string):
    return "".join(c if c.isprintable() else "?" for c in string)


# --- The store directory


def generation(path):
    try:
        with open(os.path.join(path, "current"), "rb") as file:
            content = file.read(65)
    except OSError:
        raise Refused("no store: there is no file `current`") from None
    if len(content) > 64 or not re.fullmatch(rb"gen-[1-9][0-9]*\n", content):
        raise Refused("`current` names no generation")
    directory = os.path.join(path, content[:-1].decode())
    if not os.path.isfile(os.path.join(directory, "data.mdb")):
        raise Refused(f"{content[:-1].decode()} has no data.mdb")
    return directory


# --- The LMDB environment

TABLES = ["superblock", "blocks", "tensors", "parts", "snapshots", "counts", "steps", "tags", "pins", "sources", "images", "pending"]
TABLES += ["probes", "probe_names", "probe_chunks", "entropy_records", "output_chunks", "removals", "metrics", "policies"]
SUPERBLOCK, BLOCKS, TENSORS, PARTS, SNAPSHOTS, COUNTS, STEPS, TAGS, PINS, SOURCES, IMAGES, PENDING = range(1, 13)
PROBES, PROBE_NAMES, PROBE_CHUNKS, ENTROPY_RECORDS, OUTPUT_CHUNKS, REMOVALS = range(13, 19)
METRICS, POLICIES = 19, 20


def check_key(kind, key):
    if kind == SUPERBLOCK:
        require(key == b"store", "a key that is not `store`")
    elif kind == COUNTS:
        require(len(key) == 33 and BLOCKS <= key[0] <= SNAPSHOTS, "not the key of a count")
    elif kind == STEPS:
        require(len(key) >= 10 and key[-9] == 0 and 0 not in key[:-9], "not a run, a zero byte and a step")
        text(key[:-9])
    elif kind in (TAGS, PROBE_NAMES):
        require(1 <= len(key) <= 511 and 0 not in key, "not a name")
        text(key)
    elif kind in (PROBE_CHUNKS, OUTPUT_CHUNKS):
        require(len(key) == 36, "not an id and a number")
    elif kind == REMOVALS:
        require(len(key) == 33 and key[0] in (PROBE_CHUNKS, OUTPUT_CHUNKS), "not a kind of chunks and an id")
    elif kind == METRICS:
        require(33 <= len(key) <= 132 and re.fullmatch(rb"[A-Za-z0-9_./-]+", key[32:]), "not an id and the name of a metric")
    elif kind == POLICIES:
        require(key == b"\0" or (1 <= len(key) <= 511 and 0 not in key), "not a run")
        text(key)
    else:
        require(len(key) == (16 if kind == PENDING else 32), f"a key of {len(key)} bytes")


def shown_key(kind, key):
    if kind == STEPS and len(key) > 9:
        return printable(f"{key[:-9].decode(errors='replace')}@{int.from_bytes(key[-8:], 'big')}")
    if kind in (SUPERBLOCK, TAGS, PROBE_NAMES, POLICIES):
        return printable(key.decode(errors="replace"))
    if kind == COUNTS and len(key) == 33 and BLOCKS <= key[0] <= SNAPSHOTS:
        return f"{TABLES[key[0] - 1][:-1]} {key[1:].hex()}"
    return key.hex()


# --- Records and their checksum


def checksum(kind, key, value):
    seed = xxhash.xxh3_64_intdigest(bytes([kind]) + key)
    return xxhash.xxh3_64_intdigest(value, seed=seed)


def unwrap(kind, key, record):
    """The value of a record."""
    require(len(record) >= 8, "shorter than a checksum")
    value = record[:-8]
    require(int.from_bytes(record[-8:], "little") == checksum(kind, key, value), "wrong checksum")
    return value


# --- Ids


def sha256(data):
    return hashlib.sha256(data).digest()


# --- Superblock

KNOWN_FEATURES = 0
HAS_PROBES, HAS_RETENTION = 1, 2  # of read_compatible
QUARANTINED = 255  # codec of a count

Superblock = namedtuple("Superblock", "version incompatible read_compatible identifier created depth_limit")


def superblock(value):
    fields = Fields(value)
    try:
        fields.magic(b"ckptsto1")
        block = Superblock(fields.u32(), fields.u64(), fields.u64(), fields.take(16), fields.i64(), fields.u8())
    except Damaged as error:
        raise Refused(f"superblock: {error}") from None
    if block.version != 1:
        raise Refused(f"format version {block.version}: this reader knows version 1")
    if block.incompatible & ~KNOWN_FEATURES:
        raise Refused(f"it needs a feature that this reader does not know (incompatible {block.incompatible:#x})")
    return block


# --- Tensors

Stored = namedtuple("Stored", "dtype shape bytes blocks lengths")


def bounded(number):
    require(number < 2**64, "a product or sum of 2^64 or more")
    return number


def byte_count(dtype, shape):
    product = 1
    for dimension in shape:
        product = bounded(product * dimension)
    bits = bounded(product * DTYPES[dtype].bits)
    require(bits % 8 == 0, "not a whole number of bytes")
    return bits // 8


def dtype_and_rank(fields):
    dtype, rank = fields.u8(), fields.u8()
    require(dtype in DTYPES, f"element type {dtype}")
    require(rank <= 64, f"rank {rank}")
    return dtype, rank


def stored_tensor(value):
    fields = Fields(value)
    fields.magic(b"ckpttns1")
    dtype, rank = dtype_and_rank(fields)
    shape = [fields.u64() for _ in range(rank)]
    blocks = fields.list(fields.id, 32)
    fields.end()
    total = byte_count(dtype, shape)
    # One piece more than blocks is enough to see that they are too few, however large the shape says it is.
    pieces = list(itertools.islice(grid(DTYPES[dtype].bits, shape, total), len(blocks) + 1))
    require(len(pieces) == len(blocks), f"{len(blocks)} blocks, but the grid has {'more' if len(pieces) > len(blocks) else 'fewer'}")
    return Stored(dtype, shape, total, blocks, [end - start for start, end in pieces])


# --- Parts

KINDS = {1: "weights", 2: "optimizer", 3: "sidecars"}
OPAQUE, SAFETENSORS, PYTORCH, EMPTY_DIRECTORY = 0, 1, 2, 255

Part = namedtuple("Part", "kind files")
File = namedtuple("File", "path format size skeleton storages tensors")
Storage = namedtuple("Storage", "offset length tensor")
Tensor = namedtuple("Tensor", "name storage offset dtype shape strides")


def part(value):
    fields = Fields(value)
    fields.magic(b"ckptprt1")
    kind = fields.u8()
    require(kind in KINDS, f"part kind {kind}")
    files = fields.list(lambda: part_file(fields), 22)
    fields.end()
    require(files, "no files")
    require(ascending([utf8(file.path) for file in files]), "paths are not in ascending order")
    return Part(kind, files)


def part_file(fields):
    path, format, size = fields.str(), fields.u8(), fields.u64()
    skeleton = fields.optional(fields.id)
    storages = fields.list(lambda: Storage(fields.u64(), fields.u64(), fields.id()), 48)
    tensors = fields.list(lambda: tensor_view(fields, storages), 19)

    check_path(path)
    require(format in (OPAQUE, SAFETENSORS, PYTORCH, EMPTY_DIRECTORY), f"{path}: format {format}")
    require(size <= 2**55, f"{path}: size {size}")
    if format in (OPAQUE, EMPTY_DIRECTORY):
        require(not storages and not tensors, f"{path}: tensors in a file without a tensor format")
    if format == EMPTY_DIRECTORY:
        require(size == 0, f"{path}: an empty directory of {size} bytes")
    order = [storage[:2] for storage in storages]
    require(order == sorted(order), f"{path}: storages are out of order")
    end = 0
    for storage in storages:
        require(storage.offset + storage.length <= size, f"{path}: a storage ends after the file")
        if storage.length:
            require(storage.offset >= end, f"{path}: storages overlap")
            end = storage.offset + storage.length
    require(ascending([utf8(tensor.name) for tensor in tensors]), f"{path}: tensors are out of order")
    file = File(path, format, size, skeleton, storages, tensors)
    require((skeleton is not None) == bool(gaps(file)), f"{path}: has a skeleton without gaps, or gaps without a skeleton")
    return file


def tensor_view(fields, storages):
    name, storage, offset = fields.str(), fields.u32(), fields.u64()
    dtype, rank = dtype_and_rank(fields)
    shape = [fields.u64() for _ in range(rank)]
    strides = [fields.u64() for _ in range(rank)] if fields.flag() else None

    total = byte_count(dtype, shape)
    require(storage < len(storages), f"tensor {name}: no storage {storage}")
    extent = total
    if strides is not None:
        require(not contiguous(shape, strides), f"tensor {name}: strides of a contiguous tensor")
        require(DTYPES[dtype].bits % 8 == 0, f"tensor {name}: strides of elements that are no whole bytes")
        reach = 1
        for dimension, stride in zip(shape, strides):
            reach = bounded(reach + bounded((dimension - 1) * stride))
        extent = bounded(reach * (DTYPES[dtype].bits // 8))
    length = storages[storage].length
    require(offset <= length and offset + extent <= length, f"tensor {name}: reaches beyond its storage")
    return Tensor(name, storage, offset, dtype, shape, strides)


def contiguous(shape, strides):
    if 0 in shape:
        return True
    expected = 1
    for dimension, stride in reversed(list(zip(shape, strides))):
        if dimension != 1:
            if stride != expected:
                return False
            expected *= dimension
    return True


# --- Snapshots

Snapshot = namedtuple("Snapshot", "dropped file_count tensor_count raw_bytes parts")
MANIFEST = 17  # where the snapshot manifest begins


def snapshot(value):
    fields = Fields(value)
    dropped, file_count, tensor_count, raw_bytes = fields.u8(), fields.u32(), fields.u32(), fields.u64()
    fields.magic(b"ckptsnp1")
    parts = fields.list(lambda: (fields.u8(), fields.id()), 33)
    fields.end()
    kinds = [kind for kind, _ in parts]
    require(ascending(kinds) and set(kinds) <= set(KINDS), f"part kinds {kinds}")
    require(dropped & ~sum(1 << kind for kind in kinds) == 0, f"dropped is {dropped:#x}, beyond the parts of the manifest")
    require(raw_bytes <= 3 * 2**55, "raw_bytes is beyond any three parts")
    return Snapshot(dropped, file_count, tensor_count, raw_bytes, parts)


# --- Counts, steps, tags, pins, sources, images, pending

Count = namedtuple("Count", "count depth codec raw_bytes packed_bytes")
Step = namedtuple("Step", "snapshot parent ingested source left_out_files left_out_bytes")
Source = namedtuple("Source", "path run step snapshot keeps_optimizer files")
Pending = namedtuple("Pending", "tensors blocks")


def count(value):
    fields = Fields(value)
    count = Count(fields.u64(), fields.u8(), fields.u8(), fields.u32(), fields.u32())
    fields.end()
    require(count.count >= 1, "a count of 0")
    return count


def step(value):
    fields = Fields(value)
    step = Step(fields.id(), fields.optional(fields.id), fields.i64(), fields.str(), fields.u32(), fields.u64())
    fields.end()
    return step


def tag(value):
    require(len(value) == 32, "not an id")
    return value


def time(value):
    require(len(value) == 8, "not a time")
    return int.from_bytes(value, "little", signed=True)


def source(value):
    fields = Fields(value)
    row = lambda: (fields.str(), fields.u64(), fields.i64(), fields.i64(), fields.u64())  # noqa: E731
    source = Source(fields.str(), fields.str(), fields.u64(), fields.id(), fields.flag(), fields.list(row, 36))
    fields.end()
    require(ascending([utf8(file[0]) for file in source.files]), "files are out of order")
    return source


def pending(value):
    fields = Fields(value)
    pending = Pending(fields.list(fields.id, 32), fields.list(fields.id, 32))
    fields.end()
    require(pending.tensors or pending.blocks, "names nothing")
    return pending


# --- Probes

MOST_PROBE_BYTES, CHUNK = 268435456, 262144

Probe = namedtuple("Probe", "tokenizer samples pieces")
Sample = namedtuple("Sample", "id tokens supervised prompt completion")
ProbeSums = namedtuple("ProbeSums", "bytes sample_count token_count supervised_count packed_bytes created")


def probe(encoding):
    fields = Fields(encoding)
    fields.magic(b"ckptprb1")
    tokenizer = fields.optional(fields.id)
    samples = fields.list(lambda: probe_sample(fields), 31)
    pieces = fields.list(lambda: (fields.u32(), fields.take(fields.u32())), 8)
    fields.end()
    require(samples, "no samples")
    ids = {sample.id for sample in samples}
    require(len(ids) == len(samples), "two samples have the same id")
    require(ascending([token for token, _ in pieces]), "pieces are out of order")
    require({token for token, _ in pieces} <= {token for sample in samples for token in sample.tokens}, "a piece of no token")
    return Probe(tokenizer, samples, dict(pieces))


def probe_sample(fields):
    id, tokens = fields.str(), fields.list(fields.u32, 4)
    supervised = fields.list(lambda: (fields.u32(), fields.u32()), 8)
    sample = Sample(id, tokens, supervised, fields.optional(fields.str), fields.optional(fields.str))
    require(id, "a sample without an id")
    require(all(token < 2**31 for token in tokens), f"sample {id}: a token of 2^31 or more")
    require(supervised, f"sample {id}: nothing is supervised")
    ends = [1] + [end for _, end in supervised]
    fine = all(last <= start < end <= len(tokens) for last, (start, end) in zip(ends, supervised))
    require(fine, f"sample {id}: supervised {supervised} of {len(tokens)} tokens")
    return sample


def supervised_count(sample):
    return sum(end - start for start, end in sample.supervised)


def probe_sums(value):
    fields = Fields(value)
    sums = ProbeSums(fields.u64(), fields.u32(), fields.u64(), fields.u64(), fields.u64(), fields.i64())
    fields.end()
    return sums


# --- Entropy records

COLUMNS = ["entropy", "nll", "top1", "kl_strong_weak", "kl_weak_strong", "ln_c", "hard_negatives"]
TOP1 = COLUMNS.index("top1")

Entropies = namedtuple(
    "Entropies", "id snapshot probe settings provenance columns created token_count packed_bytes chunk_count sample_count done"
)


def texts(fields):
    pairs = fields.list(lambda: (fields.str(), fields.str()), 8)
    require(all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", key) for key, _ in pairs), "a key that is no name")
    require(ascending([utf8(key) for key, _ in pairs]), "keys are not in ascending order")
    return dict(pairs)


def entropy_record(value):
    fields = Fields(value)
    fields.magic(b"ckptent1")
    snapshot, probe, settings = fields.id(), fields.id(), texts(fields)
    id = sha256(value[: fields.at])
    provenance, mask, created = texts(fields), fields.u32(), fields.i64()
    token_count, packed_bytes, chunk_count, sample_count = fields.u64(), fields.u64(), fields.u32(), fields.u32()
    done = fields.take((sample_count + 7) // 8)
    fields.end()
    require(mask and not mask >> len(COLUMNS), f"columns are {mask:#x}")
    require(token_count <= 65536 * chunk_count and packed_bytes <= 2**40, "impossible sums")
    require(re.fullmatch(r"[0-9a-f]{64}", settings.get("weak", "0" * 64)), "weak is no id")
    bits = [i for i in range(8 * len(done)) if done[i // 8] >> i % 8 & 1]
    require(not bits or bits[-1] < sample_count, "bits behind the last sample")
    columns = [k for k in range(len(COLUMNS)) if mask >> k & 1]
    return Entropies(id, snapshot, probe, settings, provenance, columns, created, token_count, packed_bytes, chunk_count, sample_count, set(bits))


def output_chunk(raw, columns):
    """The parts, each with its figures by column."""
    fields = Fields(raw)
    parts = fields.list(lambda: (fields.u32(), fields.u32(), fields.u32()), 12)
    total = sum(count for *_, count in parts)
    require(parts, "a chunk without parts")
    require(fields.left() == 4 * total * len(columns), f"{fields.left()} bytes of figures for {total} tokens")
    figures = [numpy.frombuffer(fields.take(4 * total), "<u4" if column == TOP1 else "<f4") for column in columns]
    at, found = 0, []
    for sample, first, count in parts:
        found.append((sample, first, [column[at : at + count] for column in figures]))
        at += count
    return found


def outputs(store, record):
    """Sample to its figures by column."""
    found, last = {}, None
    for raw in store.chunks(OUTPUT_CHUNKS, record.id, record.chunk_count, record.packed_bytes):
        for sample, first, figures in output_chunk(raw, record.columns):
            if sample != last or first == 0:
                require(first == 0 and sample not in found, f"sample {sample} has parts in two places or out of order")
                found[sample] = figures
            else:
                require(len(figures[0]) and first == len(found[sample][0]), f"sample {sample} has parts out of order")
                found[sample] = [numpy.concatenate(pair) for pair in zip(found[sample], figures)]
            last = sample
    require(set(found) == record.done, "other samples than `done` says")
    require(sum(len(figures[0]) for figures in found.values()) == record.token_count, "another number of tokens than it says")
    return found


def check_outputs(record, found, probe):
    for index, figures in sorted(found.items()):
        sample = probe.samples[index]
        wanted, there = supervised_count(sample), len(figures[0])
        cut = "max_length" in record.settings
        require(there == wanted or cut and there < wanted, f"sample {sample.id} has figures of {there} tokens; {wanted} are supervised")
        for column, values in zip(record.columns, figures):
            require(numpy.isfinite(values).all(), f"sample {sample.id} has {COLUMNS[column]} that is not finite")


def removal(value):
    require(not value, "a removal with a value")
    return value


def metric(value):
    fields = Fields(value)
    number = struct.unpack("<d", fields.take(8))[0]
    fields.end()
    require(math.isfinite(number), "not a finite number")
    return number


RULES = {
    "keep_last", "keep_every", "keep_tags", "keep_best", "keep_by_worth", "budget_bytes", "probe", "least_gap", "by_distance", "strong",
    "least_age_seconds", "optimizer_keep", "includes_tagged",
}  # fmt: skip


def policy(value):
    try:
        rules = json.loads(value)
    except ValueError:
        raise Damaged("not JSON") from None
    require(isinstance(rules, dict) and set(rules) <= RULES, "not a policy")
    return rules


# --- Element types

DType = namedtuple("DType", "name bits word rotated")
DTYPES = {
    1: DType("BOOL", 8, 1, False), 2: DType("U8", 8, 1, False), 3: DType("I8", 8, 1, False),
    4: DType("U16", 16, 2, False), 5: DType("I16", 16, 2, False), 6: DType("U32", 32, 4, False),
    7: DType("I32", 32, 4, False), 8: DType("U64", 64, 8, False), 9: DType("I64", 64, 8, False),
    10: DType("F16", 16, 2, True), 11: DType("BF16", 16, 2, True), 12: DType("F32", 32, 4, True),
    13: DType("F64", 64, 8, True), 14: DType("C64", 64, 4, True), 15: DType("C128", 128, 8, True),
    16: DType("F8_E4M3", 8, 1, False), 17: DType("F8_E5M2", 8, 1, False), 18: DType("F8_E8M0", 8, 1, False),
    19: DType("F8_E4M3FNUZ", 8, 1, False), 20: DType("F8_E5M2FNUZ", 8, 1, False), 21: DType("F6_E2M3", 6, 1, False),
    22: DType("F6_E3M2", 6, 1, False), 23: DType("F4", 4, 1, False),
}  # fmt: skip
U8 = 2


# --- The grid


def grid(bits, shape, total):
    """Where the blocks begin and end, in bytes."""
    if total == 0:
        return
    row = bits * math.prod(shape[1:])
    unit = row * (8 // math.gcd(row, 8)) // 8
    if unit <= 262144:
        step = 262144 // unit * unit
        for start in range(0, total, step):
            yield start, min(start + step, total)
    else:
        cut = 262143 if bits == 6 else 262144
        for first in range(0, total, unit):
            for start in range(0, unit, cut):
                yield first + start, first + min(start + cut, unit)


# --- Packed blocks

Packed = namedtuple("Packed", "codec element depth raw_bytes transform base_ids payload length")
RAW, PLANES, DIFFERENCE, PALETTE = 0, 1, 2, 3


def packed_block(value):
    """The header, which is the same for every codec."""
    fields = Fields(value)
    codec, element, depth, base_count = fields.u8(), fields.u8(), fields.u8(), fields.u8()
    raw_bytes, payload_bytes, transform = fields.u32(), fields.u32(), fields.u32()
    require(element in DTYPES, f"element type {element}")
    require(1 <= raw_bytes <= 262144, f"{raw_bytes} raw bytes")
    require(base_count <= 2, f"{base_count} bases")
    base_ids = [fields.id() for _ in range(base_count)]
    payload = fields.take(payload_bytes)
    fields.end()
    if codec in (RAW, PLANES):
        require((depth, base_count, transform) == (0, 0, 0), "reserved fields are not zero")
    if codec == DIFFERENCE:
        require(depth >= 1, "a difference of depth 0")
        require(base_count >= 1, "a difference without a base")
    if codec == PALETTE:
        require((depth, base_count, transform >> 8) == (0, 0, 0), "reserved fields are not zero")
    return Packed(codec, element, depth, raw_bytes, transform, base_ids, payload, len(value))


def unpack(packed, bases=()):
    """The raw bytes of a block. `bases` are the raw bytes of its bases."""
    if packed.codec not in CODECS:
        raise UnknownCodec(f"codec {packed.codec} is not known to this reader")
    require(len(bases) == len(packed.base_ids), f"{len(bases)} of {len(packed.base_ids)} bases")
    return CODECS[packed.codec](packed, bases)


def word_count(packed):
    word = DTYPES[packed.element].word
    require(packed.raw_bytes % word == 0, "not a whole number of words")
    return packed.raw_bytes // word


def payload_itself(packed, _):
    require(len(packed.payload) == packed.raw_bytes, "the payload of codec 0 is not as long as the block")
    return packed.payload


def join_planes(packed, _):
    word, n = DTYPES[packed.element].word, word_count(packed)
    fields = Fields(packed.payload)
    planes = [(fields.u8(), fields.u32()) for _ in range(word)]
    raw = bytearray(packed.raw_bytes)
    for index, (mode, length) in enumerate(planes):  # plane 0 is the most significant, which is last in memory
        raw[word - 1 - index :: word] = plane(mode, fields.take(length), n)
    fields.end()
    return rotated_right(raw, word) if DTYPES[packed.element].rotated else bytes(raw)


def plane(mode, data, n):
    if mode == 0:
        require(len(data) == n, "a raw plane of another length")
        return data
    if mode == 1:
        require(len(data) == 1, "a constant plane of more than one byte")
        return data * n
    require(mode == 2, f"plane mode {mode}")
    return zstd_frame(data, n)


def zstd_frame(data, n):
    """What is in one whole zstd frame, n bytes."""
    require(data[:4] == b"\x28\xb5\x2f\xfd", "no zstd frame")
    try:
        header = zstandard.get_frame_parameters(data)
        require(header.content_size == n and header.dict_id == 0, "a zstd frame of another length or with a dictionary")
        out = zstandard.ZstdDecompressor().decompress(data, max_output_size=n, allow_extra_data=False)
        require(len(out) == n, "a zstd frame of another length")
        return out
    except zstandard.ZstdError as error:
        raise Damaged(f"zstd: {error}") from None


def rotated_right(raw, word):
    """Every little-endian word rotated right by one bit, all at once, in one large integer."""
    words = int.from_bytes(raw, "little")
    lowest = words & int.from_bytes((b"\1" + bytes(word - 1)) * (len(raw) // word), "little")
    return ((words ^ lowest) >> 1 | lowest << (8 * word - 1)).to_bytes(len(raw), "little")


# --- Codec 2, difference

# Bits of the exponent and of the mantissa; 0 and 0 for all others.
FLOATS = {
    "F16": (5, 10), "BF16": (8, 7), "F32": (8, 23), "C64": (8, 23), "F64": (11, 52), "C128": (11, 52),
    "F8_E4M3": (4, 3), "F8_E4M3FNUZ": (4, 3), "F8_E5M2": (5, 2), "F8_E5M2FNUZ": (5, 2),
}  # fmt: skip
UNIT = 64  # words
Alphabet = namedtuple("Alphabet", "s tokens")
ALPHABETS = {1: Alphabet(8, 256), 2: Alphabet(5, 76), 4: Alphabet(4, 128), 8: Alphabet(4, 256)}


def u64(number):
    return numpy.uint64(number)


def words_of(raw, word):
    return numpy.frombuffer(raw, f"<u{word}").astype(numpy.uint64)


def add_difference(packed, bases):
    """The block: words as unsigned 64-bit integers, and what is modulo 2^B cut to B bits by `full`."""
    element = DTYPES[packed.element]
    exponent, mantissa = FLOATS.get(element.name, (0, 0))
    precision, shift, mask, reserved = packed.transform.to_bytes(4, "little")
    require(reserved == 0, "reserved fields are not zero")
    check_precision(precision)
    require(shift <= (mantissa if exponent else 8 * element.word - 1), f"a shift of {shift}")
    for base in bases:
        require(len(base) == packed.raw_bytes, "a base of another length")

    fields = Fields(packed.payload)
    coded = coded_words(fields, mask, word_count(packed))
    if not coded.any():
        fields.end()
        return bases[0]
    top, class_starts = fields.number(2), fields.u32()
    require(top < 1 << exponent, f"top is {top}")
    require(class_starts & 1 == 0, "a class begins at key 0")

    values = [words_of(base, element.word)[coded] >> u64(shift) for base in bases]
    contexts, count = contexts_of(values, top, class_starts, exponent, mantissa - shift)
    tokens = token_stream(fields, precision, ALPHABETS[element.word].tokens, contexts, count)
    z = unfolded_from(tokens, ALPHABETS[element.word].s, fields)

    bits = 8 * element.word - shift
    full, half = u64((1 << bits) - 1), u64(1 << bits - 1)
    if exponent:
        values = [numpy.where(v >= half, full - v, v + half) for v in values]
    d = z >> u64(1) ^ u64(0) - (z & u64(1))
    if len(values) == 2:
        g = values[0] - values[1] & full
        size = numpy.where(g >= half, u64(0) - g & full, g)
        d += size + u64(1) >> u64(1)
        d = numpy.where(g >= half, u64(0) - d, d)
    t = values[0] + d & full
    if exponent:
        t = numpy.where(t >= half, t - half, full - t)
    words = words_of(bases[0], element.word)
    words[coded] = t << u64(shift)
    return words.astype(f"<u{element.word}").tobytes()


def coded_words(fields, mask, n):
    """Which of n words are coded."""
    units = -(-n // UNIT)
    if mask == 0:
        coded = numpy.ones(units, bool)
    elif mask == 1:
        coded = numpy.unpackbits(numpy.frombuffer(fields.take(-(-units // 8)), numpy.uint8), bitorder="little").astype(bool)
        require(not coded[units:].any(), "a bit behind the last unit")
    else:
        require(mask == 2, f"mask {mask}")
        count = fields.number(2)
        runs = [fields.number(2) for _ in range(count)]
        require(all(runs[1:]), "a run of no units")
        require(sum(runs) == units, f"runs of {sum(runs)} units, of {units}")
        coded = numpy.repeat(numpy.arange(count) % 2 == 1, runs)
    return numpy.repeat(coded[:units], UNIT)[:n]


def contexts_of(values, top, class_starts, exponent, exponent_place):
    """The context of every word, and how many contexts there are."""
    starts = [class_starts >> key & 1 for key in range(32)]
    class_of = numpy.cumsum(starts)
    keys = numpy.zeros(len(values[0]), numpy.int64)
    if exponent:
        e = (values[0] >> u64(exponent_place) & u64((1 << exponent) - 1)).astype(numpy.int64)
        keys = numpy.where(e > top, 0, numpy.minimum(top - e, 31))
    if len(values) == 1:
        return class_of[keys], sum(starts) + 1
    return 2 * class_of[keys] + (values[0] != values[1]), 2 * (sum(starts) + 1)


def unfolded_from(tokens, s, fields):
    """The z of every token, with their extra bits, which are all that is left of the payload."""
    z = tokens.astype(numpy.uint64)
    (long,) = numpy.nonzero(tokens >= 1 << s)
    above = tokens[long] - (1 << s)
    k = s + (above >> 2)
    ends = numpy.cumsum(k - 2)
    bits = int(ends[-1]) if len(ends) else 0
    require(fields.left() == -(-bits // 8), f"{fields.left()} bytes of extra bits, of {-(-bits // 8)}")
    data = fields.take(fields.left())
    require(bits % 8 == 0 or data[-1] >> bits % 8 == 0, "a bit behind the extra bits")

    # The 61 bits of the longest may lie in nine bytes.
    data = numpy.frombuffer(data + bytes(9), numpy.uint8).astype(numpy.uint64)
    first, place = (ends - (k - 2)) // 8, ((ends - (k - 2)) % 8).astype(numpy.uint64)
    extra = data[first]
    for byte in range(1, 8):
        extra |= data[first + byte] << u64(8 * byte)
    extra = extra >> place | data[first + 8] << u64(1) << u64(63) - place
    k, above = k.astype(numpy.uint64), above.astype(numpy.uint64)
    extra &= (u64(1) << k - u64(2)) - u64(1)
    z[long] = u64(1) << k | (above >> u64(1) & u64(1)) << k - u64(1) | extra << u64(1) | above & u64(1)
    return z


# --- Codec 3, palette


def look_up(packed, _):
    word, n = DTYPES[packed.element].word, word_count(packed)
    require(word >= 2, "a palette of bytes")
    check_precision(packed.transform)
    fields = Fields(packed.payload)
    segment = fields.u32()
    require(segment >= 1, "a segment of no words")
    palettes, sizes = [], []
    for _ in range(-(-n // segment)):
        sizes.append(fields.u8() + 1)
        palettes.append(fields.take(sizes[-1] * word))
    tokens = token_stream(fields, packed.transform, 256, numpy.zeros(n, numpy.int64), 1)
    fields.end()
    of_word = numpy.arange(n) // segment
    sizes = numpy.array(sizes)
    require((tokens < sizes[of_word]).all(), "a place behind the end of its palette")
    first = numpy.cumsum(sizes) - sizes
    return words_of(b"".join(palettes), word)[first[of_word] + tokens].astype(f"<u{word}").tobytes()


CODECS = {RAW: payload_itself, PLANES: join_planes, DIFFERENCE: add_difference, PALETTE: look_up}


# --- Token streams

LOWEST_STATE = 1 << 15


def check_precision(precision):
    require(10 <= precision <= 12, f"a precision of {precision}")


def token_stream(fields, precision, below, contexts, context_count):
    """A token for each of `contexts`."""
    lanes, table_bytes, table_packed = fields.u8(), fields.number(2), fields.number(2)
    require(lanes in (4, 32), f"{lanes} lanes")
    require(table_packed <= table_bytes, "a table that packing made longer")
    table = fields.take(table_packed)
    if table_packed < table_bytes:
        table = zstd_frame(table, table_bytes)
    token, frequency, offset = slots(Fields(table), precision, below, context_count)

    stream = Fields(fields.take(fields.u32()))
    n = len(contexts)
    states = numpy.array([stream.u32() for _ in range(lanes)], numpy.int64)
    require(stream.left() % 2 == 0, "half a word at the end of a stream")
    words = numpy.frombuffer(stream.take(stream.left()), "<u2").astype(numpy.int64)

    # All lanes at once: those that need a word take theirs in their order.
    begin, low, used = contexts << precision, (1 << precision) - 1, 0
    for first in range(0, n, lanes):
        places = begin[first : first + lanes]  # of the slots, in place of their contexts'
        x = states[: len(places)]
        places += x & low
        x = frequency[places] * (x >> precision) + offset[places]
        (need,) = (x < LOWEST_STATE).nonzero()
        if len(need):
            require(used + len(need) <= len(words), "a stream that is too short")
            x[need] = x[need] << 16 | words[used : used + len(need)]
            used += len(need)
        states[: len(places)] = x
    require(used == len(words), f"{len(words) - used} words left over in a stream")
    require((states == LOWEST_STATE).all(), "a stream that does not end in its first state")
    return token[begin]


def slots(table, precision, below, context_count):
    """For all contexts one after the other, and the 2^precision slots of each: token, f, and slot - F."""
    found = []
    for _ in range(context_count):
        last, commonest = table.u8(), table.u8()
        require(last < below, f"token {last}, of {below}")
        require(commonest <= last, "the commonest token is above the last")
        codes = numpy.frombuffer(table.take(last + 1), numpy.uint8).astype(numpy.int64)
        require(codes.max() <= 44, f"a frequency of code {codes.max()}")
        require(codes[commonest] == 0, "the commonest token has a code")
        f = numpy.where(codes < 8, codes, 4 + codes % 4 << numpy.maximum(codes // 4 - 1, 0))
        f[commonest] = (1 << precision) - f.sum()
        require(f[commonest] >= 1, "nothing is left for the commonest token")
        before = numpy.cumsum(f) - f
        found.append((numpy.repeat(numpy.arange(last + 1), f), numpy.repeat(f, f), numpy.arange(1 << precision) - numpy.repeat(before, f)))
    table.end()
    return [numpy.concatenate(column) for column in zip(*found)]


# --- Rebuilding files and tensors


def gaps(file):
    """What of the file is in no storage."""
    end, found = 0, []
    for storage in file.storages:
        if storage.length:
            if storage.offset > end:
                found.append((end, storage.offset))
            end = storage.offset + storage.length
    if file.size > end:
        found.append((end, file.size))
    return found


class Store:
    def __init__(self, path):
        self.path = path
        directory = generation(path)
        try:
            pages.walk(os.path.join(directory, "data.mdb"))
        except pages.BadPages as error:
            raise Refused(f"data.mdb: {error}") from None
        self.lmdb = lmdb.open(directory, readonly=True, lock=False, max_dbs=32, map_size=1 << 40)
        self.transaction = self.lmdb.begin()
        self.tables = {SUPERBLOCK: self.table(SUPERBLOCK)}
        try:
            self.superblock = superblock(self.value(SUPERBLOCK, b"store"))
        except Damaged as error:
            raise Refused(str(error)) from None
        kinds = list(range(BLOCKS, PENDING + 1))
        if self.superblock.read_compatible & HAS_PROBES:
            kinds += range(PROBES, REMOVALS + 1)
        if self.superblock.read_compatible & HAS_RETENTION:
            kinds += [METRICS, POLICIES]
        self.tables |= {kind: self.table(kind) for kind in kinds}
        self.kept = {}  # raw blocks by id, the latest last

    def table(self, kind):
        name = TABLES[kind - 1]
        try:
            table = self.lmdb.open_db(name.encode(), self.transaction, create=False)
        except lmdb.Error:
            raise Refused(f"there is no table {name}") from None
        if any(set_ for set_ in table.flags(self.transaction).values()):
            raise Refused(f"table {name} has flags")
        return table

    def keys(self, kind):
        if kind not in self.tables:
            return []
        with self.transaction.cursor(self.tables[kind]) as cursor:
            return list(cursor.iternext(keys=True, values=False))

    def value(self, kind, key):
        """The value of a record, its checksum checked."""
        try:
            check_key(kind, key)
            record = self.transaction.get(key, db=self.tables[kind])
            require(record is not None, "missing")
            return unwrap(kind, key, record)
        except Damaged as error:
            raise type(error)(f"{TABLES[kind - 1]} {shown_key(kind, key)}: {error}") from None

    def read(self, kind, key):
        """A record as its structure, checked as far as it can be by itself."""
        value = self.value(kind, key)
        try:
            if kind in (TENSORS, PARTS):
                require(sha256(value) == key, "its hash is not its id")
            if kind == SNAPSHOTS:
                require(sha256(value[MANIFEST:]) == key, "its hash is not its id")
            record = READ[kind](value)
            if kind == ENTROPY_RECORDS:
                require(record.id == key, "its hash is not its id")
            if kind == SOURCES:
                require(sha256(utf8(record.path)) == key, "the key is not the hash of its path")
            return record
        except Damaged as error:
            raise Damaged(f"{TABLES[kind - 1]} {shown_key(kind, key)}: {error}") from None

    def chunks(self, kind, id, count, packed_bytes):
        """The raw bytes of the chunks of a probe or an entropy record. `count` is None where only the bytes are known."""
        number, packed = 0, 0
        with self.transaction.cursor(self.tables[kind]) as cursor:
            cursor.set_range(id)
            for key in cursor.iternext(keys=True, values=False):
                if not key.startswith(id):
                    break
                require(key == id + number.to_bytes(4, "big"), f"chunk {number} is missing")
                chunk = self.read(kind, key)
                require(not chunk.base_ids, f"chunk {number} has a base")
                yield unpack(chunk)
                number, packed = number + 1, packed + chunk.length
        require(count in (None, number), f"{number} of {count} chunks")
        require(packed == packed_bytes, f"{packed} of {packed_bytes} packed bytes")

    def probe(self, id):
        where, sums = f"probes {id.hex()}", self.read(PROBES, id)
        try:
            encoding = b""
            for raw in self.chunks(PROBE_CHUNKS, id, None, sums.packed_bytes):
                require(len(encoding) % CHUNK == 0 and len(encoding) < MOST_PROBE_BYTES, "chunks of wrong lengths")
                encoding += raw
            require(sha256(encoding) == id, "its hash is not its id")
            found = probe(encoding)
            tokens = [len(sample.tokens) for sample in found.samples]
            supervised = sum(supervised_count(sample) for sample in found.samples)
            counts = (len(encoding), len(found.samples), sum(tokens), supervised)
            require(sums[:4] == counts, f"says (bytes, samples, tokens, supervised) {sums[:4]}, but they are {counts}")
            return found
        except Damaged as error:
            raise type(error)(f"{where}: {error}") from None

    def outputs(self, record):
        try:
            return outputs(self, record)
        except Damaged as error:
            raise type(error)(f"entropy_records {record.id.hex()}: {error}") from None

    def block(self, id):
        """The raw bytes of a block."""
        if id in self.kept:
            return self.kept[id]
        above, at, packed = [], id, self.read(BLOCKS, id)
        try:
            # Down to a block that is coded by itself, or to one that is kept; then up again.
            while packed.codec == DIFFERENCE and at not in self.kept:
                base = self.base_of(packed)
                above.append((at, packed))
                at, packed = base
            while True:
                if at not in self.kept:
                    # The second base is the first one's own: it has just been decoded, or is read by itself.
                    bases = packed.base_ids if packed.codec == DIFFERENCE else []
                    raw = unpack(packed, [self.block(base) for base in bases])
                    require(sha256(raw) == at, "its hash is not its id")
                    self.kept[at] = raw
                    if len(self.kept) > KEPT_BLOCKS:
                        del self.kept[next(iter(self.kept))]
                if not above:
                    return self.kept[at]
                at, packed = above.pop()
        except Damaged as error:
            inner = "" if at == id else f"its base cannot be read: blocks {at.hex()}: "
            raise type(error)(f"blocks {id.hex()}: {inner}{error}") from None

    def base_of(self, packed):
        """The id and the header of the first base. Both bases are checked against what is coded against them."""
        limit = self.superblock.depth_limit
        require(packed.depth <= limit, f"depth {packed.depth} is beyond the limit of {limit}")
        try:
            bases = [self.read(BLOCKS, id) for id in packed.base_ids]
        except Damaged as error:
            raise type(error)(f"its base cannot be read: {error}") from None
        for id, base in zip(packed.base_ids, bases):
            require(base.depth < packed.depth, f"is not deeper than its base {id.hex()}")
            require(base.raw_bytes == packed.raw_bytes, f"its base {id.hex()} has another length")
        for second in packed.base_ids[1:]:
            own = bases[0].base_ids[:1] if bases[0].codec == DIFFERENCE else []
            require(own == [second], f"its second base {second.hex()} is not the base of its first")
        return packed.base_ids[0], bases[0]

    def blocks(self, id):
        """The raw bytes of a stored tensor, block by block."""
        tensor = self.read(TENSORS, id)
        for block, length in zip(tensor.blocks, tensor.lengths):
            raw = self.block(block)
            require(len(raw) == length, f"tensors {id.hex()}: block {block.hex()} is not as long as the grid says")
            yield raw

    def check_file(self, file):
        """Its storages and skeleton are there and of the right lengths, so that they fill it."""
        for storage in file.storages:
            require(self.read(TENSORS, storage.tensor).bytes == storage.length, f"{file.path}: a storage and its tensor differ in length")
        if file.skeleton:
            skeleton = self.read(TENSORS, file.skeleton)
            require(skeleton.dtype == U8 and len(skeleton.shape) == 1, f"{file.path}: its skeleton is not U8 of one dimension")
            require(skeleton.bytes == sum(end - start for start, end in gaps(file)), f"{file.path}: its skeleton does not fill its gaps")

    def file_pieces(self, file):
        """The bytes of a file, in order, in pieces."""
        self.check_file(file)
        skeleton, rest = (self.blocks(file.skeleton) if file.skeleton else iter(())), b""
        places = [(*gap, None) for gap in gaps(file)]
        places += [(s.offset, s.offset + s.length, s.tensor) for s in file.storages if s.length]
        for start, end, tensor in sorted(places, key=lambda place: place[0]):
            if tensor:
                yield from self.blocks(tensor)
                continue
            while start < end:
                rest = rest or next(skeleton)
                yield rest[: end - start]
                start, rest = start + len(rest[: end - start]), rest[end - start :]

    def tensor_bytes(self, file, tensor):
        """The elements of a named tensor, row-major, side by side."""
        storage = file.storages[tensor.storage]
        total = byte_count(tensor.dtype, tensor.shape)
        require(max(total, storage.length) <= MOST, f"{tensor.name}: beyond this reader's limit")
        require(self.read(TENSORS, storage.tensor).bytes == storage.length, f"{file.path}: a storage and its tensor differ in length")
        stored = b"".join(self.blocks(storage.tensor))
        if tensor.strides is None:
            return stored[tensor.offset : tensor.offset + total]
        size, places = DTYPES[tensor.dtype].bits // 8, [tensor.offset]
        for dimension, stride in zip(tensor.shape, tensor.strides):
            places = [place + index * stride * size for place in places for index in range(dimension)]
        return b"".join(stored[place : place + size] for place in places)

    # --- Snapshots and what they name

    def find(self, reference):
        """The id of the snapshot that REF names."""
        run, at, number = reference.rpartition("@")
        wanted = utf8(run if at and number.isdigit() else reference) + b"\0"
        steps = [key for key in self.keys(STEPS) if key[:-8] == wanted]
        if at and number.isdigit():
            steps = [key for key in steps if int.from_bytes(key[-8:], "big") == int(number)]
        if steps:
            return self.read(STEPS, steps[-1]).snapshot
        if utf8(reference) in self.keys(TAGS):
            return self.read(TAGS, utf8(reference))
        found = [key for key in self.keys(SNAPSHOTS) if key.hex().startswith(reference)]
        if len(found) != 1:
            raise Damaged(f"no snapshot, or more than one, is called {printable(reference)}")
        return found[0]

    def files(self, id):
        """The files of a snapshot, by path, and the names of its dropped parts."""
        record, files, dropped = self.read(SNAPSHOTS, id), {}, []
        for kind, part_id in record.parts:
            if record.dropped >> kind & 1:
                dropped.append(KINDS[kind])
                continue
            content = self.read(PARTS, part_id)
            require(content.kind == kind, f"snapshots {id.hex()}: its {KINDS[kind]} are a part of kind {content.kind}")
            for file in content.files:
                require(file.path not in files, f"snapshots {id.hex()}: {file.path} is in two parts")
                files[file.path] = file
        for path in files:
            for end, character in enumerate(path):
                require(character != "/" or path[:end] not in files, f"snapshots {id.hex()}: {path} lies under a file")
        if not dropped:
            sums = len(files), sum(len(file.tensors) for file in files.values()), sum(file.size for file in files.values())
            said = record.file_count, record.tensor_count, record.raw_bytes
            require(sums == said, f"snapshots {id.hex()}: says (files, tensors, bytes) {said}, its parts have {sums}")
        return dict(sorted(files.items(), key=lambda item: utf8(item[0]))), dropped

    def optimizer_files(self, id):
        """The paths of a snapshot's optimizer state; none where it is nothing else."""
        here = [part_id for kind, part_id in self.read(SNAPSHOTS, id).parts if not self.read(SNAPSHOTS, id).dropped >> kind & 1]
        contents = [self.read(PARTS, part_id) for part_id in here]
        if len(contents) == 1:
            return set()
        return {file.path for content in contents if KINDS[content.kind] == "optimizer" for file in content.files}

    def extract(self, id, directory):
        files, dropped = self.files(id)
        require(sum(file.size for file in files.values()) <= MOST, "beyond this reader's limit")
        for file in files.values():
            self.check_file(file)
        os.mkdir(directory)
        for file in files.values():
            target = os.path.join(directory, *file.path.split("/"))
            os.makedirs(target if file.format == EMPTY_DIRECTORY else os.path.dirname(target), exist_ok=True)
            if file.format != EMPTY_DIRECTORY:
                with open(target, "xb") as out:
                    for piece in self.file_pieces(file):
                        out.write(piece)
        return dropped


READ = {
    BLOCKS: packed_block, TENSORS: stored_tensor, PARTS: part, SNAPSHOTS: snapshot, COUNTS: count, STEPS: step, TAGS: tag,
    PINS: time, SOURCES: source, IMAGES: time, PENDING: pending, PROBES: probe_sums,
    PROBE_NAMES: tag, PROBE_CHUNKS: packed_block, ENTROPY_RECORDS: entropy_record, OUTPUT_CHUNKS: packed_block, REMOVALS: removal,
    METRICS: metric, POLICIES: policy,
}  # fmt: skip


# --- Threat model: names


def check_path(path):
    safe = path and "\0" not in path and not {"", ".", ".."} & set(path.split("/"))
    require(safe, f"unsafe path {printable(path)}")


# --- A complete check


def check(store):
    """Everything wrong in a store, one line each. The page walk and the superblock were checked on opening it."""
    problems, records, unread = [], {}, set()

    def attempt(work, *arguments):
        try:
            return work(*arguments)
        except Damaged as error:
            problems.append(str(error))

    if store.keys(SUPERBLOCK) != [b"store"]:
        problems.append("superblock: has other records")
    for kind in range(BLOCKS, POLICIES + 1):
        records[kind] = {}
        for key in store.keys(kind):
            record = attempt(store.read, kind, key)
            if record is None:
                unread.add(kind)
            else:
                is_packed = kind in (BLOCKS, PROBE_CHUNKS, OUTPUT_CHUNKS)
                records[kind][key] = record._replace(payload=None) if is_packed else record
    blocks, tensors, parts, snapshots = (records[kind] for kind in (BLOCKS, TENSORS, PARTS, SNAPSHOTS))

    # What cannot be read, and why; then what needs it.
    lost = {}
    for id in bases_first(blocks):
        try:
            store.block(id)
        except Damaged as error:
            lost[id] = str(error)
            problems.append(str(error))
    for id, packed in blocks.items():
        for base in packed.base_ids:
            if packed.codec not in CODECS and base not in blocks:
                problems.append(f"blocks {id.hex()}: its base {base.hex()} is missing or damaged")
    for id, tensor in tensors.items():
        for block, length in zip(tensor.blocks, tensor.lengths):
            if block not in blocks:
                lost.setdefault(id, f"block {block.hex()} is missing or damaged")
            elif block in lost:
                lost.setdefault(id, lost[block])
            elif blocks[block].raw_bytes != length:
                lost.setdefault(id, f"block {block.hex()} is not as long as the grid says")
        if id in lost:
            problems.append(f"tensors {id.hex()}: {lost[id]}")
    at = {}
    for key, record in records[STEPS].items():
        at.setdefault(record.snapshot, shown_key(STEPS, key))
    for id in snapshots:
        found = attempt(store.files, id)
        for file in (found or ({}, []))[0].values():
            where = f"snapshots {id.hex()} ({at.get(id, 'at no step')}): {printable(file.path)}"
            try:
                store.check_file(file)
            except Damaged as error:
                problems.append(f"{where}: {error}")
            if file.skeleton in lost:
                problems.append(f"{where}: cannot be read: {lost[file.skeleton]}")
            for tensor in file.tensors:
                stored = file.storages[tensor.storage].tensor
                if stored in lost or stored not in tensors:
                    problems.append(f"{where}: tensor {printable(tensor.name)} cannot be read: {lost.get(stored, 'missing or damaged')}")

    for kind in (STEPS, TAGS, PINS, IMAGES):
        for key, record in records[kind].items():
            named = record.snapshot if kind == STEPS else record if kind == TAGS else key
            if named not in snapshots:
                problems.append(f"{TABLES[kind - 1]} {shown_key(kind, key)}: snapshot {named.hex()} is missing or damaged")

    problems += check_counts(records, unread)
    problems += check_metrics(records)
    problems += check_probes(store, records, attempt)
    for id in records[IMAGES]:
        if id in snapshots and os.path.isdir(os.path.join(store.path, "images", id.hex())):
            attempt(check_image, store, id)
    return problems


def bases_first(blocks):
    """Ids in an order in which those that are coded against a block soon follow it."""
    above = {}
    for id, packed in blocks.items():
        above.setdefault(packed.base_ids[0] if packed.base_ids else None, []).append(id)
    found, todo = {}, above.get(None, [])[::-1]
    while todo:
        id = todo.pop()
        if id not in found:
            found[id] = True
            todo += above.get(id, ())
    return [*found, *(id for id in blocks if id not in found)]


def check_metrics(records):
    return [f"metrics {key.hex()}: there is no such snapshot" for key in records[METRICS] if key[:32] not in records[SNAPSHOTS]]


def check_counts(records, unread):
    uses, problems = {kind: Counter() for kind in (BLOCKS, TENSORS, PARTS, SNAPSHOTS)}, []
    for tensor in records[TENSORS].values():
        uses[BLOCKS].update(tensor.blocks)
    for packed in records[BLOCKS].values():
        uses[BLOCKS].update(packed.base_ids)
    for pending in records[PENDING].values():
        uses[TENSORS].update(pending.tensors)
        uses[BLOCKS].update(pending.blocks)
    for part in records[PARTS].values():
        for file in part.files:
            uses[TENSORS].update(storage.tensor for storage in file.storages)
            uses[TENSORS].update([file.skeleton] if file.skeleton else [])
    for snapshot in records[SNAPSHOTS].values():
        uses[PARTS].update(id for kind, id in snapshot.parts if not snapshot.dropped >> kind & 1)
    for step in records[STEPS].values():
        uses[SNAPSHOTS][step.snapshot] += 1

    # Records that could not be read hold uses that nobody knows.
    holders = {BLOCKS: {TENSORS, BLOCKS, PENDING}, TENSORS: {PARTS, PENDING}, PARTS: {SNAPSHOTS}, SNAPSHOTS: {STEPS}}
    for kind, found in uses.items():
        name, known = TABLES[kind - 1][:-1], not holders[kind] & unread
        for id in sorted(set(records[kind]) | {key[1:] for key in records[COUNTS] if key[0] == kind}):
            count, record = records[COUNTS].get(bytes([kind]) + id), records[kind].get(id)
            where = f"counts {name} {id.hex()}"
            if count is None:
                if COUNTS not in unread:
                    problems.append(f"{where}: the {name} has no count")
                continue
            if record is None and kind == BLOCKS and count.codec == QUARANTINED:
                problems.append(f"{where}: quarantined: it was damaged, and no copy of it was found")
                continue
            if record is None:
                if kind not in unread:
                    problems.append(f"{where}: there is no such {name}")
                continue
            if known and count.count != found[id]:
                problems.append(f"{where}: says {count.count} uses, but there are {found[id]}")
            header = (record.depth, record.codec, record.raw_bytes, record.length) if kind == BLOCKS else (0, 0, 0, 0)
            if count[1:] != header:
                problems.append(f"{where}: says (depth, codec, raw bytes, packed bytes) {tuple(count[1:])}, but they are {header}")
    return problems


def check_probes(store, records, attempt):
    problems, probes = [], {}
    for name, id in records[PROBE_NAMES].items():
        if id not in records[PROBES]:
            problems.append(f"probe_names {shown_key(PROBE_NAMES, name)}: there is no such probe")
    for id in records[PROBES]:
        if id not in records[PROBE_NAMES].values():
            problems.append(f"probes {id.hex()}: has no name")
        probes[id] = attempt(store.probe, id)
    for id, record in records[ENTROPY_RECORDS].items():
        where = f"entropy_records {id.hex()}"
        named = [record.snapshot] + [bytes.fromhex(weak) for key, weak in record.settings.items() if key == "weak"]
        problems += [f"{where}: there is no snapshot {snapshot.hex()}" for snapshot in named if snapshot not in records[SNAPSHOTS]]
        if record.probe not in records[PROBES]:
            problems.append(f"{where}: there is no probe {record.probe.hex()}")
        found, probe = attempt(store.outputs, record), probes.get(record.probe)
        if probe and record.sample_count != len(probe.samples):
            problems.append(f"{where}: of {record.sample_count} samples, but its probe has {len(probe.samples)}")
        elif probe and found is not None:
            try:
                check_outputs(record, found, probe)
            except Damaged as error:
                problems.append(f"{where}: {error}")
    for kind, owners in (PROBE_CHUNKS, PROBES), (OUTPUT_CHUNKS, ENTROPY_RECORDS):
        gone = {key[1:] for key in records[REMOVALS] if key[0] == kind}
        problems += [f"removals: {id.hex()} is in {TABLES[owners - 1]}" for id in gone & set(records[owners])]
        strays = {key[:32] for key in records[kind]} - gone - set(store.keys(owners))
        problems += [f"{TABLES[kind - 1]} {id.hex()}: belong to nothing" for id in strays]
    return problems


def check_image(store, id):
    root, where = os.path.join(store.path, "images", id.hex()), f"images {id.hex()}"
    files, _ = store.files(id)
    there = set()
    for directory, subdirectories, names in os.walk(root):
        relative = os.path.relpath(directory, root)
        there.update(os.path.normpath(os.path.join(relative, name)) for name in names)
        if not subdirectories and not names and relative != ".":
            there.add(relative)
    # An image may leave optimizer state out, all of it.
    extra = store.optimizer_files(id)
    require(there in (set(files), set(files) - extra), f"{where}: other files than the snapshot")
    for file in files.values():
        path = os.path.join(root, file.path)
        if file.path not in there:
            continue
        if file.format != EMPTY_DIRECTORY:
            require(os.path.getsize(path) == file.size, f"{where}: {file.path} has another size")
            with open(path, "rb") as image:
                for piece in store.file_pieces(file):
                    require(image.read(len(piece)) == piece, f"{where}: {file.path} has other bytes")


# --- The command line


def probe_json(store, name):
    id = store.read(PROBE_NAMES, name)
    probe = store.probe(id)
    return {
        "name": text(name), "id": id.hex(), "tokenizer": probe.tokenizer and probe.tokenizer.hex(),
        "samples": [sample._asdict() for sample in probe.samples],
        "pieces": {str(token): piece.hex() for token, piece in probe.pieces.items()},
    }  # fmt: skip


def entropies_json(store, record):
    found = store.outputs(record)
    return {
        "id": record.id.hex(), "snapshot": record.snapshot.hex(), "probe": record.probe.hex(), "settings": record.settings,
        "provenance": record.provenance, "sample_count": record.sample_count,
        "rows": [
            {"sample": sample} | {COLUMNS[column]: values.tolist() for column, values in zip(record.columns, found[sample])}
            for sample in sorted(found)
        ],
    }  # fmt: skip


def main(arguments):
    shapes = {"ls": 2, "check": 2, "extract": 4, "tensors": 3, "probes": 2, "entropies": 2}
    if len(arguments) < 2 or shapes.get(arguments[1]) != len(arguments):
        print(__doc__, file=sys.stderr)
        return 64
    try:
        store = Store(arguments[0])
        if arguments[1] == "check":
            problems = check(store)
            print("\n".join(problems) or "all is well")
            return 2 if problems else 0
        if arguments[1] == "ls":
            tags = {}
            for key in store.keys(TAGS):
                tags.setdefault(store.read(TAGS, key), []).append("tag " + shown_key(TAGS, key))
            for key in store.keys(STEPS):
                id = store.read(STEPS, key).snapshot
                record = store.read(SNAPSHOTS, id)
                dropped = ["without " + KINDS[kind] for kind, _ in record.parts if record.dropped >> kind & 1]
                marks = dropped + tags.get(id, []) + ["pinned"] * (id in store.keys(PINS))
                counts = f"{record.file_count} files  {record.tensor_count} tensors  {record.raw_bytes} bytes"
                print("  ".join([shown_key(STEPS, key), id.hex(), counts, *marks]))
        elif arguments[1] == "probes":
            for name in store.keys(PROBE_NAMES):
                print(json.dumps(probe_json(store, name)))
        elif arguments[1] == "entropies":
            for id in store.keys(ENTROPY_RECORDS):
                print(json.dumps(entropies_json(store, store.read(ENTROPY_RECORDS, id))))
        elif arguments[1] == "extract":
            for name in store.extract(store.find(arguments[2]), arguments[3]):
                print(f"the {name} part was dropped", file=sys.stderr)
        else:
            for file in store.files(store.find(arguments[2]))[0].values():
                for tensor in file.tensors:
                    digest = hashlib.sha256(store.tensor_bytes(file, tensor)).hexdigest()
                    shape = "[" + ",".join(map(str, tensor.shape)) + "]"
                    print("\t".join([printable(tensor.name), DTYPES[tensor.dtype].name, shape, digest, printable(file.path)]))
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 65
    except (Damaged, FileExistsError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
