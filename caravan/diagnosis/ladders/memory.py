"""Against memory that ran out: on the host, and on the GPU.

What the failure says about the need is a lower bound, so a rung never asks for less than what was too little.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from caravan.diagnosis.ladders.case import Case, GpuChoice
from caravan.diagnosis.ladders.sharing import sharded, small_states, whole_segments
from caravan.values.base import Json
from caravan.values.failure import Repair
from caravan.values.plan import TrainingPlan

_SHORTEST: Final = 128  # tokens: below that a language model learns another task
_MICRO: Final = "training.micro_batch"
_ACCUMULATION: Final = "training.grad_accum"
_NONE: Final[Mapping[str, Json]] = {}
_FAR_OFF: Final = 1.25  # a need this many times the GPU is not mended by half the batch


def host_memory(case: Case) -> Iterator[Repair]:
    """More memory, fewer data loaders, a smaller batch; loaders first where a process of ours was the one that died."""
    workers_first = case.detail("where") == "process" and (case.plan.training.num_workers or 0) > 0
    for rung in (fewer_workers, more_memory) if workers_first else (more_memory, fewer_workers):
        yield from rung(case)
    yield from _without_offload(case)
    yield from _smaller_batch(case, {})


def _without_offload(case: Case) -> Iterator[Repair]:
    """What was moved from the GPU to the host stays on the GPU, where that is estimated to hold it."""
    for option, value in case.plan.training.options.items():
        if "offload" in option.lower() and str(value).lower() in ("true", "1", "cpu", "auto"):
            values: dict[str, Json] = {f"training.options.{option}": None}
            if case.outlook.fits(_plan(case, values)) is not False:
                yield from case.change(values, f"without {option}, which moves what the GPU has to the host")


def more_memory(case: Case) -> Iterable[Repair]:
    """Twice the memory or what the estimate knows, at most what the largest node that may take the job has.

    Once that was too little it is four times: three attempts then span a factor of eight.
    """
    resources = case.plan.resources
    limit = max(resources.memory_mb, resources.memory_max_mb or 0)
    largest = max((node.memory_mb for node in case.outlook.takers(case.plan)), default=0)
    times = 4 if case.mended("resources.memory_mb") else 2
    wanted = min(max(times * limit, case.outlook.host_need_mb(case.plan) or 0), largest)
    if wanted <= limit:
        return ()
    values: dict[str, Json] = {"resources.memory_mb": wanted}
    if resources.memory_max_mb is not None:  # reserved memory is sure, oversubscribed memory is not
        values = {"resources.memory_max_mb": None, **values}
    why = f"{wanted} MB of memory instead of {limit} MB, where it was killed; the largest node has {largest} MB"
    return case.change(values, why)


def fewer_workers(case: Case) -> Iterable[Repair]:
    """Half the data-loader workers, or none once that was not enough: each holds its part of the data."""
    workers = case.plan.training.num_workers or 0
    fewer = 0 if case.mended("training.num_workers") else workers // 2
    if workers == 0:
        return ()
    values = case.heard({"training.num_workers": fewer})
    return case.change(values, f"{fewer} data-loader workers instead of {workers}")


def cuda_memory(case: Case) -> Iterator[Repair]:
    """A smaller batch at equal effective batch, checkpointing, optimiser states in eight bits, a larger GPU, several,
    an adapter, a quantised model, shorter sequences; before all, unbroken segments where the memory was only cut up."""
    checkpointing, quantised = _checkpointing(case), _quantised(case)
    if case.detail("when") == "loading":
        yield from _for_the_weights(case, quantised)
        return
    segments, states = whole_segments(case), small_states(case)
    yield from _told(case, segments, "the free memory was enough, but in pieces")
    if _alone(case):
        yield from _with_batch(case, {**checkpointing, **segments} if checkpointing else {}, "gradient checkpointing")
    yield from _fitting_batch(case, segments) or _smaller_batch(case, checkpointing, segments)
    yield from _with_batch(case, {**checkpointing, **segments} if checkpointing else {}, "gradient checkpointing")
    if states:
        yield from _with_batch(case, states, "optimiser states in eight bits")
        yield from _with_batch(case, {**states, **checkpointing}, "optimiser states in eight bits")
    yield from _larger_gpu(case)
    yield from _with_batch(case, sharded(case), "the model's parts spread over several GPUs")
    if case.plan.training.type is not None and (adapter := _adapter(case)):
        yield from _with_batch(case, adapter, "an adapter in place of all weights")
        yield from _with_batch(case, {**adapter, **checkpointing}, "an adapter in place of all weights")
    if quantised:
        yield from _with_batch(case, quantised, "a quantised model")
        yield from _with_batch(case, {**quantised, **checkpointing}, "a quantised model")
    yield from _shorter(case, checkpointing)


def _for_the_weights(case: Case, quantised: Mapping[str, Json]) -> Iterator[Repair]:
    """The weights alone were too much: no batch and no checkpointing makes them smaller."""
    yield from _larger_gpu(case)
    yield from _told(case, sharded(case), "the model's parts spread over several GPUs")
    yield from _told(case, quantised, "a quantised model")


def _alone(case: Case) -> bool:
    """Whether a smaller batch makes the effective one smaller: what leaves the training as it is then comes first."""
    return case.plan.training.micro_batch is not None and any(_ACCUMULATION not in b for b in _batches(case))


def _fitting_batch(case: Case, segments: Mapping[str, Json]) -> tuple[Repair, ...]:
    """The largest smaller micro batch that the estimate holds to fit: no attempt is spent on those between."""
    known = next((batch for batch in _batches(case) if case.outlook.fits(_plan(case, batch)) is True), {})
    return tuple(_told(case, {**known, **segments} if known else {}, "the largest batch that is estimated to fit"))


def _smaller_batch(case: Case, checkpointing: Mapping[str, Json], more: Mapping[str, Json] = _NONE) -> Iterable[Repair]:
    """Half the batch, or a quarter where the need was far off.

    Three attempts are not spent on 4, 2 and 1: what is still too large after a first repair becomes 1, with
    checkpointing where the program has it.
    """
    batches = _batches(case)
    if not batches:
        return ()
    if case.mended("training.micro_batch"):
        return _told(case, {**batches[-1], **checkpointing, **more}, "the smallest batch")
    wanted = max(1, (case.plan.training.micro_batch or 1) // (4 if _need_ratio(case) > _FAR_OFF else 2))
    batch = next((b for b in batches if _micro(b) <= wanted), batches[-1])
    return _told(case, {**batch, **more}, "a smaller batch")


def _with_batch(case: Case, values: Mapping[str, Json], what: str) -> Iterable[Repair]:
    """The values with the largest batch that may fit then, the present one first."""
    for batch in ({}, *_batches(case)) if values else ():
        if case.outlook.fits(_plan(case, {**batch, **values})) is not False:
            return _told(case, {**batch, **values}, what)
    return ()


def _need_ratio(case: Case) -> float:
    """What was asked for at least, as a share of the GPU, by the message; 1 where it doesn't say."""
    total, free, tried = (case.number(f"{name}_gib") for name in ("total", "free", "tried"))
    if not total or free is None or tried is None:
        return 1.0
    return (total - min(free, total) + tried) / total


