"""The memory calculator: a training's figure with its margin, GPUs that hold it, what is largest, what a change does.

Pure. It goes by a model's shape and a training's setting; of a cluster it knows the GPU types and what they cost.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from caravan.planning.catalogue import CATALOGUE, Gpu, gpu_like
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.margin import high_of, holds
from caravan.planning.memory import Setting, memory_parts
from caravan.planning.memory_plan import ALL_TARGETS, DEFAULT_RANK
from caravan.planning.prices import usd_per_hour
from caravan.planning.speed import step_time
from caravan.planning.trial import trial_work
from caravan.values.estimate import MemoryPart
from caravan.values.job import ClusterFacts
from caravan.values.prices import Prices
from caravan.values.shape import ModelShape

MEANS: Final = {
    "weights": "the model's weights, as they lie on one GPU",
    "adapter": "the adapters' weights, in 32 bit",
    "gradients": "one for each trained parameter, as far as they are there at the peak",
    "optimizer states": "what the optimizer keeps for each trained parameter",
    "optimizer temporaries": "what its step needs for a moment",
    "activations": "what the forward pass keeps for the backward pass",
    "logits": "scores over the vocabulary, and their gradient",
    "buckets": "buffers in which GPUs exchange gradients",
    "gathered weights": "weights that are put together, or made whole from 4 or 8 bits, for a moment",
    "cast weights": "16-bit copies of 32-bit weights that autocast keeps",
    "averaged weights": "a running average of the weights, in 32 bit",
    "other tensors": "rotary tables, masks, lists of the step, temporaries, rounding",
    "workspace": "cuBLAS's own",
    "allocator slack": "what torch reserves beyond what it uses",
    "CUDA context": "the driver's, with loaded kernels; outside of torch",
    "seen beyond the formula": "what a run was seen to need more",
}
"""What each line of a breakdown is."""
_MOST_BATCH: Final = 4096
_MOST_TOKENS: Final = 1 << 20
_ADAMS: Final = ("adamw", "adam", "adamw_fused")


class Figure(NamedTuple):
    """A peak in GiB, its parts that sum to it, and its high end, which a GPU must hold."""

    parts: tuple[MemoryPart, ...]
    gib: float
    high: float


class Offer(NamedTuple):
    """A GPU type that is to be had: memory in GiB, US dollars an hour of one (None: not known) and who says so."""

    name: str
    memory_gib: float
    usd_per_hour: float | None
    source: str
    most: int | None = None
    """As many as one node has; None: not known."""

    @property
    def kind(self) -> Gpu | None:
        """The catalogue's row, for its speed; None: the catalogue doesn't know it."""
        return gpu_like(self.name)


class Step(NamedTuple):
    """A change of the training: what it saves in GiB on each GPU (negative: it takes more), and what it costs."""

    name: str
    setting: Setting
    gib: float
    saves: float
    costs: str


def figure(shape: ModelShape, setting: Setting, beyond: float = 1.0) -> Figure:
    """The peak of one GPU; `beyond`: how many times the formula a run was seen to need."""
    parts = memory_parts(shape, setting)
    total = sum(p.gib for p in parts)
    if beyond > 1:
        parts = (*parts, MemoryPart(name="seen beyond the formula", gib=round((beyond - 1) * total, 4)))
        total = sum(p.gib for p in parts)
    return Figure(parts, total, high_of(parts, shape, setting))


def catalogue_offers(prices: Prices) -> tuple[Offer, ...]:
    """All GPU types of the catalogue, the cheapest first, those without a price last."""
    found = ((g, usd_per_hour(g.name, prices)) for g in CATALOGUE)
    return _sorted(Offer(g.name, g.memory_mib / 1024, p.usd, p.source) for g, p in found)


def cluster_offers(facts: ClusterFacts, prices: Prices) -> tuple[Offer, ...]:
    """The GPU types of a cluster's usable nodes: of equal ones the dearest price and the least memory count."""
    found: dict[str, Offer] = {}
    for node in facts.usable_nodes():
        for group in gpu_groups(node):
            price, kind = usd_per_hour(group.model, prices, node), gpu_like(group.model)
            mib = group.memory_mib or (kind.memory_mib if kind else None)
            if mib is None:
                continue  # nothing can be said of it
            offer, before = Offer(group.model, mib / 1024, price.usd, price.source, group.count), found.get(group.model)
            if before is not None:
                dearer = max(offer, before, key=lambda o: (o.usd_per_hour is None, o.usd_per_hour or 0.0))
                most, least = max(group.count, before.most or 0), min(offer.memory_gib, before.memory_gib)
                offer = dearer._replace(most=most, memory_gib=least)
            found[group.model] = offer
    return _sorted(found.values())


