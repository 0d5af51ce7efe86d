"""The textbook formula against numbers worked out by hand."""

import pytest

from caravan.planning.memory_model import CONTEXT_GIB, FRAGMENTATION, GIB, Setting, memory_parts, trained_params
from caravan.planning.rows import estimate_row
from caravan.planning.shapes import Shape, guessed_shape, shape_of
from caravan.values.errors import UsageError

# 1 B parameters, 10 layers of width 1000, 10 heads, MLP of 4000, 10,000 tokens in the vocabulary.
TOY = Shape(params_b=1.0, hidden=1000, layers=10, heads=10, kv_heads=10, intermediate=4000, vocab=10_000)


def parts(**setting: object) -> dict[str, float]:
    return {p.name: p.gib * GIB for p in memory_parts(TOY, Setting(**setting))}  # type: ignore[arg-type]


def close(gib_bytes: float, wanted: float) -> bool:
    return abs(gib_bytes - wanted) < 0.0001 * GIB


def test_full_fine_tuning_in_bf16() -> None:
    found = parts(method="full", micro_batch=2, seq_len=100, flash_attention=True)
    assert close(found["weights"], 2e9)
    assert close(found["gradients"], 2e9)
    assert close(found["optimizer states"], 4e9)  # torch's AdamW keeps two states in bf16
    assert close(found["activations"], 10 * 2 * 100 * 1000 * 34)
    assert close(found["logits"], 2 * 100 * 10_000 * 10)


def test_full_fine_tuning_with_fp32_master_weights_is_the_papers_16_bytes() -> None:
    found = parts(method="full", master_fp32=True)
    assert close(found["weights"] + found["gradients"] + found["optimizer states"], 16e9)


def test_attention_scores_and_checkpointing() -> None:
    tokens = 100 * 1000
    assert close(parts(seq_len=100)["activations"], 10 * tokens * (34 + 5 * 10 * 100 / 1000))
    checkpointed = parts(seq_len=100, flash_attention=True, grad_checkpointing=True)["activations"]
    assert close(checkpointed, 10 * tokens * 2 + tokens * 34)


def test_adapters_train_r_times_in_plus_out() -> None:
    assert trained_params(TOY, Setting(method="lora", lora_rank=4, lora_targets=("q", "v"))) == 10 * 4 * (2000 + 2000)
    assert trained_params(TOY, Setting(method="lora", lora_rank=4, lora_targets=("down",))) == 10 * 4 * (4000 + 1000)
    assert trained_params(TOY, Setting(method="full")) == 1e9


def test_four_bit_weights() -> None:
    outside = 2 * 10_000 * 1000
    found = parts(method="qlora", quant_bits=4)["weights"]
    assert close(found, outside * 2 + (1e9 - outside) * (0.5 + 4 / 64))


@pytest.mark.parametrize(
    ("parallel", "weights", "states"), [("ddp", 1, 1), ("zero2", 1, 4), ("zero3", 4, 4), ("fsdp", 4, 4)]
)
def test_sharding_divides_what_it_shards(parallel: str, weights: int, states: int) -> None:
    whole, spread = parts(), parts(gpus=4, parallel=parallel)
    assert close(spread["weights"], whole["weights"] / weights)
    assert close(spread["gradients"], whole["gradients"] / states)
    assert close(spread["optimizer states"], whole["optimizer states"] / states)


def test_the_parts_end_with_slack_and_context() -> None:
    found = parts()
    rest = sum(v for k, v in found.items() if k not in ("allocator slack", "CUDA context"))
    assert close(found["allocator slack"], rest * FRAGMENTATION)
    assert close(found["CUDA context"], CONTEXT_GIB * GIB)


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
