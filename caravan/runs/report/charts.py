"""Which curves are drawn together, with what words: from curves to charts, still without a place on paper. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from caravan.values.curves import AttemptCurves, Axis, Curve
from caravan.values.training import MetricSpec

_MANY: Final = 8  # lines that a chart shows; of more, the highest and the lowest
_WIDE: Final = 30.0  # times the smallest value from which a loss is drawn on a logarithmic scale
_BRIEF: Final = 3.0  # minutes below which an axis counts seconds
_AXES: Final[dict[Axis, str]] = {
    "step": "step",
    "epoch": "epoch",
    "row": "logged line",
    "minutes": "minutes since the job began",
}

Point = tuple[float, float]


@dataclass(frozen=True)
class ChartLine:
    """One line. `tone` numbers its colour, `dash` its pattern: 0 is drawn through. `end` marks its last point."""

    label: str
    points: tuple[Point, ...]
    tone: int = 0
    dash: int = 0
    end: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines over one axis. `limits` are levels with a name, `marks` places on the axis with one."""

    id: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[ChartLine, ...]
    log: bool = False
    limits: tuple[tuple[str, float], ...] = ()
    marks: tuple[tuple[str, float], ...] = ()
    from_zero: bool = False

    @property
    def described(self) -> str:
        """The chart in words, for those who don't see it."""
        return " ".join(described(line, self.x_label) for line in self.lines)


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as a chart marks it."""

    failed: bool
    text: str


def metric_charts(
    curves: Sequence[AttemptCurves], definitions: Mapping[str, MetricSpec], endings: Mapping[int, Ending]
) -> tuple[Chart, ...]:
    """A chart for each group of metrics; training and held-out together, each attempt a line of its own."""
    groups: dict[tuple[str, Axis], list[tuple[int, Curve]]] = {}
    for attempt in curves:
        for curve in attempt.metrics:
            groups.setdefault((curve.group, curve.over), []).append((attempt.attempt, curve))
    charts: list[Chart] = []
    for (group, over), found in groups.items():
        found.sort(key=lambda item: item[1].held_out)  # training first: the same colours in every report
        names = list(dict.fromkeys(curve.name for _, curve in found))
        attempts = sorted({number for number, _ in found})
        lines = tuple(
            ChartLine(
                label=_label(curve, number, several=len(attempts) > 1),
                points=curve.points(),
                tone=names.index(curve.name),
                dash=len(attempts) - 1 - attempts.index(number),  # the last one is drawn through
                end=_end(number, curve, found, endings),
            )
            for number, curve in found[: 2 * _MANY]
        )
        charts.append(
            Chart(
                id=f"metric-{len(charts) + 1}",
                title=_title(group, names, definitions) + _apart(group, over, groups),
                x_label=_AXES[over],
                y_label=_unit(group, names, definitions),
                lines=lines,
                log=_log(lines) and ("loss" in group or "perplexity" in group or "norm" in group),
            )
        )
    return tuple(charts)


def resource_charts(curves: Sequence[AttemptCurves]) -> tuple[Chart, ...]:
    """A chart for each attempt and resource."""
    charts = []
    for attempt in curves:
        groups: dict[str, list[Curve]] = {}
        for curve in attempt.resources:
            groups.setdefault(curve.group, []).append(curve)
        several = f", attempt {attempt.attempt}" if len(curves) > 1 else ""
        since = attempt.training_since
        for group in sorted(groups, key=_RESOURCES.index):
            found = groups[group]
            limits = sorted({curve.limit for curve in found if curve.limit is not None})
            top = max((y for curve in found for y in curve.y), default=0.0)
            brief = max((x for curve in found for x in curve.x), default=0.0) < _BRIEF
            times = 60.0 if brief else 1.0
            shown = tuple((_LIMITS[group], limit) for limit in limits if group in _LIMITS and limit <= 20 * top)[:1]
            charts.append(
                Chart(
                    id=f"use-{attempt.attempt}-{group.replace(' ', '-').lower()}",
                    title=group[0].upper() + group[1:] + several,
                    x_label="seconds since the job began" if brief else _AXES["minutes"],
                    y_label=found[0].unit,
                    lines=_resource_lines(found, times),
                    limits=(("all of it", 100.0),) if group == "GPU use" else shown,
                    marks=(("training begins", since * times),) if since is not None and since > 0 else (),
                    from_zero=True,
                )
            )
    return tuple(charts)


_RESOURCES: Final = ("GPU memory", "GPU use", "host memory", "cores in use")
_LIMITS: Final = {"GPU memory": "the GPU has", "host memory": "the job may use"}


def _resource_lines(curves: Sequence[Curve], times: float) -> tuple[ChartLine, ...]:
    if len(curves) <= _MANY:
        return tuple(ChartLine(curve.name, _timed(curve, times), tone=n) for n, curve in enumerate(curves))
    # Lines of many devices can't be told from each other: those with the highest and the lowest mean stand for all.
    means = [(sum(curve.y) / max(1, len(curve.y)), curve) for curve in curves]
    low, high = min(means, key=lambda m: m[0])[1], max(means, key=lambda m: m[0])[1]
    return (
        ChartLine(f"{high.name}, the highest of {len(curves)}", _timed(high, times), tone=0),
        ChartLine(f"{low.name}, the lowest", _timed(low, times), tone=1),
    )


def _timed(curve: Curve, times: float) -> tuple[Point, ...]:
    return tuple((x * times, y) for x, y in curve.points())


def _label(curve: Curve, attempt: int, *, several: bool) -> str:
    return f"{curve.name}, attempt {attempt}" if several else curve.name


def _end(number: int, curve: Curve, found: Sequence[tuple[int, Curve]], endings: Mapping[int, Ending]) -> str:
    """The mark at a line's end: of an attempt that failed its number, on the line that goes on longest."""
    ending = endings.get(number)
    last = max((c.x[-1] for n, c in found if n == number and c.x), default=0.0)
    own = [c for n, c in found if n == number and c.x and c.x[-1] == last]
    return str(number) if ending is not None and ending.failed and own and own[0] is curve else ""


