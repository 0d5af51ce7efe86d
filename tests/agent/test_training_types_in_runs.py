"""Runs of repositories that bring data and no program: a type is chosen, added, asked about, planned and deployed."""

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.agent.context import Context
from caravan.agent.training import changed_since, source_of
from caravan.runs.plan_file import plan_text, read_plan
from caravan.training.loading import Types, load_types
from caravan.training.ranges import beyond, set_by_people
from caravan.values.dialogue import Answer, Ask, AskKind, Reply
from caravan.values.errors import PlanError, RepositoryError, UsageError
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import World, ended
from tests.analysis.test_made_models import MAKER
from tests.fakes.folder import PlainFolder

OWN = Path(__file__).resolve().parents[2] / "examples" / "custom-type"
LINES = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "ok"}]}) + "\n"
    for n in range(40)
)
TABLE = "text,label\n" + "".join(f"a text of number {n},{n % 2}\n" for n in range(40))


def types() -> Types:
    return load_types(TEMPLATES / "train", [OWN])


class DataWorld(World):
    """A repository of data alone."""

    def __init__(self, tmp: Path, **files: str) -> None:
        super().__init__(tmp)
        (self.repo / "train.py").unlink()
        for path, text in (files or {"data/train.jsonl": LINES}).items():
            place = self.repo / path.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        self.types: Callable[[], Types] = types

    def context(self, run_id: str) -> Context:
        return replace(super().context(run_id), types=self.types)

    def folder(self, record: RunRecord) -> Path:
        return PlainFolder(self.tmp / "home", record.id).path


def data_world(tmp_path: Path, files: dict[str, str] | None = None) -> DataWorld:
    return DataWorld(tmp_path, **(files or {}))


def set_to(path: str, value: Any) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.USER, why="--set")


MODEL = set_to("model.id", "Qwen/Qwen2.5-0.5B")


def test_data_and_a_sentence_become_a_plan_for_a_script_of_ours(tmp_path: Path) -> None:
    world = data_world(tmp_path)
    record = world.start(prompt="Fine-tune Qwen/Qwen2.5-0.5B with LoRA on data/train.jsonl", dry_run=True)
    assert ended(world.drive(record)).status is RunStatus.PLANNED
    state = world.state(record)
    plan = state.plan
    assert (plan.training.type, plan.training.method, plan.model.id) == ("sft", "lora", "Qwen/Qwen2.5-0.5B")
    assert plan.dataset.path == "data/train.jsonl"
    assert plan.command[:1] == ("caravan_train/train.py",)
    assert plan.setup.requirements == "caravan_train/requirements.txt"
    assert plan.target.metric == "eval_loss"
    assert plan.resume is not None
    assert plan.resume.auto
    assert plan.code.kind == "archive"
    with tarfile.open(plan.code.location) as archive:
        names = set(archive.getnames())
    assert {"caravan_train/train.py", "data/train.jsonl"} <= names
    assert {p.name for p in world.repo.rglob("*")} == {"data", "train.jsonl"}, "the repository is never written"
    kept = (world.folder(record) / "training" / "caravan_train" / "train.py").read_text()
    assert "argparse" in kept or "arguments" in kept


def test_a_model_that_the_repository_makes_is_its_own_and_the_type_s_defaults_are_the_type_s(tmp_path: Path) -> None:
    files = {"make_model.py": MAKER, "README.md": "```\npython make_model.py\n```\n", "data/train.jsonl": LINES}
    world = data_world(tmp_path, files)
    record = world.start(prompt="Fine-tune the tiny model on data/train.jsonl", dry_run=True)
    world.drive(record)
    plan = world.state(record).need_plan()
    assert plan.model.id == "tiny-model"
    assert plan.set_by("model.id") is Author.REPOSITORY, "the sentence has no such name"
    assert plan.whose("model.id") == "repository"
    assert plan.whose("training.optimizer") == plan.whose("command") == "type sft"
    assert plan.is_own("training.optimizer")
    comments = {line.partition(":")[0].strip(): line for line in plan_text(plan).splitlines() if "#" in line}
    assert "type sft" in comments["optimizer"]
    assert "by repository" not in comments["optimizer"]
    assert read_plan(plan_text(plan)) == plan, "what is told to a person changes nothing of it"


