#!/usr/bin/env python3
"""Sizes and speeds of other codecs on series of checkpoints, and the entropy bounds that deltas are held against.

    delta_peers.py [--data DIR] [--series sft-bf16,weights,exp_avg,exp_avg_sq] [--codecs zipnn,bitx]
                   [--repeat 3] [--core N] [--json FILE]
    delta_peers.py --files A.safetensors B.safetensors ...

One thread, pinned to one core; every result is decoded and compared. Sizes are packed/raw with the file's header packed
by zstd -3. A codec with a base packs the first file of a series as ZipNN does. BitX is written here with numpy and
zstd, for its sizes; published speeds are 5.8 / 7.7 GB/s on 48 vCPU.
"""
import argparse
import json
import os
import pickle
import statistics
import sys
import time
import zipfile
from collections import OrderedDict

import numpy as np
import zstandard

from floats import (DATA, STEPS, TRAINER_STEPS, Words, cosine, delta_bound, dense_bound, exponent, predicted, sft_file,
                    to_floats, trainer_directory, wide_delta_bound)

ZSTD = zstandard.ZstdCompressor(level=3)
UNZSTD = zstandard.ZstdDecompressor()


# -- the codecs: pack(words, base) gives a list of byte strings, unpack(packed, base) the words' bytes


class Zstd:
    base = None

    def __init__(self, level):
        self.name = f"zstd -{level}"
        self.slow = level > 9
        self.compressor = zstandard.ZstdCompressor(level=level)

    def pack(self, data, base):
        return [self.compressor.compress(data)]

    def unpack(self, packed, base):
        return UNZSTD.decompress(packed[0])


class ZipNN:
    name, base, slow = "ZipNN", None, False

    def __init__(self, bits):
        from zipnn import ZipNN

        self.codec = ZipNN(bytearray_dtype="bfloat16" if bits == 16 else "float32", threads=1)

    def pack(self, data, base):
        return [bytes(self.codec.compress(bytearray(data)))]  # it changes its input: a copy

    def unpack(self, packed, base):
        return self.codec.decompress(packed[0])


class OpenZL:
    """The float nodes of OpenZL with a coder for the exponents, or its generic graph: `best` is the smallest."""

    name, base, slow = "OpenZL", None, False

    def __init__(self, bits, coder):
        import openzl.ext as zl

        self.zl, self.type, self.coder = zl, np.dtype(f"u{bits // 8}"), coder
        self.compressor = zl.Compressor()
        self.compressor.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
        graph = self.graph("BFloat16Deconstruct" if bits == 16 else "Float32Deconstruct")
        self.compressor.select_starting_graph(graph)

    def graph(self, node):
        nodes, graphs, compressor = self.zl.nodes, self.zl.graphs, self.compressor
        if self.coder == "generic":
            return graphs.Compress()(compressor)
        return getattr(nodes, node)()(compressor, graphs.Store()(compressor), getattr(graphs, self.coder)()(compressor))

    @classmethod
    def best(cls, data, bits):
        codecs = [cls(bits, coder) for coder in ["Fse", "Huffman", "Entropy", "generic"]]
        smallest = min(codecs, key=lambda codec: len(codec.pack(data, None)[0]))
        print(f"OpenZL's smallest profile here: {smallest.coder}", file=sys.stderr)
        return smallest

    def pack(self, data, base):
        context = self.zl.CCtx()
        context.ref_compressor(self.compressor)
        return [context.compress([self.zl.Input(self.zl.Type.Numeric, np.frombuffer(data, self.type))])]

    def unpack(self, packed, base):
        return self.zl.DCtx().decompress(packed[0])[0].content.as_nparray().tobytes()


class BitX:
    """XOR against a base. bf16: exponent plane, sign and fraction plane. fp32: rotated left by one, four byte planes."""

    slow = False

    def __init__(self, bits, base):
        self.name = f"BitX, {'against the first' if base == 'first' else 'chained'}"
        self.base, self.type = base, np.dtype(f"u{bits // 8}")

    def pack(self, data, base):
        flips = np.frombuffer(data, self.type) ^ np.frombuffer(base, self.type)
        if self.type.itemsize == 2:
            planes = [(flips >> 7).astype(np.uint8), (flips >> 8 & 0x80 | flips & 0x7F).astype(np.uint8)]
        else:
            rotated = flips << 1 | flips >> 31
            planes = [(rotated >> shift).astype(np.uint8) for shift in (24, 16, 8, 0)]
        return [ZSTD.compress(plane) for plane in planes]

    def unpack(self, packed, base):
        planes = [np.frombuffer(UNZSTD.decompress(part), np.uint8).astype(self.type) for part in packed]
        if self.type.itemsize == 2:
            flips = planes[0] << 7 | (planes[1] & 0x80) << 8 | planes[1] & 0x7F
        else:
            rotated = planes[0] << 24 | planes[1] << 16 | planes[2] << 8 | planes[3]
            flips = rotated >> 1 | rotated << 31
        return (flips ^ np.frombuffer(base, self.type)).tobytes()


