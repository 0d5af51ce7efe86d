"""The estimate: memory of a GPU from its tensors, host memory, time and cost as far as they are known.

What isn't known stays None and `assumptions` says why; nothing unknown is ever zero. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from caravan.planning.catalogue import CATALOGUE, USABLE_SHARE, Gpu, Prices, gpu_like, matches_model
from caravan.planning.cluster_fit import GpuOffer, gpu_offers, takers
from caravan.planning.command import unpassed
from caravan.planning.config_keys import repository_values
from caravan.planning.dataset_size import dataset_size
from caravan.planning.duration import RunTime, bounded, run_time
from caravan.planning.flags import fitting
from caravan.planning.kept_room import cpu_memory_mb
from caravan.planning.learned import memory_correction, speed_correction, subject_of, with_measured
from caravan.planning.margin import high_of
from caravan.planning.memory import Setting, memory_parts
from caravan.planning.memory_plan import setting_of_plan
from caravan.planning.model_shape import shape_for
from caravan.planning.prices import node_usd_per_hour, unusable_meta, usd_per_hour
from caravan.planning.smoke import by_measurement, speed_key
from caravan.values.estimate import Estimate, Measured, MemoryPart, Range
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.measurement import Measurement
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
    learned: Sequence[Measurement] = (),
) -> Estimate:
    """What the plan will need on this cluster; what first steps of such a plan have shown replaces what is computed.

    `profile` fills in what the repository does itself where the plan leaves a field to it, and lets the estimate say
    which wishes no option of the repository takes. `beyond` is how many times the formula's figure a run of this
    training was seen to need at least (`beyond_formula`). `learned`: what earlier runs were measured to need, by which
    the formulas' figures are corrected (`caravan.planning.learned`).
    """
    computed = _computed(plan, facts, prices, profile, beyond, learned)
    if measured is None or measured.key != speed_key(plan):
        return computed
    return by_measurement(computed, measured.smoke, max_run_s=plan.limits.max_run_s)


def _computed(
    plan: TrainingPlan,
    facts: ClusterFacts,
    prices: Prices,
    profile: RepoProfile | None,
    beyond: float,
    learned: Sequence[Measurement],
) -> Estimate:
    full = with_repository(plan, profile)
    notes = list(_unheard(plan, full, profile))
    if plan.resources.gpus == 0:
        return _on_cpu(full, facts, prices, profile, notes)
    shape, told = shape_for(full, profile)
    parts, confidence, more = gpu_memory(full, beyond, shape, profile)
    notes += [*more, *told]
    high, formula = gpu_memory_high(full, parts, shape, profile), sum(p.gib for p in parts)
    subject = subject_of(full, shape)
    seen = memory_correction(subject, formula / max(1.0, beyond), learned, beyond) if parts and learned else None
    if seen is not None:
        ratio = seen.ratio / max(1.0, beyond)
        parts, high = with_measured(parts, ratio, seen.run_id), high and round(high * ratio, 4)
        notes.insert(0, f"GPU memory: the formula says {formula / max(1.0, beyond):.1f} GiB, {seen.text}")
    total = sum(p.gib for p in parts) if parts else None
    offer = _offer(plan, facts, prices, total)
    price = offer.usd_per_hour if offer else None
    per_hour = None if price is None else price * plan.resources.gpus * plan.launch.nodes
    where = offer.price_source if offer else _nowhere(plan, facts)
    notes.append(f"price: {where}" if price is None else f"{price:.2f} USD a GPU hour ({where})")
    if offer is not None:
        notes += _of_the_offer(offer, plan, facts)
    faster = speed_correction(subject._replace(gpu=offer.model), learned) if offer and learned else None
    found = _run_time(full, shape, gpu_like(offer.model) if offer else None, profile, faster.ratio if faster else 1.0)
    notes += [f"time of a step: {faster.text}"] if faster and found.step_s else []
    notes += found.notes
    size = gpu_size_gib(offer) if offer else None
    return Estimate(
        gpu_memory_gib=total,
        gpu_memory_high_gib=high,
        breakdown=parts,
        shape=shape,
        gpu=offer.model if offer else None,
        gpu_total_gib=size,
        host_memory_mb=host_memory_mb(full, shape),
        seconds=found.seconds,
        cost_usd=_cost(found.seconds, per_hour),
        usd_per_hour=per_hour,
        fits=None if total is None or size is None else total <= size * USABLE_SHARE,
        formula_gib=formula if seen is not None else None,
        step_s=found.step_s.likely if found.step_s else None,
        learned_ratio=seen.ratio if seen is not None else None,
        assumptions=tuple(notes),
        confidence=(max(confidence, 0.9 if seen.exact else 0.7) if seen else confidence) if parts else 0.0,
    )


def gpu_memory(
    plan: TrainingPlan, beyond: float = 1.0, shape: ModelShape | None = None, profile: RepoProfile | None = None
) -> tuple[tuple[MemoryPart, ...], float, list[str]]:
    """The parts of one GPU's peak memory, how sure they are, and what was assumed. No parts: the model isn't known.

    `shape` is the model's, where more than its name is known of it; `profile` is the repository's, whose libraries,
    adapters and sharding count where the plan says nothing. What a run was seen to need `beyond` the formula is
    a part of its own.
    """
    shape = shape or shape_for(plan, None).shape
    if shape is None:
        return (), 0.0, []
    setting, notes = setting_of_plan(plan, shape, profile)
    confidence = 0.6 if shape.exact else 0.3
    parts = memory_parts(shape, setting)
    if beyond > 1:
        more = (beyond - 1) * sum(p.gib for p in parts)
        parts = (*parts, MemoryPart(name="seen beyond the formula", gib=round(more, 4)))
        notes.append(f"an attempt ran out of GPU memory: the formula's figure is taken {beyond:.2f} times")
    return parts, confidence, notes


def gpu_memory_high(
    plan: TrainingPlan, parts: tuple[MemoryPart, ...], shape: ModelShape | None, profile: RepoProfile | None = None
) -> float | None:
    """What a GPU must hold of a plan with these parts of `gpu_memory`, in GiB; None where there are none."""
    if not parts or shape is None:
        return None
    setting, _ = setting_of_plan(plan, shape, profile)
    return round(high_of(parts, shape, setting), 4)


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
    # The factor is the formula's, without what earlier runs have corrected.
    by_formula = estimate.learned_ratio is not None and estimate.smoke is None
    figure = estimate.formula_gib if by_formula else estimate.gpu_memory_gib
    if not least or not figure:
        return beyond
    # A hair more than was seen, so that the plan that failed is not held to fit.
    return max(beyond, beyond * 1.001 * least / figure)


def _figure(details: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(details.get(name, ""))
    except ValueError:
        return None
    return value if 0 <= value < 1e6 else None


def gpu_size_gib(offer: GpuOffer) -> float | None:
    """The memory of an offered GPU in GiB: as the node says it, else as the catalogue does."""
    known = gpu_like(offer.model)
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
    if not found and wanted and (part := gpu_like(wanted)) is not None:
        found = [part]  # a slice of a GPU
    known = ((g, usd_per_hour(g.name, prices)) for g in found)
    return tuple(GpuOffer(g.name, g.memory_mib, p.usd, count, declared=False, price_source=p.source) for g, p in known)


def _nowhere(plan: TrainingPlan, facts: ClusterFacts) -> str:
    """Why there is no GPU type to speak of, and what to give."""
    if facts.kind is not ClusterKind.NONE:
        return "no such GPU on the cluster"
    if plan.resources.gpu_model is None:
        return "no cluster is chosen, and no GPU type is named"
    return (
        f"{plan.resources.gpu_model} isn't in the catalogue of GPU types, so neither its memory nor its speed nor its "
        "price is known; name a type such as A100, L40S or RTX 4090, or choose a cluster that has it"
    )


def _of_the_offer(offer: GpuOffer, plan: TrainingPlan, facts: ClusterFacts) -> list[str]:
    """What a person should know of the GPU type that the plan would get."""
    notes = []
    if offer.declared:
        notes.append(f"{offer.model} is declared in the inventory of the built-in cluster, not real")
    if gpu_like(offer.model) is None:
        size = "its memory is as the node says" if offer.memory_mib else "its memory isn't known either"
        notes.append(f"{offer.model} isn't in the catalogue of GPU types: {size}; give its price in prices.toml")
    return notes + [line for node in takers(plan, facts) for line in unusable_meta(node)]


def host_memory_mb(plan: TrainingPlan, shape: ModelShape | None) -> int | None:
    """Host memory of a GPU job in MB: the weights once while they are loaded (per process), and the usual base."""
    if shape is None:
        return None
    each = 4 if plan.training.precision in ("fp32", "tf32") else 2
    return round(plan.launch.nproc * (_HOST_BASE_MB / 2 + shape.params_b * 1e9 * each / 1e6) + _HOST_BASE_MB / 2)


def _on_cpu(
    plan: TrainingPlan, facts: ClusterFacts, prices: Prices, profile: RepoProfile | None, notes: list[str]
) -> Estimate:
    per_hour, where = _cpu_price(plan, facts, prices)
    notes += ["no GPU is asked for: no GPU memory is needed", where]
    notes += [line for node in takers(plan, facts) for line in unusable_meta(node)]
    shape = shape_for(plan, profile).shape
    memory = cpu_memory_mb(plan, shape, setting_of_plan(plan, shape, profile)[0]) if shape is not None else None
    told = f"host memory: {memory} MB, with weights and their states in 32 bit" if memory else ""
    notes.append(told or "host memory isn't estimated: the usual amount is asked for")
    found = _run_time(plan, shape, None, profile)
    return Estimate(
        host_memory_mb=memory,
        seconds=found.seconds,
        cost_usd=_cost(found.seconds, per_hour),
        usd_per_hour=per_hour,
        fits=True,
        assumptions=(*notes, *found.notes),
        confidence=0.5,
    )


def _cpu_price(plan: TrainingPlan, facts: ClusterFacts, prices: Prices) -> tuple[float, str]:
    """US dollars an hour of all nodes of a job without GPUs, and who says so: of those it may get, the dearest."""
    known = [p for node in takers(plan, facts) if (p := node_usd_per_hour(node, prices)).usd is not None]
    if known:
        dearest = max(known, key=lambda p: p.usd or 0.0)
        return (dearest.usd or 0.0) * plan.launch.nodes, f"{dearest.usd:.2f} USD a node hour ({dearest.source})"
    if facts.kind is ClusterKind.BUILTIN:
        return 0.0, "costs nothing: the built-in cluster runs on this machine"
    give = "usd_per_hour in prices.toml or caravan_usd_per_hour in the nodes' meta prices them"
    return 0.0, f"costs nothing: no GPU is asked for, and nobody gives a price for nodes without one ({give})"


def _run_time(
    plan: TrainingPlan, shape: ModelShape | None, gpu: Gpu | None, profile: RepoProfile | None, slower: float = 1.0
) -> RunTime:
    """The time of a plan with the repository's values in it; `gpu` None: CPUs, or a type that is not known.

    `slower`: how many times the formula's time of a step earlier runs took. The step's own figure stays the formula's.
    """
    setting = setting_of_plan(plan, shape, profile)[0] if shape is not None else Setting()
    found = run_time(plan, shape, setting, gpu, dataset_size(plan, profile))
    if found.seconds is not None and found.step_s is not None and found.steps and slower != 1:
        more = 1 + found.steps * found.step_s.likely * (slower - 1) / found.seconds.likely
        found = found._replace(seconds=found.seconds.times(more))
    return bounded(found, plan.limits.max_run_s)


def _cost(seconds: Range | None, per_hour: float | None) -> Range | None:
    """What that time costs; without a price, or a time where there is one, nobody knows."""
    if per_hour is None or (seconds is None and per_hour):
        return None
    if seconds is None:
        return Range(low=0, likely=0, high=0)
    return seconds.priced(per_hour)
