#!/usr/bin/env python3
"""The Python package beside what trainers have: safetensors, torch and the Trainer's own directories, on the same bytes in the same run.

    run python [--only views,load,stall,wheel,loss,disk] [--parameters 5e8] [--repeat 7] [--data DIR] [--runs DIR] [--json]

views   a tensor of a snapshot as a numpy array, beside safetensors.safe_open
load    the weights of a model into it on the CPU, warm, beside safetensors.torch.load_file and load_state_dict
stall   how long training waits for an asynchronous ingest, beside one copy of the state in memory, and files
wheel   bytes of the wheel, and seconds of `import ckpt` in a fresh process
loss    the mixed loss beside plain PyTorch (mixed_loss.py: its options go behind --)
disk    a run of 20 checkpoints, the optimizer's state kept of the last two, beside the Trainer's directories: made anew (7 to 12
        minutes each), or those of --runs DIR

Medians; the two sides take turns. Ratios are what to compare: machines are shared.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "python"))

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--only", default="views,load,stall,wheel,loss,disk")
parser.add_argument("--parameters", type=float, default=5e8)
parser.add_argument("--repeat", type=int, default=7)
parser.add_argument("--disk", help="a directory for files of some gigabytes; default: that of temporary files")
parser.add_argument("--data", default=str(ROOT / "../shared/data"))
parser.add_argument("--runs", help="a directory with fp32 and bf16, as make_trainer_run.py writes them")
parser.add_argument("--json", action="store_true")
parser.add_argument("rest", nargs="*", help="for mixed_loss.py")
options = parser.parse_args()
rows = []


def show(figure, value, unit, beside=None, other=None, asked=None):
    """A line of the answer: a figure, the peer's, and how they compare."""
    rows.append({"figure": figure, "value": value, "unit": unit, "beside": beside, "other": other, "asked": asked})
    if options.json:
        print(json.dumps(rows[-1]), flush=True)
        return
    text = f"{figure:<64} {value:>10.4g} {unit}"
    if other is not None:
        text += f"   {beside} {other:.4g}   ratio {other / value:.3g}"
    print(text + (f"   asked: {asked}" if asked else ""), flush=True)


def medians(ways, repeat):
    """Seconds of each way, the ways taking turns."""
    times = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def model(dtype, parameters):
    """Matrices as a model of this size has them; values are noise, which no figure here depends on."""
    import torch

    width, count = 2048, max(1, int(parameters) // 2048 // 5632)

    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ParameterList([torch.nn.Parameter(torch.empty(5632, width, dtype=dtype)) for _ in range(count)])

    made = Layers()
    with torch.no_grad():
        first = torch.randn(5632, width).to(dtype)
        for index, value in enumerate(made.layers):
            value.copy_(first.roll(index, 0))
    return made


def views(place):
    import numpy
    import safetensors

    import ckpt

    store = ckpt.open(f"{place}/store", create=True)
    random = numpy.random.default_rng(0)
    store.ingest({f"layers.{index}.weight": random.standard_normal((2048, 2048)).astype(numpy.float32) for index in range(32)}, run="r", step=0)
    snapshot = store["r"]
    names = list(snapshot)
    file = safetensors.safe_open(f"{snapshot.path}/model.safetensors", "np")

    def ours():
        for name in names:
            snapshot[name]

    def theirs():
        for name in names:
            file.get_tensor(name)

    ours()
    found = medians({"ckpt": ours, "safetensors": theirs}, max(5, options.repeat))
    scale = 1e6 / len(names)
    show("snapshot[name], 16 MiB, numpy", found["ckpt"] * scale, "us", "safe_open.get_tensor (copies), us:", found["safetensors"] * scale, "50 us")
    start = time.perf_counter()
    store["r"][names[0]]
    show("the first of a snapshot: opened, mapped, viewed", (time.perf_counter() - start) * 1e6, "us")


def load(place):
    import safetensors.torch
    import torch

    import ckpt

    for dtype in (torch.float32, torch.bfloat16):
        source = model(dtype, options.parameters)
        store = ckpt.open(f"{place}/store-{dtype}", create=True)
        store.ingest(source, run="r", step=0)
        snapshot = store["r"]
        path = f"{place}/model.safetensors"
        safetensors.torch.save_file(source.state_dict(), path)
        target = model(dtype, options.parameters)

        def ours():
            snapshot.load_into(target)

        def theirs():
            target.load_state_dict(safetensors.torch.load_file(path))

        for way in (ours, theirs):
            with torch.no_grad():
                for value in target.parameters():
                    value.zero_()
            way()
            assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters()))
        found = medians({"ckpt": ours, "safetensors": theirs}, options.repeat)
        size = sum(value.nbytes for value in source.parameters())
        name = str(dtype).rpartition(".")[2]
        show(f"load_into, {name}, {size / 1e9:.2f} GB", found["ckpt"], "s", "load_file + load_state_dict, s:", found["safetensors"], "1.5")
        found = medians(
            {"ckpt": lambda: store["r"].load_into(target, assign=True),
             "torch": lambda: target.load_state_dict(safetensors.torch.load_file(path), assign=True)}, options.repeat,
        )  # fmt: skip
        show(f"load_into(assign=True), {name}: mapped, not copied", found["ckpt"], "s", "load_state_dict(assign=True), s:", found["torch"])
        target = model(dtype, options.parameters)
        shutil.rmtree(snapshot.describe()["image"])
        packed = store["r"]
        packed.load_into(target)
        show(f"load_into from packed blocks, {name}", medians({"packed": lambda: packed.load_into(target)}, 3)["packed"], "s")
        os.remove(path)
        del target, source


