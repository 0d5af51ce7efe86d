"""How long a job takes: where its steps come from, what is beside them, what a limit does, and what isn't known."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.planning.catalogue import Prices
from caravan.planning.estimate import estimate
from caravan.values.estimate import Estimate
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.prices import PriceList
from tests.planning.scenes import bare_plan, builtin, node, nomad

A100 = ("NVIDIA A100-SXM4-80GB", 81920, 8)
HERE = nomad(node("a", A100))
MODEL = {"id": "Qwen/Qwen2.5-7B", "source": "hub"}
TRAINING = {
    "method": "lora", "lora_rank": 16, "epochs": 3, "micro_batch": 4, "grad_accum": 4, "max_len": 1024,
}  # fmt: skip


def _estimate(
    facts: ClusterFacts = HERE, prices: Prices | None = None, words: tuple[str, ...] = (), **more: Any
) -> Estimate:
    fields: dict[str, Any] = {
        "model": MODEL, "training": TRAINING, "dataset": {"examples": 52_000}, "resources": {"gpus": 1}, **more,
    }  # fmt: skip
    return estimate(bare_plan(*words, **fields), facts, prices=prices or Prices())


def _likely(found: Estimate) -> float:
    assert found.seconds is not None
    assert 0 <= found.seconds.low <= found.seconds.likely <= found.seconds.high
    return found.seconds.likely


def test_rows_epochs_and_the_batch_make_the_steps() -> None:
    found = _estimate()
    assert any("9,750 steps" in line for line in found.assumptions)
    assert 1800 < _likely(found) < 12 * 3600
    assert found.cost_usd is not None
    assert found.cost_usd.likely == pytest.approx(_likely(found) / 3600 * 2.04)


def test_half_the_epochs_take_about_half_the_time() -> None:
    half = _likely(_estimate(training={**TRAINING, "epochs": 1.5}))
    assert 0.45 < half / _likely(_estimate()) < 0.6


def test_a_number_of_steps_stands_over_epochs() -> None:
    found = _estimate(training={**TRAINING, "max_steps": 100})
    assert any("100 steps" in line for line in found.assumptions)
    assert _likely(found) < _likely(_estimate()) / 10


def test_more_processes_need_fewer_steps() -> None:
    many: dict[str, Any] = {"launch": {"launcher": "torchrun", "nproc": 8}, "resources": {"gpus": 8}}
    one, eight = _estimate(), _estimate(**many)
    assert _likely(one) / 8 < _likely(eight) < _likely(one) / 4


def test_without_rows_it_is_said_what_to_give() -> None:
    found = _estimate(dataset={})
    assert (found.seconds, found.cost_usd) == (None, None)
    assert any("dataset.examples" in line for line in found.assumptions)
    assert any("a step of" in line for line in found.assumptions)


def test_a_limit_bounds_it_and_what_it_cuts_is_said() -> None:
    found = _estimate(limits={"max_run_s": 600})
    assert found.seconds is not None
    assert found.seconds.high == found.seconds.likely == 600
    assert any("would end it at about" in line for line in found.assumptions)


def test_a_limit_is_the_time_where_the_speed_is_not_known() -> None:
    found = _estimate(dataset={}, limits={"max_run_s": 600})
    assert found.seconds is not None
    assert (found.seconds.low, found.seconds.high) == (0, 600)


def test_packages_image_and_model_are_counted() -> None:
    image = "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"
    found = _estimate(setup={"requirements": "requirements.txt"}, image=image)
    assert _likely(found) > _likely(_estimate())
    assert any(all(word in line for word in ("image", "packages", "model")) for line in found.assumptions)


def test_packed_samples_make_fewer_steps() -> None:
    packed = _estimate(training={**TRAINING, "options": {"--packing": True}})
    by_command = _estimate(words=("train.py", "--packing", "--x", "1"))
    assert any("3,412 steps" in line or "3,413 steps" in line for line in packed.assumptions)
    assert _likely(by_command) == _likely(packed)


def test_cpus_have_a_time_and_the_nodes_price() -> None:
    small: dict[str, Any] = {
        "model": {"id": "gpt2"},
        "dataset": {"examples": 1000},
        "resources": {"gpus": 0, "cpu_mhz": 20000},
    }
    priced = _estimate(nomad(node("a", meta={"caravan_usd_per_hour": "0.4"})), **small)
    assert priced.usd_per_hour == 0.4
    assert priced.cost_usd is not None
    assert priced.cost_usd.likely == pytest.approx(_likely(priced) / 3600 * 0.4)
    listed = Prices(listed=PriceList(usd_per_hour=0.1), where="prices.toml")
    assert _estimate(nomad(node("a")), prices=listed, **small).usd_per_hour == 0.1
    free = _estimate(builtin(), **small)
    assert free.usd_per_hour == 0
    assert any("costs nothing: the built-in cluster" in line for line in free.assumptions)
    unsaid = _estimate(nomad(node("a")), **small)
    assert any("nobody gives a price" in line and "caravan_usd_per_hour" in line for line in unsaid.assumptions)


def test_a_gpu_that_is_in_no_catalogue() -> None:
    strange = _estimate(nomad(node("a", ("Frobnicator 9000", 24000, 1))), model={"id": "gpt2"})
    assert (strange.seconds, strange.cost_usd, strange.usd_per_hour) == (None, None, None)
    assert any("isn't in the catalogue" in line for line in strange.assumptions)
    assert any("prices.toml" in line for line in strange.assumptions)
    nowhere = _estimate(
        ClusterFacts(kind=ClusterKind.NONE, address=""), resources={"gpus": 1, "gpu_model": "Frobnicator 9000"}
    )
    assert any("isn't in the catalogue" in line and "RTX 4090" in line for line in nowhere.assumptions)


def test_the_dearest_of_the_nodes_that_may_take_it_counts() -> None:
    facts = nomad(*(node(name, A100, meta={"caravan_usd_per_gpu_hour": usd}) for name, usd in (("a", "1"), ("b", "3"))))
    assert _estimate(facts).usd_per_hour == 3


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(
    examples=st.none() | st.integers(0, (1 << 63) - 1),
    epochs=st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    micro=st.none() | st.integers(1, (1 << 63) - 1),
    accum=st.none() | st.integers(1, (1 << 63) - 1),
    length=st.none() | st.integers(1, (1 << 63) - 1),
    steps=st.none() | st.integers(1, (1 << 63) - 1),
    limit=st.none() | st.integers(1, (1 << 63) - 1),
    gpus=st.sampled_from([0, 1, 8]),
    method=st.sampled_from([None, "full", "lora", "qlora", "dora", "freeze", "what"]),
    model=st.sampled_from([None, "gpt2", "Qwen/Qwen2.5-7B", "acme/own-70b", "bert-base-uncased"]),
)
def test_whatever_is_planned_there_is_a_time_or_a_reason(
    examples: int | None, epochs: float | None, micro: int | None, accum: int | None, length: int | None,
    steps: int | None, limit: int | None, gpus: int, method: str | None, model: str | None,
) -> None:  # fmt: skip
    training = {
        "epochs": epochs, "micro_batch": micro, "grad_accum": accum, "max_len": length, "max_steps": steps,
        "method": method,
    }  # fmt: skip
    found = _estimate(
        model={"id": model}, dataset={"examples": examples}, training=training, limits={"max_run_s": limit},
        resources={"gpus": gpus},
    )  # fmt: skip
    assert any(line.startswith("time") for line in found.assumptions)
    if found.seconds is not None:
        assert 0 <= found.seconds.low <= found.seconds.likely <= found.seconds.high < math.inf
        assert found.seconds.high > 0
    if gpus and found.cost_usd is not None:
        assert found.cost_usd.high > 0
