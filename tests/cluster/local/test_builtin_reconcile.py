"""What an evaluation places, stops, keeps and counts: Nomad's reconciler, case by case.

The reasons are those of Nomad's scheduler (scheduler/reconciler): which allocations count towards a group's number.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.cluster.local.canonical import canonical_job
from caravan.cluster.local.reconcile import MOVED, NOT_NEEDED, RESCHEDULED, UPDATED, Decision, reconcile
from caravan.cluster.local.state import AllocRecord

SECOND = 1_000_000_000
POLICY = {"Attempts": 1, "Interval": 600 * SECOND, "Delay": 5 * SECOND, "DelayFunction": "constant", "Unlimited": False}


def job(count: int = 1, version: int = 0, command: str = "true", kind: str = "batch", **more: Any) -> dict[str, Any]:
    task = {"Name": "train", "Driver": "raw_exec", "Config": {"command": command}}
    group = {"Name": "g", "Count": count, "Tasks": [task], "ReschedulePolicy": {**POLICY, "MaxDelay": 0}}
    whole = canonical_job({"ID": "j", "Type": kind, "TaskGroups": [group], **more})
    return {**whole, "Version": version, "CreateIndex": 5, "JobModifyIndex": 5 + version}


def alloc(of: dict[str, Any], number: int = 0, status: str = "running", ended: int = 0, **body: Any) -> AllocRecord:
    states = {"train": {"Events": [{"Time": ended}]}} if ended else {}
    whole = {
        "ID": f"{number}-{of['Version']}-{status}-{ended}",
        "Name": f"j.g[{number}]",
        "TaskGroup": "g",
        "ClientStatus": status,
        "DesiredStatus": "run",
        "ModifyTime": 0,
        "TaskStates": states,
        **body,
    }
    return AllocRecord(whole, of)


def told(decision: Decision) -> dict[str, int]:
    return {k: v for k, v in decision.updates["g"].items() if v}


def test_a_failed_one_is_put_off_then_stopped_for_the_next_try() -> None:
    now = 1000 * SECOND
    failed = alloc(job(), status="failed", ended=now)
    first = reconcile(job(), [failed], now)
    assert (first.later, first.place, told(first)) == (
        [(failed, now + 5 * SECOND)],
        [],
        {"Ignore": 1, "RescheduleLater": 1},
    )
    waiting = alloc(job(), status="failed", ended=now, FollowupEvalID="e")
    assert reconcile(job(), [waiting], now + SECOND, "other").later == []
    then = reconcile(job(), [waiting], now + SECOND, "e")
    assert [(w.name, w.previous, w.rescheduled) for w in then.place] == [("j.g[0]", waiting, True)]
    assert then.stop == [(waiting, RESCHEDULED)]
    assert told(then) == {"Place": 1, "Stop": 1}


def test_one_that_failed_too_often_is_left() -> None:
    tracker = {"Events": [{"RescheduleTime": 999 * SECOND}]}
    failed = alloc(job(), status="failed", ended=1000 * SECOND, RescheduleTracker=tracker)
    decision = reconcile(job(), [failed], 2000 * SECOND)
    assert (decision.place, decision.later, told(decision)) == ([], [], {"Ignore": 1})


def test_what_has_another_in_its_place_no_longer_counts() -> None:
    gone = alloc(job(), status="failed", ended=SECOND, DesiredStatus="stop", NextAllocation="next")
    running = alloc(job())
    assert told(reconcile(job(), [running, gone], 0)) == {"Ignore": 2}


def test_a_stopped_job_that_runs_again_ignores_what_was_stopped_and_places_anew() -> None:
    stopped = alloc(job(), status="complete", DesiredStatus="stop", DesiredDescription=NOT_NEEDED)
    decision = reconcile(job(version=2), [stopped], 0)
    assert told(decision) == {"Ignore": 1, "Place": 1}
    assert decision.place[0].previous is None


def test_stopping_leaves_what_has_ended() -> None:
    ended, running = alloc(job(2), 0, "complete"), alloc(job(2), 1)
    decision = reconcile({**job(2), "Stop": True}, [ended, running], 0)
    assert decision.stop == [(running, NOT_NEEDED)]
    assert told(decision) == {"Stop": 1}
    assert [r for r, _ in reconcile(None, [ended, running], 0).stop] == [running]


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"command": "false"}, {"DestructiveUpdate": 1}),
        ({"Meta": {"run": "2"}}, {"DestructiveUpdate": 1}),  # a task sees its job's meta
        ({"Datacenters": ["dc9"]}, {"DestructiveUpdate": 1}),
        ({"Priority": 70}, {"InPlaceUpdate": 1}),
        ({"count": 2}, {"InPlaceUpdate": 1, "Place": 1}),
        (
            {"Constraints": [{"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}]},
            {"InPlaceUpdate": 1},
        ),
    ],
)
def test_what_a_change_does_to_a_running_one(change: dict[str, Any], counted: dict[str, int]) -> None:
    old = alloc(job())
    decision = reconcile(job(version=1, **change), [old], 0)
    assert told(decision) == counted
    if "DestructiveUpdate" in counted:
        assert decision.stop == [(old, UPDATED)]
        assert [(w.previous, w.instead) for w in decision.place] == [(old, True)]


def test_fewer_stop_the_highest_numbers() -> None:
    running = [alloc(job(3), n) for n in (2, 0, 1)]
    decision = reconcile(job(1, version=1), running, 0)
    assert sorted(r.body["Name"] for r, _ in decision.stop) == ["j.g[1]", "j.g[2]"]
    assert told(decision) == {"InPlaceUpdate": 1, "Stop": 2}


def test_none_stops_all() -> None:
    assert told(reconcile(job(0, version=1), [alloc(job())], 0)) == {"Stop": 1}


def test_one_that_was_stopped_by_hand_is_replaced_once() -> None:
    moved = alloc(job(), DesiredStatus="stop", DesiredDescription=MOVED)
    decision = reconcile(job(), [moved], 0)
    assert [(w.previous, w.rescheduled) for w in decision.place] == [(moved, False)]
    assert told(decision) == {"Migrate": 1}
    after = alloc(job(), DesiredStatus="stop", DesiredDescription=MOVED, NextAllocation="n")
    assert reconcile(job(), [alloc(job(), ID="n"), after], 0).place == []


def test_a_service_goes_on_where_a_batch_job_has_ended() -> None:
    assert told(reconcile(job(), [alloc(job(), status="complete")], 0)) == {"Ignore": 1}
    serving = job(kind="service")
    assert told(reconcile(serving, [alloc(serving, status="complete")], 0)) == {"Place": 1}


_KNOWN = st.tuples(st.integers(0, 4), st.sampled_from(["running", "pending", "complete", "failed"]), st.booleans())


@given(st.integers(0, 4), st.lists(_KNOWN, max_size=6, unique_by=lambda k: k[0]))
def test_never_more_than_asked_for(count: int, known: list[tuple[int, str, bool]]) -> None:
    """However the allocations stand: what goes on and what is placed beside other tries is never more than the group's
    number, no name is given twice, and what is stopped was there."""
    new = job(count, version=1)
    records = [alloc(job(5, version=int(same)), n, status, ended=1) for n, status, same in known]
    decision = reconcile(new, records, 10_000 * SECOND)
    stopped = {r.id for r, _ in decision.stop}
    kept = [r for r in records if r.id not in stopped and not (r.client_terminal and r.job["Version"] == 0)]
    names = [w.name for w in decision.place]
    assert len(names) == len(set(names))
    fresh = [w for w in decision.place if not w.rescheduled]
    assert not count or len(kept) + len(fresh) <= max(count, len(kept))
    assert stopped <= {r.id for r in records}
