"""The benchmark behind tools/benchmarks/run: every figure of the store, its peers beside it.

Each row is the median of several runs; peers get the same bytes in the same run, pinned to the same cores. What is
written is read back and compared. Losing rows are printed like the others.
"""
import argparse
import filecmp
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def command(arguments, cores=None, check=True, env=None):
    """Runs a command pinned to `cores`; returns (seconds, cpu seconds, stdout)."""
    if cores:
        arguments = ["taskset", "-c", ",".join(map(str, cores))] + arguments

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(arguments, capture_output=True, text=True, env={**os.environ, **(env or {})})
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, done.stdout


class Table:
    def __init__(self):
        self.rows = []

    def add(self, figure, who, where, value, unit, target=""):
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"| {figure} | {who} | {where} | {shown} {unit} | {target} |", flush=True)
        self.rows.append({"figure": figure, "who": who, "where": where, "value": value, "unit": unit, "target": target})


class Peers:
    """A script's rows, in one process that waits while ours run: each round times every row once."""

    def __init__(self, script, *arguments):
        self.script = script
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", script, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # What each row says of itself.
        self.rows = {}
        for line in self.process.stdout:
            if line.strip() == "ready":
                return
            row = json.loads(line)
            self.rows[row["name"]] = row
        sys.exit(f"{script}: exit {self.process.wait()}")

    def round(self):
        """The seconds of each row."""
        self.process.stdin.write("round\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    def __init__(self, options):
        self.options = options
        self.table = Table()
        self.ckpt = os.path.join(options.bin, "ckpt")
        self.micro = os.path.join(options.bin, "ckpt-bench")

    def median(self, run, repeat=None):
        return statistics.median(run() for _ in range(repeat or self.options.repeat))

    def store(self, where):
        path = f"{where}/store"
        shutil.rmtree(path, ignore_errors=True)
        command([self.ckpt, "init", path])
        return path

    def model(self, where, size, seed=1, nudge=0.0, name="model.safetensors", dtype="BF16"):
        os.makedirs(where, exist_ok=True)
        path = f"{where}/{name}"
        command([
            sys.executable, f"{HERE}/make_model.py", path, "--bytes", str(size), "--seed", str(seed), "--nudge", str(nudge), "--dtype", dtype])
        return path

    # -- size

    def ratio(self):
        data = self.options.data
        if not data:
            data = self.model(f"{self.options.tmpfs}/ratio", 1e7)
        raw = os.path.getsize(data)
        where = f"{self.options.tmpfs}/ratio-store"
        os.makedirs(where, exist_ok=True)
        store = self.store(where)
        command([self.ckpt, "ingest", data, "--run", "a", "--no-image", "--store", store])
        stats = json.loads(command([self.ckpt, "stats", "--json", "--store", store])[2])
        name = os.path.basename(data)
        peer = self.zipnn_size(data) / raw
        self.table.add("dense bf16 ratio", "ckpt", name, stats["packed_bytes"] / raw, "", f"at most {peer * 1.005:.4f}")
        self.table.add("dense bf16 ratio", "zipnn", name, peer, "")
        self.table.add("dense bf16 ratio", "ckpt, store directory on disk", name, (stats["store_bytes"] - (1 << 20)) / raw, "")
        import zstandard

        packed = len(zstandard.ZstdCompressor(level=3).compress(open(data, "rb").read()))
        self.table.add("dense bf16 ratio", "zstd -3", name, packed / raw, "")
        shutil.rmtree(where)

    def zipnn_size(self, path):
        # In a process of its own: with torch loaded, this one would start others slowly.
        code = (
            "import sys\nfrom zipnn import ZipNN\n"
            "print(len(ZipNN(bytearray_dtype='bfloat16').compress(bytearray(open(sys.argv[1], 'rb').read()))))"
        )
        return int(command([sys.executable, "-W", "ignore", "-c", code, path])[2].split()[-1])

    # -- speed

    def speeds(self, place, where, cores, repeat):
        size = self.options.size
        label = f"{place}, {len(cores)} core{'s' if len(cores) > 1 else ''}"
        os.makedirs(where, exist_ok=True)
        model = self.model(f"{where}/in", size)
        raw = os.path.getsize(model)
        gb = raw / 1e9
        per_core = gb / len(cores)

        def ingest(*flags):
            store = self.store(where)
            return command([self.ckpt, "ingest", model, "--run", "a", "--store", store, *flags], cores)[0]

        def again():
            other = f"{where}/other/model.safetensors"
            os.makedirs(os.path.dirname(other), exist_ok=True)
            shutil.copyfile(model, other)
            store = self.store(where)
            command([self.ckpt, "ingest", model, "--run", "a", "--no-image", "--store", store])
            before = os.path.getsize(f"{store}/gen-1/data.mdb")
            seconds = command([self.ckpt, "ingest", other, "--run", "b", "--no-image", "--store", store], cores)[0]
            self.growth = (os.path.getsize(f"{store}/gen-1/data.mdb") - before) / raw
            return seconds

        def export():
            out = f"{where}/out"
            shutil.rmtree(out, ignore_errors=True)
            seconds = command([self.ckpt, "export", "a", out, "--store", f"{where}/store"], cores)[0]
            if not filecmp.cmp(f"{out}/model.safetensors", model, shallow=False):
                sys.exit("the export differs from the model")
            shutil.rmtree(out)
            return seconds

        add = lambda figure, who, seconds, target="": self.table.add(
            figure, who, label, per_core / seconds, "GB/s per core", target)
        add("ingest, new, image", "ckpt", self.median(lambda: ingest(), repeat), ".25")
        add("ingest, new, no image", "ckpt", self.median(lambda: ingest("--no-image"), repeat), ".33")
        add("ingest, new, no image, --pack raw", "ckpt", self.median(lambda: ingest("--no-image", "--pack", "raw"), repeat))
        for who, seconds in self.peers(model, where, cores):
            add("ingest, new", who, seconds)
        add("ingest, same bytes from another path", "ckpt", self.median(again, repeat), "1.2")
        if len(cores) == 1:
            self.table.add("SHA-256 of 256 KiB in cache, nothing read", "openssl speed", label, self.hash(cores), "GB/s per core")
        self.table.add("growth by those", "ckpt", label, 100 * self.growth, "%", "under .1")
        add("export, dense", "ckpt", self.median(export, repeat), ".8")
        shutil.rmtree(where)

    @staticmethod
    def hash(cores):
        """The speed no ingest by SHA-256 in one thread can pass."""
        text = command(["openssl", "speed", "-evp", "sha256", "-bytes", "262144", "-seconds", "2"], cores)[2]
        return float(text.split()[-1].rstrip("k")) * 1000 / 1e9

    def peers(self, model, where, cores):
        repository = f"{where}/borg"
        env = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_BASE_DIR": f"{where}/borg-home"}
        chunker = ["--chunker-params", "buzhash,13,17,16,4095"]
        command(["borg", "init", "-e", "none", repository], env=env)
        yield "borg (lz4)", command(["borg", "create", *chunker, f"{repository}::a", model], cores, env=env)[0]
        shutil.rmtree(repository)
        repository = f"{where}/restic"
        env = {"RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": f"{where}/restic-cache", "GOMAXPROCS": str(len(cores))}
        command(["restic", "init", "-r", repository], env=env)
        yield "restic", command(["restic", "backup", "-r", repository, model], cores, env=env)[0]
        shutil.rmtree(repository)
        yield "zipnn + write", self.zipnn_write(model, where, cores)

    def zipnn_write(self, model, where, cores):
        code = (
            "import sys,time\nfrom zipnn import ZipNN\nz=ZipNN(bytearray_dtype='bfloat16', threads=int(sys.argv[3]))\n"
            "s=time.perf_counter()\nb=bytearray(open(sys.argv[1],'rb').read())\nc=z.compress(b)\n"
            "open(sys.argv[2],'wb').write(c)\nprint(time.perf_counter()-s)"
        )
        out = f"{where}/zipnn"
        text = command([sys.executable, "-W", "ignore", "-c", code, model, out, str(len(cores))], cores)[2]
        os.remove(out)
        return float(text.strip().splitlines()[-1])

    def unchanged(self, place, where):
        for step in range(20):
            directory = f"{where}/in/checkpoint-{step + 1}"
            os.makedirs(directory, exist_ok=True)
            self.model(directory, 2e7, seed=step)
        time.sleep(0.1)
        store = self.store(where)
        command([self.ckpt, "ingest", f"{where}/in", "--run", "a", "--store", store])
        seconds = self.median(lambda: command([self.ckpt, "ingest", f"{where}/in", "--run", "a", "--store", store])[0], 9)
        self.table.add("ingest of 20 unchanged checkpoints", "ckpt", place, 1000 * seconds, "ms", "100")
        shutil.rmtree(where)

    def many(self, place, where, count=2000):
        os.makedirs(f"{where}/in")
        small = self.tiny()
        for step in range(count):
            with open(f"{where}/in/step-{step + 1}.safetensors", "wb") as file:
                file.write(small + step.to_bytes(8, "little"))
        store = self.store(where)
        command([self.ckpt, "ingest", f"{where}/in", "--run", "a", "--no-image", "--store", store])
        for name, arguments in [("log", ["log", "a"]), ("show", ["show", "a@1000"])]:
            seconds = self.median(lambda: command([self.ckpt, *arguments, "--store", store])[0], 9)
            self.table.add(f"{name} with {count} snapshots", "ckpt", place, 1000 * seconds, "ms", "under 50")
        shutil.rmtree(where)

    @staticmethod
    def tiny():
        header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        return len(header).to_bytes(8, "little") + header

    # -- views

    def views(self, where):
        for size in [2e7, self.options.size]:
            for packing, flags in [("image", []), ("raw blocks", ["--no-image", "--pack", "raw"])]:
                model = self.model(f"{where}/in", size)
                store = self.store(where)
                command([self.ckpt, "ingest", model, "--run", "a", "--store", store, *flags])
                result = json.loads(command([self.micro, "views", store, "a"])[2])
                label = f"{packing}, {result['bytes'] / 1e9:.2f} GB model, tmpfs"
                self.table.add("view of one tensor, median", "ckpt", label, result["median_us"], "us", "under 20")
                self.table.add("view of one tensor, the first", "ckpt", label, result["first_us"], "us")
        shutil.rmtree(where)

    # -- memory

    def memory(self, where):
        limit = 512 << 20
        first = self.model(f"{where}/a", self.options.large, name="step-1.safetensors")
        second = self.model(f"{where}/b", self.options.large, nudge=0.01, name="step-2.safetensors")
        store = self.store(where)
        gb = os.path.getsize(first) / 1e9
        label = f"disk, {gb:.1f} GB model, ulimit -d 512 MiB"
        steps = [
            ("ingest", ["ingest", first, "--run", "a"], gb),
            ("ingest of the next", ["ingest", second, "--run", "a"], gb),
            ("diff", ["diff", "a@1", "a@2"], 2 * gb),
            ("export", ["export", "a@1", f"{where}/out"], gb),
            ("verify", ["verify"], 2 * gb),
        ]
        for name, arguments, amount in steps:
            seconds, peak = self.anonymous_peak([self.ckpt, *arguments, "--store", store], limit)
            self.table.add(f"peak anonymous memory, {name}", "ckpt", label, peak / (1 << 20), "MiB", "under 512")
            self.table.add(f"{name}, two cores", "ckpt", label, amount / seconds, "GB/s")
        same = filecmp.cmp(f"{where}/out/step-1.safetensors", first, shallow=False)
        if not same:
            sys.exit("the export differs from the model")
        shutil.rmtree(where)

    @staticmethod
    def anonymous_peak(arguments, limit):
        """Seconds and the largest RssAnon of a process under a limit on its data."""
        start = time.perf_counter()
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
        peak = 0
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as status:
                    for line in status:
                        if line.startswith("RssAnon"):
                            peak = max(peak, int(line.split()[1]) * 1024)
            except OSError:
                pass
            time.sleep(0.02)
        if process.returncode != 0:
            sys.exit(f"{' '.join(arguments)}: exit {process.returncode}\n{process.stderr.read().decode()}")
        return time.perf_counter() - start, peak

    def cores(self):
        available = sorted(os.sched_getaffinity(0))
        return [available[:1], available[:2]] if len(available) > 1 else [available]


def machine():
    name = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                name = line.split(":")[1].strip()
                break
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--data", help="a real bf16 checkpoint for the size row")
    parser.add_argument("--size", type=float, default=1e9)
    parser.add_argument("--large", type=float, default=6e9)
    parser.add_argument("--tmpfs", default="/dev/shm/ckpt-bench")
    parser.add_argument("--disk", default="/var/tmp/ckpt-bench")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", help="comma-separated: ratio,speed,disk,unchanged,many,views,memory")
    parser.add_argument("--json", help="write the rows to this file too")
    options = parser.parse_args()
    wanted = set((options.only or "ratio,speed,disk,unchanged,many,views,memory").split(","))
    bench = Bench(options)
    print(f"machine: {machine()}; load {os.getloadavg()[0]:.1f}; medians of {options.repeat}\n")
    print("| figure | who | where | measured | asked |\n|---|---|---|---|---|")
    for path in [options.tmpfs, options.disk]:
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
    if "ratio" in wanted:
        bench.ratio()
    for cores in bench.cores():
        if "speed" in wanted:
            bench.speeds("tmpfs", f"{options.tmpfs}/speed", cores, options.repeat)
    if "disk" in wanted:
        bench.speeds("disk", f"{options.disk}/speed", bench.cores()[-1], 1)
    if "unchanged" in wanted:
        bench.unchanged("tmpfs", f"{options.tmpfs}/unchanged")
    if "many" in wanted:
        bench.many("tmpfs", f"{options.tmpfs}/many")
    if "views" in wanted:
        bench.views(f"{options.tmpfs}/views")
    if "memory" in wanted:
        bench.memory(f"{options.disk}/memory")
    for path in [options.tmpfs, options.disk]:
        shutil.rmtree(path, ignore_errors=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "rows": bench.table.rows}, file, indent=2)


if __name__ == "__main__":
    main()
