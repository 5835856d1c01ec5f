#!/usr/bin/env python3
"""Writes a bf16 safetensors file in which a few words differ from another's, and prints the bytes it must take.

    make_sparse.py BASE OUT --percent 5 [--rows] [--seed 1]
    make_sparse.py - OUT --percent 5 --base-out BASE [--bytes 67108864]     with a made-up base

Words change one by one, each with the probability given, or by whole rows. A changed word moves by d steps of bf16
(d = 1 is the next larger float), up or down alike, with P(|d|) in proportion to exp(-|d| / 2) for |d| = 1 to 8.
The bound is the entropy of just that: H(p) a word for where it changed (a row, with --rows), and the entropy of d for
each changed word. Prints one line of JSON.
"""
import argparse
import json
import subprocess
import sys

import numpy as np

from floats import HERE, binary_entropy, from_ordered, ordered, read_safetensors, write_safetensors

STEPS = np.concatenate([np.arange(-8, 0), np.arange(1, 9)])
SHARES = np.exp(-np.abs(STEPS) / 2)
SHARES /= SHARES.sum()
BITS_A_CHANGE = float(-(SHARES * np.log2(SHARES)).sum())


def change(tensors, p, by_rows, random):
    """The changed tensors, and how many words and rows there are and changed."""
    changed_tensors = {}
    places = hits = words = changed = 0
    for name, (dtype, shape, content) in tensors.items():
        assert dtype == "BF16", f"{name} is {dtype}: bf16 only"
        values = content.view(np.uint16)
        columns = shape[-1] if by_rows and len(shape) else 1
        chosen = random.random(len(values) // columns) < p
        mask = np.repeat(chosen, columns)
        steps = random.choice(STEPS, size=int(mask.sum()), p=SHARES)
        values = values.copy()
        values[mask] = from_ordered(ordered(values[mask]) + steps, np.uint16)
        changed_tensors[name] = (dtype, shape, values)
        places, hits = places + len(chosen), hits + int(chosen.sum())
        words, changed = words + len(values), changed + len(steps)
    return changed_tensors, places, hits, words, changed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a bf16 safetensors file, or - to make one up")
    parser.add_argument("out")
    parser.add_argument("--percent", type=float, required=True)
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base-out", help="where a made-up base goes")
    parser.add_argument("--bytes", type=int, default=64 << 20, help="about the size of a made-up base")
    options = parser.parse_args()
    base = options.base
    if base == "-":
        base = options.base_out or parser.error("a made-up base needs --base-out")
        subprocess.run([sys.executable, f"{HERE}/make_model.py", base, "--bytes", str(options.bytes)],
                       stdout=sys.stderr, check=True)
    p = options.percent / 100
    tensors, places, hits, words, changed = change(
        read_safetensors(base), p, options.rows, np.random.default_rng(options.seed))
    write_safetensors(options.out, tensors)
    where, what = places * binary_entropy(hits / places) / 8, changed * BITS_A_CHANGE / 8
    print(json.dumps({
        "base": base, "file": options.out, "percent": options.percent, "by_rows": options.rows, "seed": options.seed,
        "words": words, "changed_words": changed, "places": places, "changed_places": hits,
        "raw_bytes": 2 * words, "position_bytes": where, "value_bytes": what, "bits_a_changed_word": BITS_A_CHANGE,
        "bound_bytes": where + what, "bound_ratio": (where + what) / (2 * words)}))


if __name__ == "__main__":
    main()
