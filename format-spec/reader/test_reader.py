#!/usr/bin/env python3
"""Tests the reader: on the examples of ../store-format.md, on packed blocks made by hand, and on the stores in ../golden.

Prints a line for each, and a last line "N passed, N failed". Exits 1 when one failed.
"""

import base64
import hashlib
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
BLOCKS = HERE.parents[1] / "Tests/Golden/codec/blocks.json"  # of tools/reference/codec/make_blocks.py
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True
import reader  # noqa: E402


def run(*arguments):
    result = subprocess.run([sys.executable, "-B", HERE / "reader.py", *arguments], capture_output=True, encoding="utf-8")
    return result.returncode, result.stdout + result.stderr


def expect(fine, why):
    if not fine:
        raise AssertionError(why)


def equal(found, wanted, what):
    expect(found == wanted, f"{what}: {found!r}, not {wanted!r}")


# --- The document's own examples


def grid_table():
    """The table under "The grid": type, shape, T, and the lengths of the blocks."""
    rows = [
        ("F32", [], 4, [4]),
        ("U8", [600000], 600_000, [262_144] * 2 + [75_712]),
        ("BF16", [1000, 4096], 8_192_000, [262_144] * 31 + [65_536]),
        ("BF16", [1000, 3000], 6_000_000, [258_000] * 23 + [66_000]),
        ("F64", [70000, 3], 1_680_000, [262_128] * 6 + [107_232]),
        ("F32", [3, 100000], 1_200_000, [262_144, 137_856] * 3),
        ("F4", [6, 5], 15, [15]),
        ("F4", [2, 1200001], 1_200_001, [262_144] * 4 + [151_425]),
        ("F6_E2M3", [8, 5], 30, [30]),
        ("F6_E3M2", [2, 400000], 600_000, [262_143, 37_857] * 2),
        ("F32", [0, 4], 0, []),
    ]
    numbers = {dtype.name: number for number, dtype in reader.DTYPES.items()}
    for name, shape, total, lengths in rows:
        equal(reader.byte_count(numbers[name], shape), total, f"bytes of {name} {shape}")
        pieces = list(reader.grid(reader.DTYPES[numbers[name]].bits, shape, total))
        equal([end - start for start, end in pieces], lengths, f"blocks of {name} {shape}")
        equal([end for _, end in pieces], list(itertools.accumulate(lengths)), f"block ends of {name} {shape}")


def worked_example():
    hex = bytes.fromhex
    raw = hex("803f00c0003f0000804080bf")
    block = hex("cb80913690ac8540de603cc9bee1ccdba5787ae5e1fd6ef8e762f4a1c7c1f3c7")
    equal(reader.sha256(raw), block, "block id")
    record = hex("000b00000c0000000c00000000000000803f00c0003f0000804080bfaaa0c14457b12a76")
    equal(reader.unpack(reader.packed_block(reader.unwrap(reader.BLOCKS, block, record))), raw, "codec 0")
    planes = hex("010b00000c0000001600000000000000 0006000000 0006000000 7f807e00817f 000100000001")
    equal(reader.unpack(reader.packed_block(planes)), raw, "codec 1")
    count = hex("010000000000000000000c0000001c000000 736c5b67239e5fe3")
    equal(reader.count(reader.unwrap(reader.COUNTS, b"\2" + block, count)), (1, 0, 0, 12, 28), "count")

    value = hex("636b7074746e7331 0b 02 0200000000000000 0300000000000000 01000000") + block
    tensor = reader.sha256(value)
    equal(tensor.hex(), "fe56ba644626d5531b06790ed5474d537eadee65e90e49a663454d85512eecef", "tensor id")
    equal(reader.checksum(reader.TENSORS, tensor, value), 0x3C04FB906CE08B40, "tensor checksum")
    equal(reader.stored_tensor(value), (11, [2, 3], 12, [block], [12]), "tensor")

    skeleton = hex("e01bf14dc2391899e54798638186a652b5391e6f0ab3d6475c94027d02ad71c1")
    header = b'{"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}'
    header_block = reader.sha256(len(header).to_bytes(8, "little") + header)
    equal(header_block.hex(), "f37bf83165054990d1a8509e981b32cfe661e8334c64eba89aec8f141ac1fe81", "skeleton's block")
    of_header = hex("636b7074746e7331 02 01 4200000000000000 01000000") + header_block
    equal(reader.sha256(of_header), skeleton, "skeleton's tensor")

    value = hex("636b707470727431 01 01000000 10000000 74696e792e7361666574656e736f7273 01 4e00000000000000 01")
    value += skeleton + hex("01000000 4200000000000000 0c00000000000000") + tensor
    value += hex("01000000 01000000 77 00000000 0000000000000000 0b 02 0200000000000000 0300000000000000 00")
    part = reader.sha256(value)
    equal(part.hex(), "d8551ff9dc39b58fa5e8ee403b855affda548cbde0b242844330c12efc802083", "part id")
    (file,) = reader.part(value).files
    equal(reader.gaps(file), [(0, 66)], "gaps")
    equal(file.tensors, [("w", 0, 0, 11, [2, 3], None)], "tensors of the part")

    value = hex("00 01000000 01000000 4e00000000000000 636b7074736e7031 01000000 01") + part
    equal(
        reader.sha256(value[reader.MANIFEST :]).hex(),
        "962535e95b585e81e4b6003f97b0ec40efa49993d14c4144c017c2e5df33debc", "snapshot id",
    )  # fmt: skip
    equal(reader.snapshot(value), (0, 1, 1, 78, [(1, part)]), "snapshot")
    equal(reader.shown_key(reader.STEPS, b"sft\0" + (500).to_bytes(8, "big")), "sft@500", "key of a step")


