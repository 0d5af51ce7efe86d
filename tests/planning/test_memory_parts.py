"""The memory estimate against tensors counted by hand, and what must hold for any training."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.margin import high_of, holds
from caravan.planning.memory import GIB, Setting, memory_parts, trained_params
from caravan.planning.memory.activations import block_of
from caravan.planning.memory.logits import logits_bytes
from caravan.planning.memory.runtime import Sizes, runtime_gib
from caravan.planning.memory.trained import trained_bytes
from caravan.planning.memory.weights import weights_bytes
from caravan.values.shape import Family, Latent, ModelShape

# 1 B parameters, 10 layers of width 1000, 10 heads, a gated MLP of 4000, 10,000 tokens in the vocabulary.
TOY = ModelShape(
    params_b=1.0, hidden=1000, layers=10, heads=10, kv_heads=10, intermediate=4000, vocab=10_000, tied=False
)
TABLE = 10_000 * 1000
ROUNDING = 0.0002


def parts(shape: ModelShape = TOY, **setting: object) -> dict[str, float]:
    found = memory_parts(shape, Setting(**{"metric": "allocated", **setting}))  # type: ignore[arg-type]
    return {p.name: p.gib * GIB for p in found}


def total(shape: ModelShape, setting: Setting) -> float:
    return sum(p.gib for p in memory_parts(shape, setting))


def close(found: float, wanted: float) -> bool:
    return abs(found - wanted) < 0.0002 * GIB


def test_the_step_of_adamw_in_16_bit_holds_five_times_the_weights() -> None:
    found = parts(method="full", micro_batch=1, seq_len=16, grad_checkpointing=True)
    assert close(found["weights"], 2e9)
    assert close(found["gradients"], 2e9)
    assert close(found["optimizer states"], 4e9)  # torch keeps both in the parameters' own type
    assert close(found["optimizer temporaries"], 2e9)


def test_mixed_precision_with_masters_is_the_papers_16_bytes() -> None:
    trained = trained_bytes(TOY, Setting(method="full", master_fp32=True))
    assert trained.states + trained.gradients + weights_bytes(TOY, Setting()) == pytest.approx(16e9)


@pytest.mark.parametrize(
    ("optimizer", "each"),
    [("adamw", 8.0), ("lion", 4.0), ("sgd", 0.0), ("sgd_momentum", 4.0), ("paged_adamw8bit", 0.0), ("adafactor", 0.02)],
)
def test_states_by_optimizer(optimizer: str, each: float) -> None:
    trained = trained_bytes(TOY, Setting(method="full", weights_dtype="fp32", optimizer=optimizer))
    assert trained.states == pytest.approx(each * 1e9)


def test_eight_bit_adam_keeps_the_embedding_in_32_bit() -> None:
    states = trained_bytes(TOY, Setting(optimizer="adamw8bit")).states
    assert states == pytest.approx((1e9 - TABLE) * 2 * (1 + 4 / 256) + TABLE * 8)


def test_low_rank_states_are_smaller() -> None:
    wide = TOY.model_copy(update={"hidden": 4096})
    galore, muon, adamw = (trained_bytes(wide, Setting(optimizer=o)).states for o in ("galore", "muon", "adamw"))
    assert galore < muon < adamw


def test_adapters_train_r_times_in_plus_out() -> None:
    assert trained_params(TOY, Setting(method="lora", lora_rank=4, lora_targets=("q", "v"))) == 10 * 4 * (2000 + 2000)
    assert trained_params(TOY, Setting(method="lora", lora_rank=4, lora_targets=("down",))) == 10 * 4 * (4000 + 1000)
    assert trained_params(TOY, Setting(method="dora", lora_rank=4, lora_targets=("q",))) == 10 * (4 * 2000 + 1000)
    assert trained_params(TOY, Setting(method="lora", lora_rank=1, lora_targets=("embed", "head"))) == 2 * TABLE
    assert trained_params(TOY, Setting(method="freeze")) == 21 * 1000
    assert trained_params(TOY, Setting(method="full")) == 1e9


def test_quantised_weights_leave_embedding_and_output_matrix_alone() -> None:
    body = 1e9 - 2 * TABLE
    prepared = weights_bytes(TOY, Setting(method="qlora", quant_bits=4))  # what is left is cast to 32 bit
    plain = weights_bytes(TOY, Setting(method="qlora", quant_bits=4, quant_type="nf4"))
    assert prepared == pytest.approx(2 * TABLE * 4 + body * (0.5 + (1 + 4 / 256) / 64))
    assert plain == pytest.approx(2 * TABLE * 2 + body * (0.5 + 4 / 64))
    assert weights_bytes(TOY, Setting(quant_bits=8)) == pytest.approx(2 * TABLE * 2 + body, rel=0.01)


def test_a_block_of_full_training_counted_by_hand() -> None:
    # Two norms: 32-bit input, the normalised one, the output; queries, keys, values, output; four MLP tensors.
    kept = block_of(TOY, Setting(flash_attention=True)).kept
    assert kept == 2 * (4 + 2) * 1000 + 2 * 2 * 1000 + 4 * 2 * 1000 + 4 * 10 + 4 * 2 * 4000


def test_frozen_matrices_keep_no_input() -> None:
    frozen = block_of(TOY, Setting(method="lora", lora_targets=(), flash_attention=True)).kept
    assert frozen == 2 * 4 * 1000 + 4 * 2 * 1000 + 4 * 10 + 3 * 2 * 4000


def test_eager_attention_keeps_scores() -> None:
    eager, flash = (block_of(TOY, Setting(seq_len=500, flash_attention=f)).kept for f in (False, True))
    assert eager - flash == (4 + 2 + 1 + 2) * 10 * 500


def test_a_compressed_cache_is_made_whole_for_attention() -> None:
    latent = Latent(kv_rank=64, nope_dim=128, rope_dim=64, v_dim=128)
    whole = block_of(TOY.model_copy(update={"latent": latent}), Setting(flash_attention=True)).kept
    assert whole - block_of(TOY, Setting(flash_attention=True)).kept == 4 * 2 * 10 * (192 - 100)


def test_split_models_divide_their_layers() -> None:
    split = parts(parallel="split", gpus=2, grad_checkpointing=True)
    assert close(split["weights"], 1e9)
    assert "gathered weights" not in split


def test_logits_are_kept_in_32_bit_or_in_chunks() -> None:
    whole = logits_bytes(TOY, Setting(seq_len=100))
    assert whole == 100 * (14 * 10_000 + 8 * 1000)
    assert logits_bytes(TOY, Setting(seq_len=100, fused_ce=True)) < whole / 4
    assert whole - logits_bytes(TOY, Setting(seq_len=100, compiled=True)) == 100 * 2 * 10_000
    assert logits_bytes(TOY, Setting(seq_len=100, in_place_ce=True)) == 100 * (8 * 10_000 + 8 * 1000)


def test_a_prepared_model_has_its_stream_and_logits_in_32_bit() -> None:
    prepared = Setting(method="qlora", quant_bits=4, grad_checkpointing=True, seq_len=100)
    wide, narrow = block_of(TOY, prepared), block_of(TOY, prepared._replace(narrow=True))
    assert wide.checkpoint == 2 * narrow.checkpoint
    more = logits_bytes(TOY, prepared) - logits_bytes(TOY, prepared._replace(narrow=True))
    assert more == 100 * 2 * 10_000


def test_a_sharded_model_is_not_prepared() -> None:
    sharded = Setting(method="qlora", quant_bits=4, grad_checkpointing=True, parallel="fsdp", gpus=2)
    assert block_of(TOY, sharded).checkpoint == 2 * 1000


@pytest.mark.parametrize(
    ("parallel", "weights", "gradients", "states"),
    [("ddp", 1, 1, 1), ("zero1", 1, 1, 4), ("zero2", 1, 4, 4), ("zero3", 4, 4, 4), ("fsdp", 4, 4, 4)],
)
def test_sharding_divides_what_it_shards(parallel: str, weights: int, gradients: int, states: int) -> None:
    one = Setting(parallel=parallel)
    whole, spread = trained_bytes(TOY, one), trained_bytes(TOY, one._replace(gpus=4))
    assert spread.gradients == pytest.approx(whole.gradients / gradients)
    assert spread.states == pytest.approx(whole.states / states)
    assert parts(parallel=parallel, gpus=4)["weights"] == pytest.approx(2e9 / weights, rel=1e-3)


def test_all_replicas_keep_buckets_as_large_as_their_gradients() -> None:
    assert close(parts(parallel="ddp", gpus=2)["buckets"], 2e9)
    assert "buckets" not in parts(parallel="ddp", gpus=1)


def test_offload_takes_states_off_the_gpu() -> None:
    assert "optimizer states" not in parts(parallel="zero2", gpus=2, offload=True)
    assert "weights" not in parts(parallel="zero3", gpus=2, offload=True)


def test_what_is_asked_for_decides_on_slack_and_context() -> None:
    def names(metric: str | None) -> set[str]:
        return {p.name for p in memory_parts(TOY, Setting(metric=metric))}

    assert not {"allocator slack", "CUDA context"} & names("allocated")
    assert {"allocator slack", "CUDA context"} & names("reserved") == {"allocator slack"}
    assert {"allocator slack", "CUDA context"} <= names("nvml")
    assert names(None) == names("nvml")


FAMILIES = tuple(Family)
COUNTS = st.integers(1, 64)
SHAPES = st.builds(
    ModelShape,
    params_b=st.floats(0.01, 500),
    hidden=st.integers(1, 256).map(lambda n: n * 64),
    layers=st.integers(1, 128),
    heads=COUNTS,
    kv_heads=COUNTS,
    intermediate=st.integers(0, 65536),
    vocab=st.integers(0, 300_000),
    gated=st.booleans(),
    family=st.sampled_from(FAMILIES),
    experts=st.sampled_from((0, 8)),
    experts_per_token=st.sampled_from((0, 2)),
)
SETTINGS = st.builds(
    Setting,
    method=st.sampled_from(("full", "lora", "qlora", "dora", "freeze")),
    weights_dtype=st.sampled_from(("fp32", "bf16")),
    compute_dtype=st.sampled_from(("fp32", "bf16", "fp16")),
    quant_bits=st.sampled_from((None, 4, 8)),
    optimizer=st.sampled_from(("adamw", "adamw_fused", "adamw8bit", "paged_adamw", "adafactor", "galore", "muon")),
    micro_batch=st.integers(1, 256),
    seq_len=st.integers(1, 200_000),
    lora_rank=st.integers(1, 512),
    trainable_params=st.none(),
    lora_targets=st.sampled_from((("q", "v"), ("all",), ("q", "down", "head"), ())),
    grad_checkpointing=st.booleans(),
    flash_attention=st.booleans(),
    fused_ce=st.booleans(),
    master_fp32=st.booleans(),
    gpus=st.integers(1, 256),
    parallel=st.sampled_from(("none", "ddp", "zero1", "zero2", "zero3", "fsdp")),
    grad_accum=st.sampled_from((None, 1, 8)),
    offload=st.booleans(),
    metric=st.sampled_from((None, "allocated", "reserved", "nvml")),
)


@given(SHAPES, SETTINGS, st.sampled_from(("micro_batch", "seq_len", "lora_rank")), st.integers(2, 5))
def test_more_batch_length_or_rank_never_needs_less(shape: ModelShape, setting: Setting, name: str, times: int) -> None:
    more = setting._replace(**{name: getattr(setting, name) * times})
    assert total(shape, more) >= total(shape, setting) - ROUNDING * 20


@given(SHAPES, SETTINGS, st.integers(2, 4))
def test_more_layers_of_the_same_kind_never_need_less(shape: ModelShape, setting: Setting, times: int) -> None:
    deeper = shape.model_copy(update={"layers": shape.layers * times, "params_b": shape.params_b * times})
    assert total(deeper, setting) >= total(shape, setting) - ROUNDING * 20


@given(SHAPES, SETTINGS, st.integers(2, 8), st.sampled_from(("zero1", "zero2", "zero3", "fsdp")))
def test_more_gpus_under_sharding_never_need_more(
    shape: ModelShape, setting: Setting, times: int, parallel: str
) -> None:
    setting = setting._replace(parallel=parallel, gpus=max(2, setting.gpus))
    assert total(shape, setting._replace(gpus=setting.gpus * times)) <= total(shape, setting) + ROUNDING * 20


@given(SHAPES, SETTINGS, st.sampled_from(("grad_checkpointing", "flash_attention", "fused_ce")))
def test_what_saves_memory_never_costs_any(shape: ModelShape, setting: Setting, name: str) -> None:
    # Of one length: where lengths vary, what passes reuses the blocks of other lengths, so that less of it may leave
    # more of them unused while the peak is elsewhere.
    setting = setting._replace(varying=False)
    without = setting._replace(**{name: False})  # type: ignore[arg-type]
    within = setting._replace(**{name: True})  # type: ignore[arg-type]
    assert total(shape, within) <= total(shape, without) + ROUNDING * 20


@given(SHAPES, SETTINGS)
def test_every_part_is_there_and_none_is_negative(shape: ModelShape, setting: Setting) -> None:
    found = memory_parts(shape, setting)
    assert found
    assert all(math.isfinite(p.gib) and p.gib >= 0 for p in found)


@given(
    st.integers(-(10**30), 10**30), st.integers(-(10**30), 10**30), st.integers(-(10**30), 10**30), st.text(max_size=5)
)
def test_absurd_numbers_and_words_break_nothing(batch: int, length: int, gpus: int, word: str) -> None:
    setting = Setting(
        *(word, word, word),
        optimizer=word,
        micro_batch=batch,
        seq_len=length,
        gpus=gpus,
        lora_rank=batch,
        trainable_params=float(length),
        parallel=word,
        quant_type=word,
        metric=word,
        image_size=length,
    )
    assert all(math.isfinite(p.gib) and p.gib >= 0 for p in memory_parts(TOY, setting))


def test_the_high_end_is_wider_where_less_is_sure() -> None:
    def high(shape: ModelShape = TOY, **changes: object) -> float:
        setting = Setting()._replace(**changes)  # type: ignore[arg-type]
        return high_of(memory_parts(TOY, Setting()), shape, setting)

    likely = total(TOY, Setting())
    assert likely < high() < high(varying=True)
    assert high() < high(gpus=2, parallel="fsdp")
    assert high() < high(TOY.model_copy(update={"exact": False})) < high(TOY.model_copy(update={"family": Family.CNN}))
    assert high() < 1.2 * likely
    assert holds(80, 70)
    assert not holds(80, 79.9)


def test_trainers_with_their_own_adapters_keep_them_in_the_models_type() -> None:
    peft = Setting(method="lora", lora_rank=4, lora_targets=("q", "head"))
    own = peft._replace(own_adapters=True)
    assert trained_params(TOY, own) == 10 * 4 * 2000 + 4 * (1000 + 10_000)  # the output matrix is adapted, not trained
    assert trained_bytes(TOY, own).copies == 2 * trained_params(TOY, own)
    assert trained_params(TOY, peft) == 10 * 4 * 2000 + TABLE


def test_a_load_that_gathers_everything_can_be_the_peak() -> None:
    step = Setting(method="lora", parallel="fsdp", gpus=4, seq_len=16, metric="allocated")
    assert total(TOY, step._replace(gathered_load=True)) > 2e9 * 1.25 / GIB > total(TOY, step)


def test_logits_of_differing_lengths_go_where_activations_were() -> None:
    few = runtime_gib(Setting(varying=True, metric="reserved"), Sizes(logits=1e9))["allocator slack"]
    many = runtime_gib(Setting(varying=True, metric="reserved"), Sizes(passing=1e9, logits=1e9))["allocator slack"]
    assert many < few


@pytest.mark.parametrize("checkpointing", [True, False])
def test_what_fsdp_copies_for_adapters_is_there_for_one_block_alone(checkpointing: bool) -> None:
    setting = {"method": "lora", "micro_batch": 4, "seq_len": 1024, "grad_checkpointing": checkpointing}
    deep = TOY.model_copy(update={"layers": 40, "params_b": 4.0})
    more = [
        parts(shape, gpus=2, parallel="fsdp", **setting)["activations"] - parts(shape, **setting)["activations"]
        for shape in (TOY, deep)
    ]
    assert 0 <= more[1] <= more[0] + 0.001 * GIB  # not so much for each block
