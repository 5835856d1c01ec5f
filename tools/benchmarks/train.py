#!/usr/bin/env python3
"""The benchmark of training behind tools/benchmarks/run train: steps a second, PyTorch beside us.

    train.py --bin DIR [--models 1m,5m,...] [--tokens 1024,4096,16384] [--only speed,memory,pair,curve,resume,storage]
             [--repeat N] [--data DIR] [--work DIR] [--json FILE]

Models of random weights and samples of 256 random tokens, all but the first supervised, are made by make_forward_model.py: no
row loses time to padding. Peers are train_peers.py's rows, in one process that waits while ours run: rounds alternate, figures are
medians over them. A step's loss must agree, else it stops. `--data` holds trainer-run/, tinystories-656k/ and gsm8k/, for
the size of histories.
"""
import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time

from bench import Peers, Table, command, machine

HERE = os.path.dirname(os.path.abspath(__file__))
# What is asked over the fastest eager row.
MODELS = {"656k": 1.5, "1m": 1.5, "3m": 1.5, "5m": 1.5, "20m": 1.5, "100m": 1.25}
EAGER = ["transformers", "lean"]
NAMES = {"transformers": "transformers, sdpa", "lean": "lean torch twin", "compiled": "lean twin, torch.compile"}
LENGTH = 256
# Tokens that ckpt takes at once, its default.
MICRO = 2048


