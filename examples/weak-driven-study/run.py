#!/usr/bin/env python3
"""Does a weak snapshot's mix of logits teach a saturated model? One command, gone on with where it was stopped.

    run.py [--task chains|rewrite] [--size 0.3m|0.8m|3m] [--seeds 0,1,2,3,4] [--arms core|all|NAME,...] [--ages] [--work DIR]
           [--jobs N] [--ckpt ckpt] [--quick]

For each seed: a model of random weights learns single steps (M0), then chains until it is saturated (M1); every arm trains M1 further,
from the same weights on the same data. Each arm's snapshot is chosen on validation data, and the test set is read once, for that
snapshot. Prints the table, and writes TASK-SIZE.md, .svg (the plot) and .json to --work. --ages trains with six weak snapshots of
different age in place of the arms: does gap value say which teaches most? --jobs seeds train
at the same time, on one processor each or more: small models train faster so than one after the other on all of them. --quick is a
small version, to see that all works.

Needs ckpt and Python 3.9, nothing else.
"""
import argparse
import concurrent.futures
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time

from report import write_report

HERE = os.path.dirname(os.path.abspath(__file__))
CORE = ["sft", "sft-2x", "temperature", "wmss", "mix-only", "shuffled-weak"]
MORE = ["sft-lr", "sft-lr4", "select-only", "frozen-weak", "temperature-matched", "peer", "label-smoothing-.05", "label-smoothing",
        "label-smoothing-.2"]
# Each against the length of the others; options behind the preset.
PRESETS = {
    "sft-lr4": ["sft-lr", "--rate-factor", "4"], "label-smoothing-.05": ["label-smoothing", "--label-smoothing", "0.05"],
    "label-smoothing-.2": ["label-smoothing", "--label-smoothing", "0.2"],
}
NEEDS_WEAK = ["temperature", "wmss", "mix-only", "shuffled-weak", "select-only", "frozen-weak", "temperature-matched", "peer"]

