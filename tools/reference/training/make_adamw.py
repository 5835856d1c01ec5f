"""Writes Tests/Golden/training/adamw.json: weights after steps of torch.optim.AdamW, with decay and one clip over all gradients.

    python make_adamw.py [FILE]

Needs torch (the committed file was made with 2.15.0). Nothing of ckpt is used. Weights and gradients are numbers that anyone can
make: over all tensors in the order of their names, weight i starts as cos(.3 i), and its gradient at step t (from 1) is
.01 t sin(1.7 i + .9 t), both rounded to single precision. The rate of step t is .01 (1 - t / 25). Steps are taken in double
precision. The clip is 1: the first steps are below it, the later ones above.
"""

import json
import math
import pathlib
import sys

import torch

HERE = pathlib.Path(__file__).resolve().parent
FILE = HERE.parents[2] / "Tests/Golden/training/adamw.json"

STEPS, SHOWN = 20, [1, 7, 20]
DECAY, CLIP = 0.1, 1.0
# Those of a Llama of one layer: 11 tokens, 4 columns, two heads, 6 inner columns.
SHAPES = {
    "lm_head.weight": [11, 4],
    "model.embed_tokens.weight": [11, 4],
    "model.layers.0.input_layernorm.weight": [4],
    "model.layers.0.mlp.down_proj.weight": [4, 6],
    "model.layers.0.mlp.gate_proj.weight": [6, 4],
    "model.layers.0.mlp.up_proj.weight": [6, 4],
    "model.layers.0.post_attention_layernorm.weight": [4],
    "model.layers.0.self_attn.k_proj.weight": [4, 4],
    "model.layers.0.self_attn.o_proj.weight": [4, 4],
    "model.layers.0.self_attn.q_proj.weight": [4, 4],
    "model.layers.0.self_attn.v_proj.weight": [4, 4],
    "model.norm.weight": [4],
}


def split(values):
    """A list of all numbers, as tensors of the shapes, rounded to single precision."""
    numbers = torch.tensor(values, dtype=torch.float64).float().double()
    parts = numbers.split([math.prod(shape) for shape in SHAPES.values()])
    return [part.reshape(shape).clone() for part, shape in zip(parts, SHAPES.values())]


def main():
    assert list(SHAPES) == sorted(SHAPES)
    count = sum(math.prod(shape) for shape in SHAPES.values())
    weights = [torch.nn.Parameter(x) for x in split([math.cos(0.3 * i) for i in range(count)])]
    # Norms never decay.
    optimizer = torch.optim.AdamW([
        {"params": [x for x in weights if x.dim() == 2], "weight_decay": DECAY},
        {"params": [x for x in weights if x.dim() == 1], "weight_decay": 0.0},
    ])
    norms, shown = [], []
    for step in range(1, STEPS + 1):
        for weight, gradient in zip(weights, split([0.01 * step * math.sin(1.7 * i + 0.9 * step) for i in range(count)])):
            weight.grad = gradient
        norms.append(torch.nn.utils.clip_grad_norm_(weights, CLIP).item())
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / 25)
        optimizer.step()
        if step in SHOWN:
            shown.append({"step": step, "weights": [round(x, 9) for weight in weights for x in weight.flatten().tolist()]})
    assert norms[0] < CLIP < norms[-1]
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    head = {"made_with": f"torch {torch.__version__}", "decay": DECAY, "clip": CLIP, "norms": norms}
    lines = ",\n".join(json.dumps(entry) for entry in shown)
    path.write_text(json.dumps(head)[:-1] + f', "shown": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