def stall(place):
    import safetensors.torch
    import torch

    import ckpt

    source = model(torch.bfloat16, options.parameters)
    state = source.state_dict()
    store = ckpt.open(f"{place}/store", create=True)
    copy = {name: torch.empty_like(value) for name, value in state.items()}
    step = 0

    def change():
        nonlocal step
        step += 1
        with torch.no_grad():
            for value in source.parameters():
                value.add_(1e-3)

    def copied():
        for name, value in state.items():
            copy[name].copy_(value)

    def files():
        safetensors.torch.save_file(state, f"{place}/model.safetensors")

    copied()
    times = {"ckpt": [], "copy": [], "files": []}

    def timed(name, way):
        start = time.perf_counter()
        done = way()
        times[name].append(time.perf_counter() - start)
        return done

    for _ in range(options.repeat + 1):
        change()
        timed("copy", copied)
        timed("ckpt", lambda: store.ingest(state, run="r", step=step, wait=False)).result()
    # Behind the others: what it leaves to be written to the disk would disturb them.
    for _ in range(3):
        timed("files", files)
    size = sum(value.nbytes for value in source.parameters())
    middle = {name: statistics.median(values[1:]) for name, values in times.items()}
    show(f"stall of ingest(wait=False), {size / 1e9:.2f} GB", middle["ckpt"], "s", "one copy of the state, s:", middle["copy"], "1")
    show("  the first, whose memory is fresh", times["ckpt"][0], "s", "save_file, s:", statistics.median(times["files"]))


def wheel(place):
    library = os.environ["CKPT_LIBRARY"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place, str(ROOT / "tools/python")], check=True,
        env={**os.environ, "CKPT_LIBRARY": library},
    )  # fmt: skip
    (made,) = pathlib.Path(place).glob("ckpt-*.whl")
    show(f"wheel {made.name}", made.stat().st_size / 1e6, "MB", asked="20 MB")
    times = []
    for _ in range(max(7, options.repeat)):
        code = "import time; start = time.perf_counter(); import ckpt; print(time.perf_counter() - start)"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools/python")}
        times.append(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout))
    show("import ckpt in a fresh process", statistics.median(times) * 1e3, "ms", asked="100 ms")


def loss(_place):
    command = [sys.executable, str(HERE / "mixed_loss.py"), *options.rest]
    subprocess.run(command + (["--json"] if options.json else []), check=True)


def disk(place):
    import ckpt

    for precision, asked in (("bf16", "14 %"), ("fp32", "30 %")):
        if options.runs:
            runs = sorted(pathlib.Path(options.runs).glob(f"{precision}*/"))
        else:
            runs = [pathlib.Path(place) / precision]
            make = [sys.executable, str(HERE / "make_trainer_run.py"), precision, str(runs[0]), "--base", f"{place}/base", "--data", options.data]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        for run in runs:
            if not any(run.glob("checkpoint-*")):
                continue
            path = f"{place}/store-{run.name}"
            with ckpt.open(path, create=True) as store:
                results = store.ingest_path(run, run="r", optimizer_keep=2)
                assert store.verify()["ok"] and any(tensor.part == "optimizer" for tensor in store["r~1"].tensors)
            share = 100 * used(path) / used(run)
            show(f"disk of {len(results)} checkpoints, {run.name}, of the Trainer's {used(run) / 1e6:.0f} MB", share, "%", asked=asked)
            shutil.rmtree(path)


def used(directory):
    """Bytes on disk of everything below it."""
    return int(subprocess.run(["du", "-s", "--block-size=1", os.path.realpath(directory)], capture_output=True, text=True, check=True).stdout.split()[0])


for name in options.only.split(","):
    with tempfile.TemporaryDirectory(dir=options.disk) as place:
        {"views": views, "load": load, "stall": stall, "wheel": wheel, "loss": loss, "disk": disk}[name](place)
