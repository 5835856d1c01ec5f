"""Rows of figures: as text, as HTML for notebooks, and for pandas."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any


class Table(Sequence):
    """A list of dicts that prints as a table. `columns` are those that are shown."""

    columns: tuple[str, ...] = ()
    shown = 20
    """Rows that are printed."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def to_pandas(self) -> Any:
        """A pandas DataFrame of all rows and columns."""
        import pandas

        return pandas.DataFrame(self.rows)

    def _cells(self) -> list[list[str]]:
        return [[format_cell(row.get(column)) for column in self.columns] for row in self.rows[: self.shown]]

    def _summary(self) -> str:
        hidden = len(self.rows) - self.shown
        return f"{hidden} more rows" if hidden > 0 else ""

    def __str__(self) -> str:
        cells = [list(self.columns), *self._cells()]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        is_number = [all(_is_number(row.get(column)) for row in self.rows[: self.shown]) for column in self.columns]
        lines = [
            "  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(row, widths, is_number)).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, *filter(None, [self._summary()])])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._cells())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(self._summary())}</p>"


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float)) and not isinstance(value, bool)


def format_cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(format_cell(item) for item in value)
    # Names come from files: nothing that a terminal would take for more than text.
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))


def format_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"
