"""A clock that is set makes no job dearer, none free, and stops none: its money is counted by the time that passed."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from caravan.agent.elapsed import Age, begun, watched_so_far
from caravan.values.errors import Interrupted
from caravan.values.run import Deployment, Phase, RunRecord, RunStatus
from tests.agent.test_deadlines import At, JumpyClock, interrupt
from tests.agent.test_loop import GPU, HOUR, World, ended, gpu_world
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster

USD = 3600.0  # an hour of its GPU: each second costs a dollar, so that a day that is counted would be seen


class ClockElsewhere(FakeClock):
    """The clock of a cluster on other machines, which nobody sets: it goes on as the agent's monotonic time does."""

    def __init__(self, agents: FakeClock) -> None:
        super().__init__(agents.now())
        self._agents = agents

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._agents.monotonic())

    def monotonic(self) -> float:
        return self._agents.monotonic()

    def sleep(self, seconds: float) -> None:
        self._agents.sleep(seconds)


def set_by(world: World, days: int) -> None:
    """Set the agent's clock."""
    assert isinstance(world.clock, JumpyClock)
    world.clock.jump(timedelta(days=days))


def made(tmp: Path, *, elsewhere: bool) -> World:
    """A world with a clock that can be set. `elsewhere`: its cluster's clock is another one."""
    world = gpu_world(tmp)
    clock = world.clock = JumpyClock()
    world.prices = world.prices.model_copy(update={"usd_per_gpu_hour": USD})
    theirs = ClockElsewhere(clock) if elsewhere else clock
    world.cluster = FakeCluster(theirs, facts=world.cluster.facts())
    return world


def begin(world: World) -> RunRecord:
    return world.start(sets=(GPU, HOUR), budget_usd=4 * USD)


def cost(world: World, record: RunRecord) -> float:
    spent = float(world.state(record).spent_usd)
    assert world.store.run(record.id).cost_usd == spent
    return spent


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What the run costs when nobody sets a clock."""
    world = made(tmp_path_factory.mktemp("usual"), elsewhere=False)
    record = begin(world)
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    return cost(world, record)


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("days", [1, -1])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING])
def test_a_clock_that_is_set_while_the_job_runs(
    tmp_path: Path, usual: float, *, elsewhere: bool, days: int, phase: Phase
) -> None:
    world = made(tmp_path, elsewhere=elsewhere)
    record = begin(world)
    jumped = At(phase, lambda _: set_by(world, days))
    assert ended(world.drive(record, progress=jumped)).status is RunStatus.SUCCEEDED
    assert jumped.done
    assert 0 < cost(world, record) <= usual + 1


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_is_set_while_nobody_watches(tmp_path: Path, usual: float, *, elsewhere: bool, days: int) -> None:
    world = made(tmp_path, elsewhere=elsewhere)
    record = begin(world)
    with pytest.raises(Interrupted):
        world.drive(record, progress=At(Phase.RUNNING, interrupt))
    set_by(world, days)
    world.clock.sleep(30)
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert 30 <= cost(world, record) <= usual + 31
    assert world.ids(record) == ["a01"]


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_is_set_before_the_job_is_registered(tmp_path: Path, usual: float, *, days: int) -> None:
    world = made(tmp_path, elsewhere=True)
    record = begin(world)
    set_by(world, days)
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert 0 < cost(world, record) <= usual + 1


def test_a_deployment_that_was_stored_without_an_age_has_it_since_its_registration() -> None:
    clock = FakeClock()
    registered = clock.now()
    clock.sleep(100)
    older = begun(clock).model_copy(update={"since": None})
    stored = {"run_id": "r", "attempt": 1, "job_id": "j", "spec_sha256": "a" * 64, "plan_sha256": "b" * 64}
    so_far = watched_so_far(Deployment(**stored, watched=older, registered_at=registered))
    assert so_far is not None
    clock.sleep(11)
    age = Age(so_far, clock)
    assert (age.seconds, age.now) == (111, clock.now())
