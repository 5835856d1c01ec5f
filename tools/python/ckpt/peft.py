"""Adapters of PEFT: snapshots of a few megabytes each, beside one base."""

from __future__ import annotations

import json
from typing import Any, Optional, Union

import torch

from ._ingest import IngestJob, IngestResult
from ._snapshot import Snapshot
from ._store import Store
from ._table import Table

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


def ingest_adapter(store: Store, model: Any, *, run: str, step: int, adapter: str = "default", **options: Any) -> Union[IngestResult, IngestJob]:
    """Takes an adapter of a PeftModel in, straight from memory. `options` are those of `Store.ingest`.

    The snapshot's files are those of `model.save_pretrained`: `snapshot.path` is a directory that PEFT loads.
    """
    from peft import get_peft_model_state_dict

    config = model.peft_config[adapter]
    # As save_pretrained writes it: to go on training is asked for when it is loaded.
    values = {**config.to_dict(), "inference_mode": True}
    if values.get("base_model_name_or_path") is None:
        values["base_model_name_or_path"] = getattr(getattr(model.get_base_model(), "config", None), "_name_or_path", None)
    text = json.dumps(values, default=sorted, indent=2, sort_keys=True)
    files = {**(options.pop("files", None) or {}), _CONFIG: text}
    state = get_peft_model_state_dict(model, adapter_name=adapter)
    return store.ingest(state, run=run, step=step, files=files, weights_file=_WEIGHTS, **options)


def load_adapter(snapshot: Snapshot, model: Any, adapter: str, *, trainable: bool = False) -> None:
    """Adds the adapter of a snapshot to a PeftModel under the name `adapter`: the older one, say, that is the weak of a training:
    `WeakDrivenTrainer(..., weak=("adapter", adapter))`.
    """
    model.load_adapter(snapshot.path, adapter_name=adapter, is_trainable=trainable)


class AdapterDiff(Table):
    """How far the weights that two adapters make of their base lie apart, by matrix, the farthest first.

    `first_l2`, `second_l2`, `delta_l2`: norms of dW = s B A of each and of their difference; `relative_l2`: delta over first; `cosine` between
    the two; `values`: the leading singular values of the difference.
    """

    columns = ("name", "shape", "first_l2", "second_l2", "delta_l2", "relative_l2", "cosine")

    def __init__(self, rows: list[dict[str, Any]], mismatched: list[str]) -> None:
        super().__init__(sorted(rows, key=lambda row: row["delta_l2"], reverse=True))
        self.mismatched = mismatched
        """Matrices that only one of the two adapts, or in another shape."""


def diff_adapters(first: Snapshot, second: Snapshot, *, values: int = 4) -> AdapterDiff:
    """Compares LoRA adapters by what they do to the weights: dW = s B A, where A and B by themselves say little (a factor may go from one to the
    other). No dW is made: of two adapters of rank r everything follows from matrices of 2 r by 2 r.

    Complexity: O((rows + columns) r^2) for each matrix, in double precision.
    """
    ours, theirs = _matrices(first), _matrices(second)
    rows: list[dict[str, Any]] = []
    mismatched = sorted(set(ours) ^ set(theirs))
    for name in ours:
        if name not in theirs:
            continue
        (b1, a1), (b2, a2) = ours[name], theirs[name]
        if b1.shape[0] != b2.shape[0] or a1.shape[1] != a2.shape[1]:
            mismatched.append(name)
            continue
        one, two, both = _inner(b1, a1, b1, a1), _inner(b2, a2, b2, a2), _inner(b1, a1, b2, a2)
        # The difference as one product: its factors' triangles have its singular values.
        _, left = torch.linalg.qr(torch.cat([b2, -b1], 1))
        _, right = torch.linalg.qr(torch.cat([a2, a1], 0).T)
        singular = torch.linalg.svdvals(left @ right.T)
        delta = float(singular.square().sum().sqrt())
        rows.append({
            "name": name, "shape": [b1.shape[0], a1.shape[1]], "first_l2": one**0.5, "second_l2": two**0.5, "delta_l2": delta,
            "relative_l2": delta / one**0.5 if one > 0 else (0.0 if delta == 0 else float("inf")),
            "cosine": both / (one * two) ** 0.5 if one > 0 and two > 0 else None, "values": singular[:values].tolist(),
        })  # fmt: skip
    return AdapterDiff(rows, mismatched)


def _inner(b1: torch.Tensor, a1: torch.Tensor, b2: torch.Tensor, a2: torch.Tensor) -> float:
    """The inner product of b1 a1 and b2 a2, as matrices."""
    return float(((b1.T @ b2) * (a1 @ a2.T)).sum())


def _matrices(snapshot: Snapshot) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """s B and A of each matrix, in double precision, by the name of the module."""
    config = json.loads(snapshot.file(_CONFIG))
    if config.get("peft_type") != "LORA":
        raise TypeError(f"{snapshot.ref}: an adapter of type {config.get('peft_type')}: dW = s B A is that of LORA")
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in snapshot:
        module, mark, kind = name.rpartition(".lora_A.")
        if not mark or not kind.startswith("weight"):
            continue
        a = snapshot.torch(name).double()
        b = snapshot.torch(f"{module}.lora_B.{kind}").double()
        found[module] = (b.flatten(1) * _scale(config, module, a.shape[0]), a.flatten(1))
    return found


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    """s of a matrix: alpha / r, or alpha / sqrt(r) with `use_rslora`; patterns give some matrices their own."""
    alpha: Optional[float] = None
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if module.endswith(pattern):
            alpha = value
    alpha = config["lora_alpha"] if alpha is None else alpha
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
