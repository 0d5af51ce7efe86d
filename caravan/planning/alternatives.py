"""The nearest plans that fit, where a plan has no place on the cluster or would have to wait for one. Pure.

Every choice is valid, is held to fit by the estimate, and has a node that could take it. What is free now only the
cluster's dry run knows: it comes in as `placed`. Policies come in as `allowed`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from caravan.planning.catalogue import CATALOGUE, Prices, gpu_named, matches_model
from caravan.planning.cluster_fit import takers
from caravan.planning.moves import (
    ADAPTERS,
    OTHER_BATCH,
    Estimator,
    Kind,
    Move,
    adapters,
    fewer_gpus,
    fewer_nodes,
    fitted_memory,
    gpu_types,
    moved,
    places,
    room,
    smaller_steps,
)
from caravan.planning.standing import Standing, could_take, members_placed, place_of
from caravan.values.amounts import duration
from caravan.values.base import Json
from caravan.values.dialogue import PlanChoice
from caravan.values.estimate import Estimate
from caravan.values.job import ClusterFacts, PlacementFailure
from caravan.values.plan import Author, PlanChange, TrainingPlan, plan_diff

CHOICES: Final = 4
"""Choices that are shown at most."""
_LOOKED_AT: Final = 16
"""Candidates that are put to `placed` and `allowed` at most: each may be a request to the cluster."""


def _yes(_: TrainingPlan) -> bool:
    return True


@dataclass(frozen=True)
class _Candidate:
    plan: TrainingPlan
    moves: tuple[Move, ...]
    estimate: Estimate
    slower: float | None  # times the time of the plan asked for; None: not known

    @property
    def loss(self) -> int:
        return max((m.loss for m in self.moves), default=0)

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(m.kind for m in self.moves)

    def order(self) -> tuple[bool, int, int, int, float, float, str]:
        """The nearest first: no other training, fewest kinds of steps, least lost, then the cheapest for the work.

        Where the effective batch can't be kept, more GPUs keep more of it.
        """
        price, slower = self.estimate.usd_per_hour, self.slower or 1.0
        cost = float("inf") if price is None else round(price * slower, 4)
        fewer = -self.plan.resources.gpus if self.loss == OTHER_BATCH else 0
        return self.loss >= ADAPTERS, len(self.kinds), self.loss, fewer, cost, slower, self.words()

    def words(self) -> str:
        return ", ".join(m.text for m in self.moves)


def nearest(
    plan: TrainingPlan,
    facts: ClusterFacts,
    *,
    estimate: Estimator,
    prices: Prices,
    failures: Sequence[PlacementFailure] = (),
    placed: Callable[[TrainingPlan], bool] = _yes,
    allowed: Callable[[TrainingPlan], bool] = _yes,
) -> tuple[PlanChoice, ...]:
    """Up to four other plans, the nearest and cheapest first; empty where there is none.

    `failures` are the dry run's reasons. Where the nodes are only occupied, waiting is the first choice: it changes
    nothing. A wish that a repair has set before stays as it is: it did not help enough.
    """
    found: list[_Candidate] = []
    looks = 0
    for candidate in sorted(_candidates(plan, facts, estimate, prices, failures), key=_Candidate.order):
        if len(found) == CHOICES or looks == _LOOKED_AT:
            break
        if any(_more_of_the_same(candidate, other) for other in found):
            continue
        looks += 1
        if allowed(candidate.plan) and placed(candidate.plan):
            found.append(candidate)
    choices = [_choice(plan, c) for c in found]
    place = place_of(plan, facts, failures)
    if place.standing is Standing.NOT_NOW:
        longest = duration(plan.limits.queue_s, exact=True)
        text = f"wait: {place.text.removeprefix('not now: ')}; it waits for up to {longest}"
        choices.insert(0, PlanChoice(text=text, cost_usd=_cost(estimate(plan))))
    return tuple(choices[:CHOICES])


def _more_of_the_same(candidate: _Candidate, other: _Candidate) -> bool:
    """Whether it takes all the kinds of steps of a choice that is there already, and is no real choice beside it."""
    if candidate.kinds != other.kinds:
        return candidate.kinds > other.kinds
    if candidate.kinds <= {Kind.GPU, Kind.PLACE}:
        return candidate.words() == other.words()  # each type and each place is a choice
    return not (candidate.slower and other.slower and candidate.slower * _FASTER < other.slower)


_FASTER: Final = 1.4  # times as fast is worth a choice of its own, though it costs more


def _candidates(
    plan: TrainingPlan,
    facts: ClusterFacts,
    estimate: Estimator,
    prices: Prices,
    failures: Sequence[PlacementFailure],
) -> Iterator[_Candidate]:
    """All plans that a few steps lead to and that fit, in the order of the kinds of steps."""
    for where in (None, *places(plan, facts, failures)):
        there = _after(plan, where)
        for gpu in (None, *gpu_types(there, facts, prices)) if there else ():
            with_gpu = _after(there, gpu) if there else None
            for count in (None, *fewer_nodes(with_gpu), *fewer_gpus(with_gpu, facts)) if with_gpu else ():
                start = _after(with_gpu, count) if with_gpu else None
                if start is not None and takers(_with_memory(start, facts, estimate), facts):
                    moves = tuple(m for m in (where, gpu, count) if m)
                    yield from _fitted(plan, start, moves, facts, estimate)


def _fitted(
    asked: TrainingPlan, start: TrainingPlan, moves: tuple[Move, ...], facts: ClusterFacts, estimate: Estimator
) -> Iterator[_Candidate]:
    """The plan where it fits, else with the steps that make it fit: less room, a smaller batch, adapters last."""
    for small in _small_enough(start, facts, estimate):
        trial = _after(start, small)
        if trial is None:
            continue
        trial = _with_memory(trial, facts, estimate)
        steps = (*moves, *((small,) if small else ()))
        less = None if could_take(trial, facts) else next(room(trial, facts, estimate), None)
        if less is not None:
            trial, steps = _after(trial, less) or trial, (*steps, less)
        changed = plan_diff(asked, trial)
        kept = all(asked.set_by(path) is not Author.REPAIR for path in changed)
        if changed and kept and members_placed(trial, facts) == trial.launch.nodes:
            said = estimate(trial)
            types = (asked.resources.gpu_model or estimate(asked).gpu, trial.resources.gpu_model or said.gpu)
            yield _Candidate(trial, steps, said, _slower(asked, trial, types))


def _small_enough(plan: TrainingPlan, facts: ClusterFacts, estimate: Estimator) -> Iterator[Move | None]:
    """The steps after which the estimate no longer says that it doesn't fit; None: it needs none."""
    if estimate(_with_memory(plan, facts, estimate)).fits is not False:
        yield None
        return
    for steps in (smaller_steps(plan), adapters(plan)):
        for step in steps:
            trial = _after(plan, step)
            if trial is not None and estimate(_with_memory(trial, facts, estimate)).fits:
                yield step
                break


