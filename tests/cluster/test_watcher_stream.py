"""Watching by the event stream: what wakes a watcher, one stream for all, and no thread that outlives them."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caravan.cluster.hub import FEW, Seat
from caravan.cluster.nomad import NomadCluster
from caravan.cluster.watch import judge
from caravan.values.run import OutcomeKind, Phase
from tests.fakes.clock import FastClock
from tests.fakes.nomad_http import Answer
from tests.fakes.nomad_sim import NomadSim
from tests.fakes.viewer import Viewer

Watch = Callable[..., Viewer]


def until(good: Callable[[], bool]) -> None:
    """Wait for something that no watcher tells."""
    for _ in range(6000):
        if good():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def followers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "caravan-events"]


@pytest.fixture
def sim() -> Iterator[NomadSim]:
    sim = NomadSim()
    yield sim
    sim.close()


@pytest.fixture
def cluster(sim: NomadSim) -> Iterator[NomadCluster]:
    cluster = NomadCluster(
        sim.address, token=None, namespace="default", region=None, verify=True, cert=None, clock=FastClock()
    )
    yield cluster
    cluster.close()
    until(lambda: not followers())


@pytest.fixture
def watch(cluster: NomadCluster) -> Iterator[Watch]:
    viewers: list[Viewer] = []

    def start(job_id: str, namespace: str = "default") -> Viewer:
        viewers.append(Viewer(cluster.watch(job_id, namespace)))
        return viewers[-1]

    yield start
    for viewer in viewers:
        viewer.leave()


def live(sim: NomadSim, streams: int = 1) -> None:
    """Wait until so many streams are open and what they woke has been read."""
    until(lambda: sim.streams == streams)
    quiet = -1
    while quiet != sim.reads:
        quiet = sim.reads
        time.sleep(0.1)


def test_an_event_wakes_the_watcher_who_reads_the_state_anew(sim: NomadSim, watch: Watch) -> None:
    sim.register("j")
    viewer = watch("j")
    viewer.sees(Phase.RUNNING)
    live(sim)
    reads = sim.reads
    sim.end("j", 3)
    last = viewer.ends()
    assert last.phase is Phase.ENDED
    assert judge(last, None, "").exit_code == 3
    assert 5 <= sim.reads - reads <= 8  # the state, and once more what may have changed before the job was dead
    assert not any("index" in r.query for r in sim.http.requests if r.path.startswith("/v1/job"))


def test_heartbeats_ask_the_cluster_for_nothing(sim: NomadSim, watch: Watch) -> None:
    sim.register("j")
    viewer = watch("j")
    live(sim)
    reads = sim.reads
    viewer.count(8)
    assert sim.reads - reads <= 3
    assert len({s.phase for s in viewer.seen}) == 1


def test_a_job_is_read_now_and_then_although_nothing_is_told(sim: NomadSim, watch: Watch) -> None:
    sim.register("j")
    viewer = watch("j")
    live(sim)
    with sim._moved:  # it ends, and the event is lost
        sim.jobs["default", "j"] |= {"Status": "dead"}
        sim._end_alloc(sim.allocs["default", "j"][0], "complete", 0)
    assert viewer.ends().phase is Phase.ENDED


def test_a_burst_of_events_is_read_once_or_twice(sim: NomadSim, watch: Watch) -> None:
    sim.register("j")
    watch("j").sees(Phase.RUNNING)
    live(sim)
    reads = sim.reads
    for _ in range(200):
        sim.say(b'{"Index":12,"Events":[{"Topic":"Job","Key":"j","Namespace":"default","Payload":{}}]}\n')
    live(sim)
    assert 3 <= sim.reads - reads < 200


def test_events_of_other_jobs_wake_nobody(sim: NomadSim, watch: Watch) -> None:
    sim.register("j")
    watch("j").sees(Phase.RUNNING)
    live(sim)
    reads = sim.reads
    sim.register("other")
    sim.register("j", "elsewhere")
    sim.say(b'{"Index":12,"Events":[{"Topic":"Job","Key":"k","Namespace":"default","Payload":{}}]}\n')
    sim.say(b'{"Index":12,"Events":[{"Topic":"Node","Key":"j","Namespace":"default","Payload":{}}]}\n')
    live(sim)
    assert sim.reads - reads <= 3


def test_a_few_jobs_are_asked_for_by_name(sim: NomadSim, watch: Watch) -> None:
    for name in ("a", "b"):
        sim.register(name)
        watch(name).sees(Phase.RUNNING)
    wanted = {f"{t}:{j}" for t in ("Job", "Allocation", "Evaluation") for j in ("a", "b")}
    until(
        lambda: any(
            {value for name, value in r.every if name == "topic"} == wanted and r.query["namespace"] == "default"
            for r in sim.http.requests
        )
    )


def test_many_jobs_share_one_stream(sim: NomadSim, watch: Watch) -> None:
    jobs = [f"j{n}" for n in range(40)]
    for job in jobs:
        sim.register(job)
    viewers = [watch(job) for job in jobs]
    for viewer in viewers:
        viewer.sees(Phase.RUNNING)
    live(sim)
    assert sim.streams_opened <= FEW + 1
    assert len(followers()) == 1
    for n, job in enumerate(jobs):
        sim.end(job, n % 2)
    assert all(v.ends().phase is Phase.ENDED for v in viewers)
    until(lambda: not followers())
    until(lambda: sim.streams == 0)


def test_the_stream_ends_with_its_last_watcher_and_comes_again(sim: NomadSim, watch: Watch) -> None:
    for name in ("a", "b"):
        sim.register(name)
        viewer = watch(name)
        live(sim)
        viewer.leave()
        until(lambda: not followers())
    assert sim.streams_opened == 2


def test_a_job_that_has_ended_takes_no_stream(sim: NomadSim, watch: Watch) -> None:
    sim.register("j")
    sim.end("j")
    assert watch("j").ends().phase is Phase.ENDED
    assert watch("none").ends().phase is Phase.GONE
    assert sim.streams_opened == 0


def test_namespaces_share_one_stream_if_the_token_may(sim: NomadSim, watch: Watch) -> None:
    spaces = ("default", "team", "other")
    for space in spaces:
        sim.register("j", space)
    viewers = [watch("j", space) for space in spaces]
    for viewer in viewers:
        viewer.sees(Phase.RUNNING)
    until(lambda: any(r.query["namespace"] == "*" for r in sim.http.requests if r.path == "/v1/event/stream"))
    live(sim)
    assert len(followers()) == 1
    sim.end("j", 0, "team")
    assert viewers[1].ends().phase is Phase.ENDED
    assert not viewers[0].over
    assert not viewers[2].over


def test_namespaces_have_a_stream_each_where_all_are_denied(sim: NomadSim, watch: Watch) -> None:
    sim.stream_trouble = lambda r: Answer(b"Permission denied", 403) if r.query["namespace"] == "*" else None
    spaces = ("default", "team", "other")
    for space in spaces:
        sim.register("j", space)
    viewers = [watch("j", space) for space in spaces]
    live(sim, 3)
    reads = sim.reads
    for viewer, space in zip(viewers, spaces, strict=True):
        sim.end("j", 0, space)
        assert viewer.ends().phase is Phase.ENDED
    assert 15 <= sim.reads - reads <= 24


def test_the_region_goes_along(sim: NomadSim) -> None:
    settings: dict[str, Any] = {"token": "s3cr3t-token", "namespace": "team", "verify": True, "cert": None}
    sim.register("j", "team")
    with_region = NomadCluster(sim.address, region="north", clock=FastClock(), **settings)
    viewer = Viewer(with_region.watch("j", "team"))
    live(sim)
    viewer.leave()
    with_region.close()
    asked = [r for r in sim.http.requests if r.path == "/v1/event/stream"]
    assert [(r.query["region"], r.query["namespace"], r.headers["x-nomad-token"]) for r in asked] == [
        ("north", "team", "s3cr3t-token")
    ]
    until(lambda: not followers())


def test_closing_the_client_ends_the_stream(sim: NomadSim, cluster: NomadCluster, watch: Watch) -> None:
    sim.register("j")
    viewer = watch("j")
    live(sim)
    cluster.close()
    until(lambda: not followers())
    sim.end("j")  # the watcher asks for itself now
    assert viewer.ends().phase is Phase.ENDED


def test_who_joins_a_live_stream_reads_once_more(sim: NomadSim, cluster: NomadCluster, watch: Watch) -> None:
    for n in range(FEW + 1):
        sim.register(f"j{n}")
        watch(f"j{n}").sees(Phase.RUNNING)
    live(sim)
    seat = Seat(("default", "late"))
    cluster._watcher._hub.join(seat)
    assert seat.event.is_set()  # something may have happened between its last read and now
    cluster._watcher._hub.leave(seat)


def test_follow_ups_are_followed_to_the_end(sim: NomadSim, watch: Watch) -> None:
    sim.register("j")
    viewer = watch("j")
    live(sim)
    sim.lose_node("j")
    viewer.until(lambda v: len(v.seen[-1].allocations) == 2)
    sim.drain("j")
    viewer.until(lambda v: len(v.seen[-1].allocations) == 3)
    assert viewer.seen[-1].phase is Phase.RUNNING
    sim.end("j", 0)
    last = viewer.ends()
    assert [a.client_status for a in last.allocations] == ["lost", "complete", "complete"]
    assert judge(last, None, "").kind is OutcomeKind.UNPROVEN  # it has no result file, but nothing else against it
