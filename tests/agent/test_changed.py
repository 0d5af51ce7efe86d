"""Whose job it is: against what Nomad answered when a job was registered again, changed, stopped and purged."""

from datetime import UTC, datetime
from typing import Any

import pytest

from caravan.agent.changed import changed_by_others, may_be_another, replaced
from caravan.cluster.snapshots import to_registered, to_snapshot
from caravan.values.job import META_SHA, RegisteredJob
from caravan.values.run import Deployment, Snapshot
from tests.fakes.recordings import load

AT = datetime(2026, 1, 1, tzinfo=UTC)


def exchanges(name: str, method: str, ending: str) -> list[Any]:
    """The recorded exchanges of that method whose path ends so, without its query."""
    return [e for e in load(name)["exchanges"] if e["method"] == method and e["path"].split("?")[0].endswith(ending)]


def registered(name: str) -> Deployment:
    """What we would have stored: the first registration's answer."""
    answer = exchanges(name, "POST", "/v1/jobs")[0]["answer"]
    sha = {"spec_sha256": "ours", "plan_sha256": "p"}
    return Deployment(run_id="r", attempt=1, job_id="j", job_modify_index=answer["JobModifyIndex"], **sha)


def document(name: str, job_id: str, number: int = -1) -> Any:
    return exchanges(name, "GET", f"/v1/job/{job_id}")[number]["answer"]


def allocations(name: str, job_id: str) -> list[Any]:
    return exchanges(name, "GET", f"/v1/job/{job_id}/allocations")[-1]["answer"]  # type: ignore[no-any-return]


def seen(job: Any, allocs: list[Any]) -> Snapshot:
    return to_snapshot(job, allocs, [], job_id=job["ID"] if job else "j", at=AT)


def test_an_unchanged_job_that_is_registered_again_is_still_ours() -> None:
    name, job_id = "same-job-registered-twice", "same-twice"
    ours = registered(name)
    first, second = (e["answer"] for e in exchanges(name, "POST", "/v1/jobs"))
    assert second["JobModifyIndex"] != first["JobModifyIndex"]  # the answer tells of a change that was none
    job = document(name, job_id)
    assert (job["JobModifyIndex"], job["Version"]) == (ours.job_modify_index, 0)
    assert changed_by_others(seen(job, allocations(name, job_id)), ours) == ""


def test_a_changed_job_is_not_ours_any_more_and_its_first_allocation_alone_still_is() -> None:
    name, job_id = "job-changed-and-run-again", "job-changed"
    ours, allocs = registered(name), allocations(name, job_id)
    changed = document(name, job_id)
    assert changed["JobModifyIndex"] != ours.job_modify_index
    assert "version 1" in changed_by_others(seen(changed, allocs), ours)
    before = {**changed, "JobModifyIndex": ours.job_modify_index, "Version": 0}
    (own,) = (a for a in allocs if a["JobVersion"] == 0)
    assert changed_by_others(seen(before, [own]), ours) == ""


def test_a_changed_job_that_was_stopped_since_is_told_by_what_ran() -> None:
    name, job_id = "job-changed-and-run-again", "job-changed"
    stopped = {**document(name, job_id), "Stop": True, "Version": 2, "JobModifyIndex": 99}
    assert changed_by_others(seen(stopped, allocations(name, job_id)), registered(name)) != ""


def test_a_purged_job_is_gone_and_not_changed() -> None:
    assert changed_by_others(seen(None, []), registered("job-changed-and-run-again")) == ""


def test_a_stop_is_no_change() -> None:
    name, job_id = "stop-running", "stop-running"
    ours, stopped = registered(name), document(name, job_id, 0)
    assert (stopped["Stop"], stopped["Version"]) == (True, 1)
    assert stopped["JobModifyIndex"] != ours.job_modify_index
    snapshot = seen(stopped, [])
    assert changed_by_others(snapshot, ours) == ""
    assert may_be_another(snapshot, ours)  # purged, registered anew by somebody, and stopped, it would look the same


def test_one_that_was_registered_anew_under_the_id_is_told_by_its_index_or_its_meta() -> None:
    name, job_id = "same-job-registered-twice", "same-twice"
    ours, job = registered(name), document(name, job_id)
    assert changed_by_others(seen({**job, "JobModifyIndex": 999}, []), ours).startswith("somebody registered it anew")
    other = to_registered({**job, "Meta": {META_SHA: "theirs"}})
    assert replaced(other, ours)
    assert replaced(to_registered(job), ours)
    assert not replaced(to_registered({**job, "Meta": {META_SHA: "ours"}}), ours)
    assert not replaced(None, ours)


@pytest.mark.parametrize("index", [0, None])
def test_an_index_that_is_not_known_speaks_against_nothing(index: int | None) -> None:
    ours = registered("stop-running").model_copy(update={"job_modify_index": index})
    assert changed_by_others(seen({"ID": "j", "Status": "running", "JobModifyIndex": 5}, []), ours) == ""


def test_a_job_without_a_meta_is_nobodys() -> None:
    assert RegisteredJob(id="j", namespace="default", status="running").spec_sha256 is None
