"""The tree that LangFuse shows is the run's: real graph and real tracer, a server that decodes what it is sent."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from caravan.agent.context import Context
from caravan.agent.model.metered import Metered, ModelLimits
from caravan.agent.traced import TracedCluster, TracedMemory
from caravan.terminal.app import run
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.run import RunRecord, RunStatus
from live_traces import LangfuseTraces
from observability import LocalTracer, trace_id
from tests.agent.qwen.test_model_in_runs import CAUSE, SMALLER, Talking, shelf
from tests.agent.test_loop import needs
from tests.fakes.langfuse_server import LangfuseServer
from tests.fakes.product import Product
from tests.fakes.wiring import FakeWiring, nobody, printed

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import argparse
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--until", default="")
args = parser.parse_args()
print("loss 1.0", flush=True)
while not os.path.exists(args.until):
    time.sleep(0.05)
print("loss 0.5", flush=True)
"""
Row = tuple[str | None, str, str, str | None, float]


def patient(event: Event, _: float) -> bool:
    """Wait for a thread on a machine with much to do."""
    return event.wait(30)


class Seen(Talking):
    """A world whose runs are traced into a file and to a LangFuse; each drive is a process of its own."""

    def __init__(self, tmp: Path, server: LangfuseServer, script: Any = None, said: Any = None) -> None:
        super().__init__(tmp, script, said)
        self.server, self.home, self.content = server, tmp / "home", False
        self.scripted = self.chat
        self.secrets: tuple[str, ...] = ()

    def traces(self) -> LangfuseTraces:
        return LangfuseTraces(
            self.server.access(),
            self.home / "langfuse",
            clock=self.clock,
            content=self.content,
            secrets=self.secrets,
        )

    def path(self, record: RunRecord) -> Path:
        return self.home / "traces" / f"{record.id}.jsonl"

    def context(self, run_id: str) -> Context:
        plain_chat: Any = self.scripted
        limits = ModelLimits()
        metered: Any = Metered(
            plain_chat, self.store, run_id, clock=self.clock, limits=limits, tracer=self.tracer, content=self.content
        )
        self.chat = metered
        plain = super().context(run_id)
        cluster = TracedCluster(self.cluster, self.tracer, self.clock)
        return replace(plain, cluster=cluster, memory=TracedMemory(self.memory, self.tracer))

    def process(self, record: RunRecord, reply: Reply | None = None) -> Ask | RunRecord:
        local = LocalTracer(self.path(record), run_id=record.id, clock=self.clock, secrets=self.secrets)
        tracer = self.traces().live(local, self.path(record), record, lambda: self.store.run(record.id), wait=patient)
        traced: Any = tracer
        self.tracer = traced
        try:
            return self.drive(record, reply)
        finally:
            tracer.close()

    def through(self, record: RunRecord) -> RunRecord:
        result = self.process(record)
        while isinstance(result, Ask):
            self.clock.sleep(600)
            result = self.process(record, Reply(approved=True) if result.kind is AskKind.APPROVAL else Reply())
        return result

    def printed(self, record: RunRecord) -> dict[str, Any]:
        wiring = FakeWiring(self.home)
        wiring.runs = self.store
        terminal = nobody()
        assert run(wiring, ["traces", record.id, "--json"], terminal) == 0
        return dict(json.loads(printed(terminal)[0]))


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as running:
        yield running


def as_printed(document: dict[str, Any]) -> dict[str, Row]:
    """Each step of the printed tree by its id, with the steps around it, its kind, state and milliseconds."""
    return {
        s["id"]: (s["parent"], s["name"], s["kind"], s["status"], round((s["seconds"] or 0.0) * 1000))
        for s in document["spans"]
        if s["status"] not in ("waiting", "running")
    }


def as_shown(server: LangfuseServer, run_id: str) -> dict[str, Row]:
    """The same of what LangFuse has, its root left out; what has no id of its own has its name for one."""
    spans = server.kept.traces()[trace_id(run_id)]
    (root,) = [s for s in spans if not s.parent_id]
    assert {s.parent_id for s in spans} <= {"", *(s.span_id for s in spans)}
    found: dict[str, Row] = {}
    for span in spans:
        if span is root:
            continue
        told = json.loads(span.attributes["langfuse.observation.metadata"])
        parent = None if span.parent_id == root.span_id else span.parent_id
        state = (told.get("state") or "").replace(" ", "_") or None
        found[span.span_id] = (parent, span.name, told["kind"], state, round((span.end_ns - span.start_ns) / 1e6))
    return found


