#!/usr/bin/env python3
"""Random numbers and what is drawn by them, from ../random.md alone: the second implementation, and the maker of its vectors.

    python vectors.py           writes vectors.json
    python vectors.py --check   compares it with what would be written; exits 1 when they differ

Needs nothing but Python 3.9 or later.
"""

import json
import math
import pathlib
import sys

FILE = pathlib.Path(__file__).resolve().parent / "vectors.json"
DRAW, SHUFFLE, WEIGHTS, GENERATE, ROTATE = range(5)
MASK = 2**32 - 1


# --- The generator


def philox(counter, key):
    """Four words from a counter of four words and a key of two."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [b >> 32 ^ c[1] ^ k0, b & MASK, a >> 32 ^ c[3] ^ k1, a & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c


def words(seed, purpose, round_, pass_):
    """The stream's words, one after the other."""
    block = 0
    while True:
        yield from philox([block, purpose, round_, pass_], [seed & MASK, seed >> 32])
        block = (block + 1) & MASK


def uniform(stream):
    high = next(stream) >> 5
    low = next(stream) >> 6
    return (high * 2**26 + low) / 2**53


def index(stream, count):
    return min(count - 1, math.floor(uniform(stream) * count))


def permutation(stream, count):
    order = list(range(count))
    for place in range(count - 1, 0, -1):
        other = index(stream, place + 1)
        order[place], order[other] = order[other], order[place]
    return order


# --- Weights


def added(values):
    """From the first to the last; sum() of newer Pythons carries what was rounded off, and gives other bits."""
    total = 0.0
    for value in values:
        total = total + value
    return total


def positive(x):
    return 0.0 if x < 0 else x


def weights(selection, coefficients, weak, strong):
    a, b, c = coefficients
    surer = [positive(-(s - w)) for s, w in zip(strong, weak)]
    less_sure = [positive(s - w) for s, w in zip(strong, weak)]
    if selection == "uniform":
        return [1.0] * len(weak)
    if selection == "v1":
        terms = [[a * x for x in weak], [b * x for x in surer], [c * x for x in less_sure]]
    elif selection == "v2":
        terms = [[a * x for x in surer], [b * x for x in strong], [c * x for x in less_sure]]
    else:
        terms = []
        for factor, term in [(a, weak), (b, surer), (c, less_sure)]:
            total = added(term)
            terms.append([factor * x / total if total > 0 else 0.0 for x in term])
    return [(x + y) + z for x, y, z in zip(*terms)]


# --- What is drawn


def drawn(given, stream, count):
    prefix, total = [], 0.0
    for weight in given:
        total = total + weight
        prefix.append(total)
    found = []
    for _ in range(count):
        wanted = uniform(stream) * total
        found.append(next(i for i, upto in enumerate(prefix) if upto > wanted))
    return found


def draws_per_pass(count, multiplier):
    exact = count * multiplier
    return max(1, math.floor(exact) + (exact - math.floor(exact) >= 0.5))


def samples_of_pass(selection, given, multiplier, seed, round_, pass_):
    drawing = words(seed, DRAW, round_, pass_)
    shuffling = words(seed, SHUFFLE, round_, pass_)
    if selection == "uniform":
        return permutation(shuffling, len(given))
    if selection == "v2":
        kept = list(dict.fromkeys(drawn(given, drawing, len(given))))
        return [kept[place] for place in permutation(shuffling, len(kept))]
    return drawn(given, drawing, draws_per_pass(len(given), multiplier))


def batches(selection, given, multiplier, seed, round_, batch_size, passes):
    """Pass, place and samples of every step of so many passes."""
    for pass_ in range(passes):
        samples = samples_of_pass(selection, given, multiplier, seed, round_, pass_)
        for place, first in enumerate(range(0, len(samples), batch_size)):
            yield [pass_, place, samples[first:first + batch_size]]


# --- Rotation


def rotation_offset(vocabulary, seed, sample, position):
    return 1 + index(words(seed, ROTATE, sample, position), vocabulary - 2)


def rotation_sources(vocabulary, target, offset):
    """For each token the one whose original logit it gets."""
    others = [token for token in range(vocabulary) if token != target]
    sources = {target: target}
    for rank, token in enumerate(others):
        sources[token] = others[(rank + offset) % len(others)]
    return [sources[token] for token in range(vocabulary)]


# --- The vectors


def taken(count, stream, get=next):
    return [get(stream) for _ in range(count)]


