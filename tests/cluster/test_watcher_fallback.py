"""Watching where there is no event stream: blocking queries, outages, and no request too many."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caravan.cluster.gate import HOLDS, READS
from caravan.cluster.nomad import NomadCluster
from caravan.values.errors import ClusterUnreachable
from caravan.values.run import Phase
from tests.fakes.clock import FastClock
from tests.fakes.nomad_http import Answer, NomadHttp, Request
from tests.fakes.nomad_sim import NomadSim
from tests.fakes.recordings import states
from tests.fakes.viewer import Viewer

REFUSALS = [Answer(b"Permission denied", 403), Answer(b"", 404), Answer(b"Invalid topic query", 400)]
Connect = Callable[..., NomadCluster]


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def server() -> Iterator[NomadHttp]:
    made = NomadHttp(lambda _: Answer({}))
    yield made
    made.close()


@pytest.fixture
def sim() -> Iterator[NomadSim]:
    made = NomadSim()
    made.stream_trouble = lambda _: Answer(b"Permission denied", 403)
    yield made
    made.close()


@pytest.fixture
def connect(clock: FastClock) -> Iterator[Connect]:
    clusters: list[NomadCluster] = []

    def make(address: str, **more: Any) -> NomadCluster:
        settings: dict[str, Any] = {"token": "t", "namespace": "default", "region": None, "verify": True}
        clusters.append(NomadCluster(address, **(settings | {"cert": None, "clock": clock} | more)))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


def play(server: NomadHttp, recorded: list[Any], step: Callable[[int], int]) -> None:
    """Serve recorded states: the nth blocking query for allocations shows the state number `step(n)`."""
    shown = {"n": 0}

    def answer(request: Request) -> Answer:
        if request.path == "/v1/event/stream":
            return Answer(b"", 404)
        if request.path.endswith("/allocations") and "index" in request.query:
            shown["n"] += 1
        number = min(step(shown["n"]), len(recorded) - 1)
        job, allocs, evals = recorded[number]
        if request.path.endswith("/allocations"):
            return Answer(allocs, headers={"X-Nomad-Index": str(100 + number)})
        if request.path.endswith("/evaluations"):
            return Answer(evals, headers={"X-Nomad-Index": "1"})
        return Answer(job)

    server.answer = answer


@pytest.mark.parametrize(("recording", "job_id"), [("exit-1-restarts", None), ("gpu-busy-then-free", "gpu-waiter")])
def test_watch_follows_a_recorded_job(recording: str, job_id: str | None, server: NomadHttp, connect: Connect) -> None:
    recorded = list(states(recording, job_id))
    play(server, recorded, lambda n: n)
    seen = list(connect(server.address).watch(recorded[0][0]["ID"]))
    assert seen[0].phase is Phase.QUEUED
    assert seen[-1].phase is Phase.ENDED
    assert Phase.ENDED not in {s.phase for s in seen[:-1]}
    assert len(seen) >= 4
    blocking = [r for r in server.requests if "wait" in r.query]
    assert blocking
    assert all(r.query["wait"] == "3000ms" and int(r.query["index"]) >= 100 for r in blocking)


def test_a_server_that_does_not_hold_the_query_is_not_asked_on_and_on(
    server: NomadHttp, connect: Connect, clock: FastClock
) -> None:
    recorded = list(states("gpu-busy-then-free", "gpu-waiter"))[:2]
    play(server, recorded, lambda n: 1)
    seen = connect(server.address).watch("gpu-waiter")
    first = next(seen)
    began = clock.monotonic()
    for _ in range(15):
        assert next(seen).phase is first.phase is Phase.QUEUED
    passed = clock.monotonic() - began
    assert passed >= 12.0
    assert len(server.requests) <= 3 * (passed + 3)


def test_watch_starts_over_when_the_index_goes_back(server: NomadHttp, connect: Connect) -> None:
    indexes = iter(["50", "20", "21", "22"])
    reads = {"n": 0}

    def answer(request: Request) -> Answer:
        if request.path == "/v1/event/stream":
            return Answer(b"", 404)
        if request.path.endswith("/allocations"):
            reads["n"] += 1
            return Answer([], headers={"X-Nomad-Index": next(indexes, "23")})
        if request.path.endswith("/evaluations"):
            return Answer([])
        return Answer({"ID": "j", "Status": "dead" if reads["n"] > 4 else "pending"})

    server.answer = answer
    list(connect(server.address).watch("j"))
    asked = [r.query.get("index") for r in server.requests if r.path.endswith("/allocations")]
    assert asked[:4] == [None, "50", None, "21"]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_without_a_stream_blocking_queries_tell(refusal: Answer, sim: NomadSim, connect: Connect) -> None:
    sim.stream_trouble = lambda _: refusal
    sim.register("j")
    viewer = Viewer(connect(sim.address).watch("j"))
    viewer.count(4)
    assert any("wait" in r.query for r in sim.http.requests)
    sim.end("j", 1)
    assert viewer.ends().reason == "train: exit code 1"
    assert len([r for r in sim.http.requests if r.path == "/v1/event/stream"]) <= 2  # a refusal is believed


def test_a_stream_that_keeps_breaking_is_given_up_for_a_while(sim: NomadSim, connect: Connect) -> None:
    sim.stream_trouble = lambda _: Answer(stream=lambda: iter([b"{}\n", b'{"Index": 3, "Eve']), torn=True)
    sim.register("j")
    viewer = Viewer(connect(sim.address).watch("j"))
    viewer.until(lambda v: any("wait" in r.query for r in sim.http.requests) and len(v.seen) >= 12)
    sim.end("j", 0)
    viewer.ends()
    assert len([r for r in sim.http.requests if r.path == "/v1/event/stream"]) <= 14


def test_many_watchers_without_a_stream_share_few_queries(sim: NomadSim, connect: Connect) -> None:
    jobs = [f"j{n}" for n in range(15)]
    for job in jobs:
        sim.register(job)
    cluster = connect(sim.address, clock=FastClock(5.0), outage_limit=3600.0)
    viewers = [Viewer(cluster.watch(job)) for job in jobs]
    for viewer in viewers:
        viewer.until(lambda v: len(v.seen) >= 3)
    for job in jobs:
        sim.end(job)
    assert {v.ends().phase for v in viewers} == {Phase.ENDED}
    assert sim.most_at_once <= READS + HOLDS


def answering(server: NomadHttp, down: Callable[[int], Answer | None], job: Any) -> dict[str, int]:
    """The server answers the watch's requests, or what `down` says for the nth read."""
    count = {"n": 0}

    def answer(request: Request) -> Answer:
        if request.path == "/v1/event/stream":
            return Answer(b"", 404)
        count["n"] += 1
        if (trouble := down(count["n"])) is not None:
            return trouble
        if request.path.endswith(("/allocations", "/evaluations")):
            return Answer([], headers={"X-Nomad-Index": "5"})
        return Answer(job)

    server.answer = answer
    return count


