"""Weights of which each rank of a training has a slice: written down in its file, and put together when they are read."""

from __future__ import annotations

import json
from typing import Any

from ._dtypes import BITS, numpy_dtype, torch_dtype
from ._library import DamagedError, NoSuchRefError
from ._snapshot import Snapshot, TensorInfo

KEY = "ckpt.slices"
"""In `__metadata__` of a rank's file: {name: {"shape": of the whole, "offset": of the slice, in elements of each dimension}}."""


def local_slice(value: Any) -> tuple[Any, Any]:
    """A rank's part of a DTensor, and where it lies: None for what is no DTensor, or the whole on every rank.

    Raises TypeError for a DTensor that is a sum still to be made.
    """
    if not hasattr(value, "placements") or not hasattr(value, "to_local"):
        return value, None
    from torch.distributed.tensor import Partial

    if any(isinstance(placement, Partial) for placement in value.placements):
        raise TypeError("a DTensor with partial sums: redistribute it first")
    local = value.to_local()
    if tuple(local.shape) == tuple(value.shape):
        return local, None
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, offset = compute_local_shape_and_global_offset(value.shape, value.device_mesh, value.placements)
    return local, {"shape": list(value.shape), "offset": list(offset)}


def _slices(snapshot: Snapshot, name: str, parts: list[TensorInfo]) -> tuple[tuple[int, ...], list[tuple[TensorInfo, tuple[int, ...]]]]:
    found = []
    shapes = set()
    for part in parts:
        entry = json.loads(snapshot._headers.get(part.file, {}).get(KEY, "{}")).get(name)
        if entry is None:
            raise NoSuchRefError(f"{name}: in {len(parts)} files", f"say {part.file}:{name}")
        shapes.add(tuple(entry["shape"]))
        found.append((part, tuple(entry["offset"])))
    if len(shapes) != 1 or len({part.dtype for part in parts}) != 1:
        raise DamagedError(f"{name}: its slices are not of one tensor")
    shape = shapes.pop()
    for part, offset in found:
        if len(part.shape) != len(shape) or len(offset) != len(shape) or any(
            start < 0 or start + extent > whole for start, extent, whole in zip(offset, part.shape, shape)
        ):  # fmt: skip
            raise DamagedError(f"{name}: the slice in {part.file} lies outside the tensor")
    count = 1
    for extent in shape:
        count *= extent
    if sum(part.nbytes for part, _ in found) * 8 != count * BITS[parts[0].dtype]:
        raise DamagedError(f"{name}: its slices do not make up the whole")
    return shape, found


def shape_of(snapshot: Snapshot, name: str, parts: list[TensorInfo]) -> tuple[int, ...]:
    return _slices(snapshot, name, parts)[0]


def join(snapshot: Snapshot, name: str, parts: list[TensorInfo], numpy_like: bool) -> Any:
    """The whole tensor, in memory of its own."""
    shape, found = _slices(snapshot, name, parts)
    whole: Any
    if numpy_like:
        import numpy

        whole = numpy.empty(shape, numpy_dtype(parts[0].dtype))
    else:
        import torch

        whole = torch.empty(shape, dtype=torch_dtype(parts[0].dtype))
    for part, offset in found:
        place = tuple(slice(start, start + extent) for start, extent in zip(offset, part.shape))
        named = f"{part.file}:{part.name}"
        whole[place] = snapshot.numpy(named) if numpy_like else snapshot.torch(named)
    if numpy_like:
        whole.flags.writeable = False
    return whole
