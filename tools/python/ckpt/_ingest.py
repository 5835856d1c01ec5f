"""Checkpoints from memory: state dicts become the files of a snapshot without one being written."""

from __future__ import annotations

import atexit
import ctypes
import math
import mmap
import os
import sys
import threading
import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _library as lib
from ._library import Progress
from ._safetensors import HostTensor, has_memory, header, host_tensor, is_torch

if TYPE_CHECKING:
    from ._store import Store

FileContent = Union[bytes, str, "os.PathLike[str]"]
"""What a file beside the weights holds: bytes, text, or as a path the place of a file or directory on disk."""

_PACKING = {"delta": 0, "dense": 1, "raw": 2}


@dataclass(frozen=True)
class IngestResult:
    """What became of a checkpoint."""

    run: str
    step: int
    id: str
    outcome: str
    """`stored`: a new snapshot; `known`: its bytes were there, only the step is new; `unchanged`: its files were not read; `pruned`: a policy
    had dropped it before."""
    raw_bytes: int
    """Of its files."""
    new_bytes: int
    """Of the blocks that were new."""
    packed_bytes: int
    """What those take in the store."""
    image: Optional[str]
    source: str
    notes: tuple[str, ...]
    dropped_optimizers: tuple[str, ...]

    @property
    def ref(self) -> str:
        return f"{self.run}@{self.step}"

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> IngestResult:
        return cls(
            values["run"], values["step"], values["id"], values["outcome"], values["raw_bytes"], values["new_bytes"], values["packed_bytes"],
            values["image"], values["source"], tuple(values["notes"]), tuple(values["dropped_optimizers"]),
        )  # fmt: skip


class Options:
    """`ckpt_ingest_options`, with what it points to."""

    def __init__(
        self, parent: Optional[str], tags: list[str], metrics: dict[str, float], packing: str, pin: bool, image: bool, replace: bool,
        optimizer_keep: Optional[int], keep_optimizer: bool = True,
    ) -> None:  # fmt: skip
        if packing not in _PACKING:
            raise ValueError(f"packing {packing!r}: delta, dense or raw")
        if optimizer_keep is not None and optimizer_keep < 1:
            raise ValueError(f"optimizer_keep {optimizer_keep}: 1 or more")
        # What is no number says nothing, and a run that diverges is to be kept all the same.
        dropped = [name for name, value in metrics.items() if not math.isfinite(value)]
        if dropped:
            warnings.warn(f"metrics that are no finite numbers are left out: {', '.join(dropped)}", stacklevel=3)
            metrics = {name: value for name, value in metrics.items() if name not in dropped}
        self._tags = lib.texts(tags)
        self._names = lib.texts(list(metrics))
        self._values = (ctypes.c_double * len(metrics))(*[float(value) for value in metrics.values()])
        self.value = lib.IngestOptions(
            struct_size=ctypes.sizeof(lib.IngestOptions), parent=lib.encode(parent) if parent else None, tags=self._tags, tag_count=len(tags),
            metric_names=self._names, metric_values=self._values, metric_count=len(metrics), packing=_PACKING[packing], pin=int(pin),
            leaves_out_optimizer=int(not keep_optimizer), without_image=int(not image), replaces=int(replace),
            optimizer_keep=optimizer_keep or 0,
        )  # fmt: skip


