"""The built-in cluster on a full disk and over a broken state file: one line that says what to do, and nothing lost."""

import asyncio
import contextlib
import json
import resource
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from caravan.cluster.local import trouble
from caravan.cluster.local.broker import Broker
from caravan.cluster.local.control import start
from caravan.cluster.local.encoding import Kept, encoded, listed
from caravan.cluster.local.executor import RotatedLog
from caravan.cluster.local.files import Log
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.state import State
from caravan.values.errors import ClusterUnreachable
from tests.cluster.local.bench import ENVIRONMENT, NODE, Bench, events

FILE = Path("/where/state.db")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "home")
    yield bench
    bench.down()


def limit_files(process: psutil.Process, size: int) -> None:
    """Let a process write no file beyond so many bytes: to it, the disk is full."""
    process.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_change_that_can_not_be_stored_is_refused_and_the_rest_goes_on(bench: Bench) -> None:
    kept = bench.job("exec sleep 600")
    bench.register(kept)
    bench.alloc(kept["ID"], "running")
    cluster = psutil.Process(bench.cluster.pid)
    limit_files(cluster, 0)
    got = bench.ask("POST", "/v1/jobs", {"Job": bench.job()})
    assert got.status_code == 500
    assert got.text.startswith(f"The built-in cluster can't write its state {bench.home / 'state.db'}: ")
    assert "has room" in got.text
    assert "\n" not in got.text
    assert [j["ID"] for j in bench.get("/v1/jobs")] == [kept["ID"]]
    limit_files(cluster, resource.RLIM_INFINITY)
    assert bench.run(bench.job("echo on"))["ClientStatus"] == "complete"
    assert bench.get(f"/v1/job/{kept['ID']}")["Status"] == "running"


def test_a_task_outlives_a_full_disk_and_its_end_is_told_later(bench: Bench) -> None:
    gate = bench.home / "gate"
    job = bench.job(f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 7")
    bench.register(job)
    alloc = bench.alloc(job["ID"], "running")
    (state,) = (bench.home / "runs" / alloc["ID"]).glob("*/*/state.json")
    task = psutil.Process(json.loads(state.read_text())["pid"])
    supervisor = task.parent()
    assert supervisor is not None
    limit_files(supervisor, 0)
    gate.touch()
    psutil.wait_procs([task], timeout=60)
    assert bench.alloc(job["ID"], "running")["ID"] == alloc["ID"]
    limit_files(supervisor, resource.RLIM_INFINITY)
    after = bench.alloc(job["ID"], "failed")
    assert [e["ExitCode"] for e in events(after) if e["Type"] == "Terminated"] == [7]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_output_that_finds_no_room_is_lost_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.stdout.0").symlink_to("/dev/full")
    log = RotatedLog(tmp_path, "t.stdout", 2, 100)
    log.write(b"lost")
    (tmp_path / "t.stdout.0").unlink()
    log.close()
    log.write(b"kept")
    log.close()
    assert (tmp_path / "t.stdout.0").read_bytes() == b"kept"


def test_a_task_s_output_is_its_own_whatever_its_name(tmp_path: Path) -> None:
    names = ("t[a-z]", "t.stdout", "t", "tx", "t*")
    for name in names:
        log = RotatedLog(tmp_path, f"{name}.stdout", 3, 10)
        log.write(f"{name:>15}".encode())
        log.close()
    for name in names:
        again = RotatedLog(tmp_path, f"{name}.stdout", 3, 10)  # goes on where the last one was
        again.write(b"!" * 5)
        again.close()
        pieces = Log(tmp_path, f"{name}.stdout").read(0)
        assert b"".join(piece.data for piece in pieces) == f"{name:>15}!!!!!".encode()


def _broken(path: Path, how: str) -> None:
    if how == "no database":
        path.write_text("this is no database, and long enough that nobody could take it for one" * 20)
        return
    with contextlib.closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE objects(kind TEXT, id TEXT, body TEXT, PRIMARY KEY(kind, id))")
        body = "{" if how == "no json" else "{}"
        made.execute("INSERT INTO objects VALUES('alloc', 'x', ?)", (body,))


@pytest.mark.parametrize("how", ["no database", "no json", "another shape"])
def test_a_state_that_can_not_be_read_is_said_at_once(tmp_path: Path, how: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _broken(home / "state.db", how)
    with pytest.raises(ClusterUnreachable) as caught:
        start(home, inventory=None, environment=ENVIRONMENT)
    line = caught.value.message
    assert line.startswith(f"The built-in cluster does not come up: The built-in cluster's state {home / 'state.db'} ")
    assert line.endswith("Put a copy of it back, or move it away to begin anew without its jobs.")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (sqlite3.OperationalError("database or disk is full"), "Make room"),
        (OSError(28, "No space left on device"), "Make room"),
        (PermissionError(13, "Permission denied"), "Let this user read and write it"),
        (sqlite3.OperationalError("unable to open database file"), "Let this user read and write it"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "Let this user read and write it"),
        (sqlite3.OperationalError("disk I/O error"), "See that its disk works"),
        (sqlite3.DatabaseError("file is not a database"), "Put a copy of it back"),
        (KeyError("body"), "Put a copy of it back"),
    ],
)
def test_each_trouble_has_its_advice(error: Exception, advice: str) -> None:
    line = trouble.unreadable(FILE, error)
    assert advice in line
    assert "\n" not in line
    if isinstance(error, sqlite3.Error):
        assert str(FILE) in trouble.unwritable(FILE, error)


