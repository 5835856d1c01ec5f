"""Entropies of a model on a probe by transformers, as `ckpt entropy REF --probe P --import OUT.jsonl` takes them.

    python score.py MODEL_DIR PROBE.jsonl OUT.jsonl [--weak DIR --weak-ref REF] [--device cuda] [--precision bf16] [--max-length N]

MODEL_DIR is a snapshot as `ckpt path REF` gives it. PROBE.jsonl is what `ckpt probe add` took, if that has input_ids and
completion_start, or what `ckpt probe show P --limit 0 --json` prints. With --weak the file has the figures of the pair instead,
MODEL_DIR being the strong one, and is imported as the strong snapshot's. --weak-ref names the weak one in the store; where DIR
is its image, its id is the directory's name.

One sample at a time, statistics in double precision from single precision logits: slow, and so a reference for ours.
"""

import argparse
import json
import pathlib
import re
import sys

import torch
import transformers


def samples(path, limit):
    """Id, tokens up to the limit, and positions of the scored ones, of each sample; and whether any was cut."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    rows = lines[0]["rows"] if len(lines) == 1 and "rows" in lines[0] else lines
    found, is_cut = [], False
    for number, row in enumerate(rows, 1):
        if "input_ids" not in row:
            sys.exit(f"score.py: {path}: text: give what `ckpt probe show P --limit 0 --json` prints")
        tokens = row["input_ids"]
        ranges = row.get("supervised") or [[row["completion_start"], len(tokens)]]
        is_cut |= len(tokens) > limit
        scored = [at for start, end in ranges for at in range(start, min(end, limit))]
        if not scored:
            sys.exit(f"score.py: sample {row.get('id', number)} has no scored token in its first {limit}")
        found.append((str(row.get("id", number)), tokens[:limit], scored))
    return found, is_cut


@torch.inference_mode()
def predicted(model, tokens, scored):
    """Logarithms of the probabilities of all tokens, and their logits, one position before each scored one."""
    ids = torch.tensor([tokens[: scored[-1]]], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, [at - 1 for at in scored]].double()
    return torch.log_softmax(logits, -1), logits


def own(log_p, targets):
    p = log_p.exp()
    return {
        "entropy": -(p * log_p).sum(-1),
        "nll": -log_p.gather(-1, targets[:, None])[:, 0],
        "top1": log_p.argmax(-1),
    }


def of_pair(strong, weak, share, targets):
    """`strong` and `weak` are as `predicted` gives them."""
    (log_s, s), (log_w, w) = strong, weak
    # A wrong token's margin to the target is smaller for the weak model.
    margins_s, margins_w = (z.gather(-1, targets[:, None]) - z for z in (s, w))
    return {
        "kl_strong_weak": (log_s.exp() * (log_s - log_w)).sum(-1),
        "kl_weak_strong": (log_w.exp() * (log_w - log_s)).sum(-1),
        "ln_c": torch.logsumexp(share * log_s + (1 - share) * log_w, -1),
        "hard_negatives": (margins_w < margins_s).double().sum(-1) / (s.shape[-1] - 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("probe")
    parser.add_argument("out")
    parser.add_argument("--weak", help="directory of the weak model: figures of the pair")
    parser.add_argument("--weak-ref", help="the weak snapshot's ref in the store")
    parser.add_argument("--lambda", dest="share", type=float, default=0.5)
    parser.add_argument("--max-length", type=int, default=4096)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    arguments = parser.parse_args()

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    # Single precision must be that: not the shortened products that GPUs offer under its name.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def load(path):
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(arguments.device).eval()

    model = load(arguments.model)
    rows, is_cut = samples(arguments.probe, arguments.max_length)
    settings = {"precision": arguments.precision}
    if is_cut:
        settings["max_length"] = arguments.max_length

    def snapshot(path):
        """The id that an image's directory is named by."""
        name = pathlib.Path(path).resolve().name
        return name if re.fullmatch("[0-9a-f]{64}", name) else None

    weak = None
    if arguments.weak:
        ref = arguments.weak_ref or snapshot(arguments.weak)
        if ref is None:
            parser.error("--weak-ref names the weak snapshot as the store does")
        settings |= {"weak": ref, "lambda": arguments.share}
        weak = load(arguments.weak)
    provenance = {
        "program": f"transformers {transformers.__version__}", "torch": torch.__version__, "device": arguments.device,
        "attention": model.config._attn_implementation,
    }
    if snapshot(arguments.model):
        # Imported as another snapshot's, the file is refused.
        provenance["snapshot"] = snapshot(arguments.model)
    if arguments.device.startswith("cuda"):
        provenance["device_name"] = torch.cuda.get_device_name(model.device)
    with open(arguments.out, "w", encoding="utf-8") as out:
        print(json.dumps({"provenance": provenance, "settings": settings}), file=out)
        for name, tokens, scored in rows:
            strong = predicted(model, tokens, scored)
            targets = torch.tensor([tokens[at] for at in scored], device=model.device)
            if weak is None:
                figures = own(strong[0], targets)
            else:
                figures = of_pair(strong, predicted(weak, tokens, scored), arguments.share, targets)
            print(json.dumps({"id": name} | {key: its.tolist() for key, its in figures.items()}), file=out)


if __name__ == "__main__":
    main()