@pytest.mark.parametrize("trouble", [Answer(b"No cluster leader", 500), Answer(b"it broke", 500), Answer(b"<html>")])
def test_watch_rides_out_a_short_outage(trouble: Answer, server: NomadHttp, connect: Connect, clock: FastClock) -> None:
    job = {"ID": "j", "Status": "pending"}
    count = answering(server, lambda n: trouble if 3 < n < 12 else None, job)
    phases = []
    for snapshot in connect(server.address).watch("j"):
        phases.append(snapshot.phase)
        if count["n"] > 14:
            job["Status"] = "dead"
    assert phases[-1] is Phase.ENDED
    assert phases.count(Phase.QUEUED) >= 4  # the caller got its turn while the cluster was away
    assert max(s for s in clock.slept if s < 100) <= 5.0


def test_watch_gives_up_on_a_long_outage(server: NomadHttp, connect: Connect, clock: FastClock) -> None:
    count = answering(server, lambda n: Answer(b"<html>", 502) if n > 3 else None, {"ID": "j", "Status": "pending"})
    seen = connect(server.address, outage_limit=60.0).watch("j")
    next(seen)
    began = clock.monotonic()
    with pytest.raises(ClusterUnreachable, match="away for 60 s") as caught:
        for _ in seen:
            pass
    assert clock.monotonic() - began >= 60
    assert "resume" in caught.value.hint
    assert count["n"] <= 3 + 60  # a backoff of some seconds


def test_in_an_outage_one_asks_for_all(sim: NomadSim, connect: Connect) -> None:
    clock = FastClock(5.0)
    jobs = [f"j{n}" for n in range(15)]
    for job in jobs:
        sim.register(job)
    cluster = connect(sim.address, clock=FastClock(5.0), outage_limit=3600.0)
    viewers = [Viewer(cluster.watch(job)) for job in jobs]
    for viewer in viewers:
        viewer.sees(Phase.RUNNING)
    sim.trouble = lambda _: Answer(b"No cluster leader", 500)
    viewers[0].count(3)
    asked, began = sim.reads, clock.monotonic()
    before = [len(v.seen) for v in viewers]
    for viewer, seen in zip(viewers, before, strict=True):
        viewer.until(lambda v, seen=seen: len(v.seen) >= seen + 2)  # type: ignore[misc]  # heartbeats go on
    passed = clock.monotonic() - began
    assert sim.reads - asked <= READS + HOLDS + passed  # 15 watchers would ask many times as often
    sim.trouble = lambda _: None
    for job in jobs:
        sim.end(job)
    assert {v.ends().phase for v in viewers} == {Phase.ENDED}
