"""Writes Tests/Golden/diff: two checkpoints that hold a tensor of every kind, and what numpy says of their difference.

    python make_diff_cases.py [DIRECTORY]

Needs numpy, ml_dtypes and torch (the committed files were made with 2.4.6, 0.6.0 and 2.15.0). Nothing of ckpt is used:
the safetensors files are written by hand. Two runs write the same bytes, but for the PyTorch files of other versions.

Every sum is taken over exact values: integers and quotients in Python's own integers and fractions, where floats would
hide an error of the reference; the results are rounded once.
"""

import fractions
import json
import math
import pathlib
import struct
import sys

import ml_dtypes
import numpy
import torch

SEED = 20260101
# safetensors name -> (numpy dtype, bits)
FLOATS = {
    "BF16": ml_dtypes.bfloat16, "F16": numpy.float16, "F32": numpy.float32, "F64": numpy.float64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F6_E2M3": ml_dtypes.float6_e2m3fn, "F6_E3M2": ml_dtypes.float6_e3m2fn, "F4": ml_dtypes.float4_e2m1fn,
}
BITS = {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
INTEGERS = {
    "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8"}


def width(dtype):
    return BITS.get(dtype, 8 * numpy.dtype(FLOATS[dtype]).itemsize)


def pack(dtype, words):
    """The bytes of `words`, bit patterns, in a stream of bits that begins with the lowest."""
    bits = width(dtype)
    stream = 0
    for index, word in enumerate(words):
        stream |= int(word) << (index * bits)
    return stream.to_bytes(len(words) * bits // 8, "little")


def float_values(dtype, words):
    size = numpy.dtype(FLOATS[dtype]).itemsize
    array = numpy.array(words, dtype="<u%d" % size).view(FLOATS[dtype])
    return [float(x) for x in array.astype(numpy.float64)]


def place(dtype, word, value):
    """Where a word stands in the order of the numbers of its type; zeros of either sign at the same place."""
    if dtype not in FLOATS or dtype == "F8_E8M0":
        return value if dtype != "F8_E8M0" else word
    sign = 1 << (width(dtype) - 1)
    return -(word & ~sign) if word & sign else word


def expect(first_bits, second_bits, first, second, dtype, shape):
    """What a diff must say. Values are floats (NaN and infinities among them) or integers."""
    ulps, ulp_counts = 0, {}
    squares = []
    aa = bb = dd = ab = fractions.Fraction(0)
    changed = flips = nonfinite = 0
    most = fractions.Fraction(0)
    for x, y, u, v in zip(first_bits, second_bits, first, second):
        changed += x != y
        if not math.isfinite(u) or not math.isfinite(v):
            nonfinite += 1
            squares.append(0)
            continue
        distance = abs(place(dtype, y, v) - place(dtype, x, u))
        ulps += distance
        ulp_counts[distance.bit_length()] = ulp_counts.get(distance.bit_length(), 0) + 1
        u, v = fractions.Fraction(u), fractions.Fraction(v)
        flips += u * v < 0
        aa, bb, ab, dd = aa + u * u, bb + v * v, ab + u * v, dd + (v - u) ** 2
        most = max(most, abs(v - u))
        squares.append((v - u) ** 2)

    def root(x):
        # Of a fraction to the last bit: scaled to an integer of 140 bits and more.
        shift = max(0, 140 - (x.numerator.bit_length() - x.denominator.bit_length())) // 2 * 2
        return fractions.Fraction(math.isqrt((x.numerator << shift) // x.denominator), 1 << (shift // 2))

    norms = {}
    if len(shape) > 1 and squares:
        # A complex number is two words of one column.
        words = len(squares) // math.prod(shape)
        columns = [sum(squares[i * words:(i + 1) * words]) for i in range(math.prod(shape))]
        by_row = [columns[i:i + shape[-1]] for i in range(0, len(columns), shape[-1])]
        norms["rows"] = [float(root(fractions.Fraction(sum(row)))) for row in by_row]
        norms["columns"] = [float(root(fractions.Fraction(sum(column)))) for column in zip(*by_row)]
        if dtype in FLOATS and words == 1:
            d = [float(v - u) if math.isfinite(u) and math.isfinite(v) else 0.0 for u, v in zip(map(float, first), map(float, second))]
            matrix = numpy.array(d).reshape(-1, shape[-1])
            norms["singular_values"] = numpy.linalg.svd(matrix, compute_uv=False)[:8].tolist()
    return norms | {
        "ulps": float(ulps), "ulp_counts": [ulp_counts.get(i, 0) for i in range(max(ulp_counts, default=0) + 1)],
        "words": len(first), "changed": changed, "sign_flips": flips, "nonfinite": nonfinite, "max_abs": float(most),
        "delta_l2": float(root(dd)), "first_l2": float(root(aa)), "second_l2": float(root(bb)),
        "relative_l2": float(root(dd / aa)) if aa else None,
        "cosine": float(ab / (root(aa) * root(bb))) if aa and bb else None,
    }


def words_of(values, dtype):
    size = numpy.dtype(FLOATS[dtype]).itemsize
    with numpy.errstate(all="ignore"):
        return [int(w) for w in numpy.array(values, dtype=numpy.float64).astype(FLOATS[dtype]).view("<u%d" % size)]


def float_pairs(random, dtype):
    """(name, first, second): lists of bit patterns."""
    bits = width(dtype)
    every = 1 << min(bits, 16)
    count = 144

    def patterns():
        if bits <= 16:
            return [int(w) for w in random.integers(0, every, count)]
        return [int(random.integers(0, 1 << 32)) << (bits - 32) | int(random.integers(0, 1 << (bits - 32))) if bits > 32
                else int(random.integers(0, 1 << 32)) for _ in range(count)]

    # Random bits: of doubles, not the exponents whose squares leave the range (they are said to).
    if dtype != "F64":
        yield "bits", patterns(), patterns()
    if bits <= 8:
        # Every value against every other once: value i against i * 5 + 3.
        numbers = list(range(1 << bits))
        yield "all", numbers, [(n * 5 + 3) % (1 << bits) for n in numbers]
        yield "signs", numbers, [n ^ (1 << (bits - 1)) for n in numbers]
        return
    base = random.normal(0, 0.02, count)
    step = random.normal(0, 1e-4, count)
    yield "step", words_of(base, dtype), words_of(base + step, dtype)
    yield "one word", words_of(base, dtype), words_of([*base[:-1], base[-1] * 1.5], dtype)
    yield "equal", words_of(base, dtype), words_of(base, dtype)
    yield "signs", words_of(base, dtype), words_of(base * numpy.where(random.random(count) < 0.3, -1, 1), dtype)
    yield "from zero", [0] * count, words_of(base, dtype)
    yield "to zero", words_of(base, dtype), [0] * count
    zeros = [0, 1 << (bits - 1)] * (count // 2)
    yield "zeros of both signs", zeros, zeros[::-1]
    special = words_of([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-3], dtype)
    special += [1, (1 << (bits - 1)) | 1, special[4] | 1]
    # The largest finite number; the square of a double's would be infinite.
    special += words_of([1e150], dtype) if dtype == "F64" else [special[4] - 1]
    yield "specials", [w for w in special for _ in special], special * len(special)
    scale = {"F16": 1e-4, "BF16": 1e-15, "F32": 1e-15, "F64": 1e-60}[dtype]
    big = {"F16": 1e4, "BF16": 1e15, "F32": 1e15, "F64": 1e60}[dtype]
    spread = numpy.exp(random.uniform(math.log(scale), math.log(big), count)) * numpy.sign(random.normal(size=count))
    yield "spread", words_of(spread, dtype), words_of(spread * random.normal(1, 0.1, count), dtype)
    tiny = {"F16": 2.0**-23, "BF16": 2.0**-130, "F32": 2.0**-140, "F64": 1e-140}[dtype]
    yield "tiny", words_of(random.normal(0, tiny, count), dtype), words_of(random.normal(0, tiny, count), dtype)
    huge = {"F16": 2e4, "BF16": 1e38, "F32": 1e38, "F64": 1e140}[dtype]
    yield "huge", words_of(random.uniform(-huge, huge, count), dtype), words_of(random.uniform(-huge, huge, count), dtype)
    # Orthogonal but for rounding: halves that cancel.
    half = random.normal(0, 1, count // 2)
    other = random.normal(0, 1, count // 2)
    yield "orthogonal", words_of([*half, *other], dtype), words_of([*-other, *half], dtype)
    yield "nearly orthogonal", words_of([*half, *other], dtype), words_of([*(1e-3 * half - other), *half], dtype)
    # Neighbours of the last bit.
    near = words_of(base, dtype)
    yield "last bit", near, [w ^ 1 for w in near]
    if dtype in ("F32", "F64"):
        yield "small beside large", words_of(base * 1e6, dtype), words_of(base * 1e6 + step, dtype)
        yield "a thousand times", words_of(base, dtype), words_of(random.normal(0, 20, count), dtype)
        yield "far apart", words_of(base, dtype), words_of(random.normal(1e14, 1e14, count), dtype)


def tensors():
    random = numpy.random.default_rng(SEED)
    for dtype in FLOATS:
        for name, first, second in float_pairs(random, dtype):
            shape = [len(first) // 16, 16] if len(first) % 16 == 0 and name not in ("step", "equal") else [len(first)]
            expected = expect(first, second, float_values(dtype, first), float_values(dtype, second), dtype, shape)
            yield f"{dtype}.{name}", dtype, shape, pack(dtype, first), pack(dtype, second), expected
    for dtype, code in INTEGERS.items():
        info = numpy.iinfo(code)
        ends = [info.min, info.max, 0, 1, info.max - 1, info.min + 1, max(info.min, -1)]
        pairs = [
            ("bits", [int(x) for x in random.integers(info.min, info.max, 96, dtype=code[-2:], endpoint=True)],
             [int(x) for x in random.integers(info.min, info.max, 96, dtype=code[-2:], endpoint=True)]),
            ("ends", [e for e in ends for _ in ends], ends * len(ends)),
            ("next", list(range(60)), list(range(1, 61))),
        ]
        if info.max > 2**60:
            large = [info.max - 7 * i for i in range(40)]
            pairs.append(("large and near", large, [x - 1 for x in large]))
        for name, first, second in pairs:
            yield (f"{dtype}.{name}", dtype, [len(first)], numpy.array(first, dtype=code).tobytes(),
                   numpy.array(second, dtype=code).tobytes(), expect(first, second, first, second, dtype, [len(first)]))
    first = [int(x) for x in random.integers(0, 2, 50)]
    second = [int(x) for x in random.integers(0, 2, 50)]
    yield "BOOL.bits", "BOOL", [50], bytes(first), bytes(second), expect(first, second, first, second, "BOOL", [50])
    for dtype, real in (("C64", numpy.float32),):
        a, b = (random.normal(0, 1, 48).astype(real) for _ in range(2))
        bits = "<u%d" % a.itemsize
        yield (f"{dtype}.normal", dtype, [4, 6], a.tobytes(), b.tobytes(),
               expect(a.view(bits).tolist(), b.view(bits).tolist(), a.tolist(), b.tolist(), "F32", [4, 6]))


def safetensors(tensors):
    header, data = {}, b""
    for name, dtype, shape, body in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(body)]}
        data += body
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def strided(directory):
    """PyTorch files whose tensors are views: transposed, stepped, repeated, of other types."""
    random = numpy.random.default_rng(SEED + 1)
    expected = {}
    sides = ({}, {})
    for name, view in {
        "transposed": lambda t: t.view(6, 10).t(), "stepped": lambda t: t[1::3],
        "repeated": lambda t: t[:5].unsqueeze(1).expand(5, 7), "plain": lambda t: t.view(3, 20),
        "inner": lambda t: t.view(3, 4, 5).permute(2, 0, 1)[1:, :, 2:],
    }.items():
        for dtype in (torch.float32, torch.bfloat16, torch.int64):
            values = []
            for side in sides:
                base = torch.tensor(random.normal(0, 100, 60)).to(dtype)
                side[f"{name}.{dtype}".replace("torch.", "")] = view(base)
                values.append(view(base).contiguous().flatten())
            size = values[0].element_size()
            bits = [v.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[size]).tolist() for v in values]
            bits = [[w % (1 << 8 * size) for w in side] for side in bits]
            expected[f"{name}.{dtype}".replace("torch.", "")] = expect(
                *bits, *(v.tolist() for v in values), {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}[dtype],
                list(view(base).shape))
    for file, side in zip(("first.pt", "second.pt"), sides):
        torch.save(side, directory / file)
    return expected


def main():
    default = pathlib.Path(__file__).parents[3] / "Tests/Golden/diff"
    directory = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    directory.mkdir(parents=True, exist_ok=True)
    all_tensors = list(tensors())
    (directory / "first.safetensors").write_bytes(safetensors([(n, d, s, a) for n, d, s, a, _, _ in all_tensors]))
    (directory / "second.safetensors").write_bytes(safetensors([(n, d, s, b) for n, d, s, _, b, _ in all_tensors]))
    document = {
        "made_with": {"numpy": numpy.__version__, "ml_dtypes": ml_dtypes.__version__, "torch": torch.__version__},
        "tensors": {name: expected for name, _, _, _, _, expected in all_tensors},
        "strided": strided(directory),
    }
    (directory / "expected.json").write_text(json.dumps(document, indent=0) + "\n")


if __name__ == "__main__":
    main()
