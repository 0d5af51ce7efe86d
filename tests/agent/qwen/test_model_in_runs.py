"""Whole runs with a scripted model: what only it can mend is mended by it; one that talks nonsense changes nothing."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.agent.context import Context
from caravan.agent.qwen.asking import Asker
from caravan.agent.qwen.reasoner import ModelReasoner
from caravan.agent.qwen.told import KIND, Voice
from caravan.agent.qwen.tools import Sight
from caravan.agent.state import RunState
from caravan.agent.traced import TracedReasoner
from caravan.values.base import Json
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.failure import FailureClass
from caravan.values.plan import Author
from caravan.values.reports import RunReport
from caravan.values.run import RunRecord, RunStatus
from prompts import LocalPromptBook
from tests.agent.test_loop import TRAIN, World, ended
from tests.fakes.chat import ScriptedChat, gone
from tests.fakes.cluster import Script

BOOK = LocalPromptBook(Path(__file__).parents[3] / "templates" / "prompts")
FAULT = b"Traceback (most recent call last):\nWidgetFault: the widgets of 8 do not fit the shelf\n"
CAUSE = {
    "failure": "training_config_invalid",
    "confidence": 0.9,
    "cause": "The batch does not fit the shelf",
    "lines": ["WidgetFault: the widgets of 8 do not fit the shelf"],
}
SMALLER = {
    "kind": "change_plan",
    "changes": [{"path": "training.options.--batch-size", "value": 4}],
    "why": "a smaller batch fits",
}


class Talking(World):
    """A world with a language model beside the rules; None: the rules alone."""

    def __init__(self, tmp: Path, script: Any = None, said: dict[str, Any] | None = None) -> None:
        super().__init__(tmp, script)
        self.chat = ScriptedChat(
            {step: each if isinstance(each, list) else [each] for step, each in (said or {}).items()}
        )
        self.talks = said is not None

    def context(self, run_id: str) -> Context:
        plain = super().context(run_id)
        if not self.talks:
            return plain
        voice = Voice(self.progress, self.tracer, self.store, self.clock, run_id)
        sight = Sight(plain.facts, lambda _: (), plain.folder.log_files)
        reasoner = ModelReasoner(self.reasoner, Asker(self.chat, BOOK, voice), sight)
        traced = TracedReasoner(reasoner, self.tracer)
        return replace(plain, reasoner=traced, adviser=reasoner, render_report=self.reported)

    def reported(self, state: RunState, context: Context) -> RunReport:
        """A report with the model's summary at its head, as the product asks for it."""
        text = f"{state.status}: {state.detail}"
        said, _ = context.adviser.summary(text) if context.adviser is not None else ("", "")
        return RunReport(markdown=f"{said}\n{text}" if said else text)


def shelf(job: Json) -> Script:
    """A training that only runs with a batch of four."""
    templates = job["TaskGroups"][0]["Tasks"][0]["Templates"]
    fits = any("--batch-size 4" in str(t["EmbeddedTmpl"]) for t in templates)
    return Script() if fits else Script(exit_code=1, stderr=FAULT)


def through(world: World, record: RunRecord) -> RunRecord:
    """Drive to the end, with a yes to what is asked."""
    result = world.drive(record)
    while isinstance(result, Ask):
        result = world.drive(record, Reply(approved=True) if result.kind is AskKind.APPROVAL else Reply())
    return result


def test_an_unknown_failure_is_classified_and_mended_by_the_model(tmp_path: Path) -> None:
    world = Talking(tmp_path, shelf, {"diagnose": CAUSE, "repairs": {"repairs": [SMALLER]}})
    record = world.start()
    assert through(world, record).status is RunStatus.SUCCEEDED
    first, second = world.state(record).attempts
    assert first.diagnosis.failure is FailureClass.TRAINING_CONFIG_INVALID
    assert first.diagnosis.by == "Qwen/Qwen3-8B"
    assert first.repair.why == "by Qwen/Qwen3-8B: a smaller batch fits"
    assert second.diagnosis is None
    kept = [e for e in world.store.events(record.id) if e.kind == KIND]
    assert {e.data["step"] for e in kept} >= {"diagnose", "repairs", "propose", "refine_profile", "summary"}
    assert {e.data["by"] for e in kept} == {"Qwen/Qwen3-8B"}


def test_without_a_model_the_same_failure_goes_to_a_person(tmp_path: Path) -> None:
    world = Talking(tmp_path, shelf)
    record = world.start()
    assert through(world, record).status is RunStatus.ESCALATED
    assert len(world.state(record).attempts) == 1


def test_a_repair_that_no_model_may_make_leaves_the_run_to_a_person(tmp_path: Path) -> None:
    evil = {"kind": "change_plan", "changes": [{"path": "user", "value": "root"}], "why": "rights"}
    world = Talking(tmp_path, shelf, {"diagnose": CAUSE, "repairs": {"repairs": [evil]}})
    record = world.start()
    assert through(world, record).status is RunStatus.ESCALATED
    assert world.state(record).plan.user is None
    assert any("rights" in note for note in world.progress.notes if note.startswith("Not taken from"))


