"""What was estimated beside what was measured: memory, time, cost, and the job's first steps."""

from collections.abc import Callable, Iterator
from functools import partial

from caravan.runs.report.blocks import Block, Bullets, Fold, Line, Paragraph, Table
from caravan.runs.report.material import Material
from caravan.runs.report.words import NOT_KNOWN, code, gib, off_by, text_of
from caravan.values.amounts import duration, money
from caravan.values.estimate import Alternative, Estimate, Range
from caravan.values.run import ENDED, Attempt, Outcome
from caravan.values.samples import GIB_MB

_Form = Callable[[float], str]


def blocks(material: Material) -> Iterator[Block]:
    """The section."""
    estimate = material.estimate
    if estimate is None:
        yield Paragraph(("No estimate was made.",))
        return
    head = ("What", "Estimated", "From", "To", "Measured", "The estimate was")
    yield Table(head, tuple(_rows(material, estimate)), frozenset({1, 2, 3, 4}))
    if estimate.gpu:
        total = f" with {gib(estimate.gpu_total_gib)}" if estimate.gpu_total_gib else ""
        yield Paragraph(("The plan would get a GPU of type ", *code(estimate.gpu), f"{total}."))
    if estimate.smoke is not None:
        yield from _first_steps(estimate)
    if estimate.breakdown:
        rows = tuple(((text_of(part.name),), (f"{part.gib:.2f} GiB",)) for part in estimate.breakdown)
        yield Fold("GPU memory by its parts, as estimated", (Table(("Part", "Each GPU"), rows, frozenset({1})),))
    if estimate.assumptions:
        yield Fold("What the estimate assumes", (Bullets(tuple((text_of(a),) for a in estimate.assumptions)),))
    if estimate.alternatives:
        yield Fold("Plans that fit this cluster", (_alternatives(estimate.alternatives),))


def _rows(material: Material, estimate: Estimate) -> Iterator[tuple[Line, ...]]:
    """One row for each quantity. Measured is what the last attempt came to, and what the whole run has cost."""
    formula, told = estimate.formula_gib or estimate.gpu_memory_gib, material.result and material.result.forecast
    high = estimate.gpu_memory_high_gib
    seen = told.measured_gib if told and told.measured_gib is not None else _gpu_peak(material)
    needs_gpu = formula is not None or seen is not None
    if needs_gpu:
        yield _row("GPU memory (each)", formula, None, high, seen, gib)
    host = estimate.formula_host_mb or estimate.host_memory_mb
    mb = (host * 1e6 / (1 << 30)) if host else None
    yield _row("Host memory", mb, None, None, _host_peak(material), gib)
    time = estimate.formula_seconds or estimate.seconds
    took = measured_seconds(material)
    yield _row("Time", *_three(time), took, partial(duration, exact=True))
    cost = estimate.cost_usd
    spent = material.record.cost_usd if material.attempts and material.record.status in ENDED else None
    yield _row("Cost", *_three(cost), spent, money)


def _three(found: Range | None) -> tuple[float | None, float | None, float | None]:
    return (found.likely, found.low, found.high) if found is not None else (None, None, None)


def _row(
    what: str, likely: float | None, low: float | None, high: float | None, seen: float | None, form: _Form
) -> tuple[Line, ...]:
    def told(value: float | None) -> Line:
        return (form(value),) if value is not None else ()

    off = off_by(likely, seen) if likely is not None and seen else ""
    return (
        (what,),
        told(likely) or NOT_KNOWN,
        told(low),
        told(high),
        told(seen) or ("not measured",),
        (off,) if off else (),
    )


def measured_seconds(material: Material) -> float | None:
    """How long the last attempt's training ran; None: it was not seen."""
    told = material.result.forecast.measured_s if material.result is not None else None
    if told is not None:
        return told
    last = _last(material)
    return _ran(last.outcome if last is not None else material.outcome)


def _ran(outcome: Outcome | None) -> float | None:
    if outcome is None or outcome.started_at is None or outcome.finished_at is None:
        return None
    return max(0.0, (outcome.finished_at - outcome.started_at).total_seconds())


def _last(material: Material) -> Attempt | None:
    return material.attempts[-1] if material.attempts else None


def _gpu_peak(material: Material) -> float | None:
    last = _last(material)
    peaks = [use.gpu_peak_gib for use in last.uses if use.gpu_peak_gib is not None] if last is not None else []
    return max(peaks, default=None)


def _host_peak(material: Material) -> float | None:
    last = _last(material)
    peaks = [use.host_peak_mb / GIB_MB for use in last.uses if use.host_peak_mb is not None] if last is not None else []
    return max(peaks, default=None)


def _first_steps(estimate: Estimate) -> Iterator[Block]:
    smoke = estimate.smoke
    if smoke is None:
        return
    whole = estimate.formula_seconds
    rows: list[tuple[Line, ...]] = [
        _pair("GPU memory", estimate.formula_gib, smoke.peak_gpu_gib, gib),
        _pair(
            "Host memory",
            estimate.formula_host_mb * 1e6 / (1 << 30) if estimate.formula_host_mb else None,
            smoke.peak_host_mb / GIB_MB if smoke.peak_host_mb is not None else None,
            gib,
        ),
        _pair("A step", estimate.step_s, smoke.seconds_per_step, duration),
        _pair("The whole training", whole.high if whole else None, smoke.projected_s, duration, most=True),
    ]
    yield Paragraph((f"The job's first {smoke.steps} steps were measured before the rest began:",))
    yield Table(("What", "Estimated", "Measured"), tuple(rows), frozenset({1, 2}))
    if smoke.note:
        yield Paragraph((text_of(smoke.note),))


def _pair(
    what: str, expected: float | None, seen: float | None, form: _Form, *, most: bool = False
) -> tuple[Line, ...]:
    """A row of what was expected (`most`: at the most) beside what was seen."""
    return (
        (what,),
        (f"up to {form(expected)}" if most else form(expected),) if expected is not None else NOT_KNOWN,
        (form(seen),) if seen is not None else ("not seen",),
    )


def _alternatives(found: tuple[Alternative, ...]) -> Table:
    rows = []
    for plan in found:
        chosen = " (chosen)" if plan.chosen else ""
        memory = f"{plan.gpu_memory_gib:.1f} to {plan.gpu_memory_high_gib:.1f} of {plan.gpu_total_gib:.1f} GiB"
        time = duration(plan.seconds) if plan.seconds is not None else ""
        time = time or (f"{1 / plan.speed:.2g} times" if plan.speed else "not known")
        cost = money(plan.cost_usd) if plan.cost_usd is not None else ""
        cost = cost or (f"{plan.cost_ratio:.2g} times" if plan.cost_ratio is not None else "not known")
        rows.append(((f"{text_of(plan.text)}{chosen}",), (memory,), (time,), (cost,), (text_of(plan.gives_up),)))
    return Table(("Plan", "GPU memory", "Time", "Cost", "Gives up"), tuple(rows), frozenset({1, 2, 3}))
