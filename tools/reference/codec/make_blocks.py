"""Writes Tests/Golden/codec/blocks.json: packed blocks built by hand, for the decoder to read or to refuse.

    python make_blocks.py [OUTPUT]

Needs numpy and zstandard (the committed blocks were made with 2.4.6 and 0.25.0). Nothing of ckpt is used: the
layout below is the format's own description. Two runs write the same bytes.

A packed block: codec (1 byte; 0 raw, 1 planes), element type (1), depth (1), bases (1), raw length (4), payload
length (4), transform (4), little-endian; then the payload. A payload of planes: for each byte of a word, the most
significant first, a mode (1 byte; 0 raw, 1 constant, 2 zstd) and a length (4); then the planes' bytes in that order.
Words of floats of 16 bits and more are rotated left by one bit before they are cut into planes.

Differences, palettes and token streams are written from the sections of those names in format-spec/store-format.md,
word by word in plain integers, without a look at any other program.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys
from collections import Counter
from types import SimpleNamespace

import numpy
import zstandard

# Element type -> (bytes of a word, rotated).
ELEMENTS = {
    1: (1, False), 2: (1, False), 3: (1, False), 4: (2, False), 5: (2, False), 6: (4, False), 7: (4, False),
    8: (8, False), 9: (8, False), 10: (2, True), 11: (2, True), 12: (4, True), 13: (8, True), 14: (4, True),
    15: (8, True), 16: (1, False), 17: (1, False), 18: (1, False), 19: (1, False), 20: (1, False), 21: (1, False),
    22: (1, False), 23: (1, False),
}
U8, U16, I16, I32, U64, I64, F16, BF16, F32, F64, C64, C128 = 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15
E4M3, E5M2 = 16, 17

# Element type -> bits of the exponent and of the mantissa, of those that have an order of floats.
FLOATS = {
    F16: (5, 10), BF16: (8, 7), F32: (8, 23), C64: (8, 23), F64: (11, 52), C128: (11, 52),
    E4M3: (4, 3), 19: (4, 3), E5M2: (5, 2), 20: (5, 2),
}


def header(codec, element, raw_count, payload_count, depth=0, bases=0, transform=0):
    return struct.pack("<BBBBIII", codec, element, depth, bases, raw_count, payload_count, transform)


def raw_block(element, raw):
    return header(0, element, len(raw), len(raw)) + raw


def planes_of(element, raw):
    """The byte planes of `raw`, the most significant first."""
    width, rotated = ELEMENTS[element]
    words = numpy.frombuffer(raw, dtype="<u%d" % width).astype(object)
    bits = 8 * width
    if rotated:
        words = [((w << 1) | (w >> (bits - 1))) & ((1 << bits) - 1) for w in words]
    return [bytes((w >> (bits - 8 * (p + 1))) & 0xFF for w in words) for p in range(width)]


def zstd(plane, **options):
    return zstandard.ZstdCompressor(**options).compress(plane)


def encode(plane, mode, options={}):
    if mode == 1:
        assert len(set(plane)) == 1
        return plane[:1]
    return zstd(plane, **options) if mode == 2 else plane


def payload(modes, planes):
    heads = b"".join(struct.pack("<BI", mode, len(body)) for mode, body in zip(modes, planes))
    return heads + b"".join(planes)


def planes_block(element, raw, modes, options={}):
    planes = [encode(plane, mode, options) for plane, mode in zip(planes_of(element, raw), modes)]
    body = payload(modes, planes)
    return header(1, element, len(raw), len(body)) + body


def weights(element, count, seed):
    """Bytes that look like a trained tensor of `element`."""
    values = numpy.random.default_rng(seed).normal(0, 0.02, count)
    width, _ = ELEMENTS[element]
    if element == BF16:
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if element in (F16, F32, F64):
        return values.astype("<f%d" % width).tobytes()
    if element in (14, 15):
        return values.astype("<f%d" % width).tobytes()
    return (values * 500).astype("<i%d" % width).tobytes()


# --- Token streams


def frequency(code):
    return code if code < 8 else (4 + code % 4) * 2 ** (code // 4 - 1)


def counted_table(tokens, contexts, context_count, precision):
    """For each context the frequencies of its tokens, and which of them takes what is left."""
    table = []
    for context in range(context_count):
        counts = Counter(token for token, its in zip(tokens, contexts) if its == context)
        if not counts:
            table.append(([0], 0))
            continue
        total, commonest = sum(counts.values()), max(counts, key=lambda token: (counts[token], -token))
        codes = [0] * (max(counts) + 1)
        for token, count in counts.items():
            wanted = max(1, count * 2**precision // total)
            codes[token] = max(code for code in range(45) if frequency(code) <= wanted)
        codes[commonest] = 0
        while sum(map(frequency, codes)) >= 2**precision:
            codes[codes.index(max(codes))] -= 1
        table.append((codes, commonest))
    return table


def table_bytes(table):
    return b"".join(bytes([len(codes) - 1, commonest, *codes]) for codes, commonest in table)


def lanes_for(tokens):
    """As many as ckpt takes, about: a block may say 4 or 32, however many tokens it has."""
    return 4 if len(tokens) < 4096 else 32


def rans(tokens, contexts, table, precision, end=2**15, lanes=None):
    """The stream. `end` is the state in which a decoder is left, which should be this one."""
    placed = []
    for codes, commonest in table:
        sizes = [frequency(code) for code in codes]
        sizes[commonest] = 2**precision - sum(sizes)
        placed.append([(size, sum(sizes[:token])) for token, size in enumerate(sizes)])
    lanes = lanes or lanes_for(tokens)
    states, words = [end] + [2**15] * (lanes - 1), []
    for i in reversed(range(len(tokens))):
        f, before = placed[contexts[i]][tokens[i]]
        x = states[i % lanes]
        while x >= f << (31 - precision):
            words.append(x % 2**16)
            x >>= 16
        states[i % lanes] = ((x // f) << precision) + x % f + before
    return struct.pack(f"<{lanes}I", *states) + struct.pack(f"<{len(words)}H", *reversed(words))


def token_stream(rest):
    """Lanes, table and stream with their lengths. `packed` is what stands for the table."""
    lengths = struct.pack("<BHH", rest.lanes, len(rest.table), len(rest.packed))
    return lengths + rest.packed + struct.pack("<I", len(rest.stream)) + rest.stream


def coded_stream(tokens, contexts, context_count, precision, pack=False, table=None, lanes=None):
    lanes = lanes or lanes_for(tokens)
    table = table or counted_table(tokens, contexts, context_count, precision)
    plain = table_bytes(table)
    packed = zstd(plain, level=19) if pack else plain
    assert not pack or len(packed) < len(plain), "zstd does not make this table shorter"
    return SimpleNamespace(lanes=lanes, table=plain, packed=packed, stream=rans(tokens, contexts, table, precision, lanes=lanes))


# --- Codec 2, difference


def words_of(raw, width):
    return [int.from_bytes(raw[at : at + width], "little") for at in range(0, len(raw), width)]


def bytes_of(words, width):
    return b"".join(word.to_bytes(width, "little") for word in words)


def ordered(v, bits, is_float):
    if not is_float:
        return v
    return 2**bits - 1 - v if v >= 2 ** (bits - 1) else v + 2 ** (bits - 1)


def signed(value, bits):
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


def folded_difference(bits, b, t, p=None):
    """z, from the ordered integers of base, block and previous."""
    d = t - b
    if p is not None:
        g = signed(b - p, bits)
        q = (abs(g) + 1) >> 1
        d = t - b - q if g >= 0 else b - t - q
    d = signed(d, bits)
    return 2 * d if d >= 0 else -2 * d - 1


def token_of(z, width):
    """The token, and its extra bits as a string of 0 and 1, the lowest first."""
    s = {1: 8, 2: 5, 4: 4, 8: 4}[width]
    if z < 2**s:
        return z, ""
    digits = bin(z)[:1:-1]  # the lowest bit first
    k = len(digits) - 1
    return 2**s + 4 * (k - s) + 2 * int(digits[k - 1]) + int(digits[0]), digits[1 : k - 1]


def bits_to_bytes(bits):
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def unit_list(mask, coded):
    if mask == 0:
        return b""
    if mask == 1:
        return bits_to_bytes("".join("01"[unit] for unit in coded))
    runs, last = [0], False
    for unit in coded:
        if unit != last:
            runs.append(0)
        runs[-1] += 1
        last = unit
    return struct.pack(f"<{len(runs) + 1}H", len(runs), *runs)


def difference(element, raw, bases, *, precision=12, shift=0, mask=0, units=None, starts=0, top=None, pack=False, table=None, lanes=None):
    """The fields of a difference. `units`: those that are coded, where the mask is not 0; else those that differ."""
    width, (exponent, mantissa) = ELEMENTS[element][0], FLOATS.get(element, (0, 0))
    bits = 8 * width - shift
    block, *under = [words_of(data, width) for data in (raw, *bases)]
    count = -(-len(block) // 64)
    coded = [block[64 * i : 64 * i + 64] != under[0][64 * i : 64 * i + 64] for i in range(count)]
    if mask == 0:
        coded = [True] * count
    elif units is not None:
        assert not [i for i in range(count) if coded[i] and i not in units], "a unit that differs is not coded"
        coded = [i in units for i in range(count)]
    fields = SimpleNamespace(
        element=element, raw_count=len(raw), bases=list(bases), precision=precision, shift=shift, mask=mask, reserved=0,
        units=unit_list(mask, coded), rest=None, depth=len(bases), ids=[hashlib.sha256(base).digest() for base in bases],
    )
    places = [i for i in range(len(block)) if coded[i // 64]]
    if not places:
        return fields
    assert all(block[i] % 2**shift == 0 for i in places), "the shift loses bits"

    of_base = [[data[i] >> shift for i in places] for data in under]
    e = [v >> (mantissa - shift) & (2**exponent - 1) if exponent else 0 for v in of_base[0]]
    fields.top = max(e) if top is None else top
    fields.starts = starts
    contexts, tokens, extra = [], [], ""
    for at, i in enumerate(places):
        key = 0 if not exponent or e[at] > fields.top else min(fields.top - e[at], 31)
        context = sum(starts >> k & 1 for k in range(1, key + 1))
        if len(bases) == 2:
            context = 2 * context + (of_base[0][at] != of_base[1][at])
        z = folded_difference(bits, *(ordered(v, bits, exponent) for v in (of_base[0][at], block[i] >> shift)),
                              *(ordered(data[at], bits, exponent) for data in of_base[1:]))
        token, digits = token_of(z, width)
        contexts.append(context)
        tokens.append(token)
        extra += digits
    fields.tokens, fields.contexts = tokens, contexts
    fields.context_count = (bin(starts).count("1") + 1) * len(bases)
    fields.rest = coded_stream(tokens, contexts, fields.context_count, precision, pack, table, lanes)
    fields.extra, fields.extra_bits = bits_to_bytes(extra), len(extra)
    return fields


def difference_block(fields):
    body = fields.units
    if fields.rest:
        body += struct.pack("<HI", fields.top, fields.starts) + token_stream(fields.rest) + fields.extra
    transform = fields.precision | fields.shift << 8 | fields.mask << 16 | fields.reserved << 24
    return header(2, fields.element, fields.raw_count, len(body), fields.depth, len(fields.ids), transform) + b"".join(fields.ids) + body


# --- Codec 3, palette


def palette(element, raw, segment=None, *, precision=12, pack=False, palettes=None, table=None, lanes=None):
    """The fields of a palette: words of each segment in the order in which they come, unless `palettes` says other."""
    width = ELEMENTS[element][0]
    words = words_of(raw, width)
    segment = segment or len(words)
    pieces = [words[at : at + segment] for at in range(0, len(words), segment)]
    palettes = palettes or [list(dict.fromkeys(piece)) for piece in pieces]
    tokens = [its.index(word) for piece, its in zip(pieces, palettes) for word in piece]
    return SimpleNamespace(
        element=element, raw_count=len(raw), transform=precision, depth=0, ids=[], segment=segment, bases=[],
        palettes=b"".join(bytes([len(its) - 1]) + bytes_of(its, width) for its in palettes), tokens=tokens,
        rest=coded_stream(tokens, [0] * len(tokens), 1, precision, pack, table, lanes), extra=b"",
    )


def palette_block(fields):
    body = struct.pack("<I", fields.segment) + fields.palettes
    body += token_stream(fields.rest) + fields.extra
    return header(3, fields.element, fields.raw_count, len(body), fields.depth, len(fields.ids), fields.transform) + b"".join(fields.ids) + body


# --- The cases


def accepted_dense():
    for element, (width, _) in ELEMENTS.items():
        plain = weights(element, 96, element)
        yield f"raw, element {element}", element, raw_block(element, plain), plain
        yield f"raw planes, element {element}", element, planes_block(element, plain, [0] * width), plain
        yield f"zstd planes, element {element}", element, planes_block(element, plain, [2] * width), plain
        word = bytes(range(0x80, 0x80 + width)) * 40
        yield f"constant planes, element {element}", element, planes_block(element, word, [1] * width), word
    yield "raw, empty", BF16, raw_block(BF16, b""), b""
    yield "raw, odd length", BF16, raw_block(BF16, b"abc"), b"abc"
    yield "one word", F64, planes_block(F64, b"\x01\x02\x03\x04\x05\x06\x07\x88", [1, 0] * 4), b"\x01\x02\x03\x04\x05\x06\x07\x88"
    # Signs, NaNs with payloads, infinities and subnormals: the rotation must bring every bit back.
    bf16 = struct.pack("<12H", 0x8000, 0, 0x7FC0, 0xFFC1, 0x7F81, 0x7F80, 0xFF80, 1, 0x8001, 0x7F7F, 0x3F80, 0xBF80)
    yield "special bf16", BF16, planes_block(BF16, bf16, [2, 0]), bf16
    f32 = struct.pack("<8I", 0x80000000, 0x7FC00001, 0xFF800001, 0x7F800000, 0xFF800000, 1, 0x80000001, 0x7F7FFFFF)
    yield "special f32", F32, planes_block(F32, f32, [0, 2, 0, 2]), f32
    f64 = struct.pack("<6Q", 1 << 63, 0x7FF8000000000001, 0xFFF0000000000001, 0x7FF0 << 48, 1, (1 << 63) | 1)
    yield "special f64", F64, planes_block(F64, f64, [2, 0, 0, 2, 0, 2, 0, 0]), f64
    # Mixed modes: the exponents' plane constant, the rest not.
    mixed = struct.pack("<64H", *(0x3C00 | (i * 37) % 128 for i in range(64)))
    yield "mixed modes", F16, planes_block(F16, mixed, [2, 2]), mixed
    low = struct.pack("<64I", *(0x12340000 | i * 1021 for i in range(64)))
    yield "constant upper half", 6, planes_block(6, low, [1, 1, 2, 0]), low
    # Frames of other writers: with a checksum, of strong and weak levels.
    text = b"a block is a piece of a tensor on a fixed grid; " * 30
    for name, options in {
        "checksum": {"write_checksum": True},
        "level 19": {"level": 19}, "level -7": {"level": -7},
    }.items():
        yield f"frame: {name}", U8, planes_block(U8, text, [2], options), text
    noise = numpy.random.default_rng(5).integers(0, 256, 4000, dtype="u1").tobytes()
    yield "frame of stored blocks", U8, planes_block(U8, noise, [2]), noise
    yield "frame of one run", U8, planes_block(U8, b"z" * 4000, [2]), b"z" * 4000
    # The largest block: 256 KiB that repeat 64 bytes.
    largest = text[:64] * 4096
    yield "largest block", U8, planes_block(U8, largest, [2]), largest


def history(element, count, seed, *, reach=5, shift=0):
    """Bytes of three snapshots, the oldest first, that go on much as they went before."""
    random, width, bits = numpy.random.default_rng(seed), ELEMENTS[element][0], 8 * ELEMENTS[element][0] - shift
    first = random.normal(0, reach, count)
    second = 0.5 * first + random.normal(0, reach / 4, count)
    place = [ordered(word >> shift, bits, element in FLOATS) for word in words_of(weights(element, count, seed), width)]
    steps = [numpy.zeros(count, int), first.round().astype(int), second.round().astype(int)]
    found = []
    for step in steps:
        place = [min(max(o + int(d), 0), 2**bits - 1) for o, d in zip(place, step)]
        found.append(bytes_of([unordered(o, bits, element in FLOATS) << shift for o in place], width))
    return found


def unordered(o, bits, is_float):
    if not is_float:
        return o
    return o - 2 ** (bits - 1) if o >= 2 ** (bits - 1) else 2**bits - 1 - o


def random_bytes(seed, count):
    return numpy.random.default_rng(seed).bytes(count)


def sparsely(old, new, width, units):
    """`new` in these units, `old` in the others."""
    size = 64 * width
    return b"".join((new if i in units else old)[i * size : i * size + size] for i in range(-(-len(old) // size)))


def specials(element):
    """Signed zeros, the smallest and largest subnormals and normals, infinities, NaNs with payloads; each after each."""
    width, (exponent, mantissa) = ELEMENTS[element][0], FLOATS[element]
    infinity, sign = (2**exponent - 1) << mantissa, 1 << (8 * width - 1)
    some = [0, 1, 2**mantissa - 1, 2**mantissa, infinity - 1, infinity, infinity + 1, infinity | 1 << (mantissa - 1), sign - 1]
    some += [word | sign for word in some]
    pairs = [(a, b) for a in some for b in some]
    third = [some[i % len(some)] for i in range(len(pairs))]
    return [bytes_of(words, width) for words in (third, [b for _, b in pairs], [a for a, _ in pairs])]


def of_values(element, values, shift):
    """Words of `element` whose low bits are cut off, as of a narrower type."""
    width = ELEMENTS[element][0]
    words = words_of(numpy.asarray(values).astype("<f%d" % width).tobytes(), width)
    return bytes_of([word >> shift << shift for word in words], width)


def accepted_differences():
    """Name, element, packed block, raw bytes, bases, and the bytes after which all three begin again (0: never)."""
    def case(name, element, snapshots, piece=0, **options):
        *under, raw = snapshots
        bases = [base for base in reversed(under)]
        fields = difference(element, raw, bases, **options)
        return f"difference, {name}", element, difference_block(fields), raw, bases, piece

    def both(name, element, snapshots, piece=0, **options):
        yield case(f"{name}, 1 base", element, snapshots[1:], piece, **options)
        yield case(f"{name}, 2 bases", element, snapshots, piece, **options)

    for element, (width, _) in ELEMENTS.items():
        for count in (1, 2):
            yield case(f"element {element}, {count} base", element, history(element, 70, element)[-count - 1 :], precision=10 + (element + count) % 3)
    for element in (U8, F16, BF16, F32, F64):
        width = ELEMENTS[element][0]
        piece = b"".join(history(element, 129, 40 + element))
        old = [piece[i * 129 * width : (i + 1) * 129 * width] for i in range(3)]
        yield from both(f"32 lanes, element {element}", element, [its * 33 for its in old], 129 * width, precision=11)
    for count in (1, 2, 3, 4, 5, 31, 32, 33):
        for lanes in (4, 32):
            yield case(f"{count} words, {lanes} lanes", BF16, history(BF16, count, count), precision=10, lanes=lanes)
    walk = history(BF16, 241, 3)
    for count, piece in (4095, 7), (4096, 64), (4097, 241):
        for lanes in (4, 32):
            yield case(f"{count} words, {lanes} lanes", BF16, [data[: 2 * piece] * (count // piece) for data in walk], 2 * piece, lanes=lanes)

    # Units: of 330 words there are 6, the last of 10.
    old, base, new = history(BF16, 330, 11)
    for mask in (1, 2):
        for name, units in {
            "some units": {1, 2, 4}, "first and last unit": {0, 5}, "all but the last": set(range(5)), "last unit": {5},
            "every other unit": {0, 2, 4},
        }.items():
            if mask == 2 or name != "last unit":
                yield from both(f"mask {mask}, {name}", BF16, [old, base, sparsely(base, new, 2, units)], precision=12, mask=mask, units=units)
        yield from both(f"mask {mask}, no unit", BF16, [old, base, base], precision=11, mask=mask)
        yield case(f"mask {mask}, coded though equal", BF16, [base, base], mask=mask, units=set(range(6)))
        yield case(f"mask {mask}, one word", F64, [bytes(8), bytes(7) + b"\x40"], mask=mask)
        yield case(f"mask {mask}, 64 words", I32, [its[:256] for its in history(I32, 64, 9)], mask=mask)
    for mask in (1, 2):
        its = history(F32, 640, 12)
        units = {0, 1, 2, 4, 5, 6, 9}
        its[2] = sparsely(its[1], its[2], 4, units)
        its = [data[:2560] * 10 for data in its]
        units = {10 * i + unit for i in range(10) for unit in units}
        yield case(f"mask {mask}, 32 lanes", F32, its, 2560, mask=mask, units=units, precision=10)
    old = random_bytes(13, 64)
    base = old[:20] + bytes([old[20] ^ 1]) + old[21:]
    its = [data * 4096 for data in (old, base, base[:-1] + bytes([base[-1] ^ 3]))]
    yield case("largest block", U8, its, 64, precision=12)
    its = [data * 512 for data in history(F64, 64, 13)]
    yield case("largest block, no unit", F64, [its[0], its[0]], 512, mask=2)

    # Shifts.
    normal = numpy.random.default_rng(21).normal(0, 0.02, (3, 70)) * [[1e-3], [1e-3], [1e-3]]
    values = [normal[0] * 1000, normal[0] * 1000 + normal[1], normal[0] * 1000 + normal[1] * 1.5 + normal[2] / 8]
    for name, element, shift in ("bf16 as fp32", F32, 16), ("bf16 as C64", C64, 16), ("bf16 as fp64", F64, 45), ("fp32 as fp64", F64, 29), ("fp32 as C128", C128, 29):
        yield from both(name, element, [of_values(element, its, shift) for its in values], shift=shift, precision=11)
    halves = [numpy.asarray(its, "<f2").astype("<f4").tobytes() for its in values]
    yield from both("fp16 as fp32", F32, halves, shift=13, starts=0b10100)
    for element, shift in (U8, 4), (U16, 4), (I16, 4), (I32, 4), (U64, 4), (I64, 4), (I64, 40), (6, 31), (I64, 63), (U8, 7), (4, 15):
        yield from both(f"multiples of 2^{shift}, element {element}", element, history(element, 70, 70 + element + shift, shift=shift), shift=shift)
    for element in (F16, BF16, F32, F64, E4M3, E5M2, 19, 20):
        mantissa = FLOATS[element][1]
        yield from both(f"powers of two, element {element}", element, history(element, 70, element, reach=1, shift=mantissa), shift=mantissa, precision=10)
    old, base, new = history(F32, 100, 22, shift=16)
    low = bytes(1 if i % 4 == 0 else 0 for i in range(400))
    dirty = bytes(a | b for a, b in zip(base, low))
    yield case("shift over a base with low bits", F32, [old, dirty, new], shift=16, mask=0)
    units = {1}
    yield case("shift, and units that keep low bits", F32, [dirty, sparsely(dirty, new, 4, units)], shift=16, mask=1, units=units)
    yield case("equal but for the bits that a shift loses", F32, [base, dirty, new], shift=16)

    # Classes.
    random = numpy.random.default_rng(23)
    wide = (random.normal(0, 1, 160) * 10.0 ** random.uniform(-30, 20, 160)).astype("<f4")
    steps = [wide, (wide * numpy.float32(1.00001)), (wide * numpy.float32(1.000013))]
    steps = [its.astype("<f4").tobytes() for its in steps]
    for name, options in {
        "two classes": {"starts": 1 << 20}, "a class for each key": {"starts": 0xFFFFFFFE}, "the last key only": {"starts": 1 << 31},
        "top below": {"starts": 0b1110, "top": 100}, "top 0": {"starts": 0b10, "top": 0}, "top at its most": {"starts": 0xF0000000, "top": 255},
    }.items():
        yield from both(f"classes: {name}", F32, steps, precision=12, **options)
    yield case("classes: table packed", F32, steps, starts=0xFFFFFFFE, pack=True, precision=11)
    for element in (F16, BF16, F64, E4M3, E5M2, C64):
        yield from both(f"classes, element {element}", element, history(element, 150, element), starts=0b1011100, precision=11)
    yield case("classes of integers", I32, history(I32, 100, 24), starts=0b110)
    yield from both("classes with a shift", F32, [of_values(F32, its, 16) for its in values], shift=16, starts=0b11110)
    yield case("a type of no floats, with floats in it", U16, history(BF16, 150, 25))

    # Words that are far apart.
    for element in (F16, BF16, F32, F64, E4M3, E5M2):
        yield from both(f"special values, element {element}", element, specials(element), precision=10 + element % 3)
    turned = [bytes_of([word ^ (i % 3 == turn) << 15 for i, word in enumerate(words_of(data, 2))], 2) for turn, data in enumerate(history(BF16, 150, 26))]
    yield from both("sign changes", BF16, turned)
    for element, width in (U8, 1), (U16, 2), (I32, 4), (U64, 8), (I64, 8), (F64, 8), (F32, 4), (BF16, 2):
        random = numpy.random.default_rng(27 + element)
        yield from both(f"noise, element {element}", element, [random.bytes(70 * width) for _ in range(3)], precision=12)
    top = 1 << 63
    pairs = [(0, top), (top, 0), (0, top - 1), (top - 1, 0), (0, 2**64 - 1), (2**64 - 1, 0), (1, top + 1), (top, 2**64 - 1), (5, 5), (0, top >> 1)]
    yield from both("words that differ in the top bit", U64, [bytes_of(its, 8) for its in ([b for _, b in pairs], [a for a, _ in pairs], [b for _, b in pairs])])
    for k in range(4, 64):
        if k % 7 == 3 or k > 60:
            words = [(1 << k) - 1 - (i << (k - 3)) for i in range(4)]
            yield case(f"extra bits of 2^{k}", U64, [bytes(32), bytes_of(words, 8)])

    # Tables that no counting gives.
    old, base, new = history(BF16, 100, 28)
    fields = difference(BF16, new, [base])
    used = max(fields.tokens)
    codes = [1] * (used + 1)
    codes[used] = 0
    for name, table, precision in [
        ("the least common token is called the commonest", [(codes, used)], 10),
        ("tokens of no frequency above and below", [([0] + [8] * used + [0, 0, 0], 1)], 10),
        ("all 76 tokens", [([12] * 75 + [0], 75)], 12),
        ("the largest code", [([43 if token == fields.tokens[0] else 1 if token <= used else 0 for token in range(76)], 75)], 12),
    ]:
        codes, commonest = table[0]
        codes[commonest] = 0
        if min(codes[token] for token in fields.tokens if token != commonest) == 0:
            codes = [code if token == commonest else max(code, 1) for token, code in enumerate(codes)]
        yield case(f"table: {name}", BF16, [base, new], table=[(codes, commonest)], precision=precision)


def accepted_palettes():
    def case(name, element, raw, segment=None, piece=0, **options):
        return f"palette, {name}", element, palette_block(palette(element, raw, segment, **options)), raw, [], piece

    random = numpy.random.default_rng(31)

    def drawn(element, distinct, count):
        width = ELEMENTS[element][0]
        words = words_of(random.bytes(distinct * width), width)
        return bytes_of([words[int(i)] for i in random.integers(0, distinct, count)], width)

    for element, (width, _) in ELEMENTS.items():
        if width > 1:
            yield case(f"element {element}", element, drawn(element, 9, 100), precision=10 + element % 3)
            yield case(f"segments, element {element}", element, b"".join(drawn(element, 5, 60) for _ in range(4))[: -3 * width], 60, precision=11)
    for element, width in (BF16, 2), (F32, 4), (I64, 8):
        yield case(f"one word, {width} bytes", element, bytes(range(0x41, 0x41 + width)) * 50)
        yield case(f"256 words, {width} bytes", element, bytes_of([(i * 0x9E37) % 2**16 for i in range(256)] * 2, width), precision=12)
        yield case(f"table packed, {width} bytes", element, bytes_of(list(range(256)), width), pack=True, precision=10)
        yield case(f"32 lanes, {width} bytes", element, drawn(element, 200, 241) * 17, piece=241 * width)
        yield case(f"32 lanes, segments, {width} bytes", element, drawn(element, 7, 256) * 17, 256, piece=256 * width)
        few = [0] * 60 + [1, 2, 3, 3]
        yield case(f"largest block, {width} bytes", element, bytes_of(few, width) * (4096 // width), piece=64 * width)
    yield case("a segment for each word", BF16, drawn(BF16, 30, 20), 1)
    yield case("one word in all", F64, drawn(F64, 1, 1))
    raw = drawn(I32, 4, 100)
    yield case("a segment longer than the block", I32, raw, 2**32 - 1)
    several = sorted(set(words_of(raw, 4)))
    yield case("words that do not occur, and one twice", I32, raw, palettes=[[0xABCDABCD, *several, several[0], 0]])
    yield case("few words, 32 lanes", F64, drawn(F64, 4, 20), lanes=32)
    yield case("many words, 4 lanes", I32, drawn(I32, 90, 241) * 17, piece=964, lanes=4)
    yield case("zeros of both signs", BF16, struct.pack("<6H", 0, 0x8000, 0x7FC1, 0, 0xFFC1, 0x8000) * 9)


def accepted():
    for name, element, packed, raw in accepted_dense():
        yield name, element, packed, raw, [], 64
    yield from accepted_differences()
    yield from accepted_palettes()


def refused_dense():
    plain = weights(BF16, 64, 1)
    good = planes_block(BF16, plain, [2, 0])
    high, low = planes_of(BF16, plain)
    n = len(plain)

    def planes(name, modes, bodies, count=n, extra=b"", element=BF16, lengths=None):
        heads = b"".join(
            struct.pack("<BI", m, len(b) if lengths is None else lengths[i]) for i, (m, b) in enumerate(zip(modes, bodies)))
        body = heads + b"".join(bodies) + extra
        return name, header(1, element, count, len(body)) + body, count, "malformed"

    yield "nothing", b"", 0, "malformed"
    yield "half a header", good[:8], n, "malformed"
    for codec in (4, 5, 6, 9, 127, 255):
        yield f"codec {codec}", bytes([codec]) + good[1:], n, "unknown"
    for element in (0, 24, 255):
        yield f"element type {element}", good[:1] + bytes([element]) + good[2:], n, "malformed"
    yield "dense with a depth", header(1, BF16, n, len(good) - 16, depth=1) + good[16:], n, "malformed"
    yield "dense with a transform", header(1, BF16, n, len(good) - 16, transform=1) + good[16:], n, "malformed"
    yield "dense with a base", header(1, BF16, n, len(good) - 16, bases=1) + bytes(32) + good[16:], n, "malformed"
    yield "three bases", header(2, BF16, n, len(good) - 16, bases=3) + bytes(96) + good[16:], n, "malformed"
    yield "raw with a depth", header(0, BF16, n, n, depth=1) + plain, n, "malformed"
    yield "payload one too short", good[:-1], n, "malformed"
    yield "payload one too long", good + b"\0", n, "malformed"
    yield "raw, shorter than it says", header(0, BF16, n, n - 2) + plain[:-2], n, "malformed"
    yield "raw, longer than it says", header(0, BF16, n, n + 2) + plain + b"ab", n, "malformed"
    yield planes("mode 3", [3, 0], [high, low])
    yield planes("mode 255", [0, 255], [high, low])
    yield planes("constant of no byte", [1, 0], [b"", low])
    yield planes("constant of two bytes", [1, 0], [b"aa", low])
    yield planes("raw plane too short", [0, 0], [high, low[:-1]])
    yield planes("raw plane too long", [0, 0], [high, low + b"a"])
    yield planes("plane past the block", [0, 0], [high, low], lengths=[len(high), len(low) + 1])
    yield planes("plane of 4 GiB", [0, 2], [high, zstd(low)], lengths=[len(high), 0xFFFFFFFF])
    yield planes("bytes after the last plane", [0, 0], [high, low], extra=b"\0")
    yield planes("frame without a content size", [2, 0], [zstd(high, write_content_size=False), low])
    yield planes("two frames", [2, 0], [zstd(high[:n // 4]) + zstd(high[n // 4:]), low])
    yield planes("empty frame", [2, 0], [b"", low])
    yield planes("frame of nothing", [2, 0], [zstd(b""), low])
    yield planes("frame one short", [2, 0], [zstd(high[:-1]), low])
    yield planes("frame one long", [2, 0], [zstd(high + b"a"), low])
    yield planes("frame that says it holds 1 TiB", [2, 0], [bytes.fromhex("28b52ffde0000000000001000001000061"), low])
    yield planes("frame cut", [2, 0], [zstd(high)[:-1], low])
    yield planes("no frame", [2, 0], [b"not a frame at all", low])
    spoilt = bytearray(zstd(high, write_checksum=True))
    spoilt[-1] ^= 1
    yield planes("frame with a wrong checksum", [2, 0], [bytes(spoilt), low])
    yield planes("frame with a dictionary", [2, 0], [bytes.fromhex("28b52ffd21ff2000000061"), low])
    yield planes("length of half a word", [0, 0], [high, low], count=n - 1)
    yield planes("planes of nothing", [0, 0], [b"", b""], count=0)
    yield "planes without plane headers", header(1, BF16, n, 9) + bytes(9), n, "malformed"
    over = (256 << 10) + 2
    half = bytes(over // 2)
    yield planes("over the largest block", [2, 2], [zstd(half), zstd(half)], count=over)


def table_of(fields, table):
    fields.rest.table = fields.rest.packed = table


def wrong_streams():
    """What is done to the fields of a block with a token stream, to spoil the stream or its table."""
    def stream(change):
        def apply(fields):
            fields.rest.stream = change(fields.rest.stream)
        return apply

    def table(change):
        return lambda fields: table_of(fields, change(bytearray(fields.rest.table)))

    def packed(change):
        def apply(fields):
            fields.rest.packed = change(fields.rest.table)
        return apply

    def first_context(change):
        """Of a table, as last, commonest and codes."""
        def apply(data):
            last, commonest, codes = data[0], data[1], list(data[2 : data[0] + 3])
            last, commonest, codes = change(last, commonest, codes)
            return bytes([last, commonest, *codes]) + data[data[0] + 3 :]
        return table(apply)

    def other(change):
        """Changes the code of a token that is not the commonest one."""
        def apply(last, commonest, codes):
            codes[0 if commonest else 1] = change
            return last, commonest, codes
        return first_context(apply)

    def commonest_with_a_code(last, commonest, codes):
        codes[commonest] = 1
        return last, commonest, codes

    def with_lanes(lanes):
        return lambda fields: setattr(fields.rest, "lanes", lanes)

    yield "no lanes", with_lanes(0)
    yield "32 lanes, said of 4", with_lanes(32)
    yield "a stream one word too short", stream(lambda data: data[:-2])
    yield "a stream one byte too short", stream(lambda data: data[:-1])
    yield "a stream one word too long", stream(lambda data: data + b"\0\0")
    yield "a stream one byte too long", stream(lambda data: data + b"\0")
    yield "a stream of less than its states", stream(lambda data: data[:15])
    yield "no stream", stream(lambda data: b"")
    yield "no table", table(lambda data: b"")
    yield "a table one byte too short", table(lambda data: data[:-1])
    yield "a table one byte too long", table(lambda data: data + b"\0")
    yield "code 45", other(45)
    yield "code 255", other(255)
    yield "the commonest has a code", first_context(commonest_with_a_code)
    yield "the commonest is above the last", first_context(lambda last, _, codes: (last, last + 1, codes))
    yield "a packed table longer than the table", packed(lambda data: data + b"\0")
    yield "a shorter table that is no frame", packed(lambda data: data[:-1])
    yield "a packed table of nothing", packed(lambda data: b"")


def wrong_frames():
    """The same for a table that is packed."""
    def of(change):
        def apply(fields):
            fields.rest.packed = change(fields.rest.table)
            assert len(fields.rest.packed) < len(fields.rest.table)
        return apply

    yield "one byte short", of(lambda data: zstd(data[:-1]))
    yield "one byte long", of(lambda data: zstd(data + b"\0"))
    yield "without its size", of(lambda data: zstd(data, write_content_size=False))
    yield "cut", of(lambda data: zstd(data)[:-1])
    yield "with a byte behind it", of(lambda data: zstd(data) + b"\0")
    yield "in two", of(lambda data: zstd(data[:9]) + zstd(data[9:]))


def refused_differences():
    def broken(name, change, element=BF16, snapshots=None, bases=None, **options):
        *under, raw = snapshots or history(element, 80, 50, reach=100)[1:]
        fields = difference(element, raw, under[::-1], **options)
        change(fields)
        return f"difference, {name}", difference_block(fields), fields.raw_count, "malformed", fields.bases if bases is None else bases

    def setting(**values):
        return lambda fields: fields.__dict__.update(values)

    nothing = setting()
    for precision in (9, 13):
        yield broken(f"precision {precision}", nothing, precision=precision)
    for precision in (0, 32, 255):
        yield broken(f"precision {precision}", setting(precision=precision))
    for bit in (24, 31):
        yield broken(f"transform bit {bit}", setting(reserved=1 << bit - 24))
    for element in (BF16, F16, F32, F64, E4M3, E5M2):
        yield broken(f"shift beyond the mantissa of {element}", setting(shift=FLOATS[element][1] + 1), element)
    for element, bits in (U8, 8), (U16, 16), (I32, 32), (I64, 64), (18, 8), (23, 8):
        yield broken(f"shift of a whole word of {element}", setting(shift=bits), element)
    yield broken("mask 3", setting(mask=3))
    yield broken("mask 255", setting(mask=255))

    _, base, new = history(BF16, 200, 50)
    runs = lambda *runs: struct.pack(f"<{len(runs) + 1}H", len(runs), *runs)
    one = sparsely(base, new, 2, {1})
    yield broken("a unit behind the last", setting(units=bytes([0b00010010])), snapshots=[base, one], mask=1)
    yield broken("only a unit behind the last", lambda fields: fields.__dict__.update(units=b"\x80"), snapshots=[base, base], mask=1)
    for name, units in {
        "a run of no units": runs(1, 1, 0, 0, 2), "a run of no units at the end": runs(1, 1, 2, 0), "runs of a unit less": runs(1, 1, 1),
        "runs of a unit more": runs(1, 1, 3), "runs that end early": runs(1, 1), "no runs": runs(), "a run of 65535": runs(1, 65535),
        "more runs than there are": struct.pack("<4H", 65535, 1, 1, 2),
    }.items():
        yield broken(name, setting(units=units), snapshots=[base, one], mask=2)
    for mask in (1, 2):
        yield broken(f"mask {mask}, a byte behind no unit", lambda fields: fields.__dict__.update(units=fields.units + b"\0"), snapshots=[base, base], mask=mask)
        yield broken(f"mask {mask}, no payload", setting(units=b""), snapshots=[base, base], mask=mask)
        yield broken(f"mask {mask}, nothing behind the units", setting(rest=None), snapshots=[base, one], mask=mask)
        for field, value in ("precision", 9), ("shift", 8), ("reserved", 1):
            yield broken(f"mask {mask}, no unit, {field} {value}", setting(**{field: value}), snapshots=[base, base], mask=mask)
        yield f"difference, mask {mask}, of no words", header(2, BF16, 0, 0, 1, 1, 12 | mask << 16) + bytes(32), 0, "malformed", [b""]
    yield broken("mask 0, no payload", setting(rest=None))
    yield broken("a class that begins at key 0", lambda fields: fields.__dict__.update(starts=fields.starts | 1), starts=0b10)
    for element in (BF16, F16, F32, F64, E4M3, E5M2, U8, I32):
        most = 2 ** FLOATS.get(element, (0, 0))[0]
        yield broken(f"top of {most}, element {element}", setting(top=most), element)
    yield broken("top of 65535", setting(top=65535))

    def total(precision, codes):
        """A table whose tokens but the commonest have these codes, as many as the tokens need."""
        def change(fields):
            last = max(fields.tokens)
            body = ([0] + codes + [0] * last)[: max(last, len(codes)) + 1]
            table_of(fields, bytes([len(body) - 1, 0, *body]))
        return change

    for precision, codes in (10, 36), (11, 40), (12, 44):
        yield broken(f"frequencies that add up to 2^{precision}", total(precision, [codes]), precision=precision)
        yield broken(f"frequencies that add up to 2^{precision} and one", total(precision, [codes, 1]), precision=precision)
    yield broken("frequencies that add up to 2^18", total(12, [44] * 64))
    for element, below in (BF16, 76), (F32, 128):
        _, before, after = history(element, 80, 50)
        codes = [0] + [1] * below
        yield broken(f"token {below} in the table, element {element}", nothing, element, snapshots=[before, after], table=[(codes, 0)])
    yield broken("a context too few", setting(starts=0b1110), starts=0b110)
    yield broken("a context too many", setting(starts=0b110), starts=0b1110)
    for lanes in (1, 2, 3, 5, 8, 16, 31, 33, 64, 128, 255):
        yield broken(f"{lanes} lanes", nothing, lanes=lanes)
    for name, change in wrong_streams():
        yield broken(name, change)
    for name, change in wrong_frames():
        yield broken(f"a table's frame {name}", change, snapshots=history(BF16, 80, 50)[1:], table=[([0] + [12] * 75, 0)])
    for end in (2**15 + 1, 2**15 - 1, 2**16, 1, 2**30):
        def left(fields, end=end):
            table = counted_table(fields.tokens, fields.contexts, fields.context_count, fields.precision)
            fields.rest.stream = rans(fields.tokens, fields.contexts, table, fields.precision, end)
        yield broken(f"a last state of {end}", left)

    old, base, new = history(BF16, 80, 54, reach=100)
    fields = difference(BF16, new, [base])
    assert fields.extra_bits % 8, "no padding to spoil"
    for name, extra in {
        "a byte of extra bits too few": fields.extra[:-1], "a byte of extra bits too many": fields.extra + b"\0", "no extra bits": b"",
    }.items():
        yield broken(name, setting(extra=extra), snapshots=[base, new])
    for name, bit in ("the last bit of the padding", 7), ("the first bit of the padding", fields.extra_bits % 8):
        extra = fields.extra[:-1] + bytes([fields.extra[-1] | 1 << bit])
        yield broken(name, setting(extra=extra), snapshots=[base, new])
    yield broken("extra bits where there are none", setting(extra=b"\0"), snapshots=history(BF16, 80, 51)[1:])

    yield broken("depth 0", setting(depth=0))
    yield broken("no base", setting(ids=[]), bases=[])
    yield broken("its base is missing", nothing, bases=[])
    yield broken("its second base is missing", nothing, snapshots=[old, base, new], bases=[base])
    yield broken("a base one word shorter", nothing, bases=[base[:-2]])
    yield broken("a base one word longer", nothing, bases=[base + b"ab"])
    yield broken("a second base one word shorter", nothing, snapshots=[old, base, new], bases=[base, old[:-2]])
    yield broken("length of half a word", setting(raw_count=159), bases=[base[:-1]])
    yield broken("a word more than the block says", setting(raw_count=158), bases=[base[:-2]])


def refused_palettes():
    def broken(name, change, bases=(), segment=50, **options):
        raw = bytes_of([(i * 7 % 11) * 1000 for i in range(200)], 4)
        fields = palette(I32, raw, segment, **options)
        change(fields)
        return f"palette, {name}", palette_block(fields), fields.raw_count, "malformed", list(bases)

    def setting(**values):
        return lambda fields: fields.__dict__.update(values)

    nothing = setting()
    for precision in (9, 13):
        yield broken(f"precision {precision}", nothing, precision=precision)
    for bit in (8, 16, 31):
        yield broken(f"transform bit {bit}", setting(transform=12 | 1 << bit))
    yield broken("a depth", setting(depth=1))
    yield broken("a base", setting(ids=[bytes(32)]), bases=[bytes(800)])
    yield broken("segment 0", setting(segment=0))
    yield broken("segments too short", setting(segment=49))
    yield broken("segments too long", setting(segment=200))
    for element in (U8, 1, E4M3, 23):
        raw = bytes([3, 4] * 100)
        yield f"palette, of bytes, element {element}", palette_block(palette(element, raw)), 200, "malformed", []
    raw = bytes_of([i % 11 for i in range(200)], 4)
    fields = palette(I32, raw)
    fields.palettes = bytes([9]) + bytes_of(range(10), 4)
    yield "palette, a place at its size", palette_block(fields), 800, "malformed", []
    fields = palette(I32, raw, 100)
    fields.palettes = bytes([10]) + bytes_of(range(11), 4) + bytes([9]) + bytes_of(range(10), 4)
    yield "palette, a place at the size of the last segment's", palette_block(fields), 800, "malformed", []
    fields = palette(I32, raw)
    fields.palettes = bytes([255]) + bytes_of(range(11), 4)
    yield "palette, a palette past the payload", palette_block(fields), 800, "malformed", []
    yield broken("a byte behind it", setting(extra=b"\0"))
    yield "palette, of no words", header(3, I32, 0, 4, transform=12) + struct.pack("<I", 1), 0, "malformed", []
    yield broken("length of half a word", setting(raw_count=798))
    yield broken("a word fewer", setting(raw_count=796))
    yield broken("a word more", setting(raw_count=804))
    for lanes in (8, 16):
        yield broken(f"{lanes} lanes", nothing, lanes=lanes)
    for name, change in wrong_streams():
        yield broken(name, change)
    for name, change in wrong_frames():
        yield broken(f"a table's frame {name}", change, table=[([0] + [4] * 255, 0)])
    fields = palette(I32, raw)
    table_of(fields, bytes([10, 0, 0, 44] + [1] * 9))
    yield "palette, frequencies that add up to 2^12 and more", palette_block(fields), 800, "malformed", []
    fields = palette(I32, raw)
    fields.rest.stream = rans(fields.tokens, [0] * 200, counted_table(fields.tokens, [0] * 200, 1, 12), 12, 2**15 + 1)
    yield "palette, a last state of another value", palette_block(fields), 800, "malformed", []


def refused():
    for name, packed, count, code in refused_dense():
        yield name, packed, count, code, []
    yield from refused_differences()
    yield from refused_palettes()


def text(data):
    return base64.b64encode(data).decode()


def given(raw, bases, piece):
    """Raw bytes and bases, to be taken `times` times."""
    every = [raw, *bases]
    times = len(raw) // piece if piece and len(raw) > piece else 1
    if any(data[:piece] * times != data for data in every):
        times = 1
    raw, *bases = [data[:piece] if times > 1 else data for data in every]
    return {"raw": text(raw), "times": times, **({"bases": [text(base) for base in bases]} if bases else {})}


def main():
    default = pathlib.Path(__file__).parents[3] / "Tests/Golden/codec/blocks.json"
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    document = {
        "zstandard": zstandard.__version__,
        "accepted": [
            {"name": name, "element": element, "packed": text(packed), **given(raw, bases, piece)}
            for name, element, packed, raw, bases, piece in accepted()],
        "refused": [
            {"name": name, "packed": text(packed), "raw_count": count, "code": code,
             **({"bases": [text(base) for base in bases]} if bases else {})}
            for name, packed, count, code, bases in refused()],
    }
    for kind in ("accepted", "refused"):
        names = [case["name"] for case in document[kind]]
        assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=0) + "\n")


if __name__ == "__main__":
    main()
