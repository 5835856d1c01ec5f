"""The benchmark behind tools/benchmarks/run prune: how long it takes to drop snapshots, what comes back, what memory that
takes, and what is kept.

    prune.py --bin DIR [--size 4e9] [--blocks 10000000] [--disk DIR] [--only speed,rebase,memory,choice,cycles]
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter

import lmdb
import numpy as np

from bench import Table, command
from floats import write_safetensors

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../format-spec/reader"))
import reader  # noqa: E402


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
        if process.returncode != 0:
            sys.exit(f"ckpt {' '.join(map(str, arguments))}: exit {process.returncode}")
        return peak

    # -- nothing depends on what goes

    def independent(self, count, peers=()):
        """A store of `count` snapshots of together --size bytes that share nothing; all but the last are dropped. Peers take in the same."""
        store = self.store(f"independent-{count}")
        words = int(self.options.size / count / 2)
        rows = max(1, words // 1024)
        base = bf16(self.random.standard_normal((rows, 1024)) * 0.02)
        source = os.path.join(self.work, "source.safetensors")
        for step in range(count):
            # Other bytes in every block, of the same statistics.
            base += np.uint16(1) + (self.random.integers(0, 4, (rows, 1), dtype=np.uint16))
            write_safetensors(source, {"model.weight": ("BF16", base.shape, base)})
            command([self.ckpt, "ingest", source, "--run", "r", "--step", str(step), "--pack", "dense", "--no-image", "--store", store])
            for peer in peers:
                peer.add(source, step)
        return store

    def ready(self, store, copy, state):
        """A fresh copy of a store, in the page cache as `state` says."""
        shutil.rmtree(copy, ignore_errors=True)
        command(["cp", "-a", store, copy])
        os.sync()
        if state == "cold":
            with open("/proc/sys/vm/drop_caches", "w") as file:
                file.write("3")

    def speed(self):
        # Only the superuser can empty the page cache.
        states = ["warm", "cold"] if os.geteuid() == 0 else ["warm"]
        seconds = {}
        for count in [10, 1000]:
            peers = [Borg(self.work), Restic(self.work)] if count == 10 else []
            store = self.independent(count, peers)
            for peer in peers:
                freed, seconds_taken = peer.prune()
                where = f"{count} snapshots, {freed / 1e9:.1f} GB freed, warm"
                self.table.add("prune, nothing depends on what goes", peer.name, where, seconds_taken / freed * 1e10, "s per 10 GB")
            copy = store + "-copy"
            for state in states:
                took, alone = [], []
                for _ in range(3):
                    self.ready(store, copy, state)
                    one, result = self.run("prune", "--keep-last", 1, "--store", copy)
                    took.append(one)
                    # What the file system itself takes to give the same file's bytes back.
                    self.ready(store, copy, state)
                    data = f"{copy}/gen-1/data.mdb"
                    alone.append(command(["fallocate", "--punch-hole", "--offset", "0", "--length", str(result["returned_bytes"]), data])[0])
                freed = result["bytes_freed"]
                seconds[count, state] = statistics.median(took) / freed * 1e10
                where = f"{count} snapshots, {freed / 1e9:.1f} GB packed, {state}"
                self.table.add("prune, nothing depends on what goes", "ckpt", where, seconds[count, state], "s per 10 GB", "2 at most" if state == "warm" else "")
                self.table.add("giving as many bytes back, by itself", "fallocate", where, statistics.median(alone) / freed * 1e10, "s per 10 GB")
                self.table.add("returned to the file system", "ckpt", where, result["returned_bytes"] / freed, "of what was freed")
                shutil.rmtree(copy)
            shutil.rmtree(store)
        self.table.add("1,000 snapshots over 10", "ckpt", "warm", seconds[1000, states[0]] / seconds[10, states[0]], "times", "0.8 to 1.2")

    # -- with re-basing

    def rebase(self):
        store = self.store("finetune")
        history = os.path.join(self.work, "history")
        # Made with the statistics of a real fine-tune.
        subprocess.run([sys.executable, f"{HERE}/make_history.py", history, "--count", "12", "--layers", "48"], check=True, stdout=subprocess.DEVNULL)
        command([self.ckpt, "ingest", history, "--run", "r", "--no-image", "--store", store])
        shutil.rmtree(history)
        first = json.loads(command([self.ckpt, "log", "r", "--json", "--store", store])[2])
        every = 4 * (first[1]["step"] - first[0]["step"])
        cores = len(os.sched_getaffinity(0))
        _, expected = self.run("prune", "--keep-every", every, "--dry-run", "--store", store)
        before = json.loads(command([self.ckpt, "stats", "--json", "--store", store])[2])["packed_bytes"]
        copy = store + "-copy"
        seconds, results = {True: [], False: []}, {}
        for _ in range(5):
            for rebases in [True, False]:
                shutil.rmtree(copy, ignore_errors=True)
                command(["cp", "-a", store, copy])
                took, results[rebases] = self.run("prune", "--keep-every", every, *([] if rebases else ["--no-rebase"]), "--store", copy)
                seconds[rebases].append(took)
        with_it, without = results[True], results[False]
        raw = with_it["rebasing"]["raw_bytes"]
        extra = statistics.median(seconds[True]) - statistics.median(seconds[False])
        where = "every fourth of 12 steps stays"
        self.table.add("prune with re-basing", "ckpt", f"{where}, {raw / 1e6:.0f} MB re-based", raw / 1e9 / extra / cores, "GB/s of raw per core", "0.15")
        self.table.add("packed bytes after, re-based over not", "ckpt", where, (before - with_it["bytes_freed"]) / (before - without["bytes_freed"]), "times")
        self.table.add("bytes freed, dry run over real", "ckpt", where, expected["bytes_freed"] / with_it["bytes_freed"], "times", "0.95 to 1.05")
        shutil.rmtree(copy)
        shutil.rmtree(store)


    # -- memory

    def memory(self):
        store = self.store("many")
        blocks, steps = self.options.blocks, 100
        subprocess.run([sys.executable, f"{HERE}/make_many_blocks.py", store, "--blocks", str(blocks), "--steps", str(steps)], check=True)
        # What a choice by gap value goes by: made-up entropies, which fall as a training's do.
        probe = os.path.join(self.work, "probe.jsonl")
        with open(probe, "w") as file:
            for index in range(50):
                file.write(json.dumps({"id": str(index), "input_ids": [1, 2, 3, 4 + index], "completion_start": 2}) + "\n")
        command([self.ckpt, "probe", "add", "p", probe, "--store", store])
        outputs = os.path.join(self.work, "outputs.jsonl")
        for step in range(steps):
            with open(outputs, "w") as file:
                file.write(json.dumps({"provenance": {}, "settings": {"precision": "f32"}}) + "\n")
                for index in range(50):
                    level = float(3 - 2 * step / steps + self.random.random())
                    file.write(json.dumps({"id": str(index), "entropy": [level, level], "nll": [0.1, 0.1], "top1": [1, 1]}) + "\n")
            command([self.ckpt, "entropy", f"r@{step}", "--probe", "p", "--import", outputs, "--store", store])
        packed = json.loads(command([self.ckpt, "stats", "--json", "--store", store])[2])["packed_bytes"]
        for what, arguments in [
            ("verify --quick", ["verify", "--quick"]), ("compact", ["compact"]), ("stats", ["stats"]),
            ("prune --keep-every 4, dry run", ["prune", "--keep-every", "4", "--no-rebase", "--dry-run"]),
            ("prune --budget by gap value, dry run", ["prune", "--budget", str(packed // 2), "--probe", "p", "--no-rebase", "--dry-run"]),
            (f"prune of {blocks * 3 // 10:,}", ["prune", "--keep-last", "70", "--no-rebase"]),
        ]:
            peak = self.peak(*arguments, "--store", store)
            self.table.add("peak anonymous memory", "ckpt", f"{what}, {blocks:,} blocks, deltas among them", peak / (1 << 20), "MiB", "256 at most")
        shutil.rmtree(store)

    # -- choice

    def choice(self):
        """Sets that prune keeps beside the best that there are, by entropy records of a real training."""
        store = self.store("choice")
        examples = os.path.join(HERE, "../../examples")
        data = os.path.join(self.work, "sums.jsonl")
        numbers = np.random.default_rng(2)
        with open(data, "w") as file:
            for index in range(400):
                a, b = numbers.integers(0, 100, 2)
                file.write(json.dumps({"id": str(index), "prompt": f"{a:02}+{b:02}=", "completion": f"{a + b:03}"}) + "\n")
        command([self.ckpt, "ingest", f"{examples}/tiny-run/checkpoint-100", "--run", "start", "--step", "1", "--store", store])
        command([self.ckpt, "probe", "add", "sums", data, "--tokenizer", "start", "--store", store])
        command([self.ckpt, "train", "--strong", "start", "--preset", "sft", "--data", "sums", "--run", "r", "--steps", "300", "--save-every", "20",
                 "--batch", "16", "--learning-rate", "2e-3", "--store", store])
        for entry in json.loads(command([self.ckpt, "log", "r", "--json", "--store", store])[2]):
            command([self.ckpt, "entropy", f"r@{entry['step']}", "--probe", "sums", "--store", store])
        best = BestSets(store, "r")
        for count in [1, 2, 3, 5, 7]:
            _, result = self.run("prune", "--run", "r", "--keep-gap", count, "--probe", "sums", "--dry-run", "--store", store)
            chosen, greatest = best.value(result), best.of_count(count)
            self.table.add("value of the kept set over the best one", "ckpt", f"{count} of 14 snapshots", chosen / greatest, "times", "0.95 at least")
        for share in [0.3, 0.4, 0.5, 0.6, 0.8]:
            budget = int(best.fixed + share * (best.total - best.fixed))
            _, result = self.run("prune", "--run", "r", "--budget", budget, "--probe", "sums", "--dry-run", "--no-rebase", "--store", store)
            where = f"14 snapshots, a budget of {share:.0%} of what may go"
            self.table.add("value of the kept set over the best one", "ckpt", where, best.value(result) / best.within(budget), "times", "0.95 at least")
        shutil.rmtree(store)

    # -- cycles

    def cycles(self):
        """A store that took part in 500 cycles of ingest and prune, beside a fresh one with the same snapshots."""
        source = os.path.join(self.work, "source.safetensors")
        words = (bf16(self.random.standard_normal((4096, 1024)) * 0.02)).astype(np.uint16)
        step = 0

        def advance():
            nonlocal step, words
            step += 1
            # A fine-tune: most words move by a unit or stay.
            words = words + self.random.choice(np.array([0, 0, 0, 1, 1, 65535, 65535, 2], np.uint16), words.shape)
            write_safetensors(source, {f"layers.{index}.weight": ("BF16", part.shape, part) for index, part in enumerate(np.split(words, 4))})

        def cycle(store):
            seconds, _, _ = command([self.ckpt, "ingest", source, "--run", "r", "--step", str(step), "--no-image", "--store", store])
            command([self.ckpt, "prune", "--keep-last", "4", "--keep-every", "100", "--store", store])
            return seconds

        old, fresh = self.store("old"), self.store("fresh")
        for _ in range(500):
            advance()
            cycle(old)
        verified = json.loads(command([self.ckpt, "verify", "--quick", "--json", "--store", old])[2])
        allocated = os.stat(f"{old}/gen-1/data.mdb").st_blocks * 512
        self.table.add("allocated over live, data file", "ckpt", "after 500 cycles", allocated / (4096 * verified["pages"]), "times", "1.3 at most")
        for entry in json.loads(command([self.ckpt, "log", "r", "--json", "--store", old])[2]):
            copy = os.path.join(self.work, "copy")
            command([self.ckpt, "export", f"r@{entry['step']}", copy, "--store", old])
            command([self.ckpt, "ingest", os.path.join(copy, os.path.basename(source)), "--run", "r", "--step", str(entry["step"]), "--no-image", "--store", fresh])
            shutil.rmtree(copy)
        seconds = {old: [], fresh: []}
        # Until chains of deltas are as deep in both.
        warming = 10
        for number in range(warming + 31):
            advance()
            for store in [old, fresh] if step % 2 else [fresh, old]:
                took = cycle(store)
                if number >= warming:
                    seconds[store].append(took)
        ratio = statistics.median(seconds[old]) / statistics.median(seconds[fresh])
        self.table.add("time of an ingest over that into a fresh store", "ckpt", f"after 500 cycles, {words.nbytes / 1e6:.0f} MB", ratio, "times", "1.1 at most")
        for store in [old, fresh]:
            shutil.rmtree(store)


class Borg:
    """Compression as it is by default; `borg compact` is what gives space back."""

    name = "borg prune, compact"

    def __init__(self, work):
        self.repository = f"{work}/borg"
        self.env = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_BASE_DIR": f"{work}/borg-home"}
        self.call("init", "-e", "none", self.repository)

    def call(self, *arguments):
        return command(["borg", *arguments], env=self.env)[0]

    def add(self, source, step):
        self.call("create", f"{self.repository}::step-{step:04}", source)

    def prune(self):
        """Bytes freed on the disk, and seconds."""
        before = size_on_disk(self.repository)
        os.sync()
        seconds = self.call("prune", "--keep-last", "1", self.repository) + self.call("compact", self.repository)
        freed = before - size_on_disk(self.repository)
        shutil.rmtree(self.repository)
        return freed, seconds


class Restic(Borg):
    name = "restic forget --prune"

    def __init__(self, work):
        self.repository = f"{work}/restic"
        self.env = {"RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": f"{work}/restic-cache"}
        self.call("init")

    def call(self, *arguments):
        return command(["restic", "-r", self.repository, *arguments], env=self.env)[0]

    def add(self, source, step):
        self.call("backup", source)

    def prune(self):
        before = size_on_disk(self.repository)
        os.sync()
        # None of the space is left unused, as the others leave none.
        seconds = self.call("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
        freed = before - size_on_disk(self.repository)
        shutil.rmtree(self.repository)
        return freed, seconds


def size_on_disk(path):
    return sum(os.lstat(os.path.join(root, name)).st_blocks * 512 for root, _, names in os.walk(path) for name in names)


class BestSets:
    """All sets of the 14 snapshots before the head, by what the independent reader finds in the store: gap value as the method has it, and
    packed bytes of the blocks that a set needs."""

    def __init__(self, store, run):
        with lmdb.open(reader.generation(store), readonly=True, lock=False, max_dbs=32) as environment, environment.begin() as transaction:
            self.read(store, transaction, environment, run)

    def read(self, path, transaction, environment, run):
        tables = {kind: environment.open_db(name.encode(), transaction, create=False) for kind, name in enumerate(reader.TABLES[:18], 1)}

        def get(kind, key):
            return reader.unwrap(kind, key, transaction.get(key, db=tables[kind]))

        steps = []
        with transaction.cursor(tables[reader.STEPS]) as cursor:
            for key, record in cursor:
                steps.append((key[:-9].decode(), int.from_bytes(key[-8:], "big"), reader.step(reader.unwrap(reader.STEPS, key, record)).snapshot))
        of_run = [(step, snapshot) for name, step, snapshot in steps if name == run]
        self.steps = [step for step, _ in of_run[:-1]]
        assert len(self.steps) == 14
        # Which snapshots need each block: a bit for each of the 14, another for all that stays.
        stays = 1 << 14
        bit = {snapshot: 1 << index for index, (_, snapshot) in enumerate(of_run[:-1])}
        needs = {}
        for _, _, snapshot in steps:
            mask = bit.get(snapshot, stays)
            for _, part in reader.snapshot(get(reader.SNAPSHOTS, snapshot)).parts:
                for file in reader.part(get(reader.PARTS, part)).files:
                    for tensor in [storage.tensor for storage in file.storages] + ([file.skeleton] if file.skeleton else []):
                        for block in reader.stored_tensor(get(reader.TENSORS, tensor)).blocks:
                            while block is not None:
                                needs[block] = needs.get(block, 0) | mask
                                packed = get(reader.BLOCKS, block)
                                block = packed[16:48] if packed[3] else None
        bytes_by_need = Counter()
        for block, mask in needs.items():
            bytes_by_need[mask] += reader.count(get(reader.COUNTS, bytes([reader.BLOCKS]) + block)).packed_bytes
        sets = np.arange(1 << 14)
        self.bytes = np.zeros(1 << 14, np.int64)
        for mask, size in bytes_by_need.items():
            self.bytes[(sets & mask != 0) | bool(mask & stays)] += size
        self.fixed, self.total = int(self.bytes[0]), int(self.bytes[-1])
        self.read_gains(path, [snapshot.hex() for _, snapshot in of_run])
        self.values = np.array([self.set_value(one) for one in sets])

    def read_gains(self, path, snapshots):
        lines = subprocess.run([sys.executable, reader.__file__, path, "entropies"], check=True, capture_output=True, text=True).stdout.splitlines()
        records = {row["snapshot"]: row for row in map(json.loads, lines)}
        entropies = {snapshot: np.array([np.mean(sample["entropy"]) for sample in records[snapshot]["rows"]]) for snapshot in snapshots}
        strong = entropies[snapshots[-1]]
        random = np.random.default_rng(3)
        self.gains = []
        for snapshot in snapshots[:-1]:
            gap = entropies[snapshot] - strong
            low = np.quantile([random.choice(gap, len(gap)).mean() for _ in range(2000)], 0.025)
            self.gains.append(np.zeros(len(gap)) if low < 0.02 else 0.8 * np.maximum(gap, 0) + 0.1 * np.maximum(-gap, 0))
        self.gains = np.array(self.gains)

    def set_value(self, one):
        members = [index for index in range(14) if one >> index & 1]
        return float(self.gains[members].max(axis=0).mean()) if members else 0.0

    def value(self, result):
        """Of the set that prune keeps."""
        kept = {row["step"] for row in result["rows"] if row["run"] == "r" and row["kept"]}
        return self.set_value(sum(1 << index for index, step in enumerate(self.steps) if step in kept))

    def of_count(self, count):
        return max(value for one, value in enumerate(self.values) if one.bit_count() <= count)

    def within(self, budget):
        return float(self.values[self.bytes <= budget].max())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--size", type=float, default=4e9)
    parser.add_argument("--blocks", type=int, default=10_000_000, help="of the store that memory is measured with")
    parser.add_argument("--disk", default=".build")
    parser.add_argument("--only", default="speed,rebase,memory,choice,cycles")
    options = parser.parse_args()
    bench = Bench(options)
    os.makedirs(bench.work, exist_ok=True)
    # A disk that is told of every block that is freed ("discard") takes its time for that.
    print("on", subprocess.run(["findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "--target", bench.work], capture_output=True, text=True).stdout.strip())
    print("| figure | who | where | measured | asked |\n|---|---|---|---|---|", flush=True)
    for name in options.only.split(","):
        getattr(bench, name)()
    shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    main()
