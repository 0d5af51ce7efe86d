"""The fake cluster's scripts end as their counterparts on a real cluster do, and its faults come when asked for."""

from typing import Any

import pytest

from caravan.cluster.watch import SENTINEL_PATH, judge, parse_sentinel
from caravan.values.errors import ClusterUnreachable
from caravan.values.job import META_SHA
from caravan.values.run import Outcome, OutcomeKind, Phase, Snapshot
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, Script

SHA = "c" * 64


def job(**more: Any) -> Any:
    task = {"Name": "train", "Driver": "raw_exec", "Resources": {"MemoryMB": 64}}
    groups = [{"Name": "train", "Count": 1, "Tasks": [task]}]
    return {"ID": "j", "Type": "batch", "Meta": {META_SHA: SHA}, "TaskGroups": groups, **more}


def run(cluster: FakeCluster, *, stop_at: Phase | None = None) -> tuple[list[Snapshot], Outcome]:
    cluster.register(job())
    seen = []
    for snapshot in cluster.watch("j"):
        seen.append(snapshot)
        if snapshot.phase is stop_at:
            cluster.stop("j")
    data = cluster.read_file(seen[-1].allocations[0].id, SENTINEL_PATH) if seen[-1].allocations else None
    return seen, judge(seen[-1], parse_sentinel(data) if data else None, SHA)


@pytest.mark.parametrize(
    ("script", "kind", "exit_code", "oom", "reason"),
    [
        (Script(), OutcomeKind.SUCCEEDED, 0, False, ""),
        (Script(sentinel=False), OutcomeKind.UNPROVEN, 0, False, "no result file"),
        (Script(files={SENTINEL_PATH: b"{}"}), OutcomeKind.UNPROVEN, 0, False, "no result file"),
        (Script(exit_code=2), OutcomeKind.FAILED, 2, False, "train: exit code 2"),
        (Script(oom=True), OutcomeKind.FAILED, 137, True, "out of memory"),
        (Script(exit_code=137, signal=9), OutcomeKind.FAILED, 137, False, "signal 9"),
        (Script(driver_error="no image"), OutcomeKind.FAILED, None, False, "train: Driver Failure: no image"),
        (Script(interrupted="lost"), OutcomeKind.INTERRUPTED, 143, False, "fake-1 was lost"),
        (Script(interrupted="evict"), OutcomeKind.INTERRUPTED, 143, False, "from outside (evict)"),
        (Script(expires=True), OutcomeKind.EXPIRED, 143, False, "max_run_duration"),
    ],
)
def test_scripts(script: Script, kind: OutcomeKind, exit_code: int | None, oom: bool, reason: str) -> None:
    clock = FakeClock()
    seen, outcome = run(FakeCluster(clock, script=lambda _: script))
    assert (outcome.kind, outcome.exit_code, outcome.oom_killed) == (kind, exit_code, oom)
    assert reason in outcome.reason
    stages = [Phase.STARTING, Phase.ENDED] if script.driver_error else [Phase.STARTING, Phase.RUNNING, Phase.ENDED]
    assert [s.phase for s in seen] == stages
    assert clock.monotonic() == 5.0 * (len(stages) - 1)


def test_what_hangs_or_waits_ends_when_it_is_stopped() -> None:
    hanging = FakeCluster(FakeClock(), script=lambda _: Script(hangs=True))
    assert run(hanging, stop_at=Phase.RUNNING)[1].kind is OutcomeKind.INTERRUPTED
    queued = FakeCluster(FakeClock(), script=lambda _: Script(queued=True))
    seen, outcome = run(queued, stop_at=Phase.QUEUED)
    assert (seen[0].reason, outcome.kind) == ("train: memory (1 node)", OutcomeKind.NOT_PLACED)


def test_faults_before_and_after_the_effect() -> None:
    cluster = FakeCluster(FakeClock())
    cluster.fail("register", ClusterUnreachable("away"))
    cluster.fail("register", ClusterUnreachable("away"), after=True)
    for registered in (0, 1):
        with pytest.raises(ClusterUnreachable):
            cluster.register(job())
        assert len(cluster.registrations) == registered
    assert cluster.find("j") is not None
    assert cluster.calls == ["register", "register", "find"]
