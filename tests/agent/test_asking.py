"""What is asked, asked back once, taken over from an earlier run of the repository, or needs no question at all."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.dialogue import Answer, Ask, AskKind, Reply
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import TRAIN, World, ended

OPEN = TRAIN.replace(
    'parser.add_argument("--epochs", type=int, default=2)',
    'parser.add_argument("--epochs", type=int, default=2)\nparser.add_argument("--flavour", required=True)',
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def questions(result: Ask | RunRecord) -> Ask:
    assert isinstance(result, Ask), result
    assert result.kind is AskKind.QUESTIONS
    return result


def set_(path: str, value: Any) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.USER, why=f"--set {path}")


def test_a_script_that_is_not_there_is_asked_back_and_not_deployed(world: World) -> None:
    record = world.start(answers={"entry_point": "tarin.py"})
    ask = questions(world.drive(record))
    (question,) = ask.questions
    assert (question.id, question.required, question.choices) == ("entry_point", True, ("train.py",))
    assert "tarin.py is not in the repository" in question.text
    assert world.store.run(record.id).status is RunStatus.WAITING
    assert world.ids(record) == []
    reply = Reply(answers=(Answer(question_id="entry_point", value="train.py"),))
    assert ended(world.drive(record, reply)).status is RunStatus.SUCCEEDED
    task = world.cluster.registrations[0]["TaskGroups"][0]["Tasks"][0]
    assert not any("tarin.py" in t["EmbeddedTmpl"] for t in task["Templates"])


def test_a_reply_that_contradicts_the_repository_is_asked_back_once_and_then_holds(world: World) -> None:
    (world.repo / "train.py").unlink()
    (world.repo / "notes.py").write_text("x = 1\n")
    record = world.start()
    assert questions(world.drive(record)).questions[0].id == "entry_point"
    reply = Reply(answers=(Answer(question_id="entry_point", value="made_by_setup.py"),))
    again = questions(world.drive(record, reply))
    assert again.text.startswith("Please look at this again")
    assert "made_by_setup.py is not in the repository" in again.questions[0].text
    result = ended(world.drive(record, reply))  # insisted: not asked a third time
    assert result.status is RunStatus.SUCCEEDED
    assert world.state(record).plan.command == ("made_by_setup.py",)


def test_with_yes_the_one_file_that_is_called_a_training_is_run_although_nothing_in_it_was_seen_to_train(
    world: World,
) -> None:
    (world.repo / "train.py").write_text("x = 1\n")
    record = world.start(yes=True)
    ended(world.drive(record))
    assert world.state(record).plan.command == ("train.py",)
    assert [note for note in world.progress.notes if note.startswith("Not asked, by --yes")] == [
        "Not asked, by --yes: command = python train.py; nothing else was found. For another say --set command=VALUE."
    ]


def test_more_gpus_than_there_are_are_asked_back_and_with_yes_the_word_holds(world: World) -> None:
    record = world.start(yes=False, sets=(set_("resources.gpus", 8),))
    ask = questions(world.drive(record))
    (question,) = (q for q in ask.questions if q.path == "resources.gpus")
    assert (question.default, question.reason) == (8, "no node has a GPU")
    answers = tuple(Answer(question_id=q.id, value=0 if q is question else q.default) for q in ask.questions)
    approval = world.drive(record, Reply(answers=answers))
    assert isinstance(approval, Ask)
    assert approval.kind is AskKind.APPROVAL
    assert approval.plan is not None
    assert approval.plan.resources.gpus == 0  # the answer, over `--set`
    insisting = world.start(sets=(set_("resources.gpus", 8),))
    later = world.drive(insisting)
    assert not isinstance(later, Ask) or later.kind is AskKind.APPROVAL
    assert [(a.value, a.by_user) for a in world.state(insisting).answers if a.question_id == "gpus"] == [(8, True)]


def test_two_replies_to_one_field_are_asked_back(world: World) -> None:
    (world.repo / "train.py").write_text(OPEN)
    record = world.start(yes=False)
    (first,) = questions(world.drive(record)).questions
    reply = Reply(
        answers=(
            Answer(question_id=first.id, value="sweet"),
            Answer(question_id="training.epochs", value=3, words='answer: "three epochs"'),
            Answer(question_id="training.epochs", value=5, words='answer: "5 epochs"'),
        )
    )
    (again,) = questions(world.drive(record, reply)).questions
    assert (again.id, again.choices) == ("epochs", (3, 5))
    world.drive(record, Reply(answers=(Answer(question_id="epochs", value=5),)))
    plan = world.state(record).plan
    assert (plan.training.epochs, plan.set_by("training.epochs")) == (5, Author.ANSWER)


def test_what_an_earlier_run_was_told_is_not_asked_again_and_may_be_overruled(world: World) -> None:
    (world.repo / "train.py").write_text(OPEN)
    first = world.start(yes=False)
    (question,) = questions(world.drive(first)).questions
    assert question.id == "option:--flavour"
    world.drive(first, Reply(answers=(Answer(question_id=question.id, value="sweet"),)))
    second = world.start(yes=False)
    ask = world.drive(second)
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.APPROVAL
    plan = world.state(second).plan
    path = "training.options.--flavour"
    where = f"as in run {first.id} on {first.created_at:%Y-%m-%d}"
    assert (plan.get(path), plan.set_by(path), plan.provenance[path].why) == ("sweet", Author.MEMORY, where)
    assert any(note.startswith(f"Not asked again: {path} = sweet, {where}") for note in world.progress.notes)
    third = world.start(yes=False, answers={"option:--flavour": "sour"})
    world.drive(third)
    assert world.state(third).plan.get(path) == "sour"
    fourth = world.start(yes=False)
    world.drive(fourth)
    assert world.state(fourth).plan.get(path) == "sour"  # the newest word


def test_an_answer_of_a_run_that_failed_is_a_default_to_be_confirmed(world: World) -> None:
    (world.repo / "train.py").write_text(OPEN)
    first = world.start(answers={"option:--flavour": "sweet"})
    world.drive(first)
    world.store._runs[first.id] = world.store.run(first.id).model_copy(update={"status": RunStatus.FAILED})
    (question,) = questions(world.drive(world.start(yes=False))).questions
    assert question.default == "sweet"
    assert f"as in run {first.id}" in question.reason
    assert question.reason.endswith("which did not end well")


def test_another_repository_is_asked_anew(world: World, tmp_path: Path) -> None:
    (world.repo / "train.py").write_text(OPEN)
    world.drive(world.start(answers={"option:--flavour": "sweet"}))
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.py").write_text(OPEN)
    (question,) = questions(world.drive(world.start(yes=False, source=str(other)))).questions
    assert question.default is None


def test_where_nothing_needs_to_be_asked_that_is_said(world: World) -> None:
    world.drive(world.start(yes=False, prompt="Train it for three epochs, as cheap as possible"))
    notes = "\n".join(world.progress.notes)
    assert "Nothing needs to be asked" in notes
    assert 'Understood: training.epochs = 3 ("three epochs")' in notes
    assert 'I could not use "as cheap as possible"' in notes


def test_a_deadline_is_counted_from_when_the_run_began(world: World) -> None:
    record = world.start(prompt="Train it within 2 hours")
    world.drive(record)
    assert world.state(record).plan.limits.max_run_s == 7200
    other = world.start(prompt="Train it tonight")
    world.drive(other)
    plan = world.state(other).plan
    assert plan.limits.max_run_s == plan.limits.queue_s
    assert "until" in plan.provenance["limits.max_run_s"].why
