"""Writes a language model of random weights, to time a forward pass, and a probe of random tokens.

    python make_forward_model.py NAME DIRECTORY [--vocab 2048|151936] [--dtype f32|bf16]
                                 [--probe FILE --samples N [--length N]] [--seed N]

NAME is 656k, 1m, 3m, 5m, 20m, 100m (the shape of Llama, with 2048 tokens if not told) or 500m (the shape of Qwen2.5-0.5B).
The weights are such that the logits have a standard deviation of about 2: neither uniform nor certain. A probe has a
line of JSON to each sample, {"id", "input_ids", "completion_start"}, of lengths like those of GSM8K: prompts of 45 to
120 tokens, completions of 60 to 250; with --length, samples of that many tokens, supervised from the second on: data to
train on. The same arguments write the same bytes.

Needs torch and safetensors.
"""

import argparse
import json
import math
import pathlib
import random

import safetensors.torch
import torch

# name: (hidden, layers, heads, key heads, inner, model_type, vocabulary)
SHAPES = {
    "656k": (128, 2, 4, 4, 341, "llama", 2048),
    "1m": (128, 4, 4, 4, 320, "llama", 2048),
    "3m": (192, 6, 6, 6, 512, "llama", 2048),
    "5m": (256, 6, 8, 4, 688, "llama", 2048),
    "20m": (512, 6, 8, 4, 1536, "llama", 2048),
    "100m": (768, 14, 12, 4, 2304, "llama", 2048),
    "500m": (896, 24, 14, 2, 4864, "qwen2", 151936),
}
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def config_of(name, vocab, dtype):
    hidden, layers, heads, kv, inner, kind, usual = SHAPES[name]
    config = {
        "architectures": [ARCHITECTURES[kind]], "model_type": kind, "vocab_size": vocab or usual,
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0 if kind == "qwen2" else 10000.0, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": str(dtype).split(".")[1],
    }
    if kind == "llama":
        config.update(attention_bias=False, mlp_bias=False, head_dim=hidden // heads)
    else:
        config.update(use_sliding_window=False)
    return config


def weights(config, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    layers = config["num_hidden_layers"]

    def normal(*shape, std):
        return (torch.randn(*shape, generator=generator) * std).to(dtype)

    def gain():
        return (torch.rand(hidden, generator=generator) * 0.4 + 0.8).to(dtype)

    # The last norm leaves rows of length sqrt(hidden).
    tensors = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden, std=2 / math.sqrt(hidden))}
    for layer in range(layers):
        at = "model.layers.%d." % layer
        for name, rows, columns, size in (
                ("self_attn.q_proj", hidden, hidden, 1.2), ("self_attn.k_proj", kv, hidden, 1.2),
                ("self_attn.v_proj", kv, hidden, 1), ("self_attn.o_proj", hidden, hidden, 1 / math.sqrt(layers)),
                ("mlp.gate_proj", inner, hidden, 1), ("mlp.up_proj", inner, hidden, 1),
                ("mlp.down_proj", hidden, inner, 1 / math.sqrt(layers))):
            tensors[at + name + ".weight"] = normal(rows, columns, std=size / math.sqrt(columns))
            if config["model_type"] == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                tensors[at + name + ".bias"] = normal(rows, std=0.3)
        tensors[at + "input_layernorm.weight"] = gain()
        tensors[at + "post_attention_layernorm.weight"] = gain()
    tensors["model.norm.weight"] = gain()
    return tensors


def write_probe(path, samples, length, vocab, seed):
    chance = random.Random(seed)
    with open(path, "w") as file:
        for index in range(samples):
            prompt, completion = (1, length - 1) if length else (chance.randint(45, 120), chance.randint(60, 250))
            ids = [chance.randrange(3, vocab) for _ in range(prompt + completion)]
            file.write(json.dumps({"id": "sample-%d" % index, "input_ids": ids, "completion_start": prompt}) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=SHAPES)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--probe", type=pathlib.Path)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--length", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.length is not None and options.length < 2:
        parser.error("--length %d: a sample has a prompt of one token and something to predict" % options.length)
    dtype = DTYPES[options.dtype]
    config = config_of(options.name, options.vocab, dtype)
    tensors = weights(config, dtype, options.seed)
    options.directory.mkdir(parents=True, exist_ok=True)
    (options.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    safetensors.torch.save_file(tensors, options.directory / "model.safetensors", metadata={"format": "pt"})
    print("%s: %d parameters" % (options.name, sum(x.numel() for x in tensors.values())))
    if options.probe:
        write_probe(options.probe, options.samples, options.length, config["vocab_size"], options.seed)


if __name__ == "__main__":
    main()
