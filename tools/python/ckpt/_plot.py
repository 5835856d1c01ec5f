"""Pictures for notebooks, by matplotlib."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from ._diff import Diff
    from ._snapshot import Snapshot
    from ._store import Run


def _grid(values: dict[tuple[str, str], float]) -> tuple[list[str], list[str], Any]:
    """Kinds, layers and a matrix of values, of which some may be missing."""
    import numpy

    kinds = list(dict.fromkeys(kind for kind, _ in values))
    layers = sorted({layer for _, layer in values}, key=_layer_order)
    matrix = numpy.full((len(kinds), len(layers)), numpy.nan)
    for (kind, layer), value in values.items():
        matrix[kinds.index(kind), layers.index(layer)] = value
    return kinds, layers, matrix


def _layer_order(name: str) -> tuple[int, str]:
    number = re.search(r"\d+", name)
    return (int(number.group()) if number else -1, name)


def _heat_map(axes: Any, values: dict[tuple[str, str], float], title: str, label: str) -> Any:
    import matplotlib.pyplot as plt
    import numpy
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    if not values:
        raise ValueError(f"{title}: nothing to draw")
    kinds, layers, matrix = _grid(values)
    if axes is None:
        _, axes = plt.subplots(figsize=(max(4.0, 0.35 * len(layers) + 2.5), max(2.6, 0.28 * len(kinds) + 1.2)), layout="constrained")
    finite = matrix[numpy.isfinite(matrix) & (matrix > 0)]
    norm = LogNorm(finite.min(), finite.max()) if finite.size and finite.max() > 10 * finite.min() else None
    drawn = axes.imshow(matrix, aspect="auto", cmap="viridis", norm=norm, interpolation="nearest")
    axes.set_xticks(range(len(layers)), layers, rotation=90)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_title(title)
    bar = axes.figure.colorbar(drawn, ax=axes, label=label)
    if norm is not None:
        # Three a power of ten, so that labels do not lie one on the other.
        bar.locator = LogLocator(subs=(1, 2, 5))
        bar.formatter = "{x:.2g}"
        bar.minorticks_off()
        bar.update_ticks()
    return axes


def _place(name: str) -> tuple[str, str]:
    """The kind and the layer of a weight, told by its name."""
    found = re.search(r"(?:^|\.)(\d+)\.", name)
    kind = name[found.end() :] if found else name
    kind = re.sub(r"\.weight$", "", kind)
    return kind, found.group(1) if found else "-"


def plot_snapshot(snapshot: Snapshot, axes: Optional[Any] = None) -> Any:
    import numpy

    from ._dtypes import numpy_dtype

    values: dict[tuple[str, str], float] = {}
    for name in snapshot:
        found = snapshot._find(name)
        if isinstance(found, list) or found.nbytes == 0:
            continue
        # Types that numpy cannot take the root mean square of are left out.
        kind = numpy_dtype(found.dtype).kind
        if kind not in "fV":
            continue
        # In slices: a float copy of a large tensor is four times its size.
        rows = snapshot.numpy(name).reshape(-1)
        total = sum(float(numpy.square(rows[start : start + (1 << 20)].astype(numpy.float64)).sum()) for start in range(0, rows.size, 1 << 20))
        values[_place(name)] = (total / rows.size) ** 0.5
    return _heat_map(axes, values, snapshot.ref, "root mean square")


def plot_diff(diff: Diff, axes: Optional[Any] = None, measure: str = "relative_l2") -> Any:
    if diff.by != "tensor":
        raise ValueError(f"a diff by {diff.by}: one by tensor has both layers and kinds")
    values: dict[tuple[str, str], float] = {}
    for row in diff.rows:
        value = row.get(measure)
        if row["part"] == "weights" and value is not None:
            values[row["kind"], row["layer"]] = max(value, values.get((row["kind"], row["layer"]), 0.0))
    return _heat_map(axes, values, f"{diff.names[0]} → {diff.names[1]}", measure)


def plot_run(run: Run, axes: Optional[Any] = None, metric: Optional[str] = None) -> Any:
    import matplotlib.pyplot as plt

    from ._diff import diff

    if len(run) < 2:
        raise ValueError(f"{run.name}: {len(run)} snapshot: there is nothing to draw between")
    snapshots = [run[index] for index in range(len(run))]
    lengths = []
    for before, after in zip(snapshots, snapshots[1:]):
        rows = [row for row in diff(before, after).rows if row["part"] == "weights"]
        first = sum(row["first_l2"] ** 2 for row in rows) ** 0.5
        delta = sum(row["delta_l2"] ** 2 for row in rows) ** 0.5
        lengths.append(delta / first if first else 0.0)
    if axes is None:
        _, axes = plt.subplots(layout="constrained")
    lines = axes.plot(run.steps[1:], lengths, marker="o", label="distance from the step before")
    axes.set_xlabel("step")
    axes.set_ylabel("relative L2")
    axes.set_title(run.name)
    figures = run.metrics()
    names = [metric] if metric is not None else [name for name in ("eval_loss", "loss") if any(name in row for row in figures)][:1]
    for name in names:
        points = [(row["step"], row[name]) for row in figures if name in row]
        if not points:
            raise ValueError(f"{run.name}: no metric {name}")
        other = axes.twinx()
        lines += other.plot(*zip(*points), color="tab:orange", marker="x", label=name)
        other.set_ylabel(name)
    axes.legend(handles=lines)
    return axes
