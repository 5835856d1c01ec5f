"""Writes the seeds in tools/fuzz/corpus from the golden files: small ones, as a fuzzer wants them.

    python make_corpus.py

Needs nothing but Python. PyTorch files are packed again without the padding that torch.save adds, and their
pickles are kept beside them as seeds of their own.
"""

import io
import json
import pathlib
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parents[1] / "Tests/Golden/formats"
SAFETENSORS = [
    "plain", "no tensors", "metadata", "entry as an array", "dtype as a map", "extra fields", "unordered", "unaligned",
    "sub-byte to the byte", "empty tensors at both ends", "name twice", "canonically equal names", "leading space",
]  # fmt: skip
PYTORCH = [
    "views", "tied", "scalars", "list", "module", "parameters", "subclass", "sparse", "cycle", "colliding",
    "uint16-view", "default-dict", "big-integers", "protocol-4", "keys",
]  # fmt: skip
ZIPS = ["zip64", "zip-local64", "zip-descriptors", "two-shapes"]


def main():
    cases = {case["name"]: case for case in json.loads((GOLDEN / "safetensors-cases.json").read_text())["cases"]}
    for name in SAFETENSORS:
        seed = HERE / "corpus/safetensors" / f"{name.replace(' ', '-')}.safetensors"
        seed.write_bytes(bytes.fromhex(cases[name]["file"]))
    for name in PYTORCH:
        with zipfile.ZipFile(GOLDEN / f"torch/{name}.pt") as archive:
            pickle = next(entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
            (HERE / "corpus/pytorch" / f"{name}.pkl").write_bytes(archive.read(pickle))
    for name in ZIPS:
        whole = (GOLDEN / f"torch/{name}.pt").read_bytes()
        if name == "two-shapes":
            packed = io.BytesIO()
            with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(packed, "w") as new:
                for info in old.infolist():
                    new.writestr(zipfile.ZipInfo(info.filename), old.read(info))
            whole = packed.getvalue()
        (HERE / "corpus/pytorch" / f"{name}.pt").write_bytes(whole)


main()
