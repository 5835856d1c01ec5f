"""Makes a store of very many blocks, to see how memory grows with them.

    make_many_blocks.py STORE [--blocks 10000000] [--steps 100] [--depth 5]

Writes the records of format-spec/store-format.md straight into a store that `ckpt init` has made: 2.6 TB of raw bytes would take long to
ingest. Each block is packed against that of the step before, up to the depth given. Ids are random and what deltas say is made up, so
`ckpt verify --quick` finds nothing wrong; `ckpt verify`, which unpacks and hashes, would.
"""
import argparse
import hashlib
import os
import struct
import sys
import time

import lmdb
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../format-spec/reader"))
import reader  # noqa: E402

BLOCKS_OF_A_TENSOR = 1000
RAW = 256 << 10
F32 = next(code for code, dtype in reader.DTYPES.items() if dtype.name == "F32")
PLANES, DIFFERENCE = 1, 2


def record(kind, key, value):
    return key, value + struct.pack("<Q", reader.checksum(kind, key, value))


def count(count, depth=0, codec=0, raw=0, packed=0):
    return struct.pack("<QBBII", count, depth, codec, raw, packed)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--blocks", type=int, default=10_000_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--depth", type=int, default=5)
    options = parser.parse_args()
    tensors = options.blocks // options.steps // BLOCKS_OF_A_TENSOR
    assert tensors * options.steps * BLOCKS_OF_A_TENSOR == options.blocks, "blocks must be a multiple of steps times 1,000"

    environment = lmdb.open(reader.generation(options.store), map_size=1 << 40, max_dbs=32, sync=False, lock=True)
    tables = {kind: environment.open_db(name.encode(), create=False) for kind, name in enumerate(reader.TABLES[:12], 1)}

    def put(kind, records):
        """Records in the order of their keys, a commit for each 100,000."""
        batch = []
        for one in records:
            batch.append(record(kind, *one))
            if len(batch) == 100_000:
                write(kind, batch)
                batch = []
        write(kind, batch)

    def write(kind, batch):
        with environment.begin(db=tables[kind], write=True) as transaction:
            with transaction.cursor() as cursor:
                cursor.putmulti(batch, append=False)

    ids = np.frombuffer(os.urandom(32 * options.blocks), np.uint8).reshape(-1, 32)
    order = np.argsort(np.ascontiguousarray(ids[:, :8]).view(">u8").ravel(), kind="stable")

    def in_order(make):
        for index in order:
            yield make(int(index), ids[index].tobytes())

    blocks_of_a_step = tensors * BLOCKS_OF_A_TENSOR
    # Four planes, each one byte over and over.
    planes = b"".join(struct.pack("<BI", 1, 1) for _ in range(4))

    def depth(index):
        return index // blocks_of_a_step % (options.depth + 1)

    def block(index, key):
        if depth(index) == 0:
            return key, struct.pack("<BBBBIII", PLANES, F32, 0, 0, RAW, len(planes) + 4, 0) + planes + key[:4]
        base = ids[index - blocks_of_a_step].tobytes()
        return key, struct.pack("<BBBBIII", DIFFERENCE, F32, depth(index), 1, RAW, 24, 0) + base + bytes(24)

    def count_of_block(index, key):
        is_base = index + blocks_of_a_step < options.blocks and depth(index + blocks_of_a_step) > 0
        codec, size = (DIFFERENCE, 16 + 32 + 24) if depth(index) else (PLANES, 16 + len(planes) + 4)
        return bytes([reader.BLOCKS]) + key, count(1 + is_base, depth(index), codec, RAW, size)

    put(reader.BLOCKS, in_order(block))
    put(reader.COUNTS, in_order(count_of_block))

    found = {reader.TENSORS: [], reader.PARTS: [], reader.SNAPSHOTS: []}

    def add(kind, value, begins=0):
        key = hashlib.sha256(value[begins:]).digest()
        found[kind].append((key, value))
        return key

    bytes_of_a_tensor = RAW * BLOCKS_OF_A_TENSOR
    steps, parent = [], None
    for step in range(options.steps):
        storages, views = b"", b""
        for number in range(tensors):
            first = (step * tensors + number) * BLOCKS_OF_A_TENSOR
            shape = struct.pack("<2Q", BLOCKS_OF_A_TENSOR, RAW // 4)
            blocks = ids[first : first + BLOCKS_OF_A_TENSOR].tobytes()
            tensor = add(reader.TENSORS, b"ckpttns1" + struct.pack("<BB", F32, 2) + shape + struct.pack("<I", BLOCKS_OF_A_TENSOR) + blocks)
            storages += struct.pack("<QQ", number * bytes_of_a_tensor, bytes_of_a_tensor) + tensor
            name = f"tensor.{number:06}".encode()
            views += struct.pack("<I", len(name)) + name + struct.pack("<IQBB", number, 0, F32, 2) + shape + b"\0"
        path = b"model.safetensors"
        file = struct.pack("<I", len(path)) + path + struct.pack("<BQB", reader.SAFETENSORS, tensors * bytes_of_a_tensor, 0)
        file += struct.pack("<I", tensors) + storages + struct.pack("<I", tensors) + views
        part = add(reader.PARTS, b"ckptprt1" + struct.pack("<BI", 1, 1) + file)
        sums = struct.pack("<BIIQ", 0, 1, tensors, tensors * bytes_of_a_tensor)
        snapshot = add(reader.SNAPSHOTS, sums + b"ckptsnp1" + struct.pack("<IB", 1, 1) + part, reader.MANIFEST)
        source = b"made"
        value = snapshot + (b"\0" if parent is None else b"\1" + parent) + struct.pack("<q", time.time_ns())
        value += struct.pack("<I", len(source)) + source + struct.pack("<IQ", 0, 0)
        steps.append((b"r\0" + struct.pack(">Q", step), value))
        parent = snapshot
    for kind, records in found.items():
        put(kind, sorted(records))
        put(reader.COUNTS, ((bytes([kind]) + key, count(1)) for key, _ in sorted(records)))
    put(reader.STEPS, steps)
    environment.sync(True)


if __name__ == "__main__":
    main()
