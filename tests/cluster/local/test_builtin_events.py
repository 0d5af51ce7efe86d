"""The built-in cluster's event stream beside a recorded one: lines, topics, types, keys, payloads."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from starlette.requests import Request

from caravan.cluster.events import read_line
from caravan.cluster.local import server
from caravan.cluster.local import state as state_module
from caravan.cluster.local.server import Stream
from caravan.cluster.local.state import Event, State
from tests.cluster.local.bench import Bench
from tests.fakes.recordings import FOLDER

JOB = "exit-1-restarts"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("builtin") / "home")
    yield bench
    bench.down()


def recorded() -> list[bytes]:
    return (FOLDER / "event-stream.ndjson").read_bytes().splitlines()


def follow(bench: Bench, query: str, good: Any) -> list[Any]:
    """The lines of a stream up to the first one that is as wanted."""
    headers = {"X-Nomad-Token": bench.cluster.token()}
    seen = []
    with requests.get(
        f"{bench.cluster.address}/v1/event/stream?{query}", headers=headers, stream=True, timeout=60
    ) as stream:
        for line in stream.iter_lines(chunk_size=1):
            seen.append(json.loads(line))
            if good(seen[-1]):
                return seen
    raise AssertionError(f"the stream ended after {seen[-1:]}")


def form(line: Any) -> list[Any]:
    """What must be equal between two clusters: not ids, times, nor the signing key that only Nomad has, nor how the
    end of a purged job's evaluation counts what there is none of."""
    return [
        (
            e["Topic"],
            e["Type"],
            len(e["FilterKeys"] or ()),
            e["Namespace"],
            e["Index"] == line["Index"],
            sorted(e["Payload"]),
            sorted(set(e["Payload"][e["Topic"]]) - {"SigningKeyID", "PlanAnnotations", "QueuedAllocations"}),
        )
        for e in line.get("Events") or []
    ]


def test_a_job_with_a_restart_is_told_as_nomad_tells_it(bench: Bench) -> None:
    job = bench.job("sleep 0.2; exit 1") | {"ID": JOB}
    job["TaskGroups"][0]["RestartPolicy"] |= {"Attempts": 1}
    index = bench.ask("GET", "/v1/jobs").headers["X-Nomad-Index"]
    bench.run(job)
    bench.ask("DELETE", f"/v1/job/{JOB}?purge=true")

    def last(line: Any) -> bool:
        types = [(e["Type"], e["Payload"].get("Evaluation", {}).get("TriggeredBy")) for e in line.get("Events") or []]
        return ("EvaluationUpdated", "job-deregister") in types

    ours = follow(bench, f"index={int(index) + 1}", last)
    theirs = [json.loads(line) for line in recorded()]
    theirs = [n for n in theirs if any(JOB in (e["Key"], *(e["FilterKeys"] or ())) for e in n.get("Events") or ())]
    assert ours[0] == {}
    updates = [[form(line) for line in lines if form(line)] for lines in (ours, theirs)]
    # How many updates a client sends while a task runs is its own affair.
    compact = [[f for n, f in enumerate(lines) if n == 0 or f != lines[n - 1]] for lines in updates]
    assert compact[0] == compact[1]
    assert {key for line in ours for _, key in read_line(json.dumps(line).encode()).jobs} == {JOB}


def test_all_namespaces_are_the_one_there_is(bench: Bench) -> None:
    job = bench.job("exit 0")
    index = bench.ask("GET", "/v1/jobs").headers["X-Nomad-Index"]
    bench.run(job)
    for namespace in ("*", "default"):
        assert len(follow(bench, f"index={index}&namespace={namespace}", lambda n: n.get("Events"))) >= 2


def test_in_another_namespace_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_BEAT_SECONDS", 0.01)
    state = State(tmp_path / "state.db")
    state.events.append(Event(2, "Job", "JobRegistered", "j", (), {}))
    state.index = 2

    async def first(query: str) -> list[bool]:
        """Whether the first two lines tell of something."""
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query.encode()}
        lines: Any = (await Stream(state).read(Request(scope))).body_iterator  # type: ignore[attr-defined]
        return [b"Events" in await anext(lines) for _ in range(2)]

    for space in ("", "&namespace=default", "&namespace=*"):
        assert asyncio.run(first(f"index=1{space}")) == [False, True]
    assert asyncio.run(first("index=1&namespace=other")) == [False, False]
    state.close()


def test_an_index_that_was_never_reached_begins_with_what_comes_next(bench: Bench) -> None:
    job = bench.job("exit 0")
    timer = threading.Timer(0.3, bench.register, [job])
    timer.start()
    seen = follow(bench, f"topic=Job:{job['ID']}&index=1000000", lambda n: n.get("Events"))
    timer.join()
    assert seen[-1]["Events"][0]["Key"] == job["ID"]


def test_a_reader_who_falls_behind_is_told_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(fall_behind(tmp_path, monkeypatch))


async def fall_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_EVENTS_KEPT", 3)
    state = State(tmp_path / "state.db")
    lines = Stream(state)._lines([("*", "*")], 0)
    assert await anext(lines) == b"{}\n"

    def happen(index: int) -> None:
        state.index = index
        state.events.append(Event(index, "Job", "JobRegistered", "j", (), {}))

    happen(2)
    assert json.loads(await anext(lines))["Index"] == 2
    for index in range(3, 9):
        happen(index)
    last = await anext(lines)
    assert b"resubscribe" in last
    with pytest.raises(StopAsyncIteration):
        await anext(lines)
    state.close()
