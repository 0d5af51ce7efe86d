"""How long one step of a training takes on a GPU type, from first principles.

A step is the sum of its parts: matrix products and attention by their operations, what is read and written between
them by the memory's bandwidth, 4-bit weights made whole again, what GPUs tell each other, the optimizer. None of it
runs faster than the host can start it. Pure; it knows no plan, no cluster and no price.

Sources. Operations of a token: 2 for each weight it is multiplied with, as many for the gradient of its input and
again for that of the weight (Kaplan et al. 2020, arXiv 2001.08361); frozen weights need no gradient of their own.
Recomputing a block's forward pass in the backward one costs 2 more (Chen et al. 2016, arXiv 1604.06174). Attention: two
products of length x width forward, five backward where blockwise (Dao 2023, arXiv 2307.08691), of which a causal mask
leaves half. `Constants` are fitted to published speeds (`bench/speed.py --fit`).
"""

import math
from typing import Final, NamedTuple

from caravan.planning.catalogue import Gpu
from caravan.values.shape import Family, ModelShape


class Work(NamedTuple):
    """A training as its speed depends on it. `gpus`: all of them, `nodes` machines; `seq_len` in tokens that are there.

    `parallel`: none, ddp, zero1, zero2, zero3, fsdp. `rank`: of adapters, where the base is frozen.
    """

    shape: ModelShape
    full: bool = True
    rank: int = 0
    adapted: int = 7
    dora: bool = False
    trainable_b: float | None = None
    compute: str = "bf16"
    quant_bits: int | None = None
    micro_batch: int = 1
    pooled: bool = False
    seq_len: int = 1024
    grad_accum: int = 1
    checkpointing: bool = False
    flash: bool = True
    compiled: bool = False
    fused_ce: bool = False
    optimizer: str = "adamw"
    gpus: int = 1
    nodes: int = 1
    parallel: str = "none"
    offload: bool = False


class Constants(NamedTuple):
    """What no data sheet says, fitted over published speeds (see `bench/speed.py`)."""

    gemm: float = 0.7451
    """Share of a GPU's dense TFLOPS that large matrix products reach."""
    attention: float = 0.582
    """The same for blockwise attention."""
    scores: float = 20.4
    """Times that scores are read or written where attention isn't blockwise, forward and backward."""
    plain: float = 74.7
    """Times that a block reads or writes its hidden width between products, in each pass."""
    adapter: float = 19.9
    """Times that a matrix's input is read or written for an adapter beside it, in each pass."""
    logits: float = 17.7
    """Times that the logits are read or written, at 4 bytes."""
    launch: float = 0.00113
    """Seconds in which the host starts one pass of one block."""
    launch_adapter: float = 0.302
    """By how much of that adapters make it more."""
    launch_sharded: float = 0.68
    """By how much of that gathering each block's weights makes it more."""
    dequant: float = 21.8
    """Bytes moved for each 4-bit weight that is made whole, in each pass."""
    link: float = 0.389
    """Share of a link's bandwidth that collectives reach."""
    exposed: float = 0.702
    """Share of the talk between GPUs that nothing else hides."""
    paging: float = 12.0
    """GB/s at which one GPU's states come from the host's memory and go back."""
    offload: float = 0.8
    """Billions of weights a second that a node's processors update, where the states are offloaded to them."""
    compiled: float = 0.321
    """Share of the reading and writing between products that is left in compiled code."""
    expert: float = 1.0
    """Share of the products' speed that is left where tokens are sent to experts."""


FITTED: Final = Constants()
SPREAD: Final = 1.6
"""By what factor the truth may lie above or below the likely time: holds for 94 of 100 published speeds of a source
that the constants were fitted without."""
WIDER: Final = 2.5
"""The same where states are offloaded or nodes talk over a network of which nothing is known: both differ tenfold."""
_BYTES: Final = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}
_HIDE: Final = 4.0  # how sharply the slower of host and GPU decides: a p-norm


