"""A model's config read as a shape: the common kinds, other spellings, and anything at all."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.planning.model_configs import read_model_config
from caravan.planning.shapes import listed_shape
from caravan.values.shape import Family, ModelShape

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
DEEPSEEK = {
    **{"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128},
    **{"num_key_value_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048, "vocab_size": 129280},
    **{"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
    **{"n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3-8b": LLAMA,
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "vocab_size": 50257,
        "n_positions": 1024,
    },
    "mixtral-8x7b": {
        **LLAMA,
        **{"model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2},
    },
    "gemma-7b": {
        **{"model_type": "gemma", "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
        **{"num_key_value_heads": 16, "head_dim": 256, "intermediate_size": 24576, "vocab_size": 256000},
    },
    "falcon-7b": {
        **{"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71},
        **{"multi_query": True, "new_decoder_architecture": False, "vocab_size": 65024},
    },
    "falcon-40b": {
        **{"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128},
        **{"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8, "vocab_size": 65024},
    },
    "bloom-7b1": {
        "model_type": "bloom",
        "n_embed": 4096,
        "n_layer": 30,
        "num_attention_heads": 32,
        "vocab_size": 250880,
    },
    "mpt-7b": {
        **{"model_type": "mpt", "d_model": 4096, "n_layers": 32, "n_heads": 32, "expansion_ratio": 4},
        **{"vocab_size": 50432, "attn_config": {"attn_type": "multihead_attention"}},
    },
    "chatglm3-6b": {
        **{"model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32},
        **{"multi_query_attention": True, "multi_query_group_num": 2, "ffn_hidden_size": 13696},
        **{"padded_vocab_size": 65024, "kv_channels": 128, "seq_length": 8192},
    },
    "qwen-7b": {
        **{"model_type": "qwen", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
        **{"intermediate_size": 22016, "vocab_size": 151936},
    },
    "deepseek-r1": DEEPSEEK,
    "qwen3-30b-a3b": {
        **{"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32},
        **{"num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768},
        **{"num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": []},
        **{"vocab_size": 151936, "sliding_window": None, "use_sliding_window": False},
    },
    "llama-4-maverick": {
        "model_type": "llama4",
        "text_config": {
            **{"model_type": "llama4_text", "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40},
            **{"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16384},
            **{"num_local_experts": 128, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2},
            **{"vocab_size": 202048, "tie_word_embeddings": False},
        },
    },
    "bert-base-uncased": {
        **{"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
        **{"intermediate_size": 3072, "vocab_size": 30522, "max_position_embeddings": 512},
    },
    "flan-t5-large": {
        **{"model_type": "t5", "d_model": 1024, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 16},
        **{"d_kv": 64, "d_ff": 2816, "vocab_size": 32128, "feed_forward_proj": "gated-gelu"},
        **{"tie_word_embeddings": False},
    },
    "whisper-small": {
        **{"model_type": "whisper", "d_model": 768, "encoder_layers": 12, "decoder_layers": 12},
        **{"encoder_attention_heads": 12, "encoder_ffn_dim": 3072, "vocab_size": 51865, "max_target_positions": 448},
    },
    "vit-base": {
        **{"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
        **{"intermediate_size": 3072, "image_size": 224, "patch_size": 16},
    },
    "qwen2-vl-7b": {
        **{"model_type": "qwen2_vl", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28},
        **{"num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064},
        "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4},
    },
    "llava-1.5-7b": {
        "model_type": "llava",
        "text_config": {
            **{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
            **{"intermediate_size": 11008, "vocab_size": 32064},
        },
        "vision_config": {
            **{"model_type": "clip_vision_model", "hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14},
            **{"num_attention_heads": 16, "intermediate_size": 4096, "image_size": 336},
        },
    },
}
NUMBERS = ("hidden", "layers", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "gated", "tied", "family")
EXPERTS = ("experts", "experts_per_token", "moe_intermediate", "shared_intermediate", "dense_layers", "encoder_layers")


def read(config: Any, params: int | None = None) -> ModelShape:
    shape, reason = read_model_config(config, params=params, source="config.json")
    assert shape is not None, reason
    return shape


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_says_what_the_table_says(name: str) -> None:
    shape, known = read(CONFIGS[name]), listed_shape(name)
    assert known is not None
    for field in (*NUMBERS, *EXPERTS):
        assert getattr(shape, field) == getattr(known, field), field
    assert shape.params_b == pytest.approx(known.params_b, rel=0.04)
    assert (shape.exact, shape.source) == (True, "config.json")
    assert (shape.vision is None) == (known.vision is None)


def test_nano_gpt_like_keys() -> None:
    shape = read({"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "vocab_size": 65})
    assert (shape.hidden, shape.layers, shape.intermediate, shape.gated) == (384, 6, 1536, False)
    assert (shape.tied, shape.max_positions) == (True, 256)
    assert shape.params_b == pytest.approx(0.01065, rel=0.02)


def test_counted_parameters_are_believed_but_for_packed_weights() -> None:
    assert read(LLAMA, params=8_030_261_248).params_b == pytest.approx(8.030261)
    packed = {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    assert read(packed, params=1_900_000_000).params_b == pytest.approx(8.03, rel=0.01)


def test_convolutions_and_diffusion() -> None:
    resnet = read({"model_type": "resnet", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]}, 25_557_032)
    assert (resnet.family, resnet.layers, resnet.hidden) == (Family.CNN, 16, 2048)
    assert resnet.params_b == pytest.approx(0.025557)
    unet = {"_class_name": "UNet2DConditionModel", "block_out_channels": [320, 640, 1280, 1280], "sample_size": 64}
    assert (read(unet).family, read(unet).exact) == (Family.UNET, False)
    assert read(unet, 859_520_964).exact
    flux = {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24}
    assert (read(flux).family, read(flux).layers, read(flux).hidden) == (Family.DIT, 57, 3072)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": -1}, "hidden_size = -1 makes no sense"),
        ({"hidden_size": 0}, "hidden_size = 0 makes no sense"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000 makes no sense"),
        ({"num_hidden_layers": 10**400}, "a number of more than 18 digits"),
        ({"num_attention_heads": "many"}, "num_attention_heads = 'many' makes no sense"),
        ({"num_attention_heads": True}, "num_attention_heads = True makes no sense"),
        ({"vocab_size": 2.5}, "vocab_size = 2.5 makes no sense"),
        ({"hidden_size": None}, "says nothing of hidden_size"),
        ({"intermediate_size": float("inf")}, "intermediate_size = inf makes no sense"),
    ],
)
def test_numbers_that_make_no_sense_are_named(change: dict[str, Any], reason: str) -> None:
    shape, told = read_model_config({**LLAMA, **change})
    assert shape is None
    assert reason in told


def test_what_is_no_config() -> None:
    for nothing in (None, [], "llama", 7, {}):
        shape, reason = read_model_config(nothing)
        assert shape is None
        assert reason


KEYS = sorted({key for config in CONFIGS.values() for key in config} | {"depths", "hidden_sizes", "block_out_channels"})
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12) | VALUES)
def test_anything_gives_a_shape_or_a_reason(config: Any) -> None:
    shape, reason = read_model_config(config)
    assert (shape is None) == bool(reason)


@settings(deadline=None)
@given(st.sampled_from(sorted(CONFIGS)), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_a_config_that_is_changed_at_random_gives_a_shape_or_a_reason(name: str, changes: dict[str, Any]) -> None:
    shape, reason = read_model_config({**CONFIGS[name], **changes}, params=7)
    assert (shape is None) == bool(reason)
    if shape is not None:
        assert shape.heads >= 1
        assert shape.kv_heads >= 1
