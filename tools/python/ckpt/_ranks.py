"""One snapshot of a training of several ranks: each takes in its own files, and the last commit makes them one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Optional

from ._ingest import FileContent, Files, IngestResult, Options, collect, ingest_files
from ._library import Progress
from ._optimizer import file_name

if TYPE_CHECKING:
    from ._store import Store


def ingest_ranks(
    store: Store, run: str, step: int, state: Any, optimizer: Any, files: Optional[dict[str, FileContent]], options: Options,
    piece_options: Options, group: Any, progress: Optional[Progress],
) -> IngestResult:  # fmt: skip
    """Called by every rank of `group`; all return the same result, or all raise."""
    import torch.distributed as dist

    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    made, error = None, None
    try:
        made = collect(state, optimizer, files if rank == 0 else None, _weights_name(rank, ranks), file_name(rank), of_ranks=True)
        made.on_host()
        if rank > 0:
            made.plain.clear()
            ingest_files(store, _piece(run, rank, ranks), step, made, [], True, piece_options, progress)
    except Exception as problem:  # noqa: BLE001 - told to all, then raised
        error = problem
    named = _gathered(dist, group, ranks, (_names(made), repr(error) if error else None))
    _check(error, named)
    result: Any = None
    if rank == 0:
        try:
            assert made is not None
            index = _index([names for names, _ in named], ranks)
            if index is not None:
                made.add("model.safetensors.index.json", index)
            result = ingest_files(store, run, step, made, [f"{_piece(run, other, ranks)}@{step}" for other in range(1, ranks)], False, options, progress)
        except Exception as problem:  # noqa: BLE001
            error = problem
    named = _gathered(dist, group, ranks, (result, repr(error) if error else None))
    _check(error, named)
    return named[0][0]


def _weights_name(rank: int, ranks: int) -> str:
    return f"model-{rank + 1:05}-of-{ranks:05}.safetensors"


def _piece(run: str, rank: int, ranks: int) -> str:
    return f"{run}.rank-{rank}-of-{ranks}"


def _names(files: Optional[Files]) -> dict[str, int]:
    """The tensors of a rank's weights and their bytes."""
    if files is None:
        return {}
    _, before, _ = files.headers[0]
    entries = json.loads(before[8:])
    entries.pop("__metadata__", None)
    return {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in entries.items()}


def _index(names: list[dict[str, int]], ranks: int) -> Optional[str]:
    """What transformers reads shards by; None where several ranks have slices of one tensor, which it cannot say."""
    places: dict[str, str] = {}
    for rank, tensors in enumerate(names):
        for name in tensors:
            if name in places:
                return None
            places[name] = _weights_name(rank, ranks)
    total = sum(sum(tensors.values()) for tensors in names)
    return json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}, indent=2) + "\n"


def _gathered(dist: Any, group: Any, ranks: int, value: Any) -> list[Any]:
    gathered: list[Any] = [None] * ranks
    dist.all_gather_object(gathered, value, group=group)
    return gathered


def _check(own: Optional[Exception], told: list[Any]) -> None:
    """Raises on every rank when one has failed: none waits for it for ever."""
    if own is not None:
        raise own
    for rank, (_, error) in enumerate(told):
        if error is not None:
            raise RuntimeError(f"rank {rank} could not take its part in: {error}")
