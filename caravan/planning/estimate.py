"""The estimate: memory of a GPU from its tensors, host memory, time and cost as far as they are known.

What isn't known stays None and `assumptions` says why; nothing unknown is ever zero. Pure.
"""

from collections.abc import Mapping
from typing import Final

from caravan.planning.catalogue import CATALOGUE, USABLE_SHARE, Prices, gpu_named, matches_model
from caravan.planning.cluster_fit import GpuOffer, gpu_offers
from caravan.planning.command import unpassed
from caravan.planning.config_keys import repository_values
from caravan.planning.flags import fitting
from caravan.planning.memory import memory_parts
from caravan.planning.memory_plan import setting_of_plan
from caravan.planning.model_shape import shape_for
from caravan.planning.prices import usd_per_hour
from caravan.planning.smoke import by_measurement, speed_key
from caravan.values.estimate import Estimate, Measured, MemoryPart, Range
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import Author, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile
from caravan.values.shape import ModelShape

_HOST_BASE_MB: Final = 6144
"""Host memory of Python, torch with CUDA, tokenizers and a few data loaders: 4 to 8 GB seen."""


def estimate(
    plan: TrainingPlan,
    facts: ClusterFacts,
    *,
    prices: Prices,
    profile: RepoProfile | None = None,
    beyond: float = 1.0,
    measured: Measured | None = None,
) -> Estimate:
    """What the plan will need on this cluster; what first steps of such a plan have shown replaces what is computed.

    `profile` fills in what the repository does itself where the plan leaves a field to it, and lets the estimate say
    which wishes no option of the repository takes. `beyond` is how many times the formula's figure a run of this
    training was seen to need at least (`beyond_formula`).
    """
    computed = _computed(plan, facts, prices, profile, beyond)
    if measured is None or measured.key != speed_key(plan):
        return computed
    return by_measurement(computed, measured.smoke, max_run_s=plan.limits.max_run_s)


def _computed(
    plan: TrainingPlan, facts: ClusterFacts, prices: Prices, profile: RepoProfile | None, beyond: float
) -> Estimate:
    full = with_repository(plan, profile)
    notes = list(_unheard(plan, full, profile))
    if plan.resources.gpus == 0:
        return _on_cpu(plan, facts, notes)
    shape, told = shape_for(full, profile)
    parts, confidence, more = gpu_memory(full, beyond, shape)
    notes += [*more, *told]
    total = sum(p.gib for p in parts) if parts else None
    offer = _offer(plan, facts, prices, total)
    nowhere = (
        "no cluster is chosen, and no GPU type is named"
        if facts.kind is ClusterKind.NONE
        else "no such GPU on the cluster"
    )
    price, from_where = usd_per_hour(offer.model, prices) if offer else (None, nowhere)
    per_hour = None if price is None else price * plan.resources.gpus * plan.launch.nodes
    notes.append(f"price: {from_where}" if price is None else f"{price:.2f} USD a GPU hour ({from_where})")
    if offer is not None and offer.declared:
        notes.append(f"{offer.model} is declared in the inventory of the built-in cluster, not real")
    seconds, cost = _time_and_cost(plan, per_hour, notes)
    size = gpu_size_gib(offer) if offer else None
    return Estimate(
        gpu_memory_gib=total,
        breakdown=parts,
        shape=shape,
        gpu=offer.model if offer else None,
        gpu_total_gib=size,
        host_memory_mb=_host_memory_mb(full, shape),
        seconds=seconds,
        cost_usd=cost,
        usd_per_hour=per_hour,
        fits=None if total is None or size is None else total <= size * USABLE_SHARE,
        assumptions=tuple(notes),
        confidence=confidence if parts else 0.0,
    )


def gpu_memory(
    plan: TrainingPlan, beyond: float = 1.0, shape: ModelShape | None = None
) -> tuple[tuple[MemoryPart, ...], float, list[str]]:
    """The parts of one GPU's peak memory, how sure they are, and what was assumed. No parts: the model isn't known.

    `shape` is the model's, where more than its name is known of it. What a run was seen to need `beyond` the formula is
    a part of its own.
    """
    shape = shape or shape_for(plan, None).shape
    if shape is None:
        return (), 0.0, []
    setting, notes = setting_of_plan(plan, shape)
    confidence = 0.6 if shape.exact else 0.3
    parts = memory_parts(shape, setting)
    if beyond > 1:
        more = (beyond - 1) * sum(p.gib for p in parts)
        parts = (*parts, MemoryPart(name="seen beyond the formula", gib=round(more, 4)))
        notes.append(f"an attempt ran out of GPU memory: the formula's figure is taken {beyond:.2f} times")
    return parts, confidence, notes


