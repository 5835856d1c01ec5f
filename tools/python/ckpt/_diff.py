"""What moved between two checkpoints."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Optional, Union

from . import _library as lib
from ._library import Progress
from ._snapshot import Snapshot
from ._table import Table, format_cell

_BY = {"tensor": 0, "layer": 1, "kind": 2}

Checkpoint = Union[Snapshot, str, "os.PathLike[str]"]
"""A snapshot, or the path of a checkpoint outside a store."""


class Diff(Table):
    """Rows of a diff, one for each tensor, layer or kind that was compared, the one that moved most first.

    Their members are those of format-spec/diff-json.md: `changed` of `words`, `delta_l2`, `relative_l2`, `cosine`, `max_abs`, `sign_flips`, ...
    """

    def __init__(self, values: dict[str, Any], names: tuple[str, str]) -> None:
        def moved(row: dict[str, Any]) -> float:
            # What became infinite or no number is first of all.
            value = row["relative_l2"]
            return float("inf") if value is None or row["nonfinite"] else value

        super().__init__(sorted(values["rows"], key=moved, reverse=True))
        self.names = names
        self.by: str = values["by"]
        self.total: Optional[dict[str, Any]] = values["total"]
        """The measures of all that was compared; None when nothing was."""
        self.identical: int = values["identical"]
        """Tensors that the store knows to be equal: in no row and no sum."""
        self.mismatched: list[dict[str, Any]] = values["mismatched"]
        """Tensors without a counterpart of their shape and type."""
        self.different: bool = values["different"]
        extent = ("shape",) if self.by == "tensor" else ("tensors",)
        ulps = ("mean_ulps",) if any("mean_ulps" in row for row in self.rows) else ()
        self.columns = ("name", *extent, "changed", "words", "delta_l2", "relative_l2", "cosine", "max_abs", "sign_flips", *ulps)

    def _cells(self) -> list[list[str]]:
        cells = super()._cells()
        if self.by == "tensor":
            for row, line in zip(self.rows, cells):
                line[1] = f"[{line[1]}]" if row["shape"] else "[]"
        return cells

    def _summary(self) -> str:
        parts = [super()._summary(), f"{self.names[0]} -> {self.names[1]}: {len(self.rows)} compared, {self.identical} identical"]
        if self.total:
            parts[1] += f"; relative {format_cell(self.total['relative_l2'])}"
        if self.mismatched:
            parts[1] += f"; {len(self.mismatched)} without a counterpart"
        return "\n".join(filter(None, parts))

    def plot(self, **options: Any) -> Any:
        """Draws how far each kind of weight moved in each layer. Needs matplotlib; returns its axes."""
        from ._plot import plot_diff

        return plot_diff(self, **options)


def diff(
    first: Checkpoint, second: Checkpoint, *, by: str = "tensor", full: bool = False, norms: bool = False, spectrum: int = 0,
    only: Optional[str] = None, progress: Optional[Progress] = None,
) -> Diff:  # fmt: skip
    """Compares two checkpoints: snapshots, of one store or two, or paths.

    `full` also measures distances in units in the last place and which rows and columns moved; `norms` gives those of all rows and columns;
    `spectrum` so many singular values of each matrix's difference (up to 64); `only` is a glob of names. Tensors that are known to be equal are not
    read. Memory: a few blocks a processor.
    """
    if by not in _BY:
        raise ValueError(f"by {by!r}: tensor, layer or kind")
    if not 0 <= spectrum <= 64:
        raise ValueError(f"spectrum {spectrum}: 0 to 64")
    options = lib.DiffOptions(
        struct_size=ctypes.sizeof(lib.DiffOptions), by=_BY[by], full=int(full), norms=int(norms), spectrum=spectrum,
        only=lib.encode(only) if only is not None else None,
    )  # fmt: skip
    sides: list[Any] = []
    for side in (first, second):
        sides += [side.store._handle, side._ref] if isinstance(side, Snapshot) else [None, lib.encode(os.fspath(side))]
    values = lib.Watch(progress).document("ckpt_diff", *sides, ctypes.byref(options))
    names = [side.ref if isinstance(side, Snapshot) else os.fspath(side) for side in (first, second)]
    return Diff(values, (names[0], names[1]))
