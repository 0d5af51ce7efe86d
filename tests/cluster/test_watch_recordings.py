"""What a real Nomad answered, read as snapshots and judged."""

from datetime import UTC, datetime
from typing import Any

import pytest

from caravan.cluster.snapshots import to_snapshot
from caravan.cluster.watch import judge
from caravan.values.run import Outcome, OutcomeKind, Phase, Sentinel, Snapshot
from tests.fakes.recordings import FOLDER, last_state, states

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "f" * 64


def read(state: tuple[Any, list[Any], list[Any]]) -> Snapshot:
    job, allocs, evals = state
    return to_snapshot(job, allocs, evals, job_id=job["ID"], at=AT)


def judged(snapshot: Snapshot, exit_code: int = 0) -> Outcome:
    return judge(snapshot, Sentinel(job_id=snapshot.job_id, spec_sha256=SHA, exit_code=exit_code), SHA)


GOOD = [
    "ok-docker",
    "ok-gpu-raw-exec",
    "ok-host-volume",
    "ok-memory-max-and-cores",
    "ok-prestart",
    "ok-raw-exec",
    "ok-restart-then-success",
    "ok-shm-size",
    "ok-spread-affinity-constraint",
    "ok-template-env",
    "ok-variable-secret",
    "rendezvous-by-service",
    "same-job-registered-twice",
    "gpu-busy-then-free:gpu-waiter",
    "job-changed-and-run-again",
]

# recording (and job, where it has several), kind, exit code, oom, a part of the reason
BAD = [
    ("artifact-fails", OutcomeKind.FAILED, None, False, "Failed Artifact Download: failed to download artifact"),
    ("command-not-found-docker", OutcomeKind.FAILED, None, False, '"torchrun": executable file not found in $PATH'),
    ("command-not-found-raw-exec", OutcomeKind.FAILED, None, False, 'binary "/no/such/python" could not be found'),
    ("docker-gpu-no-nvidia-runtime", OutcomeKind.FAILED, None, False, 'runtime "nvidia" was not found'),
    ("exit-1", OutcomeKind.FAILED, 1, False, "train: exit code 1"),
    ("exit-1-restarts", OutcomeKind.FAILED, 1, False, "train: exit code 1"),
    ("exit-2-usage", OutcomeKind.FAILED, 2, False, "train: exit code 2"),
    ("image-missing", OutcomeKind.FAILED, None, False, "Failed to pull `127.0.0.1:1/ml/train:1`"),
    ("mount-missing", OutcomeKind.FAILED, None, False, "bind source path does not exist: /no/such/dir"),
    ("privileged-denied", OutcomeKind.FAILED, None, False, "Docker privileged mode is disabled"),
    ("script-missing", OutcomeKind.FAILED, 2, False, "train: exit code 2"),
    ("unknown-driver-option", OutcomeKind.FAILED, None, False, "Failed Validation: 2 errors occurred"),
    ("oom-killed", OutcomeKind.FAILED, 137, True, "out of memory, killed at its memory limit"),
    ("max-run-duration", OutcomeKind.EXPIRED, None, False, "time limit (max_run_duration)"),
    ("stop-running", OutcomeKind.INTERRUPTED, 137, False, "alloc not needed due to job update"),
    ("sigterm-checkpoint", OutcomeKind.INTERRUPTED, 0, False, "alloc not needed due to job update"),
]

# recording, reason while it waits
UNPLACED = [
    ("constraint-unmet", "train: ${attr.driver.docker.version} semver >= 99.0.0 (1 node)"),
    ("datacenter-wrong", "train: no node is in the datacenters and the node pool asked for"),
    ("driver-missing", "train: missing drivers (1 node)"),
    ("gpu-too-many", "train: missing devices (1 node)"),
    ("gpu-too-much-memory", "train: missing devices (1 node)"),
    ("host-volume-missing", "train: missing compatible host volumes (1 node)"),
    ("memory-exhausted", "train: memory (1 node)"),
]


def final(name: str) -> Snapshot:
    recording, _, job_id = name.partition(":")
    return read(last_state(recording, job_id or None))


@pytest.mark.parametrize("name", GOOD)
def test_success_needs_events_and_sentinel(name: str) -> None:
    snapshot = final(name)
    assert snapshot.phase is Phase.ENDED
    assert snapshot.reason == ""
    outcome = judged(snapshot)
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    assert outcome.exit_code == 0
    assert outcome.alloc_id in {a.id for a in snapshot.allocations}
    assert outcome.started_at is not None
    assert outcome.finished_at is not None
    assert outcome.started_at <= outcome.finished_at

    for sentinel in (
        None,
        Sentinel(job_id="other", spec_sha256=SHA, exit_code=0),
        Sentinel(job_id=snapshot.job_id, spec_sha256="0" * 64, exit_code=0),
        Sentinel(job_id=snapshot.job_id, spec_sha256=SHA, exit_code=3),
    ):
        doubted = judge(snapshot, sentinel, SHA)
        assert doubted.kind is OutcomeKind.UNPROVEN
        assert doubted.reason


