"""How long the evaluation of a model takes, as a part of the estimate. Pure.

A forward pass is a third of a training step (backward passes cost twice as much: Kaplan et al. 2020, "Scaling Laws for
Neural Language Models", section 2.1). Base and tuned model are each asked about the held-out examples, and about as
many of those that were learned.
"""

from typing import Final

from caravan.planning.evaluation_job import evaluation_estimate
from caravan.planning.evaluation_place import apart
from caravan.values.estimate import Estimate, Range
from caravan.values.plan import TrainingPlan

_FORWARD: Final = 1 / 3
_SIDES: Final = (1, 2, 4)
"""Passes over the examples: the tuned model over one set, both models over one, both over two."""
_SPREAD: Final = 2.0
_LOADING_S: Final = (5.0, 60.0, 300.0)
"""Seconds until a model is there: from a warm disk, from a usual one, over a network; two of them are read."""
_STARTING_S: Final = (5.0, 120.0, 900.0)
"""Seconds until a job of its own has code and environment, which its training has left in a cache as a rule."""


def evaluation_time(plan: TrainingPlan, estimate: Estimate) -> Range | None:
    """The evaluation's seconds; None where the plan has none. Without the speed of a step it is what it may take."""
    if not plan.evaluation.on:
        return None
    most = float(plan.evaluation.max_s)
    smoke = estimate.smoke
    step = (smoke.seconds_per_step if smoke is not None else None) or estimate.step_s
    if step is None or plan.evaluation.command:
        work = (0.0, most / 6, most)
    else:
        training = plan.training
        update = max(1, (training.micro_batch or 1) * (training.grad_accum or 1))
        each = step * _FORWARD / update  # of one GPU, which is what an evaluation has
        examples = plan.evaluation.examples
        if plan.dataset.examples is not None:
            examples = min(examples, plan.dataset.examples)
        low, likely, high = (examples * sides * each for sides in _SIDES)
        work = (low / _SPREAD, likely, high * _SPREAD)
    begin = _STARTING_S if apart(plan) else (0.0, 0.0, 0.0)
    taken = [min(most, w + load) + start for w, load, start in zip(work, _LOADING_S, begin, strict=True)]
    return Range(low=taken[0], likely=taken[1], high=taken[2])


def with_evaluation(estimate: Estimate, plan: TrainingPlan) -> Estimate:
    """The estimate of a plan's training with its evaluation: time and money are those of both."""
    taken = evaluation_time(plan, estimate)
    if taken is None:
        return estimate
    known = estimate.model_copy(update={"evaluation_s": taken})
    own = evaluation_estimate(plan, known) if apart(plan) else None
    rate = own.usd_per_hour if own is not None else estimate.usd_per_hour
    money = None if rate is None else taken.priced(rate)
    where = "a job of its own" if own is not None else "the job's last phase"
    told = f"time: evaluation about {taken.likely / 60:.0f} min, at most {taken.high / 60:.0f}, as {where}"
    if estimate.seconds is None:
        told += "; not in the time, which isn't known"
    return known.model_copy(
        update={
            "seconds": _sum(estimate.seconds, taken),
            "cost_usd": _sum(estimate.cost_usd, money),
            "assumptions": (*estimate.assumptions, told),
            "alternatives": tuple(row.plus(taken, money) for row in estimate.alternatives),
        }
    )


def _sum(one: Range | None, other: Range | None) -> Range | None:
    return one if one is None or other is None else one.plus(other)