def _title(group: str, names: Sequence[str], definitions: Mapping[str, MetricSpec]) -> str:
    known = [definitions[name].title for name in names if name in definitions and definitions[name].title]
    if len(names) == 1:
        return known[0] if known else "Learning rate" if group == "learning rate" else names[0]
    return group[0].upper() + group[1:].replace("_", " ")


def _apart(group: str, over: Axis, groups: Mapping[tuple[str, Axis], object]) -> str:
    """What tells this chart from another of the same metrics."""
    return f", by {_AXES[over]}" if sum(1 for name, _ in groups if name == group) > 1 else ""


def _unit(group: str, names: Sequence[str], definitions: Mapping[str, MetricSpec]) -> str:
    units = {definitions[name].unit for name in names if name in definitions and definitions[name].unit}
    return units.pop() if len(units) == 1 else group.replace("_", " ")


def _log(lines: Sequence[ChartLine]) -> bool:
    values = [y for line in lines for _, y in line.points if math.isfinite(y)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE


def described(line: ChartLine, x_label: str) -> str:
    """A line in a sentence."""
    values = [(x, y) for x, y in line.points if math.isfinite(y)]
    lost = len(line.points) - len(values)
    gap = f"; {lost} values are no number" if lost else ""
    if not values:
        return f"{line.label}: no value is a number{gap}."
    low, high = min(values, key=lambda p: p[1]), max(values, key=lambda p: p[1])
    first, last = values[0], values[-1]
    return (
        f"{line.label}: from {first[1]:.4g} at {x_label} {first[0]:.6g} to {last[1]:.4g} at {last[0]:.6g}, "
        f"lowest {low[1]:.4g} at {low[0]:.6g}, highest {high[1]:.4g} at {high[0]:.6g}{gap}."
    )
