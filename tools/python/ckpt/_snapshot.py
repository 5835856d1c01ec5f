"""Snapshots: tensors in place, as numpy arrays or torch tensors, and weights into models."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from . import _library as lib
from ._dtypes import BITS, numpy_dtype, torch_dtype
from ._library import CkptError, Progress

if TYPE_CHECKING:
    from ._store import Store

# Of a private mapping no room is set aside: nobody is expected to write to it.
_NORESERVE = 0x4000 if sys.platform.startswith("linux") else 0
# Bytes that pass through a device's buffer at a time.
_STAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a snapshot, without its bytes."""

    name: str
    file: str
    part: str
    dtype: str
    shape: tuple[int, ...]
    strides: Optional[tuple[int, ...]]
    """In elements; None when contiguous."""
    nbytes: int
    offset: int
    """Of its first element in `file`, in bytes."""
    index: int


class _Maps:
    """The files of an image, mapped once each: read only for numpy, and for torch so that a write stays in this process.

    Those for the snapshot's own framework are opened at once: the image may be dropped later, and stays for as long as something is mapped.
    Optimizer state may be left out of it.
    """

    def __init__(self, directory: str, tensors: tuple[TensorInfo, ...], writable: bool) -> None:
        self._directory = directory
        self._maps: dict[tuple[str, bool], Optional[mmap.mmap]] = {}
        for file, part in {(tensor.file, tensor.part) for tensor in tensors if tensor.nbytes}:
            made = self._open(file, writable)
            if made is None and part != "optimizer":
                raise FileNotFoundError(file)
            self._maps[file, writable] = made

    def get(self, file: str, writable: bool) -> Optional[mmap.mmap]:
        """None for a file that the image leaves out, and for an image that is gone."""
        if (file, writable) not in self._maps:
            # Two threads may come here: either map is as good.
            self._maps.setdefault((file, writable), self._open(file, writable))
        return self._maps[file, writable]

    def _open(self, file: str, writable: bool) -> Optional[mmap.mmap]:
        try:
            with open(os.path.join(self._directory, file), "rb") as stream:
                if not writable:
                    return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
                return mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_PRIVATE | _NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except FileNotFoundError:
            return None


