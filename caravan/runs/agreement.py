"""Whether a reproduction came to what its original did, metric by metric. Pure.

The tolerance is what the user says; else, of a plan that sets no seed, what two of its runs differ by, where there are
at least three; else one percent of the original's value. How far other seeds are apart says nothing of a repeat of the
same one. Figures of speed and memory are shown and not judged: they are the machine's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from typing import Final

from caravan.runs.student import deviation, quantile
from caravan.values.base import Json
from caravan.values.metric_names import judging
from caravan.values.registry import RunResult
from caravan.values.reproduction import Agreement, MetricAgreement, Reproduced
from caravan.values.run import RunStatus

DEFAULT_TOLERANCE: Final = 0.01
"""Share of the original's value. A choice: kernels that add in another order move a loss by far less, another seed
usually by more."""
SEVERAL: Final = 3
"""Runs from which on their spread is taken: of two it is hardly known."""
_CONFIDENCE: Final = 0.95


def agreement(
    original: RunResult, repeat: RunResult, family: Iterable[RunResult] = (), tolerance: float | None = None
) -> Reproduced:
    """What the repeat came to beside its original. `family`: results of runs that differ from both by chance alone."""
    spread = _spreads(original, family) if original.seed is None else {}
    asked = f"{tolerance:.3g} of the original's value, as asked for" if tolerance is not None else ""
    seeds = f"what two runs of this plan differ by in {_CONFIDENCE:.0%} of cases, as none of them sets a seed"
    why = "the seed is the same" if original.seed is not None else "too few runs without a seed to know the spread"
    usual = f"{DEFAULT_TOLERANCE:.0%} of the original's value: {why}"
    rows = tuple(_rows(original, repeat, {} if tolerance is not None else spread, tolerance))
    by = asked or (seeds if spread else usual)
    reasons = tuple(_reasons(original, repeat))
    verdict, text = _verdict(original, repeat, rows)
    return Reproduced(
        run_id=repeat.run_id,
        original=original.run_id,
        verdict=verdict,
        text=text,
        by=by,
        metrics=rows,
        reasons=reasons,
    )


def not_known(run_id: str, original: str, what: str) -> Reproduced:
    """Nothing to tell it by, because that is not kept (any more)."""
    return Reproduced(run_id=run_id, original=original, verdict=Agreement.UNKNOWN, text=f"{what} is not kept")


def _verdict(original: RunResult, repeat: RunResult, rows: Sequence[MetricAgreement]) -> tuple[Agreement, str]:
    if repeat.status is not RunStatus.SUCCEEDED:
        return Agreement.DIFFERS, f"the run ended {repeat.status.value}, and run {original.run_id} {original.status}"
    judged = [row for row in rows if row.verdict is not Agreement.UNKNOWN]
    off = [row.name for row in judged if row.verdict is Agreement.DIFFERS]
    if off:
        return Agreement.DIFFERS, f"{', '.join(off)} {'are' if len(off) > 1 else 'is'} off by more than is allowed"
    if not judged:
        why = "no metric of it was measured again" if original.metrics else "the original has no metric"
        return Agreement.UNKNOWN, why
    counted = f"{len(judged)} metric{'s' if len(judged) > 1 else ''}"
    lost = [row.name for row in rows if row.note in _LOST]
    if lost:
        return Agreement.UNKNOWN, f"{', '.join(lost)} {'were' if len(lost) > 1 else 'was'} not measured again"
    if all(row.exact for row in judged):
        weights = recorded(original).get("model_sha256")
        same = weights is not None and weights == recorded(repeat).get("model_sha256")
        return Agreement.AGREES, f"{counted}, equal to the last digit{', and the same weights, by SHA-256' * same}"
    return Agreement.AGREES, f"{counted} within the tolerance"


def _rows(
    original: RunResult, repeat: RunResult, spread: Mapping[str, float], tolerance: float | None
) -> Iterator[MetricAgreement]:
    able = set(judging(tuple(original.metrics)))
    one_way = judged_by(original) == judged_by(repeat)
    for name, value in original.metrics.items():
        other = repeat.metrics.get(name)
        row = MetricAgreement(name=name, original=value, repeat=other)
        if other is None or (name in able and not one_way):
            unlike = _OTHERWISE if other is not None else _AGAIN if name in able else _GONE
            yield row.model_copy(update={"note": unlike})
            continue
        if name not in able:
            yield row.model_copy(update={"exact": value == other, "note": "not judged: the machine's or a count"})
            continue
        share = DEFAULT_TOLERANCE if tolerance is None else tolerance
        allowed = spread.get(name, share * abs(value))
        verdict = Agreement.AGREES if abs(other - value) <= allowed or other == value else Agreement.DIFFERS
        yield row.model_copy(update={"allowed": allowed, "verdict": verdict, "exact": value == other})
    for name in repeat.metrics.keys() - original.metrics.keys():
        yield MetricAgreement(name=name, repeat=repeat.metrics[name], note="the original has none")


_AGAIN: Final = "not measured again"
_OTHERWISE: Final = "one is of the evaluation, the other of the training's log"
_LOST: Final = (_AGAIN, _OTHERWISE)
_GONE: Final = "not logged again"


def judged_by(result: RunResult) -> str:
    """What a run's figures are of: those of an evaluation and of a log are not the same, whatever their names."""
    measured = result.gate is not None and result.gate.judged_by == "evaluation"
    return "evaluation" if measured else "log"


