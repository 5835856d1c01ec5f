#!/usr/bin/env python3
"""Trains the small history in examples/tiny-run: a Llama-like model of 17 thousand parameters that learns sums of two digits.

    make_example_run.py OUTPUT_DIRECTORY

Writes four checkpoints the way the Hugging Face Trainer lays them out: safetensors weights, AdamW's state and the
scheduler as torch saves them, and JSON files beside them. Needs torch, safetensors and numpy.
"""
import json
import os
import random
import sys

import torch
from safetensors.torch import save_file
from torch import nn

TEXT = "0123456789+=\n"
HIDDEN, INNER, HEADS, LAYERS, LENGTH = 32, 64, 4, 2, 10


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attn = nn.ModuleDict({k: nn.Linear(HIDDEN, HIDDEN, bias=False) for k in ("q_proj", "k_proj", "v_proj", "o_proj")})
        self.mlp = nn.ModuleDict({
            "gate_proj": nn.Linear(HIDDEN, INNER, bias=False), "up_proj": nn.Linear(HIDDEN, INNER, bias=False),
            "down_proj": nn.Linear(INNER, HIDDEN, bias=False)})

    def forward(self, x):
        b, t, _ = x.shape
        n = self.input_layernorm(x)
        q, k, v = (self.self_attn[p](n).view(b, t, HEADS, -1).transpose(1, 2) for p in ("q_proj", "k_proj", "v_proj"))
        a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.self_attn["o_proj"](a.transpose(1, 2).reshape(b, t, HIDDEN))
        n = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](nn.functional.silu(self.mlp["gate_proj"](n)) * self.mlp["up_proj"](n))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(len(TEXT), HIDDEN)
        self.positions = nn.Embedding(LENGTH, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()

    def forward(self, tokens):
        x = self.embed_tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) @ self.embed_tokens.weight.T


def batch(generator):
    rows = []
    for _ in range(64):
        a, b = generator.randrange(100), generator.randrange(100)
        rows.append([TEXT.index(c) for c in f"{a:02}+{b:02}={a + b:03}\n"])
    return torch.tensor(rows)


def main():
    output = sys.argv[1]
    torch.manual_seed(1)
    torch.set_num_threads(1)
    generator = random.Random(1)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    history = []
    for step in range(1, 401):
        tokens = batch(generator)
        logits = model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits[:, 5:].reshape(-1, len(TEXT)), tokens[:, 6:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 50 == 0:
            history.append({"step": step, "loss": round(loss.item(), 4)})
        if step in (100, 200, 300, 400):
            directory = f"{output}/checkpoint-{step}"
            os.makedirs(directory, exist_ok=True)
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, f"{directory}/model.safetensors", metadata={"format": "pt"})
            torch.save(optimizer.state_dict(), f"{directory}/optimizer.pt")
            torch.save(scheduler.state_dict(), f"{directory}/scheduler.pt")
            config = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": HEADS,
                      "num_hidden_layers": LAYERS, "vocab_size": len(TEXT), "tie_word_embeddings": True}
            for name, value in [("config.json", config), ("trainer_state.json", {"global_step": step, "log_history": history})]:
                with open(f"{directory}/{name}", "w") as file:
                    json.dump(value, file, indent=2)
            print(f"step {step}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
