"""The report as Markdown: each part of a run is told, parts that were not reached say so, and no value breaks it."""

import functools
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from caravan.runs.report.content import content
from caravan.runs.report.markdown import as_markdown
from caravan.runs.report.material import Material
from caravan.values.delivery import holds_credentials
from caravan.values.dialogue import Answer, Question
from caravan.values.estimate import Estimate, MemoryPart, Range
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass
from caravan.values.plan import Author, OutputSink, PlanChange, Provenance, Training, TrainingPlan
from caravan.values.repo import GitState, Hazard, RepoProfile, SourceLine
from caravan.values.run import Attempt, Outcome, OutcomeKind, RunEvent, RunRecord, RunRequest, RunStatus

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BAR = re.compile(r"(?<!\\)(?:\\\\)*\|")  # a bar that no backslash escapes
SECRET = "correct-horse-battery"
HALVE = PlanChange(path="training.micro_batch", value=1, by=Author.REPAIR)


def render_report(run: RunRecord, **parts: Any) -> str:
    return as_markdown(content(Material(record=run, **parts)))


def record(status: RunStatus = RunStatus.SUCCEEDED, **request: Any) -> RunRecord:
    asked = RunRequest(**({"prompt": "fine-tune it", "source": "/repo"} | request))
    return RunRecord(id="r-1", created_at=NOW, updated_at=NOW, status=status, request=asked, cost_usd=1.25)


def whole(text: str = "some text") -> dict[str, Any]:
    """All the parts of a run, with `text` wherever others could have written something."""
    plan = TrainingPlan(
        goal=text,
        command=("python", text),
        env={"NAME": text},
        training=Training(micro_batch=2, options={"--x": text}),
        outputs=OutputSink(kind="path", location=text),
        provenance={"training.micro_batch": Provenance(by=Author.REPAIR, why=text)},
    )
    line = SourceLine(file=text[:50], line=3, text=text[:50])
    profile = RepoProfile(
        root="/repo",
        tree_digest="0",
        is_training_repo=True,
        entry_point=text,
        evidence={"entry_point": (line,)},
        hazards=(Hazard(kind="k", text=text, evidence=(line,)),),
        notes=(text,),
        git=GitState(commit="abc", dirty_files=2),
    )
    estimate = Estimate(
        gpu_memory_gib=3.25,
        gpu=text,
        breakdown=(MemoryPart(name=text, gib=1),),
        seconds=Range(low=10, likely=100, high=4000),
        cost_usd=Range(low=0, likely=1, high=2),
        assumptions=(text,),
    )
    outcome = Outcome(
        kind=OutcomeKind.FAILED, reason=text, exit_code=1, node_name=text, started_at=NOW, finished_at=NOW
    )
    diagnosis = Diagnosis(failure=FailureClass.CUDA_OOM, confidence=1, cause=text, lines=(text,), advice=text)
    attempt = Attempt(
        number=1,
        job_id="r-1-1",
        hcl_path=text,
        plan_sha256="s",
        outcome=outcome,
        diagnosis=diagnosis,
        repair=ChangePlan(changes=(HALVE,), why=text),
        changed={"training.micro_batch": (2, 1), "env.NAME": (None, text)},
    )
    return {
        "plan": plan,
        "profile": profile,
        "estimate": estimate,
        "attempts": (attempt, attempt.model_copy(update={"number": 2, "counts": False, "outcome": None})),
        "outcome": outcome,
        "events": (RunEvent(at=NOW, kind="node", text=text),),
        "questions": (Question(id="q", text=text, path="dataset.path"),),
        "answers": (Answer(question_id="q", value=text, by_user=False),),
        "metrics": {"loss": 0.1234567},
        "warnings": (text,),
    }


def test_each_part_of_a_run_is_told() -> None:
    text = render_report(record(RunStatus.FAILED), **whole())
    for told in (
        "# Run r-1: failed",
        "Begun 2026-11-21 12:00:00 UTC",
        "- Cost: 1.25 USD",
        "| some text | `dataset.path` | `some text` | default |",
        "| Entry point | `some text` | `some text:3` |",
        "| `training.micro_batch` | `2` | repair | some text |",
        "| `launch.nproc` | `1` | default |",
        "| GPU memory (each) | 3.2 GiB |",
        "The plan would get a GPU of type `some text`.",
        "| Time | 1 min 40 s | 10 s | 1 h 07 min | not measured |",
        "| Cost | 1.00 USD | 0.00 USD | 2.00 USD | 1.25 USD | 20 % too little |",
        "- Outcome: some text, exit code 1, on `some text`",
        "**Cause:** `cuda_oom`: some text",
        "**Repair:** `change_plan`: some text",
        "-training.micro_batch: 2\n+training.micro_batch: 1\n+env.NAME: some text\n",
        "does not count",
        "| `loss` | 0.123457 |",
        "Outputs (path): `some text`",
        "## Warnings\n\n- some text",
        "The model was not evaluated.",
        "python main.py reproduce r-1",
        "--prompt 'fine-tune it' --codebase-path /repo",
    ):
        assert told in text


def test_a_training_whose_result_did_not_pass_has_not_succeeded() -> None:
    parts = whole()
    good = Outcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)
    attempt = parts["attempts"][0].model_copy(update={"outcome": good})
    text = render_report(record(RunStatus.ESCALATED), **{**parts, "attempts": (attempt,), "outcome": good})
    assert "**ended with exit code 0, but its result did not pass** Job `r-1-1`" in text
    assert "The job ended with exit code 0, but its result did not pass.\n" in text
    assert "succeeded" not in text
    passed = attempt.model_copy(update={"diagnosis": None})
    text = render_report(record(), **{**parts, "attempts": (passed,), "outcome": good})
    assert "**succeeded** Job `r-1-1`" in text
    assert "- Outcome: exit code 0" in text


