"""Where a model's parameters sit, and the bytes of its weights by type and quantisation.

Sources: the modelling code of Llama, Qwen, Mistral, GPT-NeoX and GPT-2 in transformers for which matrices a block has;
Dettmers et al. 2023 (arXiv 2305.14314) for 4-bit blocks: 0.5 byte a weight, a 32-bit constant for each 64 of them, or
these constants in 8 bit with a 32-bit one for each 256 (double quantisation); Frantar et al. 2022 (arXiv 2210.17323)
and the GPTQ file format: groups of 128 with a 16-bit scale and a 4-bit zero.
"""

from typing import Final, NamedTuple

from caravan.planning.memory.setting import Setting, adapters, quantised, width
from caravan.values.shape import ModelShape

_TIED_UP_TO: Final = 2304
"""Where a config does not say it: models up to this width usually share embedding and output matrix (Qwen2.5 up to
3 B, Llama 3.2, Gemma 2 B, GPT-2), wider ones don't."""
_EACH: Final = {"nf4": 0.5 + 4 / 64, "fp4": 0.5 + 4 / 64, "gptq": 0.5 + 2.5 / 128, "awq": 0.5 + 2.5 / 128}
_DOUBLE: Final = 0.5 + (1 + 4 / 256) / 64


class Parts(NamedTuple):
    """Parameters: of the embedding, the output matrix, the whole body (all blocks), one block, and its matrices."""

    embedding: float
    head: float
    body: float
    block: float
    matrices: dict[str, tuple[float, float]]
    """Input and output width of the matrices of one block that adapters are put on."""


def parts_of(shape: ModelShape) -> Parts:
    """Where the parameters are. Embedding and output matrix by the vocabulary, the rest is the body's."""
    total = shape.params_b * 1e9
    table = min(float(shape.vocab) * shape.hidden, 0.45 * total)
    tied = shape.hidden <= _TIED_UP_TO if shape.tied is None else shape.tied
    head = 0.0 if tied else table
    body = total - table - head
    return Parts(table, head, body, body / shape.layers, _matrices(shape))


def _matrices(shape: ModelShape) -> dict[str, tuple[float, float]]:
    hidden, inside = float(shape.hidden), float(expert_width(shape))
    queries, keys = float(query_width(shape)), float(key_width(shape))
    found = {
        "q": (hidden, queries),
        "k": (hidden, keys),
        "v": (hidden, keys),
        "o": (queries, hidden),
        "up": (hidden, inside),
        "down": (inside, hidden),
    }
    return found | {"gate": (hidden, inside)} if shape.gated else found


def query_width(shape: ModelShape) -> int:
    """Width of all heads' queries together; with a compressed cache, as they are made whole for attention."""
    if shape.latent:
        return shape.heads * (shape.latent.nope_dim + shape.latent.rope_dim)
    return shape.heads * (shape.head_dim or max(1, shape.hidden // shape.heads))


def key_width(shape: ModelShape) -> int:
    """Width of all heads' keys together."""
    if shape.latent:
        return query_width(shape)
    return shape.kv_heads * (shape.head_dim or max(1, shape.hidden // shape.heads))


def expert_width(shape: ModelShape) -> int:
    """Width inside the MLP, or inside one expert."""
    return (shape.moe_intermediate or shape.intermediate) if shape.experts else shape.intermediate


def weights_bytes(shape: ModelShape, setting: Setting) -> float:
    """All weights of the base model on one GPU that holds them whole.

    What is quantised are the blocks' matrices; embedding, output matrix and norms stay in `weights_dtype`.
    """
    where, total = parts_of(shape), shape.params_b * 1e9
    each = width(setting.weights_dtype)
    if not quantised(setting):
        return total * each
    kept = 4.0 if prepared(setting) else min(each, 2.0) if adapters(setting) else each
    return (total - where.body) * kept + where.body * quantised_width(setting)


def prepared(setting: Setting) -> bool:
    """Whether peft prepares the quantised model for training: what bitsandbytes left as it was is cast to 32 bit.

    It does not do so for models that come quantised (GPTQ, AWQ), and trainers with 4-bit layers of their own do not
    either, nor do trainers where FSDP or ZeRO-3 shards the model, whose parameters must be of one type; a plain `bnb`
    type or none named is the common way through transformers.
    """
    if setting.narrow or setting.parallel in ("fsdp", "zero3"):
        return False
    kind = (setting.quant_type or "bnb").lower()
    return adapters(setting) and quantised(setting) and kind.startswith("bnb")


def quantised_width(setting: Setting) -> float:
    """Bytes of one quantised weight with its constants."""
    bits = setting.quant_bits or 16
    if bits == 8:
        return 1.0 + 4 / 4096  # a row's scale (Dettmers et al. 2022, arXiv 2208.07339)
    if bits != 4:
        return bits / 8 + 2.5 / 128
    return _EACH.get((setting.quant_type or "").lower(), _DOUBLE)


def dequantised_bytes(shape: ModelShape, setting: Setting) -> float:
    """The matrix that is just being multiplied with, in 16 bit, where the weights are quantised."""
    if not quantised(setting):
        return 0.0
    return width(setting.compute_dtype) * max(a * b for a, b in parts_of(shape).matrices.values())
