"""Corrections by what earlier runs were seen to need: nearer runs count more, bounds are told, the sum stays whole."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.catalogue import Prices
from caravan.planning.estimate import beyond_formula, estimate
from caravan.planning.learned import MOST, memory_correction, plan_key, speed_correction, subject_of
from caravan.values.estimate import Estimate
from caravan.values.measurement import Measurement
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from tests.planning.scenes import bare_plan, node, nomad

FACTS = nomad(node("a", ("NVIDIA A100-SXM4-80GB", 81920, 4)))
AT = datetime(2026, 11, 20, tzinfo=UTC)


def plan_of(model: str = "Qwen/Qwen2.5-7B", batch: int = 8, more: Mapping[str, Any] | None = None) -> TrainingPlan:
    values = {
        "model.id": model,
        "training.method": "lora",
        "training.micro_batch": batch,
        "training.max_len": 2048,
        "training.max_steps": 500,
        "training.grad_checkpointing": True,
        "resources.gpus": 1,
        **(more or {}),
    }
    return apply_changes(bare_plan(), [PlanChange(path=p, value=v, by=Author.USER) for p, v in values.items()])


def said(plan: TrainingPlan, *seen: Measurement, **more: Any) -> Estimate:
    return estimate(plan, FACTS, prices=Prices(), learned=seen, **more)


def seen_of(
    plan: TrainingPlan, times: float, run: str = "ab12cd34ef", *, speed: float = 1.0, **more: Any
) -> Measurement:
    """What a run of the plan was seen to need, `times` what the formula says."""
    formula = said(plan)
    subject = subject_of(plan, formula.shape, formula.gpu)
    assert formula.gpu_memory_gib
    assert formula.step_s
    fields: dict[str, Any] = {
        **subject._asdict(),
        "id": f"{run}/1/run",
        "run_id": run,
        "attempt": 1,
        "at": AT,
        "kind": "run",
        "predicted_gib": formula.gpu_memory_gib,
        "peak_gib": formula.gpu_memory_gib * times,
        "predicted_step_s": formula.step_s,
        "step_s": formula.step_s * speed,
        **more,
    }
    return Measurement.model_validate(fields)


def test_the_same_plan_needs_what_it_was_seen_to_need() -> None:
    plan = plan_of()
    plain, known = said(plan), said(plan, seen_of(plan, 1.3, speed=2.0))
    assert plain.gpu_memory_gib
    assert known.gpu_memory_gib == pytest.approx(1.3 * plain.gpu_memory_gib, rel=1e-3)
    assert known.formula_gib == pytest.approx(plain.gpu_memory_gib)
    assert sum(p.gib for p in known.breakdown) == pytest.approx(known.gpu_memory_gib)
    assert any("measured beyond the formula (run ab12cd34)" in p.name for p in known.breakdown)
    assert any("measured: run ab12cd34 on 2026-11-20 needed" in a for a in known.assumptions)
    assert known.confidence > plain.confidence
    assert plain.seconds
    assert known.seconds
    assert known.seconds.likely > 1.5 * plain.seconds.likely
    assert known.step_s == plain.step_s  # the formula's, so that the next run learns of it alone


def test_a_larger_batch_is_corrected_and_the_difference_is_said() -> None:
    known = said(plan_of(batch=8), seen_of(plan_of(batch=4), 1.2))
    assert known.learned_ratio == pytest.approx(1.2)
    assert any("at micro batch 4 (this plan: 8)" in a for a in known.assumptions)
    less = said(plan_of(batch=8), seen_of(plan_of(batch=4), 0.8))
    assert sum(p.gib for p in less.breakdown) == pytest.approx(less.gpu_memory_gib)
    assert less.learned_ratio == pytest.approx(0.8)


def test_another_model_of_the_family_moves_it_less_and_another_method_not_at_all() -> None:
    other = said(plan_of(), seen_of(plan_of("mistralai/Mistral-7B-v0.1"), 1.5)).learned_ratio
    assert other is not None
    assert 1.05 < other < 1.15
    assert said(plan_of(), seen_of(plan_of(more={"training.method": "full"}), 1.5)).learned_ratio is None
    assert said(plan_of()).learned_ratio is None


def test_what_is_beyond_belief_is_said_and_not_done() -> None:
    known = said(plan_of(batch=8), seen_of(plan_of(batch=4), 5.0))
    assert known.learned_ratio == MOST
    assert any("more than 2 times is not believed" in a for a in known.assumptions)
    exact = said(plan_of(), seen_of(plan_of(), 5.0))
    assert exact.learned_ratio == pytest.approx(5.0)  # this very plan was seen


def test_an_out_of_memory_is_a_lower_bound() -> None:
    plan = plan_of()
    formula = said(plan).gpu_memory_gib
    assert formula
    failed = seen_of(plan, 1.0, kind="out_of_memory", peak_gib=None, step_s=None, least_gib=formula * 1.25)
    known = said(plan, failed)
    assert known.gpu_memory_gib
    assert known.gpu_memory_gib > 1.25 * formula
    assert any("ran out of memory and needs more than" in a for a in known.assumptions)
    near = said(plan_of(batch=16), failed)
    assert near.learned_ratio is not None
    assert near.learned_ratio > 1.25
    told = seen_of(plan, 1.0, kind="out_of_memory", peak_gib=None, least_gib=formula * 0.5)
    assert said(plan_of(batch=16), told).learned_ratio is None  # the formula says more already


def test_what_this_run_was_seen_to_need_is_not_corrected_away() -> None:
    plan = plan_of(batch=8)
    low = seen_of(plan_of(batch=4), 0.7)
    formula = said(plan).gpu_memory_gib
    known = said(plan, low, beyond=1.4)
    assert formula
    assert known.gpu_memory_gib == pytest.approx(1.4 * formula, rel=1e-3)
    again = beyond_formula(known, {"total_gib": "80", "free_gib": "0", "tried_gib": "20"}, 1.4)
    assert again == pytest.approx(1.001 * 100 / formula, rel=0.02)


def test_speed_is_of_the_same_gpu_type_alone() -> None:
    plan = plan_of()
    subject = subject_of(plan, said(plan).shape, "NVIDIA A100-SXM4-80GB")
    assert speed_correction(subject, [seen_of(plan, 1.0, speed=1.5)])
    assert speed_correction(subject._replace(gpu="NVIDIA L4"), [seen_of(plan, 1.0, speed=1.5)]) is None


def test_a_plan_is_known_again_whatever_its_length_or_its_paths() -> None:
    plan = plan_of()
    same = plan_of(more={"training.max_steps": 9, "training.output_dir": "/state/runs/x", "training.seed": 3})
    assert plan_key(plan) == plan_key(same)
    assert plan_key(plan) != plan_key(plan_of(batch=4))
    assert plan_key(plan) != plan_key(plan_of(more={"training.options": {"--packing": True}}))


@given(
    ratios=st.lists(st.floats(0.05, 20), min_size=1, max_size=8),
    batches=st.lists(st.sampled_from([1, 2, 4, 16]), min_size=8, max_size=8),
)
def test_a_pooled_ratio_is_between_those_that_were_seen_and_within_bounds(
    ratios: list[float], batches: list[int]
) -> None:
    base = Measurement.model_validate(
        {"id": "x", "run_id": "r", "attempt": 1, "at": AT, "kind": "run", "key": "k", "model": "m", "method": "lora"}
    )
    seen = [
        base.model_copy(update={"run_id": f"r{n}", "micro_batch": b, "predicted_gib": 10.0, "peak_gib": 10.0 * r})
        for n, (r, b) in enumerate(zip(ratios, batches, strict=False))
    ]
    subject = subject_of(plan_of(), None)._replace(model="m", micro_batch=8)
    found = memory_correction(subject, 10.0, seen)
    assert found is not None
    low, high = max(min(ratios), 1 / MOST), min(max(ratios), MOST)
    assert min(low, MOST) - 1e-9 <= found.ratio <= max(high, 1 / MOST) + 1e-9
    assert "\n" not in found.text


def test_on_simulated_runs_the_second_estimate_errs_less_than_the_first() -> None:
    """Runs need what the formula says times a factor of their model and method, and some noise of their own."""
    draw = random.Random(7)
    models = ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-0.5B", "mistralai/Mistral-7B-v0.1")
    first, second = [], []
    for model in models:
        for method in ("lora", "full"):
            truth = draw.uniform(0.75, 1.4)
            before, plan = (plan_of(model, batch, {"training.method": method}) for batch in (2, 4))
            need = truth * draw.uniform(0.95, 1.05)
            formula = said(plan).gpu_memory_gib
            learned = said(plan, seen_of(before, truth * draw.uniform(0.95, 1.05))).gpu_memory_gib
            assert formula
            assert learned
            first.append(abs(formula / (formula * need) - 1))
            second.append(abs(learned / (formula * need) - 1))
    assert median(second) < median(first) / 2
    assert max(second) < 0.11
