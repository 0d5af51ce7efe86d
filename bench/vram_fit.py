"""Fits the memory estimate's few fitted numbers to published figures, and tells how far they reach.

Coordinate descent over a small grid: robust (medians), with no gradient, and every step can be read.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from caravan.planning.memory import FITTED, Fitted, memory_parts
from caravan.planning.rows import setting_of, shape_in
from caravan.values.base import Json
from caravan.values.shape import ModelShape

GRID: Final[Mapping[str, tuple[float, ...]]] = {
    "stream": (0, 1, 2, 3, 4),
    "adapter_input": (0, 1, 2, 3, 4, 5),
    "sharded_adapter": (0, 5, 10, 13, 16),
    "compiled": (0.65, 0.72, 0.8, 0.9, 1.0),
    "slack": (0, 0.05, 0.1, 0.15, 0.2, 0.3),
    "logits_slack": (0.1, 0.2, 0.3, 0.4, 0.6),
    "varying_slack": (0.8, 1.2, 1.6, 2.0, 2.4),
    "wide_kept": (0, 0.4, 0.6, 0.8, 1.0),
    "each_logit": (12, 13, 14, 15, 16),
    "other": (0.0, 0.01, 0.02, 0.03),
    "held_slack": (0.02, 0.05, 0.07, 0.1, 0.15),
    "context_gib": (0.8, 1.0, 1.3, 1.5),
    "gathered_slack": (0.0, 0.5, 1.0),
    "exchange_gib": (0, 0.5, 1.0, 1.5),
    "cap_share": (0.7, 0.8, 0.85, 0.9, 1.0),
}
_UNDER: Final = -0.10
_WORST: Final = 0.6
"""An error beyond this counts as this: a row that nothing explains shall not move a constant."""
_HEAVIEST: Final = 20
"""Rows of a source beyond this number don't make it weigh more."""


class Row(NamedTuple):
    """A published figure: its fields without the figure, its model's shape, the figure in GiB and its source."""

    fields: dict[str, Json]
    shape: ModelShape
    gib: float
    source: str


class Reach(NamedTuple):
    """Errors of a source's rows with constants that were fitted without it, and those constants."""

    source: str
    errors: list[float]
    fitted: Fitted


def headline(rows: Iterable[dict[str, Json]]) -> list[Row]:
    """The rows that the scorer judges: measured, of quality A or B, decoders."""
    found = []
    for row in rows:
        if row["measured"] and row["quality"] in ("A", "B") and row["arch_family"] == "decoder":
            fields = {name: value for name, value in row.items() if name != "peak_gib"}
            found.append(Row(fields, shape_in(fields), float(str(row["peak_gib"])), str(row["source_group"])))
    return found


def errors(rows: Sequence[Row], fitted: Fitted) -> list[float]:
    """Relative errors, below zero where too little is estimated."""
    return [sum(p.gib for p in memory_parts(r.shape, setting_of(r.fields, fitted), fitted)) / r.gib - 1 for r in rows]


def loss(rows: Sequence[Row], fitted: Fitted) -> float:
    """What the fit makes small: median errors over all and by source, and too low ones, which run out of memory."""
    found = errors(rows, fitted)
    by: dict[str, list[float]] = defaultdict(list)
    for row, error in zip(rows, found, strict=True):
        by[row.source].append(error)
    weights = {source: math.sqrt(min(len(some), _HEAVIEST)) for source, some in by.items()}

    def mean(value: Mapping[str, float]) -> float:
        return sum(weights[s] * value[s] for s in by) / sum(weights.values())

    medians = mean({s: statistics.median(map(abs, some)) for s, some in by.items()})
    held = mean({s: statistics.mean(min(abs(e), _WORST) for e in some) for s, some in by.items()})
    under = mean({s: _under(some) for s, some in by.items()})
    return statistics.median(map(abs, found)) + medians + 0.4 * held + 0.3 * (under + _under(found))


def _under(found: Sequence[float]) -> float:
    return sum(e < _UNDER for e in found) / len(found)


def fit(rows: Sequence[Row], start: Fitted = FITTED, rounds: int = 1) -> Fitted:
    """The constants of the grid with the smallest loss, changed one after the other."""
    best, least = start, loss(rows, start)
    for _ in range(rounds):
        for name, values in GRID.items():
            for value in values:
                tried = best._replace(**{name: float(value)})
                found = least if tried == best else loss(rows, tried)
                if found < least - 1e-5:
                    best, least = tried, found
    return best


def leave_one_out(rows: Sequence[Row]) -> list[Reach]:
    """For each source: its errors with constants fitted on all others."""
    found = []
    for source in sorted({row.source for row in rows}):
        others, own = [r for r in rows if r.source != source], [r for r in rows if r.source == source]
        fitted = fit(others)
        found.append(Reach(source, errors(own, fitted), fitted))
    return found
