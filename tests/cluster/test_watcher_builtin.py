"""Watching the built-in cluster itself: real tasks, its process killed and started again, nothing missed."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.hub import ClusterDown
from caravan.cluster.local.control import revive
from caravan.cluster.nomad import NomadCluster
from caravan.cluster.watch import judge
from caravan.values.errors import ClusterUnreachable
from caravan.values.run import OutcomeKind, Phase
from machine import SystemClock
from tests.cluster.local.bench import ENVIRONMENT, Bench
from tests.fakes.clock import FastClock
from tests.fakes.viewer import Viewer


def until(good: Callable[[], bool]) -> None:
    for _ in range(6000):
        if good():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "home")
    yield bench
    bench.down()


def client(bench: Bench, **more: Any) -> NomadCluster:
    return NomadCluster(
        bench.cluster.address,
        token=bench.cluster.token(),
        namespace="default",
        region=None,
        verify=True,
        cert=None,
        clock=FastClock(5.0) if more else SystemClock(),
        **more,
    )


def running(viewer: Viewer) -> None:
    viewer.until(lambda v: bool(v.seen) and v.seen[-1].phase is Phase.RUNNING)


def test_the_cluster_is_killed_and_started_again_while_the_task_goes_on(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = bench.job(f"until [ -e {gate} ]; do sleep 0.05; done; exit 3")
    bench.register(job)
    cluster = client(bench, outage_limit=600.0)
    viewer = Viewer(cluster.watch(job["ID"]))
    running(viewer)
    before = viewer.seen[-1].allocations[0].id
    bench.crash()
    viewer.count(2)  # heartbeats go on
    bench.up()
    gate.touch()
    last = viewer.ends()
    outcome = judge(last, None, "")
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.FAILED, 3)
    assert [a.id for a in last.allocations] == [before]  # the same one: nothing was placed twice
    cluster.close()


def test_a_task_that_ends_while_the_cluster_is_away_is_seen(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = bench.job(f"until [ -e {gate} ]; do sleep 0.05; done; touch {gate}.done; exit 4")
    bench.register(job)
    cluster = client(bench, outage_limit=600.0)
    viewer = Viewer(cluster.watch(job["ID"]))
    running(viewer)
    bench.crash()
    gate.touch()
    until(lambda: Path(f"{gate}.done").exists())
    bench.up()
    assert judge(viewer.ends(), None, "").exit_code == 4
    cluster.close()


def test_a_cluster_that_is_not_started_again_is_given_up(bench: Bench) -> None:
    job = bench.job("sleep 60")
    bench.register(job)
    cluster = client(bench, outage_limit=10.0)
    viewer = Viewer(cluster.watch(job["ID"]))
    running(viewer)
    bench.crash()
    error = viewer.fails()
    assert isinstance(error, ClusterUnreachable)
    assert "resume" in error.hint
    cluster.close()
    until(lambda: not [t for t in threading.enumerate() if t.name == "caravan-events"])
    bench.up()
    bench.ask("DELETE", f"/v1/job/{job['ID']}")


def test_a_cluster_that_is_ours_is_started_again_as_it_was(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = bench.job(f"until [ -e {gate} ]; do sleep 0.05; done; exit 5")
    bench.register(job)
    tries: list[bool] = []

    def again() -> bool:
        tries.append(revive(bench.home, environment=ENVIRONMENT))
        return tries[-1]

    cluster = client(bench, outage_limit=600.0, reviver=again)
    viewer = Viewer(cluster.watch(job["ID"]))
    running(viewer)
    nodes = cluster.facts().nodes
    bench.crash()
    until(lambda: bool(tries))
    gate.touch()
    assert judge(viewer.ends(), None, "").exit_code == 5
    assert [n.name for n in cluster.facts().nodes] == [n.name for n in nodes]
    assert tries == [True]
    cluster.close()


def test_a_cluster_that_was_ended_on_purpose_is_not_started_again(bench: Bench) -> None:
    job = bench.job("sleep 60")
    bench.register(job)
    cluster = client(bench, outage_limit=600.0, reviver=lambda: revive(bench.home, environment=ENVIRONMENT))
    viewer = Viewer(cluster.watch(job["ID"]))
    running(viewer)
    bench.crash()
    (bench.home / "address.json").unlink()  # as its end on purpose leaves it
    error = viewer.fails()
    assert isinstance(error, ClusterDown)
    assert "cluster up" in error.hint
    cluster.close()
    bench.up()
    bench.ask("DELETE", f"/v1/job/{job['ID']}")


def test_several_jobs_are_watched_by_one_stream(bench: Bench) -> None:
    cluster = client(bench)
    jobs = [bench.job(f"sleep 0.{n}; exit {n}") for n in range(1, 4)]
    for job in jobs:
        bench.register(job)
    viewers = [Viewer(cluster.watch(job["ID"])) for job in jobs]
    assert [judge(v.ends(), None, "").exit_code for v in viewers] == [1, 2, 3]
    cluster.close()
