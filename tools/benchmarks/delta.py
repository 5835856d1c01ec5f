#!/usr/bin/env python3
"""The benchmark of deltas behind tools/benchmarks/run: sizes and speeds of histories, bounds and peers beside them.

    delta.py --bin DIR [--data DIR] [--only size,user,speed,row,sparse,fp32,history,codec] [--pack delta] [--json FILE]

Sizes are what the store's directory occupies, over the bytes of the files ingested; speeds are medians of whole
commands: files read, store synced. What is exported is compared. What this build lacks, or what fails, gets a row that
says so.
"""
import argparse
import filecmp
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

from bench import Table, machine
from floats import DATA, HERE, STEPS, TRAINER_STEPS, read_safetensors, sft_file, trainer_directory, write_safetensors

# What is asked of each figure.
ASKED = {
    "series": ".290, aim .265",
    "delta": {100: ".270", 150: ".240", 200: ".205", 250: ".165", 300: ".130"},
    "ingest": ".2, aim .3",
    "export": ".15, aim .28",
    "row": "5,000, aim 1,000",
    "weights": {100: ".664 (bound .651 + 2 %)", 200: ".662 (.649 + 2 %)", 400: ".623 (.611 + 2 %)"},
    # The two moments take the same bytes: exp_avg dense .845 and exp_avg_sq .782 .767 .754, + 2 %.
    "optimizer": {100: ".830 (bound .813 + 2 %)", 200: ".822 (.806 + 2 %)", 400: ".815 (.800 + 2 %)"},
    "sparse": "bound + 10 %",
    "encode_gb_s": ".5, aim 1.0",
    "decode_gb_s": ".8, aim 1.5",
}
PARTS = ["size", "user", "speed", "row", "sparse", "fp32", "history", "depth", "codec"]
COPIES = 24  # of the sft-bf16 model in the large one, 240 MB


class Failed(Exception):
    """A command that this build does not have, or that went wrong."""


