#!/usr/bin/env python3
"""The benchmark of forward passes behind tools/benchmarks/run forward: scored tokens a second, PyTorch beside us.

    forward.py --bin DIR [--models 656k:2048,...] [--only speed,share,memory,start,tokenizer,real] [--repeat N]
               [--data DIR] [--work DIR] [--json FILE]

Models of random weights and probes of random tokens are made by make_forward_model.py; a probe's lengths are those of
GSM8K. Peers are forward_peers.py's rows, in one process that waits while ours run: rounds alternate, figures are medians
over them. Entropies must agree, else it stops. `--data` holds real models and texts: trainer-run/, tinystories-656k/ and
gsm8k/test.jsonl, the first hundred of whose questions are a probe.
"""
import argparse
import json
import os
import shutil
import statistics
import sys
import time

from bench import Bench, Peers, Table, command, machine

HERE = os.path.dirname(os.path.abspath(__file__))
# name and vocabulary: samples of the probe, what is asked over the fastest eager row.
MODELS = {
    "656k:2048": (64, 1.5), "5m:2048": (64, 1.5), "20m:2048": (32, 1.5), "20m:151936": (16, 1.5),
    "100m:2048": (16, 1.25), "500m:151936": (8, 1.1),
}
EAGER = ["transformers", "lean"]


