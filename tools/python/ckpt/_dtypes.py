"""Element types: as safetensors writes them, and what they are in numpy and torch."""

from __future__ import annotations

from typing import Any

_NUMPY = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64",
    "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64", "C128": "complex128",
}  # fmt: skip
# numpy has no such types of its own.
_ML_DTYPES = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
_TORCH = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64",
    "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64", "C128": "complex128",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F16": 16, "BF16": 16, "F32": 32, "F64": 64,
    "C64": 64, "C128": 128, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip

_numpy_types: dict[str, Any] = {}
_torch_types: dict[str, Any] = {}


def numpy_dtype(name: str) -> Any:
    """The numpy dtype, those of ml_dtypes for bfloat16 and the 8-bit floats."""
    found = _numpy_types.get(name)
    if found is None:
        import numpy

        if name in _NUMPY:
            found = numpy.dtype(_NUMPY[name])
        elif name in _ML_DTYPES:
            import ml_dtypes

            found = numpy.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))
        else:
            raise TypeError(f"numpy has no type for {name}: read its bytes with Snapshot.bytes")
        _numpy_types[name] = found
    return found


def torch_dtype(name: str) -> Any:
    """The torch dtype."""
    found = _torch_types.get(name)
    if found is None:
        import torch

        found = getattr(torch, _TORCH[name], None) if name in _TORCH else None
        if found is None:
            raise TypeError(f"this torch has no type for {name}: read its bytes with Snapshot.bytes")
        _torch_types[name] = found
    return found


def name_of_torch(dtype: Any) -> str:
    """The name of a torch dtype."""
    text = str(dtype).rpartition(".")[2]
    for name, torch_name in _TORCH.items():
        if torch_name == text:
            return name
    raise TypeError(f"a checkpoint holds no {dtype}")


def name_of_numpy(dtype: Any) -> str:
    """The name of a numpy dtype in the machine's own byte order."""
    import numpy

    dtype = numpy.dtype(dtype)
    for table in (_NUMPY, _ML_DTYPES):
        for name, numpy_name in table.items():
            if dtype.name == numpy_name and dtype.isnative:
                return name
    hint = "" if dtype.isnative else ": of the machine's own byte order it does"
    raise TypeError(f"a checkpoint holds no {dtype!r}{hint}")
