"""No success where anything speaks against it: every combination of events, exit codes, states and result files."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.cluster.files import FileTooLarge
from caravan.cluster.sentinel import read_sentinel
from caravan.cluster.snapshots import to_snapshot
from caravan.cluster.watch import SENTINEL_PATH, judge
from caravan.values.errors import ClusterDenied, ClusterError, ClusterUnreachable, JobNotFound
from caravan.values.run import OutcomeKind, Sentinel, Snapshot

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHA, OTHER = "a" * 64, "b" * 64

RESULTS = st.sampled_from(
    [
        None,
        Sentinel(job_id="j", spec_sha256=SHA, exit_code=0),
        Sentinel(job_id="j", spec_sha256=SHA, exit_code=1),
        Sentinel(job_id="j", spec_sha256=OTHER, exit_code=0),
        Sentinel(job_id="k", spec_sha256=SHA, exit_code=0),
    ]
)
KINDS = ["Started", "Killing", "Killed", "Restarting", "Driver Failure", "Terminated", "Template", "Not Restarting"]


@st.composite
def events(draw: st.DrawFn) -> list[dict[str, Any]]:
    said = []
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=5)):
        details: dict[str, str] = {}
        if kind == "Terminated" and draw(st.booleans()):
            code, signal, oom = draw(st.sampled_from([0, 0, 1, 137])), draw(st.sampled_from([0, 0, 9])), draw(RARE)
            details = {"exit_code": str(code), "signal": str(signal), "oom_killed": str(oom).lower()}
        words = draw(st.sampled_from(["", "allocation exceeded max_run_duration"])) if kind == "Killing" else ""
        said.append({"Type": kind, "DisplayMessage": words, "Time": 1_000, "Details": details})
    return said


RARE = st.sampled_from([False, False, False, True])
GOOD_EVENTS = [
    {"Type": "Started", "Time": 1_000},
    {"Type": "Terminated", "Time": 2_000, "Details": {"exit_code": "0", "signal": "0", "oom_killed": "false"}},
]
LIVES = st.one_of(st.just(GOOD_EVENTS), events())


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "State": draw(st.sampled_from(["dead", "dead", "dead", "running", "pending"])),
        "Failed": draw(RARE),
        "Restarts": draw(st.integers(0, 2)),
        "StartedAt": "2026-01-01T00:00:01Z",
        "FinishedAt": "2026-01-01T00:00:02Z",
        "Events": draw(LIVES),
    }


@st.composite
def allocations(draw: st.DrawFn, number: int, created: int) -> dict[str, Any]:
    return {
        "ID": f"alloc-{number}-{created}",
        "JobID": "j",
        "Name": f"j.train[{number}]",
        "TaskGroup": "train",
        "NodeName": "n1",
        "ClientStatus": draw(st.sampled_from(["complete"] * 5 + ["failed", "lost", "unknown", "running", "pending"])),
        "ClientDescription": draw(st.sampled_from(["", "", "", "allocation exceeded max_run_duration"])),
        "DesiredStatus": draw(st.sampled_from(["run"] * 4 + ["stop", "evict"])),
        "NextAllocation": draw(st.sampled_from([None, None, None, "alloc-away"])),
        "CreateIndex": created,
        "TaskStates": {name: draw(tasks()) for name in draw(st.sampled_from([(), ("train",), ("train", "side")]))},
    }


def speaks_against(alloc: dict[str, Any]) -> bool:
    """Whether anything of a newest allocation speaks against its success, told without the judge's own helpers."""
    if alloc["ClientStatus"] != "complete" or not alloc["TaskStates"]:
        return True  # a stop that told no task to end came after the end
    if "max_run_duration" in alloc["ClientDescription"]:
        return True
    return any(_task_speaks_against(task) for task in alloc["TaskStates"].values())


def _task_speaks_against(task: dict[str, Any]) -> bool:
    said = task["Events"]
    kinds = [e["Type"] for e in said]
    life = said[len(kinds) - 1 - kinds[::-1].index("Started") :] if "Started" in kinds else said
    ends = [e for e in life if e["Type"] == "Terminated"]
    details = ends[-1].get("Details") or {} if ends else {}
    clean = details == {"exit_code": "0", "signal": "0", "oom_killed": "false"}
    killed = "Killing" in [e["Type"] for e in life[: life.index(ends[0])]] if ends else True
    over = any("max_run_duration" in e.get("DisplayMessage", "") for e in said)
    return task["State"] != "dead" or task["Failed"] or not clean or killed or over


@given(st.data(), RESULTS, st.sampled_from(["dead", "dead", "running", "pending"]), st.booleans())
def test_nothing_with_a_bad_sign_is_a_success(data: st.DataObject, result: Any, status: str, twice: bool) -> None:
    allocs = [data.draw(allocations(0, 2))]
    if data.draw(RARE):
        allocs.append(data.draw(allocations(0, 5)))  # what followed it
    if twice:
        allocs.append(data.draw(allocations(1, 3)))
    job = {"ID": "j", "Status": status, "TaskGroups": [{"Name": "train", "Count": 1 + twice}]}
    outcome = judge(to_snapshot(job, allocs, [], job_id="j", at=AT), result, SHA)
    newest = {a["Name"]: a for a in sorted(allocs, key=lambda a: a["CreateIndex"])}
    bad = (
        status != "dead" or any(speaks_against(a) for a in newest.values()) or any(a["NextAllocation"] for a in allocs)
    )
    proved = result is not None and (result.job_id, result.spec_sha256, result.exit_code) == ("j", SHA, 0)
    if bad or not proved:
        assert outcome.kind is not OutcomeKind.SUCCEEDED
        assert outcome.reason or outcome.kind is OutcomeKind.FAILED
    else:
        assert outcome.kind is OutcomeKind.SUCCEEDED


