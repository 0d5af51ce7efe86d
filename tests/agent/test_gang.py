"""When a group that trains together is broken."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.gang import broken, sums_up
from caravan.agent.watching import JobWatch
from caravan.values.run import Allocation, Deployment, Phase, Snapshot, TaskEvent, TaskState
from tests.agent.test_loop import World
from tests.agent.test_nodes_avoided import PLAN
from tests.fakes.cluster import FakeCluster, Script, one_node

AT = datetime(2026, 1, 1, tzinfo=UTC)


def member(number: int, client: str, code: int | None = None) -> Allocation:
    events = () if code is None else (TaskEvent(type="Terminated", at=AT, exit_code=code),)
    state = "running" if code is None else "dead"
    task = TaskState(name="train", state=state, failed=bool(code), events=events)
    name = f"caravan-r1-a01.train[{number}]"
    return Allocation(id=name, name=name, group="train", node_name=f"n{number}", client_status=client, tasks=(task,))


def seen(*members: Allocation, phase: Phase = Phase.RUNNING) -> Snapshot:
    return Snapshot(job_id="caravan-r1-a01", at=AT, phase=phase, allocations=members)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (member(1, "running"), ""),
        (member(1, "pending"), ""),
        (member(1, "unknown"), ""),
        (member(1, "complete", 0), ""),
        (member(1, "complete", 143), "train[1] on n1 has ended"),
        (member(1, "failed", 1), "train[1] on n1 has ended"),
        (member(1, "lost"), "train[1] on n1 was lost with its node"),
    ],
)
def test_a_member_that_did_not_end_well_breaks_the_group(other: Allocation, words: str) -> None:
    told = broken(seen(member(0, "running"), other), 2)
    assert told.startswith(words) if words else not told


def test_a_member_that_was_replaced_is_lost_all_the_same() -> None:
    again = member(1, "running")
    assert broken(seen(member(0, "running"), member(1, "lost"), again), 2)


def test_one_node_and_a_job_that_is_over_have_no_group() -> None:
    assert not broken(seen(member(0, "failed", 1)), 1)
    assert not broken(seen(member(0, "failed", 1), member(1, "complete", 0), phase=Phase.ENDED), 2)


@pytest.mark.parametrize(
    ("others", "waits"),
    [
        ((member(1, "failed", 76),), True),
        ((member(1, "failed", 76), member(2, "complete", 0)), True),
        ((member(1, "failed", 1),), False),
        ((member(1, "lost"),), False),
        ((member(1, "failed", 76), member(2, "failed", 1)), False),
        ((member(1, "failed", 76), member(2, "lost")), False),
        ((member(1, "running"),), False),
    ],
)
def test_the_member_that_failed_may_copy_and_sum_up_when_those_it_dragged_have_ended(
    others: tuple[Allocation, ...], waits: bool
) -> None:
    assert sums_up(seen(member(0, "running"), *others)) is waits
    assert not sums_up(seen(member(0, "failed", 1), *others))


@pytest.mark.parametrize(("rounds", "stopped"), [(10, False), (400, True)])
def test_the_job_is_stopped_only_where_the_failed_member_takes_too_long(
    tmp_path: Path, rounds: int, stopped: bool
) -> None:
    class Group(FakeCluster):
        def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
            left = rounds
            for snapshot in super().watch(job_id, namespace):
                left -= 1
                if left == 0 and not snapshot.stopped:
                    return  # the failed one has summed up
                also = (member(1, "failed", 76),) if snapshot.phase is Phase.RUNNING else ()
                yield snapshot.model_copy(update={"allocations": (*snapshot.allocations, *also)})

    world = World(tmp_path, lambda _: Script(hangs=True))
    world.cluster = Group(world.clock, facts=one_node(), script=lambda _: Script(hangs=True))
    record = world.start()
    context = world.context(record.id)
    meta = {"caravan_spec_sha256": "0" * 64}
    group = {"Name": "train", "Tasks": [{"Name": "train", "Driver": "raw_exec"}]}
    job: dict[str, Any] = {"ID": "caravan-r1-a01", "Type": "batch", "Meta": meta, "TaskGroups": [group]}
    plan = PLAN.model_copy(update={"launch": PLAN.launch.model_copy(update={"nodes": 2})})
    world.cluster.register(job)
    sha = "0" * 64
    deployment = Deployment(run_id=record.id, attempt=1, job_id=job["ID"], spec_sha256=sha, plan_sha256=sha)
    context.store.intend(deployment)
    JobWatch(context, plan, deployment, names=()).follow()
    assert world.cluster.snapshot(job["ID"]).stopped is stopped
    assert ("member_lost" in [event.kind for event in context.store.events(record.id)]) is stopped