class Step(NamedTuple):
    """Seconds of an update of the weights, its parts, and the tokens of all GPUs in it."""

    seconds: float
    parts: dict[str, float]
    tokens: int

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second of all GPUs together."""
        return self.tokens / self.seconds


def step_time(work: Work, gpu: Gpu, constants: Constants = FITTED) -> Step | None:
    """The time of one update on those GPUs.

    None where the formula doesn't know such a model (convolutions), or where no number comes out.
    """
    if work.shape.family in (Family.CNN, Family.UNET, Family.UVIT, Family.OTHER):
        return None
    flops, bandwidth = _peak(gpu, work.compute), gpu.bandwidth_gbs * 1e9
    micro = _micro_step(work, flops, bandwidth, constants)
    busy, launch = sum(micro.values()), _launch(work, constants)
    each = (busy**_HIDE + launch**_HIDE) ** (1 / _HIDE)
    gathered, summed = _talk(work, gpu, constants)
    accum = max(1, work.grad_accum)
    parts = {name: seconds * accum for name, seconds in micro.items()}
    parts["waiting for the host"] = (each - busy) * accum
    parts["between GPUs"] = _exposed(gathered, each, constants) * accum + _exposed(summed, each, constants)
    parts["optimizer"] = _optimizer(work, gpu, constants)
    total = sum(parts.values())
    if not math.isfinite(total) or total <= 0:
        return None
    return Step(total, parts, work.micro_batch * work.seq_len * accum * max(1, work.gpus))


def _exposed(talk: float, busy: float, constants: Constants) -> float:
    """What of the talk is waited for: what is longer than the work it hides behind, and a share of the rest."""
    return max(0.0, talk - busy) + constants.exposed * min(talk, busy)


def _peak(gpu: Gpu, compute: str) -> float:
    """The dense operations a second of a GPU in that type; bf16 where it has none is computed in fp32."""
    rates = {"bf16": gpu.bf16_tflops, "fp16": gpu.fp16_tflops, "tf32": (gpu.bf16_tflops or 0) / 2, "fp32": None}
    return (rates.get(compute, gpu.bf16_tflops) or gpu.fp32_tflops) * 1e12


def _micro_step(work: Work, flops: float, bandwidth: float, constants: Constants) -> dict[str, float]:
    """Seconds of forward and backward of one micro-batch on one GPU, by what they go into."""
    shape, tokens, width = work.shape, work.micro_batch * work.seq_len, _BYTES.get(work.compute, 2)
    again = 1 if work.checkpointing else 0
    passes = 2 + int(work.full) + again
    inside, head = block_weights(shape), 0.0 if work.pooled else head_weights(shape)
    vocab = 0 if work.pooled else shape.vocab
    products = 2 * tokens * (inside * passes + head * (passes - again))
    speed = flops * constants.gemm * (constants.expert if shape.experts else 1.0)
    weights = (shape.params_b * 1e9 if shape.experts else inside + head) * width * passes / bandwidth
    moved = tokens * shape.layers * (shape.hidden + _inner(shape) / 4) * width / bandwidth
    plainer = constants.compiled if work.compiled else 1.0
    parts = {
        "matrix products": max(products / speed, weights),
        "attention": _attention(work, again) / (flops * constants.attention),
        "between products": moved * constants.plain * (2 + again) * plainer,
        "logits": tokens * vocab * 4 * constants.logits * (0.5 if work.fused_ce else 1.0) / bandwidth,
    }
    if not work.full and work.rank:
        parts["adapters"] = (
            moved * constants.adapter * work.adapted * (2 + again) / 7 * (2 if work.dora else 1) * plainer
        )
    if not work.flash:
        seen = tokens * work.seq_len * shape.heads * shape.layers * width
        parts["scores"] = seen * constants.scores * (1 + 0.4 * again) / bandwidth
    if work.quant_bits:
        parts["making weights whole"] = inside_all(shape) * constants.dequant * (2 + again) / bandwidth
    return parts


def _attention(work: Work, again: int) -> float:
    """Operations of scores and mixing, all blocks."""
    shape = work.shape
    seen = min(work.seq_len, shape.sliding_window or work.seq_len)
    one = 4 * work.micro_batch * work.seq_len * seen * shape.heads * shape.head_dim * shape.layers
    causal = shape.family not in (Family.ENCODER, Family.VIT, Family.DIT, Family.AUDIO)
    return one * (3.5 + again) * (0.5 if causal and work.flash else 1.0)


def _launch(work: Work, constants: Constants) -> float:
    """Seconds that the host needs to start a micro-batch's kernels."""
    more = 1.0 + (constants.launch_adapter if not work.full and work.rank else 0.0)
    if work.parallel in ("fsdp", "zero3"):
        more += constants.launch_sharded
    passes = 3 + (1 if work.checkpointing else 0)
    return work.shape.layers * passes * constants.launch * more * (0.5 if work.compiled else 1.0)