class Snapshot(Mapping):
    """One checkpoint of a store, as a mapping from the names of its weights to tensors.

    `snapshot[name]` is a view of the snapshot's image where it has one (every run's newest and every pinned snapshot do; `map()` makes
    one): nothing is read or copied, and the view keeps its bytes for as long as it lives, whatever becomes of the snapshot. Without an
    image the tensor is decoded into memory of its own. numpy arrays are read only. A torch tensor over an image may be written to; what is
    written stays in this process.

    Tensors of other files, such as an optimizer's, have names `file:name`. `tensors` lists all.
    """

    def __init__(self, store: Store, ref: str, framework: str = "numpy") -> None:
        if framework not in ("numpy", "torch"):
            raise ValueError(f"framework {framework!r}: numpy or torch")
        self.store = store
        self.ref = ref
        self.framework = framework
        handle = ctypes.c_void_p()
        lib.check(lib.library.ckpt_snapshot_open(store._handle, lib.encode(ref), ctypes.byref(handle)))
        self._handle = handle
        self._close = weakref.finalize(self, lib.library.ckpt_snapshot_close, handle)
        digits = ctypes.create_string_buffer(65)
        lib.check(lib.library.ckpt_snapshot_id(handle, digits))
        self.id: str = digits.value.decode()
        """The SHA-256 that names it, 64 digits."""
        self._lock = threading.Lock()
        self._maps: Optional[_Maps] = None
        self.tensors: tuple[TensorInfo, ...] = tuple(self._list())
        """All its tensors, an optimizer's too, file by file."""
        self._weights: dict[str, list[TensorInfo]] = {}
        for tensor in self.tensors:
            if tensor.part == "weights":
                self._weights.setdefault(tensor.name, []).append(tensor)
        self._metadata: Optional[dict[str, dict[str, str]]] = None

    def _list(self) -> Iterator[TensorInfo]:
        count = ctypes.c_size_t()
        lib.check(lib.library.ckpt_snapshot_tensor_count(self._handle, ctypes.byref(count)))
        found = lib.Tensor(struct_size=ctypes.sizeof(lib.Tensor))
        for index in range(count.value):
            lib.check(lib.library.ckpt_snapshot_tensor(self._handle, index, ctypes.byref(found)))
            yield TensorInfo(
                name=found.name.decode(), file=found.file.decode(), part=found.part.decode(), dtype=found.dtype.decode(),
                shape=tuple(found.shape[: found.rank]), strides=tuple(found.strides[: found.rank]) if found.strides else None,
                nbytes=found.byte_count, offset=found.file_offset, index=index,
            )  # fmt: skip

    # ---- What it is

    def __repr__(self) -> str:
        return f"<ckpt.Snapshot {self.ref} {self.id[:12]}: {len(self._weights)} weights>"

    def __reduce__(self) -> Any:
        # Given to another process it is opened there, the same whatever its name has come to mean.
        return Snapshot, (self.store, self.id, self.framework)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self._find(name) is not None
        except CkptError:
            return False

    @property
    def _names(self) -> list[str]:
        return [*self._weights, *(name for name in self._aliases if name not in self._weights)]

    def describe(self) -> dict[str, Any]:
        """Its files, the parts that were dropped, and the directory of its image, None where it has none."""
        return lib.document("ckpt_snapshot_describe", self._handle)

    @property
    def path(self) -> str:
        """The directory of its image, made when there is none: the checkpoint's own files, for any tool to read."""
        return lib.text("ckpt_store_path", self.store._handle, self._ref)

    def map(self) -> Snapshot:
        """Has the snapshot's image made where it has none, with its optimizer state, so that all its tensors are mapped. Returns the snapshot."""
        _ = self.path
        with self._lock:
            self._maps = None
        return self

    @property
    def is_mapped(self) -> bool:
        """Whether its weights are views of an image."""
        return self._image() is not None

    @property
    def metrics(self) -> dict[str, float]:
        """Its figures: those its trainer wrote, and those it was given."""
        return lib.document("ckpt_store_metrics", self.store._handle, self._ref)

    def file(self, path: str) -> bytes:
        """The bytes of a small file of it, such as config.json."""
        data, count = ctypes.POINTER(ctypes.c_uint8)(), ctypes.c_size_t()
        lib.check(lib.library.ckpt_store_file(self.store._handle, self._ref, lib.encode(path), ctypes.byref(data), ctypes.byref(count)))
        try:
            return ctypes.string_at(data, count.value)
        finally:
            lib.library.ckpt_free(data)

    def export(self, directory: str, progress: Optional[Progress] = None) -> None:
        """Writes its files to `directory`, which must not be there."""
        lib.Watch(progress).call("ckpt_store_export", self.store._handle, self._ref, lib.encode(directory), lib.PROGRESS)

    @property
    def _ref(self) -> bytes:
        # The id, and not the name it was asked for by: that may have come to mean another.
        return self.id.encode()

    # ---- Tensors

    def __getitem__(self, name: str) -> Any:
        return self.torch(name) if self.framework == "torch" else self.numpy(name)

    def info(self, name: str) -> TensorInfo:
        """What the tensor `name` or `file:name` is, without its bytes.

        Raises NoSuchRefError, also for one that ranks of a training hold slices of.
        """
        found = self._find(name)
        if isinstance(found, list):
            raise lib.NoSuchRefError(f"{name}: in {len(found)} files", f"say {found[0].file}:{name}")
        return found

    def _find(self, name: str) -> Any:
        known = self._weights.get(name)
        if known is None:
            alias = self._aliases.get(name)
            if alias is not None and alias != name:
                return self._find(alias)
            index = ctypes.c_size_t()
            lib.check(lib.library.ckpt_snapshot_find(self._handle, lib.encode(name), ctypes.byref(index)))
            return self.tensors[index.value]
        return known[0] if len(known) == 1 else known

    def numpy(self, name: str) -> Any:
        """The tensor as a read-only numpy array; bfloat16 and the 8-bit floats as types of ml_dtypes."""
        import numpy

        found = self._find(name)
        if isinstance(found, list):
            return self._joined(name, found, numpy_like=True)
        dtype = numpy_dtype(found.dtype)
        mapped = self._map(found, writable=False)
        if mapped is not None:
            array = numpy.ndarray(
                found.shape, dtype, buffer=mapped, offset=found.offset,
                strides=None if found.strides is None else tuple(step * dtype.itemsize for step in found.strides),
            )  # fmt: skip
        else:
            array = numpy.empty(found.shape, dtype)
            self._read([(found, 0, array.ctypes.data, array.nbytes)])
        array.flags.writeable = False
        return array

    def torch(self, name: str) -> Any:
        """The tensor as a torch tensor on the CPU."""
        import torch

        found = self._find(name)
        if isinstance(found, list):
            return self._joined(name, found, numpy_like=False)
        dtype = torch_dtype(found.dtype)
        mapped = self._map(found, writable=True)
        if mapped is None or not self._is_aligned(found):
            tensor = torch.empty(found.shape, dtype=dtype)
            self._read([(found, 0, tensor.data_ptr(), found.nbytes)])
            return tensor
        size = BITS[found.dtype] // 8
        if found.strides is None:
            count = found.nbytes // size
        else:
            count = 1 + sum((extent - 1) * step for extent, step in zip(found.shape, found.strides))
        flat = torch.frombuffer(mapped, dtype=dtype, count=count, offset=found.offset)
        return flat.view(found.shape) if found.strides is None else flat.as_strided(found.shape, found.strides)

    @staticmethod
    def _is_aligned(tensor: TensorInfo) -> bool:
        # torch takes a tensor's elements to lie at multiples of their size.
        return tensor.offset % (BITS[tensor.dtype] // 8) == 0

    def bytes(self, name: str, start: int = 0, stop: Optional[int] = None) -> bytes:
        """Bytes `start` to `stop` of a tensor's elements in row-major order: of any type, also of those that neither library has."""
        found = self.info(name)
        stop = found.nbytes if stop is None else stop
        if not 0 <= start <= stop <= found.nbytes:
            raise IndexError(f"{name}: bytes {start} to {stop} of {found.nbytes}")
        room = ctypes.create_string_buffer(stop - start)
        self._read([(found, start, ctypes.addressof(room), stop - start)])
        return room.raw

    def rows(self, name: str, start: int, stop: int) -> Any:
        """Rows `start` to `stop` of a tensor: of one that is packed, those blocks alone are decoded."""
        found = self.info(name)
        if not found.shape or not 0 <= start <= stop <= found.shape[0]:
            raise IndexError(f"{name}: rows {start} to {stop} of a tensor of shape {found.shape}")
        if self._map(found, writable=False) is not None or found.strides is not None:
            return self[name][start:stop]
        import numpy

        array = numpy.empty((stop - start, *found.shape[1:]), numpy_dtype(found.dtype))
        row = found.nbytes // max(1, found.shape[0])
        self._read([(found, start * row, array.ctypes.data, array.nbytes)])
        if self.framework == "numpy":
            array.flags.writeable = False
            return array
        import torch

        # numpy knows bfloat16 by ml_dtypes only, torch by itself.
        return torch.from_numpy(array.view(numpy.uint8).reshape(-1)).view(torch_dtype(found.dtype)).view(array.shape)

    def _map(self, tensor: TensorInfo, writable: bool) -> Optional[mmap.mmap]:
        """The file that has the tensor, mapped; None where there is none, or nothing to map."""
        image = self._image() if tensor.nbytes else None
        return image.get(tensor.file, writable) if image is not None else None

    def _image(self) -> Optional[_Maps]:
        if self._maps is None:
            with self._lock:
                directory = self.describe()["image"] if self._maps is None else None
                if directory is not None:
                    try:
                        self._maps = _Maps(directory, self.tensors, self.framework == "torch")
                    except FileNotFoundError:
                        pass  # Dropped between the two lines above.
        return self._maps

    def _read(self, wanted: list[tuple[TensorInfo, int, int, int]], progress: Optional[Progress] = None) -> None:
        """Reads stretches (tensor, first byte, address, bytes), all in one call."""
        reads = (lib.Read * len(wanted))(*[lib.Read(tensor.index, offset, address, count) for tensor, offset, address, count in wanted])
        lib.Watch(progress).call("ckpt_snapshot_read", self._handle, reads, len(wanted), lib.PROGRESS)

    # ---- What its files say of each other

    @property
    def _headers(self) -> dict[str, dict[str, str]]:
        """`__metadata__` of its safetensors files."""
        if self._metadata is None:
            from ._safetensors import metadata_of

            self._metadata = metadata_of(self)
        return self._metadata

    @property
    def _aliases(self) -> dict[str, str]:
        """Names of weights that are another's tensor, as safetensors.torch.save_model and `Store.ingest` write them down."""
        known = self._weights
        found: dict[str, str] = {}
        for values in self._headers.values():
            # What else a header says is not of names.
            found.update({name: other for name, other in values.items() if other in known and name != "format" and not name.startswith("ckpt.")})
        return found

    def _joined(self, name: str, slices: list[TensorInfo], numpy_like: bool) -> Any:
        from ._shards import join

        return join(self, name, slices, numpy_like)

    # ---- Into models

    def state_dict(self, device: Any = None) -> dict[str, Any]:
        """All weights as torch tensors, by name; views of the image on the CPU, copies on any other `device`."""
        return {name: self.torch(name) if device is None else self.torch(name).to(device) for name in self}

    def load_into(self, model: Any, strict: bool = True, assign: bool = False, progress: Optional[Progress] = None) -> Any:
        """Puts the weights into a torch module in place, as `model.load_state_dict` does: parameters and buffers keep their devices and types.

        Memory of the model's own is read into directly, on all processors; what is of another type or on another device goes through 64 MiB. With
        `strict` a weight that is missing or left over raises RuntimeError before anything is changed; shapes must agree in any case. Tied parameters
        need to be there once. Returns `missing_keys` and `unexpected_keys`.

        With `assign` what has the same type and is on the CPU is not copied: its memory is the snapshot's image from then on, whatever becomes of
        the store, shared with every process that does the same. A page that is written to, by a training say, becomes the model's own then.
        """
        from ._load import load_into

        return load_into(self, model, strict, assign, progress)

    def optimizer_state(self, rank: Optional[int] = None) -> Any:
        """The optimizer's state dict as `Store.ingest(optimizer=)` took it, to give to `optimizer.load_state_dict`; of a training of several
        ranks that of one `rank`.
        """
        from ._optimizer import optimizer_state

        return optimizer_state(self, rank)

    def plot(self, **options: Any) -> Any:
        """Draws the spread of each kind of weight by layer. Needs matplotlib; returns its axes."""
        from ._plot import plot_snapshot

        return plot_snapshot(self, **options)