class Z4AI:
    name, base, slow = "z4ai delta", "previous", True

    def __init__(self, bits):
        import z4ai

        self.z4ai, self.dtype = z4ai, "bf16" if bits == 16 else "fp32"

    def pack(self, data, base):
        return [self.z4ai.compress_delta(data, base, dtype=self.dtype, threads=1)]

    def unpack(self, packed, base):
        return self.z4ai.decompress_delta(packed[0], base)


CODECS = ["zstd", "zstd19", "zipnn", "openzl", "bitx", "bitx-chained", "z4ai"]


def codecs(first, wanted):
    """Each codec wanted that is installed."""
    makers = [lambda: Zstd(3), lambda: Zstd(19), lambda: ZipNN(first.bits), lambda: OpenZL.best(first.bytes, first.bits),
              lambda: BitX(first.bits, "first"), lambda: BitX(first.bits, "previous"), lambda: Z4AI(first.bits)]
    for name, make in zip(CODECS, makers):
        if name not in wanted:
            continue
        try:
            yield make()
        except ImportError:
            print(f"{name} is not installed: its rows are missing", file=sys.stderr)


# -- measuring


def measure(codec, value, base, repeat):
    """Packed bytes, GB/s in and out (medians), after a comparison of what comes back."""
    data, base = value.bytes, base and base.bytes
    packing, unpacking = [], []
    for _ in range(1 if codec.slow else repeat):
        start = time.perf_counter()
        packed = codec.pack(data, base)
        packing.append(time.perf_counter() - start)
        start = time.perf_counter()
        back = codec.unpack(packed, base)
        unpacking.append(time.perf_counter() - start)
        assert bytes(back) == data, f"{codec.name} gives other bytes back"
    gb = len(data) / 1e9
    size = sum(map(len, packed)) + len(ZSTD.compress(value.header))
    return size, gb / statistics.median(packing), gb / statistics.median(unpacking)


def peers(name, steps, series, wanted, repeat):
    rows = []
    print(f"\n### {name}: peers\n\n| step | codec | packed/raw | GB/s in | GB/s out |\n|---|---|---|---|---|")
    dense_first = None
    for codec in codecs(series[0], wanted):
        total, speeds = 0, []
        for index, value in enumerate(series):
            if codec.base and index == 0:
                # What has a base packs the first as ZipNN does (as ZipLLM, BitX's store, does).
                if dense_first is None:
                    dense_first = measure(ZipNN(value.bits), value, None, 1)[0]
                total += dense_first
                continue
            base = {"first": series[0], "previous": series[index - 1]}[codec.base] if codec.base else None
            size, fast_in, fast_out = measure(codec, value, base, repeat)
            if codec.name == "ZipNN" and index == 0:
                dense_first = size
            total += size
            speeds.append((fast_in, fast_out))
            rows.append({"series": name, "step": steps[index], "codec": codec.name, "packed_bytes": size,
                         "raw_bytes": value.size, "ratio": size / value.size, "in_gb_s": fast_in, "out_gb_s": fast_out})
            print(f"| {steps[index]} | {codec.name} | {size / value.size:.4f} | {fast_in:.3g} | {fast_out:.3g} |", flush=True)
        raw = sum(value.size for value in series)
        fast_in, fast_out = (statistics.median(column) for column in zip(*speeds))
        rows.append({"series": name, "step": "all", "codec": codec.name, "packed_bytes": total, "raw_bytes": raw,
                     "ratio": total / raw, "in_gb_s": fast_in, "out_gb_s": fast_out})
        print(f"| all {len(series)} | {codec.name} | **{total / raw:.4f}** | {fast_in:.3g} | {fast_out:.3g} |", flush=True)
    return rows


