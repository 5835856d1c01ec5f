"""An optimizer's state dict as a safetensors file: its tensors, and the rest of it as JSON in the header. Nothing is pickled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Optional

from ._library import NoSuchRefError
from ._safetensors import is_torch

if TYPE_CHECKING:
    from ._snapshot import Snapshot

KEY = "ckpt.state"
"""In `__metadata__`: the state with {"tensor": name} where a tensor was. Objects whose keys are not texts are {"dict": [[key, value]]}, tuples
{"tuple": [...]}; every other object is {"object": {...}}."""


def flatten(state: Any, where: str = "optimizer") -> tuple[dict[str, Any], str]:
    """The tensors by name, and the rest as JSON. Raises TypeError for what JSON cannot say."""
    tensors: dict[str, Any] = {}

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if is_torch(value):
            name = ".".join(path)
            if name in tensors:
                raise TypeError(f"{where}: two tensors called {name}")
            tensors[name] = value
            return {"tensor": name}
        if isinstance(value, dict):
            if all(isinstance(key, str) for key in value):
                return {"object": {key: walk(item, (*path, key)) for key, item in value.items()}}
            return {"dict": [[walk(key, ()), walk(item, (*path, str(key)))] for key, item in value.items()]}
        if isinstance(value, tuple):
            return {"tuple": [walk(item, (*path, str(index))) for index, item in enumerate(value)]}
        if isinstance(value, list):
            return [walk(item, (*path, str(index))) for index, item in enumerate(value)]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"{where}: {'.'.join(path)} is a {type(value).__name__}, which is not kept")

    return tensors, json.dumps(walk(state, ()))


def unflatten(text: str, tensor: Any) -> Any:
    """The state again; `tensor` gives a tensor by its name."""

    def build(value: Any) -> Any:
        if isinstance(value, list):
            return [build(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return tensor(value["tensor"])
        if "tuple" in value:
            return tuple(build(item) for item in value["tuple"])
        if "dict" in value:
            return {build(key): build(item) for key, item in value["dict"]}
        return {key: build(item) for key, item in value["object"].items()}

    return build(json.loads(text))


def file_name(rank: Optional[int]) -> str:
    """The file of an optimizer's state; of one rank's, where each has its own."""
    return "optimizer.safetensors" if rank is None else f"optimizer.rank-{rank:05}.safetensors"


def optimizer_state(snapshot: Snapshot, rank: Optional[int]) -> Any:
    file = file_name(rank)
    values = snapshot._headers.get(file, {})
    if KEY not in values:
        raise NoSuchRefError(
            f"{snapshot.ref}: no optimizer state in {file}",
            "of a trainer's own optimizer.pt Snapshot.path has the directory; where ranks have states of their own, name the rank",
        )
    # The optimizer writes to what it loads, and takes it over as it is: so a copy.
    return unflatten(values[KEY], lambda name: snapshot.torch(f"{file}:{name}").clone())
