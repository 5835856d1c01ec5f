"""libckpt through ctypes: its declarations, its errors, and calls that Ctrl-C can stop. `ckpt.h` says what each function does."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import threading
from ctypes import POINTER, Structure, c_char, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Any, Callable, Optional

__all__ = ["CkptError", "Progress", "library"]

ABI_VERSION = 1

Progress = Callable[[int, int], Any]
"""Called some times a second with bytes done and bytes in all."""


class CkptError(Exception):
    """What the library refuses or could not do. `status` is its number in ckpt.h, `hint` what to do about it."""

    status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        # Not as KeyError has it, in quotation marks.
        message = str(self.args[0])
        return f"{message} (hint: {self.hint})" if self.hint else message


class NoStoreError(CkptError):
    """There is no store at this path."""

    status = 2


class NoSuchRefError(CkptError, KeyError):
    """There is no such snapshot, tensor, probe or file."""

    status = 3


class BadInputError(CkptError, ValueError):
    """A file or a value that is not what it should be."""

    status = 4


class ConflictError(CkptError):
    """Something else is there already, or needs it."""

    status = 5


class IncompleteError(CkptError):
    """A checkpoint that is still being written."""

    status = 6


class LockedError(CkptError, TimeoutError):
    """Another process writes, and the wait was too long."""

    status = 7


class DamagedError(CkptError):
    """What was read is not what was written."""

    status = 8


class IncompatibleError(CkptError):
    """A store or a rule of a newer ckpt."""

    status = 9


class DiskFullError(CkptError, OSError):
    """The disk is full."""

    status = 10


class InterruptedError(CkptError):  # noqa: A001 - ckpt.InterruptedError; the built-in is of system calls
    """The progress callback ended it."""

    status = 11


class BadArgumentError(CkptError, ValueError):
    """A handle that was closed, or an argument that cannot be."""

    status = 13


_ERRORS: dict[int, type[CkptError]] = {
    error.status: error
    for error in (
        NoStoreError, NoSuchRefError, BadInputError, ConflictError, IncompleteError, LockedError, DamagedError, IncompatibleError,
        DiskFullError, InterruptedError, BadArgumentError,
    )
}  # fmt: skip
_ERRORS[12] = BadArgumentError
for _error in (CkptError, *_ERRORS.values()):
    # As they are named outside.
    _error.__module__ = "ckpt"


class Tensor(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("name", c_char_p), ("file", c_char_p), ("part", c_char_p), ("dtype", c_char_p), ("bits", c_uint32),
        ("rank", c_uint32), ("shape", POINTER(c_uint64)), ("strides", POINTER(c_uint64)), ("byte_count", c_uint64),
        ("file_offset", c_uint64),
    ]  # fmt: skip


class Read(Structure):
    _fields_ = [("index", c_size_t), ("offset", c_uint64), ("buffer", c_void_p), ("count", c_uint64)]


class IngestOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("parent", c_char_p), ("tags", POINTER(c_char_p)), ("tag_count", c_size_t),
        ("metric_names", POINTER(c_char_p)), ("metric_values", POINTER(c_double)), ("metric_count", c_size_t), ("packing", c_int32),
        ("pin", c_int32), ("leaves_out_optimizer", c_int32), ("without_image", c_int32), ("replaces", c_int32), ("optimizer_keep", c_uint32),
    ]  # fmt: skip


class Piece(Structure):
    _fields_ = [("bytes", c_void_p), ("count", c_uint64)]


class File(Structure):
    _fields_ = [("path", c_char_p), ("location", c_char_p), ("pieces", POINTER(Piece)), ("piece_count", c_size_t)]


class DiffOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("by", c_int32), ("full", c_int32), ("norms", c_int32), ("spectrum", c_uint32), ("only", c_char_p),
    ]  # fmt: skip


class Sample(Structure):
    _fields_ = [
        ("id", c_char_p), ("tokens", POINTER(c_int32)), ("token_count", c_size_t), ("supervised", POINTER(c_uint32)), ("range_count", c_size_t),
    ]  # fmt: skip


class Outputs(Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("sample_count", c_size_t), ("token_count", c_size_t), ("samples", POINTER(c_uint64)),
        ("starts", POINTER(c_uint64)), ("entropy", POINTER(c_float)), ("nll", POINTER(c_float)), ("top1", POINTER(c_uint32)),
        ("kl_strong_weak", POINTER(c_float)), ("kl_weak_strong", POINTER(c_float)), ("ln_c", POINTER(c_float)),
        ("hard_negatives", POINTER(c_float)),
    ]  # fmt: skip


ProgressCallback = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)

_TEXT_OUT = POINTER(c_void_p)
_PROGRESS = (ProgressCallback, c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "ckpt_store_create": (c_char_p,),
    "ckpt_store_open": (c_char_p, c_double, POINTER(c_void_p)),
    "ckpt_store_close": (c_void_p,),
    "ckpt_store_history": (c_void_p, c_char_p, _TEXT_OUT),
    "ckpt_store_stats": (c_void_p, _TEXT_OUT),
    "ckpt_store_metrics": (c_void_p, c_char_p, _TEXT_OUT),
    "ckpt_store_set_metric": (c_void_p, c_char_p, c_char_p, c_double),
    "ckpt_store_tag": (c_void_p, c_char_p, c_char_p),
    "ckpt_store_untag": (c_void_p, c_char_p),
    "ckpt_store_pin": (c_void_p, c_char_p),
    "ckpt_store_unpin": (c_void_p, c_char_p),
    "ckpt_store_remove": (c_void_p, c_char_p),
    "ckpt_store_path": (c_void_p, c_char_p, _TEXT_OUT),
    "ckpt_store_export": (c_void_p, c_char_p, c_char_p, *_PROGRESS),
    "ckpt_store_file": (c_void_p, c_char_p, c_char_p, POINTER(POINTER(c_uint8)), POINTER(c_size_t)),
    "ckpt_store_verify": (c_char_p, c_int32, *_PROGRESS, _TEXT_OUT),
    "ckpt_store_prune": (c_void_p, c_char_p, POINTER(c_char_p), c_size_t, c_int32, *_PROGRESS, _TEXT_OUT),
    "ckpt_snapshot_open": (c_void_p, c_char_p, POINTER(c_void_p)),
    "ckpt_snapshot_close": (c_void_p,),
    "ckpt_snapshot_id": (c_void_p, POINTER(c_char)),
    "ckpt_snapshot_describe": (c_void_p, _TEXT_OUT),
    "ckpt_snapshot_tensor_count": (c_void_p, POINTER(c_size_t)),
    "ckpt_snapshot_tensor": (c_void_p, c_size_t, POINTER(Tensor)),
    "ckpt_snapshot_find": (c_void_p, c_char_p, POINTER(c_size_t)),
    "ckpt_snapshot_read": (c_void_p, POINTER(Read), c_size_t, *_PROGRESS),
    "ckpt_ingest_path": (c_void_p, c_char_p, c_char_p, POINTER(c_uint64), POINTER(IngestOptions), *_PROGRESS, _TEXT_OUT),
    "ckpt_ingest_files": (
        c_void_p, c_char_p, c_uint64, POINTER(File), c_size_t, POINTER(c_char_p), c_size_t, c_int32, POINTER(IngestOptions), *_PROGRESS,
        _TEXT_OUT,
    ),
    "ckpt_diff": (c_void_p, c_char_p, c_void_p, c_char_p, POINTER(DiffOptions), *_PROGRESS, _TEXT_OUT),
    "ckpt_probe_add": (c_void_p, c_char_p, POINTER(Sample), c_size_t, _TEXT_OUT),
    "ckpt_probe_list": (c_void_p, _TEXT_OUT),
    "ckpt_probe_samples": (c_void_p, c_char_p, _TEXT_OUT),
    "ckpt_probe_remove": (c_void_p, c_char_p),
    "ckpt_entropies_put": (c_void_p, c_char_p, c_char_p, c_char_p, c_char_p, POINTER(Outputs), _TEXT_OUT),
    "ckpt_entropies_get": (c_void_p, c_char_p, c_char_p, c_char_p, POINTER(Outputs)),
    "ckpt_entropies_list": (c_void_p, c_char_p, c_char_p, _TEXT_OUT),
}  # fmt: skip


def _path() -> str:
    named = os.environ.get("CKPT_LIBRARY")
    if named:
        return named
    directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_lib")
    for name in ("libckpt.so", "libckpt.dylib"):
        path = os.path.join(directory, name)
        if os.path.exists(path):
            return path
    raise ImportError(
        f"{directory}: no libckpt in it. A wheel of ckpt brings it; from a checkout build it with tools/library and set CKPT_LIBRARY to what it prints"
    )


def _load() -> ctypes.CDLL:
    path = _path()
    library = ctypes.CDLL(path)
    library.ckpt_abi_version.restype = c_int32
    version = library.ckpt_abi_version()
    if version != ABI_VERSION:
        raise ImportError(f"{path}: its interface is of version {version}, and this package knows version {ABI_VERSION}")
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = c_int32
    for name in ("ckpt_version", "ckpt_error_message", "ckpt_error_hint"):
        getattr(library, name).restype = c_char_p
    library.ckpt_free.argtypes = (c_void_p,)
    library.ckpt_free.restype = None
    library.ckpt_outputs_free.argtypes = (POINTER(Outputs),)
    library.ckpt_outputs_free.restype = None
    return library


library = _load()


def encode(text: str) -> bytes:
    """Text as C has it."""
    data = os.fspath(text).encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise BadArgumentError(f"{text!r} has a NUL in it")
    return data


def texts(values: list[str]) -> Any:
    """An array of C strings, NULL where there are none."""
    return (c_char_p * len(values))(*[encode(value) for value in values]) if values else None


def check(status: int) -> None:
    """Raises what this thread's last call has refused."""
    if status == 0:
        return
    message = (library.ckpt_error_message() or b"").decode("utf-8", "replace")
    hint = (library.ckpt_error_hint() or b"").decode("utf-8", "replace")
    raise _ERRORS.get(status, CkptError)(message, hint)