def run(arguments, cores=None):
    """Seconds and the answer of a command pinned to `cores`."""
    pinned = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
    start = time.perf_counter()
    done = subprocess.run(pinned + arguments, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        words = f"{done.stderr.strip()} ".replace("\n", " ").replace("|", "/")
        raise Failed(f"{os.path.basename(arguments[0])} {arguments[1]}: exit {done.returncode}: {words[:120]}")
    return seconds, done.stdout


def allocated(path):
    """Bytes that a directory occupies, like du."""
    total = os.lstat(path).st_blocks
    for directory, names, files in os.walk(path):
        total += sum(os.lstat(f"{directory}/{name}").st_blocks for name in names + files)
    return 512 * total


def evict(path):
    """Drops a file from the page cache: on a disk; on tmpfs there is nowhere to drop it to."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def size_of(paths):
    return sum(map(os.path.getsize, paths))


def cores():
    available = sorted(os.sched_getaffinity(0))
    return [available[:1], available[:2]] if len(available) > 1 else [available]


class Store:
    """A store of the command line's, one run `a` in it."""

    def __init__(self, bench, path, *flags, depth_limit=None):
        self.bench, self.path = bench, path
        self.flags = ["--pack", bench.options.pack, *flags]
        shutil.rmtree(path, ignore_errors=True)
        self.ckpt("init", path, *(["--depth-limit", str(depth_limit)] if depth_limit is not None else []))

    def ckpt(self, *arguments, pinned=None):
        where = [] if arguments[0] == "init" else ["--store", self.path]
        return run([self.bench.ckpt, *arguments, *where], pinned)

    def ingest(self, path, step=None, pinned=None, default=False):
        """Seconds, and the line of JSON about the snapshot."""
        flags = [] if default else self.flags
        number = ["--step", str(step)] if step is not None else []
        seconds, answer = self.ckpt("ingest", path, "--run", "a", "--json", *flags, *number, pinned=pinned)
        return seconds, json.loads(answer.splitlines()[0])

    def export(self, ref, original, pinned=None):
        """Seconds of an export, after a comparison of what came out."""
        out = f"{self.path}-out"
        shutil.rmtree(out, ignore_errors=True)
        seconds, _ = self.ckpt("export", ref, out, pinned=pinned)
        if not filecmp.cmp(f"{out}/{os.path.basename(original)}", original, shallow=False):
            sys.exit(f"the export of {ref} differs from {original}")
        shutil.rmtree(out)
        return seconds

    def data_file(self):
        with open(f"{self.path}/current") as file:
            return f"{self.path}/{file.read().strip()}/data.mdb"

    def sizes(self):
        """Bytes occupied with and without the ballast."""
        whole = allocated(self.path)
        ballast = f"{self.path}/ballast"
        return whole, whole - (allocated(ballast) if os.path.exists(ballast) else 0)


class Bench:
    def __init__(self, options):
        self.options = options
        self.table = Table()
        self.ckpt = os.path.join(options.bin, "ckpt")
        self.micro = os.path.join(options.bin, "ckpt-bench")
        self.series = [sft_file(options.data, step) for step in STEPS]
        self.known_peers = None

    def attempt(self, figure, where, action, who="ckpt", asked=""):
        """Runs a part of the measurements; when it fails, its row says why."""
        try:
            return action()
        except Failed as error:
            self.table.add(figure, who, where, f"not measured: {error}", "", asked)

    # -- the peers, measured once

    def peer_rows(self, series):
        """Rows of delta_peers.py: from the file given, or measured now for all of the series."""
        if self.known_peers is None:
            path = self.options.peers
            if not path:
                path = f"{self.options.tmpfs}/peers.json"
                self.peers("--series", "sft-bf16,weights,exp_avg,exp_avg_sq", "--repeat", str(self.options.repeat),
                           "--no-bounds", "--json", path)
            with open(path) as file:
                self.known_peers = json.load(file)["peers"]
        return [row for row in self.known_peers if row["series"] == series]

    def peers(self, *arguments):
        run([sys.executable, "-W", "ignore", f"{HERE}/delta_peers.py", "--data", self.options.data, *arguments])

    # -- size: six snapshots of the fine-tune, by themselves

    def size(self):
        raw = size_of(self.series)
        for place, where in [("tmpfs", self.options.tmpfs), ("disk", self.options.disk)]:
            label = f"{len(STEPS)} x sft-bf16, {place}, no image"
            store = Store(self, f"{where}/size", "--no-image")
            for path, step in zip(self.series, STEPS):
                packed = store.ingest(path)[1]["packed_bytes"]
                if place == "tmpfs":
                    self.table.add("packed/raw of a snapshot", "ckpt", f"sft-bf16 {step}", packed / os.path.getsize(path), "",
                                   ASKED["delta"].get(step, ".665 (ZipNN)"))
            self.store_rows("store before compaction", label, store, raw)
            if self.attempt("store after compaction", label, lambda: store.ckpt("compact"), asked=ASKED["series"]):
                self.store_rows("store after compaction", label, store, raw, ASKED["series"])
            stats = json.loads(store.ckpt("stats", "--json")[1])
            self.table.add("packed bytes", "ckpt", label, stats["packed_bytes"] / raw, "of raw")
            shutil.rmtree(store.path)
        for row in self.peer_rows("sft-bf16"):
            if row["step"] == "all":
                self.table.add("packed bytes", row["codec"], f"{len(STEPS)} x sft-bf16, no store", row["ratio"], "of raw")
            elif row["codec"] in ["BitX, chained", "z4ai delta"]:
                self.table.add("packed/raw of a snapshot", row["codec"], f"sft-bf16 {row['step']}", row["ratio"], "")

    def store_rows(self, figure, label, store, raw, asked=""):
        whole, without = store.sizes()
        self.table.add(figure, "ckpt", f"{label}, without ballast", without / raw, "of raw", asked)
        self.table.add(figure, "ckpt", label, whole / raw, f"of raw, {whole / 1e6:.2f} MB", asked)

    # -- user: the store as it is left by default, the head's image with it

    def user(self):
        history = self.history_files(20)
        for label, files in [(f"{len(STEPS)} x sft-bf16", self.series), (f"{len(history)} x made history", history)]:
            raw = size_of(files)
            store = Store(self, f"{self.options.disk}/user")
            for path in files:
                store.ingest(path, default=self.options.pack == "delta")
            self.store_rows("store as left, image of the head", f"{label}, disk", store, raw)
            image = json.loads(store.ckpt("stats", "--json")[1])["image_bytes"]
            self.table.add("image in it", "ckpt", f"{label}, disk", image / raw, f"of raw, {image / 1e6:.2f} MB")
            shutil.rmtree(store.path)

    # -- speed: a model of 240 MB

    def large(self, where):
        """The six steps with each tensor there eight times, its rows in another order each time: the same one at all
        steps, so that a step differs from the one before as it really does, and no block is there twice."""
        os.makedirs(where, exist_ok=True)
        files = []
        for step in STEPS:
            random = np.random.default_rng(7)
            tensors = {}
            for copy in range(COPIES):
                for name, (dtype, shape, content) in read_safetensors(sft_file(self.options.data, step)).items():
                    rows = content.view(np.uint16).reshape(shape)
                    tensors[f"copy{copy}.{name}"] = (dtype, shape, rows[random.permutation(len(rows))])
            files.append(f"{where}/step-{step}.safetensors")
            write_safetensors(files[-1], tensors)
        return files

    def speed(self):
        where = f"{self.options.tmpfs}/speed"
        files = self.large(f"{where}/in")
        gb = os.path.getsize(files[-1]) / 1e9
        base = Store(self, f"{where}/base", "--no-image")
        for path in files[:-1]:
            base.ingest(path)
        store = Store(self, f"{where}/store", "--no-image")
        for pinned in cores():
            label = f"{gb * 1000:.0f} MB, tmpfs, {len(pinned)} core{'s' if len(pinned) > 1 else ''}"

            def ingest():
                shutil.rmtree(store.path)
                shutil.copytree(base.path, store.path)
                seconds, answer = store.ingest(files[-1], pinned=pinned)
                self.ratio = answer["packed_bytes"] / answer["new_bytes"]
                self.new = answer["new_bytes"] / answer["raw_bytes"]
                return seconds

            def dense():
                fresh = Store(self, f"{where}/dense", "--no-image")
                return fresh.ingest(files[-1], pinned=pinned)[0]

            def add(figure, seconds, asked=""):
                self.table.add(figure, "ckpt", label, gb / len(pinned) / seconds, "GB/s per core", asked)

            add("ingest of step 300 after its parent, no image", self.median(ingest), ASKED["ingest"])
            self.table.add("packed/raw of that step's new blocks", "ckpt", label, self.ratio, f"{self.new:.1%} of it new",
                           ASKED["delta"][300])
            add("ingest of step 300 into an empty store, no image", self.median(dense), ".33")
            add("export of step 300, after six", self.median(lambda: store.export("a@300", files[-1], pinned)), ASKED["export"])
            add("export of step 50, the chain's start", self.median(lambda: store.export("a@50", files[0], pinned)))
        shutil.rmtree(where)
        for row in self.peer_rows("sft-bf16"):
            if row["step"] == "all":
                self.table.add("packing in memory", row["codec"], "sft-bf16, 1 core", row["in_gb_s"], "GB/s per core")
                self.table.add("unpacking in memory", row["codec"], "sft-bf16, 1 core", row["out_gb_s"], "GB/s per core")
        for figure, speed in [("packing in memory", .12), ("unpacking in memory", .16)]:
            self.table.add(figure, "BitX, published", "48 vCPU", speed, "GB/s per core")

    def median(self, action):
        return statistics.median(action() for _ in range(self.options.repeat))

    # -- row: one row of a tensor, at the start and at the end of the chain. ckpt-bench times the read in a process that
    # has the store open, so that the start of a process is not in it.

    def row(self):
        store = Store(self, f"{self.options.disk}/row", "--no-image")
        for path in self.series:
            store.ingest(path)
        tensor = "b.3.g.weight"
        for warmth in ["cold", "warm"]:
            for step in [STEPS[0], STEPS[-1]]:
                def read():
                    if warmth == "cold":
                        evict(store.data_file())
                    answer = run([self.micro, "row", store.path, f"a@{step}", tensor, "345"])[1]
                    return json.loads(answer)["seconds"]

                def measure():
                    self.table.add(f"one row of a tensor, {warmth}", "ckpt", label, 1e6 * self.median(read), "us",
                                   ASKED["row"] if warmth == "cold" else "")

                label = f"sft-bf16, disk, a@{step}:{tensor}"
                self.attempt(f"one row of a tensor, {warmth}", label, measure)
        shutil.rmtree(store.path)

    # -- sparse: a few words changed, the entropy known

    def sparse(self):
        where = f"{self.options.tmpfs}/sparse"
        os.makedirs(where, exist_ok=True)
        base, changed = f"{where}/step-1.safetensors", f"{where}/step-2.safetensors"
        for percent in [1, 5, 20]:
            for flags, label in [([], f"{percent} % of the words, scattered"), (["--rows"], f"{percent} % of the rows")]:
                source = base if os.path.exists(base) else "-"
                made = json.loads(run([sys.executable, f"{HERE}/make_sparse.py", source, changed, "--base-out", base,
                                       "--bytes", str(self.options.sparse_bytes), "--percent", str(percent), *flags])[1])
                store = Store(self, f"{where}/store", "--no-image")
                store.ingest(base)
                packed = store.ingest(changed)[1]["packed_bytes"]
                raw, bound = made["raw_bytes"], made["bound_bytes"]
                asked = ASKED["sparse"]
                self.table.add("sparse change, bound", "entropy", label, raw / bound, f"x smaller, {bound:.0f} bytes")
                self.table.add("sparse change", "ckpt", label, raw / packed,
                               f"x smaller, {packed} bytes, {packed / bound:.3f} of the bound", asked)
                self.peers("--files", base, changed, "--codecs", "bitx,z4ai", "--repeat", "1", "--no-bounds",
                           "--json", f"{where}/peers.json")
                with open(f"{where}/peers.json") as file:
                    rows = [row for row in json.load(file)["peers"] if row["step"] != "all"]
                for row in rows:
                    packed = row["packed_bytes"]
                    self.table.add("sparse change", row["codec"].replace(", against the first", ""), label, raw / packed,
                                   f"x smaller, {packed} bytes, {packed / bound:.3f} of the bound")
        shutil.rmtree(where)

    # -- fp32: the trainer's run, weights and optimizer apart

    def fp32(self):
        for part, file, series in [("weights", "model.safetensors", ["weights"]),
                                   ("optimizer", "optimizer.pt", ["exp_avg", "exp_avg_sq"])]:
            store = Store(self, f"{self.options.tmpfs}/fp32", "--no-image")
            figure = f"packed/raw, fp32 {part}"
            total = raw = 0
            for step in TRAINER_STEPS:
                seconds, answer = store.ingest(f"{trainer_directory(self.options.data, step)}/{file}", step)
                total, raw = total + answer["packed_bytes"], raw + answer["raw_bytes"]
                self.table.add(figure, "ckpt", f"trainer-run {step}", answer["packed_bytes"] / answer["raw_bytes"], "",
                               ASKED[part].get(step, ""))
            self.table.add(figure, "ckpt", "trainer-run, all", total / raw, "")
            shutil.rmtree(store.path)
            rows = [row for name in series for row in self.peer_rows(name)]
            for codec, step in dict.fromkeys((row["codec"], row["step"]) for row in rows):
                same = [row for row in rows if (row["codec"], row["step"]) == (codec, step)]
                ratio = sum(row["packed_bytes"] for row in same) / sum(row["raw_bytes"] for row in same)
                self.table.add(figure, codec, f"trainer-run{',' if step == 'all' else ''} {step}", ratio, "")

    # -- history: 200 snapshots

    def history_files(self, count):
        where = f"{self.options.disk}/history"
        files = [f"{where}/step-{step}.safetensors" for step in range(1, self.options.history + 1)]
        if not all(map(os.path.exists, files)):
            answer = run([sys.executable, f"{HERE}/make_history.py", where, "--data", self.options.data,
                          "--count", str(self.options.history)])[1]
            made = json.loads(answer)
            for key, value in made["made"][-1].items():
                if key != "step":
                    self.table.add(f"made history: {key}", "last pair", f"{len(files)} snapshots", value, "",
                                   f"{made['real'][key]:.4f} (real)")
        return files[:count]

    def history(self):
        files = self.history_files(self.options.history)
        raw = os.path.getsize(files[0])
        store = Store(self, f"{self.options.disk}/history-store", "--no-image")
        label = f"{len(files)} x {raw / 1e6:.1f} MB, disk, no image"
        times, before = [], {}
        for count, path in enumerate(files, 1):
            times.append(store.ingest(path)[0])
            if count in {20, 100, 200, len(files)}:
                before[count] = store.sizes()[1]
                self.table.add(f"ingest of a snapshot, near the {count}th", "ckpt", label, 1000 * statistics.median(times[-5:]), "ms")
                self.table.add(f"store after {count}", "ckpt", label, before[count] / count / raw,
                               f"of raw, {before[count] / count:.0f} bytes a snapshot")
        for ref, path in [("a@1", files[0]), (f"a@{len(files)}", files[-1])]:
            seconds = self.median(lambda: store.export(ref, path))
            self.table.add(f"export of {ref}", "ckpt", label, 1000 * seconds, f"ms, {raw / 1e9 / seconds:.3f} GB/s")
        if self.attempt("store after compaction", label, lambda: store.ckpt("compact")):
            self.store_rows("store after compaction", label, store, raw * len(files))
        shutil.rmtree(store.path)

    # -- depth: what longer chains save, and what they cost to read

    def depth(self):
        made = self.history_files(40)
        for limit in [0, 1, 2, 3, 4, 5, 6, 8, 10]:
            for name, files, steps in [("6 x sft-bf16", self.series, STEPS), ("40 x made history", made, range(1, 41))]:
                store = Store(self, f"{self.options.tmpfs}/depth", "--no-image", depth_limit=limit)
                for path in files:
                    store.ingest(path)
                stats = json.loads(store.ckpt("stats", "--json")[1])
                label = f"{name}, depth limit {limit}"
                self.table.add("packed bytes", "ckpt", label, stats["packed_bytes"] / stats["raw_bytes"], "of raw")
                last = list(zip(steps, files))[-12:]
                seconds = statistics.mean(store.export(f"a@{step}", path, cores()[0]) for step, path in last)
                self.table.add("export, mean of the last 12, whole command", "ckpt", label, 1000 * seconds, "ms")
                shutil.rmtree(store.path)

    # -- codec: without a store, in ckpt-bench

    def codec(self):
        for steps in [(50, 100), (150, 200), (250, 300), (150, 200, 100), (250, 300, 200)]:
            files = [sft_file(self.options.data, step) for step in steps]
            label = f"sft-bf16 {steps[0]} -> {steps[1]}" + (f", with {steps[2]}" if len(steps) > 2 else "")

            def measure():
                for key, value in json.loads(run([self.micro, "codec", *files], cores()[0])[1]).items():
                    self.table.add(f"codec: {key}", "ckpt", label, value, "GB/s per core" if key.endswith("gb_s") else "of raw", ASKED.get(key, ""))

            self.attempt("codec", label, measure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--tmpfs", default="/dev/shm/ckpt-delta")
    parser.add_argument("--disk", default="/var/tmp/ckpt-delta")
    parser.add_argument("--pack", default="delta", help="another packing than the default, to compare")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--history", type=int, default=200, help="snapshots of the made history")
    parser.add_argument("--sparse-bytes", type=int, default=64 << 20, help="size of the model with sparse changes")
    parser.add_argument("--peers", help="the JSON of delta_peers.py, instead of measuring the peers now")
    parser.add_argument("--only", help=f"comma-separated: {','.join(PARTS)}")
    parser.add_argument("--json", help="write the rows to this file too")
    options = parser.parse_args()
    if not glob.glob(f"{options.data}/sft-bf16/*.safetensors"):
        parser.error(f"no sft-bf16 in {options.data}: give its folder with --data")
    bench = Bench(options)
    print(f"machine: {machine()}; load {os.getloadavg()[0]:.1f}; medians of {options.repeat}; --pack {options.pack}\n")
    print("| figure | who | where | measured | asked |\n|---|---|---|---|---|")
    for path in [options.tmpfs, options.disk]:
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
    for part in (options.only or ",".join(PARTS)).split(","):
        bench.attempt(part, "", getattr(bench, part))
    for path in [options.tmpfs, options.disk]:
        shutil.rmtree(path, ignore_errors=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "pack": options.pack, "rows": bench.table.rows}, file, indent=2)


if __name__ == "__main__":
    main()