class Forward:
    def __init__(self, options):
        self.options = options
        self.table = Table()
        self.ckpt = os.path.join(options.bin, "ckpt")
        self.micro = os.path.join(options.bin, "ckpt-bench")
        self.threads = len(os.sched_getaffinity(0))

    def model(self, name, dtype):
        """The directory of a model; its probe is probe.jsonl in it."""
        size, vocabulary = name.split(":")
        where = f"{self.options.work}/{size}-{vocabulary}-{dtype}"
        if not os.path.exists(f"{where}/probe.jsonl"):
            samples = MODELS[name][0] if name in MODELS else 16
            command([sys.executable, f"{HERE}/make_forward_model.py", size, where, "--vocab", vocabulary, "--dtype", dtype,
                     "--probe", f"{where}/probe.jsonl", "--samples", str(samples)])
        return where

    def ours(self, where):
        return json.loads(command([self.micro, "forward", where, f"{where}/probe.jsonl", str(self.threads), "1"])[2])

    def peers(self, where, big):
        return Peers(f"{HERE}/forward_peers.py", where, f"{where}/probe.jsonl", "--threads", self.threads, "--budgets",
                     "1024,2048" if big else "1024,4096")

    def speed(self, name):
        asked = MODELS[name][1]
        full, half = self.model(name, "f32"), self.model(name, "bf16")
        peers = self.peers(full, name.startswith(("100m", "500m")))
        rows = peers.rows
        self.sgemm = rows.pop("sgemm")["gflops"]
        times = {row: [] for row in ["ckpt f32", "ckpt bf16", *rows]}
        for _ in range(self.options.repeat):
            for row, seconds in peers.round().items():
                times[row].append(seconds)
            for row, where in ("ckpt f32", full), ("ckpt bf16", half):
                answer = self.ours(where)
                times[row].append(answer["seconds"])
                if row == "ckpt f32" and abs(answer["mean_entropy"] - rows["lean"]["mean_entropy"]) > 1e-4:
                    sys.exit(f"{name}: mean entropy {answer['mean_entropy']}, PyTorch's {rows['lean']['mean_entropy']}")
                tokens = answer["scored_tokens"]
        peers.close()
        rate = {row: tokens / statistics.median(seconds) for row, seconds in times.items()}
        eager = max(rate[row] for row in EAGER if row in rate)
        size, vocabulary = name.split(":")
        where = f"{size}, vocabulary {vocabulary}, {self.threads} threads"
        figure = "scored tokens/s"
        self.table.add(figure, "ckpt, F32 weights", where, rate["ckpt f32"], "", "")
        self.table.add(figure, "ckpt, BF16 weights", where, rate["ckpt bf16"], "", "")
        names = {"transformers": "transformers, sdpa", "lean": "lean torch twin", "compiled": "lean twin, torch.compile",
                 "bf16": "lean twin, BF16 throughout"}
        for row in rows:
            self.table.add(figure, f"{names[row]} (batches of {rows[row]['budget']} tokens)", where, rate[row], "", "")
        self.table.add("ours over the fastest eager row", "ckpt, F32 weights", where, rate["ckpt f32"] / eager, "x", f"{asked}")
        self.table.add("ours over the fastest eager row", "ckpt, BF16 weights", where, rate["ckpt bf16"] / eager, "x", f"{asked}")
        self.table.add("BF16 over F32 weights", "ckpt", where, rate["ckpt bf16"] / rate["ckpt f32"], "", ".93")

    def share(self, name):
        """What the products of a pass do of the measured rate of products."""
        where = self.model(name, "f32")
        config = json.load(open(f"{where}/config.json"))
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        size = hidden // config["num_attention_heads"]
        per_token = config["num_hidden_layers"] * hidden * (
            2 * hidden + 2 * size * config["num_key_value_heads"] + 3 * inner)
        samples = [json.loads(line) for line in open(f"{where}/probe.jsonl")]
        tokens = sum(len(sample["input_ids"]) - 1 for sample in samples)
        rates, peaks = [], []
        for _ in range(self.options.repeat):
            peak = json.loads(command([self.micro, "product", str(self.threads)])[2])
            peaks.append(peak["gflops_per_thread"] * self.threads)
            answer = self.ours(where)
            flops = 2 * (tokens * per_token + answer["scored_tokens"] * hidden * config["vocab_size"])
            rates.append(flops / answer["seconds"] / 1e9)
        peak = max(statistics.median(peaks), getattr(self, "sgemm", 0))
        label = f"{name.split(':')[0]}, {self.threads} threads"
        self.table.add("rate of dense products alone", "ckpt", label, statistics.median(peaks), "GFLOP/s")
        if hasattr(self, "sgemm"):
            self.table.add("rate of dense products alone", "torch", label, self.sgemm, "GFLOP/s")
        self.table.add("dense products of a whole pass, over its whole time", "ckpt", label, statistics.median(rates), "GFLOP/s")
        self.table.add("share of the measured rate", "ckpt", label, statistics.median(rates) / peak, "", ".75")

    def store(self, where, name, image=True):
        """A store with a model and its probe."""
        store = f"{self.options.work}/store-{name}"
        shutil.rmtree(store, ignore_errors=True)
        command([self.ckpt, "init", store])
        command([self.ckpt, "ingest", where, "--run", "m", "--step", "1", "--store", store] + ([] if image else ["--no-image"]))
        command([self.ckpt, "probe", "add", "p", f"{where}/probe.jsonl", "--store", store])
        return store

    def memory(self, name):
        where = self.model(name, "f32")
        store = self.store(where, "memory")
        _, peak = Bench.anonymous_peak([self.ckpt, "entropy", "m", "--probe", "p", "--store", store], 512 << 20)
        self.table.add("peak anonymous memory of ckpt entropy", "ckpt", f"{name}, image", peak / (1 << 20), "MiB", "300")
        shutil.rmtree(store)

    def start(self):
        where = self.model("656k:2048", "f32")
        store = self.store(where, "start")

        def first():
            begin = time.clock_gettime(time.CLOCK_MONOTONIC)
            return json.loads(command([self.micro, "first", store, "m", "p", repr(begin)])[2])["first_product_ms"]

        first()
        self.table.add("process start to the first product, pre-tokenised probe", "ckpt", "656k, image",
                       statistics.median(first() for _ in range(5 * self.options.repeat)), "ms", "50")
        shutil.rmtree(store)


    def tokenizer(self):
        """A tokenizer.json of 150 K entries, and texts through it, beside the tokenizers library."""
        sys.path.insert(0, f"{HERE}/../reference/tokenizers")
        import speed

        files = [f"{self.options.data}/gsm8k/test.jsonl"] if self.options.data else []
        it = speed.measure(os.path.join(self.options.bin, "ckpt-tokenize"), files)
        if not it["same"]:
            sys.exit("the tokens differ from those of the tokenizers library")
        label = f"{it['entries']} entries, {it['file_mb']:.1f} MB"
        self.table.add("tokenizer.json read and parsed, once in a process", "ckpt", label, it["load_ms"], "ms", "150")
        self.table.add("tokenizer.json read and parsed", "tokenizers", label, it["library_load_ms"], "ms")
        label = "GSM8K, 1 thread" if files else "made-up text, 1 thread"
        self.table.add("encode", "ckpt", label, it["encode_mb_s"], "MB/s")
        self.table.add("encode", "tokenizers", label, it["library_encode_mb_s"], "MB/s")

    def real(self):
        """Entropies of a trained model beside transformers', and what a real run can teach its last snapshot."""
        data, work = self.options.data, f"{self.options.work}/real"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        with open(f"{data}/gsm8k/test.jsonl") as source, open(f"{work}/probe.jsonl", "w") as target:
            target.writelines(line for _, line in zip(range(100), source))

        def ckpt(*arguments):
            return command([self.ckpt, *arguments, "--store", f"{work}/store"])[2]

        ckpt("init", f"{work}/store")
        ckpt("ingest", f"{data}/tinystories-656k", "--run", "tiny", "--step", "0")
        ckpt("ingest", f"{data}/trainer-run", "--run", "sft")
        ckpt("probe", "add", "gsm8k", f"{work}/probe.jsonl", "--prompt-key", "question", "--completion-key", "answer",
             "--tokenizer", f"{data}/tinystories-656k")
        with open(f"{work}/tokens.json", "w") as file:
            file.write(ckpt("probe", "show", "gsm8k", "--limit", "0", "--json"))
        for ref, name in [("tiny", "tinystories-656k"), ("sft", "trainer-run@400")]:
            ours = {row["id"]: row for row in json.loads(ckpt("entropy", ref, "--probe", "gsm8k", "--json"))["samples"]}
            command([sys.executable, "-W", "ignore", f"{HERE}/../reference/models/score.py", ckpt("path", ref).strip(),
                     f"{work}/tokens.json", f"{work}/theirs.jsonl"])
            for figure, asked in ("entropy", "1e-5"), ("nll", ""):
                most = 0
                for line in open(f"{work}/theirs.jsonl").readlines()[1:]:
                    row = json.loads(line)
                    most = max(most, abs(statistics.mean(row[figure]) - ours[row["id"]][figure]))
                self.table.add(f"largest difference of a sample's mean {figure} from transformers'", "ckpt",
                               f"{name}, 100 of GSM8K", most, "nats", asked)
        gap = json.loads(ckpt("gap", "sft@400", "--run", "sft", "--probe", "gsm8k", "--json"))
        for row in gap["rows"]:
            note = ", best" if row["ref"] == gap["best"] else ""
            self.table.add("gap value for trainer-run@400 (marginal)", "ckpt", f"{row['ref']}{note}",
                           f"{row['gap_value']:.4f} ({row['marginal']:.4f})", "nats per token")
        shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--only", default="speed,share,memory,start,tokenizer,real")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--data", help="a folder with trainer-run, tinystories-656k and gsm8k; without it `real` is left out")
    parser.add_argument("--work", default="/tmp/ckpt-forward")
    parser.add_argument("--json", help="write the rows to this file too")
    options = parser.parse_args()
    wanted = options.only.split(",")
    names = options.models.split(",")
    os.makedirs(options.work, exist_ok=True)
    bench = Forward(options)
    print(f"machine: {machine()}; load {os.getloadavg()[0]:.1f}; medians of {options.repeat} rounds\n")
    print("| figure | who | where | measured | asked |\n|---|---|---|---|---|")
    if "speed" in wanted:
        for name in names:
            bench.speed(name)
    if "share" in wanted:
        bench.share(names[-1])
    if "memory" in wanted:
        bench.memory(names[-1])
    if "start" in wanted:
        bench.start()
    if "tokenizer" in wanted:
        bench.tokenizer()
    if "real" in wanted and options.data:
        bench.real()
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "rows": bench.table.rows}, file, indent=2)


if __name__ == "__main__":
    main()
