#!/usr/bin/env python3
"""Writes a safetensors model of random weights with the shapes of a Llama, for benchmarks.

    make_model.py FILE --bytes 1e9 [--dtype BF16|F32] [--seed 1] [--nudge 0.01]

Weights are normal with a standard deviation of their own for each row, which gives exponents about the entropy of
trained weights. With --nudge, noise of that relative size is added to the model of the same seed: a later step.
"""
import argparse
import json
import struct

import numpy as np


def shapes(total, width):
    """Names and shapes of a Llama of hidden size 2,048 with as many layers as fit, at `width` bytes a weight."""
    hidden, inner, vocabulary = 2048, 5632, 32000
    if total < 3e8:
        hidden, inner, vocabulary = 512, 1408, 8000
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    used = width * vocabulary * hidden
    layer = 0
    while used < total:
        prefix = f"model.layers.{layer}."
        for name, shape in [
            ("input_layernorm.weight", (hidden,)),
            ("mlp.down_proj.weight", (hidden, inner)),
            ("mlp.gate_proj.weight", (inner, hidden)),
            ("mlp.up_proj.weight", (inner, hidden)),
            ("post_attention_layernorm.weight", (hidden,)),
            ("self_attn.k_proj.weight", (hidden // 4, hidden)),
            ("self_attn.o_proj.weight", (hidden, hidden)),
            ("self_attn.q_proj.weight", (hidden, hidden)),
            ("self_attn.v_proj.weight", (hidden // 4, hidden)),
        ]:
            yield prefix + name, shape
            used += width * int(np.prod(shape))
        layer += 1
    yield "model.norm.weight", (hidden,)


def to_bf16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--bytes", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nudge", type=float, default=0, help="add noise of this relative size: a later step")
    parser.add_argument("--dtype", choices=["BF16", "F32"], default="BF16")
    arguments = parser.parse_args()
    width = 2 if arguments.dtype == "BF16" else 4
    tensors = list(shapes(arguments.bytes, width))
    header, offset = {}, 0
    for name, shape in tensors:
        size = width * int(np.prod(shape))
        header[name] = {"dtype": arguments.dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(arguments.seed)
    noise = np.random.default_rng(arguments.seed + 1000)
    with open(arguments.file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            rows = shape if len(shape) == 2 else (1, shape[0])
            deviation = 0.02 * np.exp(0.3 * random.standard_normal((rows[0], 1), dtype=np.float32))
            values = random.standard_normal(rows, dtype=np.float32) * deviation
            if arguments.nudge:
                values += arguments.nudge * deviation * noise.standard_normal(rows, dtype=np.float32)
            out.write((to_bf16(values) if width == 2 else values.astype(np.float32)).tobytes())
    print(f"{arguments.file}: {8 + len(text) + offset} bytes, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
