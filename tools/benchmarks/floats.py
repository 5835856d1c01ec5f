"""What the delta benchmarks share: safetensors files as arrays of words, floats as ordered integers, entropies."""
import json
import os
import struct

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.normpath(f"{HERE}/../../../shared/data")
STEPS = [50, 100, 150, 200, 250, 300]
TRAINER_STEPS = [50, 100, 200, 400]
WORDS = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}


def sft_file(data, step):
    return f"{data}/sft-bf16/step-{step:03d}.safetensors"


def trainer_directory(data, step):
    return f"{data}/trainer-run/checkpoint-{step}"


# -- safetensors


def read_safetensors(path):
    """The header, without metadata and in the order of the data, and the bytes of each tensor."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        header.pop("__metadata__", None)
        content = np.fromfile(file, np.uint8)
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return {name: (entry["dtype"], entry["shape"], content[slice(*entry["data_offsets"])]) for name, entry in entries}


def write_safetensors(path, tensors):
    """Writes {name: (dtype, shape, array)}."""
    header, offset = {}, 0
    for name, (dtype, shape, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, array in tensors.values():
            out.write(np.ascontiguousarray(array).tobytes())


class Words:
    """A checkpoint as one array of words: `tensor` names each word's tensor by number, `header` is what else is kept."""

    def __init__(self, words, lengths, header=b""):
        self.words = words
        self.header = header
        self.tensor = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        self.size = words.nbytes + len(header)

    @classmethod
    def read(cls, path):
        tensors = read_safetensors(path).values()
        kinds = {dtype for dtype, _, _ in tensors}
        assert len(kinds) == 1, f"{path}: tensors of one type only, not {kinds}"
        parts = [content.view(WORDS[dtype]) for dtype, _, content in tensors]
        with open(path, "rb") as file:
            header = file.read(os.path.getsize(path) - sum(part.nbytes for part in parts))
        return cls(np.concatenate(parts), [len(part) for part in parts], header)

    @property
    def bits(self):
        return 8 * self.words.itemsize

    @property
    def bytes(self):
        return self.words.tobytes()


# -- floats


def to_bf16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(words):
    return (words.astype(np.uint32) << 16).view(np.float32)


def to_floats(words):
    return from_bf16(words) if words.dtype == np.uint16 else words.view(np.float32)


def ordered(words):
    """Integers that sort like the floats (bf16 or fp32) in `words`."""
    bits = 8 * words.itemsize
    wide = words.astype(np.int64)
    return np.where(wide >> (bits - 1), (1 << bits) - 1 - wide, wide | 1 << (bits - 1))


def from_ordered(integers, dtype):
    bits = 8 * np.dtype(dtype).itemsize
    return np.where(integers >> (bits - 1), integers ^ 1 << (bits - 1), (1 << bits) - 1 - integers).astype(dtype)


def exponent(words):
    """The eight bits of the exponent of bf16 and fp32 alike."""
    return (words >> (8 * words.itemsize - 9)).astype(np.int64) & 255


def predicted(base, previous):
    """base + 0.5 (base - previous), rounded to the type of the words."""
    value = to_floats(base) + np.float32(0.5) * (to_floats(base) - to_floats(previous))
    return to_bf16(value) if base.dtype == np.uint16 else value.astype(np.float32).view(np.uint32)


# -- entropies


def entropy(symbols):
    """Order-0 entropy in bits a symbol."""
    counts = np.unique(symbols, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def conditional_entropy(symbols, group):
    """Bits a symbol when the group of each is known and every group has statistics of its own."""
    _, group = np.unique(group, return_inverse=True)
    count = int(group.max()) + 1
    return entropy(symbols.astype(np.int64) * count + group) - entropy(group)


def binary_entropy(p):
    return 0.0 if p in (0, 1) else float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def delta_bound(base, value, group=None):
    """Entropy of the ordered difference under the base's exponent, per bit of the value: the bound for bf16."""
    group = exponent(base) if group is None else group
    return conditional_entropy(ordered(value) - ordered(base), group) / (8 * value.itemsize)


def split(magnitude, detail):
    """A number as a symbol (its bit length and `detail` bits below the leading one) and a count of further raw bits."""
    length = np.where(magnitude > 0, np.frexp(magnitude.astype(np.float64))[1], 0).astype(np.int64)
    raw = np.maximum(length - 1 - detail, 0)
    return length << detail + 1 | magnitude >> raw & (1 << detail) - 1, raw


def wide_delta_bound(base, value, tensor, detail=5, signed=False):
    """The bound for fp32, where whole differences are too many to count: the zigzagged difference's bit length and its
    five bits below the leading one, given tensor and exponent of the base; the rest is raw. `signed` codes the sign
    with the bit length, where zigzag leaves it as the lowest raw bit."""
    difference = ordered(value) - ordered(base)
    if signed:
        symbol, raw = split(np.abs(difference), detail)
        symbol = symbol * 2 + (difference < 0)
    else:
        symbol, raw = split(difference * 2 ^ difference >> 63, detail)
    group = tensor << 8 | exponent(base)
    return (conditional_entropy(symbol, group) + float(raw.mean())) / (8 * value.itemsize)


def dense_bound(words, tensor, detail=5):
    """Without a base: sign, exponent and the upper `detail` bits of the fraction given the tensor, the rest raw."""
    raw = 8 * words.itemsize - 9 - detail
    return (conditional_entropy(words >> max(raw, 0), tensor) + max(raw, 0)) / (8 * words.itemsize)


def cosine(first, second):
    first, second = first.astype(np.float64), second.astype(np.float64)
    norms = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / norms) if norms else 0.0
