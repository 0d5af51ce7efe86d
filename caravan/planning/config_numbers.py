"""Numbers of a model's config, read with suspicion: what is no count or makes no sense is named, never used.

It knows the spellings of the trade and nothing of any one kind of model.
"""

import math
from collections.abc import Mapping
from typing import Final

from caravan.values.base import Json

MOST_WIDTH: Final = 1 << 18
MOST_BLOCKS: Final = 4096
MOST_ROWS: Final = 20_000_000
MOST_POSITIONS: Final = 1 << 30

HIDDEN: Final = ("hidden_size", "n_embd", "n_embed", "d_model", "embed_dim", "dim", "hidden_dim", "model_dim")
LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "num_blocks")
HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_query_heads", "nhead")
KV_HEADS: Final = (
    *("num_key_value_heads", "n_kv_heads", "n_kv_head", "n_query_groups", "multi_query_group_num", "n_head_kv"),
    "num_kv_heads",
)
HEAD_DIM: Final = ("head_dim", "head_size", "d_kv", "kv_channels", "attention_head_dim", "d_head")
INTERMEDIATE: Final = (
    *("intermediate_size", "ffn_hidden_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "ffn_dim_ff"),
    *("mlp_hidden_size", "dim_feedforward", "inner_dim", "mlp_dim"),
)
VOCAB: Final = ("padded_vocab_size", "vocab_size", "n_vocab", "num_embeddings", "embedding_size_vocab")
POSITIONS: Final = (
    *("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "n_ctx"),
    *("block_size", "context_length", "max_seq_length", "max_target_positions", "sequence_len", "ctx_len"),
)
EXPERTS: Final = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts", "n_experts", "n_expert")
PER_TOKEN: Final = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "n_expert_per_token")
RATIO: Final = ("mlp_ratio", "ffn_mult", "expansion_ratio", "ff_mult")


class Senseless(ValueError):
    """A number that no model has; its text says which and is fit for a person."""


def whole(config: Mapping[str, Json], names: tuple[str, ...], most: int) -> int | None:
    """The count under the first of `names` that is given; None where none is.

    Of a list, one number a block, the mean counts. Raises Senseless for what is no count from 1 to `most`.
    """
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        return _count(name, value, most)
    return None


def needed(config: Mapping[str, Json], names: tuple[str, ...], most: int) -> int:
    """The count under the first of `names` that is given. Raises Senseless where none is."""
    found = whole(config, names, most)
    if found is None:
        raise Senseless(f"it says nothing of {names[0]}")
    return found


def ratio(config: Mapping[str, Json]) -> float | None:
    """How many times wider than the stream the MLP is, where the config says so by a factor."""
    for name in RATIO:
        value = config.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 64:
            return float(value)
    return None


def positions(config: Mapping[str, Json], names: tuple[str, ...] = POSITIONS) -> int | None:
    """The longest sequence, where one is told; a number that stands for "no limit" is none."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_POSITIONS:
            return value
    return None


def switch(config: Mapping[str, Json], name: str, default: bool) -> bool:
    """A yes or no."""
    value = config.get(name)
    return value if isinstance(value, bool) else default


def optional(config: Mapping[str, Json], names: tuple[str, ...], most: int) -> int:
    """`whole`, where 0 and nothing at all mean that the model has none; then it is 0."""
    for name in names:
        value = config.get(name)
        if value is not None and value is not False and value != 0:
            return _count(name, value, most)
    return 0


def _count(name: str, value: Json, most: int) -> int:
    if isinstance(value, list) and value and all(_is_number(v) and 0 <= v <= most for v in value):
        value = round(sum(value) / len(value))
    if not _is_number(value) or not 1 <= value <= most or int(value) != value:
        raise Senseless(f"{name} = {_short(value)} makes no sense")
    return int(value)


def _is_number(value: Json) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Json) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 1e18:
        return "a number of more than 18 digits"
    return repr(value)[:40]
