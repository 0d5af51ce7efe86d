"""The judgement and the sentinel, where no recording shows the case."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caravan.cluster.snapshots import to_snapshot
from caravan.cluster.watch import judge, parse_sentinel
from caravan.values.run import Outcome, OutcomeKind, Phase, Sentinel, Snapshot

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "a" * 64
GOOD = Sentinel(job_id="j", spec_sha256=SHA, exit_code=0)


def event(kind: str, message: str = "", **details: str) -> Any:
    return {"Type": kind, "DisplayMessage": message, "Time": 1_000, "Details": details}


def ended(code: int, *, oom: bool = False, signal: int = 0) -> Any:
    return event(
        "Terminated", f"Exit Code: {code}", exit_code=str(code), signal=str(signal), oom_killed=str(oom).lower()
    )


def task(*events: Any, state: str = "dead", failed: bool = False, finish: int = 9) -> Any:
    return {
        "State": state,
        "Failed": failed,
        "StartedAt": "2026-01-01T00:00:01.123456789Z",
        "FinishedAt": f"2026-01-01T00:00:0{finish}Z" if state == "dead" else "0001-01-01T00:00:00Z",
        "Events": list(events),
    }


def alloc(number: int = 0, *, client: str = "complete", created: int = 2, **more: Any) -> Any:
    tasks = more.pop("tasks", {"train": task(event("Started"), ended(0))})
    return {
        "ID": f"alloc-{number}-{created}",
        "JobID": "j",
        "Name": f"j.train[{number}]",
        "TaskGroup": "train",
        "NodeName": "n1",
        "ClientStatus": client,
        "DesiredStatus": "run",
        "CreateIndex": created,
        "TaskStates": tasks,
        **more,
    }


def snapshot(*allocs: Any, evals: tuple[Any, ...] = (), **job: Any) -> Snapshot:
    document = {"ID": "j", "Status": "dead", "TaskGroups": [{"Name": "train", "Count": len(allocs) or 1}], **job}
    return to_snapshot(document, allocs, evals, job_id="j", at=AT)


def outcome(*allocs: Any, sentinel: Sentinel | None = GOOD, **job: Any) -> Outcome:
    return judge(snapshot(*allocs, **job), sentinel, SHA)


def test_complete_with_an_oom_event_is_a_failure() -> None:
    for code in (137, 0):
        found = outcome(alloc(tasks={"train": task(event("Started"), ended(code, oom=True))}))
        assert (found.kind, found.oom_killed, found.exit_code) == (OutcomeKind.FAILED, True, code)


def test_137_without_an_oom_event_is_no_proof_of_oom() -> None:
    found = outcome(alloc(client="failed", tasks={"train": task(event("Started"), ended(137), failed=True)}))
    assert (found.kind, found.oom_killed, found.exit_code) == (OutcomeKind.FAILED, False, 137)
    assert "no out-of-memory event" in found.reason


def test_an_exit_code_other_than_zero_outweighs_complete() -> None:
    assert outcome(alloc(tasks={"train": task(event("Started"), ended(3))})).kind is OutcomeKind.FAILED


TOLD = {"train": task(event("Started"), event("Killing", "Sent interrupt"), ended(0))}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"client": "lost", "DesiredStatus": "stop", "DesiredDescription": "alloc is lost since its node is down"},
            "n1",
        ),
        ({"client": "lost", "tasks": {}}, "was lost"),
        ({"tasks": TOLD, "DesiredStatus": "evict", "DesiredDescription": "Preempted by alloc ID x"}, "Preempted"),
        ({"tasks": TOLD, "DesiredStatus": "stop", "DesiredDescription": "alloc is being migrated"}, "migrated"),
        ({"tasks": TOLD, "DesiredStatus": "stop"}, "from outside"),
    ],
)
def test_what_came_from_outside_is_an_interruption(more: dict[str, Any], reason: str) -> None:
    found = outcome(alloc(**more))
    assert found.kind is OutcomeKind.INTERRUPTED
    assert reason in found.reason


def test_a_kill_that_fails_the_task_is_an_interruption_when_it_was_asked_for() -> None:
    killed = task(event("Started"), event("Killing", "Sent interrupt"), ended(143, signal=15), failed=True)
    assert (
        outcome(alloc(client="failed", tasks={"train": killed}, DesiredStatus="stop")).kind is OutcomeKind.INTERRUPTED
    )
    assert outcome(alloc(client="failed", tasks={"train": killed})).kind is OutcomeKind.FAILED


def test_a_task_that_failed_before_the_stop_has_failed() -> None:
    tasks = {"train": task(event("Started"), ended(1), event("Restarting"), event("Killing", "Sent interrupt"))}
    found = outcome(alloc(tasks=tasks, DesiredStatus="stop"), Stop=True)
    assert (found.kind, found.exit_code) == (OutcomeKind.FAILED, 1)


@pytest.mark.parametrize(
    "tasks",
    [
        {},
        {"train": task(event("Started"), ended(0), state="running")},
        {"train": task(event("Started"))},
        {"train": task(event("Started"), event("Terminated", "Exit Code: 0"))},
        {"train": task(event("Started"), ended(0), event("Started"))},
        {"train": task(event("Started"), event("Killing", "Sent interrupt"), ended(0))},
        {"train": task(event("Started"), ended(0)), "side": task(event("Started"))},
    ],
)
def test_complete_without_clear_events_is_unproven(tasks: Any) -> None:
    found = outcome(alloc(tasks=tasks))
    assert found.kind is OutcomeKind.UNPROVEN
    assert found.reason


def test_a_replaced_allocation_no_longer_counts() -> None:
    first = alloc(client="lost", created=2, NextAllocation="alloc-0-5")
    second = alloc(created=5, PreviousAllocation="alloc-0-2")
    found = outcome(second, first)
    assert (found.kind, found.alloc_id) == (OutcomeKind.SUCCEEDED, "alloc-0-5")


def test_of_a_group_the_first_to_end_badly_is_the_cause() -> None:
    dragged = alloc(0, client="failed", tasks={"train": task(event("Started"), ended(1), failed=True, finish=9)})
    cause = alloc(1, client="failed", tasks={"train": task(event("Started"), ended(137, oom=True), finish=5)})
    found = outcome(dragged, cause)
    assert (found.alloc_id, found.oom_killed) == ("alloc-1-2", True)
    assert outcome(alloc(0), alloc(1)).succeeded
    assert not outcome(alloc(0), cause).succeeded


def test_a_dead_job_without_allocations() -> None:
    assert outcome().kind is OutcomeKind.UNPROVEN  # collected: it may have run
    stopped = outcome(Stop=True)
    assert stopped.kind is OutcomeKind.NOT_PLACED
    assert stopped.reason == "stopped before it was placed"


def test_gone() -> None:
    gone = to_snapshot(None, [], [], job_id="j", at=AT)
    assert gone.phase is Phase.GONE
    assert judge(gone, GOOD, SHA).kind is OutcomeKind.GONE


def test_a_running_job_has_not_ended() -> None:
    running = snapshot(
        alloc(client="running", tasks={"train": task(event("Started"), state="running")}), Status="running"
    )
    assert running.phase is Phase.RUNNING
    assert judge(running, GOOD, SHA).kind is OutcomeKind.UNPROVEN


def test_a_job_that_ends_while_its_allocation_is_still_being_killed_has_not_ended() -> None:
    assert snapshot(alloc(client="running", DesiredStatus="stop"), Stop=True).phase is Phase.RUNNING


def test_a_failed_allocation_that_will_be_replaced_is_queued() -> None:
    waiting = snapshot(alloc(client="failed", tasks={"train": task(event("Started"), ended(4))}), Status="pending")
    assert waiting.phase is Phase.QUEUED
    assert waiting.reason == "waits to be placed again: train: exit code 4"


def test_entries_of_other_jobs_and_of_a_purged_one_are_left_out() -> None:
    other = {"ID": "e1", "JobID": "j0", "Status": "blocked", "FailedTGAllocs": {"train": {}}, "CreateIndex": 9}
    old = {"ID": "e2", "JobID": "j", "Status": "blocked", "FailedTGAllocs": {"train": {}}, "CreateIndex": 1}
    found = snapshot(alloc(created=8), alloc(1, created=3), evals=(other, old), CreateIndex=7)
    assert [a.id for a in found.allocations] == ["alloc-0-8"]
    assert not any(f.nodes_evaluated for f in found.placement_failures)
    assert snapshot(evals=(other,)).placement_failures == ()


def test_a_disconnected_node_is_named() -> None:
    found = snapshot(alloc(client="unknown"), Status="running")
    assert (found.phase, found.reason) == (Phase.RUNNING, "node n1 is disconnected")


def test_times_are_utc_and_never_is_none() -> None:
    found = snapshot(alloc(client="running", tasks={"train": task(state="running")}), Status="running")
    state = found.allocations[0].tasks[0]
    assert state.started_at == datetime(2026, 1, 1, 0, 0, 1, 123456, tzinfo=UTC)
    assert state.finished_at is None


def test_sentinel_is_read() -> None:
    data = GOOD.model_dump_json().encode()
    assert parse_sentinel(data) == GOOD
    assert parse_sentinel(data[:-1] + b', "later": 1}') == GOOD


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b'{"job_id": "j"}',
        b'{"job_id": "j", "spec_sha256": "a", "exit_code": "0"}',
        b'{"job_id": "j", "spec_sha256": "a", "exit_code": true}',
        b'{"job_id": "j", "spec_sha256": "a", "exit_code": 0.0}',
        b'{"job_id": "j", "spec_sha256": "a", "exit_code": 0',
        b"\xff\xfe",
        b"[" * 60_000,
        b" " * 70_000 + b'{"job_id": "j", "spec_sha256": "a", "exit_code": 0}',
    ],
)
def test_what_is_no_sentinel(data: bytes) -> None:
    assert parse_sentinel(data) is None


@given(st.binary(max_size=300))
def test_no_bytes_break_the_sentinel(data: bytes) -> None:
    parse_sentinel(data)


@given(st.from_type(Sentinel))
def test_sentinels_come_back(sentinel: Sentinel) -> None:
    assert parse_sentinel(sentinel.model_dump_json().encode("utf-8", "surrogatepass")) == sentinel


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ID", "Name", "Events", "x"]), inner),
    max_leaves=8,
)


@given(st.sampled_from(["ClientStatus", "DesiredStatus", "TaskStates", "Name", "CreateIndex", "JobID"]), JSON)
def test_misshapen_json_raises_what_the_client_maps_and_nothing_else(name: str, value: Any) -> None:
    try:
        found = snapshot(alloc(**({name: value} if name != "ClientStatus" else {"client": value})))
    except (KeyError, TypeError, AttributeError, ValueError, ValidationError):
        return
    judge(found, GOOD, SHA)


@given(
    client=st.sampled_from(["pending", "running", "complete", "failed", "lost", "unknown"]),
    desired=st.sampled_from(["run", "stop", "evict"]),
    state=st.sampled_from(["pending", "running", "dead"]),
    failed=st.booleans(),
    code=st.sampled_from([0, 1, 137]),
    oom=st.booleans(),
    kinds=st.lists(st.sampled_from(["Started", "Killing", "Terminated", "Restarting", "Driver Failure"]), max_size=5),
    sentinel=st.sampled_from([None, GOOD, GOOD.model_copy(update={"exit_code": 1})]),
)
def test_success_only_when_everything_agrees(
    client: str, desired: str, state: str, failed: bool, code: int, oom: bool, kinds: list[str], sentinel: Any
) -> None:
    events = [ended(code, oom=oom) if k == "Terminated" else event(k) for k in kinds]
    document = alloc(client=client, DesiredStatus=desired, tasks={"train": task(*events, state=state, failed=failed)})
    found = outcome(document, sentinel=sentinel)
    if found.succeeded:
        assert (client, state, failed, code, oom) == ("complete", "dead", False, 0, False)
        assert "Terminated" in kinds  # and a stop came after that
        assert sentinel == GOOD
    else:
        assert found.reason


def killed(code: int) -> Any:
    return task(event("Started"), event("Killing", "Sent interrupt"), ended(code), failed=code != 0)


def members(*pairs: tuple[str, Any], **job: Any) -> Snapshot:
    """A group's allocations, each by its client status and its task."""
    return snapshot(*(alloc(n, client=c, tasks={"train": t}) for n, (c, t) in enumerate(pairs)), **job)


