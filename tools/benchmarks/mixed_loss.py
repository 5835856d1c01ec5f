"""Times the chunked loss of ckpt.wmss against plain PyTorch, forward and backward, and measures what both take of memory.

    python mixed_loss.py [--tokens 4096] [--vocabulary 150000] [--hidden 1024] [--dtypes float32,bfloat16] [--runs 3]
                         [--weak-branch joint|frozen] [--mix weak] [--device cpu|cuda] [--threads N] [--json]

Plain is cross_entropy of (lam linear(h_s, W_s) + (1 - lam) linear(h_w, W_w)).float(). Each run is a fresh process that makes
its inputs, goes forward and backward on 64 tokens, so that libraries are ready, and then on all. The two take turns, so that
whatever else the machine does falls on both; medians are printed, and ratios of medians. Besides seconds on the clock it prints
those of the processor, which with --threads 1 hardly depend on what runs beside it. Memory is the peak beyond inputs and their
gradients: on a processor of the resident set (VmHWM, reset after the inputs are made), on CUDA of
torch.cuda.max_memory_allocated. Needs torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

_FILE = pathlib.Path(__file__).resolve().parent.parent / "python" / "ckpt" / "wmss" / "loss.py"
MIB = 1 << 20


def loss_module():
    """The loss without the package around it, which needs libckpt."""
    spec = importlib.util.spec_from_file_location("loss", _FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


mixed_cross_entropy = loss_module().mixed_cross_entropy


def plain(inputs, options):
    hidden_strong, head_strong, hidden_weak, head_weak, targets = inputs
    logits = F.linear(hidden_strong, head_strong)
    if options.mix == "temperature":
        logits = 0.5 * logits
    elif options.mix == "weak":
        logits = 0.5 * logits + 0.5 * F.linear(hidden_weak, head_weak)
    return F.cross_entropy(logits.float(), targets)


def chunked(inputs, options):
    return mixed_cross_entropy(*inputs, weak_branch=options.weak_branch, mix=options.mix)


WAYS = {"plain": plain, "chunked": chunked}


def made_inputs(options, dtype):
    """Hidden states and heads that give logits of a standard deviation near 2."""
    torch.manual_seed(1)
    made = []
    for is_trained in (True, options.weak_branch == "joint"):
        # Straight into the dtype, so that no larger copy of them ever counts as memory.
        hidden = torch.empty(options.tokens, options.hidden, dtype=dtype, device=options.device).normal_()
        head = torch.empty(options.vocabulary, options.hidden, dtype=dtype, device=options.device)
        head.normal_(std=2 * options.hidden**-0.5)
        made += [hidden.requires_grad_(is_trained), head.requires_grad_(is_trained)]
    return [*made, torch.randint(options.vocabulary, (options.tokens,), device=options.device)]


def synchronize(options):
    if options.device == "cuda":
        torch.cuda.synchronize()


def resident(field):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def once(way, options, dtype):
    """Of one forward and backward pass in this process, which has done nothing before: seconds on the clock and of the processor,
    and the peak of bytes beyond inputs and their gradients."""
    inputs = made_inputs(options, dtype)
    # Libraries keep work space from their first use on.
    small = [t[:64].detach().requires_grad_(t.requires_grad) for t in inputs[:4]]
    WAYS[way]([*small, inputs[4][:64] % 64], options).backward()
    del small
    synchronize(options)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
    start, start_processor = time.perf_counter(), time.process_time()
    WAYS[way](inputs, options).backward()
    synchronize(options)
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    most = torch.cuda.max_memory_allocated() if options.device == "cuda" else resident("VmHWM")
    gradients = sum(t.grad.numel() * t.grad.element_size() for t in inputs if t.grad is not None)
    return {"seconds": seconds, "processor_seconds": processor, "peak_bytes": most - before - gradients}


def measured(options, dtype_name):
    runs = {way: [] for way in WAYS}
    for run in range(options.runs):
        # Who begins changes, so that neither always has the quieter machine.
        for way in list(WAYS)[::1 if run % 2 == 0 else -1]:
            command = [sys.executable, __file__, *sys.argv[1:], "--dtypes", dtype_name, "--once", way]
            runs[way].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    medians = {way: {what: statistics.median(run[what] for run in runs[way]) for what in runs[way][0]} for way in WAYS}
    return {
        "dtype": dtype_name, "tokens": options.tokens, "vocabulary": options.vocabulary, "hidden": options.hidden,
        "mix": options.mix, "weak_branch": options.weak_branch, "device": options.device, "threads": torch.get_num_threads(),
        "torch": torch.__version__, "runs": runs, "medians": medians,
        "ratios": {what: medians["chunked"][what] / medians["plain"][what] for what in medians["plain"]},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=150_000)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--weak-branch", choices=["joint", "frozen"], default="joint")
    parser.add_argument("--mix", choices=["weak", "temperature", "none"], default="weak")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="a line of JSON to each dtype")
    parser.add_argument("--once", choices=list(WAYS), help=argparse.SUPPRESS)  # what the child processes are called with
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.once:
        print(json.dumps(once(options.once, options, getattr(torch, options.dtypes))))
        return
    for dtype_name in options.dtypes.split(","):
        found = measured(options, dtype_name)
        if options.json:
            print(json.dumps(found), flush=True)
            continue
        print(f"{found['tokens']} tokens, vocabulary {found['vocabulary']}, hidden {found['hidden']}, {dtype_name}, "
              f"{found['mix']}, {found['weak_branch']}, {found['device']}, {found['threads']} threads, torch {found['torch']}")
        for way, of_way in found["medians"].items():
            times = ", ".join(f"{run['seconds']:.2f}" for run in found["runs"][way])
            print(f"  {way:8} {of_way['seconds']:8.2f} s   (runs {times})   processor {of_way['processor_seconds']:8.2f} s   "
                  f"peak {of_way['peak_bytes'] / MIB:7.0f} MiB")
        ratios = found["ratios"]
        print(f"  chunked / plain: time {ratios['seconds']:.2f}, processor time {ratios['processor_seconds']:.2f}, "
              f"memory {ratios['peak_bytes']:.3f}", flush=True)


if __name__ == "__main__":
    main()