def test_an_own_type_runs_by_name(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"poem.txt": "the tide comes in, the tide goes out\n" * 20})
    record = world.start(prompt="Learn from poem.txt", sets=(set_to("training.type", "bigrams"),))
    ended(world.drive(record))  # a cluster of the tests writes no model
    assert world.ids(record) == ["a01"]
    task = world.cluster.registrations[0]["TaskGroups"][0]["Tasks"][0]
    script = "".join(t["EmbeddedTmpl"] for t in task["Templates"])
    assert "caravan_train/train.py --data poem.txt" in script


def test_a_repository_with_a_program_of_its_own_stays_as_it_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.repo / "train.jsonl").write_text(LINES)

    def refused() -> Types:
        raise AssertionError("types are not even read")

    record = world.start(dry_run=True)
    assert ended(world.drive(record, types=refused)).status is RunStatus.PLANNED
    state = world.state(record)
    assert state.training is None
    assert state.plan.training.type is None
    assert state.plan.command[:1] == ("train.py",)


@pytest.mark.parametrize("asked", ["sets", "prompt"])
def test_ours_trains_where_it_is_asked_for_though_there_is_another(tmp_path: Path, asked: str) -> None:
    world = World(tmp_path)
    (world.repo / "train.jsonl").write_text(LINES)
    more = {"sets": (set_to("training.type", "lora"), MODEL)} if asked == "sets" else {"sets": (MODEL,)}
    prompt = "Train it" if asked == "sets" else "Fine-tune it with your own script, with LoRA"
    record = world.start(prompt=prompt, dry_run=True, **more)
    assert ended(world.drive(record, types=types)).status is RunStatus.PLANNED
    plan = world.state(record).plan
    assert (plan.training.type, plan.training.method) == ("sft", "lora")
    assert plan.command[0] == "caravan_train/train.py"


def test_the_model_is_asked_for_where_nothing_names_one(tmp_path: Path) -> None:
    world = data_world(tmp_path)
    record = world.start(prompt="Fine-tune it on data/train.jsonl")  # --yes does not know it either
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.QUESTIONS
    assert [(q.id, q.required) for q in ask.questions] == [("base_model", True)]
    answer = Answer(question_id="base_model", value="Qwen/Qwen2.5-0.5B")
    ended_or_ask = world.drive(record, Reply(answers=(answer,)))
    assert world.state(record).plan.model.id == "Qwen/Qwen2.5-0.5B"
    assert "--model Qwen/Qwen2.5-0.5B" in " ".join(_words(world.state(record).plan))
    assert ended_or_ask is not None


def _words(plan: Any) -> tuple[str, ...]:
    from caravan.planning.command import command_line

    return command_line(plan)


def test_what_is_as_likely_is_asked_and_the_answer_is_followed(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"reviews.csv": TABLE})
    record = world.start(prompt="Learn from reviews.csv", yes=False, dry_run=True)
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    question = next(q for q in ask.questions if q.id == "training_type")
    assert {"sft", "text-classification"} <= set(question.choices)
    other = next(c for c in ("sft", "text-classification") if c != question.default)
    given = (Answer(question_id="training_type", value=other), Answer(question_id="base_model", value="gpt2"))
    ask = world.drive(record, Reply(answers=given))
    while isinstance(ask, Ask):
        ask = world.drive(record, Reply())
    plan = world.state(record).plan
    assert plan.training.type == other == world.state(record).training.type
    assert plan.target.metric == next(e.type.target for e in types() if e.type.name == other)


def test_an_unknown_type_lists_those_there_are_before_anything_is_done(tmp_path: Path) -> None:
    world = data_world(tmp_path)
    record = world.start(sets=(set_to("training.type", "rlhf"),))
    with pytest.raises(UsageError) as raised:
        world.drive(record)
    assert "sft" in raised.value.line()
    assert world.ids(record) == []


def test_a_folder_of_the_files_name_is_refused(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"data/train.jsonl": LINES, "caravan_train/notes.txt": "mine"})
    with pytest.raises(RepositoryError, match="caravan_train"):
        world.drive(world.start(prompt="Fine-tune it on data/train.jsonl", sets=(MODEL,)))


