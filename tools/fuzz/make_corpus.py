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


def tokenizers():
    """Small files of each kind, by name."""

    def token(id, content, **flags):
        base = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
        return base | flags

    def file(tokens, merges, **parts):
        model = {"type": "BPE", **parts.pop("model", {}), "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}
        return {"version": "1.0", **parts, "model": model}

    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    template = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }  # fmt: skip
    letters = ["a", "b", "e", "Ġ", "Ċ", "ab", "Ġa", "Ġab", "aa"]
    yield "gpt2", file(letters, ["a b", "Ġ a", "Ġ ab", "a a"], pre_tokenizer=level, decoder=level)
    yield "qwen", file(
        letters, [["a", "b"], ["Ġ", "a"]], added_tokens=[token(9, "<s>", special=True), token(10, " ab", lstrip=True, rstrip=True)],
        normalizer={"type": "NFC"}, pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level | {"use_regex": False}]},
        decoder=level, post_processor=level, model={"ignore_merges": True})  # fmt: skip
    pieces = ["<s>", "<unk>", "▁", "a", "b", "▁a", "ab", "é", "<0x0A>", "<0xE1>"]
    fallback = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    steps = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    decoder = {"type": "Sequence", "decoders": steps}
    added = [token(0, "<s>", special=True), token(10, "a ", normalized=True, single_word=True)]
    merges = [["▁", "a"], ["a", "b"]]
    yield "llama", file(
        pieces, merges, added_tokens=added, pre_tokenizer=meta, decoder=decoder, post_processor=template, model=fallback)  # fmt: skip
    yield "legacy", file(
        pieces, merges, added_tokens=added, normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]},
        pre_tokenizer=None, decoder=decoder, model=fallback)  # fmt: skip
    yield "gemma", file(
        pieces, merges, normalizer=replace, model={"unk_token": "<unk>"}, decoder=meta,
        pre_tokenizer={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False})  # fmt: skip


def main():
    for name, file in tokenizers():
        seed = HERE / "corpus/tokenizer" / f"{name}.json"
        seed.parent.mkdir(exist_ok=True)
        seed.write_text(json.dumps(file, ensure_ascii=False, separators=(",", ":")))
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