def statistics_of(base, value, previous):
    """What a pair is like: words unchanged, and the cosine of its update with the one before."""
    update = to_floats(value.words) - to_floats(base.words)
    row = {"unchanged": float((base.words == value.words).mean())}
    if previous:
        row["cosine"] = cosine(to_floats(base.words) - to_floats(previous.words), update)
    return row


def bounds(name, steps, series):
    """Entropies that no order-0 coder under the base's exponent passes. Whole differences for bf16; for fp32 their upper
    bits, with the sign as zigzag leaves it and with the sign coded too. `predicted` is against base + 0.5 (base -
    previous), in bf16 still grouped by the base's exponent."""
    rows = []
    print(f"\n### {name}: bounds, share of the raw bits\n")
    print("| step | dense | unchanged | cosine | difference | predicted | difference, sign coded |\n|---|---|---|---|---|---|---|")
    for index, value in enumerate(series):
        row = {"series": name, "step": steps[index], "dense": dense_bound(value.words, value.tensor, 0)}
        if index > 0:
            base, previous = series[index - 1], series[index - 2] if index > 1 else None
            guess = predicted(base.words, previous.words) if previous else None
            row |= statistics_of(base, value, previous)
            if value.bits == 16:
                row["difference"] = delta_bound(base.words, value.words)
                if previous:
                    row["predicted"] = delta_bound(guess, value.words, exponent(base.words))
            else:
                row["difference"] = wide_delta_bound(base.words, value.words, value.tensor)
                row["difference_sign_coded"] = wide_delta_bound(base.words, value.words, value.tensor, signed=True)
                if previous:
                    row["predicted"] = wide_delta_bound(guess, value.words, value.tensor)
        keys = ["dense", "unchanged", "cosine", "difference", "predicted", "difference_sign_coded"]
        print(f"| {steps[index]} | " + " | ".join(f"{row[key]:.4f}" if key in row else "" for key in keys) + " |", flush=True)
        rows.append(row)
    return rows


# -- the series


class TorchFile(pickle.Unpickler):
    """The tensors of a PyTorch zip as flat numpy arrays; nothing else than what an optimizer's state needs is built."""

    def __init__(self, path):
        self.archive = zipfile.ZipFile(path)
        self.folder = next(name for name in self.archive.namelist() if name.endswith("/data.pkl")).rpartition("/")[0]
        super().__init__(self.archive.open(f"{self.folder}/data.pkl"))

    def find_class(self, module, name):
        known = {("torch._utils", "_rebuild_tensor_v2"): self.tensor, ("torch", "FloatStorage"): np.uint32,
                 ("collections", "OrderedDict"): OrderedDict}
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} in an optimizer's state")
        return known[module, name]

    def persistent_load(self, reference):
        _, kind, key, _, _ = reference
        return np.frombuffer(self.archive.read(f"{self.folder}/data/{key}"), kind)

    @staticmethod
    def tensor(storage, offset, shape, *_):
        return storage[offset:offset + int(np.prod(shape))]


def moments(data, kind):
    """One moment of AdamW at each step of the trainer's run: all its tensors in order."""
    for step in TRAINER_STEPS:
        state = TorchFile(f"{trainer_directory(data, step)}/optimizer.pt").load()["state"]
        parts = [state[index][kind] for index in sorted(state)]
        yield Words(np.concatenate(parts), [len(part) for part in parts])


def load(name, data):
    if name == "sft-bf16":
        return STEPS, [Words.read(sft_file(data, step)) for step in STEPS]
    if name == "weights":
        return TRAINER_STEPS, [Words.read(f"{trainer_directory(data, step)}/model.safetensors") for step in TRAINER_STEPS]
    return TRAINER_STEPS, list(moments(data, name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--series", default="sft-bf16,weights,exp_avg,exp_avg_sq")
    parser.add_argument("--files", nargs="+", help="a series of your own: safetensors files of one element type")
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    parser.add_argument("--no-bounds", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    os.sched_setaffinity(0, [options.core])
    result = {"peers": [], "bounds": []}
    for name in ["files"] if options.files else options.series.split(","):
        if options.files:
            steps = [os.path.basename(path) for path in options.files]
            series = [Words.read(path) for path in options.files]
        else:
            steps, series = load(name, options.data)
        if not options.no_bounds:
            result["bounds"] += bounds(name, steps, series)
        result["peers"] += peers(name, steps, series, options.codecs.split(","), options.repeat)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