def taken_text(pointer: c_void_p) -> str:
    """The text that a function has given, given back."""
    try:
        return ctypes.string_at(pointer.value or 0).decode("utf-8")
    finally:
        library.ckpt_free(pointer)


def text(name: str, *arguments: Any) -> str:
    """Calls a function whose last parameter is given a text."""
    out = c_void_p()
    check(getattr(library, name)(*arguments, ctypes.byref(out)))
    return taken_text(out)


def document(name: str, *arguments: Any) -> Any:
    """Calls a function whose last parameter is given a JSON document."""
    return json.loads(text(name, *arguments))


class Watch:
    """A call that takes a while: it tells the caller how far it is, and Ctrl-C, or whatever the caller's function raises, stops it.

    Exceptions do not pass through C. What the caller's function raises is kept until the call has ended. Ctrl-C raises wherever Python happens to
    be, at the entry of a callback too, where nothing can keep it: so for the time of the call its handler only notes it.
    """

    def __init__(self, progress: Optional[Progress] = None) -> None:
        self._progress = progress
        self._raised: Optional[BaseException] = None
        self._signals: list[tuple[int, Any]] = []
        self._callback = ProgressCallback(self._report)

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function; `PROGRESS` among the arguments stands for the callback and its context."""
        handler: Any = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
        if callable(handler):
            signal.signal(signal.SIGINT, lambda *caught: self._signals.append(caught))
        try:
            status = getattr(library, name)(*[item for argument in arguments for item in self._expanded(argument)])
        finally:
            if callable(handler):
                signal.signal(signal.SIGINT, handler)
        if self._raised is not None:
            raise self._raised
        for caught in self._signals:
            handler(*caught)
        check(status)

    def document(self, name: str, *arguments: Any) -> Any:
        """As `call`, for functions whose last parameter is given a JSON document."""
        out = c_void_p()
        self.call(name, *arguments, PROGRESS, ctypes.byref(out))
        return json.loads(taken_text(out))

    def _expanded(self, argument: Any) -> tuple[Any, ...]:
        return (self._callback, None) if argument is PROGRESS else (argument,)

    def _report(self, _context: Any, done: int, total: int) -> int:
        try:
            if self._progress is not None:
                self._progress(done, total)
        except BaseException as error:  # noqa: BLE001 - raised again by `call`
            self._raised = error
        return int(self._raised is not None or bool(self._signals))


PROGRESS = object()
"""Stands for the callback and its context among the arguments of `Watch.call`."""
