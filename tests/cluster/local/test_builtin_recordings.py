"""The built-in cluster held to what a real Nomad answered: final events, placement failures, errors."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.local.bench import Bench
from tests.fakes.recordings import load

ENDED = (
    "command-not-found-docker",
    "command-not-found-raw-exec",
    "docker-gpu-no-nvidia-runtime",
    "exit-1",
    "exit-1-restarts",
    "exit-2-usage",
    "image-missing",
    "mount-missing",
    "ok-docker",
    "ok-gpu-raw-exec",
    "ok-memory-max-and-cores",
    "ok-raw-exec",
    "ok-spread-affinity-constraint",
    "oom-killed",
    "privileged-denied",
    "script-missing",
    "unknown-driver-option",
)
UNPLACED = (
    "constraint-unmet",
    "datacenter-wrong",
    "driver-missing",
    "gpu-too-many",
    "gpu-too-much-memory",
    "host-volume-missing",
    "memory-exhausted",
)
INVALID = ("invalid-duplicate-task", "invalid-low-resources", "invalid-type", "namespace-missing")
COUNTS = ("ConstraintFiltered", "DimensionExhausted", "NodesAvailable", "NodesFiltered", "NodesExhausted")
MASKS = ((r"sha256:[0-9a-f]{12,64}", "HASH"), (r"\b[0-9a-f]{64}\b", "HASH"), (r"in \d+\.\d+s", "in Ns"))


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bench]]:
    """A cluster for each inventory that a recording was made on."""
    made: dict[str, Bench] = {}
    yield made
    for bench in made.values():
        bench.down()


@pytest.fixture
def bench_for(benches: dict[str, Bench], tmp_path_factory: pytest.TempPathFactory) -> Any:
    def find(recording: dict[str, Any]) -> Bench:
        key = str(recording["inventory"])
        if key not in benches:
            benches[key] = Bench(tmp_path_factory.mktemp("builtin") / "home", *recording["inventory"]["nodes"])
        return benches[key]

    return find


def parsed(recording: dict[str, Any]) -> dict[str, Any]:
    """The job as Nomad parsed it."""
    found = next(x["answer"] for x in recording["exchanges"] if x["path"] == "/v1/jobs/parse")
    assert isinstance(found, dict)
    return found


def last_of(recording: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The last state of each evaluation or allocation that was recorded."""
    last = {x["path"]: x["answer"] for x in recording["exchanges"] if x["path"].startswith(f"/v1/{kind}/")}
    return [a for a in last.values() if isinstance(a, dict)]


def masked(text: str) -> str:
    for pattern, to in MASKS:
        text = re.sub(pattern, to, text)
    return text


def told(alloc: dict[str, Any]) -> dict[str, Any]:
    """What must be equal: statuses and the tasks' events."""
    tasks = {}
    for name, state in alloc["TaskStates"].items():
        events = [
            (
                e["Type"],
                masked(e["DisplayMessage"]),
                {k: masked(v) for k, v in e["Details"].items() if k != "start_delay"},
            )
            for e in state["Events"]
        ]
        tasks[name] = (state["State"], state["Failed"], state["Restarts"], events)
    return {"status": (alloc["ClientStatus"], alloc["ClientDescription"], alloc["DesiredStatus"]), "tasks": tasks}


@pytest.mark.parametrize("name", ENDED)
def test_a_job_ends_as_recorded(bench_for: Any, name: str) -> None:
    recording = load(name)
    bench, job = bench_for(recording), parsed(recording)
    assert told(bench.run(job)) == told(last_of(recording, "allocation")[-1])
    bench.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")


@pytest.mark.parametrize("name", UNPLACED)
def test_a_job_is_not_placed_as_recorded(bench_for: Any, name: str) -> None:
    recording = load(name)
    bench, job = bench_for(recording), parsed(recording)
    registered = bench.register(job)
    own = bench.wait(f"/v1/evaluation/{registered['EvalID']}", lambda e: e["Status"] == "complete")
    real = next(e for e in last_of(recording, "evaluation") if e["TriggeredBy"] == "job-register")
    for group, failure in real["FailedTGAllocs"].items():
        assert {k: own["FailedTGAllocs"][group][k] for k in COUNTS} == {k: failure[k] for k in COUNTS}
    assert own["QueuedAllocations"] == real["QueuedAllocations"]
    blocked = bench.get(f"/v1/evaluation/{own['BlockedEval']}")
    assert (blocked["Status"], blocked["TriggeredBy"]) == ("blocked", "queued-allocs")
    bench.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")


@pytest.mark.parametrize("name", INVALID)
def test_a_job_is_refused_as_recorded(bench_for: Any, name: str) -> None:
    recording = load(name)
    bench = bench_for(recording)
    for exchange in recording["exchanges"]:
        if exchange["path"] not in ("/v1/validate/job", "/v1/jobs"):
            continue
        got = bench.ask(exchange["method"], exchange["path"], exchange["body"])
        assert got.status_code == exchange["status"]
        said = got.json() if isinstance(exchange["answer"], dict) else got.text
        assert said == exchange["answer"]
