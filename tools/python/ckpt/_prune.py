"""Retention: which snapshots stay."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _library as lib
from ._library import Progress
from ._table import Table, format_bytes

if TYPE_CHECKING:
    from ._store import Store

Best = Union[int, tuple[int, str]]
"""How many of the best by a metric, and whether the lowest (`"min"`, the default) or the highest (`"max"`) are best."""


class Pruned(Table):
    """What a policy kept and dropped, or would: one row a snapshot. Members as of `ckpt prune --json`."""

    columns = ("ref", "kept", "reasons", "gap_value", "bytes_freed")

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values["rows"])
        self.dry_run: bool = values["dry_run"]
        self.bytes_freed: int = values["bytes_freed"]
        self.optimizers: list[dict[str, Any]] = values["optimizers"]
        """Snapshots that lose their optimizer state."""
        self.warnings: list[str] = values["warnings"]

    @property
    def dropped(self) -> list[str]:
        """The snapshots that went, or would, as `run@step`."""
        return [row["ref"] for row in self.rows if not row["kept"]]

    @property
    def kept(self) -> list[str]:
        return [row["ref"] for row in self.rows if row["kept"]]

    def _summary(self) -> str:
        verb = "would drop" if self.dry_run else "dropped"
        text = f"{verb} {len(self.dropped)} of {len(self.rows)} snapshots and free{'' if self.dry_run else 'd'} {format_bytes(self.bytes_freed)}"
        if self.optimizers:
            text += f"; {len(self.optimizers)} {'would lose' if self.dry_run else 'lost'} their optimizer state"
        return "\n".join(filter(None, [super()._summary(), text, *self.warnings]))


def policy(
    keep_last: Optional[int], keep_every: Optional[int], keep_best: Optional[Mapping[str, Best]], keep_tags: Sequence[str],
    keep_by_worth: Optional[int], budget_bytes: Optional[int], probe: Optional[str], least_gap: float, by_distance: bool,
    strong: Optional[str], least_age_seconds: Optional[int], optimizer_keep: Optional[int], includes_tagged: bool,
) -> dict[str, Any]:  # fmt: skip
    """A policy as the store keeps it."""
    rules: dict[str, Any] = {}

    def put(name: str, value: Any) -> None:
        if value is not None:
            rules[name] = value

    put("keep_last", _count("keep_last", keep_last))
    put("keep_every", _count("keep_every", keep_every))
    put("keep_tags", [keep_tags] if isinstance(keep_tags, str) else list(keep_tags) or None)
    best = []
    for metric, wish in (keep_best or {}).items():
        count, order = wish if isinstance(wish, (tuple, list)) and len(wish) == 2 else (wish, "min")
        if order not in ("min", "max"):
            raise ValueError(f"keep_best: {metric}: {order!r}: min or max")
        best.append({"metric": metric, "count": _count(f"keep_best: {metric}", count), "order": order})
    put("keep_best", best or None)
    put("keep_by_worth", _count("keep_by_worth", keep_by_worth))
    put("budget_bytes", _count("budget_bytes", budget_bytes))
    if probe is not None:
        rules.update(probe=probe, least_gap=least_gap)
    if by_distance:
        rules["by_distance"] = True
    put("strong", strong)
    put("least_age_seconds", _count("least_age_seconds", least_age_seconds))
    put("optimizer_keep", _count("optimizer_keep", optimizer_keep))
    if includes_tagged:
        rules["includes_tagged"] = True
    return rules


def _count(name: str, value: Any) -> Optional[int]:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: {value!r} is no whole number") from None
    if number < 0:
        raise ValueError(f"{name}: {number} is below zero")
    return number


def prune(store: Store, rules: dict[str, Any], runs: Sequence[str], dry_run: bool, progress: Optional[Progress]) -> Pruned:
    names = list(runs)
    values = lib.Watch(progress).document(
        "ckpt_store_prune", store._handle, json.dumps(rules).encode(), lib.texts(names), len(names), int(dry_run)
    )
    return Pruned(values)