def _talk(work: Work, gpu: Gpu, constants: Constants) -> tuple[float, float]:
    """Seconds of gathering weights in a micro-batch, and of summing gradients (once an update unless sharded)."""
    if work.gpus <= 1 or work.parallel == "none":
        return 0.0, 0.0
    share = (work.gpus - 1) / work.gpus
    speed = (min(gpu.link_gbs, NETWORK_GBS) if work.nodes > 1 else gpu.link_gbs) * 1e9 * constants.link
    each = (work.quant_bits or 16) / 8
    gradients = trainable(work) * (4 if work.compute == "fp32" else 2) * share / speed
    if work.parallel in ("fsdp", "zero3"):
        return work.shape.params_b * 1e9 * each * share * 2 / speed + gradients, 0.0
    return 0.0, 2 * gradients


NETWORK_GBS: Final = 12.5
"""GB/s between nodes, where nothing is known of their network: 100 Gbit/s, what clusters for training have at least."""


def _optimizer(work: Work, gpu: Gpu, constants: Constants) -> float:
    """Seconds of an update: each state is read and written once; what the GPU can't hold comes from the host."""
    weights = trainable(work) / (work.gpus if work.parallel in ("fsdp", "zero1", "zero2", "zero3") else 1)
    if work.offload:
        return trainable(work) / (constants.offload * 1e9 * work.nodes)
    small = "8bit" in work.optimizer or work.optimizer.startswith("sgd")
    paged = 0.0
    if "paged" in work.optimizer:
        held = weights * (2 + (2 if small else 8)) - gpu.memory_mib * 1048576
        paged = 2 * max(0.0, held) / (constants.paging * 1e9)
    return weights * (14 if small else 28) / (gpu.bandwidth_gbs * 1e9) + paged


def trainable(work: Work) -> float:
    """The number of weights that are trained."""
    shape = work.shape
    if work.trainable_b is not None:
        return work.trainable_b * 1e9
    if work.full:
        return shape.params_b * 1e9
    ends = 4 * 2 * shape.hidden + 3 * (shape.hidden + _inner(shape))
    return work.rank * shape.layers * ends * min(1.0, work.adapted / 7)


def _inner(shape: ModelShape) -> int:
    """The inner width that a token sees in a block."""
    if shape.experts:
        return (shape.moe_intermediate or shape.intermediate) * shape.experts_per_token + shape.shared_intermediate
    return shape.intermediate


def head_weights(shape: ModelShape) -> float:
    """Weights of the output matrix."""
    return float(shape.vocab * shape.hidden)


def inside_all(shape: ModelShape) -> float:
    """Weights of all blocks."""
    ends = shape.vocab * shape.hidden * (1 if shape.tied else 2)
    return max(shape.params_b * 1e9 - ends, 0.3 * shape.params_b * 1e9)


def block_weights(shape: ModelShape) -> float:
    """Weights of all blocks that a token is multiplied with: of experts, those that are chosen."""
    ends = shape.vocab * shape.hidden * (1 if shape.tied else 2)
    return max(shape.active_params_b * 1e9 - ends, 0.3 * shape.active_params_b * 1e9)


def spread(work: Work) -> float:
    """By what factor the truth may lie above or below."""
    return WIDER if work.offload or work.nodes > 1 else SPREAD