def same(printed: dict[str, Row], shown: dict[str, Row]) -> None:
    own = {key: row for key, row in printed.items() if row[2] != "wait"}
    assert {key: shown.get(key) for key in own} == own
    waits = sorted(row for row in printed.values() if row[2] == "wait")
    assert sorted(row for key, row in shown.items() if key not in own) == waits


def kinds(server: LangfuseServer) -> dict[str, str]:
    return {s.name: s.attributes["langfuse.observation.type"] for s in server.kept.spans.values()}


def scores(server: LangfuseServer) -> dict[str, Any]:
    return {s["name"]: s["value"] for s in server.kept.scores.values()}


def test_a_run_that_ended_well(tmp_path: Path, server: LangfuseServer) -> None:
    world = Seen(tmp_path, server)
    record = world.start()
    assert world.through(record).status is RunStatus.SUCCEEDED
    same(as_printed(world.printed(record)), as_shown(server, record.id))
    found = kinds(server)
    assert found["run"] == "agent"
    assert (found["deploy_job"], found["register"], found["evaluate"]) == ("chain", "tool", "evaluator")
    assert {"deployed": 1, "attempts": 1, "status": "succeeded"}.items() <= scores(server).items()
    assert "user_approval" not in scores(server)  # nobody was asked
    assert "fixed" not in scores(server)  # nothing was to mend


def test_a_run_that_a_model_mended(tmp_path: Path, server: LangfuseServer) -> None:
    world = Seen(tmp_path, server, shelf, {"diagnose": CAUSE, "repairs": {"repairs": [SMALLER]}})
    record = world.start()
    assert world.through(record).status is RunStatus.SUCCEEDED
    same(as_printed(world.printed(record)), as_shown(server, record.id))
    assert kinds(server)["model diagnose"] == "generation"
    (asked,) = [s for s in server.kept.spans.values() if s.name == "model diagnose"]
    assert asked.attributes["langfuse.observation.model.name"]
    assert json.loads(asked.attributes["langfuse.observation.usage_details"])["input"] >= 0
    assert json.loads(asked.attributes["langfuse.observation.metadata"])["prompt"] == "diagnose"
    assert "langfuse.observation.input" not in asked.attributes
    (mended,) = [s for s in server.kept.spans.values() if s.name == "repair"]
    before, after = (json.loads(mended.attributes[f"langfuse.observation.{side}"]) for side in ("input", "output"))
    assert set(after) == set(before)
    assert 4 in after.values()
    assert {"deployed": 1, "attempts": 2, "fixed": 1}.items() <= scores(server).items()


def test_what_a_model_was_asked_is_there_where_that_is_wanted(tmp_path: Path, server: LangfuseServer) -> None:
    world = Seen(tmp_path, server, shelf, {"diagnose": CAUSE, "repairs": {"repairs": [SMALLER]}})
    world.content = True
    world.through(world.start())
    (asked,) = [s for s in server.kept.spans.values() if s.name == "model diagnose"]
    given = json.loads(asked.attributes["langfuse.observation.input"])
    assert [m["role"] for m in given][:2] == ["system", "user"]
    assert "WidgetFault" in given[1]["content"]
    assert "training_config_invalid" in json.loads(asked.attributes["langfuse.observation.output"])["content"]


def test_what_a_model_says_leaves_masked(tmp_path: Path, server: LangfuseServer) -> None:
    planted = ("hush-hush-value", "hf_PlantedInAReply00000001", "src-planted-000000016", "pg-planted-0014")
    said = f"It logs {planted[0]} in with {planted[1]}, API_TOKEN = '{planted[2]}', postgresql://a:{planted[3]}@db/x"
    cause = {**CAUSE, "cause": said, "lines": [*CAUSE["lines"], said]}
    smaller = {**SMALLER, "why": said}
    world = Seen(tmp_path, server, shelf, {"diagnose": cause, "repairs": {"repairs": [smaller]}})
    world.content, world.secrets = True, planted[:1]
    record = world.start(prompt=f"Train it with {planted[1]}")
    world.through(record)
    left, kept = server.sent(), world.path(record).read_bytes()
    assert b"It logs [masked] in with" in left
    for secret in planted:
        assert secret.encode() not in left
        assert secret.encode() not in kept


