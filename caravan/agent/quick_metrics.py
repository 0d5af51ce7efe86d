"""The metrics of many lines: what `metric_rows` reads, many times as fast where lines differ in their figures alone.

A line is taken apart into its figures and what stands between them. Lines that have the same between them have their
metrics at the same places, so each such pattern is read by `metric_rows` once, with figures that tell their place.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.agent.metrics import METRIC, metric_rows

# A figure that begins a word: it is in no name, whatever figure stands there.
_FIGURE: Final = re.compile(r"(?<![\w./-])(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])")
_PATTERNS: Final = 2000  # that are remembered; a log has some, progress bars a few hundred
_LONGEST: Final = 4096  # characters of a line, as `metric_rows` reads them
_WHOLE: Final = 1 << 20  # characters of a line of a file of metrics: one that is cut is no JSON
_FIRST: Final = 7_000_003.25  # and up: a figure that tells its place

_Places = tuple[tuple[str, int, float], ...]  # name, the figure's number or -1, the value where it is no figure


class QuickRows:
    """Reads lines as `metric_rows` does. It remembers patterns, so it is kept for a whole log."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._names = names
        # A line without any of these has no metric; looking for plain words is many times as fast as for a pattern.
        self._telling = tuple({*METRIC.pattern.split("|"), *(name.lower() for name in names)})
        self._known: dict[str, _Places] = {}

    def of(self, lines: Iterable[str]) -> Iterator[dict[str, float]]:
        """The metrics of each line that has any, in order."""
        for line in lines:
            small = line.lower()
            if not any(word in small for word in self._telling):
                continue
            if len(line) > _LONGEST or line.lstrip().startswith("{"):
                yield from metric_rows((line,), names=self._names)
                continue
            pieces = _FIGURE.split(line)
            pattern = "\0".join(pieces[::2])
            places = self._known.get(pattern)
            if places is None:
                places = self._learn(pattern, pieces)
            if places:
                yield {name: float(pieces[2 * at + 1]) if at >= 0 else value for name, at, value in places}

    def _learn(self, pattern: str, pieces: list[str]) -> _Places:
        probe = list(pieces)
        for number in range(len(pieces) // 2):
            probe[2 * number + 1] = repr(_FIRST + number)
        found: list[tuple[str, int, float]] = []
        for row in metric_rows(("".join(probe)[:_LONGEST],), names=self._names):
            for name, value in row.items():
                at = round(value - _FIRST) if _FIRST <= value < _FIRST + len(pieces) // 2 else -1
                found.append((name, at, value))
        if len(self._known) < _PATTERNS:
            self._known[pattern] = tuple(found)
        return tuple(found)


def json_rows(lines: Iterable[str]) -> Iterator[dict[str, float]]:
    """Every number of each line that is a JSON object: for a file that holds metrics alone."""
    for line in lines:
        try:
            record = json.loads(line) if len(line) <= _WHOLE else None
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield {
                name[:60]: _float(value)
                for name, value in record.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return float("inf") if value > 0 else float("-inf")