def _after(plan: TrainingPlan, move: Move | None) -> TrainingPlan | None:
    return plan if move is None else moved(plan, move.values, move.text)


def _with_memory(plan: TrainingPlan, facts: ClusterFacts, estimate: Estimator) -> TrainingPlan:
    return moved(plan, fitted_memory(plan, facts, estimate), "what the estimate says") or plan


def _slower(before: TrainingPlan, after: TrainingPlan, types: tuple[str | None, str | None]) -> float | None:
    """How many times as long the same work takes, by the GPUs' count and speed alone; None where that isn't known.

    `types` are the GPUs that both would get; where the first is nowhere to be had, the counts are compared.
    """
    old, new = before.resources.gpus, after.resources.gpus
    if not old or not new:
        return 1.0 if old == new else None
    rate = 1.0
    if None not in types and types[0] != types[1]:
        speeds = [_tflops(t) if t else None for t in types]
        if not speeds[0] or not speeds[1]:
            return None
        rate = speeds[0] / speeds[1]
    recomputed = 4 / 3 if after.training.grad_checkpointing and not before.training.grad_checkpointing else 1.0
    return rate * recomputed * old / new


def _tflops(name: str) -> float | None:
    """Dense TFLOPS of a type by its name, or by a part of it as plans have it (`H100`); None: not known."""
    gpu = gpu_named(name) or next((g for g in CATALOGUE if matches_model(name, g.name)), None)
    return (gpu.bf16_tflops or gpu.fp16_tflops) if gpu else None


def _choice(plan: TrainingPlan, candidate: _Candidate) -> PlanChoice:
    text = candidate.words()
    changes: dict[str, Json] = {path: candidate.plan.get(path) for path in _changed(plan, candidate.plan)}
    costs = [_time(plan, candidate.slower), _money(candidate.estimate)]
    told = "; ".join(part for part in (text, ", ".join(c for c in costs if c)) if part)
    by_user = tuple(PlanChange(path=p, value=v, by=Author.USER, why=text[:300]) for p, v in changes.items())
    return PlanChoice(text=told, changes=by_user, cost_usd=_cost(candidate.estimate))


def _changed(plan: TrainingPlan, other: TrainingPlan) -> tuple[str, ...]:
    return tuple(path for path in plan_diff(plan, other) if plan.get(path) != other.get(path))


def _time(plan: TrainingPlan, slower: float | None) -> str:
    if slower is None:
        return "how long it takes isn't known"
    if 0.95 <= slower <= 1.05:
        return ""
    limit = plan.limits.max_run_s
    stays = f" (the time limit stays {duration(limit, exact=True)})" if limit and slower > 1 else ""
    return f"about {slower:.2g} times as long{stays}"


def _money(estimate: Estimate) -> str:
    cost = _cost(estimate)
    if cost is not None:
        return f"up to {cost:.2f} USD" if cost else ""
    price = estimate.usd_per_hour
    return "its cost isn't known" if price is None else f"{price:.2f} USD an hour"


def _cost(estimate: Estimate) -> float | None:
    return estimate.cost_usd.high if estimate.cost_usd else None