def test_a_run_that_asked_and_went_on_in_another_process(tmp_path: Path, server: LangfuseServer) -> None:
    world = Seen(tmp_path, server)
    record = world.start(yes=False)
    assert isinstance(world.process(record), Ask)
    half = as_shown(server, record.id)
    assert half
    assert "user_approval" not in scores(server)
    assert world.through(record).status is RunStatus.SUCCEEDED
    shown = as_shown(server, record.id)
    assert half.items() <= shown.items()
    same(as_printed(world.printed(record)), shown)
    assert "waiting for a person" in kinds(server)
    assert scores(server)["user_approval"] == 1


def test_what_memory_gave_and_whether_it_was_followed(tmp_path: Path, server: LangfuseServer) -> None:
    world = Seen(tmp_path, server, needs(4000))
    first = world.start()
    world.through(first)
    assert scores(server)["fixed"] == 1
    assert "recall_used" not in scores(server)  # there was nothing to recall
    second = world.start()
    world.through(second)
    spans = server.kept.traces()[trace_id(second.id)]
    (case,) = world.memory.all()
    recalls = [s for s in spans if s.attributes["langfuse.observation.type"] == "retriever"]
    found = [json.loads(s.attributes.get("langfuse.observation.output") or "[]") for s in recalls]
    assert case.id in {row["case"] for rows in found for row in rows}
    used = next(s for s in spans if s.name == "recall used")
    told = json.loads(used.attributes["langfuse.observation.metadata"])
    assert (told["case"], told["for"]) == (case.id, "the plan")
    of_second = {s["name"]: s["value"] for s in server.kept.scores.values() if s["traceId"] == trace_id(second.id)}
    assert {"recall_used": 1, "attempts": 1}.items() <= of_second.items()
    same(as_printed(world.printed(second)), as_shown(server, second.id))


def test_a_no_is_scored_as_one(tmp_path: Path, server: LangfuseServer) -> None:
    world = Seen(tmp_path, server)
    record = world.start(yes=False)
    result = world.process(record)
    while isinstance(result, Ask):
        no = Reply() if result.kind is AskKind.QUESTIONS else Reply(approved=False, why="too early")
        result = world.process(record, no)
    assert {"deployed": 0, "user_approval": 0, "status": "rejected"}.items() <= scores(server).items()


@pytest.fixture
def product(tmp_path: Path, server: LangfuseServer) -> Iterator[Product]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    made = Product(tmp_path / "home", kept, **server.environment())
    yield made
    made.start("cluster", "down").communicate()


def test_real_processes_asked_killed_and_resumed(product: Product, server: LangfuseServer, tmp_path: Path) -> None:
    repository, gate = tmp_path / "repository", tmp_path / "gate"
    repository.mkdir()
    (repository / "train.py").write_text(SCRIPT)
    (repository / "README.md").write_text("    python train.py --epochs 1\n")
    words = ("--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local")
    asked = product.document(*words, "--set", f"training.options.--until={gate}", code=3)
    run_id = asked["run_id"]
    assert asked["trace_url"].startswith(server.url)
    assert Path(asked["trace_path"]).is_file()
    agent = product.start("resume", run_id, "--approve")
    assert agent.stderr
    assert any("loss 1.0" in line for line in agent.stderr)
    agent.send_signal(signal.SIGKILL)
    agent.communicate()
    gate.touch()
    ended = product.document("resume", run_id)
    assert ended["status"] == "succeeded"
    assert ended["trace_url"].endswith(f"/{trace_id(run_id)}")
    before = as_shown(server, run_id)  # on a machine with much to do not yet all
    pushed = product.document("traces", "push", run_id)
    shown = as_shown(server, run_id)
    assert before.items() <= shown.items()
    assert pushed["pushed"][0]["spans"] == len(shown) + 1
    printed = as_printed(product.document("traces", run_id))
    same(printed, shown)
    assert "cut_off" in {row[3] for row in printed.values()}
    assert {"deployed": 1, "status": "succeeded", "user_approval": 1}.items() <= scores(server).items()
    assert product.document("traces", "push", "--all-missing")["pushed"] == []