class Ours:
    """A process of ours that makes a step for each line."""

    def __init__(self, micro, model, data, batch, threads, mode="sft", rates="1e-5", checkpoints=False, micro_batch=MICRO):
        arguments = [micro, "train", model, data, str(batch), str(micro_batch), str(threads), mode, str(rates)]
        self.process = subprocess.Popen(
            arguments + (["checkpoints"] if checkpoints else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit(f"ckpt-bench train: exit {self.process.wait()}")

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Train:
    def __init__(self, options):
        self.options = options
        self.table = Table()
        self.ckpt = os.path.join(options.bin, "ckpt")
        self.micro = os.path.join(options.bin, "ckpt-bench")
        self.threads = len(os.sched_getaffinity(0))

    def model(self, name, seed=0):
        """The directory of a model; its data is data.jsonl in it."""
        where = f"{self.options.work}/{name}-{seed}"
        if not os.path.exists(f"{where}/data.jsonl"):
            command([sys.executable, f"{HERE}/make_forward_model.py", name, where, "--dtype", "f32", "--probe", f"{where}/data.jsonl",
                     "--samples", "256", "--length", str(LENGTH), "--seed", str(seed)])
        return where

    def peers(self, where, tokens, rows, budgets):
        return Peers(f"{HERE}/train_peers.py", where, f"{where}/data.jsonl", "--tokens-per-step", tokens, "--micro-batch-tokens", budgets,
                     "--threads", self.threads, "--rows", rows)

    def speed(self, name):
        where = self.model(name)
        for tokens in map(int, self.options.tokens.split(",")):
            # A step of the largest takes a minute in PyTorch: fewer rounds, and micro-batches of the size that was fastest with fewer tokens.
            long = name == "100m" and tokens > 1024
            peers = self.peers(where, tokens, "transformers,lean,compiled", "4096" if long else "1024,4096")
            found = peers.rows
            batch = tokens // LENGTH
            ours = Ours(self.micro, where, f"{where}/data.jsonl", batch, self.threads)
            times = {row: [] for row in ["ckpt", *found]}
            for index in range((2 if long else self.options.repeat) + 1):
                theirs = peers.round()
                # Their threads wait for work awhile before they sleep.
                time.sleep(0.3)
                answer = ours.step()
                if index == 0:
                    if abs(answer["loss"] - found["lean"]["loss"]) > 1e-4:
                        sys.exit(f"{name}: loss {answer['loss']}, PyTorch's {found['lean']['loss']}")
                    continue
                for row, seconds in theirs.items():
                    times[row].append(seconds)
                times["ckpt"].append(answer["seconds"])
            ours.close()
            peers.close()
            rate = {row: batch * LENGTH / statistics.median(seconds) for row, seconds in times.items()}
            eager = {row: rate[row] for row in EAGER if row in rate}
            what = f"{name}, {tokens} tokens a step, {self.threads} threads"
            self.table.add("SFT tokens/s", "ckpt", what, rate["ckpt"], "", "")
            for row in found:
                self.table.add("SFT tokens/s", f"{NAMES[row]} (micro-batches of {found[row]['micro_batch_tokens']})", what, rate[row], "", "")
            self.table.add("SFT step, ours over the fastest eager row", "ckpt", what, rate["ckpt"] / max(eager.values()), "x", f"{MODELS[name]}")
            if "compiled" in rate:
                self.table.add("SFT step, ours over torch.compile", "ckpt", what, rate["ckpt"] / rate["compiled"], "x", "")
            best = max(eager, key=eager.get)
            self.memory(name, where, tokens, best, found[best]["micro_batch_tokens"])

    def memory(self, name, where, tokens, row, budget):
        """Peaks of three steps in processes of their own; PyTorch's with the micro-batches that are fastest."""
        answer = json.loads(command(
            [sys.executable, "-W", "ignore", f"{HERE}/train_peers.py", where, f"{where}/data.jsonl", "--tokens-per-step", str(tokens),
             "--micro-batch-tokens", str(budget), "--threads", str(self.threads), "--memory", row])[2].strip().splitlines()[-1])
        ours = self.peak(where, tokens)
        what = f"{name}, {tokens} tokens a step"
        self.table.add("SFT peak anonymous memory", "ckpt", what, ours / (1 << 20), "MiB", "")
        self.table.add("SFT peak anonymous memory", NAMES[row], what, answer["peak_anonymous_bytes"] / (1 << 20), "MiB", "")
        self.table.add("SFT memory, ours over the fastest row", "ckpt", what, ours / answer["peak_anonymous_bytes"], "x", ".75 at most")

    def peak(self, where, tokens, mode="sft", checkpoints=False):
        ours = Ours(self.micro, where, f"{where}/data.jsonl", tokens // LENGTH, self.threads, mode, checkpoints=checkpoints)
        peak = max(ours.step()["peak_anonymous_bytes"] for _ in range(3))
        ours.close()
        return peak

    def pair(self, name):
        """What a weak model adds to a step."""
        where = self.model(name)
        for tokens in map(int, self.options.tokens.split(",")):
            if name == "100m" and tokens > 4096:
                continue
            modes = {mode: Ours(self.micro, where, f"{where}/data.jsonl", tokens // LENGTH, self.threads, mode)
                     for mode in ["sft", "joint", "frozen"]}
            ratios = {mode: [] for mode in modes}
            for index in range(2 * self.options.repeat + 1):
                seconds = {mode: ours.step()["seconds"] for mode, ours in modes.items()}
                if index > 0:
                    for mode in modes:
                        ratios[mode].append(seconds[mode] / seconds["sft"])
            for ours in modes.values():
                ours.close()
            peaks = {mode: self.peak(where, tokens, mode) for mode in modes}
            what = f"{name}, {tokens} tokens a step"
            for mode, time_asked, memory_asked in ("joint", 2.1, 2.1), ("frozen", 1.4, 1.1):
                self.table.add(f"{mode} step over an SFT step, time", "ckpt", what, statistics.median(ratios[mode]), "x", f"{time_asked} at most")
                self.table.add(f"{mode} step over an SFT step, memory", "ckpt", what, peaks[mode] / peaks["sft"], "x", f"{memory_asked} at most")
            recomputed = self.peak(where, tokens, checkpoints=True)
            self.table.add("memory with --checkpoint-activations, of that without", "ckpt", what, recomputed / peaks["sft"], "x", "")

    def curve(self, name, steps=200, rate=1e-3):
        """The losses of the same steps on the same data."""
        where = self.model(name)
        tokens = 1024
        out = f"{self.options.work}/curve.json"
        command([sys.executable, "-W", "ignore", f"{HERE}/train_peers.py", where, f"{where}/data.jsonl", out, "--tokens-per-step",
                 str(tokens), "--micro-batch-tokens", "1024", "--threads", str(self.threads), "--curve", str(steps), "--rate", str(rate)])
        theirs = json.load(open(out))
        rates = f"{self.options.work}/rates.txt"
        with open(rates, "w") as file:
            file.writelines(f"{x!r}\n" for x in theirs["rates"])
        ours = Ours(self.micro, where, f"{where}/data.jsonl", tokens // LENGTH, self.threads, rates=rates)
        losses = [ours.step()["loss"] for _ in range(steps)]
        ours.close()
        worst = max(abs(a - b) for a, b in zip(losses, theirs["losses"]))
        what = f"{name}, {steps} steps, {theirs['losses'][0]:.3f} to {theirs['losses'][-1]:.3f}"
        self.table.add("largest difference of a step's loss from PyTorch's", "ckpt", what, worst, "", "1e-4 at most")

    def resume(self, name):
        """Snapshots of a training that is killed at random moments, and of one that is not."""
        where = self.model(name)
        store = f"{self.options.work}/store-resume"
        shutil.rmtree(store, ignore_errors=True)
        command([self.ckpt, "init", store])
        command([self.ckpt, "ingest", where, "--run", "m", "--step", "1", "--store", store])
        command([self.ckpt, "ingest", self.model(name, seed=1), "--run", "m", "--step", "0", "--store", store])
        arguments = [self.ckpt, "train", "--strong", "m@1", "--weak", "m@0", "--data", f"{where}/data.jsonl", "--steps", "40", "--batch", "4",
                     "--save-every", "10", "--learning-rate", "1e-3", "--store", store, "--run"]
        begin = time.perf_counter()
        command(arguments + ["whole"])
        whole = time.perf_counter() - begin
        generator = random.Random(1)
        kills = 0
        while True:
            process = subprocess.Popen(arguments + ["cut"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                if process.wait(generator.uniform(0.1, 0.6) * whole) == 0:
                    break
                sys.exit("ckpt train failed after a kill")
            except subprocess.TimeoutExpired:
                process.send_signal(generator.choice([signal.SIGKILL, signal.SIGINT]))
                process.wait()
                kills += 1
        same = 0
        for run in "", ".weak":
            ids = [[line["id"] for line in json.loads(command([self.ckpt, "log", one + run, "--json", "--store", store])[2])]
                   for one in ("whole", "cut")]
            same += sum(a == b for a, b in zip(*ids))
        self.table.add("equal snapshots of a training that was stopped", "ckpt", f"{name}, 8 snapshots, {kills} kills and stops", same, "of 8", "8")
        shutil.rmtree(store)

    def storage(self):
        """Whole histories of both branches, a snapshot every 20 steps, over their raw bytes."""
        data = self.options.data
        if not data:
            return
        work = f"{self.options.work}/storage"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        store = f"{work}/store"
        command([self.ckpt, "init", store])
        command([self.ckpt, "ingest", f"{data}/trainer-run", "--run", "base", "--no-optimizer", "--store", store])
        lines = open(f"{data}/gsm8k/train.jsonl").read().splitlines()[:2000]
        with open(f"{work}/train.jsonl", "w") as file:
            for index, line in enumerate(lines):
                item = json.loads(line)
                file.write(json.dumps({"id": str(index), "prompt": item["question"] + "\n", "completion": item["answer"]}) + "\n")
        command([self.ckpt, "probe", "add", "gsm8k", f"{work}/train.jsonl", "--tokenizer", f"{data}/tinystories-656k", "--store", store])
        fine = ["--strong", "base@400", "--weak", "base@100"]
        scratch = ["--init", f"{data}/trainer-run/checkpoint-400", "--preset", "sft"]
        # The rate that is the default, and ten times as much, at which more changes from snapshot to snapshot.
        for label, start, dtype, rate, steps, asked in [
            ("BF16 fine-tune, joint", fine, "bf16", "1e-5", 200, ".25"), ("BF16 fine-tune, joint", fine, "bf16", "1e-4", 200, ".25"),
            ("FP32 fine-tune, joint", fine, "f32", "1e-5", 200, ".66"), ("FP32 fine-tune, joint", fine, "f32", "1e-4", 200, ".66"),
            ("BF16 from scratch", scratch, "bf16", "1e-3", 400, ".45"),
        ]:
            run = f"{label}-{rate}".lower().replace(" ", "-").replace(",", "")
            answer = json.loads(command(
                [self.ckpt, "train", *start, "--data", "gsm8k", "--run", run, "--steps", str(steps), "--batch", "16",
                 "--save-every", "20", "--learning-rate", rate, "--dtype", dtype, "--max-length", "512", "--json", "--store", store])[2])
            stats = {row["run"]: row for row in json.loads(command([self.ckpt, "stats", "--json", "--store", store])[2])["by_run"]}
            rows = [stats[name] for name in (run, run + ".weak") if name in stats]
            packed = sum(row["packed_bytes"] + row["shared_bytes"] for row in rows)
            raw = sum(row["raw_bytes"] for row in rows)
            what = f"{label}, 656 K weights, rate {rate}, {sum(row['snapshots'] for row in rows)} snapshots 20 steps apart"
            self.table.add("packed over raw, the whole history", "ckpt", what, packed / raw, "", f"{asked} at most")
        shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--models", default="1m,5m,20m,100m")
    parser.add_argument("--tokens", default="1024,4096,16384")
    parser.add_argument("--only", default="speed,pair,curve,resume,storage")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--data")
    parser.add_argument("--work", default="/tmp/ckpt-train")
    parser.add_argument("--json")
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    train = Train(options)
    print(f"machine: {machine()}; load {os.getloadavg()[0]:.1f}; medians of {options.repeat} rounds\n")
    print("| figure | who | where | measured | asked |\n|---|---|---|---|---|")
    only = options.only.split(",")
    models = options.models.split(",")
    if "speed" in only:
        for name in models:
            train.speed(name)
    if "pair" in only:
        for name in models:
            train.pair(name)
    if "curve" in only:
        train.curve(models[0])
    if "resume" in only:
        train.resume(models[0])
    if "storage" in only:
        train.storage()
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "rows": train.table.rows}, file, indent=2)


if __name__ == "__main__":
    main()
