"""When a group that trains together is broken."""

from datetime import UTC, datetime

import pytest

from caravan.agent.gang import broken
from caravan.values.run import Allocation, Phase, Snapshot, TaskEvent, TaskState

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
