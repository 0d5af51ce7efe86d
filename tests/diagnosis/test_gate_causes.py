"""From the gate's words to a cause, a fingerprint and a ladder: what a failed evaluation leads to."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.repair import ladder
from caravan.diagnosis.rules import diagnose
from caravan.gate.judging import judge, objection
from caravan.planning.resume import incompatible
from caravan.values.evaluation import CanaryResult, Evaluation, EvaluationResult, SideMetrics
from caravan.values.failure import ChangePlan, Diagnosis, Evidence, FailureClass, Stage
from caravan.values.plan import Author, PlanChange, Target, TrainingPlan, apply_changes, plan_diff
from caravan.values.repo import ScriptOption
from tests.diagnosis.repair_scenes import case, diffs, facts, plan, profile

F = FailureClass
OPTIONS = (
    ScriptOption(flag="--learning_rate", type="float", default=2e-5),
    ScriptOption(flag="--num_train_epochs", type="int", default=3),
    ScriptOption(flag="--max_steps", type="int"),
    ScriptOption(flag="--max_grad_norm", type="float"),
    ScriptOption(flag="--lora_rank", type="int", default=16),
    ScriptOption(flag="--method", choices=("full", "lora"), default="full"),
    ScriptOption(flag="--weight_decay", type="float", default=0.0),
    ScriptOption(flag="--lora_dropout", type="float", default=0.05),
    ScriptOption(flag="--warmup_ratio", type="float", default=0.0),
)
FLAGS = {
    "training.lr": "--learning_rate",
    "training.epochs": "--num_train_epochs",
    "training.max_steps": "--max_steps",
    "training.max_grad_norm": "--max_grad_norm",
    "training.lora_rank": "--lora_rank",
    "training.method": "--method",
}
GATED = (F.UNDERFIT, F.OVERFIT, F.WORSE_THAN_BASE, F.MODEL_COLLAPSED, F.REGRESSED, F.TARGET_MISSED)


def sides(base: float, tuned: float, name: str = "loss", **guess: float) -> SideMetrics:
    return SideMetrics(base={name: base}, tuned={name: tuned}, guess=guess, samples=1000)


def log(**series: Sequence[float]) -> list[dict[str, float]]:
    count = len(next(iter(series.values())))
    return [{"epoch": n + 1.0, **{k: v[n] for k, v in series.items()}} for n in range(count)]


def cause(rows: Any = (), result: EvaluationResult | None = None, **fields: Any) -> Diagnosis:
    start = TrainingPlan(goal="", command=("train.py",), **fields)
    report = judge(start, result=result, rows=rows, expected=result is not None)
    return diagnose(Evidence(stage=Stage.EVALUATE, message=objection(report), exit_code=0), start, ())


FLAT = [{"step": n + 1.0, "loss": 2.0 + 0.0005 * (-1) ** n} for n in range(40)]
LATE = log(eval_loss=[2.0, 1.4, 1.3, 1.6, 2.2, 2.6])
GOAL = Target(metric="accuracy", direction="max", goal=0.9)


@pytest.mark.parametrize(
    ("failure", "given"),
    [
        (F.NUMERIC_DIVERGENCE, {"rows": log(loss=[2.0, 1.0, math.nan])}),
        (F.NUMERIC_DIVERGENCE, {"rows": [{"loss": 2.0 + 0.1 * n} for n in range(40)]}),
        (F.NUMERIC_DIVERGENCE, {"result": EvaluationResult(held_out=sides(2.0, math.nan))}),
        (F.NUMERIC_DIVERGENCE, {"result": EvaluationResult(collapse={"non_finite": 0.5})}),
        (F.NUMERIC_DIVERGENCE, {"result": EvaluationResult(learnt=sides(2.0, 5.0))}),
        (F.UNDERFIT, {"rows": FLAT}),
        (F.UNDERFIT, {"result": EvaluationResult(held_out=sides(2.0, 2.0), learnt=sides(2.0, 2.0))}),
        (F.UNDERFIT, {"result": EvaluationResult(held_out=sides(0.2, 0.5, "accuracy", majority=0.5))}),
        (F.OVERFIT, {"rows": LATE}),
        (F.OVERFIT, {"result": EvaluationResult(held_out=sides(2.0, 2.2), learnt=sides(2.0, 0.2))}),
        (F.WORSE_THAN_BASE, {"result": EvaluationResult(held_out=sides(2.0, 2.6))}),
        (F.WORSE_THAN_BASE, {"rows": [{"step": 10.0 * n, "eval_loss": 2.0 + 0.3 * n} for n in range(4)]}),
        (F.MODEL_COLLAPSED, {"result": EvaluationResult(collapse={"commonest": 1.0, "commonest_expected": 0.4})}),
        (F.MODEL_COLLAPSED, {"result": EvaluationResult(collapse={"zero_variance": 1.0})}),
        (
            F.MODEL_COLLAPSED,
            {"result": EvaluationResult(collapse={"empty": 1.0, "empty_base": 0.0, "empty_expected": 0.0})},
        ),
        (F.REGRESSED, {"result": EvaluationResult(regression=sides(1.0, 1.3), regressed=("a", "; ignore all"))}),
        (F.UNSAFE_ANSWERS, {"result": EvaluationResult(canary=CanaryResult(prompts=4, failed=("c1",)))}),
        (F.TARGET_MISSED, {"rows": [{"accuracy": 0.5}], "target": GOAL}),
        (F.TARGET_MISSED, {"rows": [{"loss": 0.5}], "target": GOAL}),
        (
            F.TARGET_MISSED,
            {"result": EvaluationResult(held_out=sides(2.0, 1.9)), "evaluation": Evaluation(better_by=0.3)},
        ),
    ],
)
def test_each_of_the_gates_sentences_is_a_cause(failure: F, given: dict[str, Any]) -> None:
    found = cause(**given)
    assert found.failure is failure
    assert found.cause
    assert found.advice


def test_where_it_was_best_is_known() -> None:
    found = cause(LATE)
    assert {"unit": "epoch", "best": "3", "of": "6", "metric": "eval_loss"}.items() <= found.details.items()
    assert found.cause == "The model is overfit: eval_loss was best at epoch 3 of 6."


def test_the_same_failure_has_the_same_fingerprint_whatever_else_failed() -> None:
    other = log(eval_loss=[3.0, 2.4, 2.5, 3.6, 4.2, 4.6])
    first, second = cause(LATE), cause(other, target=GOAL)
    assert first.failure is second.failure is F.OVERFIT
    assert first.fingerprint == second.fingerprint


def test_what_a_job_names_is_not_taken_for_a_sentence() -> None:
    planted = "x; 4 of 4 canary prompts are answered unsafely"
    result = EvaluationResult(held_out=SideMetrics(base={planted: 1.0}, tuned={planted: 2.0}))
    assert objection(judge(TrainingPlan(goal="", command=("t",)), result=result, rows=(), expected=True)) == ""


# ---- the ladders


def repairs(failure: F, values: dict[str, Any], **details: str) -> list[dict[str, Any]]:
    start = plan(values, flags=FLAGS)
    found = ladder(case(failure, start, facts(), repo=profile(*OPTIONS), details=details))
    return diffs(found, start)


def test_underfit_is_trained_longer_then_faster_then_with_more_of_an_adapter() -> None:
    given = {"training.lr": 1e-4, "training.method": "lora", "training.lora_rank": 8}
    assert repairs(F.UNDERFIT, given) == [
        {"training.epochs": 6.0},
        {"training.lr": 3e-4},
        {"training.lora_rank": 16},
    ]
    assert repairs(F.UNDERFIT, {"training.lr": 1e-7})[0] == {"training.lr": 2e-5}


def test_overfit_is_trained_to_where_it_was_best() -> None:
    found = repairs(F.OVERFIT, {"training.epochs": 8, "training.lr": 3e-4}, unit="epoch", best="2", of="8")
    assert found[:3] == [{"training.epochs": 2.0}, {"training.lr": 1e-4}, {"training.lora_rank": 8}]
    assert {"training.options.--weight_decay": 0.1, "training.options.--lora_dropout": 0.1} in found
    steps = repairs(F.OVERFIT, {"training.max_steps": 400}, unit="step", best="100", of="400")
    assert steps[0] == {"training.max_steps": 100}


def test_worse_than_its_base_and_regressed_are_trained_slower_or_with_an_adapter() -> None:
    given = {"training.lr": 3e-5, "training.epochs": 4}
    assert repairs(F.WORSE_THAN_BASE, given) == [
        {"training.lr": 1e-5},
        {"training.epochs": 2.0},
        {"training.method": "lora"},
    ]
    assert repairs(F.REGRESSED, given)[1] == {"training.method": "lora"}


def test_a_missed_target_is_trained_longer_only_where_that_promises_something() -> None:
    assert repairs(F.TARGET_MISSED, {"training.epochs": 2}) == []
    assert repairs(F.TARGET_MISSED, {"training.epochs": 2}, still="still") == [{"training.epochs": 4.0}]


def test_unsafe_answers_are_a_persons_matter() -> None:
    assert repairs(F.UNSAFE_ANSWERS, {}) == []


NUMBERS = st.floats(0.01, 1000).map(lambda x: f"{x:.4g}") | st.sampled_from(["0", "-1", "nan", "x", ""])


@given(
    st.sampled_from(GATED),
    st.fixed_dictionaries(
        {},
        optional={
            "training.lr": st.floats(1e-9, 10),
            "training.epochs": st.floats(0.01, 100),
            "training.max_steps": st.integers(1, 10**6),
            "training.lora_rank": st.integers(1, 1024),
            "training.method": st.sampled_from(["full", "lora", "qlora"]),
            "training.warmup": st.floats(0, 0.5),
            "training.max_grad_norm": st.floats(0.1, 10),
        },
    ),
    st.fixed_dictionaries({}, optional={"best": NUMBERS, "of": NUMBERS, "unit": st.just("epoch"), "still": NUMBERS}),
    st.sampled_from([Author.DEFAULT, Author.USER, Author.REPAIR]),
)
def test_every_rung_is_a_new_plan_that_begins_anew(
    failure: F, values: dict[str, Any], details: dict[str, str], by: Author
) -> None:
    start = apply_changes(plan(flags=FLAGS), [PlanChange(path=p, value=v, by=by) for p, v in values.items()])
    found = ladder(case(failure, start, facts(), repo=profile(*OPTIONS), details=details))
    seen = {start.digest()}
    for repair in found:
        assert isinstance(repair, ChangePlan)
        after = apply_changes(start, repair.changes)
        assert after.digest() not in seen
        seen.add(after.digest())
        assert repair.why
        assert incompatible(start, after)
        if failure in (F.OVERFIT, F.WORSE_THAN_BASE, F.REGRESSED):
            for path in ("training.epochs", "training.max_steps", "training.lr"):
                before, now = plan_diff(start, after).get(path, (None, None))
                assert before is None or now < before
