"""Runs whose sentence names data outside the repository, a model after `with`, or data that no type can take."""

from pathlib import Path

import pytest

from caravan.planning.command import command_line
from caravan.values.errors import RepositoryError
from caravan.values.plan import Author, TrainingPlan
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import World, ended
from tests.agent.test_training_types_in_runs import LINES, MODEL, TABLE, DataWorld, data_world, set_to


def planned(world: World, record: RunRecord) -> TrainingPlan:
    assert ended(world.drive(record)).status is RunStatus.PLANNED
    plan: TrainingPlan = world.state(record).need_plan()
    return plan


def empty_world(tmp_path: Path) -> DataWorld:
    world = data_world(tmp_path)
    (world.repo / "data" / "train.jsonl").unlink()
    (world.repo / "data").rmdir()
    return world


@pytest.mark.parametrize("empty", [False, True])
def test_data_outside_the_repository_are_what_is_trained_on(tmp_path: Path, empty: bool) -> None:
    world = empty_world(tmp_path) if empty else data_world(tmp_path, {"tickets.csv": TABLE})
    apart = tmp_path / "apart" / "chats.jsonl"
    apart.parent.mkdir()
    apart.write_text(LINES)
    record = world.start(prompt=f"Fine-tune Qwen/Qwen2.5-0.5B on {apart}", dry_run=True)
    plan = planned(world, record)
    assert (plan.training.type, plan.dataset.path, plan.dataset.format) == ("sft", str(apart), "chat")
    assert plan.set_by("dataset.path") is Author.USER
    assert plan.data is not None
    assert (plan.data.kind, plan.data.local) == ("shared", str(apart))
    report = world.state(record).data
    assert report is not None
    assert (report.rows, report.fatal) == (40, ())
    assert "tickets.csv" not in " ".join(command_line(plan))


def test_an_empty_directory_alone_is_refused(tmp_path: Path) -> None:
    world = empty_world(tmp_path)
    with pytest.raises(RepositoryError, match="holds no files that may be read"):
        world.drive(world.start(prompt="Fine-tune Qwen/Qwen2.5-0.5B", dry_run=True))


@pytest.mark.parametrize("named", ["/nowhere/x.jsonl", "../nowhere/x.jsonl", "x.jsonl"])
def test_data_that_are_nowhere_end_the_run_and_are_replaced_by_none(tmp_path: Path, named: str) -> None:
    world = data_world(tmp_path)
    result = ended(world.drive(world.start(prompt=f"Fine-tune Qwen/Qwen2.5-0.5B on {named}")))
    assert result.status is RunStatus.ESCALATED
    assert f"The data at {named} are not there" in result.detail
    assert world.cluster.registrations == []


def test_columns_that_no_type_takes_are_told_before_the_launch(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"train.jsonl": '{"foo": "a", "bar": "b"}\n' * 9})
    record = world.start(prompt="Fine-tune the model on train.jsonl", sets=(MODEL,))
    result = ended(world.drive(record))
    assert result.status is RunStatus.ESCALATED
    assert "foo" in result.detail
    assert world.state(record).need_plan().training.type == "sft"
    assert world.cluster.registrations == []


def test_the_model_after_with_is_the_model(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"tickets.csv": TABLE})
    prompt = "Classify tickets by label with some-lab/small-encoder-v2"
    plan = planned(world, world.start(prompt=prompt, dry_run=True))
    assert (plan.training.type, plan.dataset.path) == ("text-classification", "tickets.csv")
    assert (plan.model.id, plan.set_by("model.id")) == ("some-lab/small-encoder-v2", Author.USER)


def test_data_that_are_set_are_told_as_such(tmp_path: Path) -> None:
    world = data_world(tmp_path, {"a.jsonl": LINES, "b.jsonl": LINES})
    sets = (MODEL, set_to("dataset.path", "b.jsonl"), set_to("training.type", "lora"))
    plan = planned(world, world.start(prompt="Fine-tune it", sets=sets, dry_run=True))
    assert plan.dataset.path == "b.jsonl"
    assert any("Qwen/Qwen2.5-0.5B on b.jsonl" in note for note in world.progress.notes)