@pytest.mark.parametrize("kind", ["git", "image", "mount"])
def test_the_code_can_only_be_sent(tmp_path: Path, kind: str) -> None:
    world = data_world(tmp_path)
    record = world.start(prompt="Fine-tune it on data/train.jsonl", sets=(MODEL, set_to("code.kind", kind)))
    with pytest.raises(PlanError, match=rf"code\.kind: {kind} can't be: caravan_train is Caravan's own"):
        world.drive(record)


def test_a_resumed_run_keeps_the_scripts_that_it_was_planned_with(tmp_path: Path) -> None:
    world = data_world(tmp_path)
    own = tmp_path / "types" / "mine"
    own.mkdir(parents=True)
    (own / "type.yaml").write_text("name: mine\ntitle: M\nabout: m\nformats: [chat]\n")
    (own / "train.py").write_text("print('first')\n")
    world.types = lambda: load_types(TEMPLATES / "train", [own])
    record = world.start(prompt="Train", yes=False, sets=(set_to("training.type", "mine"),))
    assert isinstance(world.drive(record), Ask)
    (own / "train.py").write_text("print('second')\n")
    state, context = world.state(record), world.context(record.id)
    assert source_of(state, context).read_text("caravan_train/train.py") == "print('first')\n"
    assert "has changed since" in changed_since(state, context)[0]
    (world.folder(record) / "training" / "caravan_train" / "train.py").unlink()
    with pytest.raises(UsageError, match="are gone"):
        source_of(state, context)


def test_data_with_nothing_in_them_end_the_run_before_anything_is_registered(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"data/train.jsonl": ""})
    record = world.start(sets=(set_to("training.type", "lora"), MODEL, set_to("dataset.path", "data/train.jsonl")))
    result = ended(world.drive(record))
    assert result.status is RunStatus.ESCALATED
    assert "data/train.jsonl" in result.detail
    assert world.ids(record) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (
            "training.options.--lora-dropout",
            0.95,
            "--lora-dropout of the training type sft takes a number from 0 to 0.9",
        ),
        (
            "training.options.--eval-fraction",
            "0.7",
            "--eval-fraction of the training type sft takes a number from 0 to",
        ),
        ("training.options", {"--save-steps": 0}, "--save-steps of the training type sft takes an integer from 1"),
        ("training.options.--loss-on", "some", "--loss-on of the training type sft takes one of auto, answers, all"),
        ("training.method", "dora", "--method of the training type sft takes one of full, lora, qlora"),
        ("training.precision", "tf32", "--precision of the training type sft takes one of auto, bf16, fp16, fp32"),
    ],
)
def test_a_value_that_a_knob_does_not_take_is_refused_before_the_launch(
    tmp_path: Path, path: str, value: Any, told: str
) -> None:
    world = data_world(tmp_path)
    record = world.start(prompt="Fine-tune on data/train.jsonl", sets=(MODEL, set_to(path, value)))
    with pytest.raises(UsageError) as error:
        world.drive(record)
    assert told in error.value.message
    assert path in error.value.message
    assert "\n" not in error.value.message
    assert world.cluster.registrations == []


def test_values_that_knobs_take_are_taken_however_they_are_typed(tmp_path: Path) -> None:
    world = data_world(tmp_path)
    sets = {"--eval-fraction": "0.5", "--save-steps": 3.0, "--packing": "true", "--lora-targets": "q_proj"}
    record = world.start(
        prompt="Fine-tune on data/train.jsonl", sets=(MODEL, set_to("training.options", sets)), dry_run=True
    )
    assert ended(world.drive(record)).status is RunStatus.PLANNED


def test_a_sentence_s_value_that_a_knob_does_not_take_is_refused_too() -> None:
    found = types().get("sft").type
    plan = TrainingPlan(goal="", command=("train.py",))
    plan = apply_changes(plan, [PlanChange(path="training.precision", value="tf32", by=Author.USER, why="prompt")])
    assert "--precision" in (beyond(found, set_by_people(plan)) or "")
    by_rule = apply_changes(
        TrainingPlan(goal="", command=("train.py",)),
        [PlanChange(path="training.precision", value="tf32", by=Author.DEFAULT)],
    )
    assert beyond(found, set_by_people(by_rule)) is None
