"""Measures loading and encoding with a tokenizer of real size, beside the library's.

    python speed.py TOKENIZE [--keep FILE] [--text FILE ...]

TOKENIZE is the built `ckpt-tokenize`. The tokenizer is made up: byte-level, 151,643 tokens with their merges and 26
added ones, Qwen's pipeline. Its tokens are those of common words of the texts first, as training would find them, then
pairs of tokens at random. One thread on both sides; the texts are made up unless FILEs are given.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import statistics
import struct
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer, pre_tokenizers

import make
import texts

SIZE = 151_643
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def tokenizer(sample):
    """The file of a tokenizer: for each word of the sample, common ones first, its halves' merges, then random ones."""
    rng = random.Random(17)
    vocab, merges = {letter: i for i, letter in enumerate(ALPHABET)}, []

    def merge(left, right):
        if len(vocab) < SIZE and left + right not in vocab:
            vocab[left + right] = len(vocab)
            merges.append([left, right])

    def grow(word):
        while len(word) > 1:
            word = [word[i] + word[i + 1] if i + 1 < len(word) else word[i] for i in range(0, len(word), 2)]
            yield word

    step = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = collections.Counter(word for text in sample for word, _ in step.pre_tokenize_str(text) if len(word) <= 16)
    for word, _ in words.most_common(60_000):
        parts = list(word)
        for bigger in grow(parts):
            for i in range(0, len(parts) - 1, 2):
                merge(parts[i], parts[i + 1])
            parts = bigger
    tokens = list(vocab)
    while len(vocab) < SIZE:
        left, right = rng.choice(tokens), rng.choice(tokens)
        if len(left) + len(right) <= 20 and left + right not in vocab:
            merge(left, right)
            tokens.append(left + right)
    added = [f"<|added_{i}|>" for i in range(26)]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [dict(id=SIZE + i, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False,
                              special=i < 14) for i, text in enumerate(added)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": make.QWEN2}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": merges},
    }


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


def measure(program, files=(), keep=None):
    """Milliseconds of loading and megabytes a second of encoding: ours, the library's, and whether the tokens are the same."""
    if files:
        rows = [row for file in files for row in pathlib.Path(file).read_bytes().splitlines(keepends=True)]
    else:
        rows = [text for text in texts.corpus(5, 5_000_000, [], plain=True) if text]
    decoded = [row.decode("utf-8", errors="replace") for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        file = keep or folder / "tokenizer.json"
        # As the library writes it: indented, a merge on four lines.
        file.write_text(json.dumps(tokenizer(decoded), ensure_ascii=False, indent=2))
        source = folder / "input"
        source.write_bytes(b"".join(struct.pack("<I", len(row)) + row for row in rows))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            library = Tokenizer.from_file(str(file))
            times.append(time.perf_counter() - start)
        # A process of its own each time: the first load is what a command waits for.
        loads = []
        for _ in range(3):
            line = run(program, "load", file, "1")
            loads.append(sum(float(x) for x in re.findall(r"([\d.]+) ms first", line)))
        start = time.perf_counter()
        wanted = [library.encode(row).ids for row in decoded]
        seconds = time.perf_counter() - start
        line = run(program, "encode", file, source, folder / "ids", "3")
        size = source.stat().st_size / 1e6 - 4e-6 * len(rows)
        same = (folder / "ids").read_bytes() == b"".join(
            struct.pack(f"<{len(row) + 1}I", len(row), *row) for row in wanted)
        return {
            "file_mb": file.stat().st_size / 1e6, "entries": library.get_vocab_size(), "load_ms": statistics.median(loads),
            "library_load_ms": 1e3 * min(times), "text_mb": size,
            "encode_mb_s": 1e3 * size / float(re.search(r"encode ([\d.]+)", line)[1]), "library_encode_mb_s": size / seconds,
            "same": same}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, nargs="*", default=[])
    options = parser.parse_args()
    it = measure(options.program, options.text, options.keep)
    print(f"tokenizer.json: {it['file_mb']:.1f} MB, {it['entries']} tokens")
    print(f"read and parsed: ckpt {it['load_ms']:.0f} ms; library {it['library_load_ms']:.0f} ms")
    print(f"encode {it['text_mb']:.1f} MB: ckpt {it['encode_mb_s']:.1f} MB/s, library {it['library_encode_mb_s']:.1f} MB/s;"
          f" {'the same' if it['same'] else 'DIFFERENT'} tokens")


if __name__ == "__main__":
    main()