class Files:
    """The files of a checkpoint on their way into a store."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, bytes, list[HostTensor]]] = []
        """safetensors files: name, bytes before the tensors, tensors."""
        self.plain: list[tuple[str, Union[bytes, str]]] = []
        """Others: name, and bytes or the place on disk."""

    def add_tensors(self, path: str, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        found = {name: host_tensor(name, value) for name, value in tensors.items()}
        before, order = header(found, metadata)
        self.headers.append((path, before, order))

    def add(self, path: str, content: FileContent) -> None:
        if isinstance(content, bytes):
            self.plain.append((path, content))
        elif isinstance(content, str):
            self.plain.append((path, content.encode("utf-8")))
        else:
            location = os.fspath(content)
            if not os.path.isdir(location):
                self.plain.append((path, location))
                return
            for directory, subdirectories, names in os.walk(location):
                subdirectories.sort()
                for name in sorted(names):
                    below = os.path.join(directory, name)
                    relative = os.path.relpath(below, location).replace(os.sep, "/")
                    self.plain.append((f"{path.rstrip('/')}/{relative}" if path else relative, below))

    @property
    def tensor_bytes(self) -> int:
        return sum(tensor.nbytes for _, _, tensors in self.headers for tensor in tensors)

    def copied(self, area: Staging) -> None:
        """Has every tensor copied to `area`: after this nothing of the caller's is looked at any more."""
        area.reserve(self.tensor_bytes, any(not tensor.is_on_host for _, _, tensors in self.headers for tensor in tensors))
        start = 0
        for _, _, tensors in self.headers:
            for tensor in tensors:
                tensor.value = area.copy(tensor, start)
                start += tensor.nbytes
        area.wait()

    def on_host(self) -> None:
        """Has tensors of devices copied to memory."""
        for _, _, tensors in self.headers:
            for tensor in tensors:
                if not tensor.is_on_host:
                    tensor.value = tensor.value.cpu()

    def as_array(self) -> tuple[Any, Any]:
        """`ckpt_file` structures, and what they point to."""
        kept: list[Any] = []
        made: list[lib.File] = []

        def pieces(parts: list[tuple[int, int]]) -> Any:
            array = (lib.Piece * len(parts))(*[lib.Piece(address or None, count) for address, count in parts])
            kept.append(array)
            return array

        for path, before, tensors in self.headers:
            kept.extend([before, [tensor.value for tensor in tensors]])
            parts = [(_address(before), len(before))] + [(tensor.address, tensor.nbytes) for tensor in tensors if tensor.nbytes]
            made.append(lib.File(lib.encode(path), None, pieces(parts), len(parts)))
        for path, content in self.plain:
            if isinstance(content, bytes):
                kept.append(content)
                made.append(lib.File(lib.encode(path), None, pieces([(_address(content), len(content))]), 1))
            else:
                made.append(lib.File(lib.encode(path), lib.encode(content), None, 0))
        return (lib.File * len(made))(*made), kept


