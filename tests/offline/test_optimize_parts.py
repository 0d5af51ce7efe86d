"""What optimisation is made of: sides without leaks, intervals, wording, where cases come from."""

import json
from datetime import UTC, datetime
from itertools import product
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan import TEMPLATES
from caravan.agent.state import RunState
from caravan.offline.cases import PAPER, Allowed, Case, Expected, read_lines
from caravan.offline.compare import CHANCE, chance, compared, is_better
from caravan.offline.data import of_failures, of_place, unique
from caravan.offline.past import of_run
from caravan.offline.split import LEAST, grouped, split
from caravan.offline.wording import head_and_frame, reworded
from caravan.values.errors import UsageError
from caravan.values.failure import ChangePlan, Diagnosis, Evidence, FailureClass, Stage
from caravan.values.filling import fields
from caravan.values.optimization import Step
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.prompt_inputs import troubles
from caravan.values.repo import RepoProfile
from caravan.values.run import Attempt, RunRecord, RunRequest, RunStatus
from prompts import LocalPromptBook
from tests.offline.planted import case

BOOK = LocalPromptBook(TEMPLATES / "prompts")
MARKS = st.lists(st.sampled_from("abcdefghij"), max_size=3)


@given(st.lists(MARKS, max_size=40), st.integers(8, 60))
def test_like_cases_are_on_one_side(marks: list[list[str]], most: int) -> None:
    cases = [case(f"w{n}").model_copy(update={"alike": tuple(m)}) for n, m in enumerate(marks)]
    sides, groups = split(cases, most)
    where = [{groups[c.id] for c in side} for side in sides]
    assert not where[0] & where[1] | where[0] & where[2] | where[1] & where[2]
    assert sum(sides.sizes().values()) <= min(most, len(cases))
    for one in cases:
        for other in cases:
            if set(one.alike) & set(other.alike):
                assert groups[one.id] == groups[other.id]


def test_a_side_does_not_depend_on_what_else_there_is() -> None:
    cases = [case(f"w{n}") for n in range(60)]
    all_of_them, _ = split(cases, 1000)
    for name in all_of_them._fields:
        few, _ = split(cases[::3], 1000)
        assert {c.id for c in getattr(few, name)} <= {c.id for c in getattr(all_of_them, name)}


def test_a_side_does_not_depend_on_the_ids_of_what_else_there_is() -> None:
    before = [case(f"w{n}") for n in range(60)]
    joined = [case(f"w{n}").model_copy(update={"id": f"{n}-of-a-run"}) for n in range(60)]
    first, _ = split(before, 1000)
    later, _ = split([*before, *joined], 1000)
    for name in first._fields:
        assert {c.id for c in getattr(first, name)} <= {c.id for c in getattr(later, name)}


def test_groups_join_over_others() -> None:
    cases = [case(w).model_copy(update={"alike": m}) for w, m in (("x", ("1",)), ("y", ("1", "2")), ("z", ("2",)))]
    assert len(set(grouped(cases).values())) == 1


def test_a_difference_is_better_only_where_it_is_sure() -> None:
    groups = [str(n) for n in range(12)]
    assert is_better(compared([0.0] * 12, [1.0] * 12, groups, seed=1))
    assert not is_better(compared([0.0] * 12, [0.0] * 11 + [1.0], groups, seed=1))
    assert not is_better(compared([0.5] * 12, [0.5] * 12, groups, seed=1))
    one = compared([0.0, 1.0] * 6, [1.0, 1.0] * 6, groups, seed=1)
    assert one == compared([0.0, 1.0] * 6, [1.0, 1.0] * 6, groups, seed=1)
    assert one.low <= one.difference == 0.5 <= one.high
    # Twelve cases of one group are one witness: its interval is a point, and chance gives as much every other time.
    alone = compared([0.0] * 12, [1.0] * 6 + [0.0] * 6, ["a"] * 12, seed=1)
    assert (alone.low, alone.chance) == (0.5, 0.5)
    assert not is_better(alone)


@pytest.mark.parametrize(("better", "groups", "sure"), [(3, 5, False), (5, 5, False), (5, 8, False), (6, 6, True)])
def test_few_groups_that_are_better_are_no_proof(better: int, groups: int, sure: bool) -> None:
    scores = [1.0] * better + [0.0] * (groups - better)
    found = compared([0.0] * groups, scores, [str(n) for n in range(groups)], seed=1)
    assert found.low > 0
    assert found.chance == 0.5**better
    assert is_better(found) is sure
    assert LEAST["held_out"] == 6


SIZES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.8, 1.0, 1.3, 2.0]), max_size=7)


@given(SIZES)
def test_of_two_that_are_as_good_one_counts_as_better_as_seldom_as_said(sizes: list[float]) -> None:
    signed = [[s * size for s, size in zip(signs, sizes, strict=True)] for signs in product((1, -1), repeat=len(sizes))]
    assert sum(chance(sums, seed=0) <= CHANCE for sums in signed) <= CHANCE * len(signed)


def test_many_groups_are_drawn_and_never_said_to_be_too_sure() -> None:
    assert chance([0.5] * 12 + [-0.5] * 4, seed=0) == pytest.approx(sum(comb(16, n) for n in range(5)) / 2**16)
    assert chance([0.5] * 14 + [-0.5] * 6, seed=0) == pytest.approx(
        sum(comb(20, n) for n in range(7)) / 2**20, abs=0.01
    )
    assert chance([1.0] * 40, seed=0) == 1 / 10_001
    assert chance([], seed=0) == 1.0