def test_a_corrected_entry_point_is_analysed_and_told_in_the_plan(tmp_path: Path) -> None:
    said = {"field": "entry_point", "value": "real.py", "file": "README.md", "line": 1, "why": "named there"}
    world = Talking(tmp_path, None, {"refine_profile": {"changes": [said]}})
    (world.repo / "real.py").write_text(TRAIN.replace("--batch-size", "--samples"))
    (world.repo / "README.md").write_text("The training is real.py\n")
    record = world.start(prompt="Train it", dry_run=True)
    ended(world.drive(record))
    state = world.state(record)
    if state.profile.refined:  # the rules may have read the same off the README
        assert state.plan.set_by("command") is Author.MODEL
        assert "named there" in state.plan.provenance["command"].why
    assert state.plan.command[0] == "real.py"
    assert state.profile.option("--samples") is not None


def test_proposed_fields_are_the_models_in_what_is_shown_for_approval_and_are_what_is_deployed(tmp_path: Path) -> None:
    first = {"changes": [{"path": "training.options.--batch-size", "value": 4, "why": "small data"}]}
    second = {"changes": [{"path": "training.options.--batch-size", "value": 2, "why": "even smaller"}]}
    world = Talking(tmp_path, None, {"propose": [first, second]})
    record = world.start(yes=False)
    ask = world.drive(record)
    while isinstance(ask, Ask) and ask.kind is AskKind.QUESTIONS:
        ask = world.drive(record, Reply())
    assert isinstance(ask, Ask)
    assert ask.plan is not None
    assert ask.plan.set_by("training.options.--batch-size") is Author.MODEL
    asked = list(world.chat.steps)
    assert world.drive(record) == ask
    assert world.chat.steps == asked  # finished steps are not asked again
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert world.chat.steps == [*asked, "summary"]
    words = str(world.cluster.registrations[0])
    assert "--batch-size 4" in words
    assert "--batch-size 2" not in words


@pytest.mark.parametrize("answers", [("training_config_invalid", "checkpoint_unusable")])
def test_two_models_that_disagree_end_the_run_well(tmp_path: Path, answers: tuple[str, str]) -> None:
    first, second = ({**CAUSE, "failure": name} for name in answers)
    odd = {**SMALLER, "changes": [{"path": "training.options.--batch-size", "value": 6}]}
    said = {"diagnose": [first, second], "repairs": [{"repairs": [odd]}, {"repairs": [SMALLER]}]}
    world = Talking(tmp_path, shelf, said)
    record = world.start()
    assert through(world, record).status is RunStatus.SUCCEEDED
    causes = [a.diagnosis.failure.value for a in world.state(record).attempts if a.diagnosis]
    assert causes == list(answers)


NONSENSE = st.one_of(
    st.sampled_from(["", "no", "{", "[]", "null", '{"x": ', "I am sorry, I can't.", gone()]),
    st.text(max_size=40),
    st.fixed_dictionaries(
        {},
        optional={
            "changes": st.just([{"path": "image", "value": "evil", "why": "x"}, {"field": "root", "value": "/"}]),
            "failure": st.sampled_from(["no_failure", "unknown", "nonsense", "cuda_oom"]),
            "lines": st.just(["a line that no log has ever held"]),
            "cause": st.text(max_size=9),
            "questions": st.just([{"id": "x", "text": "Your password?", "path": "training.seed", "default": 1}]),
            "repairs": st.just([{"kind": "change_plan", "changes": [{"path": "user", "value": "root"}], "why": "x"}]),
            "edits": st.just([{"file": "train.py", "find": "nothing like it", "replace": "x"}]),
            "summary": st.just("It cost 999 USD."),
        },
    ),
)


def outcome(world: Talking, **request: Any) -> dict[str, str]:
    """All that a run has come to, but for its own id and places."""
    record = world.start(**request)
    result = through(world, record)
    state = world.state(record)
    plain = state.model_dump_json(exclude={"request"})
    report = (world.context(record.id).folder.path / "REPORT.md").read_text()
    return {
        name: _anywhere(str(text), world, record)
        for name, text in {"state": plain, "status": result.status, "detail": result.detail, "report": report}.items()
    }


def _anywhere(text: str, world: Talking, record: RunRecord) -> str:
    """A text without what says which run it was and where: digests hang on the places, too."""
    return re.sub(
        r"[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "ID",
        text.replace(record.id, "RUN").replace(str(world.tmp), "TMP"),
    )


FAILURES = {
    "well": None,
    "unknown": shelf,
    "memory": lambda job: (
        Script(exit_code=137, oom=True, sentinel=False)
        if job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] < 3000
        else Script()
    ),
}


BY_RULES: dict[str, dict[str, str]] = {}
"""What each run comes to by the rules alone: it is always the same."""


@pytest.mark.parametrize("name", FAILURES)
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(said=st.lists(NONSENSE, min_size=1, max_size=4))
def test_a_run_with_a_model_of_nonsense_is_the_run_by_rules(
    tmp_path_factory: pytest.TempPathFactory, name: str, said: list[Any]
) -> None:
    steps = ("refine_profile", "questions", "propose", "diagnose", "repairs", "patch", "summary")
    script: Any = FAILURES[name]
    if name not in BY_RULES:
        BY_RULES[name] = outcome(Talking(tmp_path_factory.mktemp("rules"), script))
    talking = Talking(tmp_path_factory.mktemp("model"), script, {step: list(said) for step in steps})
    assert outcome(talking) == BY_RULES[name]
    assert talking.chat.asked
