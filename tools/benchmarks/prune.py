"""The benchmark behind tools/benchmarks/run prune: how long it takes to drop snapshots, what comes back, and what is kept.

    prune.py --bin DIR [--size 4e9] [--disk DIR] [--only speed,rebase,choice,cycles]
"""
import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

from bench import Table, command

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../format-spec/reader"))


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(array.tobytes())


def bf16(values):
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


class Bench:
    def __init__(self, options):
        self.options = options
        self.table = Table()
        self.ckpt = os.path.join(options.bin, "ckpt")
        self.work = os.path.join(options.disk, "ckpt-bench-prune")
        self.random = np.random.default_rng(1)

    def store(self, name):
        path = os.path.join(self.work, name)
        shutil.rmtree(path, ignore_errors=True)
        command([self.ckpt, "init", path])
        return path

    def run(self, *arguments):
        seconds, cpu, out = command([self.ckpt, *map(str, arguments), "--json"])
        return seconds, json.loads(out.splitlines()[-1])

    def peak(self, *arguments):
        """Runs a command; its peak of anonymous memory in bytes, looked at as it runs."""
        process = subprocess.Popen([self.ckpt, *map(str, arguments)], stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as file:
                    for line in file:
                        if line.startswith("RssAnon"):
                            peak = max(peak, 1024 * int(line.split()[1]))
            except OSError:
                pass
            time.sleep(0.02)
        return peak

    # -- nothing depends on what goes

    def independent(self, count):
        """A store of `count` snapshots of together --size bytes that share nothing; all but the last are dropped."""
        store = self.store(f"independent-{count}")
        words = int(self.options.size / count / 2)
        rows = max(1, words // 1024)
        base = bf16(self.random.standard_normal((rows, 1024)) * 0.02)
        source = os.path.join(self.work, "source.safetensors")
        for step in range(count):
            # Other bytes in every block, of the same statistics.
            base += np.uint16(1) + (self.random.integers(0, 4, (rows, 1), dtype=np.uint16))
            write_safetensors(source, {"model.weight": base})
            command([self.ckpt, "ingest", source, "--run", "r", "--step", str(step), "--pack", "dense", "--no-image", "--store", store])
        return store

    def speed(self):
        seconds = {}
        for count in [10, 1000]:
            store = self.independent(count)
            for state in ["warm", "cold"] if count == 10 and os.geteuid() == 0 else ["warm"]:
                copy = store + "-copy"
                shutil.rmtree(copy, ignore_errors=True)
                command(["cp", "-a", store, copy])
                if state == "cold":
                    subprocess.run(["sync"])
                    with open("/proc/sys/vm/drop_caches", "w") as file:
                        file.write("3")
                else:
                    command(["cat", os.path.join(copy, "gen-1/data.mdb")])
                took, result = self.run("prune", "--keep-last", 1, "--store", copy)
                freed = result["bytes_freed"]
                seconds[count, state] = took / freed * 1e10
                self.table.add("prune, nothing depends on what goes", "ckpt", f"{count} snapshots, {freed / 1e9:.1f} GB packed, {state}",
                               seconds[count, state], "s per 10 GB", "at most 2" if state == "warm" else "")
                self.table.add("returned to the file system", "ckpt", f"{count} snapshots, {state}", result["returned_bytes"] / freed, "of what was freed")
                shutil.rmtree(copy)
            shutil.rmtree(store)
        self.table.add("1,000 snapshots over 10", "ckpt", "warm", seconds[1000, "warm"] / seconds[10, "warm"], "times", "0.8 to 1.2")

    # -- with re-basing

    def rebase(self):
        store = self.store("finetune")
        history = os.path.join(self.work, "history")
        # Made with the statistics of a real fine-tune.
        subprocess.run([sys.executable, f"{HERE}/make_history.py", history, "--count", "12", "--layers", "24"], check=True, stdout=subprocess.DEVNULL)
        command([self.ckpt, "ingest", history, "--run", "r", "--no-image", "--store", store])
        first = json.loads(command([self.ckpt, "log", "r", "--json", "--store", store])[2])
        every = 4 * (first[1]["step"] - first[0]["step"])
        cores = len(os.sched_getaffinity(0))
        _, expected = self.run("prune", "--keep-every", every, "--dry-run", "--store", store)
        before = json.loads(command([self.ckpt, "stats", "--json", "--store", store])[2])
        copy = store + "-copy"
        took = []
        for rebase in [[], ["--no-rebase"]]:
            shutil.rmtree(copy, ignore_errors=True)
            command(["cp", "-a", store, copy])
            seconds, result = self.run("prune", "--keep-every", every, *rebase, "--store", copy)
            took.append((seconds, result))
        (seconds, result), (plain, kept) = took
        rebasing = result["rebasing"]
        self.table.add("prune with re-basing", "ckpt", f"{rebasing['raw_bytes'] / 1e6:.0f} MB re-based",
                       rebasing["raw_bytes"] / 1e9 / (seconds - plain) / cores, "GB/s of raw per core", "0.15")
        self.table.add("packed bytes after, re-based over not", "ckpt", "every fourth of 12 steps",
                       (before["packed_bytes"] - result["bytes_freed"]) / (before["packed_bytes"] - kept["bytes_freed"]), "times")
        self.table.add("bytes freed, dry run over real", "ckpt", "every fourth of 12 steps", expected["bytes_freed"] / result["bytes_freed"], "times", "0.95 to 1.05")
        shutil.rmtree(copy)
        shutil.rmtree(store)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--size", type=float, default=4e9)
    parser.add_argument("--disk", default=".build")
    parser.add_argument("--only", default="speed,rebase")
    options = parser.parse_args()
    bench = Bench(options)
    os.makedirs(bench.work, exist_ok=True)
    print("| figure | who | where | measured | asked |\n|---|---|---|---|---|", flush=True)
    for name in options.only.split(","):
        getattr(bench, name)()
    shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    main()
