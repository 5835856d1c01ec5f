"""Trains with PyTorch on the processor: to time a step of it, to see its memory, or to see its losses.

    python train_peers.py MODEL DATA --tokens-per-step N --micro-batch-tokens M[,M...] [--threads N]
                          [--rows transformers,lean,compiled] [--rate R] [--joint WEAK | --frozen WEAK] [--lambda L]
    python train_peers.py MODEL DATA ... --memory ROW
    python train_peers.py MODEL DATA ... --curve STEPS [--row ROW] OUT.json

MODEL and WEAK are folders with config.json and safetensors; DATA has a line of JSON to each sample, {"id", "input_ids",
"completion_start"}: the tokens from completion_start on are supervised. A step takes the next B samples of DATA in the order they
have there, from the start again after the last; B is what comes nearest to N tokens by the mean length. Its loss is the sum of
-ln softmax(z)[y] over its supervised tokens divided by their number. It takes its samples sorted by length and padded on the
right, in micro-batches of at most M tokens whose gradients add up, clips their norm at 1 and makes a step of AdamW (fused,
betas .9 and .999, epsilon 1e-8, no decay). All is float32, and nothing is dropped out.

    transformers  AutoModelForCausalLM with sdpa; logits of the supervised positions only
    lean          the same model (Llama, Qwen2, Qwen3) in as few operations as it takes
    compiled      that under torch.compile

With --joint or --frozen the logits are lambda z + (1 - lambda) z_weak, and the weak is trained too or is not.

Timing tries every M, and all of the step at once, keeps the fastest and prints a line of JSON to each row, then `ready`; then,
for each line it reads, every row makes the next step and a line has the seconds of each. --memory makes three steps of one row
at the first M in this process and prints its greatest anonymous memory, seen every 5 ms from before the model is loaded.
--curve makes STEPS steps at the first M, at a rate that warms up over a tenth of them and falls to a tenth of R along a cosine
as transformers has it; prints each step's loss before it, and writes losses, rates and gradient norms to OUT.json.

Needs torch, safetensors and transformers (the committed figures name their versions).
"""

import argparse
import json
import math
import pathlib
import sys
import threading
import time

import torch
import torch.nn.functional as F

from forward_peers import Lean, batches, pad, read_probe, scored


def transformers_branch(folder, longest):
    """The logits (R, V) of the given rows of padded ids, and the parameters behind them."""
    import transformers
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    base, head = model.base_model, model.get_output_embeddings()

    def logits(ids, mask, rows):
        return head(base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.flatten(0, 1)[rows])

    return logits, list(model.parameters())


def lean_branch(folder, longest):
    model = Lean(folder, torch.float32)
    cos, sin = model.angles(longest)
    weights = [model.embed, model.norm, *(weight for layer in model.layers for weight in layer if weight is not None)]
    if model.output is not model.embed:
        weights.append(model.output)
    for weight in weights:
        weight.requires_grad_()

    def logits(ids, mask, rows):
        length = ids.shape[1]
        return model.head(model.hidden(ids, cos[:length], sin[:length]).flatten(0, 1)[rows])

    return logits, weights


BRANCHES = {"transformers": transformers_branch, "lean": lean_branch, "compiled": lean_branch}


class Trainer:
    def __init__(self, row, options, samples):
        longest = max(len(ids) for ids, _ in samples)
        mean = sum(len(ids) for ids, _ in samples) / len(samples)
        self.samples = samples
        self.count = max(1, round(options.tokens_per_step / mean))
        self.whole = self.count * longest
        logits, self.weights = BRANCHES[row](options.model, longest)
        if options.joint or options.frozen:
            logits = self.mixed(logits, *BRANCHES[row](options.joint or options.frozen, longest), options)

        def loss(ids, mask, rows, targets):
            return F.cross_entropy(logits(ids, mask, rows), targets, reduction="sum")

        self.loss = torch.compile(loss, dynamic=True) if row == "compiled" else loss
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=options.rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, fused=True)

    def mixed(self, strong, weak, weak_weights, options):
        share = options.share
        if options.joint:
            self.weights = self.weights + weak_weights
        else:
            for weight in weak_weights:
                weight.requires_grad_(False)
        return lambda *inputs: share * strong(*inputs) + (1 - share) * weak(*inputs)

    def step(self, index, budget):
        """One step on the samples of that index: the loss before it, and the norm of its gradient before it was clipped."""
        samples = [self.samples[(index * self.count + i) % len(self.samples)] for i in range(self.count)]
        supervised = sum(len(ids) - start for ids, start in samples)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in batches(samples, budget):
            ids, mask = pad(batch)
            rows, targets, _ = scored(batch, ids.shape[1])
            loss = self.loss(ids, mask, rows, targets)
            (loss / supervised).backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        return total / supervised, norm.item()

    def timed(self, index, budget):
        begin = time.perf_counter()
        self.step(index, budget)
        return time.perf_counter() - begin


