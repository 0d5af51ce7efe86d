"""The built-in cluster killed at any moment: no answered job is lost, no task runs twice, none is forgotten."""

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.cluster.local.bench import NODE, Bench, events, kinds

IMAGE = "local/crash-test:1"  # in no daemon: the task is a process in a view
CRASHING = {**NODE, "cpu_mhz": 100_000, "memory_mb": 100_000}
CRASHING["drivers"] = {"raw_exec": {}, "exec": {}, "docker": {"images": [IMAGE]}}
DRIVERS = ("raw_exec", "exec", "docker")
IN_VIEWS = ("exec", "docker")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "home", CRASHING)
    yield bench
    bench.down()


def gated(bench: Bench, driver: str, code: int, gate: str = "gate") -> dict[str, Any]:
    """A job whose task says that it begins, waits for the gate, says that it ends."""
    said = f"echo begun; while [ ! -e {bench.home / gate} ]; do sleep 0.05; done; echo ended; exit {code}"
    config: dict[str, Any] = {"command": "/bin/sh", "args": ["-c", said]}
    return bench.job(Driver=driver, Config=config | ({"image": IMAGE} if driver == "docker" else {}))


def task_of(bench: Bench, alloc: dict[str, Any]) -> psutil.Process:
    """The task's first process, as its supervisor knows it."""
    (state,) = (bench.home / "runs" / alloc["ID"]).glob("*/*/state.json")
    return psutil.Process(json.loads(state.read_text())["pid"])


@pytest.mark.parametrize("driver", IN_VIEWS)
def test_a_task_in_a_view_is_found_again(bench: Bench, driver: str) -> None:
    job = gated(bench, driver, 5)
    bench.register(job)
    before = bench.alloc(job["ID"], "running")
    process = task_of(bench, before)
    bench.crash()
    bench.up()
    found = bench.alloc(job["ID"], "running")
    assert (found["ID"], task_of(bench, found)) == (before["ID"], process)
    assert found["TaskStates"]["train"]["StartedAt"] == before["TaskStates"]["train"]["StartedAt"]
    (bench.home / "gate").touch()
    after = bench.alloc(job["ID"], "failed")
    assert kinds(after) == ["Received", "Task Setup", "Started", "Terminated", "Not Restarting"]
    assert events(after)[3]["ExitCode"] == 5
    assert bench.log(after) == "begun\nended\n"


@pytest.mark.parametrize("driver", IN_VIEWS)
def test_a_task_in_a_view_that_ends_while_the_cluster_is_down(bench: Bench, driver: str) -> None:
    job = gated(bench, driver, 6)
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    supervisor = task_of(bench, alloc).parent()
    assert supervisor is not None
    bench.crash()
    (bench.home / "gate").touch()
    psutil.wait_procs([supervisor], timeout=60)
    bench.up()
    after = bench.alloc(job["ID"], "failed")
    assert events(after)[3]["ExitCode"] == 6
    assert bench.log(after) == "begun\nended\n"


@pytest.mark.parametrize("driver", IN_VIEWS)
def test_a_task_in_a_view_is_stopped_after_a_crash(bench: Bench, driver: str) -> None:
    job = gated(bench, driver, 0)
    bench.register(job)
    process = task_of(bench, bench.alloc(job["ID"], "running"))
    bench.crash()
    bench.up()
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    assert kinds(bench.alloc(job["ID"], "complete"))[-2:] == ["Terminated", "Killed"]
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("driver", IN_VIEWS)
def test_a_view_whose_supervisor_died_is_lost_with_all_in_it(bench: Bench, driver: str) -> None:
    job = gated(bench, driver, 0)
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    process = task_of(bench, alloc)
    supervisor = process.parent()
    assert supervisor is not None
    inside = [process, *process.children(recursive=True)]
    bench.crash()
    supervisor.kill()
    psutil.wait_procs([supervisor, *inside], timeout=60)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in inside)
    bench.up()
    lost = bench.wait(f"/v1/allocation/{alloc['ID']}", lambda a: a["ClientStatus"] == "lost")
    assert lost["TaskStates"]["train"]["State"] == "dead"
    path = f"/v1/job/{job['ID']}/allocations"
    anew = bench.wait(path, lambda all_: len(all_) == 2 and all_[0]["ClientStatus"] == "running")
    assert anew[1]["NextAllocation"] == anew[0]["ID"]
    (bench.home / "gate").touch()
    assert bench.log(bench.alloc(job["ID"], "complete")) == "begun\nended\n"


def test_supervisors_are_started_though_their_nursery_is_killed(bench: Bench) -> None:
    kept = gated(bench, "raw_exec", 5)
    bench.register(kept)
    bench.alloc(kept["ID"], "running")
    for _ in range(2):
        (nursery,) = (p for p in psutil.Process(bench.cluster.pid).children() if "nursery" in " ".join(p.cmdline()))
        nursery.kill()
        psutil.wait_procs([nursery], timeout=0.5)  # its parent buries it later
        assert bench.run(bench.job("echo on"))["ClientStatus"] == "complete"
    (bench.home / "gate").touch()
    assert bench.log(bench.alloc(kept["ID"], "failed")) == "begun\nended\n"


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_nothing_is_lost_and_nothing_runs_twice(bench: Bench, seed: int) -> None:
    moments = random.Random(seed)
    answered: dict[str, int] = {}
    for turn in range(4):
        killer = threading.Timer(moments.uniform(0.0, 0.15), psutil.Process(bench.cluster.pid).kill)
        begin = moments.randrange(len(DRIVERS * 2))
        try:
            for i, driver in enumerate(DRIVERS * 2):
                if i == begin:
                    killer.start()
                job = gated(bench, driver, code := 1 + len(answered), gate=f"gate-{moments.randrange(turn + 1)}")
                bench.register(job)
                answered[job["ID"]] = code
        except requests.RequestException:
            pass  # it was killed before it answered: nobody was promised anything
        killer.join()
        bench.crash()
        (bench.home / f"gate-{turn}").touch()  # some end while nobody looks
        bench.up()
    assert answered
    assert answered.keys() <= {job["ID"] for job in bench.get("/v1/jobs")}
    for job_id, code in answered.items():
        alloc = bench.alloc(job_id, "failed")
        assert [e["ExitCode"] for e in events(alloc) if e["Type"] == "Terminated"] == [code], job_id
        assert bench.log(alloc) == "begun\nended\n", job_id
        assert len(bench.get(f"/v1/job/{job_id}/allocations")) == 1, job_id
