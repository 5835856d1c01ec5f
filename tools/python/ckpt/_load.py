"""Weights of a snapshot into a torch module."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch

from ._dtypes import torch_dtype
from ._library import Progress
from ._snapshot import _STAGE_BYTES, Snapshot, TensorInfo


class LoadResult(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


def load_into(snapshot: Snapshot, model: Any, strict: bool, assign: bool, progress: Optional[Progress]) -> LoadResult:
    # What torch.compile has wrapped has other names.
    model = getattr(model, "_orig_mod", model)
    targets: dict[str, torch.Tensor] = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)}
    for name, value in targets.items():
        if hasattr(value, "placements"):
            raise TypeError(f"{name} is a DTensor: give snapshot.state_dict() to torch.distributed.checkpoint.state_dict.set_model_state_dict")
    here = set(snapshot)
    loaded = {_place(value) for name, value in targets.items() if name in here}
    # A parameter that is another's is there under one name at least.
    missing = [name for name, value in targets.items() if name not in here and _place(value) not in loaded]
    unexpected = [name for name in here if name not in targets]
    _check(snapshot, targets, here, missing, unexpected, strict)

    direct: list[tuple[TensorInfo, int, int, int]] = []
    staged: list[tuple[str, torch.Tensor]] = []
    # Of several names of one memory the last counts, as when they are copied one after the other.
    places = {name: _place(value) for name, value in targets.items()}
    chosen = {_place(value): name for name, value in targets.items() if name in here and value.numel() > 0}
    with torch.no_grad():
        for place, name in chosen.items():
            value = targets[name]
            found = snapshot._find(name)
            is_direct = (
                isinstance(found, TensorInfo) and value.device.type == "cpu" and value.is_contiguous() and value.dtype == torch_dtype(found.dtype)
                and not value.is_conj() and not value.is_neg()
            )  # fmt: skip
            if is_direct and assign:
                view = snapshot.torch(name)
                for tied, other in targets.items():
                    # All names of this memory, so that they stay one.
                    if places[tied] == place:
                        other.data = view
            elif is_direct:
                direct.append((found, 0, value.data_ptr(), found.nbytes))
            else:
                staged.append((name, value))
        if direct:
            snapshot._read(direct, progress)
        for name, value in staged:
            _copy(snapshot, name, value)
        for value in {id(value): value for value in targets.values()}.values():
            # What autograd has kept of them is no longer so.
            torch.autograd.graph.increment_version(value)
    return LoadResult(missing, unexpected)


def _place(value: torch.Tensor) -> Any:
    """Equal for tensors that are the same memory."""
    if value.numel() == 0 or value.device.type == "meta":
        return id(value)
    return (value.device, value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, value.is_conj(), value.is_neg())


def _check(
    snapshot: Snapshot, targets: dict[str, torch.Tensor], here: set[str], missing: list[str], unexpected: list[str], strict: bool
) -> None:  # fmt: skip
    problems: list[str] = []
    if strict and missing:
        problems.append(f"missing: {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}")
    if strict and unexpected:
        problems.append(f"left over: {', '.join(sorted(unexpected)[:4])}{', ...' if len(unexpected) > 4 else ''}")
    for name, value in targets.items():
        if value.device.type == "meta":
            problems.append(f"{name} is on the meta device: give it memory first, with model.to_empty(device=...)")
            break
        if name in here:
            shape = snapshot_shape(snapshot, name)
            if tuple(value.shape) != shape:
                problems.append(f"{name} is {list(shape)} in the snapshot and {list(value.shape)} in the model")
    if problems:
        raise RuntimeError(f"snapshot {snapshot.ref} does not fit the model: {'; '.join(problems[:8])}")


def snapshot_shape(snapshot: Snapshot, name: str) -> tuple[int, ...]:
    """The shape of a weight, one of slices too."""
    found = snapshot._find(name)
    if isinstance(found, TensorInfo):
        return found.shape
    from ._shards import shape_of

    return shape_of(snapshot, name, found)


def _copy(snapshot: Snapshot, name: str, value: torch.Tensor) -> None:
    """By way of the CPU: by rows of at most 64 MiB where there are more than that."""
    found = snapshot._find(name)
    if not isinstance(found, TensorInfo) or found.strides is not None or not found.shape:
        value.copy_(snapshot.torch(name))
        return
    rows = found.shape[0]
    row = max(1, found.nbytes // rows)
    step = max(1, _STAGE_BYTES // row)
    buffer = torch.empty((min(step, rows), *found.shape[1:]), dtype=torch_dtype(found.dtype), pin_memory=value.device.type == "cuda")
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        part = buffer[: stop - start]
        snapshot._read([(found, start * row, part.data_ptr(), (stop - start) * row)])
        value[start:stop].copy_(part)
