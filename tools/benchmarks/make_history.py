#!/usr/bin/env python3
"""Writes a made-up training run: many bf16 snapshots whose differences have the statistics of a real fine-tune.

    make_history.py DIR [--count 200] [--layers 4] [--seed 1] [--like 100,150,200] [--data DIR]

fp32 masters are moved by an optimizer with momentum: each parameter's update follows an AR(1) process, squashed as Adam
squashes its steps, scaled by its row (updates of a real fine-tune hardly depend on the size of the weight), under a
weight decay that holds the spread of the weights. Snapshots are the masters rounded to bf16. The rate and the momentum
are solved for so that a pair is like the last two of the three real snapshots named: share of words unchanged, cosine
of its update with the one before, and packed size (entropy of the ordered difference under the base's exponent, over
16). Fails unless each is within 10 % of the real one at every place looked at along the run. (A steady rate cannot be
like 150,200,250: there the real rate halves between the two updates, and rounding hides less of the first.)
"""
import argparse
import json
import os
import sys

import numpy as np

from floats import DATA, Words, cosine, delta_bound, exponent, from_bf16, predicted, sft_file, to_bf16, write_safetensors

# Measured on sft-bf16 by --like 100,150,200, for where that folder is not at hand.
REAL = {"unchanged": 0.2753, "cosine": 0.6582, "delta_ratio": 0.1883, "predicted_ratio": 0.1566}
ASKED = ["unchanged", "cosine", "delta_ratio"]
TOLERANCE = 0.10

HIDDEN, INNER, VOCABULARY = 256, 704, 512
ROW_SPREAD = 0.18  # of the logarithm of a row's scale: makes weights and updates as heavy in their tails as the real ones
SQUASH = 0.12  # g / sqrt(1 + SQUASH g^2): real updates have lighter tails than a normal distribution's


