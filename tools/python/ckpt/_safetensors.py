"""safetensors files that are never written: a header, and tensors where they lie."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._dtypes import name_of_numpy, name_of_torch

if TYPE_CHECKING:
    from ._snapshot import Snapshot

# The order in which the library `safetensors` writes tensors: by type, then by name. So a state dict becomes the file that it would write.
_ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2",
    "I8", "U8", "BOOL",
)  # fmt: skip


@dataclass
class HostTensor:
    """A tensor's elements side by side in the memory of this machine, or still to be copied there."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    value: Any
    """A torch tensor, contiguous, on any device; or a numpy array, contiguous."""

    @property
    def is_on_host(self) -> bool:
        return not is_torch(self.value) or self.value.device.type == "cpu"

    @property
    def address(self) -> int:
        return self.value.data_ptr() if is_torch(self.value) else self.value.ctypes.data


def is_torch(value: Any) -> bool:
    """Whether it is a torch tensor, without a need for torch."""
    return hasattr(value, "data_ptr") and hasattr(value, "detach")


def has_memory(value: Any) -> bool:
    """Whether a torch tensor's elements lie somewhere, and there are any."""
    return value.layout is _strided() and value.device.type != "meta" and value.numel() > 0


def host_tensor(name: str, value: Any) -> HostTensor:
    """The elements of a torch tensor or a numpy array; copied only where they do not lie side by side."""
    if is_torch(value):
        value = value.detach()
        if value.layout is not _strided() or value.is_quantized:
            raise TypeError(f"{name}: a {value.layout} tensor: a checkpoint holds dense ones")
        if value.device.type == "meta":
            raise TypeError(f"{name}: is on the meta device and has no values")
        value = value.resolve_conj().resolve_neg() if value.is_complex() or value.is_neg() else value
        value = value.contiguous()
        return HostTensor(_dtype(name, name_of_torch, value.dtype), tuple(value.shape), value.numel() * value.element_size(), value)
    import numpy

    array = numpy.asarray(value)
    # `ascontiguousarray` gives a scalar a dimension.
    array = array if array.flags.c_contiguous else numpy.ascontiguousarray(array)
    return HostTensor(_dtype(name, name_of_numpy, array.dtype), array.shape, array.nbytes, array)


def _dtype(name: str, named: Any, dtype: Any) -> str:
    try:
        return str(named(dtype))
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def _strided() -> Any:
    import torch

    return torch.strided


def header(tensors: dict[str, HostTensor], metadata: dict[str, str]) -> tuple[bytes, list[HostTensor]]:
    """The bytes before the tensors, and the tensors in the order in which they follow."""
    names = sorted(tensors, key=lambda name: (_rank(name, tensors[name]), name.encode("utf-8", "surrogatepass")))
    entries: dict[str, Any] = {}
    if metadata:
        entries["__metadata__"] = dict(sorted(metadata.items()))
    end = 0
    for name in names:
        tensor = tensors[name]
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, [tensors[name] for name in names]


def _rank(name: str, tensor: HostTensor) -> int:
    if tensor.dtype not in _ORDER:
        raise TypeError(f"{name}: safetensors has no {tensor.dtype}")
    return _ORDER.index(tensor.dtype)


def metadata_of(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """`__metadata__` of the snapshot's safetensors files, by file."""
    from . import _library as lib

    return lib.document("ckpt_snapshot_metadata", snapshot._handle)
