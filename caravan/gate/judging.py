"""The gate's judgement: every check, and what they come to."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from caravan.gate.answers import collapse
from caravan.gate.compared import base, canary, ran, regression, target
from caravan.gate.known import Known, check, finite
from caravan.gate.learning import finite_figures, learnt, overfit
from caravan.gate.naming import counts, of_progress
from caravan.values.base import Json
from caravan.values.evaluation import CheckKind, EvaluationResult, GateCheck, GateReport, GateVerdict
from caravan.values.plan import TrainingPlan
from caravan.values.training import MetricSpec

_MOST: Final = 50  # figures that a report names


def judge(
    plan: TrainingPlan,
    *,
    result: EvaluationResult | None,
    rows: Sequence[Mapping[str, float]],
    definitions: Sequence[MetricSpec] = (),
    expected: bool,
    whole: bool | None = None,
) -> GateReport:
    """What is to be thought of a trained model.

    `result` is what an evaluation measured; `rows` are the metrics of the training's log lines, oldest first, its own
    first steps on scratch left out. `expected`: an evaluation was to run. `whole`: the rows begin where the training
    began (False: it went on from a checkpoint, or the log's beginning is not there; None: judged by the steps and
    epochs that rows name). The same arguments give the same report.

    The verdict: FAIL where a check failed; LOOK where one is odd or no held-out figure is known; else PASS.
    """
    known = Known(plan, result, rows, tuple(definitions), expected, whole)
    checks = tuple(_checks(known))
    checks = (*checks, *_against_nothing(checks, known))
    measured = bool(known.held_out.tuned or known.own)
    judged: Literal["evaluation", "log", "nothing"] = "evaluation" if measured else "log" if rows else "nothing"
    metrics = _figures(known)
    return GateReport(
        verdict=_verdict(checks, known),
        checks=checks,
        metrics=metrics,
        base=_finite(known.held_out.base),
        learnt=_finite(known.learnt.tuned),
        guess=_finite(known.held_out.guess),
        definitions=tuple(_definitions(metrics, known)),
        judged_by=judged,
        recorded=_recorded(result) if result is not None else {},
        generations=result.generations if result is not None else (),
    )


def objection(report: GateReport) -> str:
    """Why the model did not pass, in a line: the checks that it failed, first what explains the others; empty where it
    did. Rules of diagnosis read this line.
    """
    return "; ".join(check.text for check in sorted(report.failed, key=_rank))


def _rank(check: GateCheck) -> int:
    return _FIRST.index(check.kind)


_FIRST: Final = (
    *(CheckKind.FINITE, CheckKind.COLLAPSE, CheckKind.LEARNT, CheckKind.OVERFIT, CheckKind.BASE),
    *(CheckKind.REGRESSION, CheckKind.CANARY, CheckKind.TARGET, CheckKind.RAN),
)
"""What explains most first: a model that is no number has missed its target as well."""


def _checks(known: Known) -> Iterator[GateCheck]:
    yield ran(known)
    yield finite_figures(known)
    yield learnt(known)
    yield from overfit(known)
    yield from base(known)
    yield from collapse(known)
    yield from regression(known)
    yield from (found for found in (canary(known), target(known)) if found is not None)


def _against_nothing(checks: Sequence[GateCheck], known: Known) -> Iterator[GateCheck]:
    """That a figure was measured and nothing is known to hold it against: no target, no base, no course of the
    training. A loss of 4.2 alone says neither that the model is good nor that it is bad.
    """
    held = any(one.kind in _HELD and one.verdict is not GateVerdict.UNKNOWN for one in checks)
    name = next(iter(_telling(known)), "")
    if name and not held:
        text = (
            f"{name} was measured, but nothing is known to hold it against: no target, and no figure of the base model"
        )
        yield check(CheckKind.BASE, GateVerdict.LOOK, text, metric=name)


_HELD: Final = frozenset({CheckKind.TARGET, CheckKind.BASE, CheckKind.LEARNT, CheckKind.OVERFIT, CheckKind.REGRESSION})
"""Checks that hold a figure against another."""


def _telling(known: Known) -> Iterator[str]:
    """Names of the held-out figures that say how good the model is, measured ones first."""
    measured = (*known.held_out.tuned.items(), *known.own.items())
    yield from (name for name, value in measured if finite(value) and _tells(name, known))
    yield from known.apart


def _verdict(checks: Iterable[GateCheck], known: Known) -> GateVerdict:
    found = {check.verdict for check in checks}
    if GateVerdict.FAIL in found:
        return GateVerdict.FAIL
    apart = any(True for _ in _telling(known))
    return GateVerdict.LOOK if GateVerdict.LOOK in found or not apart else GateVerdict.PASS


def _tells(name: str, known: Known) -> bool:
    """Whether a measured figure says how good the model is: a number of examples does not."""
    return name == known.plan.evaluation.metric or (not counts(name) and known.direction(name) is not None)


def _figures(known: Known) -> dict[str, float]:
    """The figures that the model is known by: what was measured of it, else what was logged last."""
    measured = figures({**known.held_out.tuned, **known.own}, known.plan)
    return dict(list((measured or figures(known.logged, known.plan)).items())[:_MOST])


def figures(logged: Mapping[str, float], plan: TrainingPlan) -> dict[str, float]:
    """Those of a program's figures that tell of a model: they are numbers, and no steps, times or speeds unless that
    is what the plan's target or its evaluation aims at.
    """
    aims = (plan.evaluation.metric, plan.target.metric if plan.target else None)
    return _finite({name: value for name, value in logged.items() if name in aims or not of_progress(name)})


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _definitions(metrics: Iterable[str], known: Known) -> Iterator[MetricSpec]:
    """What the figures mean: as defined; else their direction by name, where it is told.

    What was measured on held-out data is what a training logs as `eval_…`: its `loss` is that of what it learns from.
    """
    given = {one.name: one for one in known.definitions}
    for name in metrics:
        way = known.direction(name)
        defined = given.get(f"eval_{name}" if name in known.held_out.tuned else name, given.get(name))
        if defined is not None:
            yield defined.model_copy(update={"name": name})
        elif way is not None and not counts(name):
            yield MetricSpec(name=name, direction=way)


def _recorded(result: EvaluationResult) -> dict[str, Json]:
    """With what the figures come again: seed, digests of the sets, versions, the weights that were judged."""
    sets = {"held_out": result.held_out, "learnt": result.learnt, "regression": result.regression}
    digests: dict[str, Json] = {name: one.sha256 for name, one in sets.items() if one and one.sha256}
    samples: dict[str, Json] = {name: one.samples for name, one in sets.items() if one and one.samples is not None}
    found: dict[str, Json] = {
        "by": result.by or None,
        "seed": result.seed,
        "model_sha256": result.model_sha256,
        "sha256": digests or None,
        "samples": samples or None,
        "versions": dict(result.versions) or None,
        "canary_sha256": result.canary.sha256 if result.canary else None,
    }
    return {name: value for name, value in found.items() if value is not None}
