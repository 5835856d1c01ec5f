"""Stores and runs."""

from __future__ import annotations

import ctypes
import operator
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Optional, Union, overload

from . import _library as lib
from . import _probes, _prune
from ._ingest import FileContent, IngestJob, IngestResult, Options, Staging, collect, ingest_files
from ._library import NoStoreError, Progress
from ._optimizer import file_name
from ._probes import EntropyRecord, ProbeSample
from ._prune import Best, Pruned
from ._snapshot import Snapshot
from ._table import Table, format_bytes, format_cell


class Run(Sequence):
    """A named line of snapshots, oldest first: `run[-1]` is its newest, `run.at(500)` that of a step."""

    def __init__(self, store: Store, name: str, history: list[dict[str, Any]]) -> None:
        self.store = store
        self.name = name
        self.history = history
        """An entry for each snapshot, with the members of `ckpt log --json`: `ref`, `step`, `id`, `tags`, `raw_bytes`, ..."""

    @property
    def steps(self) -> list[int]:
        return [entry["step"] for entry in self.history]

    @property
    def head(self) -> Snapshot:
        """Its newest snapshot."""
        return self[-1]

    def at(self, step: int) -> Snapshot:
        return self.store[f"{self.name}@{step}"]

    def metrics(self) -> list[dict[str, float]]:
        """The figures of each snapshot, with its `step`."""
        return [{"step": entry["step"], **lib.document("ckpt_store_metrics", self.store._handle, entry["id"].encode())} for entry in self.history]

    def __len__(self) -> int:
        return len(self.history)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.store[entry["ref"]] for entry in self.history[index]]
        return self.store[self.history[index]["ref"]]

    def __repr__(self) -> str:
        return f"<ckpt.Run {self.name}: {len(self)} snapshots, steps {self.steps[0]} to {self.steps[-1]}>"

    def plot(self, **options: Any) -> Any:
        """Draws the distance between neighbours, and the metrics, along the run. Needs matplotlib; returns its axes."""
        from ._plot import plot_run

        return plot_run(self, **options)