# Found by calibration: M1 is saturated (its training loss under .01 a token), and right in 40 to 80 % of the test.
SETTINGS = {
    "chains": {"train": 2500, "facts_epochs": 4, "epochs": 160, "arm_epochs": 20, "rate": 1e-3, "arm_rate": 1e-3, "forms": 200},
    "rewrite": {"train": 600, "facts_epochs": 3, "epochs": 640, "arm_epochs": 40, "rate": 1e-3, "arm_rate": 1e-3, "forms": 200},
}
BATCH = 64
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Study:
    def __init__(self, options, seed):
        self.options, self.seed = options, seed
        self.settings = dict(SETTINGS[options.task])
        if options.train:
            self.settings["train"] = options.train
        self.where = f"{options.work}/{options.task}-{options.size}-{seed}"
        self.store = f"{self.where}/store"
        self.results = f"{self.where}/results"
        os.makedirs(self.results, exist_ok=True)
        quick = options.quick
        self.count = 200 if quick else self.settings["train"]
        if quick:
            self.settings.update(facts_epochs=1, epochs=6, arm_epochs=2)
        self.data = self.make_data("data", self.count)
        if not os.path.exists(f"{self.store}/current"):
            self.ckpt("init", self.store, store=False)

    def make_data(self, name, count):
        where = f"{self.where}/{name}"
        if not os.path.exists(f"{where}/done"):
            small = ["--validation", "100", "--test", "200", "--facts", "1000"] if self.options.quick else []
            subprocess.run([sys.executable, f"{HERE}/tasks.py", self.options.task, where, "--train", str(count), "--seed", str(self.seed),
                            "--forms", str(self.settings["forms"]), "--size", self.options.size, *small], check=True)
            open(f"{where}/done", "w").close()
        return where

    def ckpt(self, *arguments, store=True):
        """Runs ckpt; returns what it printed."""
        return self.ckpt_and_memory(*arguments, store=store)[0]

    def ckpt_and_memory(self, *arguments, store=True):
        """Runs ckpt; returns what it printed, and its peak of resident memory in bytes, the mapped pages of the store among it."""
        command = [self.options.ckpt, *map(str, arguments)] + (["--store", self.store] if store else [])
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            out = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            if process.returncode != 0:
                sys.exit(f"{' '.join(command)}\n{errors.read()}")
        return out, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def kept(self, name, make):
        """What `make` returned, from the file it was written to where that was done before."""
        path = f"{self.results}/{name}.json"
        if not os.path.exists(path):
            made = make()
            with open(path + ".part", "w") as file:
                json.dump(made, file)
            os.replace(path + ".part", path)
        return json.load(open(path))

    def train(self, run, *arguments):
        def make():
            out, memory = self.ckpt_and_memory("train", "--run", run, "--threads", self.options.threads, "--json", *arguments)
            return {**json.loads(out), "peak_memory": memory}
        return self.kept(f"train-{run}", make)

    def eval(self, ref, data, *arguments):
        name = re.sub(r"[^a-z0-9.]+", "-", f"eval-{ref}-{data}-{'-'.join(map(str, arguments))}")
        return self.kept(name, lambda: json.loads(self.ckpt(
            "eval", ref, "--data", f"{self.data}/{data}.jsonl", "--max-new", 40, "--threads", self.options.threads, "--json",
            *arguments))["results"][0])

    def weights(self, store_run):
        """Weights of the model, for FLOPs."""
        tensors = json.loads(self.ckpt("show", store_run, "--tensors", "--json"))["tensors"]
        return sum(math.prod(tensor["shape"]) for tensor in tensors)

    # -- the models that arms begin with

    def prepare(self):
        s, batches = self.settings, -(-self.count // BATCH)
        self.train("m0", "--init", f"{self.data}/model", "--preset", "sft", "--data", f"{self.data}/facts.jsonl", "--batch", 128, "--epochs",
                   s["facts_epochs"], "--learning-rate", 3e-3, "--save-every", 100000, "--seed", self.seed)
        steps = s["epochs"] * batches
        self.train("m1", "--strong", "m0", "--preset", "sft", "--data", f"{self.data}/train.jsonl", "--batch", BATCH, "--epochs", s["epochs"],
                   "--learning-rate", s["rate"], "--save-every", max(1, steps // 12), "--seed", self.seed)
        self.history = [line["step"] for line in json.loads(self.ckpt("log", "m1", "--json"))]
        self.arm_steps = s["arm_epochs"] * batches

    def weak(self):
        """The snapshot of M1's history with the best gap value on the training data."""
        def choose():
            probe = json.loads(self.ckpt("probe", "ls", "--json"))
            name = next(line["name"] for line in probe if line["name"].startswith("train-"))
            rows = json.loads(self.ckpt("gap", "m1", "--run", "m1", "--probe", name, "--threads", self.options.threads, "--json"))
            return {"best": rows["best"], "rows": rows["rows"]}
        return self.kept("gap", choose)

    def arguments(self, arm, weak):
        preset, *more = PRESETS.get(arm, [arm])
        arguments = ["--strong", "m1", "--preset", preset, *more, "--data", f"{self.data}/train.jsonl", "--batch", BATCH, "--steps",
                     self.arm_steps, "--learning-rate", self.settings["arm_rate"], "--save-every", max(1, self.arm_steps // 4), "--seed", self.seed]
        return arguments + (["--weak", weak] if arm in NEEDS_WEAK else [])

    def peer(self):
        """Another M1, of another seed."""
        s = self.settings
        self.train("p0", "--init", f"{self.data}/model", "--preset", "sft", "--data", f"{self.data}/facts.jsonl", "--batch", 128, "--epochs",
                   s["facts_epochs"], "--learning-rate", 3e-3, "--save-every", 100000, "--seed", self.seed + 1000)
        self.train("p1", "--strong", "p0", "--preset", "sft", "--data", f"{self.data}/train.jsonl", "--batch", BATCH, "--epochs", s["epochs"],
                   "--learning-rate", s["rate"], "--save-every", 100000, "--seed", self.seed + 1000)
        return "p1"

    def arm(self, arm, weak=None, run=None):
        """Trains an arm, chooses its snapshot on validation data and reads the test for it."""
        run = run or "arm-" + arm
        weak = weak or (self.peer() if arm == "peer" else self.weak()["best"])
        if weak is None and arm in NEEDS_WEAK:
            sys.exit(f"{self.where}: every snapshot is refused as a weak one")
        made = self.train(run, *self.arguments(arm, weak))
        steps = [snapshot["step"] for snapshot in made["snapshots"]]
        validation = {step: self.eval(f"{run}@{step}", "validation")["accuracy"] for step in steps}
        best = max(steps, key=lambda step: (validation[step], -step))
        test = self.eval(f"{run}@{best}", "test", "--per-sample", "--calibrate", f"{self.data}/validation.jsonl")
        drawn = self.eval(f"{run}@{best}", "test", "--pass-at", 8, "--limit", 100 if self.options.quick else 1000)
        first = self.first_step(run)
        return {
            "arm": arm, "seed": self.seed, "weak": weak if arm in NEEDS_WEAK else None, "step": best, "validation": validation[best],
            "right": [row["right"] for row in test["per_sample"]],
            **{key: test[key] for key in test if key not in ("ref", "right", "per_sample")},
            "pass_at_8": drawn["pass_at"], "tokens_seen": made["tokens"], "seconds": made["seconds"], "peak_memory": made["peak_memory"],
            "flops": made["tokens"] * self.weights("m1") * (12 if self.is_joint(run) else 8 if arm == "frozen-weak" else 6),
            "gradient_norm": first["gradient_norm"], "first_loss": first["loss"],
        }

    def is_joint(self, run):
        return any(line["run"] == run + ".weak" for line in json.loads(self.ckpt("stats", "--json"))["by_run"])

    def first_step(self, run):
        with open(f"{self.store}/training/{run}/log.jsonl") as file:
            return json.loads(file.readline())

    def saturation(self):
        """What M1 is before any arm: and twice the data, which must win."""
        train = self.eval("m1", "train", "--no-generate")
        test = self.eval("m1", "test", "--per-sample", "--calibrate", f"{self.data}/validation.jsonl")
        double = self.make_data("double", 2 * self.count)
        self.train("control", "--strong", "m0", "--preset", "sft", "--data", f"{double}/train.jsonl", "--batch", BATCH, "--steps",
                   self.settings["epochs"] * -(-self.count // BATCH) + self.arm_steps, "--learning-rate", self.settings["rate"], "--save-every",
                   100000, "--seed", self.seed)
        control = self.eval("control", "test", "--per-sample")
        m0 = self.eval("m0", "test", "--limit", 1000)
        stats = json.loads(self.ckpt("stats", "--json"))
        return {
            "seed": self.seed, "m0_accuracy": m0["accuracy"], "train_nll": train["nll"], "train_p": train["mean_p"],
            "accuracy": test["accuracy"], "right": [row["right"] for row in test["per_sample"]],
            "figures": {key: test[key] for key in test if key not in ("ref", "per_sample")},
            "control_right": [row["right"] for row in control["per_sample"]],
            "raw_bytes": stats["raw_bytes"], "packed_bytes": stats["packed_bytes"], "store_bytes": stats["store_bytes"],
        }

    def ages(self):
        """WMSS with six weak snapshots of M1's history; what each is worth by gap value, and what it taught."""
        rows = {row["step"]: row for row in self.weak()["rows"]}
        steps = [step for step in self.history if step in rows]
        chosen = [steps[round(index * (len(steps) - 1) / 5)] for index in range(6)]
        made = []
        for step in dict.fromkeys(chosen):
            arm = self.arm("wmss", weak=f"m1@{step}", run=f"age-{step}")
            # The guards make the value of a refused one zero: the plain mean of what it is surer of less is kept beside it.
            made.append({"seed": self.seed, "step": step, "gap_value": rows[step]["gap_value"], "mean_dh": rows[step]["mean_dh"],
                         "guard": rows[step]["guard"], "right": arm["right"], "accuracy": arm["accuracy"]})
        return made


def run_seed(options, seed, arms):
    """What one seed gives: its M1, the outcome of each arm, and that of each age of the weak snapshot."""
    study = Study(options, seed)
    study.prepare()
    model, outcomes = study.kept("saturation", study.saturation), []
    for arm in arms:
        outcomes.append(study.kept(f"arm-{arm}", lambda: study.arm(arm)))
        print(f"seed {seed}  {arm:22} {100 * outcomes[-1]['accuracy']:.1f} %  ({time.time() - options.begin:.0f} s)", file=sys.stderr, flush=True)
    return model, outcomes, study.kept("ages", study.ages) if options.ages else []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=SETTINGS, default="chains")
    parser.add_argument("--size", default="0.3m")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--arms", default="core")
    parser.add_argument("--ages", action="store_true")
    parser.add_argument("--train", type=int, help="chains to train on, where they are not the calibrated number")
    parser.add_argument("--work", default="weak-driven-study")
    parser.add_argument("--ckpt", default="ckpt")
    parser.add_argument("--jobs", type=int, default=PROCESSORS, help="seeds at the same time (default: one for each processor)")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    arms = {"core": CORE, "all": CORE + MORE}.get(options.arms) or options.arms.split(",")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    jobs = max(1, min(options.jobs, len(seeds)))
    options.work = os.path.abspath(options.work)
    options.threads = max(1, PROCESSORS // jobs)
    options.begin = time.time()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda seed: run_seed(options, seed, arms), seeds))
    models, outcomes, ages = zip(*results)
    print(write_report(options.work, f"{options.task}-{options.size}", models, sum(outcomes, []), sum(ages, []), arms))


if __name__ == "__main__":
    main()
