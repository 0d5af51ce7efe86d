"""A model server that was started more than once: it becomes healthy again, or is given up when that is hopeless."""

from collections.abc import Iterator
from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.agent import serving
from caravan.planning.serving_job import TASK, serve_job
from caravan.values.errors import ClusterDenied
from caravan.values.job import JobSpec
from caravan.values.policy import Policies
from caravan.values.run import Allocation, Phase, Snapshot, TaskEvent
from caravan.values.serving import KEY_ITEM, ServeOptions, ServePlan
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, Script, one_node

NAME = "caravan-model"


class Altered(FakeCluster):
    """A cluster whose allocations have been started again, or failed so many times."""

    restarts = 0
    failed = 0
    words = "failed to launch: odd thing 41"

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.offsets: list[int] = []

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        if stream == "stderr":
            self.offsets.append(offset)
        return super().logs(alloc_id, task, stream, offset=offset, limit=limit)

    def _observe(self, job_id: str, namespace: str) -> Snapshot:
        seen = super()._observe(job_id, namespace)
        changed = tuple(self._changed(a) for a in seen.allocations)
        return seen.model_copy(update={"allocations": (*self._lost(changed, seen), *changed)})

    def _changed(self, allocation: Allocation) -> Allocation:
        tasks = tuple(t.model_copy(update={"restarts": self.restarts}) for t in allocation.tasks)
        return allocation.model_copy(update={"tasks": tasks})

    def _lost(self, there: tuple[Allocation, ...], seen: Snapshot) -> Iterator[Allocation]:
        if not there or not there[0].tasks:
            return
        for number in range(self.failed):
            words = self.words.replace("41", str(4100 + number)).replace("odd", self._kind(number))
            event = TaskEvent(type="Driver Failure", message=words, at=seen.at)
            task = there[0].tasks[0].model_copy(update={"failed": True, "state": "dead", "events": (event,)})
            yield there[0].model_copy(
                update={"id": f"before-{number}", "client_status": "failed", "desired_status": "stop", "tasks": (task,)}
            )

    def _kind(self, number: int) -> str:
        return "odd"


class Varied(Altered):
    """As its parent, and each failure is another one."""

    def _kind(self, number: int) -> str:
        return ("odd", "strange", "queer")[number % 3]


def job() -> JobSpec:
    options = ServeOptions(driver="raw_exec", command=("/bin/serve",))
    return serve_job(ServePlan(name=NAME, repo="my/model", context=4096, options=options, key_mark="m"))


def placed(kind: type[Altered] = Altered, **script: Any) -> tuple[Altered, FakeClock]:
    clock = FakeClock()
    cluster = kind(clock, script=lambda job: Script(hangs=True, **script), facts=one_node(builtin=False))
    spec = job()
    _, document = serving.prove(spec, cluster, Policies(), TEMPLATES)
    serving.register(cluster, spec, document, None)
    return cluster, clock


def followed(cluster: Altered, clock: FakeClock) -> tuple[serving.Served, list[serving.Served]]:
    told: list[serving.Served] = []
    seen = serving.follow(cluster, NAME, "default", clock, queue_s=600, start_s=600, told=told.append)
    return seen, told


def test_a_server_that_was_restarted_is_healthy_as_soon_as_its_checks_say_so() -> None:
    cluster, clock = placed(stderr=b"CUDA out of memory, and so it was ended\n" * 2)
    cluster.restarts = 1
    seen, _ = followed(cluster, clock)
    assert (seen.healthy, seen.known, seen.reason, seen.restarts) == (True, None, "", 1)
    assert serving.look(cluster, NAME, "default").healthy
    assert "logs" not in cluster.calls[-4:]  # what is healthy has no cause to be looked for


def test_a_server_that_was_restarted_and_does_not_answer_is_waited_for_without_its_log_anew_each_time() -> None:
    cluster, clock = placed(unhealthy="refused", stderr=b"Loading the weights\n" * 1000)
    cluster.restarts = 1
    seen, _ = followed(cluster, clock)
    assert (seen.healthy, seen.broken) == (False, False)
    assert "refused" in seen.reason
    assert cluster.calls.count("checks") > 10
    assert cluster.offsets.count(0) <= 6  # before it writes, and once it has: then what is new alone is asked for
    assert clock.monotonic() >= 600


def test_a_cause_of_the_last_start_is_told_while_it_does_not_answer() -> None:
    cluster, clock = placed(unhealthy="refused", stderr=b"torch.OutOfMemoryError: CUDA out of memory.\n" * 2)
    cluster.restarts = 1
    seen, _ = followed(cluster, clock)
    assert seen.broken
    assert seen.known is not None
    assert "do not fit" in seen.known.cause


def test_placements_that_fail_in_the_same_way_are_given_up() -> None:
    cluster, clock = placed(stuck=(("Driver", "still trying"),) * 400)
    cluster.failed = 3
    seen, _ = followed(cluster, clock)
    assert seen.broken
    assert seen.known is not None
    assert "failed 3 times" in seen.known.cause
    assert "odd thing" in seen.known.line


@pytest.mark.parametrize(("kind", "failed"), [(Altered, 2), (Varied, 3)])
def test_fewer_or_other_failures_are_not(kind: type[Altered], failed: int) -> None:
    cluster, clock = placed(kind, stuck=(("Driver", "still trying"),) * 400)
    cluster.failed = failed
    seen, _ = followed(cluster, clock)
    assert seen.known is None
    assert seen.phase is Phase.STARTING


def test_a_key_that_may_not_be_removed_is_overwritten_with_one_that_nobody_knows() -> None:
    cluster, _ = placed()
    serving.write_key(cluster, NAME, "default", "the-key")
    cluster.fail("remove_variable", ClusterDenied("no"))
    assert serving.stop(cluster, NAME, "default", free_key=True)
    now = cluster.variables["default", f"nomad/jobs/{NAME}"][KEY_ITEM]
    assert len(now) >= 43
    assert now != "the-key"


def test_the_task_has_the_name_that_is_looked_for() -> None:
    assert job().groups[0].tasks[0].name == TASK
