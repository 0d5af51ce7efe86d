"""Plans that cost less than one that is over a limit: other GPUs, fewer steps or epochs, an earlier end. Pure.

They are offered to a person and never taken by themselves: a shorter training is another training.
"""

from collections.abc import Callable, Iterator
from typing import Final

from caravan.planning.config_files import reaches
from caravan.planning.options import as_choices
from caravan.planning.smoke import steps_of
from caravan.values.amounts import duration
from caravan.values.base import Json
from caravan.values.dialogue import PlanChoice
from caravan.values.errors import PlanError
from caravan.values.estimate import Estimate
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes

MOST: Final = 4
"""Choices that are shown at most."""
_LEAST_S: Final = 600  # a job that is ended sooner has hardly begun


def cheaper(
    plan: TrainingPlan,
    known: Estimate,
    room_usd: float,
    *,
    estimate: Callable[[TrainingPlan], Estimate],
    allowed: Callable[[TrainingPlan], bool],
) -> tuple[PlanChoice, ...]:
    """Up to four plans that cost less than `known` says: those within `room_usd` first, whole trainings first.

    `room_usd` is what may still be spent, at the dearer end of an estimate. Each is estimated anew, and `allowed`.
    """
    if known.cost_usd is None or not known.usd_per_hour:
        return ()
    found: list[tuple[bool, PlanChoice]] = []
    for choice in (*as_choices(known.alternatives), *_shorter(plan, known, room_usd)):
        try:
            trial = apply_changes(plan, choice.changes)
        except PlanError:
            continue
        cost = estimate(trial).cost_usd
        if cost is None or cost.high >= known.cost_usd.high or not allowed(trial):
            continue
        text = f"{choice.text}; up to {cost.high:.2f} USD"
        found.append((cost.high > room_usd, choice.model_copy(update={"text": text, "cost_usd": cost.high})))
    return tuple(choice for _, choice in sorted(found, key=lambda one: one[0]))[:MOST]


def _shorter(plan: TrainingPlan, known: Estimate, room_usd: float) -> Iterator[PlanChoice]:
    """Fewer epochs, fewer steps, an end after some time, as many as the money is enough for."""
    if known.cost_usd is None or not known.usd_per_hour or room_usd <= 0:
        return
    share = room_usd / known.cost_usd.high
    epochs, steps = plan.training.epochs, steps_of(plan)
    if epochs is not None and epochs > 1 and share < 1 and reaches(plan, "training.epochs"):
        fewer = int(epochs * share)
        if fewer >= 1:
            yield choice_of(f"{fewer} epoch{'' if fewer == 1 else 's'} instead of {epochs:g}", "training.epochs", fewer)
    if steps is not None and share < 1 and reaches(plan, "training.max_steps"):
        less = int(steps * share)
        if less >= 1:
            yield choice_of(f"{less:,} steps instead of {steps:,}", "training.max_steps", less)
    seconds = int(room_usd / known.usd_per_hour * 3600)
    if seconds >= _LEAST_S and (plan.limits.max_run_s is None or seconds < plan.limits.max_run_s):
        share_of = seconds / known.seconds.likely if known.seconds and known.seconds.likely else 1.0
        done = f", at about {share_of:.0%} of the training" if share_of < 1 else ""
        told = f"ended after {duration(seconds, exact=True)}{done}, with its last checkpoint kept"
        yield choice_of(told, "limits.max_run_s", seconds)


def choice_of(text: str, path: str, value: Json) -> PlanChoice:
    """Another plan that differs in one field, which a person takes by their own word."""
    return PlanChoice(text=text, changes=(PlanChange(path=path, value=value, by=Author.USER, why=text),))
