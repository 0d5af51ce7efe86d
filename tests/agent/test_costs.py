"""What an attempt has cost: every allocation counts, seen to end or not, and no clock makes it absurd."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.costs import held_s
from caravan.values.run import Allocation, Phase, Snapshot, TaskEvent, TaskState

T0 = datetime(2026, 1, 1, tzinfo=UTC)  # an hour before the job is registered
HOUR = 3600.0


def at(hours: float | None) -> datetime | None:
    return None if hours is None else T0 + timedelta(hours=hours)


def alloc(
    number: int,
    status: str,
    start: float | None,
    end: float | None = None,
    *,
    placed: float | None = None,
    following: int | None = None,
    version: int = 0,
) -> Allocation:
    events = [TaskEvent(type="Received", at=T0 + timedelta(hours=placed))] if placed is not None else []
    task = TaskState(name="train", state="dead", started_at=at(start), finished_at=at(end), events=tuple(events))
    more: dict[str, Any] = {"next_id": None if following is None else f"a{following}", "job_version": version}
    return Allocation(id=f"a{number}", name="j.train[0]", group="train", client_status=status, tasks=(task,), **more)


def held(*allocations: Allocation, now: float = 50, registered: float = 1) -> float:
    """Hours."""
    snapshot = Snapshot(job_id="j", at=T0, phase=Phase.ENDED, allocations=allocations)
    return held_s(snapshot, since=T0 + timedelta(hours=registered), now=T0 + timedelta(hours=now)) / HOUR


def test_an_allocation_that_ended_counts_from_its_placement_to_its_end() -> None:
    assert held(alloc(1, "complete", 2, 12)) == 10
    assert held(alloc(1, "failed", 2, 12, placed=1.5)) == 10.5


def test_allocations_that_were_replaced_count_too() -> None:
    assert held(alloc(1, "failed", 2, 22, following=2), alloc(2, "complete", 23, 24)) == 21


def test_a_lost_allocation_counts_until_another_took_its_place_or_to_now() -> None:
    assert held(alloc(1, "lost", 2), now=22) == 20
    assert held(alloc(1, "lost", 2, following=2), alloc(2, "complete", 22, 25), now=26) == 23


def test_one_that_was_never_seen_to_end_counts_to_now() -> None:
    assert held(alloc(1, "running", 2), now=7) == 5
    assert held(alloc(1, "unknown", 2), now=7) == 5


def test_a_task_that_never_started_held_its_machine_all_the_same() -> None:
    assert held(alloc(1, "pending", None, placed=2), now=7) == 5
    assert held(alloc(1, "failed", None, 6, placed=2), now=7) == 4
    assert held(alloc(1, "pending", None), now=7) == 0  # no node ever took it


def test_what_somebody_else_registered_is_not_ours() -> None:
    assert held(alloc(1, "complete", 2, 3), alloc(2, "complete", 3, 9, version=1)) == 1


def test_a_cluster_whose_clock_is_set_forward_meanwhile_counts_no_more_than_has_passed() -> None:
    assert held(alloc(1, "complete", 2, 36), now=13) == 12
    assert held(alloc(1, "running", 2), alloc(2, "complete", 3, 40), now=13) == 23


def test_a_clock_that_is_off_by_years_harms_only_what_has_no_end() -> None:
    for off in (-30_000.0, 30_000.0):
        assert held(alloc(1, "complete", 2 + off, 12 + off)) == 10
        assert held(alloc(1, "running", 2 + off), now=7) == 6  # from the registration on


HOURS = st.one_of(st.none(), st.floats(-1e5, 1e5))


@given(
    st.lists(st.tuples(st.sampled_from(["pending", "running", "complete", "failed", "lost"]), HOURS, HOURS, HOURS)),
    st.floats(0, 100),
)
def test_no_clock_gives_less_than_nothing_or_more_than_the_job_has_lasted(
    told: list[tuple[str, float | None, float | None, float | None]], now: float
) -> None:
    allocations = [
        alloc(n, status, start, end, placed=placed, following=n + 1)
        for n, (status, start, end, placed) in enumerate(told)
    ]
    assert 0 <= held(*allocations, now=now, registered=0) <= len(told) * now + 1e-6