def shapes(layers):
    """Name, shape, mean and deviation of the weights, and the rate of their updates beside the matrices'."""
    yield "embed.weight", (VOCABULARY, HIDDEN), 0.0, 0.025, 0.5
    for layer in range(layers):
        for name, shape in [("down", (HIDDEN, INNER)), ("gate", (INNER, HIDDEN)), ("k", (HIDDEN, HIDDEN)),
                            ("o", (HIDDEN, HIDDEN)), ("q", (HIDDEN, HIDDEN)), ("up", (INNER, HIDDEN)),
                            ("v", (HIDDEN, HIDDEN))]:
            yield f"layers.{layer}.{name}.weight", shape, 0.0, 0.030, 1.0
        for name in ["norm1", "norm2"]:
            yield f"layers.{layer}.{name}.weight", (HIDDEN,), 0.86, 0.025, 1.5
    yield "head.weight", (VOCABULARY // 4, HIDDEN), 0.0, 0.146, 2.0
    yield "norm.weight", (HIDDEN,), 1.04, 0.040, 1.5


class Run:
    """All parameters in one flat array; `rate` is the size of an update and `momentum` the correlation of two."""

    def __init__(self, layers, seed, rate, momentum):
        self.random = np.random.default_rng(seed)
        self.rate, self.momentum = np.float32(rate), np.float32(momentum)
        self.tensors = list(shapes(layers))
        weights, scales, decays = [], [], []
        for _, shape, mean, deviation, scale in self.tensors:
            rows = (shape[0], 1) if len(shape) == 2 else (1,)
            spread = np.exp(ROW_SPREAD * self.normal(rows))
            weights.append((mean + deviation * spread * self.normal(shape)).ravel())
            scale = np.broadcast_to(scale * np.exp(ROW_SPREAD * self.normal(rows)), shape).ravel()
            scales.append(scale.astype(np.float32))
            # What a random walk of such updates adds to the variance in a step, decay takes away again.
            variance = (rate * scale) ** 2 * (1 + momentum) / (1 - momentum)
            decays.append((variance / (2 * deviation**2) * (mean == 0)).astype(np.float32))
        self.master, self.scale, self.decay = map(np.concatenate, (weights, scales, decays))
        self.state = self.normal(len(self.master))
        fresh = self.normal(1_000_000)
        self.norm = np.float32(1 / self.squashed(fresh).std())

    def normal(self, shape):
        return self.random.standard_normal(shape, dtype=np.float32)

    @staticmethod
    def squashed(values):
        return values / np.sqrt(1 + np.float32(SQUASH) * values * values)

    def step(self):
        """Goes on by one snapshot and returns it in bf16."""
        self.state *= self.momentum
        self.state += np.sqrt(1 - self.momentum**2) * self.normal(len(self.state))
        self.master -= self.decay * self.master
        self.master += self.rate * self.norm * self.scale * self.squashed(self.state)
        return to_bf16(self.master)

    def save(self, path, words):
        tensors, start = {}, 0
        for name, shape, *_ in self.tensors:
            end = start + int(np.prod(shape))
            tensors[name] = ("BF16", shape, words[start:end])
            start = end
        write_safetensors(path, tensors)


def figures(first, second, third):
    """What three consecutive snapshots are like."""
    unchanged, alike = quick_figures(first, second, third)
    guess = predicted(second, first)
    return {"unchanged": unchanged, "cosine": alike, "delta_ratio": delta_bound(second, third),
            "predicted_ratio": delta_bound(guess, third, exponent(second))}


def quick_figures(first, second, third):
    before, base, value = map(from_bf16, (first, second, third))
    return float((second == third).mean()), cosine(base - before, value - base)


def update_by_weight(base, value):
    """The mean size of an update for each power of two of the weight: flat in the real series."""
    base_values, moved = from_bf16(base), np.abs(from_bf16(value) - from_bf16(base))
    power = exponent(base) - 127
    return {int(p): float(moved[power == p].mean()) for p in range(-13, 0) if (power == p).any()}


def solve(target, layers, seed):
    """Rate and momentum for the target's unchanged share and cosine, by turns: each moves mostly one of the two."""
    rate, momentum = 1.5e-4, 0.8
    for _ in range(8):
        run = Run(layers, seed, rate, momentum)
        unchanged, alike = quick_figures(run.step(), run.step(), run.step())
        rate *= (unchanged / target["unchanged"]) ** 1.2
        momentum = min(0.995, max(0.0, momentum + (target["cosine"] - alike)))
    return rate, momentum


def check(step, made, target, label="made"):
    print(f"| {label}, step {step} | " + " | ".join(f"{made[key]:.4f}" for key in target) + " |", file=sys.stderr, flush=True)
    return all(abs(made[key] / target[key] - 1) <= TOLERANCE for key in ASKED)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--layers", type=int, default=4, help="1.6 MB each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--like", default="100,150,200", help="three steps of sft-bf16")
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--checks", type=int, default=8, help="places along the run where the figures are taken")
    options = parser.parse_args()

    target, updates = REAL, None
    like = [sft_file(options.data, int(step)) for step in options.like.split(",")]
    if all(map(os.path.exists, like)):
        real = [Words.read(path).words for path in like]
        target, updates = figures(*real), update_by_weight(*real[1:])
    elif options.like != parser.get_default("like"):
        parser.error(f"no such files: {' '.join(like)}")
    print("| snapshots | " + " | ".join(target) + " |\n" + "|---" * (len(target) + 1) + "|", file=sys.stderr)
    check(options.like, target, target, "real")

    rate, momentum = solve(target, options.layers, options.seed)
    run = Run(options.layers, options.seed, rate, momentum)
    os.makedirs(options.directory, exist_ok=True)
    places = {round(place) for place in np.linspace(3, options.count, max(1, min(options.checks, options.count - 2)))}
    recent, made, good = [], [], True
    for step in range(1, options.count + 1):
        words = run.step()
        run.save(f"{options.directory}/step-{step}.safetensors", words)
        recent = recent[-2:] + [words]
        if step in places and len(recent) == 3:
            made.append({"step": step} | figures(*recent))
            good = check(step, made[-1], target) and good
    print(json.dumps({
        "directory": options.directory, "count": options.count, "bytes_a_snapshot": 2 * len(run.master), "rate": rate,
        "momentum": momentum, "like": options.like, "real": target, "made": made, "within_tolerance": good,
        "update_by_power_of_weight": {"real": updates, "made": update_by_weight(*recent[-2:])}}))
    if not good:
        sys.exit(f"a figure is more than {TOLERANCE:.0%} off the real one")


if __name__ == "__main__":
    main()
