"""Writes Tests/Golden/formats/safetensors-cases.json: small files and what the safetensors package says of them.

    python make_safetensors_cases.py [OUTPUT]

Needs the package `safetensors` (the committed cases were made with 0.8.0, which is named in the output). Every
case is a whole file in hexadecimal with the verdict of `safetensors.deserialize`, and for an accepted one its
tensors with dtype, shape and bytes. The mutations come from a fixed seed: two runs write the same cases.
"""

import json
import pathlib
import random
import struct
import sys

import safetensors

ENTRY = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
DATA = bytes([1, 2, 3, 4])


def file(header, data=b"", length=None):
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(dtype, shape, begin, end):
    return '{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}' % (dtype, json.dumps(shape), begin, end)


def one(dtype, shape, size):
    return file('{"a":%s}' % tensor(dtype, shape, 0, size), bytes(range(size)))


def listed_cases():
    """The rules, one by one."""
    plain = '{"a":{%s}}' % ENTRY
    yield "plain", file(plain, DATA)
    yield "no tensors", file("{}")
    yield "no tensors and data", file("{}", DATA)
    yield "empty file", b""
    yield "seven bytes", bytes(7)
    yield "header of length zero", file("")
    yield "length past the file", file(plain, DATA, length=4000)
    yield "length of 2^64 - 1", file(plain, DATA, length=2**64 - 1)
    yield "length just over 100 MB", file(plain, DATA, length=100_000_001)
    yield "not UTF-8 in a name", file(b'{"\xff":{%s}}' % ENTRY.encode(), DATA)
    yield "overlong UTF-8", file(b'{"\xc0\xaf":{%s}}' % ENTRY.encode(), DATA)
    yield "surrogate in UTF-8", file(b'{"\xed\xa0\x80":{%s}}' % ENTRY.encode(), DATA)
    yield "not UTF-8 outside strings", file(plain.encode() + b"\xff", DATA)
    yield "NUL padding", file(plain + "\0\0\0", DATA)
    yield "space padding", file(plain + " " * 50, DATA)
    yield "leading space", file("   " + plain, DATA)
    yield "leading newline and tab", file("\n\t" + plain + "\r\n", DATA)
    yield "byte order mark", file("\ufeff" + plain, DATA)
    yield "trailing comma", file('{"a":{%s},}' % ENTRY, DATA)
    yield "trailing comma in shape", file('{"a":{"dtype":"F32","shape":[1,],"data_offsets":[0,4]}}', DATA)
    yield "single quotes", file(plain.replace('"', "'"), DATA)
    yield "NaN in an extra field", file('{"a":{"x":NaN,%s}}' % ENTRY, DATA)
    yield "control character in a name", file('{"a\x01":{%s}}' % ENTRY, DATA)
    yield "delete character in a name", file('{"a\x7f":{%s}}' % ENTRY, DATA)
    yield "array", file("[]")
    yield "null", file("null")
    yield "null tensor", file('{"b":null,"a":{%s}}' % ENTRY, DATA)

    yield "metadata", file('{"__metadata__":{"format":"pt"},"a":{%s}}' % ENTRY, DATA)
    yield "metadata null", file('{"__metadata__":null,"a":{%s}}' % ENTRY, DATA)
    yield "metadata array", file('{"__metadata__":[],"a":{%s}}' % ENTRY, DATA)
    yield "metadata with a number", file('{"__metadata__":{"x":1},"a":{%s}}' % ENTRY, DATA)
    yield "metadata with null", file('{"__metadata__":{"x":null},"a":{%s}}' % ENTRY, DATA)
    yield "metadata twice", file('{"__metadata__":{},"__metadata__":{},"a":{%s}}' % ENTRY, DATA)
    yield "metadata null twice", file('{"__metadata__":null,"__metadata__":null,"a":{%s}}' % ENTRY, DATA)
    yield "metadata key twice", file('{"__metadata__":{"x":"1","x":"2"},"a":{%s}}' % ENTRY, DATA)
    yield "metadata key escaped", file('{"__meta\\u0064ata__":{"x":"1"},"a":{%s}}' % ENTRY, DATA)

    for name, bits in [
        ("BOOL", 8), ("U8", 8), ("I8", 8), ("U16", 16), ("I16", 16), ("U32", 32), ("I32", 32), ("U64", 64),
        ("I64", 64), ("F16", 16), ("BF16", 16), ("F32", 32), ("F64", 64), ("C64", 64), ("C128", 128),
        ("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8), ("F8_E4M3FNUZ", 8), ("F8_E5M2FNUZ", 8), ("F6_E2M3", 6),
        ("F6_E3M2", 6), ("F4", 4), ("F8", 8), ("f32", 32), ("Float", 32), ("", 8),
    ]:  # fmt: skip
        yield f"dtype {name}", one(name, [4], 4 * bits // 8)
        yield f"dtype {name}, one element", one(name, [1], (bits + 7) // 8)
    yield "dtype escaped", file('{"a":%s}' % tensor("F\\u00332", [1], 0, 4), DATA)
    yield "dtype as a map", file('{"a":{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}}', DATA)
    yield "dtype as a map of a map", file('{"a":{"dtype":{"F32":{}},"shape":[1],"data_offsets":[0,4]}}', DATA)
    yield "dtype as an empty map", file('{"a":{"dtype":{},"shape":[1],"data_offsets":[0,4]}}', DATA)
    yield "dtype as a map of two", file('{"a":{"dtype":{"F32":null,"F16":null},"shape":[1],"data_offsets":[0,4]}}', DATA)
    yield "dtype number", file('{"a":{"dtype":11,"shape":[1],"data_offsets":[0,4]}}', DATA)
    yield "sub-byte to the byte", one("F4", [3, 2], 3)
    yield "sub-byte to half a byte", one("F4", [3], 2)
    yield "sub-byte to half a byte, rounded down", one("F4", [3], 1)
    yield "sub-byte empty", one("F4", [0], 0)

    yield "scalar", one("F32", [], 4)
    yield "entry as an array", file('{"a":["F32",[1],[0,4]]}', DATA)
    yield "entry as an array of four", file('{"a":["F32",[1],[0,4],5]}', DATA)
    yield "entry as an array of two", file('{"a":["F32",[1]]}', DATA)
    yield "field order", file('{"a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}}', DATA)
    yield "field missing", file('{"a":{"dtype":"F32","data_offsets":[0,4]}}', DATA)
    yield "field twice", file('{"a":{"dtype":"F32",%s}}' % ENTRY, DATA)
    yield "offsets twice", file('{"a":{"data_offsets":[0,4],%s}}' % ENTRY, DATA)
    yield "field name escaped", file('{"a":{"d\\u0074ype":"F32","shape":[1],"data_offsets":[0,4]}}', DATA)
    yield "extra fields", file('{"a":{"x":{"y":[1,-2.5e-3,true,false,null,"z"]},%s}}' % ENTRY, DATA)
    yield "extra field twice", file('{"a":{"x":1,"x":2,%s}}' % ENTRY, DATA)
    for text in ["1e400", "-1e400", "1e-400", "0e99999999999", "-0", "-", "01", "1.", ".5", "1e", "1e+", "+1", "0x1",
                 "1" + "0" * 400, "1.5E+3", "tru", "nul", "18446744073709551616", "-9223372036854775809", "Infinity"]:  # fmt: skip
        yield f"extra field of {text[:24]}", file('{"a":{"x":%s,%s}}' % (text, ENTRY), DATA)
    for text in ['"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ud800\\ud800"', '"\\ud800x"', '"\\u12"', '"\\x41"',
                 '"\\/\\b\\f\\n\\r\\t\\"\\\\"', '"\\uD83D\\uDE00"', '"open']:  # fmt: skip
        yield f"extra field of {text}", file('{"a":{"x":%s,%s}}' % (text, ENTRY), DATA)
    for depth in (10, 125, 126, 127, 128, 5000):
        yield f"{depth} arrays deep", file('{"a":{"x":%s%s,%s}}' % ("[" * depth, "]" * depth, ENTRY), DATA)
        if depth < 5000:
            yield f"{depth} objects deep", file('{"a":{"x":%s0%s,%s}}' % ('{"k":' * depth, "}" * depth, ENTRY), DATA)

    for name in ["", "\\u0000", "weights/\\u00e9", "e\\u0301", "\u00e9", "日本語", "a\\\"b", "\\ud83d\\ude00", "__metadata_"]:
        yield f"name {name!r}", file('{"%s":{%s}}' % (name, ENTRY), DATA)
    yield "canonically equal names", file(
        '{"\u00e9":%s,"e\u0301":%s}' % (tensor("U8", [1], 0, 1), tensor("U8", [1], 1, 2)), b"ab")
    yield "name twice", file('{"a":%s,"a":{%s}}' % (tensor("F16", [1], 0, 2), ENTRY), DATA)
    yield "name twice, the other order", file('{"a":{%s},"a":%s}' % (ENTRY, tensor("F16", [1], 0, 2)), DATA)
    yield "name twice, first malformed", file('{"a":{"dtype":"X","shape":[1],"data_offsets":[0,2]},"a":{%s}}' % ENTRY, DATA)
    yield "name twice, first with absurd offsets", file('{"a":%s,"a":{%s}}' % (tensor("F16", [1], 9, 2), ENTRY), DATA)

    for text in ["[-1]", "[1.0]", "[1e0]", "[-0]", "null", "{}", '["1"]', "1", "[true]", "[18446744073709551616,0]",
                 "[18446744073709551615,0]", "[0,18446744073709551615,2]", "[18446744073709551615,2,0]", "[0]",
                 "[4294967296,4294967296]", "[2305843009213693952]", "[4611686018427387904]"]:  # fmt: skip
        for size in (0, 4):
            yield f"shape {text}, {size} bytes", file(
                '{"a":{"dtype":"F32","shape":%s,"data_offsets":[0,%d]}}' % (text, size), DATA[:size])
    for text in ["[0]", "[0,4,5]", '{"0":0,"1":4}', "[4,0]", "[0,4.0]", "[-0,4]", "null", "[0,18446744073709551615]",
                 "[18446744073709551612,18446744073709551615]", "[1,5]", '["0","4"]']:  # fmt: skip
        yield f"data_offsets {text}", file('{"a":{"dtype":"F32","shape":[1],"data_offsets":%s}}' % text, DATA)

    yield "size too large for the offsets", file('{"a":%s}' % tensor("F32", [2], 0, 4), DATA)
    yield "size too small for the offsets", file('{"a":%s}' % tensor("F32", [1], 0, 8), DATA * 2)
    yield "hole at the start", file('{"a":%s}' % tensor("F32", [1], 4, 8), DATA * 2)
    yield "hole in the middle", file('{"a":%s,"b":%s}' % (tensor("U8", [1], 0, 1), tensor("U8", [1], 2, 3)), b"abc")
    yield "overlap", file('{"a":%s,"b":%s}' % (tensor("U8", [2], 0, 2), tensor("U8", [2], 1, 3)), b"abc")
    yield "two over the same bytes", file('{"a":{%s},"b":{%s}}' % (ENTRY, ENTRY), DATA)
    yield "trailing byte", file(plain, DATA + b"x")
    yield "truncated data", file(plain, DATA[:3])
    yield "no data", file(plain)
    yield "unordered", file(
        '{"z":%s,"a":%s,"m":%s}' % (tensor("U8", [1], 2, 3), tensor("U8", [1], 1, 2), tensor("U8", [1], 0, 1)), b"abc")
    yield "unaligned", file('{"a":%s,"b":%s}' % (tensor("U8", [1], 0, 1), tensor("F64", [1], 1, 9)), bytes(9))
    empty = tensor("F32", [0], 0, 0)
    yield "two empty tensors", file('{"a":%s,"b":%s}' % (empty, empty))
    yield "empty tensors at both ends", file('{"b":%s,"a":{%s},"c":%s}' % (tensor("F32", [0], 4, 4), ENTRY, empty), DATA)
    yield "empty tensor inside another", file('{"a":{%s},"b":%s}' % (ENTRY, tensor("F32", [0], 2, 2)), DATA)
    yield "empty tensor past the end", file('{"a":{%s},"b":%s}' % (ENTRY, tensor("F32", [0], 8, 8)), DATA)


def mutations(seed, count):
    """Files that were good until a few edits; those whose verdict may go either way are the interesting ones."""
    chance = random.Random(seed)
    headers = [
        ('{"__metadata__":{"format":"pt"},"w":%s,"b":%s}' % (tensor("BF16", [2, 3], 0, 12), tensor("F32", [1], 12, 16)), 16),
        ('{"x":%s, "y":%s}  ' % (tensor("I64", [], 0, 8), tensor("U8", [0, 3], 8, 8)), 8),
        ('{"q":["F16",[2,2],[0,8]],"r":{"extra":[1,{"k":"v\\u00e9"}],%s}}' % ENTRY.replace("0,4", "8,12"), 12),
    ]
    tokens = ['"', ",", ":", "{", "}", "[", "]", "0", "1", "9", "-", ".", "e", " ", "\n", "\\", "null", '""', "[]", "{}",
              "F4", "\\u0041", "\x00", "é", '"x":1,', "4", "8"]  # fmt: skip
    made = 0
    while made < count:
        header, size = chance.choice(headers)
        data = bytes(range(size))
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            at = chance.randrange(len(header))
            kind = chance.randrange(7)
            if kind == 0:
                header = header[:at] + header[at + 1 :]
            elif kind == 1:
                header = header[:at] + chance.choice(tokens) + header[at:]
            elif kind == 2:
                header = header[:at] + chance.choice(tokens) + header[at + 1 :]
            elif kind == 3:
                digits = [i for i, c in enumerate(header) if c.isdigit()]
                at = chance.choice(digits)
                header = header[:at] + chance.choice("0123456789") + header[at + 1 :]
            elif kind < 6:
                places = [i for i, c in enumerate(header) if c in ",:{[]}"]
                at = chance.choice(places) + chance.randrange(2)
                header = header[:at] + chance.choice([" ", "\n", "\t", "  "]) + header[at:]
            else:
                end = min(len(header), at + chance.randrange(1, 20))
                header = header[:at] + header[at:end] + header[at:]
        raw = header.encode()
        length = len(raw) + (chance.choice([-1, 1, 5]) if chance.random() < 0.05 else 0)
        if chance.random() < 0.1:
            data = data[: chance.randrange(len(data) + 1)] + bytes(chance.randrange(2))
        made += 1
        yield f"mutation {made}", struct.pack("<Q", length) + raw + data


def verdict(name, data):
    case = {"name": name, "file": data.hex()}
    try:
        tensors = safetensors.deserialize(data)
    except safetensors.SafetensorError as refusal:
        case["refused"] = str(refusal)[:80]
        return case
    tensors.sort(key=lambda item: item[0].encode())
    case["tensors"] = [
        {"name": name, "dtype": info["dtype"], "shape": info["shape"], "data": bytes(info["data"]).hex()}
        for name, info in tensors
    ]
    return case


def main():
    root = pathlib.Path(__file__).resolve().parents[3]
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "Tests/Golden/formats/safetensors-cases.json"
    cases = [verdict(*case) for case in listed_cases()] + [verdict(*case) for case in mutations(20250801, 500)]
    accepted = sum("tensors" in case for case in cases)
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    output.write_text('{"safetensors": "%s", "cases": [\n%s\n]}\n' % (safetensors.__version__, lines))
    print(f"{len(cases)} cases, {accepted} accepted, {output.stat().st_size} bytes")


main()
