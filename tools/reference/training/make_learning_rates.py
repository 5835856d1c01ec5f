"""Writes Tests/Golden/training/learning_rates.json: the rates that the schedules of transformers give.

    python make_learning_rates.py [FILE]

Needs torch and transformers (the committed file was made with 2.15.0 and 5.23.0). Nothing of ckpt is used. The warm-up of a
share of the steps is that of the Trainer's own arguments.
"""

import json
import pathlib
import sys
import types

import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
FILE = HERE.parents[2] / "Tests/Golden/training/learning_rates.json"

# Peak, steps in all, warm-up: a share below 1, else a number of steps.
CASES = [
    (1e-5, 100, 0.1), (1e-5, 101, 0.1), (3e-4, 30, 0.1), (3e-4, 3, 0.1), (2e-3, 7, 0.3), (1.0, 40, 5), (1e-5, 1, 0.1),
    (1e-5, 1, 0), (5e-5, 12, 0), (5e-5, 6, 6), (5e-5, 6, 9), (1e-4, 50, 0.06),
]


def warm_up_steps(share_or_steps, steps):
    # The method looks at nothing else, and whole arguments want accelerate.
    return transformers.TrainingArguments.get_warmup_steps(types.SimpleNamespace(warmup_steps=share_or_steps), steps)


def rates(peak, steps, warm_up, decay):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    if decay == "cosine":
        schedule = transformers.get_cosine_with_min_lr_schedule_with_warmup(optimizer, warm_up, steps, min_lr_rate=0.1)
    else:
        schedule = transformers.get_constant_schedule_with_warmup(optimizer, warm_up)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def main():
    cases = []
    for peak, steps, warm_up in CASES:
        for decay in ["cosine", "constant"]:
            count = warm_up_steps(warm_up, steps)
            cases.append({"peak": peak, "steps": steps, "warm_up": warm_up, "warm_up_steps": count, "decay": decay,
                          "rates": rates(peak, steps, count, decay)})
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    made_with = f"torch {torch.__version__}, transformers {transformers.__version__}"
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f'{{"made_with": {json.dumps(made_with)}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
