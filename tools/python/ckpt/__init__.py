"""ckpt: the whole history of a training run in one store, every checkpoint mapped, every difference computable.

    import ckpt

    store = ckpt.open("runs/.ckpt", create=True)
    store.ingest(model, run="sft", step=500, optimizer=optimizer, metrics={"eval_loss": 1.9})
    weights = store["sft@500"]["model.norm.weight"]      # in place, no copy
    store["sft@500"].load_into(model)
    print(ckpt.diff(store["sft~1"], store["sft"], by="layer"))
    store.prune(keep_last=5, keep_best={"eval_loss": 2})

`ckpt.transformers`, `ckpt.wmss` and `ckpt.peft` are modules of their own. Neither torch nor numpy is imported before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from ._diff import Diff, diff
from ._ingest import IngestJob, IngestResult
from ._library import (
    BadArgumentError, BadInputError, CkptError, ConflictError, DamagedError, DiskFullError, IncompatibleError, IncompleteError, InterruptedError,
    LockedError, NoStoreError, NoSuchRefError, library as _libckpt, check as _check, encode as _encode,
)  # fmt: skip
from ._probes import EntropyRecord, ProbeSample
from ._prune import Pruned
from ._snapshot import Snapshot, TensorInfo
from ._store import History, Run, Runs, Store, find_store as _find_store

if TYPE_CHECKING:
    from ._messages import probe_from_messages

__version__: str = _libckpt.ckpt_version().decode()

__all__ = [
    "BadArgumentError", "BadInputError", "CkptError", "ConflictError", "DamagedError", "Diff", "DiskFullError", "EntropyRecord", "History",
    "IncompatibleError", "IncompleteError", "IngestJob", "IngestResult", "InterruptedError", "LockedError", "NoStoreError", "NoSuchRefError",
    "ProbeSample", "Pruned", "Run", "Runs", "Snapshot", "Store", "TensorInfo", "__version__", "diff", "open", "probe_from_messages",
]  # fmt: skip


def open(path: Optional[str] = None, *, create: bool = False, framework: str = "numpy", lock_timeout: float = 30) -> Store:  # noqa: A001
    """Opens the store in the directory `path`; without one that of `CKPT_STORE`, or the nearest `.ckpt` upward from here.

    Args:
        create: make an empty store where there is none.
        framework: what `snapshot[name]` gives: "numpy" or "torch".
        lock_timeout: seconds that writers wait for others.
    """
    import os

    place = _find_store() if path is None else os.fspath(path)
    if create and not os.path.exists(os.path.join(place, "current")):
        try:
            _check(_libckpt.ckpt_store_create(_encode(place)))
        except ConflictError:
            pass  # Another process was faster: it is there.
    return Store(place, framework=framework, lock_timeout=lock_timeout)


def __getattr__(name: str) -> Any:
    # Of a module that few need.
    if name == "probe_from_messages":
        from ._messages import probe_from_messages

        return probe_from_messages
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
