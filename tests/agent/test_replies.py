"""A reply is to what was shown: after a node that failed, after what was asked about has changed, after days."""

from pathlib import Path
from typing import Any

import pytest

from caravan.planning.catalogue import Prices
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import ClusterUnreachable, Interrupted, StateError
from caravan.values.failure import ChangePlan
from caravan.values.job import RegisteredJob
from caravan.values.plan import Author, PlanChange
from caravan.values.run import DeploymentState, Phase, RunRecord, RunStatus, Snapshot
from tests.agent.test_deadlines import GOOD, Site, first_then
from tests.agent.test_fits import HOUR, Busy, gpu_world, wish
from tests.agent.test_fits import asked as choices_of
from tests.agent.test_loop import Ladder, Notes, World, ended
from tests.agent.test_secret_offer import CODE, VALUE
from tests.fakes.cluster import FakeCluster, Script
from tools import RepositoryToolbox

NO, YES = Reply(approved=False, why="no"), Reply(approved=True)


def asked(result: Ask | RunRecord, kind: AskKind) -> Ask:
    assert isinstance(result, Ask), result
    assert result.kind is kind
    return result


@pytest.mark.parametrize("yeses", [1, 2])
def test_a_no_to_secrets_counts_after_a_yes_that_could_not_be_carried_out(tmp_path: Path, yeses: int) -> None:
    world = World(tmp_path)
    (world.repo / "train.py").write_text(CODE)
    record = world.start(yes=False)
    here: Any = {"secret_of": {"HF_TOKEN": VALUE}.get}
    asked(world.drive(record, **here), AskKind.SECRETS)
    world.cluster.fail("write_variable", ClusterUnreachable("down"), times=yeses)
    for _ in range(yeses):
        with pytest.raises(ClusterUnreachable):
            world.drive(record, YES, **here)
        asked(world.drive(record, **here), AskKind.SECRETS)
    asked(world.drive(record, NO, **here), AskKind.APPROVAL)
    assert world.cluster.variables == {}


class FullDisk(Notes):
    """A progress whose place is full when a choice is told."""

    def note(self, text: str) -> None:
        super().note(text)
        if text.startswith("Chosen instead"):
            raise StateError("No room is left.")


def test_a_no_to_the_job_counts_after_a_reply_that_could_not_be_carried_out(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, Busy)
    record = world.start(yes=False, sets=(wish("resources.gpus", 4), HOUR))
    ask = choices_of(world, record)
    with pytest.raises(StateError):
        world.drive(record, Reply(choice=2), progress=FullDisk())
    assert world.drive(record) == ask
    assert ended(world.drive(record, NO)).status is RunStatus.REJECTED
    assert world.ids(record) == []


def test_a_no_counts_though_the_objection_has_gone_meanwhile(tmp_path: Path) -> None:
    world = World(tmp_path, first_then(Script(exit_code=1, stderr=b"x"), GOOD))
    package = PlanChange(path="setup.pip", value=["leftpadx==1.0"], by=Author.REPAIR)
    world.reasoner = Ladder(Prices(), (ChangePlan(changes=(package,), why="install leftpadx"),))
    record = world.start()
    ask = asked(world.drive(record, toolbox=RepositoryToolbox), AskKind.APPROVAL)
    assert any("leftpadx" in text for text in ask.objections)
    (world.repo / "requirements.txt").write_text("leftpadx==1.0\n")
    assert world.drive(record, toolbox=RepositoryToolbox) == ask
    result = ended(world.drive(record, NO, toolbox=RepositoryToolbox))
    assert result.status is RunStatus.REJECTED
    assert world.ids(record) == ["a01"]


class Forgetful(FakeCluster):
    """A cluster that once says of the first job, while it runs, that it does not know it."""

    looks_in_vain, unknown, done = 0, 0, False

    def _observe(self, job_id: str, namespace: str) -> Snapshot:
        seen = super()._observe(job_id, namespace)
        if seen.phase is Phase.RUNNING and not self.done:
            self.done, self.unknown = True, self.looks_in_vain
            return seen.model_copy(update={"phase": Phase.GONE})
        return seen

    def find(self, job_id: str, namespace: str = "default") -> RegisteredJob | None:
        found = super().find(job_id, namespace)
        self.unknown, hidden = max(self.unknown - 1, 0), self.unknown > 0
        return None if hidden else found


class ForgetfulForLonger(Forgetful):
    """The same, and the next look for the job finds nothing either."""

    looks_in_vain = 1


def test_a_job_that_is_there_when_it_is_looked_for_again_is_watched_on_without_a_question(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: GOOD, Forgetful)
    record = site.begin()
    assert ended(site.drive(record)).status is RunStatus.SUCCEEDED
    assert site.ids(record) == ["a01"]
    assert any("after all" in note for note in site.progress.notes)


@pytest.mark.parametrize("reply", [YES, NO])
def test_a_job_that_is_there_by_the_time_of_the_reply_is_watched_on(tmp_path: Path, reply: Reply) -> None:
    site = Site(tmp_path, lambda job: GOOD, ForgetfulForLonger)
    record = site.begin()
    asked(site.drive(record), AskKind.LOST_JOB)
    (lost,) = site.store.deployments(record.id)
    assert lost.state is DeploymentState.UNKNOWN
    assert ended(site.drive(record, reply)).status is RunStatus.SUCCEEDED
    assert site.ids(record) == ["a01"]
    assert [d.state for d in site.store.deployments(record.id)] == [DeploymentState.FINISHED]


class StoppedMeanwhile(FakeCluster):
    """A cluster whose registration takes effect after a `stop` has found no job, by an agent that is ended then."""

    store: Any = None

    def register(self, job: Any, *, replaces: int = 0) -> RegisteredJob:
        self.store.update_run(job["ID"].split("-")[1], status=RunStatus.STOPPED, detail="stopped by the user")
        super().register(job, replaces=replaces)
        raise KeyboardInterrupt


def test_a_job_that_was_registered_while_its_run_was_stopped_is_ended_by_the_next_drive(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda job: Script(hangs=True), StoppedMeanwhile)
    record = site.begin()
    cluster = site.cluster
    assert isinstance(cluster, StoppedMeanwhile)
    cluster.store = site.store
    with pytest.raises(Interrupted):
        site.drive(record)
    job_id = f"caravan-{record.id}-a01"
    for _ in range(2):
        assert ended(site.drive(record)).status is RunStatus.STOPPED
        assert cluster.snapshot(job_id).stopped
    assert [note for note in site.progress.notes if "told to end" in note] == [
        f"The run is stopped, and its job {job_id} still ran: it was told to end."
    ]
