"""What the checks are given: the plan, the result, the log's rows, and the names in them put in order."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from caravan.gate.courses import Course, course, of_the_training
from caravan.gate.naming import Direction, counts, direction, find, is_loss, of_rewards, of_training
from caravan.values.evaluation import CheckKind, EvaluationResult, GateCheck, GateVerdict, SideMetrics
from caravan.values.metric_names import held_out
from caravan.values.plan import TrainingPlan
from caravan.values.training import MetricSpec


@dataclass(frozen=True)
class Known:
    """All that is judged by. `whole`: the rows begin where the training began; None: judged by the places they name."""

    plan: TrainingPlan
    result: EvaluationResult | None
    rows: Sequence[Mapping[str, float]]
    definitions: tuple[MetricSpec, ...] = ()
    expected: bool = False
    whole: bool | None = None

    @cached_property
    def logged(self) -> dict[str, float]:
        """The last value of each logged figure, whatever it is."""
        last: dict[str, float] = {}
        for row in self.rows:
            last.update(row)
        return last

    @cached_property
    def learning(self) -> tuple[str, Course]:
        """The training loss and how it went: of several that may be it the one with most values."""
        courses = {name: of_the_training(self.rows, name) for name in self.logged if of_training(name)}
        best = max(courses, key=lambda name: len(courses[name]), default="")
        return best, courses.get(best, ())

    @cached_property
    def apart(self) -> dict[str, Course]:
        """How each held-out figure went that says how good the model is: losses first."""
        names = [n for n in self.logged if held_out(n) and not counts(n) and self.direction(n) is not None]
        names.sort(key=lambda name: not is_loss(name))
        return {name: points for name in names if (points := course(self.rows, name))}

    @cached_property
    def by_rewards(self) -> bool:
        """Whether it is trained by rewards, where a loss need not fall."""
        return any(of_rewards(name) for name in self.logged)

    @cached_property
    def held_out(self) -> SideMetrics:
        """What was measured on held-out data; empty where nothing was."""
        return _named(self.result.held_out if self.result else None)

    @cached_property
    def learnt(self) -> SideMetrics:
        """What was measured on data that was learned from; empty where nothing was."""
        return _named(self.result.learnt if self.result else None)

    @cached_property
    def fixed(self) -> SideMetrics | None:
        """What was measured on the fixed set."""
        return _named(self.result.regression) if self.result and self.result.regression else None

    @cached_property
    def own(self) -> dict[str, float]:
        """What the user's own evaluation printed."""
        return _names(self.result.metrics) if self.result else {}

    def direction(self, name: str) -> Direction | None:
        """Whether less or more of it is better: as it is defined, as the target says, else by its name."""
        target = self.plan.target
        if any(one.name == name for one in self.definitions) or target is None or target.metric != name:
            return direction(name, self.definitions)
        return target.direction

    @cached_property
    def metric(self) -> str:
        """The measured figure by which base and tuned model are compared; empty where there is none."""
        wanted = (self.plan.evaluation.metric, self.plan.target.metric if self.plan.target else None, "loss")
        tuned = self.held_out.tuned
        named = (find(tuned, name) for name in wanted if name)
        first = next((name for name in named if name), None)
        return first or next((name for name in tuned if not counts(name) and self.direction(name)), "")


_NAME: Final = re.compile(r"[A-Za-z][\w./@-]{0,60}", re.ASCII)
_MOST: Final = 100


def _names(figures: Mapping[str, float]) -> dict[str, float]:
    """Those figures whose names are names: what a job wrote may be anything, and a sentence is made of it."""
    return dict([(name, value) for name, value in figures.items() if _NAME.fullmatch(name)][:_MOST])


def _named(sides: SideMetrics | None) -> SideMetrics:
    if sides is None:
        return SideMetrics()
    told = {"base": _names(sides.base), "tuned": _names(sides.tuned), "guess": _names(sides.guess)}
    return sides.model_copy(update=told)


def finite(value: float | None) -> bool:
    """Whether there is a value and it is a number."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> float | None:
    """The value where it is a number: a report holds no others."""
    return value if finite(value) else None


def check(
    kind: CheckKind,
    verdict: GateVerdict,
    text: str,
    *,
    metric: str = "",
    value: float | None = None,
    base: float | None = None,
    limit: float | None = None,
) -> GateCheck:
    """A check whose figures are numbers or unset."""
    return GateCheck(
        kind=kind,
        verdict=verdict,
        text=text,
        metric=metric,
        value=number(value),
        base=number(base),
        limit=number(limit),
    )
