"""The chooser: the cheapest plan of the cluster's inventory that fits with a margin.

Its changes are by the estimate, so they never stand against what the user, an answer or a repair has set, nor against
what memory knows to fit. The whole grid is looked at (`grid`), not one step after the other. Pure.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from caravan.planning.batches import effective_batch
from caravan.planning.catalogue import USABLE_SHARE
from caravan.planning.cluster_fit import in_target
from caravan.planning.dataset_size import dataset_size
from caravan.planning.estimate import host_memory_mb, with_repository
from caravan.planning.grid import KEPT, MODEL, Ground, Point, offers_of, points
from caravan.planning.kept_room import disk_mb
from caravan.planning.memory_plan import setting_of_plan
from caravan.planning.model_shape import shape_for
from caravan.planning.smoke import speed_key
from caravan.values.base import Json
from caravan.values.estimate import Estimate, Measured
from caravan.values.job import ClusterFacts
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.prices import Prices
from caravan.values.repo import RepoProfile


class Choice(NamedTuple):
    """What is changed of the plan, the point of the grid that it leads to, and all points, the best first."""

    changes: tuple[PlanChange, ...]
    best: Point | None = None
    found: tuple[Point, ...] = ()
    ground: Ground | None = None


def choose(
    plan: TrainingPlan,
    estimate: Estimate,
    facts: ClusterFacts,
    beyond: float = 1.0,
    *,
    prices: Prices | None = None,
    profile: RepoProfile | None = None,
    measured: Measured | None = None,
) -> tuple[PlanChange, ...]:
    """Changes that make the plan fit at the least cost; empty when it is well as it is (`chosen` says more)."""
    return chosen(plan, estimate, facts, beyond, prices=prices, profile=profile, measured=measured).changes


def chosen(
    plan: TrainingPlan,
    estimate: Estimate,
    facts: ClusterFacts,
    beyond: float = 1.0,
    *,
    prices: Prices | None = None,
    profile: RepoProfile | None = None,
    measured: Measured | None = None,
) -> Choice:
    """The cheapest run that fits with the margin: GPU type and count, batch, checkpointing, precision, sharding.

    `beyond` is the factor that is in the estimate; what the first steps of this very plan have shown replaces the
    formula.
    """
    host = (*_host(plan, estimate.host_memory_mb, facts), *_disk(plan, profile, facts))
    ground = ground_of(plan, estimate, facts, beyond, prices=prices, profile=profile, measured=measured)
    if ground is None:
        return Choice((*host, *_bounded(plan, estimate.usd_per_hour)))
    found = points(ground)
    for best in found:
        changes = _changes(ground, best, found)
        after = apply_changes(plan, changes)
        if effective_batch(after) == effective_batch(plan):
            price, count = best.offer.usd_per_hour, after.resources.gpus * after.launch.nodes
            bound = _bounded(plan, None if price is None else price * count)
            # Each process loads the weights: the point's own count of them decides, but where it was measured.
            need = host_memory_mb(with_repository(after, profile), ground.shape)
            if estimate.smoke is None:
                host = (*_host(plan, need, facts), *_disk(after, profile, facts))
            return Choice((*_together(host, changes), *bound), best, found, ground)
    return Choice((*host, *_bounded(plan, estimate.usd_per_hour)), None, found, ground)


def ground_of(
    plan: TrainingPlan,
    estimate: Estimate,
    facts: ClusterFacts,
    beyond: float = 1.0,
    *,
    prices: Prices | None = None,
    profile: RepoProfile | None = None,
    measured: Measured | None = None,
) -> Ground | None:
    """What the points of the grid share; None where no GPU is asked for or the model's shape is not known."""
    full = with_repository(plan, profile)
    shape = estimate.shape or shape_for(full, profile).shape
    if plan.resources.gpus == 0 or shape is None or not estimate.gpu_memory_gib:
        return None
    factor = beyond
    if measured is not None and measured.smoke.peak_gpu_gib and measured.key == speed_key(plan):
        formula = estimate.formula_gib if estimate.smoke is not None else estimate.gpu_memory_gib
        factor = beyond * measured.smoke.peak_gpu_gib / (formula or estimate.gpu_memory_gib)
    return Ground(plan, full, shape, facts, prices or Prices(), profile, dataset_size(full, profile), factor)


def _changes(ground: Ground, best: Point, found: tuple[Point, ...]) -> tuple[PlanChange, ...]:
    """What leads from the plan to the point: its fields, the GPU type, the memory that is asked for."""
    plan, count = ground.plan, best.plan.resources.gpus
    changes = [c for path, value in best.values.items() for c in _differing(plan, path, value, _why(path, best))]
    offered = len(offers_of(ground, {"resources.gpus": count}, count))
    rest = tuple(p for p in found if p.values == best.values and p.safe == best.safe)
    need = best.high if best.safe else best.gib
    which = f"that hold {need:.1f} GiB"
    changes += _types(plan, best, rest, which, offered)
    least = min(math.ceil(need * 1024 / USABLE_SHARE), round(best.size * 1024))
    margin = "with its margin" if best.safe else "without a margin"
    return (*changes, *_differing(plan, "resources.gpu_memory_mib", least, f"{need:.1f} GiB {margin}"))


