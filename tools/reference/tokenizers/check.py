"""Compares ckpt's tokenizers with the library, token for token.

    python check.py TOKENIZE [--size BYTES] [--only FAMILY] [--tokenizer FILE] [--text FILE ...]

TOKENIZE is the built `ckpt-tokenize`. Without --tokenizer every family of make.py is compared on BYTES (10 MB) of made
up text: code, digits, many scripts, emoji, combining marks, broken UTF-8 and every added token. Prints differences,
and both speeds on one thread. Exits with 1 where there is a difference.
"""

import argparse
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer

import make
import texts


def ours(program, tokenizer, rows, folder):
    source, target = folder / "texts", folder / "ids"
    source.write_bytes(b"".join(struct.pack("<I", len(row)) + row for row in rows))
    line = subprocess.run([program, tokenizer, source, target, "3"], capture_output=True, text=True, check=True).stdout
    values = memoryview(target.read_bytes()).cast("i") if target.exists() else []
    result, place = [], 0
    while place < len(values):
        result.append(list(values[place + 1:place + 1 + values[place]]))
        place += 1 + values[place]
    return result, line.strip()


def compare(program, name, file, rows, folder):
    start = time.perf_counter()
    library = Tokenizer.from_file(str(file))
    load = time.perf_counter() - start
    decoded = [row.decode("utf-8", errors="replace") for row in rows]
    start = time.perf_counter()
    wanted = [library.encode(row).ids for row in decoded]
    seconds = time.perf_counter() - start
    got, line = ours(program, file, rows, folder)
    bad = [i for i in range(len(rows)) if i >= len(got) or got[i] != wanted[i]]
    size = sum(map(len, rows)) / 1e6
    speed = size / (float(line.split("encode ")[1].split()[0]) / 1e3) if "encode" in line else 0
    print(f"{name}: {size:.1f} MB, {len(rows)} texts, {len(bad)} differ; ckpt {line}, {speed:.1f} MB/s;"
          f" library load {load * 1e3:.0f} ms, {size / seconds:.1f} MB/s", flush=True)
    for i in bad[:3]:
        have = got[i] if i < len(got) else []
        at = next((k for k, (a, b) in enumerate(zip(have, wanted[i])) if a != b), min(len(have), len(wanted[i])))
        print(f"  text {i}, token {at}: {[library.id_to_token(t) for t in have[at - 2:at + 4]]}"
              f" against {[library.id_to_token(t) for t in wanted[i][max(at - 2, 0):at + 4]]}")
    return len(bad)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--only")
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, nargs="*", default=[])
    options = parser.parse_args()
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        own = [line for file in options.text for line in file.read_bytes().splitlines()]
        if options.tokenizer:
            added = make.added_texts(Tokenizer.from_file(str(options.tokenizer)))
            rows = own or texts.corpus(11, options.size, added)
            return compare(options.program, options.tokenizer.name, options.tokenizer, rows, folder)
        for name, tokenizer in make.families():
            if options.only and name != options.only:
                continue
            file = folder / f"{name}.json"
            tokenizer.save(str(file))
            rows = own or texts.corpus(11, options.size, make.added_texts(tokenizer))
            differences += compare(options.program, name, file, rows, folder)
    return differences


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
