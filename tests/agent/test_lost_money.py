"""What was paid counts once: for a job that vanished while it ran, and for models of a run that is taken up again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.agent.driver import Driver, open_checkpoints
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.record import MODEL_CALL, RunEvent
from caravan.values.run import Phase, RunStatus, Snapshot
from tests.agent.test_loop import GPU, HOUR, World, ended, gpu_world
from tests.fakes.cluster import FakeCluster, Script


class Vanishing(FakeCluster):
    """Its first job is purged after half an hour of running; its watch still shows the allocations it saw."""

    vanished = False

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        for snapshot in super().watch(job_id, namespace):
            if self.vanished or snapshot.phase is not Phase.RUNNING:
                yield snapshot
                continue
            yield snapshot
            self._clock.sleep(1800)
            self.vanished = True
            self.stop(job_id, namespace, purge=True)
            yield snapshot.model_copy(update={"phase": Phase.GONE, "at": self._clock.now()})
            return


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = gpu_world(tmp_path)
    made.cluster = Vanishing(made.clock, facts=made.cluster.facts())
    return made


@pytest.mark.parametrize("approved", [True, False])
def test_what_a_vanished_job_has_cost_counts(world: World, *, approved: bool) -> None:
    record = world.start(sets=(GPU, HOUR))
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.LOST_JOB
    end = ended(world.drive(record, Reply(approved=approved)))
    assert end.status is (RunStatus.SUCCEEDED if approved else RunStatus.REJECTED)
    assert world.state(record).spent_usd >= 0.5
    assert world.store.run(record.id).cost_usd == world.state(record).spent_usd


def test_what_models_cost_is_no_cost_of_the_job_of_a_run_that_is_taken_up_again(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, lambda job: Script(exit_code=7, stdout=b"odd\n"))
    record = world.start(sets=(GPU, HOUR))
    asked = RunEvent(at=world.clock.now(), kind=MODEL_CALL, data={"step": "diagnose", "model": "m", "usd": 0.7})
    world.store.add_event(record.id, asked)
    assert ended(world.drive(record)).status is RunStatus.ESCALATED
    spent = world.state(record).spent_usd
    assert world.store.run(record.id).cost_usd == pytest.approx(spent + 0.7)
    with open_checkpoints(world.tmp / "checkpoints.db") as saver:
        again = Driver(saver).reopen(world.store.run(record.id), world.context(record.id), ())
    assert again.cost_usd == pytest.approx(spent)
    assert ended(world.drive(record)).status is RunStatus.ESCALATED
    assert world.store.run(record.id).cost_usd == pytest.approx(world.state(record).spent_usd + 0.7)