def _spreads(original: RunResult, family: Iterable[RunResult]) -> dict[str, float]:
    """How far two runs without a seed may be apart, by metric: t · s · √2 over at least three, if they differ."""
    drawn: dict[str, RunResult] = {}
    for result in (original, *family):
        fits = result.family == original.family and result.status is RunStatus.SUCCEEDED
        fits = fits and same_data(original, result) is not False and judged_by(result) == judged_by(original)
        if fits and result.seed is None and result.reproduces is None:
            drawn.setdefault(result.run_id, result)
    found = {}
    for name in original.metrics:
        values = [r.metrics[name] for r in drawn.values() if name in r.metrics]
        spread = deviation(values)
        if len(values) >= SEVERAL and spread:
            found[name] = quantile(_CONFIDENCE, len(values) - 1) * spread * sqrt(2)
    return found


def same_data(one: RunResult, other: RunResult) -> bool | None:
    """Whether both were trained with the same data; None: that is not known of one of them."""
    a, b = one.data.sha256, other.data.sha256
    return None if a is None or b is None else a == b


def _reasons(original: RunResult, repeat: RunResult) -> Iterator[str]:
    """What was not the same: why the figures may differ, the weightier first."""
    if same_data(original, repeat) is False:
        yield f"other data: SHA-256 {_short(repeat.data.sha256)}, then {_short(original.data.sha256)}"
    elif same_data(original, repeat) is None and original.data.path:
        yield f"whether the data {original.data.path} were the same is not known"
    if original.code.sha256 != repeat.code.sha256:
        yield f"other code: SHA-256 {_short(repeat.code.sha256)}, then {_short(original.code.sha256)}"
    if original.image != repeat.image:
        yield f"another image: {repeat.image or 'none'}, then {original.image or 'none'}"
    if original.seed != repeat.seed:
        yield f"another seed: {repeat.seed}, then {original.seed}"
    elif original.seed is None:
        yield "no seed is set by the plan: a program that draws its own never repeats itself"
    before, now = (
        {name: value for name, value in recorded(result).items() if name not in _RESULTS}
        for result in (original, repeat)
    )
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name}: {now.get(name, 'not known')}, then {before.get(name, 'not known')}"
    if original.attempts > 1:
        yield f"the original took {original.attempts} attempts: a part of it may have gone on from a checkpoint"
    gpus = _gpus(original)
    if gpus:
        yield (
            f"on {gpus} GPU{'s' if gpus > 1 else ''} sums are taken in an order that may change from run to run "
            "(atomic additions, chosen kernels, reductions between GPUs): equal to the last digit is not to be expected"
        )


def recorded(result: RunResult) -> dict[str, str]:
    """With what a run's figures came about: versions, GPU, driver, as its evaluation wrote them down; flat."""
    return dict(_flat(result.gate.recorded if result.gate else {}))


_RESULTS: Final = frozenset({"model_sha256"})
"""What is recorded and came out of the training, where the rest went into it."""


def _flat(value: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        elif item is not None:
            yield f"{prefix}{key}", str(item)


def _gpus(result: RunResult) -> int:
    found = result.plan.get("resources")
    gpus = found.get("gpus") if isinstance(found, dict) else 0
    return gpus if isinstance(gpus, int) else 0


def _short(sha256: str | None) -> str:
    return sha256[:12] if sha256 else "not known"
