"""The cases that are shipped: each can be answered rightly, under the guard, with a plan that makes a job."""

from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from caravan import TEMPLATES
from caravan.agent.proved import unproved
from caravan.agent.qwen.replies import DiagnosisReply, PlanReply, QuestionsReply, RepairsReply
from caravan.offline.cases import Allowed, Case, lines_of, read_lines
from caravan.offline.data import of_rows, rows_of, shipped
from caravan.offline.scoring import judge
from caravan.offline.split import split
from caravan.offline.steps import WAYS
from caravan.values.optimization import Step
from caravan.values.plan import apply_changes

CASES = shipped(TEMPLATES / "cases")
PROOF = partial(unproved, templates=TEMPLATES)


def value(right: Allowed) -> Any:
    if right.one_of:
        return right.one_of[0]
    found = right.at_least if right.at_least is not None else right.at_most
    assert found is not None
    return int(found) if found == int(found) else found


def right(case: Case) -> BaseModel:
    """The reply that is right by the case's own word."""
    if case.step is Step.DIAGNOSE:
        assert case.expected.failure is not None
        assert case.evidence is not None
        lines = case.evidence.log_lines[-1:]
        answer = {"failure": case.expected.failure.value, "confidence": 0.6, "cause": "It is so", "lines": lines}
        return DiagnosisReply.model_validate(answer)
    if case.step is Step.PLAN:
        changes = [{"path": p, "value": value(a), "why": "asked for"} for p, a in case.expected.fields.items()]
        return PlanReply.model_validate({"changes": changes})
    if case.step is Step.REPAIR:
        return RepairsReply.model_validate({"repairs": [mend(case)] if case.expected.mends else []})
    asked = [
        {"id": path, "text": "What should it be?", "path": path, "default": DEFAULTS[path], "reason": "it matters"}
        for path in case.expected.paths
    ]
    return QuestionsReply.model_validate({"questions": asked})


DEFAULTS: dict[str, Any] = {
    "training.method": None,
    "training.max_len": None,
    "training.lr": 1e-4,
    "training.grad_accum": 4,
    "training.num_workers": 4,
    "training.seed": 1,
    "training.global_batch": 32,
    "training.lora_rank": 16,
    "training.precision": "bf16",
    "training.optimizer": "adamw_torch",
    "training.max_grad_norm": 1.0,
    "training.warmup": 100,
    "training.save_total_limit": 2,
}


def mend(case: Case) -> dict[str, Any]:
    first = case.expected.mends[0]
    changes = [{"path": p, "value": value(a), "why": "it mends"} for p, a in first.fields.items()]
    return {"kind": first.kind, "changes": changes, "seconds": 60, "why": "it mends"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_right_answer_is_right(case: Case) -> None:
    verdict = judge(case, right(case), "", PROOF)
    assert verdict.score == 1.0, verdict.feedback


@pytest.mark.parametrize("case", [c for c in CASES if c.step in (Step.PLAN, Step.REPAIR)], ids=lambda case: case.id)
def test_the_plan_that_is_given_makes_a_job(case: Case) -> None:
    assert PROOF(case.plan, case.profile, case.facts) == ""
    assert apply_changes(case.plan, []) == case.plan


@pytest.mark.parametrize("step", list(Step))
def test_there_are_enough_for_each_side(step: Step) -> None:
    sides, groups = split([c for c in CASES if c.step is step], 40)
    assert sides.lacking(groups) == ""


def test_no_answer_and_a_wrong_one_are_worth_less() -> None:
    for case in CASES:
        assert judge(case, None, "it was silent", PROOF).score == 0.0
    wrong = DiagnosisReply(failure="cuda_oom", cause="It is so", lines=("no such line at all",))
    scores = [judge(c, wrong, "", PROOF).score for c in CASES if c.step is Step.DIAGNOSE]
    assert max(scores[:14]) <= 0.2


def test_they_are_read_as_they_are_written_and_through_a_dataset() -> None:
    assert list(read_lines(lines_of(CASES), "x")) == CASES
    assert list(of_rows(rows_of(CASES), "x")) == CASES


def test_every_place_of_a_prompt_is_filled() -> None:
    from prompts import LocalPromptBook

    book = LocalPromptBook(TEMPLATES / "prompts")
    for step in Step:
        case = next(c for c in CASES if c.step is step)
        assert {part.name for part in WAYS[step].parts(case)} == set(book.get(step.value).fields)
