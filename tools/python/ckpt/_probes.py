"""Probes, and the outputs of snapshots on them."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _library as lib

if TYPE_CHECKING:
    from ._snapshot import Snapshot
    from ._store import Store

SETTINGS = {"precision": "f32"}
"""Of the record that `ckpt gap`, `ckpt prune` and `ckpt diff --probe` read: softmax and sums in single precision or better."""

_COLUMNS = ("entropy", "nll", "top1", "kl_strong_weak", "kl_weak_strong", "ln_c", "hard_negatives")


@dataclass(frozen=True)
class ProbeSample:
    """A prompt and its completion as tokens; `supervised` are ranges of them, first and past the last, of which outputs are compared."""

    id: str
    input_ids: tuple[int, ...]
    supervised: tuple[tuple[int, int], ...]

    @property
    def labels(self) -> list[int]:
        """The tokens where they are supervised, else -100, as trainers take them (not shifted)."""
        labels = [-100] * len(self.input_ids)
        for start, stop in self.supervised:
            labels[start:stop] = self.input_ids[start:stop]
        return labels

    @classmethod
    def of(cls, value: Union[ProbeSample, Mapping[str, Any]], index: int) -> ProbeSample:
        """One given as a mapping: `input_ids`, and `supervised` ranges, or `labels`, or `completion_start`; `id` if it has one."""
        if isinstance(value, ProbeSample):
            return value
        tokens = tuple(int(token) for token in value["input_ids"])
        if any(not 0 <= token < 1 << 31 for token in tokens):
            raise ValueError(f"sample {index}: a token that is below 0, or 2^31 or more")
        if "supervised" in value:
            ranges = [(int(start), int(stop)) for start, stop in value["supervised"]]
        elif "labels" in value:
            ranges = supervised_ranges([int(label) != -100 for label in value["labels"]])
            if len(value["labels"]) != len(tokens):
                raise ValueError(f"sample {index}: {len(value['labels'])} labels for {len(tokens)} tokens")
        elif "completion_start" in value:
            ranges = [(int(value["completion_start"]), len(tokens))]
        else:
            raise ValueError(f"sample {index}: no supervised, labels or completion_start")
        return cls(str(value.get("id", index)), tokens, tuple(ranges))


def supervised_ranges(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """Where a mask is set, as ranges."""
    ranges: list[tuple[int, int]] = []
    for place, is_set in enumerate(mask):
        if not is_set:
            continue
        if ranges and ranges[-1][1] == place:
            ranges[-1] = (ranges[-1][0], place + 1)
        else:
            ranges.append((place, place + 1))
    return ranges


@dataclass
class EntropyRecord:
    """Outputs of a snapshot on samples of a probe: for each supervised token, in nats, what the distribution that predicts it was.

    Arrays of numpy. Sample `samples[i]` has the figures `starts[i]` to `starts[i + 1]` of each column.
    """

    samples: Any
    """int64, places in the probe."""
    starts: Any
    """int64, one more than there are samples."""
    columns: dict[str, Any]
    """float32 by name, and `top1`, the most likely token, uint32."""

    def __len__(self) -> int:
        return len(self.samples)

    def means(self, column: str = "entropy") -> Any:
        """The mean over each sample's tokens, float64; that of a sample without tokens is not a number."""
        import numpy

        sums = numpy.concatenate([[0.0], numpy.cumsum(self.columns[column], dtype=numpy.float64)])
        counts = numpy.diff(self.starts)
        return numpy.divide(sums[self.starts[1:]] - sums[self.starts[:-1]], counts, out=numpy.full(len(counts), numpy.nan), where=counts > 0)


def add_probe(store: Store, name: str, samples: Iterable[Union[ProbeSample, Mapping[str, Any]]]) -> dict[str, Any]:
    found = [ProbeSample.of(sample, index) for index, sample in enumerate(samples)]
    array = (lib.Sample * len(found))()
    kept: list[Any] = []
    for place, sample in enumerate(found):
        identity = lib.encode(sample.id)
        tokens = (ctypes.c_int32 * len(sample.input_ids))(*sample.input_ids)
        ends = (ctypes.c_uint32 * (2 * len(sample.supervised)))(*[end for span in sample.supervised for end in span])
        kept += [identity, tokens, ends]
        array[place] = lib.Sample(identity, tokens, len(tokens), ends, len(sample.supervised))
    return lib.document("ckpt_probe_add", store._handle, lib.encode(name), array, len(found))


