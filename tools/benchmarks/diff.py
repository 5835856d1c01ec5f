"""The benchmark behind tools/benchmarks/run diff: how fast weights are compared, what one sees, and whether it is right.

    diff.py --bin DIR [--data DIR] [--size 1e9] [--large 6e9] [--only speed,peer,few,accuracy,spectrum,along,memory]

--data is a folder of safetensors checkpoints of one model, of which the first and the last are compared too.
"""
import argparse
import glob
import json
import math
import os
import shutil
import sys

import numpy as np

import bench
from bench import Bench, command
from make_model import to_bf16

TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


def read(path):
    """Name -> (dtype, float64 values, unsigned words) of every tensor."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = np.frombuffer(file.read(), np.uint8)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw, shape = data[begin:end], entry["shape"]
        if entry["dtype"] == "BF16":
            words = raw.view(np.uint16).reshape(shape)
            values = (words.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        else:
            numbers = raw.view(TYPES[entry["dtype"]]).reshape(shape)
            values, words = numbers.astype(np.float64), numbers.view(f"u{numbers.dtype.itemsize}")
        tensors[name] = (entry["dtype"], values, words)
    return tensors


def write(path, tensors):
    """Name -> (dtype, array of words)."""
    header, offset = {}, 0
    for name, (dtype, words) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(words.shape), "data_offsets": [offset, offset + words.nbytes]}
        offset += words.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, words in tensors.values():
            file.write(words.tobytes())


def places(words):
    """Integers in the order of the numbers, both zeros the same."""
    bits = 8 * words.dtype.itemsize
    sign = np.array(1, words.dtype) << np.array(bits - 1, words.dtype)
    sizes = (words & ~sign).astype(np.int64)
    return np.where(words & sign, -sizes, sizes)


class DiffBench(Bench):
    def pair(self, where, dtype="BF16", size=None):
        size = size or self.options.size
        return self.model(f"{where}/a", size, dtype=dtype), self.model(f"{where}/b", size, nudge=0.01, dtype=dtype)

    def ingested(self, where, pair, *flags):
        store = self.store(where)
        for step, path in enumerate(pair):
            command([self.ckpt, "ingest", path, "--run", "a", "--step", str(step + 1), "--store", store, *flags])
        return store

    def speed(self, where):
        for dtype in ["BF16", "F32"]:
            pair = self.pair(where, dtype)
            gb = sum(os.path.getsize(path) for path in pair) / 1e9
            for packing, flags in [("images", ["--pin"]), ("raw blocks", ["--no-image", "--pack", "raw"]), ("packed", ["--no-image"])]:
                store = self.ingested(where, pair, *flags)
                for cores in self.cores():
                    asked = ("75", "35") if packing == "images" and len(cores) > 1 else ("", "")
                    label = f"{dtype}, {packing}, tmpfs, {len(cores)} core{'s' if len(cores) > 1 else ''}"
                    result = json.loads(command([self.micro, "diff", store, "a@1", "a@2"], cores)[2])
                    self.table.add("read of two streams", "plain sum", label, result["read_gb_s"], "GB/s")
                    self.table.add("diff, basic measures", "ckpt", label, result["diff_gb_s"], "GB/s")
                    self.table.add("diff, everything", "ckpt", label, result["full_gb_s"], "GB/s")
                    self.table.add("basic, share of read bandwidth", "ckpt", label, 100 * result["share"], "%", asked[0])
                    self.table.add("everything, share of read bandwidth", "ckpt", label, 100 * result["full_share"], "%", asked[1])
                    seconds = self.median(lambda: command([self.ckpt, "diff", "a@1", "a@2", "--store", store], cores)[0])
                    self.table.add("diff, whole command", "ckpt", label, gb / seconds, "GB/s")

    def peer(self, where):
        """modeldelta, which always finds all singular values too, on models of two sizes of matrices."""
        self.beside_modeldelta(where, self.pair(where, size=self.options.peer), "Llama of 2,048")
        shutil.rmtree(where)
        random = np.random.default_rng(3)
        pair = []
        for side in "ab":
            os.makedirs(f"{where}/{side}")
            pair.append(f"{where}/{side}/model.safetensors")
        values = random.standard_normal((8192, 8192), np.float32) * np.float32(.02)
        # A fine-tune: mostly in some directions, and some noise.
        moved = values + (random.standard_normal((8192, 32), np.float32) * np.float32(1e-3)) @ random.standard_normal((32, 8192), np.float32)
        moved += np.float32(1e-3) * random.standard_normal(values.shape, np.float32)
        for path, matrix in zip(pair, (values, moved)):
            write(path, {"model.layers.0.self_attn.q_proj.weight": ("BF16", to_bf16(matrix))})
        del values, moved
        self.beside_modeldelta(where, pair, "one matrix of 8,192 x 8,192")

    def beside_modeldelta(self, where, pair, what):
        for path in pair:
            with open(f"{os.path.dirname(path)}/config.json", "w") as file:
                json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, file)
        label = f"{what}, {sum(os.path.getsize(path) for path in pair) / 1e9:.2f} GB pair"
        tool = os.path.join(os.path.dirname(sys.executable), "modeldelta")
        theirs = command([tool, "-q", "--top-k", "16", *map(os.path.dirname, pair)])[0]
        self.table.add("all of it, whole command", "modeldelta", label, theirs, "s")
        store = self.ingested(where, pair, "--pin")
        result = json.loads(command([self.micro, "diff", store, "a@1", "a@2"])[2])
        spectrum = json.loads(command([self.micro, "spectrum", store, "a@1", "a@2", "16"])[2])["seconds"]
        whole = {
            name: self.median(lambda: command([self.ckpt, "diff", "a@1", "a@2", *more, "--store", store])[0])
            for name, more in [("basic measures", []), ("everything", ["--full"]), ("--spectrum 16", ["--spectrum", "16"])]}
        for name, opened, asked in [
            ("basic measures", result["diff_seconds"], "5,000"), ("everything", result["full_seconds"], ""), ("--spectrum 16", spectrum, "300"),
        ]:
            self.table.add(f"{name}, store open", "ckpt", label, opened, "s")
            self.table.add(f"modeldelta over {name}, store open", "ckpt", label, theirs / opened, "x", asked)
            self.table.add(f"modeldelta over {name}, whole command", "ckpt", label, theirs / whole[name], "x", asked)

    def few(self, where):
        """A hundred tensors of one size: all changed, or one. A larger model than elsewhere: what a process takes to start counts too."""
        random = np.random.default_rng(7)
        rows = int(4 * self.options.size / 100 / 2 / 2048)
        names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(100)]
        # Words of small numbers of either sign.
        base = {name: ("BF16", random.integers(0, 0x3C00, (rows, 2048), np.uint16) | random.integers(0, 2, (rows, 2048), np.uint16) << 15) for name in names}
        paths = {}
        for what, changed in [("first", []), ("all", names), ("one", names[50:51])]:
            os.makedirs(f"{where}/{what}", exist_ok=True)
            paths[what] = f"{where}/{what}/model.safetensors"
            write(paths[what], {name: (dtype, words ^ 1 if name in changed else words) for name, (dtype, words) in base.items()})
        del base
        store = self.store(where)
        for step, what in enumerate(paths):
            command([self.ckpt, "ingest", paths[what], "--run", "a", "--step", str(step), "--pin", "--store", store])
        seconds = {what: self.median(lambda: command([self.ckpt, "diff", "a@0", f"a@{step}", "--store", store])[0], 9) for what, step in [("all", 1), ("one", 2)]}
        label = f"{rows * 2048 * 2 * 100 / 1e9:.1f} GB model with images, in the page cache, whole command"
        for what in seconds:
            self.table.add(f"diff, {what} of 100 tensors changed", "ckpt", label, seconds[what], "s")
        self.table.add("all changed over one changed", "ckpt", label, seconds["all"] / seconds["one"], "x", "20")

    # -- accuracy

    def measures(self, first, second):
        return json.loads(command([self.ckpt, "diff", first, second, "--json", "--norms", "--limit", "0", "--spectrum", "16"])[2])["rows"]

    def compare(self, first, second, label):
        """Every measure of every tensor against numpy in double precision: the largest error, and counts that differ."""
        a, b = read(first), read(second)
        errors, wrong = {}, 0

        def note(measure, found, wanted, size=None):
            found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
            size = np.abs(wanted) if size is None else size
            error = np.max(np.where(found == wanted, 0, np.abs(found - wanted) / np.where(size == 0, 1, size)), initial=0)
            errors[measure] = max(errors.get(measure, 0), float(error))

        for row in self.measures(first, second):
            (_, x, words_x), (_, y, words_y) = a[row["name"]], b[row["name"]]
            finite = np.isfinite(x) & np.isfinite(y)
            u, v = np.where(finite, x, 0), np.where(finite, y, 0)
            d = v - u
            p, q = places(words_x), places(words_y)
            # The difference of two may be too large for a signed integer.
            distances = np.where(finite, np.maximum(p, q).astype(np.uint64) - np.minimum(p, q).astype(np.uint64), np.uint64(0))
            histogram = np.bincount([int(x).bit_length() for x in distances[finite]])
            wrong += row["changed"] != int(np.sum(words_x != words_y)) or row["nonfinite"] != int(np.sum(~finite))
            wrong += row["sign_flips"] != int(np.sum((u < 0) & (v > 0) | (u > 0) & (v < 0))) or row["ulp_histogram"] != histogram.tolist()
            norm, size = np.linalg.norm(d), np.linalg.norm(u)
            note("delta L2", row["delta_l2"], norm)
            note("relative L2", row["relative_l2"] if row["relative_l2"] is not None else math.inf, norm / size if size else (math.inf if norm else 0))
            note("max", row["max_abs"], np.max(np.abs(d), initial=0))
            if row["cosine"] is not None:
                # A signed sum: of the sum of magnitudes.
                product = size * np.linalg.norm(v)
                note("cosine", row["cosine"], np.sum(u * v) / product, np.sum(np.abs(u * v)) / product)
            note("mean ulps", row["mean_ulps"], np.sum(distances, dtype=np.float64) / max(1, np.sum(finite)))
            if "rows" in row:
                matrix = d.reshape(-1, d.shape[-1])
                note("rows", row["rows"]["norms"], np.sqrt(np.sum(matrix * matrix, 1)))
                note("columns", row["columns"]["norms"], np.sqrt(np.sum(matrix * matrix, 0)))
            if "spectrum" in row:
                matrix = d.reshape(-1, d.shape[-1])
                wanted = np.linalg.svd(matrix, compute_uv=False)[:8]
                # What is below a ten millionth of the largest is not told.
                wanted = wanted[wanted > 1e-5 * wanted[0]]
                found = row["spectrum"]["values"]
                if len(found) < len(wanted):
                    wrong += 1
                note("leading 8 singular values", found[: len(wanted)], wanted[: len(found)])
        self.table.add("counts that differ from numpy's", "ckpt", label, wrong, "", "0")
        for measure, error in errors.items():
            self.table.add(f"largest relative error, {measure}", "ckpt", label, error, "", "0.01" if "singular" in measure else "1e-6")

    def real(self):
        files = sorted(glob.glob(f"{self.options.data}/*.safetensors")) if self.options.data else []
        return (files[0], files[-1]) if len(files) > 1 else None

    def accuracy(self, where):
        if self.real():
            self.compare(*self.real(), "real, " + os.path.basename(self.options.data.rstrip("/")))
        random = np.random.default_rng(11)
        shape = (700, 333)
        sides = ({}, {})
        for dtype, exponent in [("BF16", 8), ("F16", 5), ("F32", 8), ("F64", 11)]:
            bits = {"BF16": 16, "F16": 16, "F32": 32, "F64": 64}[dtype]
            code, mantissa = f"u{bits // 8}", bits - 1 - exponent

            def words(low, high):
                """Random words whose exponent field is low ..< high."""
                field = random.integers(low, high, shape, np.uint64)
                return (random.integers(0, 2, shape, np.uint64) << np.uint64(bits - 1) | field << np.uint64(mantissa)
                        | random.integers(0, 1 << mantissa, shape, np.uint64)).astype(code)

            middle, top = 1 << exponent - 1, (1 << exponent) - 1
            # Doubles whose squares leave the range are said to be infinite.
            low, high = (middle - 400, middle + 400) if dtype == "F64" else (0, top)
            base = words(low, high)
            cases = {
                "every size": (base, words(low, high)), "the last bit": (base, base ^ np.array(1, code)),
                "signs": (base, base ^ np.where(random.random(shape) < .5, np.array(1, code) << np.array(bits - 1, code), np.array(0, code))),
                "subnormal": (words(0, 1), words(0, 1)) if dtype != "F64" else (words(middle - 400, middle - 390), words(middle - 400, middle - 390)),
                "NaN and infinity": (np.where(random.random(shape) < .01, words(top, top + 1), base), np.where(random.random(shape) < .01, words(top, top + 1), base)),
                "one large": (words(middle - 4, middle - 2), words(middle - 4, middle - 2)),
                "mostly equal": (base, np.where(random.random(shape) < 1e-3, base ^ np.array(3, code), base)),
            }
            cases["one large"][1][0, 0] = words(high - 1, high)[0, 0]
            for name, pair in cases.items():
                for side, value in zip(sides, pair):
                    side[f"{dtype} {name}"] = (dtype, value)
        paths = [f"{where}/adversarial-{index}.safetensors" for index in (1, 2)]
        for path, side in zip(paths, sides):
            write(path, side)
        self.compare(*paths, "adversarial")

    def spectrum(self, where):
        """Noise has no value that leads: the hardest case. Of diagonal matrices the values are known."""
        self.compare(*self.pair(where, size=1e7), "random weights and noise")
        size = 4096
        share = (np.arange(size) + .5) / size
        # The singular values of a square of noise are spread like a quarter of a circle.
        grid = np.linspace(0, 1, 400001)
        circle = np.cumsum(np.sqrt(1 - grid**2))
        known = {"those of noise": np.interp(1 - share, circle / circle[-1], grid), "falling from 1 to .2": 1 - .8 * share}
        paths = [f"{where}/known-{index}.safetensors" for index in (1, 2)]
        write(paths[0], {"w": ("F32", np.zeros((size, size), np.float32))})
        for name, values in known.items():
            values = np.sort(values.astype(np.float32))[::-1]
            write(paths[1], {"w": ("F32", np.diag(values))})
            for count in [1, 4, 8, 16, 32, 64]:
                result = json.loads(command([self.ckpt, "diff", *paths, "--json", "--spectrum", str(count)])[2])
                found = np.array(result["rows"][0]["spectrum"]["values"])
                error = np.max(np.abs(found - values[:count]) / values[:count]) if len(found) == count else math.inf
                self.table.add(f"largest relative error of {count} singular values", "ckpt", f"{name}, {size} x {size}", error, "", "0.01")

    def along(self, where):
        """A run read through its deltas, against its snapshots pair by pair."""
        directory = f"{where}/run"
        os.makedirs(directory, exist_ok=True)
        store = self.store(where)
        steps = 9
        for step in range(steps):
            path = self.model(directory, self.options.size / 5, nudge=0.001 * step, name=f"step-{step}.safetensors")
            command([self.ckpt, "ingest", path, "--run", "a", "--step", str(step), "--store", store, "--no-image"])
            gb = os.path.getsize(path) / 1e9
            os.remove(path)
        label = f"{steps} snapshots of {gb:.2f} GB, packed"
        whole = self.median(lambda: command([self.ckpt, "diff", "--along", "a", "--store", store])[0])
        pairs = sum(self.median(lambda: command([self.ckpt, "diff", f"a@{s}", f"a@{s + 1}", "--store", store])[0], 1) for s in range(steps - 1))
        self.table.add("diff --along", "ckpt", label, steps * gb / whole, "GB/s of raw")
        self.table.add("its snapshots pair by pair", "ckpt", label, pairs / whole, "times as long")

    def memory(self, where):
        pair = self.pair(where, size=self.options.large)
        gb = os.path.getsize(pair[0]) / 1e9
        for packing, flags in [("images", ["--pin"]), ("packed", ["--no-image"])]:
            store = self.ingested(where, pair, *flags)
            label = f"{packing}, disk, two models of {gb:.1f} GB"
            for name, more in [("basic", []), ("everything", ["--full"]), ("--spectrum 16", ["--spectrum", "16"])]:
                if more[:1] == ["--spectrum"] and packing == "packed":
                    continue
                seconds, peak = self.anonymous_peak([self.ckpt, "diff", "a@1", "a@2", *more, "--store", store], 1 << 40)
                self.table.add(f"peak anonymous memory, {name}", "ckpt", label, peak / (1 << 20), "MiB", "under 512")
                self.table.add(f"diff, {name}, two cores", "ckpt", label, seconds, "s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--data", help="a folder of real checkpoints")
    parser.add_argument("--size", type=float, default=1e9)
    parser.add_argument("--large", type=float, default=6e9)
    parser.add_argument("--peer", type=float, default=3e8, help="bytes of the models that modeldelta is given")
    parser.add_argument("--tmpfs", default="/dev/shm/ckpt-bench")
    parser.add_argument("--disk", default="/var/tmp/ckpt-bench")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", default="speed,peer,few,accuracy,spectrum,along,memory")
    options = parser.parse_args()
    runner = DiffBench(options)
    print(f"machine: {bench.machine()}; load {os.getloadavg()[0]:.1f}; medians of {options.repeat}\n")
    print("| figure | who | where | measured | asked |\n|---|---|---|---|---|", flush=True)
    for name in options.only.split(","):
        where = options.disk if name in ("few", "memory") else options.tmpfs
        shutil.rmtree(where, ignore_errors=True)
        os.makedirs(where)
        try:
            getattr(runner, name)(where)
        finally:
            shutil.rmtree(where, ignore_errors=True)


if __name__ == "__main__":
    main()
