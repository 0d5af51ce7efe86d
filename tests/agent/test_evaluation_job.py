"""The evaluation as a job of its own: deployed once, counted, stopped, and never a failure of the training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caravan.values.base import Json
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import ClusterUnreachable, JobRefused
from caravan.values.evaluation import EVALUATION_PATH, GateVerdict
from caravan.values.plan import Author, PlanChange
from caravan.values.run import DeploymentState, Purpose, RunRecord, RunStatus
from tests.agent.test_evaluated import LEARNT
from tests.agent.test_loop import World
from tests.fakes.cluster import Script
from tests.fakes.model_registry import MemoryRegistry

OWN = (
    PlanChange(path="evaluation.command", value=["python", "eval.py"], by=Author.USER),
    PlanChange(path="training.epochs", value=2, by=Author.USER),
)
ANSWER = json.dumps({"by": "command", "metrics": {"accuracy": 0.9}}).encode()


class Apart(World):
    """A world whose evaluation jobs follow a script of their own."""

    def __init__(self, tmp: Path, evaluation: Callable[[int], Script] | Script | None = None) -> None:
        super().__init__(tmp, self._script)
        self.models = MemoryRegistry(self.store)
        given = evaluation or Script(files={EVALUATION_PATH: ANSWER})
        self._evaluation = given if callable(given) else lambda _: given
        self.evaluated = 0
        (self.repo / "eval.py").write_text("print('{\"accuracy\": 0.9}')\n")
        # What it writes is looked at on the disk; the fake cluster runs nothing.
        self.wrote = True

    def _script(self, job: Json) -> Script:
        if "eval" not in job["ID"]:
            run = job["ID"].split("-")[1]
            place = self.tmp / "home" / "runs" / run / "outputs"
            place.mkdir(parents=True, exist_ok=True)
            (place / "weights").write_text("1")
            return Script(stdout=LEARNT)
        self.evaluated += 1
        return self._evaluation(self.evaluated)

    def go(self, record: RunRecord) -> RunRecord:
        result = self.drive(record, models=self.models)
        while isinstance(result, Ask):  # the program has no option for what is set, or its cost is not known
            result = self.drive(record, Reply(approved=True), models=self.models)
        return result


def started(world: World, **request: Any) -> RunRecord:
    return world.start(sets=OWN, **request)


def test_the_model_is_evaluated_behind_its_training_and_registered(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    record = started(world)
    result, state = world.go(record), world.state(record)
    assert result.status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "eval-01"]
    assert state.gate.metrics["accuracy"] == 0.9
    assert state.registered == "repo@1"
    purposes = [(d.purpose, d.state) for d in world.store.deployments(record.id)]
    assert sorted(purposes) == [(Purpose.EVALUATE, DeploymentState.FINISHED), (Purpose.TRAIN, DeploymentState.FINISHED)]
    assert (world.context(record.id).folder.path / "attempt-1" / "eval-1.nomad.hcl").is_file()
    assert len(state.attempts) == 1


def test_its_job_is_smaller_than_the_trainings(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    record = started(world)
    world.go(record)
    _, job = world.cluster.registrations
    (task,) = job["TaskGroups"][0]["Tasks"]
    script = next(t for t in task["Templates"] if t["DestPath"] == "local/launch.sh")["EmbeddedTmpl"]
    assert "python eval.py" in script
    assert "train.py" not in script
    assert job["TaskGroups"][0]["Count"] == 1


def test_a_person_sees_it_before_they_approve(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    record = started(world, yes=False)
    ask = world.drive(record)
    while isinstance(ask, Ask) and ask.kind is AskKind.QUESTIONS:
        ask = world.drive(record, Reply())
    assert isinstance(ask, Ask)
    assert "Then, as a job of its own, its model is evaluated: `python eval.py`" in ask.text
    assert ask.plan is not None
    assert (ask.plan.evaluation.on, ask.plan.evaluation.where) == (True, "job")
    assert ask.estimate is not None


def test_one_that_fails_is_no_failed_training(tmp_path: Path) -> None:
    world = Apart(tmp_path, Script(exit_code=1, stderr=b"boom\n"))
    record = started(world)
    result, state = world.go(record), world.state(record)
    assert result.status is RunStatus.SUCCEEDED
    assert state.gate.verdict is GateVerdict.LOOK
    assert world.models.of_run(record.id) is None
    assert world.ids(record) == ["a01", "eval-01"]
    assert any("was not registered" in text for text in state.warnings)


def test_an_interruption_from_outside_is_tried_once_more_and_no_more(tmp_path: Path) -> None:
    world = Apart(tmp_path, Script(interrupted="lost"))
    record = started(world)
    result, state = world.go(record), world.state(record)
    assert result.status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "eval-01", "reeval-01"]
    assert state.gate.verdict is GateVerdict.LOOK


def test_after_an_interruption_the_second_one_counts(tmp_path: Path) -> None:
    good = Script(files={EVALUATION_PATH: ANSWER})
    world = Apart(tmp_path, lambda n: Script(interrupted="lost") if n == 1 else good)
    record = started(world)
    world.go(record)
    assert world.state(record).registered == "repo@1"


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_around_its_registration_registers_it_once(tmp_path: Path, *, after: bool) -> None:
    world = Apart(tmp_path)
    record = started(world)

    def fail_then(job: Json) -> Script:
        if "eval" not in job["ID"]:
            world.cluster.fail("register", ClusterUnreachable("away"), after=after)
        return Apart._script(world, job)

    world.cluster._script = fail_then
    with pytest.raises(ClusterUnreachable):
        world.go(record)
    assert world.store.deployments(record.id)[-1].state is DeploymentState.INTENDED
    result = world.go(record)
    assert result.status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "eval-01"]
    assert world.state(record).registered == "repo@1"


def test_one_that_was_registered_and_is_gone_is_never_registered_anew(tmp_path: Path) -> None:
    world = Apart(tmp_path, Script(hangs=True))
    record = started(world)
    watch = world.cluster.watch

    class Away(Exception):
        pass

    def gone(job_id: str, namespace: str = "default") -> Any:
        if "eval" in job_id:
            raise Away
        return watch(job_id, namespace)

    world.cluster.watch = gone  # type: ignore[method-assign]
    with pytest.raises(Away):
        world.go(record)
    world.cluster.watch = watch  # type: ignore[method-assign]
    world.cluster.stop(f"caravan-{record.id}-eval-01", purge=True)
    world.store.update_run(record.id, cost_usd=2.5)  # what the agent that is gone had seen of it
    result, state = world.go(record), world.state(record)
    assert state.spent_usd == result.cost_usd == 2.5
    assert result.status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "eval-01"]
    assert state.gate.verdict is GateVerdict.LOOK


def test_a_job_that_the_cluster_refuses_is_told(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    record = started(world)

    def refuse(job: Json) -> Script:
        if "eval" not in job["ID"]:
            world.cluster.fail("register", JobRefused("no such thing"))
        return Apart._script(world, job)

    world.cluster._script = refuse
    result, state = world.go(record), world.state(record)
    assert result.status is RunStatus.SUCCEEDED
    assert state.gate.verdict is GateVerdict.LOOK
    assert world.ids(record) == ["a01"]


def test_what_is_switched_off_is_not_run(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    off = PlanChange(path="evaluation.on", value=False, by=Author.USER)
    record = world.start(sets=(*OWN, off))
    world.go(record)
    assert world.ids(record) == ["a01"]


def test_a_training_that_diverged_is_not_evaluated_for_money(tmp_path: Path) -> None:
    world = Apart(tmp_path)
    world.cluster._script = lambda _: Script(stdout=b"step 1 loss 2.0\nstep 2 loss nan\n")
    record = started(world)
    world.go(record)
    assert not [name for name in world.ids(record) if "eval" in name]


def test_a_stopped_run_ends_its_evaluation(tmp_path: Path) -> None:
    world = Apart(tmp_path, Script(hangs=True))
    record = started(world)
    note = world.progress.note

    def stop_then(text: str) -> None:
        note(text)
        if "is evaluated by" in text:
            world.store.update_run(record.id, status=RunStatus.STOPPED)

    world.progress.note = stop_then  # type: ignore[method-assign]
    result = world.go(record)
    assert result.status is RunStatus.STOPPED
    assert all(d.state is DeploymentState.FINISHED for d in world.store.deployments(record.id))
    assert world.models.of_run(record.id) is None


class Faking(Apart):
    """A world whose training leaves an answer where an evaluation would."""

    def _script(self, job: Json) -> Script:
        found = super()._script(job)
        told = b'{"by": "command", "metrics": {"accuracy": 1.0}}'
        return found if "eval" in job["ID"] else Script(stdout=found.stdout, files={EVALUATION_PATH: told})


def test_what_the_training_left_in_an_evaluations_place_is_no_answer(tmp_path: Path) -> None:
    world = Faking(tmp_path)
    world.go(started(world))
    assert world.evaluated == 1