def _types(plan: TrainingPlan, best: Point, fitting: tuple[Point, ...], which: str, offered: int) -> list[PlanChange]:
    """The type that is demanded, or those that are preferred.

    Where another would cost more, or is not known to cost the same, the cheapest is demanded: the cost that is approved
    is its. Else the cheapest is preferred: a job that waits for it while others are idle saves nothing.
    """
    if plan.set_by(MODEL) in KEPT and plan.resources.gpu_model is not None:
        return []
    price = best.offer.usd_per_hour
    prefer = list(dict.fromkeys((best.offer.model, *(p.offer.model for p in fitting))))
    same = price is not None and all(p.offer.usd_per_hour == price for p in fitting)
    changes, demanded = [], offered > 1 and not (same and len(prefer) > 1)
    if demanded:
        run = "run" if best.cost is not None or best.update_usd is not None else "hour"
        why = f"the cheapest {run} of {offered} types {which}"
        changes += _differing(plan, MODEL, best.offer.model, why)
    elif plan.set_by(MODEL) is Author.ESTIMATE:
        changes += _differing(plan, MODEL, None, f"all types {which} cost the same")
    wanted: list[Json] = list[Json](prefer) if len(prefer) > 1 and not demanded else []
    return [*changes, *_differing(plan, "resources.gpu_prefer", wanted, f"the types {which}, the cheapest first")]


def _why(path: str, best: Point) -> str:
    """Why the point has that value, in a few words."""
    if path == "training.precision":
        return f"what {best.offer.model} computes fastest in 16 bit"
    if path == "training.grad_checkpointing":
        return f"costs least of what fits on {best.offer.model}; the training is the same"
    if path.startswith("training.") and path != "training.options":
        return f"costs least on {best.offer.model}; the effective batch stays"
    return f"costs least with {best.plan.resources.gpus} x {best.offer.model}; the effective batch stays"


def _together(host: tuple[PlanChange, ...], changes: tuple[PlanChange, ...]) -> tuple[PlanChange, ...]:
    """Both; of host memory the larger amount."""
    amounts = {c.path: c for c in (*host, *changes) if c.path == "resources.memory_mb"}
    most = max((*host, *changes), key=lambda c: _amount(amounts, c), default=None)
    others = [c for c in (*host, *changes) if c.path != "resources.memory_mb"]
    return (*([most] if most is not None and most.path in amounts else []), *others)


def _amount(amounts: Mapping[str, PlanChange], change: PlanChange) -> float:
    return float(str(change.value)) if change.path in amounts else -1.0


def _host(plan: TrainingPlan, need: int | None, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    """More host memory where more MB are needed than the plan has, within what a node has."""
    if need is None or need <= plan.resources.memory_mb:
        return ()
    most = max((n.memory_mb for n in in_target(plan, facts)), default=need)
    return tuple(_differing(plan, "resources.memory_mb", max(10, min(need, most)), "to load the weights"))


def _disk(plan: TrainingPlan, profile: RepoProfile | None, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    """More disk where a type's checkpoints need more MB than the plan has, within what a node has."""
    full = with_repository(plan, profile)
    shape = shape_for(full, profile).shape
    need = disk_mb(full, shape, setting_of_plan(full, shape, profile)[0]) if shape is not None else None
    if need is None or need <= plan.resources.disk_mb:
        return ()
    most = max((n.disk_mb for n in in_target(plan, facts)), default=need) or need
    return tuple(_differing(plan, "resources.disk_mb", max(10, min(need, most)), "for the checkpoints that are kept"))


def _bounded(plan: TrainingPlan, per_hour: float | None) -> tuple[PlanChange, ...]:
    """A time limit that keeps the cost under the limit that was said."""
    cost = plan.limits.max_cost_usd
    if cost is None or not per_hour or (plan.limits.max_run_s and plan.set_by("limits.max_run_s") in STANDING):
        return ()
    seconds = int(cost / per_hour * 3600)
    why = f"{cost:.2f} USD at {per_hour:.2f} USD an hour"
    return tuple(_differing(plan, "limits.max_run_s", seconds, why)) if seconds >= 1 else ()


def _differing(plan: TrainingPlan, path: str, value: Json, why: str) -> list[PlanChange]:
    if plan.get(path) == value or plan.set_by(path) in STANDING:
        return []
    return [PlanChange(path=path, value=value, by=Author.ESTIMATE, why=why)]
