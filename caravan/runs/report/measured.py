"""Metrics and resources over time, as charts, each with its values in a table beside it."""

import math
from collections.abc import Sequence

from caravan.runs.report.attempts import changed_fields, passed_not
from caravan.runs.report.blocks import Block, Bullets, Figure, Line, Paragraph, Table
from caravan.runs.report.charts import Chart, Ending, metric_charts, resource_charts
from caravan.runs.report.material import Material
from caravan.runs.report.words import code, number, text_of
from caravan.values.curves import AttemptCurves
from caravan.values.training import MetricSpec


def metrics(material: Material) -> tuple[Block, ...]:
    """The section; empty where nothing was deployed."""
    if not material.attempts and not material.curves:
        return ()
    definitions = defined(material)
    endings = {
        attempt.number: Ending(
            failed=attempt.diagnosis is not None or (attempt.outcome is not None and not attempt.outcome.succeeded),
            text=attempt.diagnosis.cause if attempt.diagnosis else "",
        )
        for attempt in material.attempts
    }
    single, drawable = _apart(material.curves)
    charts = metric_charts(drawable, definitions, endings)
    blocks: list[Block] = [_figure(chart) for chart in charts]
    marked = {line.end for chart in charts for line in chart.lines if line.end}
    ends = tuple(_repaired(material, number, marked) for number, ending in endings.items() if ending.failed)
    if ends and charts:
        blocks.append(Bullets(ends))
    if single:
        blocks.append(Bullets(single))
    if not charts and not single:
        blocks.append(Paragraph(("No curve could be drawn: no metric was found in the copies of the logs.",)))
        if material.metrics:
            rows = tuple((code(name), (number(value),)) for name, value in sorted(material.metrics.items()))
            blocks.append(Table(("Metric", "Last value"), rows, frozenset({1})))
    notes: tuple[Line, ...] = tuple(
        (f"Attempt {c.attempt}: {text_of(note)}",) for c in material.curves for note in c.notes
    )
    return (*blocks, Bullets(notes)) if notes else tuple(blocks)


def _apart(curves: Sequence[AttemptCurves]) -> tuple[tuple[Line, ...], tuple[AttemptCurves, ...]]:
    """Metrics that were logged once are told in words, where no line stands beside them in a chart."""
    lines = {(c.group, c.over) for attempt in curves for c in attempt.metrics if len(c.x) > 1}
    told: list[Line] = []
    drawable = []
    for attempt in curves:
        alone = [c for c in attempt.metrics if len(c.x) == 1 and (c.group, c.over) not in lines]
        told += [(f"Attempt {attempt.attempt} logged ", *code(c.name), f" once: {number(c.y[0])}.") for c in alone]
        drawable.append(attempt.model_copy(update={"metrics": tuple(c for c in attempt.metrics if c not in alone)}))
    return tuple(told), tuple(drawable)


def resources(material: Material) -> tuple[Block, ...]:
    """The section; empty where nothing was sampled."""
    return tuple(_figure(chart) for chart in resource_charts(material.curves))


def defined(material: Material) -> dict[str, MetricSpec]:
    """What metrics mean, by name, as far as it is known."""
    known = [
        *(material.model.definitions if material.model else ()),
        *(material.gate.definitions if material.gate else ()),
    ]
    return {spec.name: spec for spec in known}


def _repaired(material: Material, attempt_number: int, marked: set[str]) -> Line:
    """How an attempt that failed ended, with its mark in the charts where it has one."""
    attempt = next(a for a in material.attempts if a.number == attempt_number)
    end = "did not pass" if passed_not(attempt) else "ended"
    why = f": {text_of(attempt.diagnosis.cause).rstrip('.')}" if attempt.diagnosis else ""
    done = ""
    if attempt.repair is not None:
        fields = list(changed_fields(attempt, tuple(material.secrets)))[:3]
        changed = ", ".join(
            f"{text_of(path)} {text_of(a) or 'unset'} → {text_of(b) or 'unset'}" for path, a, b in fields
        )
        done = f" Repaired by {attempt.repair.kind.replace('_', ' ')}{f': {changed}' if changed else ''}."
    mark = f" (marked {attempt.number})" if str(attempt.number) in marked else ""
    return (f"Attempt {attempt.number} {end}{mark}{why}.{done}",)


def _figure(chart: Chart) -> Figure:
    rows: list[tuple[Line, ...]] = []
    for line in chart.lines:
        finite = [(x, y) for x, y in line.points if math.isfinite(y)]
        if not finite:
            rows.append(((text_of(line.label),), *((("no number",),) * 4)))
            continue
        low, high = min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])
        cells: tuple[Line, ...] = (
            (number(finite[0][1]),),
            (f"{number(low[1])} at {number(low[0])}",),
            (f"{number(high[1])} at {number(high[0])}",),
            (number(finite[-1][1]),),
        )
        rows.append(((text_of(line.label),), *cells))
    head = (f"{chart.title} ({chart.y_label})", "First", "Lowest", "Highest", "Last")
    return Figure(chart, Table(head, tuple(rows), frozenset({1, 2, 3, 4})))
