"""The chooser: which GPU the plan asks for, and a smaller batch when none is large enough.

Its changes are by the estimate, so they never stand against what the user, an answer or a repair has set.
"""

import math

from caravan.planning.catalogue import USABLE_SHARE, Prices
from caravan.planning.cluster_fit import GpuOffer, gpu_offers, in_target
from caravan.planning.config_files import reaches
from caravan.planning.estimate import gpu_memory, gpu_size_gib
from caravan.values.base import Json
from caravan.values.estimate import Estimate
from caravan.values.job import ClusterFacts
from caravan.values.plan import STANDING, Author, PlanChange, Resources, TrainingPlan, apply_changes
from caravan.values.shape import ModelShape

_KEPT = STANDING | {Author.MEMORY}
"""Authors against whose GPU and batch the formula does not stand: what was seen to fit beats it."""


def choose(plan: TrainingPlan, estimate: Estimate, facts: ClusterFacts, beyond: float = 1.0) -> tuple[PlanChange, ...]:
    """Changes that make the plan fit and bound its cost; empty when it is well as it is.

    The cheapest GPU type of the inventory that holds it is named. When none does, the micro batch is halved and the
    accumulation doubled until it fits the largest type. `beyond` is the factor that is in the estimate.
    """
    if plan.resources.gpus == 0:
        return _bounded(plan, estimate)
    changes = list(_host(plan, estimate, facts)) + list(_bounded(plan, estimate))
    offers = gpu_offers(plan.model_copy(update={"resources": _any_model(plan)}), facts, Prices())
    if estimate.gpu_memory_gib is None or not offers:
        return tuple(changes)
    if not any(_holds(o, estimate.gpu_memory_gib) for o in offers):
        smaller = _smaller_batch(plan, offers, beyond, estimate.shape)
        changes += smaller
        plan = apply_changes(plan, smaller)
    parts, _, _ = gpu_memory(plan, beyond, estimate.shape)
    need = sum(p.gib for p in parts) if parts else estimate.gpu_memory_gib
    best = next((o for o in offers if o.model == estimate.gpu and _holds(o, need)), None)
    best = best or next((o for o in offers if _holds(o, need)), None)
    if best is not None:
        changes += _types(plan, best, [o for o in offers if _holds(o, need)], f"that holds {need:.1f} GiB", len(offers))
        least = min(math.ceil(need * 1024 / USABLE_SHARE), round((gpu_size_gib(best) or 0) * 1024))
        changes += _differing(plan, "resources.gpu_memory_mib", least, f"{need:.1f} GiB and what the driver keeps")
    return tuple(changes)


def _types(plan: TrainingPlan, best: GpuOffer, fitting: list[GpuOffer], which: str, offered: int) -> list[PlanChange]:
    """The type that is demanded, or those that are preferred.

    Where another would cost more, or is not known to cost the same, the cheapest is demanded: the cost that is approved
    is its. Else the cheapest is preferred: a job that waits for it while others are idle saves nothing.
    """
    prefer = [best.model, *(o.model for o in fitting if o.model != best.model)]
    same = best.usd_per_hour is not None and all(o.usd_per_hour == best.usd_per_hour for o in fitting)
    changes = []
    if offered > 1 and not (same and len(fitting) > 1):
        why = f"the cheapest of {offered} types {which}"
        changes += _differing(plan, "resources.gpu_model", best.model, why)
    wanted: list[Json] = list[Json](prefer) if len(prefer) > 1 else []
    return [*changes, *_differing(plan, "resources.gpu_prefer", wanted, f"the types {which}, the cheapest first")]


def _any_model(plan: TrainingPlan) -> Resources:
    """The plan's resources, without a GPU type that an earlier choice has set."""
    if plan.set_by("resources.gpu_model") in _KEPT:
        return plan.resources
    return plan.resources.model_copy(update={"gpu_model": None})


def _holds(offer: GpuOffer, gib: float) -> bool:
    size = gpu_size_gib(offer)
    return size is not None and gib <= size * USABLE_SHARE


def _smaller_batch(
    plan: TrainingPlan, offers: tuple[GpuOffer, ...], beyond: float, shape: ModelShape | None
) -> list[PlanChange]:
    """Halve the batch, double the accumulation; nothing when that can't help or may not be changed."""
    batch, accumulated = plan.training.micro_batch or 1, plan.training.grad_accum or 1
    kept = any(plan.set_by(p) in _KEPT for p in ("training.micro_batch", "training.grad_accum"))
    if kept or not reaches(plan, "training.micro_batch"):
        return []
    while batch > 1 and batch % 2 == 0:
        batch, accumulated = batch // 2, accumulated * 2
        values = {"micro_batch": batch, "grad_accum": accumulated}
        trial = plan.model_copy(update={"training": plan.training.model_copy(update=values)})
        parts, _, _ = gpu_memory(trial, beyond, shape)
        if any(_holds(o, sum(p.gib for p in parts)) for o in offers):
            why = "the batch doesn't fit any GPU here; the effective batch stays"
            if not reaches(plan, "training.grad_accum"):
                why = "the batch doesn't fit any GPU here; the repository has no option for accumulation"
            return [
                PlanChange(path=f"training.{name}", value=value, by=Author.ESTIMATE, why=why)
                for name, value in values.items()
                if reaches(plan, f"training.{name}")
            ]
    return []


def _host(plan: TrainingPlan, estimate: Estimate, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    """More host memory where the estimate asks for more than the plan has, within what a node has."""
    need = estimate.host_memory_mb
    if need is None or need <= plan.resources.memory_mb:
        return ()
    most = max((n.memory_mb for n in in_target(plan, facts)), default=need)
    return tuple(_differing(plan, "resources.memory_mb", max(10, min(need, most)), "to load the weights"))


def _bounded(plan: TrainingPlan, estimate: Estimate) -> tuple[PlanChange, ...]:
    """A time limit that keeps the cost under the limit that was said."""
    cost, per_hour = plan.limits.max_cost_usd, estimate.usd_per_hour
    if cost is None or not per_hour or (plan.limits.max_run_s and plan.set_by("limits.max_run_s") in STANDING):
        return ()
    seconds = int(cost / per_hour * 3600)
    why = f"{cost:.2f} USD at {per_hour:.2f} USD an hour"
    return tuple(_differing(plan, "limits.max_run_s", seconds, why)) if seconds >= 1 else ()


def _differing(plan: TrainingPlan, path: str, value: Json, why: str) -> list[PlanChange]:
    if plan.get(path) == value or plan.set_by(path) in STANDING:
        return []
    return [PlanChange(path=path, value=value, by=Author.ESTIMATE, why=why)]
