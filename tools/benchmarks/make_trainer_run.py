#!/usr/bin/env python3
"""Fine-tunes a small Llama with transformers.Trainer, which leaves checkpoints with AdamW's state in a directory.

    make_trainer_run.py fp32|bf16 DIR [--learning-rate 1e-4] [--steps 400] [--checkpoints 20] [--base DIR] [--data DIR]

A Llama of 3.5 million parameters learns to write problems and their answers (one half of GSM8K, at a high rate; --base keeps
it for the next run), then to answer those of the other half: rows of a prompt and a completion, of which the completion alone
counts, under a cosine that ends at zero, with a warm-up. `fp32` is what the Trainer does by default. `bf16` is a model
whose parameters are bf16 under an AdamW of fp32 moments, 2 and 8 bytes a parameter in a checkpoint: the optimizer keeps
fp32 masters that are not saved (--rounding masters), or has none and rounds at random (--rounding stochastic).
`--data` holds gsm8k/ and tinystories-656k/, whose tokenizer is used. Needs torch, transformers and accelerate. The same
options on the same machine give the same weights.
"""
import argparse
import json
import os

import torch
from transformers import (AutoTokenizer, DataCollatorForSeq2Seq, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments,
                          set_seed)

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../shared/data")


class WideAdamW(torch.optim.AdamW):
    """AdamW in fp32 for bf16 parameters. Its state is the moments: the masters are not part of it."""

    def __init__(self, parameters, rounding, **options):
        self.narrow = list(parameters)
        self.masters = [parameter.detach().float() for parameter in self.narrow]
        self.rounding = rounding
        super().__init__(self.masters, **options)

    @torch.no_grad()
    def step(self, closure=None):
        for narrow, master in zip(self.narrow, self.masters):
            master.grad = None if narrow.grad is None else narrow.grad.float()
            if self.rounding == "stochastic":
                master.copy_(narrow)
        super().step()
        for narrow, master in zip(self.narrow, self.masters):
            if self.rounding == "stochastic":
                bits = master.view(torch.int32)
                bits += torch.randint_like(bits, 1 << 16)
                bits &= ~0xFFFF
            narrow.copy_(master)

    def zero_grad(self, set_to_none=True):
        for parameter in self.narrow + self.masters:
            parameter.grad = None


def train(model, rows, tokenizer, directory, steps, rate, options, checkpoints=0, optimizer=None, **more):
    """Trains the model on rows of tokens and labels."""
    arguments = TrainingArguments(
        output_dir=directory, max_steps=steps, learning_rate=rate, lr_scheduler_type="cosine", warmup_steps=steps // 20,
        per_device_train_batch_size=options.batch, seed=options.seed, use_cpu=True, report_to="none", logging_steps=10,
        disable_tqdm=True, save_strategy="steps" if checkpoints else "no", save_steps=max(1, steps // max(1, checkpoints)), **more)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, optimizers=(optimizer, None),
        data_collator=DataCollatorForSeq2Seq(tokenizer))
    trainer.train()


def pretrained(samples, tokenizer, options):
    """A model that has read the samples as text, made once."""
    if options.base and os.path.exists(f"{options.base}/model.safetensors"):
        return LlamaForCausalLM.from_pretrained(options.base, dtype=torch.float32)
    text = []
    for sample in samples:
        text += tokenizer(f"{sample['question']}\n{sample['answer']}")["input_ids"] + [tokenizer.eos_token_id]
    windows = [text[start:start + options.length] for start in range(0, len(text) - options.length, options.length)]
    set_seed(options.seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=options.hidden, intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers, num_attention_heads=options.hidden // 32, num_key_value_heads=options.hidden // 64,
        max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    rows = [{"input_ids": window, "labels": window} for window in windows]
    train(model, rows, tokenizer, options.directory, options.base_steps, options.base_learning_rate, options, weight_decay=0.1)
    if options.base:
        model.save_pretrained(options.base)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("directory")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--rounding", choices=["masters", "stochastic"], default="masters", help="of bf16")
    parser.add_argument("--base", help="where the pre-trained model is, or is to be kept")
    parser.add_argument("--base-steps", type=int, default=200)
    parser.add_argument("--base-learning-rate", type=float, default=2e-3)
    parser.add_argument("--hidden", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8, help="rows a step")
    parser.add_argument("--length", type=int, default=256, help="tokens at most of a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", default=DATA)
    options = parser.parse_args()
    if options.steps % options.checkpoints:
        parser.error("--steps must be a multiple of --checkpoints")

    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(f"{options.data}/tinystories-656k")
    with open(f"{options.data}/gsm8k/train.jsonl") as file:
        samples = [json.loads(line) for line in file]
    half = len(samples) // 2
    model = pretrained(samples[:half], tokenizer, options)

    rows = []
    for sample in samples[half:]:
        prompt = tokenizer(sample["question"] + "\n")["input_ids"]
        tokens = prompt + tokenizer(sample["answer"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        rows.append({"input_ids": tokens[:options.length], "labels": ([-100] * len(prompt) + tokens[len(prompt):])[:options.length]})
    rows = [row for row in rows if row["labels"][-1] != -100]
    set_seed(options.seed)
    optimizer = None
    if options.precision == "bf16":
        model = model.to(torch.bfloat16)
        optimizer = WideAdamW(model.parameters(), options.rounding, lr=options.learning_rate, weight_decay=0.0)
    train(model, rows, tokenizer, options.directory, options.steps, options.learning_rate, options, options.checkpoints, optimizer)
    print(f"{options.checkpoints} checkpoints of {sum(p.numel() for p in model.parameters())} parameters in {options.directory}")


if __name__ == "__main__":
    main()
