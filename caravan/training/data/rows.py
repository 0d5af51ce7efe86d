"""What a reader gives: rows with the place where each stands, and what was counted. Pure types."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from caravan.values.base import Json


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its file, the line (or the row, where there are no lines) where it begins, counted from 1, its columns."""

    file: str
    line: int
    fields: Mapping[str, Json]


@dataclass(slots=True)
class Counts:
    """What a pass over files counted. `rows` None: not all could be counted. `looked_at`: rows that were read."""

    rows: int | None = 0
    looked_at: int = 0
    bytes: int = 0
    columns: dict[str, int] = field(default_factory=dict)

    def counted(self, rows: int) -> None:
        """Further rows."""
        if self.rows is not None:
            self.rows += rows

    def saw(self, fields: Mapping[str, Json]) -> None:
        """A row that was read; the columns that it has."""
        self.looked_at += 1
        for name in fields:
            if name in self.columns or len(self.columns) < _MOST_COLUMNS:
                self.columns[name] = self.columns.get(name, 0) + 1


_MOST_COLUMNS = 500
"""Columns that are kept by name; more are no columns but keys."""
