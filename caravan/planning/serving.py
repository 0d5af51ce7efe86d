"""What serving a language model takes on each GPU (weights, cache, activations, runtime) and how it is spread. Pure.

Sources: vLLM's own condition for a start is that the cache holds one request of the longest context within
`gpu_memory_utilization` of the GPU's memory, after weights, the peak of a profiling run and what lies outside of torch
(vllm/v1/worker/gpu_worker.py, vllm/v1/core/kv_cache_utils.py). The cache of a token is a key and a value for each block
and each head of keys and values (Kwon et al. 2023, arXiv 2309.06180); where these heads are fewer than the GPUs each
GPU has a copy (Megatron's tensor parallelism, Shoeybi et al. 2019, arXiv 1909.08053, with grouped heads). AWQ and FP8
weights: the matrices of the blocks in 4 bit with a 16-bit scale and a 4-bit zero for each 128 of them, or in 8 bit with
a 32-bit scale for each block of 128 by 128; embedding and output matrix stay in 16 bit (`quantization_config` of the
published checkpoints).
"""

from typing import Final

from caravan.planning.memory.constants import FITTED
from caravan.planning.memory.weights import key_width, parts_of, query_width
from caravan.values.serving import ServeMemory, ServeOptions, Weights
from caravan.values.shape import Family, ModelShape

_GIB: Final = 1 << 30
_EACH: Final = {Weights.BF16: 2.0, Weights.FP16: 2.0, Weights.FP8: 1.0 + 4 / 128**2, Weights.AWQ: 0.5 + 2.5 / 128}
"""Bytes of a weight in the blocks' matrices."""
_LOGIT: Final = 12.0
"""Bytes of a logit while a token is drawn: three times 32 bit (logits, their sorted copy, probabilities)."""
_GRAPHS_GIB: Final = 0.5
"""CUDA graphs: vLLM's logs show 0.2 to 1 GiB, by blocks and batch sizes."""
_MARGIN: Final = 0.035
"""Share of a GPU's memory: against published cache sizes of vLLM the estimate was off by at most that (docs/model.md,
what the sizes were compared with)."""
_SEEN: Final = 0.993
"""Share of a GPU's memory as NVML tells it that the driver gives to programs: 79.1 of 79.65 GiB of an H100."""
_GROUP: Final = 128
"""Weights of a quantised group or block: each GPU must get whole ones."""
SERVABLE: Final = (Family.DECODER, Family.VISION_LANGUAGE)


def weight_bytes(shape: ModelShape, weights: Weights) -> float:
    """All weights of the model: quantised in the blocks, embedding and output matrix in 16 bit."""
    where, total = parts_of(shape), shape.params_b * 1e9
    return (total - where.body) * 2.0 + where.body * _EACH[weights]


def kv_bytes_per_token(shape: ModelShape, *, gpus: int = 1, fp8: bool = False) -> float:
    """Bytes of the cache of one token on each GPU.

    Blocks that look back at a window alone, or keep a state of fixed size, need less: they are counted in full.
    """
    each = 1.0 if fp8 else 2.0
    if shape.latent is not None:  # one compressed vector, which every GPU holds
        return shape.layers * (shape.latent.kv_rank + shape.latent.rope_dim) * each
    heads = -(-shape.kv_heads // gpus)
    return 2.0 * shape.layers * heads * (shape.head_dim or max(1, shape.hidden // shape.heads)) * each


def activation_bytes(shape: ModelShape, *, gpus: int, tokens: int, requests: int) -> float:
    """The widest tensors of one block that live at once, for the tokens of a step, and the logits of the requests."""
    query, key = query_width(shape) / gpus, key_width(shape) / gpus
    each = 4.0 * shape.hidden + query + 2 * key
    if shape.experts:
        inside = shape.moe_intermediate or shape.intermediate
        each += shape.experts_per_token * (3.0 * inside / gpus + shape.hidden) + 3.0 * shape.shared_intermediate / gpus
    else:
        each += 3.0 * shape.intermediate / gpus
    return 2.0 * tokens * each + _LOGIT * requests * shape.vocab


def memory_of(
    shape: ModelShape,
    weights: Weights,
    *,
    gpus: int,
    context: int,
    options: ServeOptions | None = None,
    memory_mib: int | None = None,
) -> ServeMemory:
    """What each of the GPUs needs. `memory_mib`: what one has, as NVML tells it."""
    options = options or ServeOptions()
    total = None if memory_mib is None else memory_mib / 1024
    tokens = max(options.max_num_batched_tokens, options.max_num_seqs)
    return ServeMemory(
        weights=weight_bytes(shape, weights) / gpus / _GIB,
        activations=activation_bytes(shape, gpus=gpus, tokens=tokens, requests=options.max_num_seqs) / _GIB,
        runtime=FITTED.context_gib + (FITTED.exchange_gib if gpus > 1 else 0.0) + _GRAPHS_GIB,
        margin=_MARGIN * (total or 0.0),
        kv_bytes_per_token=kv_bytes_per_token(shape, gpus=gpus, fp8=options.kv_fp8),
        context=context,
        total=total,
        budget=None if total is None else total * _SEEN * options.gpu_memory_utilization,
    )


def longest_context(memory: ServeMemory) -> int:
    """The longest context that fits, in whole thousands of 1024 tokens; 0: none does, or nothing is known."""
    if memory.budget is None or not memory.kv_bytes_per_token:
        return 0
    free = (memory.budget - memory.besides - memory.margin) * _GIB / memory.kv_bytes_per_token
    return max(0, int(free) // 1024 * 1024)


def spreads(shape: ModelShape, weights: Weights, most: int) -> tuple[int, ...]:
    """Over how many GPUs of a node the model can be spread, the fewest first; `most` there are.

    The heads must be shared out evenly, those of keys and values evenly or in copies, and of quantised matrices each
    GPU must get whole groups (vLLM refuses others: "is not divisible by weight quantization block").
    """
    return tuple(n for n in range(1, most + 1) if n == 1 or _divides(shape, weights, n))


def _divides(shape: ModelShape, weights: Weights, gpus: int) -> bool:
    if shape.heads % gpus or (shape.kv_heads % gpus and gpus % shape.kv_heads):
        return False
    inner = [w for w in (shape.intermediate, shape.moe_intermediate, shape.shared_intermediate) if w]
    if shape.experts and not shape.dense_layers:
        inner = [w for w in (shape.moe_intermediate, shape.shared_intermediate) if w] or inner
    unit = gpus * (_GROUP if weights in (Weights.FP8, Weights.AWQ) else 1)
    return all(width % unit == 0 for width in (*inner, query_width(shape)))
