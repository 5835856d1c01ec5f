#!/usr/bin/env python3
"""Trains the small history in examples/tiny-run: a Llama of 17 thousand parameters that learns sums of two numbers.

    make_example_run.py OUTPUT_DIRECTORY

Writes tiny-run/, four checkpoints the way the Hugging Face Trainer lays them out (safetensors weights, AdamW's state and the
scheduler as torch saves them, JSON files and the tokenizer beside them), and sums.jsonl, samples for a probe. Needs torch,
transformers and tokenizers.
"""
import json
import os
import random
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

TEXT = "0123456789+=\n"
SAMPLES = 64


def sums(generator, count):
    for _ in range(count):
        a, b = generator.randrange(100), generator.randrange(100)
        yield f"{a:02}+{b:02}=", f"{a + b:03}"


def batch(generator):
    return torch.tensor([[TEXT.index(c) for c in prompt + completion + "\n"] for prompt, completion in sums(generator, 64)])


def tokenizer():
    """A token for each character."""
    made = Tokenizer(models.BPE({c.replace("\n", "\u010a"): i for i, c in enumerate(TEXT)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def main():
    output = sys.argv[1]
    torch.manual_seed(1)
    torch.set_num_threads(1)
    generator = random.Random(1)
    end = TEXT.index("\n")
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(TEXT), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=None, eos_token_id=end))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    history = []
    for step in range(1, 401):
        tokens = batch(generator)
        logits = model(tokens[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits[:, 5:].reshape(-1, len(TEXT)), tokens[:, 6:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 50 == 0:
            history.append({"step": step, "loss": round(loss.item(), 4)})
        if step in (100, 200, 300, 400):
            directory = f"{output}/tiny-run/checkpoint-{step}"
            os.makedirs(directory, exist_ok=True)
            model.save_pretrained(directory)
            tokenizer().save(f"{directory}/tokenizer.json")
            torch.save(optimizer.state_dict(), f"{directory}/optimizer.pt")
            torch.save(scheduler.state_dict(), f"{directory}/scheduler.pt")
            with open(f"{directory}/trainer_state.json", "w") as file:
                json.dump({"global_step": step, "log_history": history}, file, indent=2)
            print(f"step {step}: loss {loss.item():.4f}")
    with open(f"{output}/sums.jsonl", "w") as file:
        for index, (prompt, completion) in enumerate(sums(random.Random(2), SAMPLES)):
            file.write(json.dumps({"id": str(index), "prompt": prompt, "completion": completion}) + "\n")


if __name__ == "__main__":
    main()