@pytest.mark.parametrize(("name", "kind", "exit_code", "oom", "reason"), BAD)
def test_bad_end_whatever_the_sentinel_says(
    name: str, kind: OutcomeKind, exit_code: int | None, oom: bool, reason: str
) -> None:
    snapshot = final(name)
    assert snapshot.phase is Phase.ENDED
    assert reason in snapshot.reason
    assert "\n" not in snapshot.reason
    for outcome in (judged(snapshot), judge(snapshot, None, SHA)):
        assert (outcome.kind, outcome.exit_code, outcome.oom_killed) == (kind, exit_code, oom)
        assert reason in outcome.reason
        assert outcome.node_name == "gpu-node-1"
        assert outcome.task == "train"


@pytest.mark.parametrize(("name", "reason"), UNPLACED)
def test_unplaced_says_why_and_keeps_it_when_stopped(name: str, reason: str) -> None:
    job, allocs, evals = last_state(name)
    waiting = read((job, allocs, evals))
    assert waiting.phase is Phase.QUEUED
    assert waiting.reason == reason
    assert waiting.placement_failures[0].group == "train"
    stopped = read(
        (
            {**job, "Stop": True, "Status": "dead"},
            allocs,
            [{**e, "Status": "canceled" if e["Status"] == "blocked" else e["Status"]} for e in evals],
        )
    )
    assert stopped.phase is Phase.ENDED
    for snapshot in (waiting, stopped):
        outcome = judged(snapshot)
        assert outcome.kind is OutcomeKind.NOT_PLACED
        assert reason in outcome.reason


def test_waiting_for_a_variable_says_so() -> None:
    snapshot = final("variable-missing")
    assert snapshot.phase is Phase.STARTING
    assert snapshot.reason == "train: Missing: nomad.var.block(nomad/jobs/variable-missing@default.global)"
    assert judged(snapshot).kind is OutcomeKind.UNPROVEN


def test_partly_placed_waits_and_says_what_is_missing() -> None:
    job, allocs, evals = last_state("two-nodes-partly-placed")
    snapshot = read((job, allocs, evals))
    assert snapshot.phase is Phase.STARTING
    there = "train[0] on gpu-node-1, train[1] on gpu-node-1"
    assert snapshot.reason == f"partly placed (2 of 3: {there}), train: devices: no devices match request (1 node)"

    # The two that were placed complete, then the job is stopped: that is no success.
    done = [
        a
        | {"ClientStatus": "complete"}
        | {"TaskStates": {"train": a["TaskStates"]["train"] | {"State": "dead", "Events": [_terminated(0)]}}}
        for a in allocs
    ]
    ended = read(({**job, "Stop": True, "Status": "dead"}, done, [{**e, "Status": "canceled"} for e in evals]))
    assert ended.phase is Phase.ENDED
    assert judged(ended).kind is OutcomeKind.NOT_PLACED


def _terminated(code: int) -> Any:
    return {
        "Type": "Terminated",
        "DisplayMessage": f"Exit Code: {code}",
        "Time": 1,
        "Details": {"exit_code": str(code), "signal": "0", "oom_killed": "false"},
    }


def test_placed_after_waiting_forgets_why_it_waited() -> None:
    phases = [read(s) for s in states("gpu-busy-then-free", "gpu-waiter")]
    waited = [s for s in phases if s.phase is Phase.QUEUED and s.placement_failures]
    assert waited[-1].reason == "train: devices: no devices match request (1 node)"
    assert phases[-1].placement_failures == ()


def test_restarts_are_told_while_it_runs() -> None:
    reasons = [read(s).reason for s in states("exit-1-restarts")]
    assert any("restarted 1 time, last after exit code 1" in r for r in reasons)


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.json") if p.stem != "inventory"))
def test_every_recorded_state_is_read_and_judged(name: str) -> None:
    order = [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.ENDED]
    seen = []
    for state in states(name):
        snapshot = read(state)
        assert snapshot.phase in order
        outcome = judged(snapshot)
        assert outcome.succeeded <= (snapshot.phase is Phase.ENDED)
        seen.append(order.index(snapshot.phase))
    if name not in {"job-changed-and-run-again", "same-job-registered-twice"}:  # these run twice
        assert seen == sorted(seen)
