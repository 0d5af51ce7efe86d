"""Watching on a bad day: streams that are cut, silent or garbage, servers that come back, jobs that others touch."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from caravan.cluster import feed
from caravan.cluster.gate import READS
from caravan.cluster.nomad import NomadCluster
from caravan.cluster.watch import judge
from caravan.values.errors import ClusterDenied, ClusterUnreachable
from caravan.values.run import OutcomeKind, Phase
from tests.fakes.clock import FastClock
from tests.fakes.nomad_http import Answer, Request
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


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def sim() -> Iterator[NomadSim]:
    sim = NomadSim()
    sim.register("j")
    yield sim
    sim.close()


@pytest.fixture
def cluster(sim: NomadSim, clock: FastClock) -> Iterator[NomadCluster]:
    settings: dict[str, Any] = {"token": "t", "namespace": "default", "region": None, "verify": True, "cert": None}
    cluster = NomadCluster(sim.address, clock=clock, timeout=5.0, outage_limit=600.0, **settings)
    yield cluster
    cluster.close()


@pytest.fixture
def viewer(sim: NomadSim, cluster: NomadCluster) -> Iterator[Viewer]:
    """Somebody who watches `j` by a stream that is open."""
    viewer = Viewer(cluster.watch("j"))
    viewer.sees(Phase.RUNNING)
    until(lambda: sim.streams == 1)
    yield viewer
    viewer.leave()


def opened(sim: NomadSim, more: int = 1) -> None:
    """Wait for so many more streams."""
    wanted = sim.streams_opened + more
    until(lambda: sim.streams_opened >= wanted)


BROKEN: dict[str, bytes | None] = {
    "ended": None,
    "garbage": b"\x00\xff garbage\n",
    "a page": b"<html>502 Bad Gateway</html>\n",
    "last words": b"subscription closed by server, client should resubscribe\n",
    "an error": b'{"Error": "it broke"}\n',
    "a list": b"[1, 2]\n",
    "no event": b'{"Index": 7, "Events": [3]}\n',
    "deep": b"[" * 200_000 + b"\n",
}


@pytest.mark.parametrize("words", BROKEN.values(), ids=BROKEN)
def test_a_stream_that_ends_or_is_none_is_opened_anew(words: bytes | None, sim: NomadSim, viewer: Viewer) -> None:
    with sim._moved:  # while the stream is away the task ends, and no event tells of it
        sim.say(words)
        sim.jobs["default", "j"] |= {"Status": "dead"}
        sim._end_alloc(sim.allocs["default", "j"][0], "failed", 1)
    assert viewer.ends().reason == "train: exit code 1"


def test_a_stream_cut_in_the_middle_of_a_line(sim: NomadSim, viewer: Viewer) -> None:
    sim.say(b'{"Index": 99, "Events": [{"Topic": "Job", "Key": "j", "Namespace": "def')
    sim.end_streams()
    opened(sim)
    asked = [r for r in sim.http.requests if r.path == "/v1/event/stream"]
    assert "index" not in asked[-1].query  # what was cut off does not count
    sim.end("j", 2)
    assert viewer.ends().reason == "train: exit code 2"


def test_a_stream_goes_on_where_it_was(sim: NomadSim, viewer: Viewer) -> None:
    sim.change("j")
    viewer.until(lambda v: v.seen[-1].version == 1)
    reached = sim.index
    sim.end_streams()
    opened(sim)
    assert [r for r in sim.http.requests if r.path == "/v1/event/stream"][-1].query["index"] == str(reached)
    sim.end("j", 0)
    viewer.ends()


def test_an_index_that_goes_back(sim: NomadSim, viewer: Viewer) -> None:
    sim.change("j")
    sim.restart()
    opened(sim)
    until(lambda: sim.streams == 1)
    sim.end("j", 4)
    assert viewer.ends().reason == "train: exit code 4"


def test_a_half_open_connection_is_noticed(sim: NomadSim, cluster: NomadCluster, monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "SILENCE", 0.6)  # real seconds: a socket knows no other
    sim.mute = True
    viewer = Viewer(cluster.watch("j"))
    until(lambda: sim.streams_opened >= 3)
    sim.mute = False
    sim.end("j", 0)
    assert viewer.ends().phase is Phase.ENDED


def test_no_herd_after_the_stream_came_back(sim: NomadSim, cluster: NomadCluster) -> None:
    jobs = [f"k{n}" for n in range(30)]
    for job in jobs:
        sim.register(job)
    viewers = [Viewer(cluster.watch(job)) for job in jobs]
    for viewer in viewers:
        viewer.sees(Phase.RUNNING)
    sim.most_at_once = 0
    sim.end_streams()
    opened(sim)
    for job in jobs:
        sim.end(job)
    for viewer in viewers:
        viewer.ends()
    assert sim.most_at_once <= READS


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(b"No cluster leader", 500),
        Answer(b"rpc error: it broke", 500),
        Answer(b"it broke", 500),
        Answer(b"{garbage"),
        Answer(b"<html>", headers={"Content-Type": "text/html"}),
        Answer([{"ID": 3}]),
        Answer([], cut=50),
    ],
)
def test_what_passes_is_ridden_out(trouble: Answer, sim: NomadSim, viewer: Viewer) -> None:
    sim.trouble = lambda _: trouble
    reads = sim.reads
    sim.end("j", 5)
    viewer.count(3)
    assert viewer.seen[-1].phase is Phase.RUNNING
    assert sim.reads - reads <= 30
    sim.trouble = lambda _: None
    assert viewer.ends().reason == "train: exit code 5"


def test_silence_of_the_cluster_is_ridden_out(sim: NomadSim, clock: FastClock) -> None:
    settings: dict[str, Any] = {"token": "t", "namespace": "default", "region": None, "verify": True, "cert": None}
    cluster = NomadCluster(sim.address, clock=clock, timeout=0.3, outage_limit=600.0, **settings)
    viewer = Viewer(cluster.watch("j"))
    viewer.sees(Phase.RUNNING)
    until(lambda: sim.streams == 1)
    sim.trouble = lambda _: Answer(silent=True)
    sim.end("j", 0)
    viewer.count(2)
    sim.trouble = lambda _: None
    assert viewer.ends().phase is Phase.ENDED
    cluster.close()


def test_a_denial_that_passes_is_ridden_out(sim: NomadSim, viewer: Viewer) -> None:
    denied = {"times": 2}

    def trouble(_: Request) -> Answer | None:
        if denied["times"] == 0:
            return None
        denied["times"] -= 1
        return Answer(b"Permission denied", 403)

    sim.trouble = trouble
    sim.end("j", 0)
    assert viewer.ends().phase is Phase.ENDED


def test_a_denial_for_good_ends_the_watch_and_not_the_job(sim: NomadSim, viewer: Viewer) -> None:
    sim.trouble = sim.stream_trouble = lambda _: Answer(b"Permission denied", 403)
    sim.end_streams()
    opened_before = sim.reads
    sim.change("j")
    error = viewer.fails()
    assert isinstance(error, ClusterDenied)
    assert "NOMAD_TOKEN" in error.hint
    assert "The job goes on" in error.hint
    assert sim.reads - opened_before <= 5
    assert not any(r.method != "GET" for r in sim.http.requests)


def test_a_server_that_never_comes_back(sim: NomadSim, clock: FastClock) -> None:
    settings: dict[str, Any] = {"token": "t", "namespace": "default", "region": None, "verify": True, "cert": None}
    cluster = NomadCluster(sim.address, clock=clock, outage_limit=60.0, **settings)
    viewer = Viewer(cluster.watch("j"))
    viewer.sees(Phase.RUNNING)
    until(lambda: sim.streams == 1)
    sim.close()
    error = viewer.fails()
    assert isinstance(error, ClusterUnreachable)
    assert "away for 60 s" in error.message
    assert len(viewer.seen) >= 10  # heartbeats went on
    cluster.close()


def test_the_wall_clock_jumps(sim: NomadSim, viewer: Viewer, clock: FastClock) -> None:
    for hours in (5, -48):
        clock.jump(timedelta(hours=hours))
        reads = sim.reads
        viewer.count(4)
        assert sim.reads - reads <= 6
    sim.end("j", 0)
    assert viewer.ends().phase is Phase.ENDED


def test_a_job_that_somebody_purges(sim: NomadSim, viewer: Viewer) -> None:
    sim.purge("j")
    last = viewer.ends()
    assert last.phase is Phase.GONE
    assert [a.client_status for a in last.allocations] == ["running"]  # as it was last seen
    assert judge(last, None, "").kind is OutcomeKind.GONE


@pytest.mark.parametrize(
    "blip", [b"", b'{"message": "no Route matched with those values"}', b'{"message": "Not Found"}', b"job not found"]
)
def test_one_404_is_no_job_that_is_gone(blip: bytes, sim: NomadSim, viewer: Viewer) -> None:
    left = [1]  # of one round of reads it is the job's document that decides

    def trouble(request: Request) -> Answer | None:
        if request.path != "/v1/job/j" or not left:
            return None
        left.pop()
        return Answer(blip, 404)

    sim.trouble = trouble
    sim.change("j")
    viewer.until(lambda v: v.seen[-1].version == 1)
    assert not left
    sim.end("j", 0)
    assert viewer.ends().phase is Phase.ENDED


def test_a_job_that_somebody_changes(sim: NomadSim, viewer: Viewer) -> None:
    before = viewer.seen[-1]
    sim.change("j")
    viewer.until(lambda v: v.seen[-1].version != before.version)
    assert viewer.seen[-1].modify_index > before.modify_index
    assert viewer.seen[-1].phase is Phase.RUNNING


def test_what_is_collected_as_garbage_stays_in_the_snapshots(sim: NomadSim, viewer: Viewer) -> None:
    sim.drain("j")
    viewer.until(lambda v: len(v.seen[-1].allocations) == 2)
    sim.collect("j")
    sim.change("j")
    viewer.until(lambda v: v.seen[-1].version == 1)
    assert len(viewer.seen[-1].allocations) == 2
    with sim._moved:  # it fails, and is collected before anybody reads it
        sim.end("j", 7)
        sim.allocs["default", "j"] = []
        sim.evals["default", "j"] = []
    last = viewer.ends()
    assert last.phase is Phase.ENDED
    assert {a.client_status for a in last.allocations} == {"complete", "running"}
    assert judge(last, None, "").kind is OutcomeKind.UNPROVEN


def test_what_has_failed_and_is_collected_is_still_judged(sim: NomadSim, viewer: Viewer) -> None:
    sim.end("j", 7, dead=False)
    viewer.until(lambda v: v.seen[-1].allocations[0].client_status == "failed")
    sim.collect("j")
    with sim._moved:
        sim.jobs["default", "j"] |= {"Status": "dead"}
    sim.change("j")
    last = viewer.ends()
    outcome = judge(last, None, "")
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.FAILED, 7)


def test_a_job_registered_anew_after_a_purge_has_none_of_the_old_allocations(sim: NomadSim, viewer: Viewer) -> None:
    old = viewer.seen[-1].allocations[0].id
    with sim._moved:
        sim.purge("j")
        sim.register("j")
    born = sim.jobs["default", "j"]["JobModifyIndex"]
    viewer.until(lambda v: v.seen[-1].modify_index == born and bool(v.seen[-1].allocations))
    assert not any(a.id == old for s in viewer.seen for a in s.allocations if s.modify_index == born)