def beyond_formula(estimate: Estimate, details: Mapping[str, str], beyond: float = 1.0) -> float:
    """How many times the formula's figure is needed at least, after a plan of that estimate ran out of GPU memory.

    `details` are the message's figures (`total_gib`, `free_gib`, `tried_gib`): what was in use and what was tried on
    top is a lower bound of the need. Without them the whole GPU is. `beyond` is the factor that is in the estimate.
    """
    total, free, tried = (_figure(details, f"{name}_gib") for name in ("total", "free", "tried"))
    size = estimate.gpu_total_gib
    if size is None or (total and not 0.9 <= total / size <= 1.1):
        size = total  # it ran on another type than the one that was estimated
    least = size * USABLE_SHARE if size else 0.0
    if total and free is not None and tried is not None:
        least = max(least, total - min(free, total) + tried)
    if not least or not estimate.gpu_memory_gib:
        return beyond
    # A hair more than was seen, so that the plan that failed is not held to fit.
    return max(beyond, beyond * 1.001 * least / estimate.gpu_memory_gib)


def _figure(details: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(details.get(name, ""))
    except ValueError:
        return None
    return value if 0 <= value < 1e6 else None


def gpu_size_gib(offer: GpuOffer) -> float | None:
    """The memory of an offered GPU in GiB: as the node says it, else as the catalogue does."""
    known = gpu_named(offer.model)
    size = offer.memory_mib or (known.memory_mib if known else None)
    return None if size is None else size / 1024


def with_repository(plan: TrainingPlan, profile: RepoProfile | None) -> TrainingPlan:
    """The plan with the repository's own defaults in the fields that nobody set."""
    if profile is None:
        return plan
    values = {p: v for p, v in repository_values(profile, None).items() if plan.get(p) is None}
    values |= {
        path: (value, "named in the repository")
        for path, value in (("model.id", profile.base_model), ("training.method", profile.method))
        if value and plan.get(path) is None
    }
    return apply_changes(plan, fitting(plan, values, Author.REPOSITORY))


def _unheard(plan: TrainingPlan, full: TrainingPlan, profile: RepoProfile | None) -> list[str]:
    own = repository_values(profile, None) if profile else {}
    if profile is not None:
        own |= {"training.method": (profile.method, ""), "model.id": (profile.base_model, "")}
    return [
        f"{path} = {plan.get(path)} is not passed on: the repository has no option for it"
        for path in unpassed(full)
        if own.get(path, (None, ""))[0] != plan.get(path)
    ]


def _offer(plan: TrainingPlan, facts: ClusterFacts, prices: Prices, gib: float | None) -> GpuOffer | None:
    """The GPU type that the plan would get: the cheapest that holds it, else the one with the most memory.

    Without a cluster it is the smallest known one of the type that the plan names.
    """
    offers = _named_type(plan, prices) if facts.kind is ClusterKind.NONE else gpu_offers(plan, facts, prices)
    least = plan.resources.gpu_memory_mib or 0
    for offer in offers:
        size = gpu_size_gib(offer)
        if size is not None and size * 1024 >= least and (gib is None or gib <= size * USABLE_SHARE):
            return offer
    return max(offers, key=lambda o: gpu_size_gib(o) or 0.0, default=None)


def _named_type(plan: TrainingPlan, prices: Prices) -> tuple[GpuOffer, ...]:
    """The catalogue's GPUs that the plan's word for one means (`A100`)."""
    wanted = plan.resources.gpu_model
    found = sorted((g for g in CATALOGUE if wanted and matches_model(wanted, g.name)), key=lambda g: g.memory_mib)
    count = plan.resources.gpus
    return tuple(GpuOffer(g.name, g.memory_mib, usd_per_hour(g.name, prices)[0], count, declared=False) for g in found)


def _host_memory_mb(plan: TrainingPlan, shape: ModelShape | None) -> int | None:
    """Host memory of a GPU job: the weights once while they are loaded (per process), and the usual base."""
    if shape is None:
        return None
    each = 4 if plan.training.precision in ("fp32", "tf32") else 2
    return round(plan.launch.nproc * (_HOST_BASE_MB / 2 + shape.params_b * 1e9 * each / 1e6) + _HOST_BASE_MB / 2)


def _on_cpu(plan: TrainingPlan, facts: ClusterFacts, notes: list[str]) -> Estimate:
    where = "the built-in cluster runs on this machine" if facts.kind is ClusterKind.BUILTIN else "no GPU is asked for"
    notes += ["no GPU is asked for: no GPU memory is needed", f"costs nothing: {where}, and only GPU hours are priced"]
    notes.append("host memory isn't estimated: the usual amount is asked for")
    seconds, _ = _time_and_cost(plan, 0.0, notes)
    return Estimate(
        seconds=seconds,
        cost_usd=Range(low=0, likely=0, high=0),
        usd_per_hour=0.0,
        fits=True,
        assumptions=tuple(notes),
        confidence=0.5,
    )


def _time_and_cost(plan: TrainingPlan, per_hour: float | None, notes: list[str]) -> tuple[Range | None, Range | None]:
    """Time and cost. The speed isn't known before a first run, so a time limit is the only bound there is."""
    limit = plan.limits.max_run_s
    if limit is None:
        notes.append("time isn't estimated: the training's speed isn't known and no time limit is set")
        return None, (Range(low=0, likely=0, high=0) if per_hour == 0 else None)
    notes.append("time: the speed isn't known, so the time limit is taken as the time")
    seconds = Range(low=0, likely=limit, high=limit)
    if per_hour is None:
        return seconds, None
    most = per_hour * limit / 3600
    return seconds, Range(low=0, likely=most, high=most)
