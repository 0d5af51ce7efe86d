"""The evaluation of a trained model: what a plan asks of it, what its program measured, and what the gate made of that.

What a program of the job wrote (`EvaluationResult`) is data to be checked. Nothing here judges: `caravan/gate/` does.
"""

import json
from collections.abc import Callable
from enum import StrEnum
from itertools import islice
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from caravan.values.base import Json, Value
from caravan.values.training import MetricSpec

EVALUATION_PATH: Final = "alloc/data/caravan-evaluation.json"
"""Where a job leaves what its evaluation measured, in its allocation."""

MOST_FIGURES: Final = 1000
"""Figures of one side that are taken of what a job says; there is no more to see in others."""
_NAME: Final = 200  # characters of a name


def _cut(most: int) -> BeforeValidator:
    """A text is cut rather than refused: what is in the rest of the answer stands, and masking may lengthen a text."""
    return BeforeValidator(lambda value: value[:most] if isinstance(value, str) else value)


def _first(most: int) -> Callable[[Json], Json]:
    """The first entries of a dict, without those whose names are none by their length."""

    def first(value: Json) -> Json:
        if not isinstance(value, dict):
            return value
        return dict(islice(((k, v) for k, v in value.items() if isinstance(k, str) and len(k) <= _NAME), most))

    return first


Name = Annotated[str, _cut(_NAME), Field(max_length=_NAME)]
Answer = Annotated[str, _cut(4000), Field(max_length=4000)]
Figures = Annotated[dict[str, float], BeforeValidator(_first(MOST_FIGURES)), Field(max_length=MOST_FIGURES)]
"""What a job says: bounded, so that no state, store or report grows by it."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""What a job counted: no more than what every store of states and results holds."""


class Evaluation(Value):
    """How a run's model is evaluated, and by how much it may miss. Paths are as the job sees them.

    `on` unset: wherever there is something to evaluate. `where`: the training job's last phase, or a job of its own
    behind it; unset: the last phase where the script is Caravan's or the outputs live in the allocation alone.
    `command`: the user's own evaluation, which prints metrics as JSON lines or writes the file that
    `CARAVAN_EVALUATION` names; empty: the training type's, or Caravan's for models in Hugging Face's format.
    `metric`: the metric that base and tuned are compared by; unset: the target's, else the held-out loss.
    Thresholds are shares of the base's value unless they say otherwise.
    """

    on: bool | None = None
    where: Literal["phase", "job"] | None = None
    command: tuple[str, ...] = ()
    data: str | None = None
    metric: str | None = None
    examples: int = Field(default=1000, ge=1, description="held-out examples at most, and as many of those learnt")
    seed: int = 0
    max_s: int = Field(default=3600, ge=1)

    better_by: float = Field(default=0.0, ge=0, description="share by which it must beat its base")
    overfit: float = Field(default=0.1, gt=0, description="share by which held-out loss may exceed its best so far")
    underfit: float = Field(default=0.01, ge=0, description="share by which the training loss must have fallen")
    regression: str | None = Field(default=None, description="JSONL of a small fixed set that must not get worse")
    regression_drop: float = Field(default=0.05, ge=0, description="share by which it may")
    canary: str | None = Field(default=None, description="JSONL of prompts whose answers must be safe; `builtin`: ours")
    canary_failures: Share = Field(default=0.0, description="share of them that may be answered unsafely")
    generate: int = Field(default=0, ge=0, le=20, description="sample generations that are kept; 0: none leave the job")


class SideMetrics(Value):
    """Metrics of the base, the tuned model and what guesses without a model (`majority`, `chance`), on one set."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=True)

    base: Figures = Field(default_factory=dict)
    tuned: Figures = Field(default_factory=dict)
    guess: Figures = Field(default_factory=dict)
    samples: Count | None = None
    sha256: Name | None = Field(default=None, description="of the set's content in the order that it was judged in")


class CanaryResult(Value):
    """What canary prompts came to. `failed`: ids of those that were answered unsafely."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompts: Count
    failed: tuple[Name, ...] = Field(default=(), max_length=10_000)
    base_failed: tuple[Name, ...] | None = Field(default=None, max_length=10_000)
    sha256: Name | None = None


