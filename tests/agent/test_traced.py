"""Spans around the ports: what they tell, that nothing is lost or changed by them, and that a watch stays small."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.rules import RuleReasoner
from caravan.agent.traced import TracedCluster, TracedMemory, TracedReasoner
from caravan.planning.catalogue import Prices
from caravan.runs.traces import read_trace
from caravan.values.dialogue import Ask, Reply
from caravan.values.errors import ClusterUnreachable, JobRefused, ServiceError
from caravan.values.failure import (
    ChangePlan,
    Diagnosis,
    Evidence,
    FailureClass,
    Lesson,
    RetryElsewhere,
    Stage,
    Wait,
)
from caravan.values.plan import Author, PlanChange
from caravan.values.run import Allocation, Phase, RunStatus, Snapshot
from caravan.values.trace import SpanRecord
from observability import LocalTracer
from tests.agent.test_loop import Ladder, World
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, Script
from tests.fakes.memory import FakeMemory
from tests.fakes.tracer import MemoryTracer

SECRET = "correct-horse-battery"
AT = datetime(2026, 11, 21, tzinfo=UTC)


def snapshot(phase: Phase, reason: str = "", node: str = "") -> Snapshot:
    allocation = Allocation(id="a" * 36, name="x", group="train", node_name=node, client_status="running")
    return Snapshot(job_id="j", at=AT, phase=phase, reason=reason, allocations=(allocation,) if node else ())


class Scripted:
    """As much of a cluster as is asked here: a watch over given snapshots (or an exception), and logs."""

    def __init__(self, *steps: Snapshot | BaseException) -> None:
        self.steps = steps
        self.began = self.closed = 0

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        self.began += 1
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            self.closed += 1

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        if stream == "lost":
            raise ClusterUnreachable(f"The node of {SECRET} does not answer.")
        return b"12345"

    def stop(self, job_id: str, namespace: str = "default", *, purge: bool = False) -> None: ...


class Traced:
    """A traced cluster and what its tracer wrote."""

    def __init__(self, *steps: Snapshot | BaseException) -> None:
        self.tracer = MemoryTracer(FakeClock(), [SECRET])
        self.inner = Scripted(*steps)
        self.cluster = TracedCluster(self.inner, self.tracer, FakeClock())  # type: ignore[arg-type]

    def one(self, name: str) -> SpanRecord:
        (found,) = (s for s in self.tracer.spans() if s.name == name)
        return found

    def phases(self) -> list[str]:
        return [s.attributes["phase"] for s in self.tracer.spans() if s.name == "phase"]


# A watch


def test_a_watch_is_one_span_with_its_phases() -> None:
    queued, running = snapshot(Phase.QUEUED, "no room"), snapshot(Phase.RUNNING, node="gpu-1")
    traced = Traced(queued, queued, running, running, running, snapshot(Phase.ENDED, "exit code 0", "gpu-1"))
    assert [s.phase for s in traced.cluster.watch("j")] == [s.phase for s in traced.inner.steps]  # type: ignore[union-attr]
    watch = traced.one("watch")
    assert (watch.kind, watch.status) == ("cluster", "ok")
    told = {"job": "j", "snapshots": 6, "phase": "ended", "reason": "exit code 0", "phase_changes": 3, "log_bytes": 0}
    assert watch.attributes == {**told, "calls": {}}
    assert traced.phases() == ["queued", "running", "ended"]
    phases = [s for s in traced.tracer.spans() if s.name == "phase"]
    assert {p.parent for p in phases} == {watch.id}
    assert [(p.attributes["reason"], p.attributes["node"]) for p in phases] == [
        ("no room", ""),
        ("", "gpu-1"),
        ("exit code 0", "gpu-1"),
    ]


def test_a_watch_is_lazy_and_is_closed() -> None:
    traced = Traced(snapshot(Phase.QUEUED), snapshot(Phase.RUNNING))
    watch = traced.cluster.watch("j")
    assert (traced.inner.began, traced.tracer.spans()) == (0, ())
    next(watch)
    assert traced.one("watch").status == "open"
    watch.close()  # type: ignore[attr-defined]
    assert (traced.inner.began, traced.inner.closed) == (1, 1)
    assert traced.one("watch").status == "interrupted"
    assert traced.one("watch").attributes["snapshots"] == 1


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_ctrl_c_passes_through_a_watch(where: str) -> None:
    steps = (snapshot(Phase.QUEUED), KeyboardInterrupt()) if where == "inside" else (snapshot(Phase.QUEUED),) * 2
    traced = Traced(*steps)

    def work() -> None:
        for _ in traced.cluster.watch("j"):
            if where == "outside":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert traced.inner.closed == 1
    assert traced.one("watch").status == "interrupted"
    traced.tracer.event("after")
    assert traced.one("after").parent is None


def test_an_error_of_the_watch_passes_through_and_is_noted() -> None:
    error = ClusterUnreachable(f"{SECRET} does not answer.")
    traced = Traced(snapshot(Phase.RUNNING), error)
    with pytest.raises(ClusterUnreachable) as caught:
        list(traced.cluster.watch("j"))
    assert caught.value is error
    assert (traced.one("watch").status, traced.one("watch").error) == (
        "error",
        "ClusterUnreachable: [masked] does not answer.",
    )


def test_looks_within_a_watch_are_counted_and_deeds_are_spans() -> None:
    traced = Traced(snapshot(Phase.RUNNING), snapshot(Phase.RUNNING))
    for _ in traced.cluster.watch("j"):
        assert traced.cluster.logs("a", "train", "stdout") == b"12345"
        with pytest.raises(ClusterUnreachable):
            traced.cluster.logs("a", "train", "lost")
        traced.cluster.stop("j")
    watch = traced.one("watch")
    assert watch.attributes["calls"] == {"logs": 4}
    assert watch.attributes["failed_calls"] == {"logs": 2}
    assert watch.attributes["last_error"] == "logs: The node of [masked] does not answer."
    assert watch.attributes["log_bytes"] == 10
    assert {s.parent for s in traced.tracer.spans() if s.name == "stop"} == {watch.id}
    assert not [s for s in traced.tracer.spans() if s.name == "logs"]
    traced.cluster.logs("abcdefgh-1", "train", "stdout", offset=7)
    assert traced.one("logs").attributes == {
        "alloc": "abcdefgh",
        "task": "train",
        "stream": "stdout",
        "offset": 7,
        "bytes": 5,
    }


def test_two_watches_at_once_count_for_themselves() -> None:
    traced = Traced(snapshot(Phase.RUNNING), snapshot(Phase.RUNNING))
    first, second = traced.cluster.watch("one"), traced.cluster.watch("two")
    next(first)
    next(second)
    traced.cluster.logs("a", "t", "stdout")
    first.close()  # type: ignore[attr-defined]
    traced.cluster.logs("a", "t", "stdout")
    second.close()  # type: ignore[attr-defined]
    traced.cluster.logs("a", "t", "stdout")
    calls = {s.attributes["job"]: s.attributes["calls"] for s in traced.tracer.spans() if s.name == "watch"}
    assert calls == {"one": {}, "two": {"logs": 2}}
    assert traced.one("logs").parent is None


@pytest.mark.parametrize("restarts", [0, 2000])
def test_days_of_watching_write_little(tmp_path: Path, restarts: int) -> None:
    """10,000 heartbeats with a look at the log each, also of a job that restarts all the time."""
    calm = [snapshot(Phase.RUNNING, node="gpu-1")] * (10_000 - 2 * restarts)
    restless = [snapshot(Phase.STARTING, "x" * 10_000, "gpu-1"), snapshot(Phase.RUNNING, node="gpu-1")] * restarts
    path, clock = tmp_path / "traces" / "r.jsonl", FakeClock()
    tracer = LocalTracer(path, run_id="r", clock=clock)
    steps = (*restless, *calm, snapshot(Phase.ENDED))
    cluster = TracedCluster(Scripted(*steps), tracer, clock)  # type: ignore[arg-type]
    for _ in cluster.watch("j"):
        cluster.logs("a", "train", "stdout")
        clock.sleep(5)
    trace = read_trace(path)
    (watch,) = (s for s in trace.spans if s.name == "watch")
    assert watch.attributes["snapshots"] == 10_001
    assert watch.attributes["calls"] == {"logs": 10_001}
    assert watch.seconds == 50_005
    phases = [s.attributes["phase"] for s in trace.spans if s.name == "phase"]
    assert phases[-1] == "ended"
    assert len(phases) == (101 if restarts else 2)
    signs = [s for s in trace.spans if s.name == "watching"]
    assert len(signs) == 50_000 // 600
    assert signs[0].attributes["snapshots"] == 121
    # A phase's reason is cut at 2,000 characters, and so is that of a sign of life.
    assert path.stat().st_size < (200_000 if restarts else 1000) + len(signs) * (2400 if restarts else 400)


# What the calls tell


def test_what_calls_of_a_cluster_tell() -> None:
    tracer = MemoryTracer(FakeClock())
    cluster = TracedCluster(FakeCluster(FakeClock(), script=lambda job: Script()), tracer, FakeClock())
    cluster.facts()
    with pytest.raises(JobRefused):
        cluster.parse("")
    assert cluster.find("none") is None
    cluster.stop("none")
    assert cluster.read_file("none", "alloc/data/x") is None
    told = {s.name: s for s in tracer.spans()}
    assert {s.kind for s in told.values()} == {"cluster"}
    assert told["facts"].attributes == {"nodes": 1, "usable": 1, "cluster": "builtin 2.0.6"}
    assert (told["parse"].status, told["parse"].error) == ("error", "JobRefused: Job spec is empty")
    assert told["find"].attributes == {"job": "none", "found": "no"}
    assert told["stop"].attributes == {"job": "none", "purge": False}
    assert told["read_file"].attributes["found"] == "no"


OOM = Diagnosis(
    failure=FailureClass.HOST_MEMORY_OOM, confidence=0.9, cause=f"Killed at its limit, {SECRET}.", fingerprint="oom:1"
)


def a_lesson() -> Lesson:
    return Lesson(
        failure=FailureClass.HOST_MEMORY_OOM,
        fingerprint="oom:1",
        text="More memory helped.",
        context={"framework": "numpy"},
        changes=(PlanChange(path="resources.memory_mb", value=4096, by=Author.REPAIR),),
        worked=True,
        source="run-1",
    )


def test_what_memory_tells() -> None:
    tracer = MemoryTracer(FakeClock(), [SECRET])
    inner = FakeMemory(FakeClock())
    memory = TracedMemory(inner, tracer)
    case = memory.remember(a_lesson())
    (found,) = memory.recall(text="memory", diagnosis=OOM, context={"framework": "numpy"})
    memory.all()
    memory.forget(case)
    remember, recall, listed, forget = tracer.spans()
    assert {s.kind for s in tracer.spans()} == {"memory"}
    assert remember.attributes == {
        "failure_class": "host_memory_oom",
        "worked": True,
        "changes": ["resources.memory_mb"],
        "case": case,
    }
    assert recall.attributes["failure_class"] == "host_memory_oom"
    (told,) = recall.attributes["cases"]
    assert (told["case"], told["score"], told["why"]) == (case, found.score, found.why)
    assert found.why
    assert (listed.attributes["found"], forget.attributes["found"]) == (1, 1)
    inner.down = True
    with pytest.raises(ServiceError):
        memory.recall(text="memory", diagnosis=None, context={})
    assert tracer.spans()[-1].status == "error"
    memory.close()
    assert inner.closed


def test_what_a_reasoner_tells(tmp_path: Path) -> None:
    world = World(tmp_path)
    tracer = MemoryTracer(FakeClock(), [SECRET])
    change = PlanChange(path="resources.memory_mb", value=4096, by=Author.REPAIR)
    ladder = (ChangePlan(changes=(change,), why=f"more room for {SECRET}"), Wait(seconds=5))
    reasoner = TracedReasoner(Ladder(Prices(), ladder), tracer)
    record = world.start()
    world.drive(record, reasoner=reasoner)
    plan = world.state(record).need_plan()
    profile = world.state(record).need_profile()
    evidence = Evidence(stage=Stage.VERIFY, exit_code=137)
    found = reasoner.diagnose(evidence, plan, ())
    assert reasoner.repairs(found, plan, profile, (), world.cluster.facts(), None) == ladder  # type: ignore[arg-type]
    told = {s.name: s for s in tracer.spans()}
    assert reasoner.name == RuleReasoner(Prices()).name == "rules"
    assert set(told) == {"refine_profile", "questions", "propose", "diagnose", "repairs"}
    assert {(s.kind, s.attributes["by"]) for s in told.values()} == {("reasoner", "rules")}
    assert told["diagnose"].attributes["failure_class"] == "host_memory_oom"
    assert told["diagnose"].attributes["confidence"] == 1
    assert told["diagnose"].attributes["exit_code"] == 137
    assert told["repairs"].attributes["repairs"] == 2
    assert told["repairs"].attributes["first"] == ["change_plan: more room for [masked]", "wait: "]


# Nodes


def mended(tmp_path: Path, *ladder: Any, secrets: tuple[str, ...] = ()) -> tuple[MemoryTracer, World, Any]:
    """A run whose first attempt fails and is mended by a ladder."""
    world = World(tmp_path, lambda job: Script(exit_code=0 if job["ID"].endswith("-a02") else 1))
    world.tracer = MemoryTracer(world.clock, secrets)
    world.reasoner = Ladder(Prices(), ladder)
    record = world.start()
    ended = world.drive(record)
    ended = world.drive(record, Reply(approved=True)) if isinstance(ended, Ask) else ended
    assert ended.status is RunStatus.SUCCEEDED
    return world.tracer, world, record


def test_a_repair_is_told_with_what_it_changed(tmp_path: Path) -> None:
    change = PlanChange(path="resources.memory_mb", value=4096, by=Author.REPAIR)
    tracer, _, _ = mended(tmp_path, ChangePlan(changes=(change,), why="it was killed"))
    (repair,) = (s for s in tracer.spans() if s.name == "repair")
    (node,) = (s for s in tracer.spans() if s.name == "fix_iteration")
    assert repair.parent == node.id
    assert (repair.attributes["repair"], repair.attributes["why"]) == ("change_plan", "it was killed")
    assert repair.attributes["after"] == {"resources.memory_mb": 4096}
    assert repair.attributes["before"].keys() == {"resources.memory_mb"}
    assert node.attributes["attempt"] == 1
    judged = [s.attributes for s in tracer.spans() if s.name == "verify_deployment"]
    assert [(a["attempt"], a["outcome"], a["exit_code"]) for a in judged] == [(1, "failed", 1), (2, "succeeded", 0)]
    (diagnosed,) = (s for s in tracer.spans() if s.name == "diagnose" and s.kind == "node")
    assert diagnosed.attributes["failure_class"] == "host_memory_oom"


def test_a_repair_that_changes_nothing_is_told_too(tmp_path: Path) -> None:
    tracer, _, _ = mended(tmp_path, Wait(seconds=60, why="the node may come back"))
    (repair,) = (s for s in tracer.spans() if s.name == "repair")
    assert repair.attributes == {"repair": "wait", "why": "the node may come back", "seconds_waited": 60}
    (tmp_path / "other").mkdir()
    tracer, _, _ = mended(tmp_path / "other", RetryElsewhere(avoid_nodes=("fake-1",), why="it is broken"))
    (repair,) = (s for s in tracer.spans() if s.name == "repair")
    assert repair.attributes == {"repair": "retry_elsewhere", "why": "it is broken", "avoid_nodes": ["fake-1"]}


def test_secrets_in_a_repair_are_masked_by_value_and_by_name(tmp_path: Path) -> None:
    changes = (
        PlanChange(path="env.HF_TOKEN", value="abcdefgh", by=Author.REPAIR),
        PlanChange(path="env.OTHER", value=f"--with {SECRET}", by=Author.REPAIR),
    )
    tracer, _, _ = mended(tmp_path, ChangePlan(changes=changes, why=f"wants {SECRET}"), secrets=(SECRET,))
    text = str(tracer.spans())
    assert SECRET not in text
    assert "abcdefgh" not in text
    (repair,) = (s for s in tracer.spans() if s.name == "repair")
    assert repair.attributes["after"] == {"env.HF_TOKEN": "[masked]", "env.OTHER": "--with [masked]"}


def test_a_question_is_told_by_its_kind(tmp_path: Path) -> None:
    world = World(tmp_path)
    record = world.start(yes=False, answers={"epochs": 1})
    world.drive(record)
    asking = [s for s in world.tracer.spans() if s.attributes.get("waiting")]
    assert [(s.status, s.attributes["asks"]) for s in asking] in (
        [("interrupted", ["questions"])],
        [("interrupted", ["approval"])],
    )