@pytest.mark.parametrize("status", RunStatus)
def test_what_was_not_reached_says_so(status: RunStatus) -> None:
    text = render_report(record(status))
    for told in (
        "not analysed",
        "No plan",
        "No estimate",
        "Nothing was deployed",
        "no result yet",
        "Nothing is recorded",
    ):
        assert told in text
    assert ("main.py resume r-1" in text) == (status in (RunStatus.RUNNING, RunStatus.WAITING))


def test_the_command_asks_for_the_same_again() -> None:
    sets = (
        PlanChange(path="training.lr", value=1e-4, by=Author.USER),
        PlanChange(path="image", value="a b", by=Author.USER),
    )
    asked = record(sets=sets, yes=True, budget_usd=30, cluster="local", answers={"data": "x"}, prompt="it's")
    text = render_report(asked)
    assert (
        "python main.py --prompt 'it'\"'\"'s' --codebase-path /repo --cluster local "
        "--set training.lr=0.0001 --set 'image=a b' --budget 30 --yes\n"
    ) in text
    assert '{\n  "data": "x"\n}' in text


def test_a_profile_is_named_again_for_it_says_how_its_cluster_is_reached() -> None:
    asked = record(cluster="https://nomad.example", profile="lab", send_secrets=True)
    assert "--cluster lab --send-secrets\n" in render_report(asked)


def test_the_same_run_gives_the_same_text() -> None:
    assert render_report(record(), **whole()) == render_report(record(), **whole())


def test_no_secret_is_told() -> None:
    asked = record(prompt=f"use {SECRET}", source=f"https://me:{SECRET}@host/x", answers={"q": SECRET})
    text = render_report(asked, secrets=[SECRET], **whole(f"text {SECRET}"))
    assert SECRET not in text
    changed = {"env.HF_TOKEN": ("abcdefgh", "ijklmnop")}
    attempt = whole()["attempts"][0].model_copy(update={"changed": changed})
    text = render_report(record(), attempts=[attempt])
    assert "-env.HF_TOKEN: [masked]\n+env.HF_TOKEN: [masked]\n" in text


def test_the_trace_is_named_where_there_is_one() -> None:
    text = render_report(record(), trace="/home/traces/r-1.jsonl")
    assert "in the trace: `/home/traces/r-1.jsonl`" in text
    assert "python main.py traces r-1" in text
    assert "trace" not in render_report(record())


def test_only_the_last_events_are_told() -> None:
    events = [RunEvent(at=NOW, kind="node", text=f"n{n}") for n in range(50)]
    text = render_report(record(), events=events)
    assert "10 earlier events are left out" in text
    assert " n9 |" not in text
    assert " n49 |" in text


def shape(text: str) -> list[str]:
    """The report's skeleton: headings, and the number of cells of each row of each table, outside blocks of code."""
    found, fence = [], ""
    for line in text.split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif re.match(r"`{3,}", line):
            fence = re.match(r"`+", line)[0]  # type: ignore[index]
        elif line.startswith("#"):
            found.append(line.split()[0])
        elif line.startswith("|"):
            found.append(str(len(BAR.findall(line))))
    return found


def outside_code(text: str) -> str:
    """The report without its blocks and spans of code."""
    without_blocks = re.sub(r"(?m)^(`{3,})[a-z]+\n[\s\S]*?\n\1$", "", text)
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", without_blocks)


hostile = st.text(min_size=1, max_size=40) | st.sampled_from(
    [
        "a|b",
        "`|`",
        "``x",
        "x`",
        "<script>",
        "\n# heading\n",
        "| a | b |\n|---|---|",
        "```\n# x",
        "\\|",
        "![x](y)",
        "&lt;",
        "\x1b[31m",
    ]
)


@functools.cache
def plain_shape() -> list[str]:
    return shape(render_report(record(prompt="p"), **whole("plain")))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hostile)
def test_no_value_breaks_the_report(text: str) -> None:
    assume(not holds_credentials(text))  # no plan takes such a place
    told = render_report(record(prompt=text), **whole(text))
    if text.isprintable() and text.strip():  # else some values are empty, and their rows are left out
        assert shape(told) == plain_shape()
    assert "<script>" not in outside_code(told)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", told)


def test_what_was_asked_of_a_language_model_is_told_with_its_cost() -> None:
    used = {"calls": 1, "prompt_tokens": 900, "completion_tokens": 50, "seconds": 2.5, "usd": 0.5}
    call = RunEvent(at=NOW, kind="model_call", text="said", data={"step": "diagnose", "model": "Qwen/Qwen3-8B", **used})
    call.data.update(prompt="diagnose", prompt_version="0123456789ab", prompt_origin="shipped")
    known = whole()
    diagnosed = known["attempts"][0].model_copy(
        update={"diagnosis": known["attempts"][0].diagnosis.model_copy(update={"by": "Qwen/Qwen3-8B"})}
    )
    text = render_report(
        record(RunStatus.FAILED),
        **{**known, "events": (*known["events"], call), "attempts": (diagnosed,)},
    )
    assert "| diagnose | Qwen/Qwen3-8B | diagnose 0123456789ab (shipped) | 1 | 900 + 50 | 2.5 | 0.50 USD |" in text
    assert "Found by Qwen/Qwen3-8B: the rules did not know it" in text
    assert "model\\_call" not in text
    assert "| Step | Model |" not in render_report(record(RunStatus.FAILED), **known)