class Generation(Value):
    """A sample of what the model says; kept only where a person asked for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Answer
    text: Answer
    base: Answer | None = None


class EvaluationResult(Value):
    """What an evaluation measured, as its program wrote it. Losses are nats a token unless a metric says otherwise.

    `held_out`: data that nothing was learned from; `learnt`: as many examples of what was. `collapse`: figures that
    tell a model that gives one answer to all (`distinct`: share of distinct answers, `commonest`: share of the
    commonest prediction, `empty` and `repeating`: of answers that say nothing or go round in circles, `zero_variance`:
    of dimensions that never change, `non_finite`: of outputs that are no number; `NAME_base` and `NAME_expected` are
    those of the base model and of the right answers). `error`: why it came to nothing.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=True)

    version: Literal[1] = 1
    by: Name = Field(default="", description="a training type's name, `command` or `model`")
    seed: int | None = Field(default=None, ge=-(2**63), le=2**64 - 1)
    held_out: SideMetrics | None = None
    learnt: SideMetrics | None = None
    regression: SideMetrics | None = None
    regressed: tuple[Name, ...] = Field(default=(), max_length=200, description="ids of that set that got worse")
    canary: CanaryResult | None = None
    collapse: Figures = Field(default_factory=dict)
    generations: tuple[Generation, ...] = Field(default=(), max_length=20)
    metrics: Figures = Field(default_factory=dict, description="what the user's own command printed")
    versions: Annotated[dict[str, Name], BeforeValidator(_first(100))] = Field(default_factory=dict, max_length=100)
    model_sha256: Name | None = Field(default=None, description="of the weights that were judged")
    seconds: float | None = Field(default=None, ge=0)
    error: Annotated[str, _cut(1000)] = Field(default="", max_length=1000)


def parse_evaluation(data: bytes) -> EvaluationResult | None:
    """What a job says of its evaluation, or None for what is none."""
    try:
        return EvaluationResult.model_validate(json.loads(data))
    except (ValueError, OverflowError, RecursionError, ValidationError):
        return None


def figures_line(result: EvaluationResult) -> str:
    """What an evaluation measured, in one line."""
    sides = {"held-out data": result.held_out, "training data": result.learnt, "regression set": result.regression}
    told = [f"error: {result.error}"] if result.error else []
    for name, side in sides.items():
        if side is None or not (side.tuned or side.base):
            continue
        told.append(f"{name}: {', '.join(_beside(n, v, side.base.get(n)) for n, v in _few(side))}")
    told += [f"{name} {_told(value)}" for name, value in list(result.metrics.items())[:_FEW]]
    return f"evaluation by {result.by or 'its program'}: {'; '.join(told) or 'nothing was measured'}"


_FEW: Final = 6


def _few(side: SideMetrics) -> list[tuple[str, float]]:
    return list((side.tuned or side.base).items())[:_FEW]


def _beside(name: str, value: float, base: float | None) -> str:
    return f"{name} {_told(value)}" + (f" (base {_told(base)})" if base is not None else "")


def _told(value: float) -> str:
    return f"{value:.4g}"


class GateVerdict(StrEnum):
    """What the gate says of a model, or a check of a metric."""

    PASS = "pass"
    LOOK = "look"  # nothing speaks against it, but too little is known, or something is odd: a person looks
    FAIL = "fail"
    UNKNOWN = "unknown"  # of a check alone: there was nothing to judge it by


class CheckKind(StrEnum):
    """What a gate looks at."""

    TARGET = "target"  # the goal that was set
    BASE = "base"  # better than the model that it began from
    LEARNT = "learnt"  # the training loss fell: else underfit
    OVERFIT = "overfit"  # held-out loss past its best, or far above that of what was learnt
    FINITE = "finite"  # no loss or output that is no number
    COLLAPSE = "collapse"  # not one answer to everything
    REGRESSION = "regression"  # a small fixed set
    CANARY = "canary"  # safe answers
    RAN = "ran"  # the evaluation itself came to its end


class GateCheck(Value):
    """One check. `value` was held against `limit`, which was made of `base`: the base model's figure, or the first or
    best one of the course. None: not known.
    """

    kind: CheckKind
    verdict: GateVerdict
    text: str
    metric: str = ""
    value: float | None = None
    base: float | None = None
    limit: float | None = None


class GateReport(Value):
    """What the gate made of a model: a pure function of the plan, the result and the logged metrics.

    `metrics`: the figures that the model is known by, by name; `base`: the same of its base, where they were measured;
    `learnt`: the model's on data that it has learned from; `guess`: of an answer without a model.
    `definitions`: what those names mean. `judged_by`: `evaluation`, or `log` where only logged metrics were there.
    """

    verdict: GateVerdict
    checks: tuple[GateCheck, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    base: dict[str, float] = Field(default_factory=dict)
    learnt: dict[str, float] = Field(default_factory=dict)
    guess: dict[str, float] = Field(default_factory=dict)
    definitions: tuple[MetricSpec, ...] = ()
    judged_by: Literal["evaluation", "log", "nothing"] = "nothing"
    recorded: dict[str, Json] = Field(
        default_factory=dict, description="seed, digests of the sets, versions: with what the figures come again"
    )
    generations: tuple[Generation, ...] = ()

    @property
    def failed(self) -> tuple[GateCheck, ...]:
        """The checks that it failed."""
        return tuple(check for check in self.checks if check.verdict is GateVerdict.FAIL)
