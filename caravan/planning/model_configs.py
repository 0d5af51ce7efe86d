"""A model's config → its shape: what `config.json` and a repository's own model code say, whatever their spelling.

Pure and tolerant: anything that is no config gives a reason in words. What keys and defaults mean follows the
configuration classes of the libraries that write them (transformers, diffusers, nanoGPT-like code).
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from caravan.planning import config_numbers as n
from caravan.planning.param_count import counted_params
from caravan.values.base import Json
from caravan.values.shape import MOST_PARAMS_B, Family, Latent, ModelShape

_PLAIN: Final = frozenset(
    {"gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "codegen", "falcon", "refinedweb", "refinedwebmodel"}
    | {"bloom", "opt", "mpt", "phi", "mixformer-sequential", "starcoder2", "stablelm_alpha", "persimmon", "nemotron"}
    | {"xglm", "biogpt", "fuyu", "openai-gpt", "ctrl", "xlnet"}
)
"""Decoders whose MLP has two matrices."""
_TIED: Final = frozenset(
    {"gpt2", "gpt_neo", "gpt_bigcode", "falcon", "refinedweb", "refinedwebmodel", "bloom", "opt", "mpt", "starcoder2"}
    | {"gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2", "openai-gpt", "t5", "mt5", "umt5", "xglm"}
    | {"bart", "mbart", "whisper", "gemma3n", "gemma3n_text", "longt5", "led", "pegasus", "marian", "m2m_100"}
)
"""Kinds whose embedding is the output matrix unless the config says otherwise."""
_ENCODERS: Final = frozenset(
    {"bert", "roberta", "distilbert", "electra", "deberta", "deberta-v2", "xlm-roberta", "xlm-roberta-xl", "camembert"}
    | {"modernbert", "albert", "mpnet", "nomic_bert", "layoutlm", "layoutlmv3", "longformer", "big_bird", "esm"}
    | {"roformer", "eurobert", "megatron-bert", "convbert", "funnel", "ernie", "data2vec-text", "rembert", "flaubert"}
    | {"xlm", "new", "gte", "luke", "bert-generation", "squeezebert", "ibert"}
)
_OFFSET: Final = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "longformer", "ibert", "data2vec-text"}
    | {"mpnet", "esm"}
)
"""Kinds that count positions from behind the padding token's: so many fewer tokens fit than there are rows."""
_GATED_ENCODERS: Final = frozenset({"modernbert", "nomic_bert", "eurobert", "new"})
_ENCDECS: Final = frozenset(
    {"t5", "mt5", "umt5", "longt5", "bart", "mbart", "whisper", "pegasus", "marian", "m2m_100", "led", "blenderbot"}
    | {"nllb_moe", "switch_transformers", "prophetnet", "bigbird_pegasus", "plbart", "speech_to_text"}
)
_VITS: Final = frozenset(
    {"vit", "deit", "beit", "dinov2", "vit_mae", "siglip_vision_model", "clip_vision_model", "ijepa"}
)
_AUDIO: Final = frozenset({"wav2vec2", "hubert", "wavlm", "wav2vec2-conformer", "wav2vec2-bert", "unispeech"})
_STAGED: Final = frozenset(
    {"resnet", "convnext", "convnextv2", "regnet", "swin", "swinv2", "efficientnet", "segformer"}
)
_STATES: Final = frozenset(
    {"mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "bamba", "zamba", "zamba2", "falcon_h1"}
)
_TEXT: Final = ("text_config", "llm_config", "language_config", "thinker_config", "lm_config", "language_model")
_NOT_TEXT: Final = ("vision_config", "visual", "vision_tower", "vision")
_DEEP: Final = 4


class Reading(NamedTuple):
    """A shape, or why there is none."""

    shape: ModelShape | None
    reason: str = ""


def read_model_config(config: Json, *, params: int | None = None, source: str = "") -> Reading:
    """The shape that a config tells. Never raises.

    `params`: the parameters as the weights' headers count them, which are believed before the shape's own sum but for
    quantised weights, whose packed numbers are fewer than the parameters.
    """
    if not isinstance(config, dict):
        return Reading(None, "it is no config: it is no table of names and values")
    try:
        fields = _read(config, _DEEP)
        return Reading(_counted(fields, config, params, source))
    except n.Senseless as error:
        return Reading(None, str(error))
    except RecursionError:
        return Reading(None, "it is nested too deeply")


def _counted(fields: dict[str, Any], config: Mapping[str, Json], params: int | None, source: str) -> ModelShape:
    rows = fields.pop("position_rows", 0)
    shape = ModelShape(params_b=1.0, source=source, **fields)
    own = counted_params(shape, positions=rows)
    packed = isinstance(config.get("quantization_config"), dict)
    told = params if params and not packed else None
    if told is None and shape.family in (Family.CNN, Family.UNET, Family.DIT):  # their own sum is a rough one
        shape = shape.model_copy(update={"exact": False})
    billions = (told or own) / 1e9
    if not 0 < billions <= MOST_PARAMS_B:
        raise n.Senseless(f"its numbers make {billions:.3g} B parameters")
    return shape.model_copy(update={"params_b": round(billions, 6) or 1e-6})


def _read(config: Mapping[str, Json], deep: int) -> dict[str, Any]:
    kind = str(config.get("model_type") or config.get("_class_name") or "").lower()[:60]
    if deep <= 0:
        raise n.Senseless("it is nested too deeply")
    text = next((config[k] for k in _TEXT if isinstance(config.get(k), dict)), None)
    seen = next((config[k] for k in _NOT_TEXT if isinstance(config.get(k), dict)), None)
    if text is not None:
        return _with_tower(_read({**_told_above(config), **text}, deep - 1), seen, kind)
    if kind in _STAGED or ("depths" in config and isinstance(config["depths"], list)):
        return _staged(config, kind)
    if "block_out_channels" in config:
        return _unet(config, kind)
    if "num_single_layers" in config or ("attention_head_dim" in config and "patch_size" in config):
        return _diffusion(config, kind)
    if kind in _ENCDECS or ("encoder_layers" in config and "decoder_layers" in config):
        return _encoder_decoder(config, kind)
    fields = _blocks(config, kind)
    return _with_tower(fields, seen, kind) if seen is not None and kind not in _VITS else fields


def _told_above(config: Mapping[str, Json]) -> dict[str, Json]:
    """What a config of several models says for all of them."""
    return {k: config[k] for k in ("tie_word_embeddings", "vocab_size") if k in config}


def _with_tower(fields: dict[str, Any], seen: Json, kind: str) -> dict[str, Any]:
    fields["model_type"] = kind or fields["model_type"]
    if isinstance(seen, dict) and (tower := _tower(seen)) is not None:
        fields |= {"vision": tower, "family": Family.DUAL if kind in ("clip", "siglip") else Family.VISION_LANGUAGE}
    return fields


def _tower(seen: Mapping[str, Json]) -> ModelShape | None:
    """The image tower; None where its config doesn't say enough of it."""
    wide = {**seen, "hidden_size": seen["embed_dim"]} if "embed_dim" in seen else dict(seen)
    try:
        fields = _blocks({"model_type": "vit", **wide, "vocab_size": None}, "vit")
    except n.Senseless:
        return None
    fields["gated"] = seen.get("hidden_act") == "silu" and "intermediate_size" in seen
    fields.pop("position_rows", None)
    shape = ModelShape(params_b=1.0, **fields)
    count = counted_params(shape) / 1e9
    return shape.model_copy(update={"params_b": round(count, 6)}) if 0 < count <= MOST_PARAMS_B else None


def _blocks(config: Mapping[str, Json], kind: str) -> dict[str, Any]:
    """A stack of equal blocks: decoders, encoders, image and audio transformers."""
    hidden = n.needed(config, n.HIDDEN, n.MOST_WIDTH)
    layers = n.needed(config, n.LAYERS, n.MOST_BLOCKS)
    heads = n.whole(config, n.HEADS, n.MOST_WIDTH) or _unsaid_heads(config, hidden)
    family = _family(kind) if kind or not _side(config, "patch_size") or "vocab_size" in config else Family.VIT
    inner = _inner(config, kind, hidden)
    fields: dict[str, Any] = {
        "hidden": hidden,
        "layers": layers,
        "heads": heads,
        "kv_heads": _kv_heads(config, kind, heads),
        "head_dim": n.optional(config, n.HEAD_DIM, n.MOST_WIDTH) or max(1, hidden // heads),
        "intermediate": inner,
        "vocab": n.optional(config, n.VOCAB, n.MOST_ROWS),
        "gated": _gated(config, kind, family),
        "tied": _tied(config, kind, family),
        "family": family,
        "max_positions": n.positions(config),
        "sliding_window": n.positions(config, ("sliding_window",))
        if config.get("use_sliding_window") is not False
        else None,
        "image_size": _side(config, "image_size"),
        "patch_size": _side(config, "patch_size"),
        "model_type": kind,
        "latent": _latent(config),
    }
    if (latent := fields["latent"]) is not None:
        fields["head_dim"] = latent.nope_dim + latent.rope_dim
    learned = kind in ("gpt2", "opt", "gpt_neo", "gpt_bigcode", "openai-gpt", "xglm") or family is Family.ENCODER
    rows = fields["max_positions"]
    fields["position_rows"] = min(rows or 0, 1 << 16) if learned and kind != "modernbert" else 0
    if kind in _OFFSET and rows:  # their first positions belong to padding
        pad = config.get("pad_token_id")
        fields["max_positions"] = max(1, rows - (pad if isinstance(pad, int) and 0 <= pad < rows else 1) - 1)
    return fields | _experts(config, kind, inner, layers)


def _family(kind: str) -> Family:
    for kinds, family in (
        (_ENCODERS, Family.ENCODER),
        (_VITS, Family.VIT),
        (_AUDIO, Family.AUDIO),
        (_STATES, Family.SSM),
    ):
        if kind in kinds:
            return family
    return Family.DECODER


def _unsaid_heads(config: Mapping[str, Json], hidden: int) -> int:
    each = n.optional(config, n.HEAD_DIM, n.MOST_WIDTH)
    return max(1, hidden // (each or 64))


def _kv_heads(config: Mapping[str, Json], kind: str, heads: int) -> int:
    """Heads of keys and values: as many as of queries where the config says nothing of fewer."""
    attention = config.get("attn_config")
    inner = {**attention, **config} if isinstance(attention, dict) else config
    if inner.get("multi_query") is True and not inner.get("new_decoder_architecture"):
        return 1
    if kind == "chatglm" and inner.get("multi_query_attention") is not True:
        return heads
    return min(heads, n.optional(inner, n.KV_HEADS, n.MOST_WIDTH) or heads)


def _inner(config: Mapping[str, Json], kind: str, hidden: int) -> int:
    """Width inside the MLP of a dense block."""
    forward = config.get("ffn_config")
    config = {**forward, **config} if isinstance(forward, dict) else config
    if kind == "llama4_text" and "intermediate_size_mlp" in config:
        return n.needed(config, ("intermediate_size_mlp",), n.MOST_WIDTH * 8)
    found = n.optional(config, n.INTERMEDIATE, n.MOST_WIDTH * 8)
    if kind == "qwen" and found:
        return found // 2  # its config counts the two halves of the gate together
    if found:
        return found
    return round(hidden * (n.ratio(config) or (8 / 3 if _gated(config, kind, Family.DECODER) else 4)))


def _gated(config: Mapping[str, Json], kind: str, family: Family) -> bool:
    if family is Family.ENCODER:
        return kind in _GATED_ENCODERS
    if family in (Family.VIT, Family.AUDIO):
        return bool(config.get("use_swiglu_ffn"))
    if kind in _PLAIN:
        return False
    if not kind or kind == "gpt":  # a repository's own code
        said = str(config.get("mlp_class_name") or config.get("hidden_act") or config.get("activation") or "").lower()
        llama_like = {"multiple_of", "ffn_dim_multiplier", "n_kv_heads", "num_key_value_heads"} & config.keys()
        both = {"hidden_size", "intermediate_size"} <= config.keys() and "gelu" not in said
        return bool(llama_like or both) or any(word in said for word in ("silu", "swi", "glu", "llama"))
    return "moe" not in kind or config.get("hidden_act", "silu") != "relu"


def _tied(config: Mapping[str, Json], kind: str, family: Family) -> bool:
    unsaid = kind in _TIED or family in (Family.ENCODER, Family.VIT, Family.AUDIO) or not kind
    return n.switch(config, "tie_word_embeddings", unsaid)


def _side(config: Mapping[str, Json], name: str) -> int:
    value = config.get(name)
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 16 else 0


def _latent(config: Mapping[str, Json]) -> Latent | None:
    rank = n.optional(config, ("kv_lora_rank",), n.MOST_WIDTH)
    if not rank:
        return None
    return Latent(
        q_rank=n.optional(config, ("q_lora_rank",), n.MOST_WIDTH),
        kv_rank=rank,
        nope_dim=n.optional(config, ("qk_nope_head_dim",), n.MOST_WIDTH) or 128,
        rope_dim=n.optional(config, ("qk_rope_head_dim",), n.MOST_WIDTH),
        v_dim=n.optional(config, ("v_head_dim",), n.MOST_WIDTH) or 128,
    )


def _experts(config: Mapping[str, Json], kind: str, inner: int, layers: int) -> dict[str, Any]:
    forward = config.get("ffn_config")
    config = {**forward, **config} if isinstance(forward, dict) else config
    count = n.optional(config, n.EXPERTS, 1 << 16)
    if count <= 1:
        return {}
    each = n.optional(config, ("moe_intermediate_size", "expert_ffn_hidden_size"), n.MOST_WIDTH)
    each = each or (n.optional(config, ("intermediate_size",), n.MOST_WIDTH * 8) or inner)
    shared = n.optional(config, ("shared_expert_intermediate_size", "shared_intermediate_size"), n.MOST_WIDTH * 8)
    shared = shared or each * n.optional(
        config, ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 4096
    )
    if kind == "llama4_text":
        shared = each
    return {
        "experts": count,
        "experts_per_token": min(count, n.optional(config, n.PER_TOKEN, 1 << 16) or 2),
        "moe_intermediate": each,
        "shared_intermediate": shared,
        "dense_layers": min(layers, _dense_layers(config, layers)),
    }


def _dense_layers(config: Mapping[str, Json], layers: int) -> int:
    first = n.optional(config, ("first_k_dense_replace", "num_dense_layers"), n.MOST_BLOCKS)
    alone = config.get("mlp_only_layers")
    step = (
        n.optional(config, ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq"), n.MOST_BLOCKS) or 1
    )
    every = layers - layers // step if step > 1 else 0
    return max(first, every, len(alone) if isinstance(alone, list) else 0)


def _encoder_decoder(config: Mapping[str, Json], kind: str) -> dict[str, Any]:
    hidden = n.needed(config, n.HIDDEN, n.MOST_WIDTH)
    encoder = n.needed(config, ("encoder_layers", "num_encoder_layers", *n.LAYERS), n.MOST_BLOCKS)
    decoder = n.whole(config, ("decoder_layers", "num_decoder_layers"), n.MOST_BLOCKS) or encoder
    heads = n.whole(config, ("encoder_attention_heads", *n.HEADS), n.MOST_WIDTH) or max(1, hidden // 64)
    said = str(config.get("feed_forward_proj") or "")
    learned = "t5" not in kind
    reach = n.positions(config)
    return {
        "hidden": hidden,
        "layers": encoder + decoder,
        "encoder_layers": encoder,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": n.optional(config, n.HEAD_DIM, n.MOST_WIDTH) or max(1, hidden // heads),
        "intermediate": n.optional(config, n.INTERMEDIATE, n.MOST_WIDTH * 8) or 4 * hidden,
        "vocab": n.optional(config, n.VOCAB, n.MOST_ROWS),
        "gated": "gated" in said,
        "tied": n.switch(config, "tie_word_embeddings", True),
        "family": Family.ENCDEC,
        "max_positions": reach or n.positions(config, ("max_target_positions",)),
        "model_type": kind,
        "position_rows": min(2 * (reach or 0), 1 << 16) if learned else 0,
    }


def _staged(config: Mapping[str, Json], kind: str) -> dict[str, Any]:
    """Convolutions and windows in stages of growing width: the widest, and all blocks."""
    depths = config.get("depths")
    if not isinstance(depths, list) or not depths:
        raise n.Senseless("it says nothing of the blocks of its stages")
    blocks = sum(n.needed({"depths": d}, ("depths",), n.MOST_BLOCKS) for d in depths[:64])
    widths = config.get("hidden_sizes")
    first = n.whole(config, ("embed_dim",), n.MOST_WIDTH)
    wide = (
        max((n.needed({"hidden_sizes": w}, ("hidden_sizes",), n.MOST_WIDTH) for w in widths[:64]), default=0)
        if isinstance(widths, list)
        else 0
    )
    wide = wide or (first * 2 ** (min(len(depths), 8) - 1) if first else 0)
    if not wide:
        raise n.Senseless("it says nothing of the widths of its stages")
    return {
        **{"hidden": wide, "layers": blocks, "heads": 1, "kv_heads": 1, "intermediate": 4 * wide, "vocab": 0},
        **{"gated": False, "tied": True, "family": Family.CNN, "model_type": kind},
        "image_size": _side(config, "image_size"),
    }


def _unet(config: Mapping[str, Json], kind: str) -> dict[str, Any]:
    widths = config.get("block_out_channels")
    if not isinstance(widths, list) or not widths:
        raise n.Senseless("it says nothing of the channels of its blocks")
    wide = [n.needed({"block_out_channels": w}, ("block_out_channels",), n.MOST_WIDTH) for w in widths[:64]]
    each = n.optional(config, ("layers_per_block",), 64) or 2
    return {
        **{"hidden": max(wide), "layers": len(wide) * (2 * each + 1), "heads": 8, "kv_heads": 8, "vocab": 0},
        **{"intermediate": 4 * max(wide), "gated": True, "tied": True, "family": Family.UNET, "model_type": kind},
        "image_size": _side(config, "sample_size") * _coded(config),
    }


def _diffusion(config: Mapping[str, Json], kind: str) -> dict[str, Any]:
    heads = n.needed(config, n.HEADS, n.MOST_WIDTH)
    each = n.needed(config, ("attention_head_dim",), n.MOST_WIDTH)
    layers = n.needed(config, n.LAYERS, n.MOST_BLOCKS) + n.optional(config, ("num_single_layers",), n.MOST_BLOCKS)
    patch = _side(config, "patch_size")
    if heads * each > n.MOST_WIDTH:
        raise n.Senseless(f"its width of {heads * each} makes no sense")
    return {
        **{"hidden": heads * each, "layers": layers, "heads": heads, "kv_heads": heads, "head_dim": each, "vocab": 0},
        **{"intermediate": 4 * heads * each, "gated": False, "tied": True, "family": Family.DIT, "model_type": kind},
        "image_size": _side(config, "sample_size") * _coded(config),
        "patch_size": (2 if patch == 1 else patch) * _coded(config),  # 1: two by two are joined before the network
    }


def _coded(config: Mapping[str, Json]) -> int:
    """Pixels of a side for each number that the network sees: 8 behind an autoencoder, whose codes have 4 channels or
    more (Rombach et al. 2021, arXiv 2112.10752); 1 where it sees the image's own.
    """
    return 1 if config.get("in_channels") in (1, 3) else 8
