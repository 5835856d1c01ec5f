"""What transformers continues the models of make.py with, and how well they are calibrated, by numpy.

    python generate.py MODELS OUTPUT

MODELS is what make.py wrote. Writes OUTPUT/<case>.json: `tokens`, the likeliest continuation of each of `prompts`; `logprobs`, ln P
of each of its tokens; and `calibration`, figures over the tokens of `sequences` from the second on, at several temperatures, with
the temperature at which the loss is least.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

CASES = ["llama3", "mistral", "qwen2-window", "qwen3-bf16", "gemma3", "olmo2", "gpt2", "gpt_neox"]
NEW = 20
BINS = 15


def figures(logits, targets, temperature):
    """Means over tokens, in double precision."""
    z = logits / temperature
    z = z - z.max(-1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(-1, keepdims=True)
    rows = np.arange(len(targets))
    hit = np.zeros_like(p)
    hit[rows, targets] = 1
    order = np.argsort(p.max(-1), kind="stable")
    right, sure = (p.argmax(-1) == targets)[order], p.max(-1)[order]
    cuts = [len(targets) * i // BINS for i in range(BINS + 1)]
    ece = sum(abs(right[a:b].sum() - sure[a:b].sum()) for a, b in zip(cuts, cuts[1:])) / len(targets)
    return {"temperature": temperature, "nll": -np.log(p[rows, targets]).mean(), "brier": ((p - hit) ** 2).sum(-1).mean(),
            "ece": ece, "entropy": -(p * np.log(p)).sum(-1).mean(), "mean_p": p[rows, targets].mean()}


def fitted(logits, targets):
    """Golden-section search over ln T from .05 to 20."""
    loss = lambda log_t: figures(logits, targets, np.exp(log_t))["nll"]
    low, high, ratio = np.log(0.05), np.log(20), (np.sqrt(5) - 1) / 2
    while high - low > 1e-6:
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if loss(a) < loss(b):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def main():
    models, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(CASES):
        model = transformers.AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32).eval()
        model.generation_config = transformers.GenerationConfig(do_sample=False, max_new_tokens=NEW, pad_token_id=0)
        random = np.random.default_rng(index)
        size = model.config.vocab_size
        prompts = [random.integers(0, size, count).tolist() for count in [1, 4, 19, 40]]
        tokens, logprobs = [], []
        for prompt in prompts:
            # By itself it would leave out the prompt's zeros, as padding.
            ids = torch.tensor([prompt])
            made = model.generate(ids, attention_mask=torch.ones_like(ids), output_logits=True, return_dict_in_generate=True)
            tokens.append(made.sequences[0, len(prompt):].tolist())
            logs = torch.log_softmax(torch.cat(made.logits).double(), -1)
            logprobs.append(logs[range(NEW), tokens[-1]].tolist())
        # Each second token is the likeliest: the model is right sometimes, and too sure at others.
        sequences = [random.integers(0, size, count).tolist() for count in [30, 17, 40]]
        logits, targets = [], []
        for sequence in sequences:
            with torch.no_grad():
                for at in range(2, len(sequence), 2):
                    sequence[at] = int(model(torch.tensor([sequence[:at]])).logits[0, -1].argmax())
                logits.append(model(torch.tensor([sequence])).logits[0, :-1].double().numpy())
            targets += sequence[1:]
        logits, targets = np.concatenate(logits), np.array(targets)
        best = fitted(logits, targets)
        case = {"prompts": prompts, "tokens": tokens, "logprobs": logprobs, "sequences": sequences,
                "calibration": [figures(logits, targets, t) for t in [1.0, 0.6, best]], "fitted": best}
        (output / f"{name}.json").write_text(json.dumps(case) + "\n")


main()