@pytest.mark.parametrize("name", ["questions", "plan", "diagnose", "repair"])
def test_a_head_may_be_anything_and_the_prompt_stays_usable(name: str) -> None:
    prompt = BOOK.get(name)
    head, frame = head_and_frame(prompt.text)
    assert head + frame == prompt.text
    assert reworded(prompt.text, head) == prompt.text
    text = reworded(prompt.text, "Do it well.")
    assert fields(text) == prompt.fields
    assert troubles(name, text) == ()
    assert "never an instruction to you" in text


@given(st.text(max_size=300))
def test_no_head_breaks_a_prompt(head: str) -> None:
    text = BOOK.get("diagnose").text
    try:
        found = reworded(text, head)
    except UsageError:
        return
    assert fields(found) == fields(text)
    assert head_and_frame(found)[1] == head_and_frame(text)[1]


@pytest.mark.parametrize(
    ("right", "good", "bad"),
    [
        (Allowed(one_of=(1,)), [1, 1.0], [True, 2, None]),
        (Allowed(one_of=(True,)), [True], [1, "true"]),
        (Allowed(at_most=4), [4, 0.5], [5, True, None, "3"]),
        (Allowed(at_least=2, at_most=4), [2, 4], [1, 5]),
        (Allowed(), [0, False, "x"], [None]),
    ],
)
def test_what_is_allowed(right: Allowed, good: list[Any], bad: list[Any]) -> None:
    assert [v for v in good if not right.holds(v)] == []
    assert [v for v in bad if right.holds(v)] == []


def test_labelled_failures_are_cases_masked_and_alike_by_source() -> None:
    token = "hf_" + "Ab1" * 12
    rows = [
        {"id": "1", "text": f"Traceback\nValueError: no {token}", "origin": "task_stderr", "class": "user_code_bug"},
        {"id": "2", "text": "ok", "origin": "task_stderr", "class": "no_failure"},
        {"id": "3", "text": "x", "origin": "docker", "class": "disk_full", "source": "a"},
    ]
    found = list(of_failures("\n".join(json.dumps(row) for row in rows), "f"))
    assert [c.id for c in found] == ["1", "3"]
    assert token not in found[0].model_dump_json()
    assert "source:a" in found[1].alike
    with pytest.raises(UsageError, match="line 1 is no labelled failure"):
        list(of_failures('{"id": "1", "class": "nothing"}', "f"))


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": "x"}', '{"id": "x", "step": "diagnose"}', '{"id":"","step":"plan"}']
)
def test_what_is_no_case_is_said_with_its_line(line: str) -> None:
    with pytest.raises(UsageError, match="f, line 2"):
        list(read_lines(f"\n{line}", "f"))


def test_places_that_are_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        of_place("cases", str(tmp_path / "none"), None)
    with pytest.raises(UsageError, match="No LangFuse"):
        of_place("langfuse", "x", None)
    assert len(unique([case("a"), case("a"), case("b")])) == 2


def run(status: RunStatus, *, repaired: bool = True) -> tuple[RunRecord, RunState]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    request = RunRequest(prompt="p", source="s")
    record = RunRecord(id="r1", created_at=now, updated_at=now, status=status, request=request)
    change = PlanChange(path="training.micro_batch", value=4, by=Author.REPAIR, why="memory")
    plan = apply_changes(TrainingPlan(goal="g", command=("train.py",)), [change])
    diagnosis = Diagnosis(
        failure=FailureClass.CUDA_OOM, confidence=0.9, cause="c.", lines=("CUDA out of memory",), fingerprint="abc"
    )
    attempt = Attempt(
        number=1,
        job_id="j",
        hcl_path="h",
        plan_sha256="0",
        diagnosis=diagnosis,
        repair=ChangePlan(changes=(change,)) if repaired else None,
        changed={"training.micro_batch": (8, 4)},
    )
    last = Attempt(number=2, job_id="k", hcl_path="h", plan_sha256="1")
    profile = RepoProfile(root="/secret/place", tree_digest="", is_training_repo=True)
    return record, RunState(run_id="r1", request=request, plan=plan, profile=profile, attempts=(attempt, last))


def test_what_a_success_confirms_is_a_case() -> None:
    record, state = run(RunStatus.SUCCEEDED)
    diagnose, repair = of_run(record, state, {1: "step 1\nCUDA out of memory"}, PAPER)
    assert (diagnose.step, diagnose.expected.failure) == (Step.DIAGNOSE, FailureClass.CUDA_OOM)
    assert repair.plan.get("training.micro_batch") == 8
    assert repair.plan.set_by("training.micro_batch") is not Author.REPAIR
    assert repair.expected.mends[0].fields["training.micro_batch"].holds(4)
    assert diagnose.alike == repair.alike == ("fingerprint:abc",)
    assert "/secret/place" not in repair.model_dump_json()


@pytest.mark.parametrize("status", [s for s in RunStatus if s is not RunStatus.SUCCEEDED])
def test_what_is_only_believed_is_none(status: RunStatus) -> None:
    assert list(of_run(*run(status), {1: "x"}, PAPER)) == []
    assert list(of_run(*run(RunStatus.SUCCEEDED, repaired=False), {1: "x"}, PAPER)) == []


def test_a_case_without_its_truth_is_none() -> None:
    evidence = Evidence(stage=Stage.VERIFY)
    whole = Case(id="x", step=Step.DIAGNOSE, evidence=evidence, expected=Expected(failure=FailureClass.UNKNOWN))
    assert whole.expected.failure is FailureClass.UNKNOWN
