"""Models by name, and rows of fields."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.memory import GIB
from caravan.planning.rows import estimate_row
from caravan.planning.shapes import guessed_shape, shape_of
from caravan.values.errors import UsageError


@pytest.mark.parametrize(
    ("name", "params", "exact"),
    [
        ("Qwen/Qwen2.5-7B", 7.616, True),
        ("Qwen/Qwen2.5-7B-Instruct", 7.616, True),
        ("meta-llama/Meta-Llama-3-8B", 8.03, True),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03, True),
        ("decapoda-research/llama-7b-hf", 6.738, True),
        ("/models/my_own-13B-chat", 13, False),
        ("acme/tiny-350m", 0.35, False),
        ("acme/moe-8x7b", 56, False),
    ],
)
def test_models_by_name(name: str, params: float, exact: bool) -> None:
    shape = shape_of(name)
    assert shape is not None
    assert (shape.params_b, shape.exact) == (params, exact)


def test_a_name_that_tells_nothing() -> None:
    assert shape_of("acme/our-model-v2") is None
    assert shape_of("sshleifer/tiny-gpt2") is None


def test_a_guessed_shape_has_about_its_parameters() -> None:
    for billions in (0.5, 7, 70):
        shape = guessed_shape(billions)
        assert 0.75 < 12 * shape.layers * shape.hidden**2 / (billions * 1e9) < 1.35


def test_rows_of_fields() -> None:
    peak, breakdown = estimate_row({"id": "1", "model": "Qwen/Qwen2.5-7B", "method": "full", "seq_len": 512})
    assert peak == pytest.approx(sum(breakdown.values()), abs=1e-3)
    assert breakdown["weights"] == pytest.approx(7.616e9 * 2 / GIB, abs=1e-3)
    with pytest.raises(UsageError, match="the size of model 'x' isn't known"):
        estimate_row({"id": "2", "model": "x"})
    with pytest.raises(UsageError, match="Row 3"):
        estimate_row({"id": "3", "params_b": 1, "micro_batch": "many"})


NAMES = (
    *("params_b", "hidden", "layers", "heads", "kv_heads", "vocab", "intermediate", "head_dim", "moe_experts"),
    *("moe_topk", "method", "lora_rank", "lora_targets", "optimizer", "weights_dtype", "compute_dtype", "quant_bits"),
    *("quant_type", "grad_checkpointing", "flash_attention", "micro_batch", "grad_accum", "seq_len", "seq_kind"),
    *("gpus", "parallel", "offload", "metric", "tied", "mlp_gated", "arch_family", "image_size", "trainable_params"),
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.text(max_size=2))


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_fields_give_a_figure_or_a_line_that_says_why_not(fields: dict[str, object]) -> None:
    try:
        peak, breakdown = estimate_row({"id": "any", "model": "Qwen/Qwen2.5-7B", **fields})
    except UsageError:
        return
    assert math.isfinite(peak)
    assert peak == pytest.approx(sum(breakdown.values()), abs=1e-3)
    assert min(breakdown.values()) >= 0