def time_rows(options, samples, budgets):
    rows = {}
    for name in options.rows.split(","):
        try:
            begin = time.perf_counter()
            trainer = Trainer(name, options, samples)
            load = time.perf_counter() - begin
            tried = sorted({min(budget, trainer.whole) for budget in budgets} | {trainer.whole})
            begin = time.perf_counter()
            loss, norm = trainer.step(0, tried[0])
            for budget in tried:
                # Batches of other shapes may compile again: not what is timed.
                for index in (0, 1):
                    trainer.step(index, budget)
            warm = time.perf_counter() - begin
            seconds = {budget: min(trainer.timed(0, budget) for _ in range(2)) for budget in tried}
        except Exception as error:
            print("%s: skipped: %s" % (name, str(error).splitlines()[:1] or type(error).__name__), file=sys.stderr)
            continue
        best = min(seconds, key=seconds.get)
        rows[name] = (trainer, best)
        print(json.dumps({
            "name": name, "parameters": sum(weight.numel() for weight in trainer.weights), "samples_per_step": trainer.count,
            "micro_batch_tokens": best, "seconds": seconds, "loss": loss, "gradient_norm": norm, "load_seconds": load,
            "warm_up_seconds": warm, "threads": options.threads, "torch": torch.__version__}), flush=True)
    print("ready", flush=True)
    # A round for each line: others run between them, so that all see the same machine.
    for index, _ in enumerate(sys.stdin, start=2):
        print(json.dumps({name: trainer.timed(index, best) for name, (trainer, best) in rows.items()}), flush=True)


class PeakMemory(threading.Thread):
    """The greatest anonymous memory of this process, in bytes, as seen every 5 ms."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes = 0

    def look(self):
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                self.bytes = max(self.bytes, 1024 * int(line.split()[1]))

    def run(self):
        while True:
            self.look()
            time.sleep(0.005)


def show_memory(options, samples, budget):
    peak = PeakMemory()
    peak.start()
    trainer = Trainer(options.memory, options, samples)
    for index in range(3):
        trainer.step(index, budget)
    peak.look()
    print(json.dumps({"name": options.memory, "peak_anonymous_bytes": peak.bytes, "samples_per_step": trainer.count,
                      "micro_batch_tokens": min(budget, trainer.whole)}))


def draw_curve(options, samples, budget):
    from transformers import get_cosine_with_min_lr_schedule_with_warmup
    trainer = Trainer(options.row, options, samples)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        trainer.optimizer, math.ceil(0.1 * options.curve), options.curve, min_lr_rate=0.1)
    losses, rates, norms = [], [], []
    for index in range(options.curve):
        rates.append(schedule.get_last_lr()[0])
        loss, norm = trainer.step(index, budget)
        schedule.step()
        losses.append(float("%.9g" % loss))
        norms.append(float("%.9g" % norm))
        print("%d %.9g" % (index + 1, loss), flush=True)
    options.output.write_text(json.dumps({
        "row": options.row, "samples_per_step": trainer.count, "losses": losses, "rates": rates, "gradient_norms": norms,
        "threads": options.threads, "torch": torch.__version__}) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path, nargs="?")
    parser.add_argument("--tokens-per-step", type=int, required=True)
    parser.add_argument("--micro-batch-tokens", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", default="transformers,lean,compiled")
    parser.add_argument("--rate", type=float, default=1e-5)
    weak = parser.add_mutually_exclusive_group()
    weak.add_argument("--joint", type=pathlib.Path)
    weak.add_argument("--frozen", type=pathlib.Path)
    parser.add_argument("--lambda", type=float, default=0.5, dest="share")
    parser.add_argument("--memory", choices=BRANCHES)
    parser.add_argument("--curve", type=int)
    parser.add_argument("--row", choices=BRANCHES, default="lean")
    options = parser.parse_intermixed_args()
    if (options.curve is None) != (options.output is None):
        parser.error("--curve STEPS and OUT.json go together")
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    samples = read_probe(options.data)
    budgets = [int(x) for x in options.micro_batch_tokens.split(",")]
    if options.memory:
        show_memory(options, samples, budgets[0])
    elif options.curve is not None:
        draw_curve(options, samples, budgets[0])
    else:
        time_rows(options, samples, budgets)


if __name__ == "__main__":
    main()