def test_of_several_members_the_first_has_the_outputs_and_all_must_end_well() -> None:
    well, bad = task(event("Started"), ended(0)), task(event("Started"), ended(3), failed=True)
    good = judge(members(("complete", well), ("complete", well)), GOOD, SHA)
    assert (good.kind, good.alloc_id) == (OutcomeKind.SUCCEEDED, "alloc-0-2")
    one = judge(members(("complete", well), ("failed", bad)), GOOD, SHA)
    assert (one.kind, one.exit_code, one.alloc_id) == (OutcomeKind.FAILED, 3, "alloc-1-2")


def test_the_member_that_failed_by_itself_is_the_cause_whatever_the_clocks_say() -> None:
    dragged = task(event("Started"), ended(76), failed=True, finish=1)
    late = task(event("Started"), ended(1), failed=True, finish=9)
    assert judge(members(("failed", dragged), ("failed", late)), None, SHA).exit_code == 1
    stopped = alloc(0, client="complete", tasks={"train": killed(143)}, DesiredStatus="stop")
    found = judge(snapshot(stopped, alloc(1, client="failed", tasks={"train": late}), Stop=True), None, SHA)
    assert (found.kind, found.exit_code) == (OutcomeKind.FAILED, 1)


def test_the_member_that_failed_is_the_cause_where_the_stop_of_the_group_met_it_while_it_summed_up() -> None:
    dragged = alloc(0, client="failed", tasks={"train": task(event("Started"), ended(76), failed=True, finish=1)})

    def stopped(number: int, code: int) -> Any:
        return alloc(number, client="complete", tasks={"train": killed(code)}, DesiredStatus="stop")

    found = judge(snapshot(dragged, stopped(1, 1), stopped(2, 143), Stop=True), None, SHA)
    assert (found.kind, found.exit_code, found.alloc_id) == (OutcomeKind.FAILED, 1, "alloc-1-2")
    # A signal's code says nothing of what the member would have come to, and a person's stop drags nobody.
    found = judge(snapshot(dragged, stopped(1, 143), Stop=True), None, SHA)
    assert (found.kind, found.alloc_id) == (OutcomeKind.INTERRUPTED, "alloc-1-2")
    found = judge(snapshot(stopped(0, 76), stopped(1, 1), Stop=True), None, SHA)
    assert found.kind is OutcomeKind.INTERRUPTED


def test_a_member_that_waited_for_others_in_vain_was_not_placed() -> None:
    waited = alloc(0, client="failed", tasks={"train": task(event("Started"), ended(75), failed=True)})
    lacks = {"train": {"DimensionExhausted": {"devices: no devices match request": 1}}}
    blocked = {"ID": "e", "JobID": "j", "Status": "canceled", "FailedTGAllocs": lacks, "CreateIndex": 3}
    groups = [{"Name": "train", "Count": 2}]
    assert judge(snapshot(waited, evals=(blocked,), TaskGroups=groups), None, SHA).kind is OutcomeKind.NOT_PLACED
    assert judge(snapshot(waited), None, SHA).kind is OutcomeKind.FAILED


def test_a_group_runs_when_all_of_it_runs() -> None:
    runs = alloc(0, client="running", tasks={"train": task(event("Started"), state="running")})
    waits = alloc(1, client="pending", tasks={"train": task(event("Received"), state="pending")})
    assert snapshot(runs, waits, Status="running").phase is Phase.STARTING
    assert snapshot(runs, Status="running").phase is Phase.RUNNING