class Idle:
    """A client that runs nothing and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def run(self, alloc_id: str) -> None:
        self.given.append(alloc_id)

    def stop(self, alloc_id: str) -> None:
        """Nothing runs."""

    def restart(self, alloc_id: str, task: str) -> bool:
        return False

    def signal(self, alloc_id: str, task: str, name: str) -> bool:
        return False

    def forget(self, alloc_id: str) -> None:
        """Nothing is on disk."""


async def _served(state: State, ready: Any) -> list[str]:
    """What a broker hands out until something is as wanted."""
    client = Idle()
    serving = asyncio.ensure_future(Broker(state, [Node(**NODE)]).serve(client))
    while not ready():
        await state.moved(10)
    serving.cancel()
    return client.given


def _job(policy: dict[str, Any]) -> dict[str, Any]:
    task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "true"}}
    return {"ID": "x", "Type": "batch", "TaskGroups": [{"Name": "g", "ReschedulePolicy": policy, "Tasks": [task]}]}


def test_an_end_that_was_stored_but_not_followed_up_is_followed_up(tmp_path: Path) -> None:
    policy = {"Attempts": 1, "Interval": 10**12, "Delay": 5 * 10**9, "DelayFunction": "constant", "Unlimited": False}

    async def live() -> None:
        state = State(tmp_path / "state.db")
        Broker(state, [Node(**NODE)]).register(_job(policy), enforce=None)
        (first,) = await _served(state, lambda: state.allocs and not state.open_evals)
        record = state.allocs[first]
        with state.change("AllocationUpdated") as change:
            change.put_alloc(replace(record, body={**record.body, "ClientStatus": "failed"}))
        state.close()  # it dies here: nobody has drawn a conclusion

        anew = State(tmp_path / "state.db")
        assert not anew.open_evals
        assert not anew.holding
        await _served(anew, lambda: len(anew.evals) > 1)
        assert [e["TriggeredBy"] for e in anew.evals_of("x")][-2:] == ["alloc-failure", "job-register"]
        anew.close()

    asyncio.run(live())


def test_the_state_is_the_same_after_it_was_read_again(tmp_path: Path) -> None:
    async def live() -> None:
        state = State(tmp_path / "state.db")
        broker = Broker(state, [Node(**NODE)])
        for count in (1, 2, 3):
            job = _job({})
            job["TaskGroups"][0]["Count"] = count
            broker.register(job, enforce=None)
        await _served(state, lambda: not state.open_evals)
        broker.deregister("x", purge=False)
        other = {**_job({}), "ID": "y"}
        broker.register(other, enforce=None)
        broker.deregister("y", purge=True)
        state.close()
        again = State(tmp_path / "state.db")
        assert (again.jobs, again.versions, again.evals) == (state.jobs, state.versions, state.evals)
        assert (again.allocs, again.holding, again.open_evals) == (state.allocs, state.holding, state.open_evals)
        assert [j["Version"] for j in again.versions["x"]] == [3, 2, 1, 0]
        assert again.index == state.index
        again.close()

    asyncio.run(live())


def test_who_waits_for_a_job_is_woken_by_that_job_alone(tmp_path: Path) -> None:
    async def live() -> None:
        state = State(tmp_path / "state.db")
        broker = Broker(state, [Node(**NODE)])
        own, any_ = (asyncio.ensure_future(state.moved(60, key)) for key in ("x", ""))
        await asyncio.sleep(0)
        broker.register({**_job({}), "ID": "y"}, enforce=None)
        await any_
        assert not own.done()
        broker.register(_job({}), enforce=None)
        await own
        state.close()

    asyncio.run(live())


def test_what_is_listed_is_encoded_once_for_each_object() -> None:
    made: list[object] = []
    kept, one, other = Kept(), object(), object()

    def make(source: object) -> int:
        made.append(source)
        return len(made)

    for source in (one, one, other):
        kept.of("k", source, partial(make, source), room=1)
    assert made == [one, other]
    assert listed([]) == b"[]"
    assert listed([encoded({"a": 1})]) == b'[{"a":1}]'
    assert json.loads(listed(encoded(n) for n in (1, 2, 3))) == [1, 2, 3]


@pytest.mark.parametrize("value", [10**30, {"a": "\ud800"}, [1.5, None, True, "é", {}]])
def test_all_that_json_can_say_is_encoded(value: Any) -> None:
    assert json.loads(encoded(value)) == value
