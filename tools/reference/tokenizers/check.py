"""Compares ckpt's tokenizers with the library, token for token.

    python check.py TOKENIZE [--size BYTES] [--only NAME] [--variants] [--tokenizer FILE] [--text FILE ...]

TOKENIZE is the built `ckpt-tokenize`. Without --tokenizer every family of make.py is compared on BYTES (10 MB) of made
up text: code, digits, many scripts, emoji, combining marks, broken UTF-8 and every added token; on as much of what
hostile.py makes; and the small tokenizers of variants.py on a tenth. The ids go back to text on both sides, and so do
random ones. Prints differences, and the speed of both on one thread. Exits with 1 where there is a difference.
"""

import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer

import hostile
import make
import texts
import variants


def packed(rows, kind):
    return b"".join(struct.pack("<I", len(row)) + struct.pack(f"<{len(row)}{kind}", *row) for row in rows)


def unpacked(data, size):
    rows, place = [], 0
    while place < len(data):
        end = place + 4 + size * int.from_bytes(data[place:place + 4], "little")
        rows.append(data[place + 4:end])
        place = end
    return rows


class Checker:
    def __init__(self, program, folder):
        self.program, self.folder, self.differences = program, folder, 0

    def run(self, *arguments):
        """The line that ckpt-tokenize prints, and what it wrote."""
        output = self.folder / "output"
        output.unlink(missing_ok=True)
        line = subprocess.run([self.program, *arguments[:3], output, *arguments[3:]], capture_output=True, text=True).stdout
        return line.strip(), output.read_bytes() if output.exists() else b""

    def report(self, what, bad):
        self.differences += len(bad)
        for line in bad[:3]:
            print(f"  {what}: {line[:300]}", flush=True)

    def encoded(self, name, file, rows):
        library = Tokenizer.from_file(str(file))
        library.no_truncation()
        library.no_padding()
        decoded = [row.decode("utf-8", errors="replace") for row in rows]
        start = time.perf_counter()
        wanted = [library.encode(row).ids for row in decoded]
        seconds = time.perf_counter() - start
        source = self.folder / "input"
        source.write_bytes(b"".join(struct.pack("<I", len(row)) + row for row in rows))
        line, output = self.run("encode", file, source)
        got = [list(memoryview(row).cast("i")) for row in unpacked(output, 4)]
        got += [[]] * (len(rows) - len(got))
        bad = []
        for i in range(len(rows)):
            if got[i] == wanted[i]:
                continue
            have, want = got[i], wanted[i]
            at = next((k for k, (a, b) in enumerate(zip(have, want)) if a != b), min(len(have), len(want)))
            bad.append(f"text {i} {rows[i][:40]}, token {at}: {[library.id_to_token(t) for t in have[at:at + 6]]}"
                       f" against {[library.id_to_token(t) for t in want[at:at + 6]]}")
        size = sum(map(len, rows)) / 1e6
        speed = f"{size / (float(line.split('encode ')[1].split()[0]) / 1e3):.1f} MB/s" if "encode" in line else line
        back = self.decoded(file, library, wanted)
        print(f"{name}: {size:.1f} MB, {len(rows)} texts, {len(bad)} differ, {len(back)} of them as text again;"
              f" ckpt {speed}, library {size / seconds:.1f} MB/s", flush=True)
        self.report("encode", bad)
        self.report("decode", back)

    def decoded(self, file, library, rows):
        rng = random.Random(5)
        count = library.get_vocab_size()
        rows = [row for row in rows if len(row) < 20_000]
        rows += [[rng.randrange(count + 3) for _ in range(rng.choice((1, 2, 5, 50)))] for _ in range(5_000)]
        source = self.folder / "input"
        source.write_bytes(packed(rows, "i"))
        line, output = self.run("decode", file, source)
        got = unpacked(output, 1)
        got += [line.encode()] * (len(rows) - len(got))
        bad = []
        for row, have in zip(rows, got):
            want = library.decode(row, skip_special_tokens=False).encode()
            if want != have:
                bad.append(f"{row[:20]}: {have[:60]} against {want[:60]}")
        return bad


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--only")
    parser.add_argument("--variants", action="store_true", help="not the families")
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        checker = Checker(options.program, folder)
        own = [line for file in options.text for line in file.read_bytes().splitlines(keepends=True)]

        def check(name, file, size):
            added = make.added_texts(Tokenizer.from_file(str(file)))
            if own:
                return checker.encoded(name, file, own)
            checker.encoded(name, file, texts.corpus(11, size, added))
            checker.encoded(f"{name}, hostile", file, hostile.corpus(12, size, added, long=size // 10))

        if options.tokenizer:
            check(options.tokenizer.name, options.tokenizer, options.size)
            return checker.differences
        for name, tokenizer in [] if options.variants else make.families():
            if options.only in (None, name):
                tokenizer.save(str(folder / "tokenizer.json"))
                check(name, folder / "tokenizer.json", options.size)
        for name, file in variants.accepted():
            if options.only in (None, name):
                (folder / "tokenizer.json").write_text(json.dumps(file, ensure_ascii=False))
                check(name, folder / "tokenizer.json", options.size // 10)
        (folder / "input").write_bytes(b"")
        for name, file, words in variants.refused():
            (folder / "tokenizer.json").write_text(json.dumps(file, ensure_ascii=False))
            line, _ = checker.run("encode", folder / "tokenizer.json", folder / "input")
            if not line.startswith("error:") or words not in line:
                checker.report(name, [f"not refused by name: {line}"])
    print(f"{checker.differences} differences")
    return checker.differences


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
