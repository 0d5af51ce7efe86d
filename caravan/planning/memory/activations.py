"""What a block keeps for its backward pass, tensor by tensor, in bytes for each token.

Counted from what autograd saves of transformers' blocks: an operation keeps its inputs or its output if a gradient
needs them. A matrix product keeps its input only for the gradient of its weight, so a frozen matrix keeps none. Norms
are computed in 32 bit (root mean square) or natively (with mean). Sources: torch's derivatives (`derivatives.yaml`),
the Llama, Mistral, Qwen2, GPT-2, BERT and Mixtral modelling code in transformers, peft's LoRA layer, Dao et al. 2022
(arXiv 2205.14135) for attention without scores, Chen et al. 2016 (arXiv 1604.06174) for checkpointing a block.
"""

from typing import Final, NamedTuple

from caravan.planning.memory.constants import FITTED, Fitted
from caravan.planning.memory.setting import Setting, adapters, quantised, tokens, width
from caravan.planning.memory.weights import expert_width, key_width, prepared, query_width
from caravan.values.shape import Family, ModelShape

_MASK: Final = 1.0
"""Bytes of one number of a dropout mask."""
_KERNELS: Final = ("gptq", "awq")
"""Quantisations whose matrices are multiplied by kernels of their own, in 16 bit."""
_MODERN: Final = (Family.DECODER, Family.VISION_LANGUAGE)


class Block(NamedTuple):
    """Bytes for each token: what one block keeps, what its backward needs besides, what a checkpoint of it keeps."""

    kept: float
    transient: float
    checkpoint: float


def block_of(shape: ModelShape, setting: Setting, fitted: Fitted = FITTED) -> Block:
    """One block of the model under that setting."""
    each = stream_width(setting, fitted)
    kept = (
        _norms(shape, setting, each)
        + _attention(shape, setting, each)
        + _mlp(shape, setting, each)
        + _dropout(shape)
        + fitted.adapter_input * _adapted_inputs(shape, setting)
    )
    backward = (3 if shape.gated else 2) * each * _mlp_width(shape) + fitted.stream * each * shape.hidden
    if setting.compiled and shape.gated:  # a gate's activation and product, and norms in 32 bit, are recomputed
        kept, backward = kept * fitted.compiled, backward * fitted.compiled
    scores = _scores(shape, setting)
    units = setting.parallel == "fsdp" and setting.gpus > 1 and not setting.own_adapters
    spread = fitted.sharded_adapter * _adapted_inputs(shape, setting) if units else 0.0
    return Block(kept, max(backward, scores) + spread, each * shape.hidden)


def stream_width(setting: Setting, fitted: Fitted = FITTED) -> float:
    """Bytes of one number between a model's matrices.

    peft prepares a model that bitsandbytes quantised by casting what is not quantised to 32 bit, which widens the
    stream, and the 4-bit layers cast their output to it; other trainers leave 16 bit (`weights.prepared`).
    """
    each, kind = width(setting.compute_dtype), (setting.quant_type or "bnb").lower()
    if each >= 4 or not quantised(setting) or kind in _KERNELS:
        return each
    if not setting.grad_checkpointing and not setting.narrow:
        return each + fitted.wide_kept * (4.0 - each)
    return 4.0 if prepared(setting) else each


def activation_bytes(shape: ModelShape, setting: Setting, fitted: Fitted = FITTED) -> tuple[float, float, float]:
    """Bytes kept at the end of the forward pass, and those during the first and the last block's backward pass."""
    block, count = block_of(shape, setting, fitted), tokens(setting)
    layers = shape.layers / setting.gpus if setting.parallel == "split" else float(shape.layers)
    everything = layers * block.kept
    if setting.grad_checkpointing:
        stored = min(layers * block.checkpoint, everything)
        first = min(stored + block.kept, everything) + block.transient
        return count * stored, count * first, count * (block.kept + block.transient)
    return count * everything, count * (everything + block.transient), count * (block.kept + block.transient)


def _trains_all(setting: Setting) -> bool:
    return not adapters(setting) and setting.method != "freeze"


def _adapts(setting: Setting, *names: str) -> bool:
    wanted = setting.lora_targets
    return adapters(setting) and ("all" in wanted or any(name in wanted for name in names))


def _norms(shape: ModelShape, setting: Setting, each: float) -> float:
    """Two norms: their input in 32 bit (or as it is), the normalised one for the weight's gradient, and the output."""
    full = _trains_all(setting)
    root_mean_square = shape.gated and shape.family in _MODERN
    own = 4.0 if root_mean_square else each
    scaled = each if root_mean_square and (full or setting.method == "freeze") else 0.0
    before_attention = each if full or _adapts(setting, "q", "k", "v") else 0.0
    before_mlp = each if full or _adapts(setting, "gate", "up") else 0.0
    return (2 * (own + scaled) + before_attention + before_mlp) * shape.hidden


def _attention(shape: ModelShape, setting: Setting, each: float) -> float:
    """Queries, keys, values and the output; the scores too where they are written out."""
    kept = each * (2 * query_width(shape) + 2 * key_width(shape)) + 4 * shape.heads
    if setting.flash_attention:
        return kept
    # Softmax in 32 bit is kept, its copy in the compute type, dropout's mask, and its output for the next product.
    scores = 4.0 + (each if each < 4 else 0.0) + _MASK + each
    return kept + scores * shape.heads * setting.seq_len


def _scores(shape: ModelShape, setting: Setting) -> float:
    """The scores' gradients in 32 bit and in the compute type, where scores are written out."""
    if setting.flash_attention:
        return 0.0
    return (4 + width(setting.compute_dtype)) * shape.heads * setting.seq_len


def _mlp_width(shape: ModelShape) -> float:
    """Numbers inside the MLP for each token, all experts that see it counted."""
    inside = expert_width(shape) * (max(1, shape.experts_per_token) if shape.experts else 1)
    return float(inside + shape.shared_intermediate)


def _mlp(shape: ModelShape, setting: Setting, each: float) -> float:
    """Gated: gate, its activation, up, and their product as the last matrix's input; else before and after it."""
    last = each if _trains_all(setting) or _adapts(setting, "down") else 0.0
    inside = (3 if shape.gated else 1) * each + last
    kept = inside * _mlp_width(shape)
    if shape.experts:  # every chosen expert gathers its tokens and scatters its output, weighted
        kept += 3 * each * shape.hidden * max(1, shape.experts_per_token)
    return kept


def _dropout(shape: ModelShape) -> float:
    """Models of the older kind drop out after attention and MLP."""
    if shape.family in _MODERN:
        return 0.0
    return 2 * _MASK * shape.hidden


def _adapted_inputs(shape: ModelShape, setting: Setting) -> float:
    """Numbers of the inputs of all adapted matrices for each token: each is dropped out and cast for its adapter."""
    if not adapters(setting):
        return 0.0
    widths = {
        "q": shape.hidden,
        "k": shape.hidden,
        "v": shape.hidden,
        "o": query_width(shape),
        "gate": shape.hidden if shape.gated else 0,
        "up": shape.hidden,
        "down": _mlp_width(shape),
    }
    wanted = widths if "all" in setting.lora_targets else setting.lora_targets
    return sum(widths.get(name, 0.0) for name in dict.fromkeys(wanted))
