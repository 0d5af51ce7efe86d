"""The time of a step: what makes it longer and shorter, against figures that can be counted by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.catalogue import CATALOGUE, gpu_like, gpu_named
from caravan.planning.speed import Work, spread, step_time
from caravan.values.shape import Family, ModelShape

SHAPE = ModelShape(
    params_b=8.03, hidden=4096, layers=32, heads=32, kv_heads=8, intermediate=14336, vocab=128256, tied=False
)


def _work(**changes: object) -> Work:
    return Work(shape=SHAPE, micro_batch=8, seq_len=4096, checkpointing=True)._replace(**changes)  # type: ignore[arg-type]


def _seconds(work: Work, gpu: str = "NVIDIA A100-SXM4-80GB") -> float:
    found = gpu_named(gpu)
    assert found is not None
    step = step_time(work, found)
    assert step is not None
    assert math.isclose(sum(step.parts.values()), step.seconds)
    return step.seconds


def test_the_share_of_the_peak_that_is_reached_is_a_usual_one() -> None:
    tokens = 8 * 4096
    operations = tokens * 8 * 8.03e9  # forward, backward, weights, forward again
    assert 0.35 < operations / (_seconds(_work()) * 312e12) < 0.75


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        ({}, {"checkpointing": False}),
        ({}, {"full": False, "rank": 16}),
        ({"full": False, "rank": 16, "quant_bits": 4}, {"full": False, "rank": 16}),
        ({"full": False, "rank": 16, "dora": True}, {"full": False, "rank": 16}),
        ({}, {"compiled": True}),
        ({"flash": False}, {}),
        ({"compute": "fp32"}, {"compute": "tf32"}),
        ({"seq_len": 8192, "micro_batch": 4}, {}),
        ({"gpus": 8, "parallel": "fsdp"}, {"gpus": 1}),
        ({"gpus": 8, "nodes": 2, "parallel": "fsdp"}, {"gpus": 8, "parallel": "fsdp"}),
        ({"grad_accum": 2}, {}),
        ({"offload": True}, {}),
    ],
)
def test_what_costs_time(slower: dict[str, object], faster: dict[str, object]) -> None:
    assert _seconds(_work(**slower)) > _seconds(_work(**faster))


def test_more_gpus_make_more_tokens_a_second() -> None:
    gpu = gpu_named("NVIDIA A100-SXM4-80GB")
    assert gpu is not None
    one, many = (step_time(_work(gpus=n, parallel="ddp"), gpu) for n in (1, 8))
    assert one is not None
    assert many is not None
    assert 4 < many.tokens_per_s / one.tokens_per_s <= 8


def test_tiny_batches_wait_for_the_host() -> None:
    gpu = gpu_named("NVIDIA A100-SXM4-80GB")
    assert gpu is not None
    step = step_time(_work(micro_batch=1, seq_len=64), gpu)
    assert step is not None
    assert step.parts["waiting for the host"] > step.parts["matrix products"] / 4


def test_experts_that_are_not_chosen_cost_nothing() -> None:
    experts = SHAPE.model_copy(
        update={"experts": 8, "experts_per_token": 2, "moe_intermediate": 14336, "params_b": 46.7}
    )
    assert _seconds(_work(shape=experts)) < 3 * _seconds(_work())


def test_convolutions_are_not_foretold() -> None:
    gpu = gpu_named("NVIDIA A100-SXM4-80GB")
    assert gpu is not None
    assert step_time(_work(shape=SHAPE.model_copy(update={"family": Family.CNN})), gpu) is None


def test_ranges_are_wider_where_less_is_known() -> None:
    assert spread(_work()) < spread(_work(nodes=2))
    assert spread(_work()) < spread(_work(offload=True))


@given(
    gpu=st.sampled_from(CATALOGUE),
    batch=st.integers(1, 1 << 20),
    length=st.integers(1, 1 << 24),
    params=st.floats(1e-6, 99_999),
    gpus=st.integers(1, 4096),
    bits=st.sampled_from([None, 4, 8]),
    compute=st.sampled_from(["bf16", "fp16", "fp32", "tf32", "what"]),
    parallel=st.sampled_from(["none", "ddp", "fsdp", "zero2", "zero3"]),
)
def test_any_work_takes_some_time(
    gpu: object, batch: int, length: int, params: float, gpus: int, bits: int | None, compute: str, parallel: str
) -> None:
    shape = SHAPE.model_copy(update={"params_b": params})
    work = Work(shape, micro_batch=batch, seq_len=length, gpus=gpus, quant_bits=bits, compute=compute)
    step = step_time(work._replace(parallel=parallel), gpu)  # type: ignore[arg-type]
    assert step is not None
    assert step.seconds > 0
    assert math.isfinite(step.seconds)
    assert all(value >= 0 for value in step.parts.values())


def test_a_slice_of_a_gpu_has_its_part() -> None:
    whole, part = gpu_named("NVIDIA A100-SXM4-80GB"), gpu_like("NVIDIA A100-SXM4-80GB MIG 3g.40gb")
    assert whole is not None
    assert part is not None
    assert part.memory_mib < whole.memory_mib / 2
    assert part.fp16_tflops == pytest.approx(whole.fp16_tflops * 3 / 7)
    assert part.usd_per_hour is not None
    assert whole.usd_per_hour is not None
    assert 0 < part.usd_per_hour < whole.usd_per_hour


@pytest.mark.parametrize("name", ["", "  ", "Frobnicator 9000", "NVIDIA A100-SXM4-80GB MIG 9g.800gb", "MIG 1g.5gb"])
def test_a_gpu_that_is_in_no_catalogue(name: str) -> None:
    assert gpu_like(name) is None


def test_a_word_means_the_least_of_what_it_may_mean() -> None:
    found = gpu_like("A100")
    assert found is not None
    assert found.memory_mib == 40960


@pytest.mark.parametrize(
    ("name", "same"), [("A100-SXM-80GB", "NVIDIA A100-SXM4-80GB"), ("NVIDIA H100 80GB HBM2e", "NVIDIA H100 PCIe")]
)
def test_older_names_mean_the_same_part(name: str, same: str) -> None:
    found = gpu_named(name)
    assert found is not None
    assert found.name == same