def _sorted(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    return tuple(sorted(offers, key=lambda o: (o.usd_per_hour is None, o.usd_per_hour or 0.0, o.memory_gib, o.name)))


def holding(needed: Figure, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    """The offers that hold the figure's high end."""
    return tuple(o for o in offers if holds(o.memory_gib, needed.high))


def largest_batch(shape: ModelShape, setting: Setting, memory_gib: float) -> int:
    """The largest micro batch that a GPU of that memory holds; 0: not even one."""
    return _largest(lambda n: _fits(shape, setting._replace(micro_batch=n), memory_gib), _MOST_BATCH)


def largest_length(shape: ModelShape, setting: Setting, memory_gib: float) -> int:
    """The longest sequence in tokens that a GPU of that memory holds, no longer than the model's; 0: not one token."""
    most = min(shape.max_positions or _MOST_TOKENS, _MOST_TOKENS)
    return _largest(lambda n: _fits(shape, setting._replace(seq_len=n), memory_gib), most)


def _fits(shape: ModelShape, setting: Setting, memory_gib: float) -> bool:
    return holds(memory_gib, figure(shape, setting).high)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, where no larger one does once one doesn't."""
    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def steps(shape: ModelShape, setting: Setting, gpu: Gpu | None = None, gpus: int | None = None) -> tuple[Step, ...]:
    """What single changes would do to the memory of each GPU; `gpus`: over how many it could be spread.

    By how much slower it gets is said for that GPU type, where its speed is known.
    """
    old = figure(shape, setting)
    before, found = old.gib, []
    for name, changed, costs in _changes(setting, gpus or (setting.gpus if setting.gpus > 1 else 2)):
        then = figure(shape, changed)
        after = then.gib
        costs += _widened(old, then) if changed.method == "qlora" and not changed.narrow else ""
        time = _slower(shape, setting, changed, gpu)
        if abs(before - after) >= 0.01:
            found.append(Step(name, changed, after, before - after, f"{costs}{time}"))
    return tuple(found)


def _changes(setting: Setting, gpus: int) -> Iterator[tuple[str, Setting, str]]:
    if setting.micro_batch > 1:
        text = f"micro batch 1, accumulation {(setting.grad_accum or 1) * setting.micro_batch}"
        accumulated = (setting.grad_accum or 1) * setting.micro_batch
        yield text, setting._replace(micro_batch=1, grad_accum=accumulated), "the same training"
    if setting.grad_checkpointing:
        yield "no checkpointing", setting._replace(grad_checkpointing=False), "nothing is recomputed"
    else:
        yield "checkpointing", setting._replace(grad_checkpointing=True), "the forward pass is computed twice"
    if not setting.flash_attention:
        yield "flash or SDPA attention", setting._replace(flash_attention=True), "the same result"
    if not setting.fused_ce:
        yield "fused cross-entropy", setting._replace(fused_ce=True), "a library such as Liger; the same result"
    yield from _methods(setting)
    if setting.method == "full" and setting.optimizer in _ADAMS:
        yield "8-bit AdamW", setting._replace(optimizer="adamw8bit"), "states in 8 bit: about the same result"
        yield "Adafactor", setting._replace(optimizer="adafactor"), "no momentum: other learning rates"
    if setting.weights_dtype == "fp32" and setting.compute_dtype != "fp32" and setting.method == "full":
        pure = setting._replace(weights_dtype=setting.compute_dtype, master_fp32=False)
        yield f"weights in {setting.compute_dtype}", pure, "no 32-bit copy: small updates may be lost"
    if setting.parallel in ("none", "ddp"):
        for name, kind in (("ZeRO-2", "zero2"), ("ZeRO-3", "zero3"), ("FSDP", "fsdp")):
            spread = setting._replace(parallel=kind, gpus=gpus)
            yield f"{name} over {gpus} GPUs", spread, f"{gpus} GPUs, which exchange what is spread"


def _methods(setting: Setting) -> Iterator[tuple[str, Setting, str]]:
    one = setting._replace(master_fp32=False, weights_dtype=setting.compute_dtype)
    if setting.method == "full":
        one = one._replace(lora_targets=ALL_TARGETS, lora_rank=DEFAULT_RANK, trainable_params=None)
        how = f"rank {DEFAULT_RANK}, all matrices"
        yield f"LoRA ({how})", one._replace(method="lora"), "trains adapters, not the model"
        four, costs = one._replace(method="qlora", quant_bits=4), "adapters on a 4-bit model"
        yield f"QLoRA ({how})", four, costs
    elif setting.quant_bits is None and setting.method in ("lora", "dora"):
        four, costs = one._replace(method="qlora", quant_bits=4), "the base model in 4 bits"
        yield "QLoRA", four, costs
    else:
        return
    if not setting.grad_checkpointing:
        yield "QLoRA with checkpointing", four._replace(grad_checkpointing=True), f"{costs}; recomputed"


def _widened(before: Figure, after: Figure) -> str:
    """Why 4 bits may take more: peft casts what isn't quantised to 32 bit, and with it what the blocks keep."""
    old, new = (sum(p.gib for p in f.parts if p.name == "activations") for f in (before, after))
    return f"; but peft keeps activations in 32 bit ({new - old:+.1f} GiB)" if new - old >= 0.05 else ""


def _slower(shape: ModelShape, before: Setting, after: Setting, gpu: Gpu | None) -> str:
    """How many times as long a token takes on that GPU type, in words; empty where it isn't known or is the same."""
    if gpu is None:
        return ""
    old, new = (step_time(trial_work(shape, s), gpu) for s in (before, after))
    if old is None or new is None:
        return ""
    ratio = (new.seconds / new.tokens) / (old.seconds / old.tokens)
    if 0.97 <= ratio <= 1.03:
        return ""
    if before.gpus != after.gpus:
        return f"; {1 / ratio:.2g} times as fast together"
    return f"; {ratio:.2f} times as long"
