"""Writes Tests/Golden/codec/blocks.json: packed blocks built by hand, for the decoder to read or to refuse.

    python make_blocks.py [OUTPUT]

Needs numpy and zstandard (the committed blocks were made with 2.4.6 and 0.25.0). Nothing of ckpt is used: the
layout below is the format's own description. Two runs write the same bytes.

A packed block: codec (1 byte; 0 raw, 1 planes), element type (1), depth (1), bases (1), raw length (4), payload
length (4), transform (4), little-endian; then the payload. A payload of planes: for each byte of a word, the most
significant first, a mode (1 byte; 0 raw, 1 constant, 2 zstd) and a length (4); then the planes' bytes in that order.
Words of floats of 16 bits and more are rotated left by one bit before they are cut into planes.
"""

import base64
import json
import pathlib
import struct
import sys

import numpy
import zstandard

# Element type -> (bytes of a word, rotated).
ELEMENTS = {
    1: (1, False), 2: (1, False), 3: (1, False), 4: (2, False), 5: (2, False), 6: (4, False), 7: (4, False),
    8: (8, False), 9: (8, False), 10: (2, True), 11: (2, True), 12: (4, True), 13: (8, True), 14: (4, True),
    15: (8, True), 16: (1, False), 17: (1, False), 18: (1, False), 19: (1, False), 20: (1, False), 21: (1, False),
    22: (1, False), 23: (1, False),
}
U8, I16, U64, F16, BF16, F32, F64 = 2, 5, 8, 10, 11, 12, 13


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


def accepted():
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


def refused():
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
    for codec in (2, 5, 6, 127, 255):
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


def repeated(raw):
    """The raw bytes as `raw`, to be taken `times` times."""
    piece = raw[:64]
    times = len(raw) // 64 if len(raw) > 64 and piece * (len(raw) // 64) == raw else 1
    return {"raw": base64.b64encode(piece if times > 1 else raw).decode(), "times": times}


def main():
    default = pathlib.Path(__file__).parents[3] / "Tests/Golden/codec/blocks.json"
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    text = lambda data: base64.b64encode(data).decode()
    document = {
        "zstandard": zstandard.__version__,
        "accepted": [
            {"name": name, "element": element, "packed": text(packed), **repeated(raw)}
            for name, element, packed, raw in accepted()],
        "refused": [
            {"name": name, "packed": text(packed), "raw_count": count, "code": code}
            for name, packed, count, code in refused()],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=0) + "\n")


if __name__ == "__main__":
    main()