# --- Packed blocks


def packed_blocks():
    cases = json.loads(BLOCKS.read_text())
    accepted = [case for case in cases["accepted"] if case["raw"]]  # a store has no empty blocks
    for case in accepted:
        raw, *bases = [base64.b64decode(data) * case["times"] for data in [case["raw"], *case.get("bases", ())]]
        expect(reader.unpack(reader.packed_block(base64.b64decode(case["packed"])), bases) == raw, f"other bytes: {case['name']}")
    for case in cases["refused"]:
        bases = [base64.b64decode(data) for data in case.get("bases", ())]
        try:
            reader.unpack(reader.packed_block(base64.b64decode(case["packed"])), bases)
            expect(False, f"not refused: {case['name']}")
        except reader.Damaged as error:
            equal(type(error) is reader.UnknownCodec, case["code"] == "unknown", f"unknown codec: {case['name']}")
    return f"{len(accepted)} read, {len(cases['refused'])} refused"


# --- The golden stores


def whole(name, refs):
    code, output = run(GOLDEN / name, "check")
    expect(code == 0, output)
    code, output = run(GOLDEN / name, "ls")
    expect(code == 0, output)
    for ref in refs:
        expect("@" not in ref or ref in output, f"ls does not show {ref}")
    extracted(name, refs)
    return f"{len(refs)} refs"


def extracted(name, refs):
    for ref, wanted in refs.items():
        with tempfile.TemporaryDirectory() as directory:
            target = pathlib.Path(directory) / "out"
            code, output = run(GOLDEN / name, "extract", ref, target)
            expect(code == 0, output)
            equal(contents(target), wanted["files"], f"files of {ref}")
        code, output = run(GOLDEN / name, "tensors", ref)
        expect(code == 0, output)
        rows = []
        for line in output.splitlines():
            if "\t" in line:
                tensor, dtype, shape, digest, file = line.split("\t")
                rows.append({"file": file, "name": tensor, "dtype": dtype, "shape": json.loads(shape), "sha256": digest})
        equal(rows, wanted["tensors"], f"tensors of {ref}")


def probes(name, wanted):
    code, output = run(GOLDEN / name, "probes")
    expect(code == 0, output)
    found = [json.loads(line) for line in output.splitlines()]
    equal(found, wanted["probes"], "probes")
    code, output = run(GOLDEN / name, "entropies")
    expect(code == 0, output)
    found = [json.loads(line) for line in output.splitlines()]
    equal(found, wanted["entropies"], "entropy records")
    return f"{len(wanted['probes'])} probes, {len(wanted['entropies'])} entropy records"


def retention(name, wanted):
    store = reader.Store(str(GOLDEN / name))
    try:
        for ref, metrics in wanted["metrics"].items():
            id = store.find(ref)
            found = {key[32:].decode(): store.read(reader.METRICS, key) for key in store.keys(reader.METRICS) if key[:32] == id}
            equal(found, metrics, f"metrics of {ref}")
        found = [{"run": None if key == b"\0" else key.decode(), "rules": store.read(reader.POLICIES, key)} for key in store.keys(reader.POLICIES)]
        equal(found, wanted["policies"], "policies")
    finally:
        store.lmdb.close()
    return f"{len(wanted['metrics'])} snapshots, {len(wanted['policies'])} policies"


def contents(root):
    """What is in a directory, as expected.json has it."""
    found = []
    for path in root.rglob("*"):
        relative = path.relative_to(root).as_posix()
        if path.is_file():
            data = path.read_bytes()
            found.append({"path": relative, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        elif not any(path.iterdir()):
            found.append({"path": relative, "size": 0, "sha256": None})
    return sorted(found, key=lambda row: row["path"].encode())


def broken(name, wanted):
    code, output = run(GOLDEN / name, "check")
    expect(code in (2, 65), f"exit {code}: {output}")
    for word in wanted["reader"]:
        expect(word in output, f"does not say {word!r}: {output}")
    extracted(name, wanted.get("readable", {}))
    return output.splitlines()[0][:100]


def main():
    expected = json.loads((GOLDEN / "expected.json").read_text())
    tests = [("the table of the grid", grid_table, ()), ("the worked example", worked_example, ())]
    tests += [("packed blocks", packed_blocks, ())] if BLOCKS.exists() else []
    tests += [(name, whole, (name, refs)) for name, refs in expected["stores"].items()]
    tests += [(f"{name}, its probes", probes, (name, wanted)) for name, wanted in expected["probes"].items()]
    tests += [(f"{name}, metrics and policies", retention, (name, wanted)) for name, wanted in expected["retention"].items()]
    tests += [(name, broken, (name, wanted)) for name, wanted in expected["broken"].items()]
    before = sorted(GOLDEN.rglob("*"))
    failed = 0
    for name, test, arguments in tests:
        try:
            print(f"ok      {name}: {test(*arguments) or 'as the document says'}")
        except Exception as error:  # a test that cannot run has failed
            failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}")
    if sorted(GOLDEN.rglob("*")) != before:
        failed += 1
        print("FAILED  the reader left files in the golden stores")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