def probe(store: Store, name: str) -> list[ProbeSample]:
    rows = lib.document("ckpt_probe_samples", store._handle, lib.encode(name))
    return [ProbeSample(row["id"], tuple(row["input_ids"]), tuple((start, stop) for start, stop in row["supervised"])) for row in rows]


def entropies(store: Store, ref: Union[str, Snapshot], probe_name: str, settings: Optional[Mapping[str, str]]) -> EntropyRecord:
    import numpy

    out = lib.Outputs(struct_size=ctypes.sizeof(lib.Outputs))
    arguments = (store._handle, _ref(ref), lib.encode(probe_name), _texts(settings or SETTINGS))
    lib.check(lib.library.ckpt_entropies_get(*arguments, ctypes.byref(out)))
    try:

        def column(pointer: Any, count: int, dtype: Any) -> Any:
            # A copy: the memory is given back below.
            return numpy.ctypeslib.as_array(pointer, (count,)).astype(dtype) if count else numpy.empty(0, dtype)

        found: dict[str, Any] = {}
        for name in _COLUMNS:
            pointer = getattr(out, name)
            if pointer:
                found[name] = column(pointer, out.token_count, numpy.uint32 if name == "top1" else numpy.float32)
        return EntropyRecord(column(out.samples, out.sample_count, numpy.int64), column(out.starts, out.sample_count + 1, numpy.int64), found)
    finally:
        lib.library.ckpt_outputs_free(ctypes.byref(out))


def put_entropies(
    store: Store, ref: Union[str, Snapshot], probe_name: str, record: Any, provenance: Optional[Mapping[str, str]],
    settings: Optional[Mapping[str, str]],
) -> dict[str, Any]:  # fmt: skip
    import numpy

    if not isinstance(record, EntropyRecord):
        # What `ckpt.wmss.entropies` found, of all samples in order.
        record = EntropyRecord(
            numpy.arange(len(record)), record.offsets,
            {"entropy": record.token_entropy, "nll": record.token_nll, "top1": record.token_top1},
        )  # fmt: skip
    unknown = set(record.columns) - set(_COLUMNS)
    if unknown:
        raise ValueError(f"columns {sorted(unknown)}: there are {', '.join(_COLUMNS)}")
    samples = numpy.ascontiguousarray(record.samples, numpy.uint64)
    starts = numpy.ascontiguousarray(record.starts, numpy.uint64)
    arrays: dict[str, Any] = {}
    for name, values in record.columns.items():
        arrays[name] = numpy.ascontiguousarray(values, numpy.uint32 if name == "top1" else numpy.float32)
        if len(starts) == 0 or arrays[name].shape != (int(starts[-1]),):
            raise ValueError(f"column {name}: shape {arrays[name].shape} where starts say {starts[-1:]} figures")
    if len(starts) != len(samples) + 1:
        raise ValueError(f"{len(starts)} starts for {len(samples)} samples: one more")
    out = lib.Outputs(struct_size=ctypes.sizeof(lib.Outputs), sample_count=len(samples), token_count=int(starts[-1]))
    out.samples = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_uint64))
    out.starts = starts.ctypes.data_as(ctypes.POINTER(ctypes.c_uint64))
    for name, values in arrays.items():
        setattr(out, name, values.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32 if name == "top1" else ctypes.c_float)))
    made = {"program": "ckpt.wmss", **dict(provenance or {})}
    return lib.document(
        "ckpt_entropies_put", store._handle, _ref(ref), lib.encode(probe_name), _texts(settings or SETTINGS), _texts(made), ctypes.byref(out)
    )


def _ref(ref: Union[str, Snapshot]) -> bytes:
    return lib.encode(ref) if isinstance(ref, str) else ref._ref


def _texts(values: Mapping[str, str]) -> bytes:
    return json.dumps({str(name): str(value) for name, value in values.items()}).encode()