def entropies(count, seed):
    """Doubles with all their bits in use, some zero and some equal, without the arithmetic that is tested."""
    state, found = seed, []
    for place in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        found.append(0.0 if place % 11 == 5 else (state >> 11) / 2**52)
    return found


def vectors():
    streams = []
    for stream in [(0, DRAW, 0, 0), (1, SHUFFLE, 0, 1), (2**32, WEIGHTS, 3, 0), (2**64 - 1, GENERATE, 2**32 - 1, 7),
                   (0x0123456789ABCDEF, ROTATE, 41, 1000)]:
        seed, purpose, round_, pass_ = stream
        streams.append({
            "seed": seed, "purpose": purpose, "round": round_, "pass": pass_, "words": taken(10, words(*stream)),
            "uniforms": taken(7, words(*stream), uniform),
            "indices": [[count, taken(6, words(*stream), lambda s: index(s, count))] for count in [1, 2, 7, 1000, 2**40]],
            "permutations": [permutation(words(*stream), count) for count in [0, 1, 2, 3, 17, 100]],
        })

    weak, strong = entropies(61, 1), entropies(61, 2)
    strong[5:9] = weak[5:9]
    sure = [w / 4 for w in weak]  # the third term of every selection is zero
    orders = []
    for selection, coefficients, multiplier, pair, seed, round_, batch_size in [
            ("uniform", [0.1, 0.8, 0.1], 1.0, (weak, strong), 1, 0, 8),
            ("uniform", [0.1, 0.8, 0.1], 1.0, (weak, strong), 1, 1, 61),
            ("v1", [0.1, 0.8, 0.1], 1.0, (weak, strong), 1, 0, 8),
            ("v1", [0.2, 0.7, 0.1], 2.5, (weak, strong), 2**63, 4, 16),
            ("v2", [0.1, 0.8, 0.1], 1.0, (weak, strong), 1, 0, 8),
            ("v2", [1.0, 0.0, 0.0], 1.0, (weak, sure), 9, 2, 7),
            ("code", [0.1, 0.8, 0.1], 1.0, (weak, strong), 1, 0, 8),
            ("code", [0.2, 0.7, 0.1], 0.5, (weak, sure), 12345678901, 0, 5)]:
        given = weights(selection, coefficients, *pair)
        orders.append({
            "select": selection, "coefficients": coefficients, "multiplier": multiplier, "weak": pair[0], "strong": pair[1],
            "weights": given, "seed": seed, "round": round_, "batch_size": batch_size,
            "batches": list(batches(selection, given, multiplier, seed, round_, batch_size, 4)),
        })
    # Weights of one's own: shares that vanish beside a great one, zeros at both ends, a single sample.
    for given in [[0.0, 1e-300, 1e17, 1.0, 0.0], [3.0], [0.1] * 1000, [0.0, 0.0, 5e-8, 0.0]]:
        orders.append({
            "select": "formula", "multiplier": 1.0, "weights": given, "seed": 77, "round": 0, "batch_size": 64,
            "batches": list(batches("formula", given, 1.0, 77, 0, 64, 3)),
        })

    rotations = []
    for vocabulary, target, seed, sample, position in [
            (3, 0, 1, 0, 0), (3, 2, 1, 0, 1), (4, 1, 5, 2, 9), (11, 0, 1, 1, 1), (11, 10, 1, 1, 2), (11, 6, 1, 2, 1),
            (50, 49, 2**40, 70000, 4095), (151936, 77, 3, 9, 8)]:
        offset = rotation_offset(vocabulary, seed, sample, position)
        rotation = {"vocabulary": vocabulary, "target": target, "seed": seed, "sample": sample, "position": position,
                    "offset": offset}
        if vocabulary <= 50:
            rotation["sources"] = rotation_sources(vocabulary, target, offset)
        rotations.append(rotation)
    return {"streams": streams, "orders": orders, "rotations": rotations}


def text():
    found = vectors()
    lists = [f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]" for name, rows in found.items()]
    return "{\n" + ",\n".join(lists) + "\n}\n"


def self_test():
    """The known answers of the Random123 library."""
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([MASK] * 4, [MASK] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert philox([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]) == [
        0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def main():
    self_test()
    if sys.argv[1:] == ["--check"]:
        if FILE.read_text() != text():
            sys.exit(f"{FILE.name}: not what {pathlib.Path(__file__).name} writes")
        print(f"{FILE.name}: as written by {pathlib.Path(__file__).name}")
    elif len(sys.argv) == 1:
        FILE.write_text(text())
    else:
        sys.exit("usage: vectors.py [--check]")


if __name__ == "__main__":
    main()