def ended_and_stopped(*said: dict[str, Any]) -> Snapshot:
    task = {"State": "dead", "Failed": False, "Events": list(said)}
    alloc = {"ID": "a", "JobID": "j", "Name": "j.train[0]", "ClientStatus": "complete", "DesiredStatus": "stop"}
    job = {"ID": "j", "Status": "dead", "Stop": True}
    return to_snapshot(job, [{**alloc, "CreateIndex": 2, "TaskStates": {"train": task}}], [], job_id="j", at=AT)


def test_a_training_that_ended_before_a_stop_was_not_interrupted() -> None:
    good = Sentinel(job_id="j", spec_sha256=SHA, exit_code=0)
    started, ended = GOOD_EVENTS
    assert judge(ended_and_stopped(started, ended), good, SHA).kind is OutcomeKind.SUCCEEDED
    assert judge(ended_and_stopped(started, ended), None, SHA).kind is OutcomeKind.UNPROVEN
    killing = {"Type": "Killing", "Time": 1_500}
    assert judge(ended_and_stopped(started, killing, ended), good, SHA).kind is OutcomeKind.INTERRUPTED
    assert judge(ended_and_stopped(started), good, SHA).kind is OutcomeKind.INTERRUPTED


class Files:
    """The files of allocations, as the sentinel's reader asks for them."""

    def __init__(self, **found: bytes | None) -> None:
        self.found = found

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        assert path == SENTINEL_PATH
        if alloc_id not in self.found:
            raise JobNotFound(f'Unknown allocation "{alloc_id}"')
        return self.found[alloc_id]


class Broken:
    """Files that can't be read."""

    def __init__(self, error: ClusterError) -> None:
        self.error = error

    def read_file(self, _alloc: str, _path: str) -> bytes | None:
        raise self.error


def of_one(status: str) -> Snapshot:
    alloc = {"ID": "a0", "Name": "j.train[0]", "JobID": "j", "ClientStatus": status, "CreateIndex": 1}
    return to_snapshot({"ID": "j", "Status": "dead"}, [alloc], [], job_id="j", at=AT)


@pytest.mark.parametrize(
    "error", [ClusterError("500"), ClusterDenied("403"), ClusterUnreachable("503"), FileTooLarge("17 MiB")]
)
@pytest.mark.parametrize("status", ["failed", "lost", "unknown"])
def test_a_failure_is_one_whether_or_not_its_result_file_can_be_read(status: str, error: ClusterError) -> None:
    assert read_sentinel(Broken(error), of_one(status)) is None  # type: ignore[arg-type]


def test_a_success_waits_for_its_result_file_and_a_denial_names_the_right_that_is_missing() -> None:
    done = of_one("complete")
    assert read_sentinel(Broken(FileTooLarge("17 MiB")), done) is None  # type: ignore[arg-type]
    for error in (ClusterError("500"), ClusterUnreachable("503")):
        with pytest.raises(type(error)):
            read_sentinel(Broken(error), done)  # type: ignore[arg-type]
    with pytest.raises(ClusterDenied, match="403") as caught:
        read_sentinel(Broken(ClusterDenied("403")), done)  # type: ignore[arg-type]
    assert "read-fs" in caught.value.hint


def result_file(code: int = 0, sha: str = SHA) -> bytes:
    return Sentinel(job_id="j", spec_sha256=sha, exit_code=code).model_dump_json().encode()


def of_two() -> Snapshot:
    base = {"JobID": "j", "TaskGroup": "train", "ClientStatus": "complete", "TaskStates": {}}
    allocs = [{**base, "ID": f"a{n}", "Name": f"j.train[{n}]", "CreateIndex": n} for n in (0, 1)]
    return to_snapshot({"ID": "j", "Status": "dead"}, allocs, [], job_id="j", at=AT)


def test_each_allocation_of_a_group_must_have_its_result_file_and_the_worst_is_the_jobs() -> None:
    def read(**found: bytes | None) -> Sentinel | None:
        return read_sentinel(Files(**found), of_two())  # type: ignore[arg-type]

    good = Sentinel(job_id="j", spec_sha256=SHA, exit_code=0)
    assert read(a0=result_file(), a1=result_file()) == good
    assert read(a0=result_file(), a1=None) is None
    assert read(a0=result_file()) is None
    assert read(a0=result_file(), a1=b"{") is None
    assert read(a0=result_file(), a1=result_file(sha=OTHER)) is None
    failed = read(a0=result_file(), a1=result_file(3))
    assert failed is not None
    assert failed.exit_code == 3