def _batches(case: Case) -> list[dict[str, Json]]:
    """The smaller micro batches, the largest first, with the accumulation that keeps the effective batch."""
    training = case.plan.training
    if training.micro_batch is None:
        return [case.heard({"training.micro_batch": 1})] if case.hears("training.micro_batch", 1) else []
    now, accumulated = training.micro_batch, training.grad_accum or 1
    if now == 1 or not case.hears("training.micro_batch", 1):
        return []
    effective = now * accumulated
    if not case.hears("training.grad_accum", effective):
        sizes = [now // 2**n for n in range(1, now.bit_length())]
        return [{"training.micro_batch": size} for size in sizes]
    return [
        {"training.micro_batch": size, "training.grad_accum": effective // size}
        for size in range(now - 1, 0, -1)
        if effective % size == 0
    ]


def _micro(batch: Mapping[str, Json]) -> int:
    return int(batch["training.micro_batch"])


def _checkpointing(case: Case) -> dict[str, Json]:
    if case.plan.training.grad_checkpointing:
        return {}
    return case.heard({"training.grad_checkpointing": True})


def _adapter(case: Case) -> dict[str, Json]:
    """The value that trains an adapter where all weights are trained, for a script that takes both."""
    option = case.profile.option(case.plan.flag("training.method") or "")
    full = case.plan.training.method == "full" and option is not None and "lora" in option.choices
    return case.heard({"training.method": "lora"}) if full else {}


def _quantised(case: Case) -> dict[str, Json]:
    """Values that train adapters on a 4-bit model, where the program has options for it."""
    training = case.plan.training
    method = (training.method or case.profile.method or "").lower()
    if method == "qlora" or training.quant_bits == 4:
        return {}
    option = case.profile.option(case.plan.flag("training.method") or "")
    if case.hears("training.method", "qlora") and not (option and option.choices and "qlora" not in option.choices):
        return {"training.method": "qlora"}
    adapter = {} if method in ("lora", "dora") else case.heard({"training.method": "lora"})
    quantised = case.heard({"training.quant_bits": 4})
    return {**adapter, **quantised} if quantised and (adapter or method in ("lora", "dora")) else {}


def _larger_gpu(case: Case) -> Iterable[Repair]:
    """The cheapest larger type that is estimated to hold it; without an estimate the next larger one."""
    offers = case.outlook.gpus(case.plan) if case.plan.resources.gpus else ()
    now = case.number("total_gib") or _size(case, offers)
    if now is None:
        return ()
    larger = [offer for offer in offers if offer.gib is not None and offer.gib > 1.05 * now]
    verdicts = [(offer, case.outlook.fits(_plan(case, {"resources.gpu_model": offer.model}))) for offer in larger]
    best = next((offer for offer, fits in verdicts if fits is True), None)
    best = best or min((o for o, fits in verdicts if fits is None), key=lambda o: o.gib or 0.0, default=None)
    if best is None:
        return ()
    why = f"{best.model} with {best.gib:.0f} GiB instead of {now:.0f} GiB"
    return case.change({"resources.gpu_model": best.model}, why)


def _size(case: Case, offers: Iterable[GpuChoice]) -> float | None:
    """The size of the GPU that was asked for, the smallest where the name means several; None: not known."""
    asked = case.plan.resources.gpu_model
    sizes = [o.gib for o in offers if o.gib is not None and asked is not None and case.outlook.matches(asked, o.model)]
    return min(sizes, default=None)


def _shorter(case: Case, checkpointing: Mapping[str, Json]) -> Iterator[Repair]:
    """Half the sequence length: it trains something else, so a person is always asked."""
    length = (case.plan.training.max_len or 0) // 2
    values = case.heard({"training.max_len": length}) if length >= _SHORTEST else {}
    if values:
        yield from _with_batch(case, values, "shorter sequences")
        yield from _with_batch(case, {**values, **checkpointing}, "shorter sequences")


def _plan(case: Case, values: Mapping[str, Json]) -> TrainingPlan:
    return case.tried(values) or case.plan


def _told(case: Case, values: Mapping[str, Json], what: str) -> Iterable[Repair]:
    """The change, with each value before and after in its reason."""
    if not values:
        return ()
    if _MICRO in values and _ACCUMULATION not in values and case.plan.training.micro_batch is not None:
        effective = int(str(values[_MICRO])) * (case.plan.training.grad_accum or 1)
        what += f", so that {effective} samples make a step on each GPU: the program has no option to gather more"
    told = ", ".join(
        f"{path.split('.')[-1]} {_text(case.plan.get(path))} → {_text(new)}" for path, new in values.items()
    )
    return case.change({**values, **_same_size(case)}, f"{what}: {told}")


def _same_size(case: Case) -> dict[str, Json]:
    """Where any GPU would do, not a smaller one than that on which the larger plan failed."""
    asked, total = case.plan.resources, case.number("total_gib")
    free_choice = asked.gpus > 0 and asked.gpu_model is None and asked.gpu_memory_mib is None
    if (
        not free_choice
        or not total
        or case.outlook.fits(case.plan) is not None
        or len(case.outlook.gpus(case.plan)) < 2
    ):
        return {}
    return {"resources.gpu_memory_mib": int(total * 1024)}


def _text(value: Json) -> str:
    return "unset" if value is None else str(value)