class Runs(Mapping):
    """The runs of a store by name, as they were when it was asked."""

    def __init__(self, store: Store) -> None:
        self._runs: dict[str, list[dict[str, Any]]] = {}
        self._store = store
        for entry in store.history():
            self._runs.setdefault(entry["run"], []).append(entry)

    def __getitem__(self, name: str) -> Run:
        return Run(self._store, name, self._runs[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return "\n".join(repr(run) for run in self.values()) or "<no runs>"


class History(Table):
    """Snapshots, one row each, with the members of `ckpt log --json`."""

    columns = ("ref", "id", "raw_bytes", "tensors", "tags", "head", "pinned")

    def _cells(self) -> list[list[str]]:
        return [
            [
                row["id"][:12] if column == "id" else format_bytes(row[column]) if column == "raw_bytes" else format_cell(row[column] or None)
                for column in self.columns
            ]
            for row in self.rows[: self.shown]
        ]  # fmt: skip


class Store:
    """A checkpoint store.

    Safe to use from many threads and processes: readers never wait, writers wait `lock_timeout` seconds for each other. After a fork, in
    a worker of a DataLoader say, it and its snapshots go on working.
    """

    def __init__(self, path: str, *, framework: str = "numpy", lock_timeout: float = 30) -> None:
        if framework not in ("numpy", "torch"):
            raise ValueError(f"framework {framework!r}: numpy or torch")
        self.framework = framework
        handle = ctypes.c_void_p()
        lib.check(lib.library.ckpt_store_open(lib.encode(path), lock_timeout, ctypes.byref(handle)))
        self._handle = handle
        self.path = os.path.abspath(path)
        self._lock_timeout = lock_timeout
        self._close = weakref.finalize(self, lib.library.ckpt_store_close, handle)
        # Both under the lock: the staging area is one, and a job under way reads it.
        self._ingesting = threading.RLock()
        self._staging = Staging()
        self._job: Optional[IngestJob] = None
        _stores.add(self)

    def __repr__(self) -> str:
        return f"<ckpt.Store {self.path}>"

    def __reduce__(self) -> Any:
        # Given to another process it is opened there.
        return _reopened, (self.path, self.framework, self._lock_timeout)

    def close(self) -> None:
        """Waits for an ingest under way, raises what it raised, and closes the store. Tensors stay, and snapshots go on giving theirs; for anything
        else they need the store open.
        """
        try:
            self.wait()
        finally:
            self._close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # ---- What is in it

    @property
    def runs(self) -> Runs:
        """Its runs by name."""
        return Runs(self)

    def history(self, run: Optional[str] = None) -> History:
        """All snapshots, or those of a run, by run and step."""
        return History(lib.document("ckpt_store_history", self._handle, lib.encode(run) if run is not None else None))

    def __getitem__(self, ref: str) -> Snapshot:
        """The snapshot that `ref` names: `"sft@500"`, `"sft"` (its newest), `"sft~2"`, a tag, or the beginning of an id."""
        return Snapshot(self, ref, self.framework)

    def snapshot(self, ref: str, framework: Optional[str] = None) -> Snapshot:
        """As `store[ref]`, with tensors of another framework."""
        return Snapshot(self, ref, framework or self.framework)

    def __contains__(self, ref: object) -> bool:
        try:
            return isinstance(ref, str) and self[ref] is not None
        except lib.NoSuchRefError:
            return False

    def stats(self) -> dict[str, Any]:
        """Sizes and counts, as `ckpt stats --json`."""
        return lib.document("ckpt_store_stats", self._handle)

    def verify(self, quick: bool = False, progress: Optional[Progress] = None) -> dict[str, Any]:
        """Checks the whole store, as `ckpt verify --json`: `ok`, `problems`, ..."""
        return lib.Watch(progress).document("ckpt_store_verify", lib.encode(self.path), int(quick))

    # ---- Putting checkpoints in

    @overload
    def ingest(
        self, state: Any, *, run: str, step: int, optimizer: Any = None, metrics: Optional[Mapping[str, float]] = None,
        files: Optional[dict[str, FileContent]] = None, tags: Union[str, Sequence[str]] = (), pin: bool = False, parent: Optional[str] = None,
        packing: str = "delta", image: bool = True, replace: bool = False, optimizer_keep: Optional[int] = None, wait: Literal[True] = True,
        distributed: Any = None, weights_file: str = "model.safetensors", progress: Optional[Progress] = None,
    ) -> IngestResult: ...  # fmt: skip

    @overload
    def ingest(
        self, state: Any, *, run: str, step: int, optimizer: Any = None, metrics: Optional[Mapping[str, float]] = None,
        files: Optional[dict[str, FileContent]] = None, tags: Union[str, Sequence[str]] = (), pin: bool = False, parent: Optional[str] = None,
        packing: str = "delta", image: bool = True, replace: bool = False, optimizer_keep: Optional[int] = None, wait: Literal[False],
        distributed: Any = None, weights_file: str = "model.safetensors", progress: Optional[Progress] = None,
    ) -> IngestJob: ...  # fmt: skip

    def ingest(
        self, state: Any, *, run: str, step: int, optimizer: Any = None, metrics: Optional[Mapping[str, float]] = None,
        files: Optional[dict[str, FileContent]] = None, tags: Union[str, Sequence[str]] = (), pin: bool = False, parent: Optional[str] = None,
        packing: str = "delta", image: bool = True, replace: bool = False, optimizer_keep: Optional[int] = None, wait: bool = True,
        distributed: Any = None, weights_file: str = "model.safetensors", progress: Optional[Progress] = None,
    ) -> Union[IngestResult, IngestJob]:  # fmt: skip
        """Takes a checkpoint in straight from memory: no file is written but the store's own.

        The snapshot is what `safetensors.torch.save_file` would have written: the same bytes, the same id.

        Args:
            state: a state dict of torch tensors (on any device) or numpy arrays, or a module, of which a configuration is kept too. Tied tensors
                are kept once.
            optimizer: a torch optimizer or its state dict; `Snapshot.optimizer_state` gives it back.
            metrics: figures by which snapshots are kept and plotted.
            files: others beside the weights, by name: bytes, text, or as a `pathlib.Path` a file or directory on disk.
            optimizer_keep: after it the run keeps the optimizer state of so many steps, tagged and pinned ones aside.
            parent: the snapshot it was trained from; by default the run's step before.
            image: whether the run's newest snapshot is to be mapped.
            replace: put it in the place of another at this run and step.
            wait: with False it returns an `IngestJob` as soon as the state has been copied, and goes on in a thread. One is under way at a time: a second
                waits for the first, and raises what that raised.
            distributed: with True every rank of the default process group of torch.distributed (or of the group given) calls this with its own
                part of the state, a DTensor's slice or tensors of its own; one commit makes them one snapshot.
            weights_file: the name of the file of weights; of ranks each has a file of its own.

        Raises ConflictError when the run has another snapshot at this step, and whatever else CkptError is for; the store is unchanged then.
        """
        step = _step(step)
        options = Options(parent, _names(tags), dict(metrics or {}), packing, pin, image, replace, optimizer_keep)
        if distributed is not None and distributed is not False:
            if not wait:
                raise ValueError("ranks wait for each other: wait=False does not go with distributed=")
            from ._ranks import ingest_ranks

            pieces = Options(self._piece_parent(run, step, parent), [], {}, packing, False, False, True, None)
            group = None if distributed is True else distributed
            return ingest_ranks(self, run, step, state, optimizer, files, options, pieces, group, progress)
        with self._ingesting:
            self.wait()
            made = collect(state, optimizer, files, weights_file, file_name(None))
            if not wait:
                made.copied(self._staging)
                self._job = IngestJob(f"{run}@{step}", lambda: ingest_files(self, run, step, made, [], False, options, progress))
                return self._job
        made.on_host()
        return ingest_files(self, run, step, made, [], False, options, progress)

    def _forked(self) -> None:
        """In a child, where no thread of the parent's is: what it was doing, and its locks, are its own."""
        self._ingesting = threading.RLock()
        self._staging = Staging()
        self._job = None

    def _piece_parent(self, run: str, step: int, parent: Optional[str]) -> Optional[str]:
        """What a rank's piece is packed against: the run's step before."""
        if parent is not None:
            return parent
        try:
            before = [entry["ref"] for entry in self.history(run) if entry["step"] < step]
        except lib.NoSuchRefError:
            return None
        return before[-1] if before else None

    def ingest_path(
        self, path: Union[str, os.PathLike[str]], *, run: Optional[str] = None, step: Optional[int] = None, tags: Sequence[str] = (),
        metrics: Optional[Mapping[str, float]] = None, pin: bool = False, parent: Optional[str] = None, packing: str = "delta", image: bool = True,
        replace: bool = False, optimizer: bool = True, optimizer_keep: Optional[int] = None, progress: Optional[Progress] = None,
    ) -> list[IngestResult]:  # fmt: skip
        """Takes checkpoints in from disk: a file, a model directory, or a trainer's output directory with its `checkpoint-N`."""
        options = Options(parent, _names(tags), dict(metrics or {}), packing, pin, image, replace, optimizer_keep, optimizer)
        number = ctypes.byref(ctypes.c_uint64(_step(step))) if step is not None else None
        rows = lib.Watch(progress).document(
            "ckpt_ingest_path", self._handle, lib.encode(os.fspath(path)), lib.encode(run) if run is not None else None, number,
            ctypes.byref(options.value),
        )  # fmt: skip
        return [IngestResult.from_json(row) for row in rows]

    def wait(self) -> None:
        """Waits for an ingest under way, and raises what it raised unless its job was asked."""
        with self._ingesting:
            job = self._job
            if job is None:
                return
            # Forgotten when it has ended, and not when Ctrl-C ends the wait: it reads what was copied for it.
            job._ended.wait()
            self._job = None
        job.raise_untold()

    # ---- Labels

    def tag(self, ref: str, tag: str) -> None:
        """Gives a snapshot another name."""
        lib.check(lib.library.ckpt_store_tag(self._handle, lib.encode(ref), lib.encode(tag)))

    def untag(self, tag: str) -> None:
        lib.check(lib.library.ckpt_store_untag(self._handle, lib.encode(tag)))

    def pin(self, ref: str) -> None:
        """A pinned snapshot has an image and is never pruned."""
        lib.check(lib.library.ckpt_store_pin(self._handle, lib.encode(ref)))

    def unpin(self, ref: str) -> None:
        lib.check(lib.library.ckpt_store_unpin(self._handle, lib.encode(ref)))

    def set_metric(self, ref: str, name: str, value: float) -> None:
        lib.check(lib.library.ckpt_store_set_metric(self._handle, lib.encode(ref), lib.encode(name), value))

    def remove(self, ref: str) -> None:
        """Takes a snapshot out of the history."""
        lib.check(lib.library.ckpt_store_remove(self._handle, lib.encode(ref)))

    # ---- Retention

    def prune(
        self, *runs: str, keep_last: Optional[int] = None, keep_every: Optional[int] = None, keep_best: Optional[Mapping[str, Best]] = None,
        keep_tags: Sequence[str] = (), keep_by_worth: Optional[int] = None, budget_bytes: Optional[int] = None, probe: Optional[str] = None,
        least_gap: float = 0.02, by_distance: bool = False, strong: Optional[str] = None, least_age_seconds: Optional[int] = None,
        optimizer_keep: Optional[int] = None, includes_tagged: bool = False, dry_run: bool = False, progress: Optional[Progress] = None,
    ) -> Pruned:  # fmt: skip
        """Drops the snapshots of `runs`, or of all, that no rule keeps; rules add up. A run's newest, tagged and pinned ones stay.

        `keep_best` maps metrics to how many are kept: `{"eval_loss": 2, "accuracy": (1, "max")}`. `keep_by_worth` and `budget_bytes` keep those that can
        teach most: by the gap value on `probe`, of which entropy records must be there, or `by_distance`. `optimizer_keep` drops the optimizer
        state of all but the last so many steps. With `dry_run` nothing is changed.
        """
        rules = _prune.policy(
            keep_last, keep_every, keep_best, keep_tags, keep_by_worth, budget_bytes, probe, least_gap, by_distance, strong, least_age_seconds,
            optimizer_keep, includes_tagged,
        )  # fmt: skip
        return _prune.prune(self, rules, runs, dry_run, progress)

    # ---- Probes and entropies

    def add_probe(self, name: str, samples: Iterable[Union[ProbeSample, Mapping[str, Any]]]) -> dict[str, Any]:
        """Puts a probe into the store: samples as `probe_from_messages` makes them, or mappings with `input_ids` and `labels`, `supervised` or
        `completion_start`, and perhaps an `id`.
        """
        return _probes.add_probe(self, name, samples)

    def probe(self, name: str) -> list[ProbeSample]:
        """The samples of a probe."""
        return _probes.probe(self, name)

    def probes(self) -> list[dict[str, Any]]:
        """All probes, as `ckpt probe ls --json`."""
        return lib.document("ckpt_probe_list", self._handle)

    def remove_probe(self, name: str) -> None:
        lib.check(lib.library.ckpt_probe_remove(self._handle, lib.encode(name)))

    def entropies(self, ref: Union[str, Snapshot], probe: str, settings: Optional[Mapping[str, str]] = None) -> EntropyRecord:
        """The outputs of a snapshot on a probe, as `ckpt entropy` or `put_entropies` kept them.

        Raises NoSuchRefError when there are none under these settings.
        """
        return _probes.entropies(self, ref, probe, settings)

    def put_entropies(
        self, ref: Union[str, Snapshot], probe: str, record: Any, *, provenance: Optional[Mapping[str, str]] = None,
        settings: Optional[Mapping[str, str]] = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Keeps outputs that were made elsewhere, on a GPU say: an `EntropyRecord`, or what `ckpt.wmss.entropies` found of all samples in order.
        `ckpt gap`, `ckpt prune` and `prune(probe=)` read them. `provenance` says how they came about: `device`, `torch`, ...
        """
        return _probes.put_entropies(self, ref, probe, record, provenance, settings)

    def entropy_records(self, ref: Optional[str] = None, probe: Optional[str] = None) -> list[dict[str, Any]]:
        """What records there are, as `ckpt probe show --json` lists them."""
        return lib.document(
            "ckpt_entropies_list", self._handle, lib.encode(ref) if ref is not None else None, lib.encode(probe) if probe is not None else None
        )


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _forked() -> None:
    for store in _stores:
        store._forked()


os.register_at_fork(after_in_child=_forked)


def _step(step: Any) -> int:
    number = operator.index(step)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"step {number}: 0 or more, below 2^64")
    return number


def _names(tags: Union[str, Sequence[str]]) -> list[str]:
    return [tags] if isinstance(tags, str) else list(tags)


def _reopened(path: str, framework: str, lock_timeout: float) -> Store:
    return Store(path, framework=framework, lock_timeout=lock_timeout)


def find_store() -> str:
    """`CKPT_STORE`, else the nearest `.ckpt` directory upward from here, as the command finds it."""
    named = os.environ.get("CKPT_STORE")
    if named:
        return named
    directory = os.getcwd()
    while True:
        candidate = os.path.join(directory, ".ckpt")
        if os.path.exists(os.path.join(candidate, "current")):
            return candidate
        above = os.path.dirname(directory)
        if above == directory:
            raise NoStoreError("no store: no .ckpt directory here or above", 'ckpt.open("PATH", create=True) makes one')
        directory = above
