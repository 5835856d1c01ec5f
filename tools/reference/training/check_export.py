"""Holds a snapshot that ckpt trained against transformers: it loads, its logits and its greedy text are the same.

    python check_export.py CKPT MODEL DATA

MODEL is a directory with a model and its tokenizer.json; DATA has lines of {"id", "prompt", "completion"}. Trains MODEL for some
steps in F32 and in BF16, exports each and compares, on the first samples: losses and entropies of every token that the logits give
(1e-4), and the greedy continuation, token by token. Needs torch and transformers.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers

SAMPLES = 16


def main():
    ckpt, model, data = sys.argv[1:]
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        os.environ["CKPT_STORE"] = f"{work}/store"

        def run(*arguments):
            done = subprocess.run([ckpt, *map(str, arguments)], capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
            return done.stdout

        run("init", f"{work}/store")
        run("ingest", model, "--run", "m", "--step", 1, "--no-optimizer")
        lines = open(data).read().splitlines()[:SAMPLES]
        open(f"{work}/probe.jsonl", "w").write("\n".join(lines) + "\n")
        run("probe", "add", "p", f"{work}/probe.jsonl", "--tokenizer", "m")
        samples = [(row["id"], row["input_ids"], row["supervised"][0][0])
                   for row in json.loads(run("probe", "show", "p", "--limit", 0, "--json"))["rows"]]
        for dtype in "f32", "bf16":
            run("train", "--strong", "m", "--data", f"{work}/probe.jsonl", "--run", dtype, "--dtype", dtype, "--steps", 20, "--batch", 8,
                "--learning-rate", "1e-3", "--save-every", 20)
            run("export", dtype, f"{work}/{dtype}")
            theirs = transformers.AutoModelForCausalLM.from_pretrained(f"{work}/{dtype}")
            assert str(theirs.dtype) == {"f32": "torch.float32", "bf16": "torch.bfloat16"}[dtype], theirs.dtype
            # Sums in single precision, as ours are.
            theirs = theirs.float().eval()
            run("entropy", dtype, "--probe", "p")
            ours = {row["id"]: row for row in json.loads(run("entropy", dtype, "--probe", "p", "--json"))["samples"]}
            worst = 0.0
            for name, tokens, start in samples:
                ids = torch.tensor([tokens])
                logs = torch.log_softmax(theirs(ids).logits[0].double(), -1)
                places = torch.arange(start, len(tokens))
                nll = -logs[places - 1, ids[0, places]].mean().item()
                entropy = -(logs[places - 1].exp() * logs[places - 1]).sum(-1).mean().item()
                row = ours[name]
                worst = max(worst, abs(row["nll"] - nll), abs(row["entropy"] - entropy))
            made = {row["id"]: row for row in json.loads(
                run("generate", dtype, f"{work}/probe.jsonl", "--max-new", 24, "--json"))["generations"]}
            same = 0
            for name, tokens, start in samples:
                out = theirs.generate(torch.tensor([tokens[:start]]), max_new_tokens=24, do_sample=False)[0, start:].tolist()
                same += made[name]["tokens"] == out
            print(f"{dtype}: largest difference of a sample's loss or entropy {worst:.1e}; greedy texts equal: {same} of {len(ours)}")
            assert worst < 1e-4 and same == len(ours)


main()
