"""A chart's place on paper: paths, ticks and marks as numbers, which a template writes as SVG. Pure.

It is written here because no library fitted. Ten charts of 4,000 points, measured on two busy cores: pygal 3.1.3 takes
3 s and makes 100 kB each, with a random id, the date and a script; Matplotlib 3.11.2 takes 1 s beside 1 to 2 s for its
import and 90 MB to install, and makes 85 kB each. Neither follows the reader's light or dark colours. This makes
much less, because each column of pixels gets its lowest and highest point and no more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from caravan.runs.report.charts import Chart, ChartLine, Point

WIDTH: Final = 480
HEIGHT: Final = 264
_LEFT: Final = 58
_RIGHT: Final = 16
_TOP: Final = 30
_BOTTOM: Final = 40
_DOTS: Final = 40  # points up to which each is marked
_LOST_APART: Final = 8.0  # pixels between two marks of lost values
_TICKS: Final = 5
_LARGEST: Final = 1e300


@dataclass(frozen=True)
class Tick:
    """A tick with its words."""

    at: float
    text: str


@dataclass(frozen=True)
class Stroke:
    """A line as drawn: an SVG path, its dots, its lost values, its end."""

    path: str
    dots: tuple[tuple[float, float], ...]
    lost: tuple[float, ...]
    tone: int
    dash: int
    end: tuple[float, float, str] | None


@dataclass(frozen=True)
class Drawing:
    """All of a chart in units of its view box, `WIDTH` × `HEIGHT`."""

    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    strokes: tuple[Stroke, ...]
    limits: tuple[Tick, ...]
    marks: tuple[Tick, ...]


def draw(chart: Chart) -> Drawing:
    """The chart as it is drawn. Values that are no number, or beyond all scales, leave a gap and a mark at the top."""
    finite = [p for line in chart.lines for p in line.points if _fits(p[0]) and _fits(p[1])]
    xs = [x for line in chart.lines for x, _ in line.points if _fits(x)]
    x_scale = _Scale(xs, _LEFT, WIDTH - _RIGHT, marks=[x for _, x in chart.marks])
    log = chart.log and bool(finite) and all(y > 0 for y in (*(y for _, y in finite), *(y for _, y in chart.limits)))
    levels = [y for _, y in finite] + [y for _, y in chart.limits] + ([0.0] if chart.from_zero else [])
    y_scale = _Scale(levels, HEIGHT - _BOTTOM, _TOP, log=log, round_out=True)
    return Drawing(
        left=_LEFT,
        right=WIDTH - _RIGHT,
        top=_TOP,
        bottom=HEIGHT - _BOTTOM,
        x_ticks=x_scale.ticks(),
        y_ticks=y_scale.ticks(),
        strokes=tuple(_stroke(line, x_scale, y_scale) for line in chart.lines),
        limits=tuple(Tick(_round(y_scale.place(y)), name) for name, y in chart.limits),
        marks=tuple(Tick(_round(x_scale.place(x)), name) for name, x in chart.marks),
    )


def _fits(value: float) -> bool:
    """Whether a scale can be made to reach it: sums and round limits of larger numbers are no numbers any more."""
    return abs(value) <= _LARGEST


class _Scale:
    """From values to places between `begin` and `end`."""

    def __init__(
        self,
        values: Sequence[float],
        begin: float,
        end: float,
        *,
        log: bool = False,
        round_out: bool = False,
        marks: Sequence[float] = (),
    ) -> None:
        found = [v for v in (*values, *marks) if _fits(v)]
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        self._begin, self._end, self._log = begin, end, log
        if log:
            low, high = math.log10(low), math.log10(high)
        if high - low <= 1e-9 * max(abs(low), abs(high)) or not math.isfinite(high - low):
            pad = abs(low) * 0.1 or 0.5  # one value: it lies in the middle
            low, high = (low - pad, high + pad) if math.isfinite(high - low) else (low / 2, high / 2)
        if round_out and not log:
            step = _step(low, high)
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        elif round_out:
            low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
        self._low, self._high = low, high

    def place(self, value: float) -> float:
        if self._log:
            value = math.log10(value)
        share = (value - self._low) / (self._high - self._low)
        return self._begin + min(1.0, max(0.0, share)) * (self._end - self._begin)

    def ticks(self) -> tuple[Tick, ...]:
        values = _log_ticks(self._low, self._high) if self._log else _linear_ticks(self._low, self._high)
        return tuple(Tick(_round(self.place(value)), text) for value, text in _told(values))


def _step(low: float, high: float) -> float:
    """A round distance of ticks: 1, 2 or 5 times a power of ten."""
    raw = (high - low) / _TICKS
    if not raw > 0 or not math.isfinite(raw):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw)) or 5e-324
    return next((m * power for m in (1, 2, 5) if m * power >= raw * 0.999), 10 * power)


def _linear_ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    first = math.ceil(low / step - 1e-6)
    last = math.floor(high / step + 1e-6)
    return [n * step for n in range(first, min(last, first + 12) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; where they are few, twice and five times them too. `low` and `high` are logarithms."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    every = max(1, math.ceil(len(powers) / 7))
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)
    values = [f * 10.0**p for p in powers if p % every == 0 and abs(p) < 300 for f in factors]
    return [v for v in values if low <= math.log10(v) <= high] or [10.0**low, 10.0**high]


def _told(values: Sequence[float]) -> list[tuple[float, str]]:
    """The ticks with their words, which differ from each other."""
    for digits in (3, 4, 6, 9):
        texts = [tick_text(value, digits) for value in values]
        if len(set(texts)) == len(texts):
            break
    return list(zip(values, texts, strict=True)) if values else []


def tick_text(value: float, digits: int = 3) -> str:
    """A value in few characters: 0.5, 12k, 3M, 2e-5."""
    if value == 0:
        return "0"
    for step, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if step <= abs(value) < 1e12:
            return f"{value / (1e3 if sign == 'k' else step):.{digits}g}{sign}"
    text = f"{value:.{max(digits, 4) if abs(value) >= 1000 else digits}g}"
    if "e" in text:
        head, _, power = text.partition("e")
        return f"{head}e{int(power)}"
    return text


def _stroke(line: ChartLine, x_scale: _Scale, y_scale: _Scale) -> Stroke:
    pieces: list[list[Point]] = [[]]
    lost: list[float] = []
    before = -math.inf
    for x, y in line.points:
        if not _fits(x):
            continue
        if x < before or not _fits(y):
            pieces.append([])
        before = x
        if _fits(y):
            pieces[-1].append((x_scale.place(x), y_scale.place(y)))
        elif not lost or abs(x_scale.place(x) - lost[-1]) >= _LOST_APART:
            lost.append(x_scale.place(x))
    drawn = [_columns(piece) for piece in pieces if piece]
    few = sum(map(len, drawn)) <= _DOTS
    dots = [p for piece in drawn for p in piece] if few else [piece[0] for piece in drawn if len(piece) == 1]
    last = drawn[-1][-1] if drawn else None
    return Stroke(
        path="".join(_path(piece) for piece in drawn if len(piece) > 1),
        dots=tuple((_round(x), _round(y)) for x, y in dots),
        lost=tuple(_round(x) for x in lost),
        tone=line.tone,
        dash=line.dash,
        end=(_round(last[0]), _round(last[1]), line.end) if last is not None and line.end else None,
    )


def _columns(points: Sequence[Point]) -> list[Point]:
    """At most four points for each column of pixels: where the line comes in, its ends up and down, where it goes."""
    found: list[Point] = []
    column: list[Point] = []
    for point in points:
        if column and int(point[0]) != int(column[0][0]):
            found += _extremes(column)
            column = []
        column.append(point)
    return found + _extremes(column)


def _extremes(column: Sequence[Point]) -> list[Point]:
    if len(column) <= 2:
        return list(column)
    numbers = range(len(column))
    low = min(numbers, key=lambda n: column[n][1])
    high = max(numbers, key=lambda n: column[n][1])
    return [column[n] for n in sorted({0, low, high, len(column) - 1})]


def _path(points: Sequence[Point]) -> str:
    steps = [f"{_number(x)} {_number(y)}" for x, y in points]
    return f"M{'L'.join(steps)}"


def _round(value: float) -> float:
    return round(value, 1)


def _number(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0")
