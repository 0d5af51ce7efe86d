"""A job that vanishes while it runs was paid for: what it cost counts when another one is deployed in its place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.run import Phase, RunStatus, Snapshot
from tests.agent.test_loop import GPU, HOUR, World, ended, gpu_world
from tests.fakes.cluster import FakeCluster


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
