"""The built-in cluster killed and started again, started twice at once, found and stopped."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from caravan.cluster.local.control import start, status, stop
from caravan.values.errors import ClusterUnreachable, UsageError
from tests.cluster.local.bench import ENVIRONMENT, NODE, Bench, events, kinds


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "home")
    yield bench
    bench.down()


def supervisor_of(bench: Bench, alloc: dict[str, object]) -> psutil.Process:
    (state,) = (bench.home / "runs" / str(alloc["ID"])).glob("*/*/state.json")
    parent = psutil.Process(json.loads(state.read_text())["pid"]).parent()
    assert parent is not None
    return parent


def test_a_killed_cluster_finds_its_task_again(bench: Bench) -> None:
    gate = bench.home / "gate"
    job = bench.job(f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo ended; exit 5")
    blocked = bench.job(Resources={"MemoryMB": 1_000_000})
    bench.register(job)
    bench.register(blocked)
    before = bench.alloc(job["ID"], "running")
    address, token = bench.cluster.address, bench.cluster.token()
    bench.crash()
    assert status(bench.home) is None
    bench.up()
    assert (bench.cluster.address, bench.cluster.token()) == (address, token)
    assert bench.alloc(job["ID"], "running")["ID"] == before["ID"]
    gate.touch()
    after = bench.alloc(job["ID"], "failed")
    assert kinds(after) == ["Received", "Task Setup", "Started", "Terminated", "Not Restarting"]
    assert events(after)[3]["ExitCode"] == 5
    assert bench.log(after) == "begun\nended\n"
    assert bench.get(f"/v1/job/{blocked['ID']}")["Status"] == "pending"


def test_a_task_that_ends_while_the_cluster_is_down(bench: Bench) -> None:
    gate = bench.home / "gate"
    job = bench.job(f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 6")
    bench.register(job)
    supervisor = supervisor_of(bench, bench.alloc(job["ID"], "running"))
    bench.crash()
    gate.touch()
    psutil.wait_procs([supervisor], timeout=60)
    bench.up()
    assert events(bench.alloc(job["ID"], "failed"))[3]["ExitCode"] == 6


def test_a_task_whose_supervisor_died_is_lost(bench: Bench) -> None:
    job = bench.job("exec sleep 600")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    supervisor = supervisor_of(bench, alloc)
    (child,) = supervisor.children()
    bench.crash()
    supervisor.kill()
    psutil.wait_procs([supervisor, child], timeout=60)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    bench.up()
    lost = bench.wait(f"/v1/allocation/{alloc['ID']}", lambda a: a["ClientStatus"] == "lost")
    assert lost["TaskStates"]["train"]["State"] == "dead"
    path = f"/v1/job/{job['ID']}/allocations"
    anew = bench.wait(path, lambda all_: len(all_) == 2 and all_[0]["ClientStatus"] == "running")
    assert anew[1]["NextAllocation"] == anew[0]["ID"]


def test_history_outlives_the_cluster_until_it_is_purged(bench: Bench) -> None:
    alloc = bench.run(bench.job("echo kept"))
    bench.crash()
    bench.up()
    assert bench.get(f"/v1/allocation/{alloc['ID']}")["TaskStates"] == alloc["TaskStates"]
    assert bench.log(alloc) == "kept\n"
    bench.ask("DELETE", f"/v1/job/{alloc['JobID']}?purge=true")
    bench.crash()
    bench.up()
    assert bench.ask("GET", f"/v1/job/{alloc['JobID']}").status_code == 404


def test_a_registered_job_survives_a_kill_right_after_the_answer(bench: Bench) -> None:
    job = bench.job("echo ran >> $NOMAD_ALLOC_DIR/data/x; cat $NOMAD_ALLOC_DIR/data/x")
    bench.register(job)
    bench.crash()
    bench.up()
    alloc = bench.alloc(job["ID"], "complete")
    assert bench.log(alloc) == "ran\n"
    assert len(bench.get(f"/v1/job/{job['ID']}/allocations")) == 1


def test_a_stop_that_was_interrupted_goes_on(bench: Bench) -> None:
    job = bench.job("trap '' INT TERM; while true; do sleep 0.05; done", KillTimeout=2_000_000_000)
    bench.register(job)
    bench.alloc(job["ID"], "running")
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    bench.wait(f"/v1/job/{job['ID']}/allocations", lambda a: a[0]["DesiredStatus"] == "stop")
    bench.crash()
    bench.up()
    alloc = bench.alloc(job["ID"], "complete")
    assert kinds(alloc).count("Killing") == 1
    assert kinds(alloc)[-2:] == ["Terminated", "Killed"]


def test_two_starts_at_once_give_one_cluster(tmp_path: Path) -> None:
    home = tmp_path / "home"
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"nodes": [NODE]}))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: start(home, inventory=inventory, environment=ENVIRONMENT), range(4)))
    assert len(set(found)) == 1
    assert status(home) == found[0]
    assert stop(home)


def test_stop_ends_what_runs_and_keeps_the_jobs(bench: Bench) -> None:
    job = bench.job("exec sleep 600")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    supervisor = supervisor_of(bench, alloc)
    assert bench.down()
    assert not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE
    assert status(bench.home) is None
    assert not bench.down()
    bench.up()
    assert bench.get(f"/v1/job/{job['ID']}")["Stop"]
    assert bench.get(f"/v1/allocation/{alloc['ID']}")["ClientStatus"] == "complete"


def test_a_stale_address_fools_nobody(bench: Bench) -> None:
    stale = (bench.home / "address.json").read_text()
    bench.down()
    (bench.home / "address.json").write_text(stale)
    assert status(bench.home) is None
    (bench.home / "address.json").write_text('{"address": ')
    assert status(bench.home) is None
    (bench.home / "address.json").write_text(json.dumps(json.loads(stale) | {"pid": os.getpid()}))
    assert status(bench.home) is None
    assert not stop(bench.home)
    bench.up()
    assert status(bench.home) == bench.cluster


def test_no_home_no_cluster(tmp_path: Path) -> None:
    assert status(tmp_path / "none") is None
    assert not stop(tmp_path / "none")


def test_another_inventory_needs_another_start(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"nodes": [{**NODE, "name": "other"}]}))
    with pytest.raises(UsageError, match="already runs"):
        start(bench.home, inventory=other, environment=ENVIRONMENT)


@pytest.mark.parametrize("text", ["{", '{"nodes": []}', '{"nodes": [{"name": "x"}]}', '{"nodes": [], "more": 1}'])
def test_a_wrong_inventory_is_said_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inventory.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="inventory"):
        start(tmp_path / "home", inventory=path, environment=ENVIRONMENT)
    with pytest.raises(UsageError, match="can't be read"):
        start(tmp_path / "home", inventory=tmp_path / "none.json", environment=ENVIRONMENT)


def test_a_cluster_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "state.db").write_text("this is no database, and long enough that nobody could take it for one" * 20)
    with pytest.raises(ClusterUnreachable, match=r"state\.db can't be read"):
        start(home, inventory=None, environment=ENVIRONMENT)


def test_a_vanished_node_loses_its_allocations(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "home")
    job = bench.job("exec sleep 600")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    supervisor = supervisor_of(bench, alloc)
    bench.crash()
    other = Bench(tmp_path / "home", {**NODE, "name": "other"})
    try:
        assert other.get(f"/v1/allocation/{alloc['ID']}")["ClientStatus"] == "lost"
        psutil.wait_procs([supervisor], timeout=60)
        assert not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE
    finally:
        other.down()


def test_sigterm_leaves_tasks_running(bench: Bench) -> None:
    job = bench.job("exec sleep 600")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    supervisor = supervisor_of(bench, alloc)
    process = psutil.Process(bench.cluster.pid)
    process.send_signal(signal.SIGTERM)
    psutil.wait_procs([process], timeout=60)
    assert supervisor.is_running()
    bench.up()
    assert bench.alloc(job["ID"], "running")["ID"] == alloc["ID"]
