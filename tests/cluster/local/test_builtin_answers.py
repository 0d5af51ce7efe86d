"""Answers over HTTP that a client meets beside the ordinary ones: rescheduling, updates, scaling, wrong places."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.local.bench import Bench

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("builtin") / "home")
    yield bench
    bench.down()


def allocs(bench: Bench, job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(bench.get(f"/v1/job/{job['ID']}/allocations"))


def test_another_try_stops_the_one_before(bench: Bench) -> None:
    job = bench.job("exit 3")
    policy = {"Attempts": 1, "Interval": 600 * SECOND, "Delay": 5 * SECOND, "DelayFunction": "constant"}
    job["TaskGroups"][0]["ReschedulePolicy"] = {**policy, "MaxDelay": 0, "Unlimited": False}
    bench.register(job)
    path = f"/v1/job/{job['ID']}/allocations"
    both = bench.wait(path, lambda found: [a["ClientStatus"] for a in found] == ["failed", "failed"])
    assert [(a["DesiredStatus"], a["DesiredDescription"]) for a in both] == [
        ("run", ""),
        ("stop", "alloc was rescheduled because it failed"),
    ]
    evaluations = bench.get(f"/v1/job/{job['ID']}/evaluations")
    assert sorted(e["TriggeredBy"] for e in evaluations) == ["alloc-failure", "alloc-reschedule", "job-register"]


def test_an_update_without_room_leaves_what_runs(bench: Bench) -> None:
    job = bench.job("sleep 600")
    bench.register(copy.deepcopy(job))
    before = bench.alloc(job["ID"], "running")
    job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = 1_000_000
    bench.register(copy.deepcopy(job))
    path = f"/v1/job/{job['ID']}/evaluations"
    bench.wait(path, lambda found: any(e["Status"] == "blocked" for e in found))
    assert [(a["ID"], a["DesiredStatus"]) for a in allocs(bench, job)] == [(before["ID"], "run")]
    job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = 64
    bench.register(copy.deepcopy(job))
    found = bench.wait(f"/v1/job/{job['ID']}/allocations", lambda all_: len(all_) == 2)
    assert found[0]["ID"] != before["ID"]
    after = bench.get(f"/v1/allocation/{found[0]['ID']}")
    assert after["PreviousAllocation"] == before["ID"]
    bench.alloc(job["ID"], "running")  # it starts as soon as the one before has ended
    assert bench.get(f"/v1/allocation/{before['ID']}")["ClientStatus"] == "complete"
    bench.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")


def test_scaling(bench: Bench) -> None:
    job = bench.job("sleep 600")
    job["TaskGroups"][0]["Scaling"] = {"Min": 1, "Max": 2, "Type": "horizontal"}
    bench.register(job)
    path = f"/v1/job/{job['ID']}/scale"

    def scale(**body: Any) -> tuple[int, str]:
        got = bench.ask("POST", path, body)
        return got.status_code, got.text

    target = {"Group": "train"}
    assert scale(Count=1) == (400, "missing task group name for scaling action")
    assert scale(Count=3, Target=target) == (400, "group count was greater than scaling policy maximum: 3 > 2")
    assert scale(Count=0, Target=target) == (400, "group count was less than scaling policy minimum: 0 < 1")
    assert scale(Count=2, Target={**target, "Job": "x"}) == (400, "job ID in payload did not match URL")
    assert scale(Count=2, Target=target)[0] == 200
    bench.wait(f"/v1/job/{job['ID']}/allocations", lambda all_: len(all_) == 2)
    assert bench.get(f"/v1/job/{job['ID']}/evaluations")[0]["TriggeredBy"] == "job-scaling"
    bench.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")


def test_a_pattern_is_stopped_without_an_evaluation(bench: Bench) -> None:
    job = {**bench.job(), "ParameterizedJob": {"Payload": "optional"}}
    bench.register(job)
    done = bench.ask("DELETE", f"/v1/job/{job['ID']}?purge=true").json()
    assert (done["EvalID"], bench.get(f"/v1/job/{job['ID']}/evaluations")) == ("", [])


def test_another_region_and_wrong_methods(bench: Bench) -> None:
    job = {**bench.job(), "Region": "eu"}
    for path in ("/v1/jobs", f"/v1/job/{job['ID']}/plan"):
        got = bench.ask("POST", path, {"Job": job})
        assert (got.status_code, got.text) == (500, "No path to region")
    for method, path in (("GET", "/v1/job/x/plan"), ("GET", "/v1/job/x/dispatch"), ("DELETE", "/v1/jobs")):
        got = bench.ask(method, path)
        assert (got.status_code, got.text) == (405, "Invalid method")
    got = bench.ask("POST", "/v1/job/none/evaluate", {"JobID": "none"})
    assert (got.status_code, got.text) == (500, "job not found")


def test_a_variable_file_comes_with_the_job(bench: Bench) -> None:
    text = 'variable "n" {\n  type = number\n}\njob "x" {\n  priority = var.n\n}\n'
    got = bench.ask("POST", "/v1/jobs/parse", {"JobHCL": text, "Variables": "n = 7\nm = 1\n", "Canonicalize": True})
    assert got.json()["Priority"] == 7
    got = bench.ask("POST", "/v1/jobs/parse", {"JobHCL": text, "Variables": 'n = "x"'})
    assert got.text == (
        "Failed to parse job: input.hcl:1,5-8: Invalid value for variable; The value for n is not compatible with the "
        "variable's type constraint: a number is required."
    )