def _address(data: bytes) -> int:
    """Of bytes, which stay where they are as long as they live."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


class Staging:
    """Memory that a state is copied to while a training waits. It is kept for the next one: fresh memory costs more than the copy."""

    def __init__(self) -> None:
        self._memory: Any = None
        self._size = 0
        self._is_pinned = False
        self._is_waiting = False

    def reserve(self, size: int, for_device: bool) -> None:
        if self._memory is not None and self._size >= size and (self._is_pinned or not for_device):
            return
        self._memory = None
        if for_device:
            import torch

            # Pinned: what comes from a device goes straight there, at the bus's speed.
            self._memory = torch.empty(max(1, size), dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        else:
            # Private: a child of fork that ingests too has its own from its first write on.
            area = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                try:
                    area.madvise(mmap.MADV_HUGEPAGE)
                except OSError:
                    pass  # A kernel without large pages.
            self._memory = area
        self._size, self._is_pinned = size, for_device

    def copy(self, tensor: HostTensor, start: int) -> Any:
        """A copy of the tensor at `start`."""
        if tensor.nbytes == 0:
            return tensor.value
        if is_torch(tensor.value):
            import torch

            if self._is_pinned:
                room = self._memory[start : start + tensor.nbytes]
            else:
                room = torch.frombuffer(self._memory, dtype=torch.uint8, count=tensor.nbytes, offset=start)
            # As bytes: the place need not be a multiple of the element's size.
            room.copy_(tensor.value.reshape(-1).view(torch.uint8), non_blocking=True)
            self._is_waiting |= tensor.value.device.type == "cuda"
            return room
        import numpy

        memory = self._memory.numpy() if self._is_pinned else self._memory
        room = numpy.frombuffer(memory, numpy.uint8, tensor.nbytes, start)
        numpy.copyto(room, tensor.value.reshape(-1).view(numpy.uint8))
        return room

    def wait(self) -> None:
        """Until copies from a device have arrived."""
        if self._is_waiting:
            import torch

            torch.cuda.synchronize()
            self._is_waiting = False


class IngestJob:
    """An ingest under way on a thread of its own; Python does not end before it has. What went wrong and nobody asked for is printed then."""

    def __init__(self, ref: str, work: Any) -> None:
        self.ref = ref
        self._process = os.getpid()
        self._result: Optional[IngestResult] = None
        self._error: Optional[BaseException] = None
        self._is_told = False
        self._ended = threading.Event()
        _jobs.add(self)
        threading.Thread(target=self._run, args=(work,), name=f"ckpt ingest {ref}").start()

    def _run(self, work: Any) -> None:
        if sys.platform.startswith("linux"):
            # Of this thread, and of those that the library starts from it: a training that goes on comes first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10))
        try:
            self._result = work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            self._error = error
        finally:
            self._ended.set()

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.is_set()

    @property
    def is_ours(self) -> bool:
        """False in a child of fork, which has not the thread."""
        return os.getpid() == self._process

    def result(self, timeout: Optional[float] = None) -> IngestResult:
        """Waits for it. Raises what it raised; TimeoutError when it goes on after `timeout` seconds."""
        if not self.is_ours and not self.done():
            raise RuntimeError(f"the ingest of {self.ref} goes on in the process that began it, and this is a child of that")
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the ingest of {self.ref} is not done yet")
        self._is_told = True
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def raise_untold(self) -> None:
        """Raises an error that nobody has asked for: it is not to be lost."""
        if not self._is_told and self._error is not None:
            self.result()


_jobs: weakref.WeakSet[IngestJob] = weakref.WeakSet()


@atexit.register
def _tell() -> None:
    """Errors that nobody has asked for, at the end."""
    for job in _jobs:
        if job.is_ours and job._error is not None and not job._is_told:
            print(f"ckpt: the ingest of {job.ref} failed: {job._error}", file=sys.stderr)


def collect(
    state: Any, optimizer: Any, files: Optional[dict[str, FileContent]], weights: str, optimizer_file: str, of_ranks: bool = False
) -> Files:  # fmt: skip
    """The files of a state, or of a rank's part of one."""
    from . import _optimizer

    config = None
    # What torch.compile has wrapped has other names.
    state = getattr(state, "_orig_mod", state)
    if hasattr(state, "state_dict"):
        model = state
        state = model.state_dict()
        if hasattr(getattr(model, "config", None), "to_json_string"):
            config = model.config.to_json_string()
    if not hasattr(state, "items"):
        raise TypeError(f"a {type(state).__name__} is no state dict and no module")
    tensors, metadata = _without_ties(state, of_ranks)
    made = Files()
    made.add_tensors(weights, tensors, {"format": "pt" if any(is_torch(value) for value in tensors.values()) else "np", **metadata})
    if optimizer is not None:
        values = optimizer.state_dict() if hasattr(optimizer, "state_dict") else optimizer
        found, rest = _optimizer.flatten(values)
        made.add_tensors(optimizer_file, found, {"format": "pt", _optimizer.KEY: rest})
    files = dict(files or {})
    if config is not None:
        files.setdefault("config.json", config)
    for path, content in files.items():
        made.add(path, content)
    return made


def _without_ties(state: Any, of_ranks: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Each memory once, under its first name; the other names in the header, as safetensors.torch.save_model writes them."""
    from ._shards import KEY, local_slice

    tensors: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    slices: dict[str, Any] = {}
    first: dict[Any, str] = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise TypeError(f"a state dict whose keys are texts: {name!r} is a {type(name).__name__}")
        if not is_torch(value) and not hasattr(value, "__array_interface__"):
            raise TypeError(f"{name}: a {type(value).__name__} is no tensor: put what is none into files=")
        value, place = local_slice(value)
        if place is not None and not of_ranks:
            raise TypeError(f"{name}: this rank has a slice of it: every rank calls ingest with distributed=True")
        if is_torch(value) and has_memory(value):
            key = (str(value.device), value.data_ptr(), tuple(value.shape), tuple(value.stride()), str(value.dtype), value.is_conj(), value.is_neg())
            known = first.setdefault(key, name)
            if known != name:
                metadata[name] = known
                continue
        if place is not None:
            slices[name] = place
        tensors[name] = value
    if slices:
        import json

        metadata[KEY] = json.dumps(slices)
    return tensors, metadata


def ingest_files(
    store: Store, run: str, step: int, files: Files, joins: list[str], is_piece: bool, options: Options, progress: Optional[Progress]
) -> IngestResult:  # fmt: skip
    array, kept = files.as_array()
    result = lib.Watch(progress).document(
        "ckpt_ingest_files", store._handle, lib.encode(run), step, array, len(array), lib.texts(joins), len(joins), int(is_piece),
        ctypes.byref(options.value),
    )  # fmt: skip
    del kept
    return IngestResult.from_json(result)
