"""A trace that goes to LangFuse beside its run: the run waits half a second at most, and its file loses nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from caravan.runs.traces import read_trace
from caravan.values.errors import UsageError
from caravan.values.run import RunRecord, RunRequest, RunStatus
from langfuse_access import LangfuseAccess
from langfuse_client import LangfuseClient
from langfuse_patience import PART_S, Patience, waited_path
from live_traces import LangfuseTraces, LiveTracer, Page
from observability import LocalTracer, trace_id
from sending import TraceSender, is_missing, read_note
from tests.fakes.clock import FakeClock
from tests.fakes.langfuse_server import PUBLIC_KEY, SECRET_KEY, LangfuseServer, hangs, status, unreachable

RUN = "abc12345"
TRACES = "/api/public/otel"
ROOT = Path(__file__).parents[1]
ENOUGH_S = 30.0
"""Real seconds that a loaded machine has for what takes milliseconds; only a defect takes so long."""


class Waiting:
    """Waits for the thread at a run's end. `real`: until it is done; else it comes back at once, as after the time."""

    def __init__(self, clock: FakeClock, *, real: bool = True) -> None:
        self.clock, self.real = clock, real
        self.asked: list[float] = []

    def __call__(self, event: Event, seconds: float) -> bool:
        self.asked.append(seconds)
        if self.real:
            assert event.wait(ENOUGH_S)
            return True
        self.clock.sleep(seconds)
        return False


class Place:
    """A run whose trace goes to a LangFuse."""

    def __init__(self, home: Path, access: LangfuseAccess) -> None:
        self.home, self.path, self.clock = home, home / "traces" / f"{RUN}.jsonl", FakeClock()
        self.access = access
        at = datetime(2026, 1, 1, tzinfo=UTC)
        request = RunRequest(prompt="Train it", source="/x/nanoGPT")
        self.record = RunRecord(id=RUN, created_at=at, updated_at=at, request=request)

    def tracer(self, waiting: Waiting, **known: Any) -> LiveTracer:
        local = LocalTracer(self.path, run_id=RUN, clock=self.clock)
        ended = self.record.model_copy(update={"status": RunStatus.SUCCEEDED})
        return LiveTracer(
            local,
            RUN,
            Page(self.access, self.home / "langfuse"),
            lambda: TraceSender(LangfuseClient(self.access), self.path, self.record, clock=self.clock),
            patience=Patience(self.clock, waited_path(self.path)),
            wait=waiting,
            **{"record": lambda: ended, **known},
        )

    def run(self, waiting: Waiting) -> LiveTracer:
        tracer = self.tracer(waiting)
        with tracer.span("run", "run"), tracer.span("estimate", "node"):
            tracer.event("moment")
        tracer.close()
        return tracer

    def whole(self) -> bool:
        return [s.name for s in read_trace(self.path).spans] == ["run", "estimate", "moment"]


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as running:
        yield running


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "caravan.trace"]


def test_at_the_end_of_a_run_its_trace_is_there(
    server: LangfuseServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(tmp_path, server.access())
    waiting = Waiting(place.clock)
    tracer = place.run(waiting)
    tracer.close()  # once more does nothing
    assert waiting.asked == [PART_S]
    assert sorted(s.name for s in server.kept.spans.values()) == ["drive 1", "estimate", "moment", "run"]
    assert {s["name"] for s in server.kept.scores.values()} >= {"status", "deployed"}
    assert not is_missing(place.path, place.access)
    assert told(caplog) == []


def test_its_page_is_known_once_the_project_is(server: LangfuseServer, tmp_path: Path) -> None:
    traces = LangfuseTraces(server.access(), tmp_path / "langfuse", clock=FakeClock())
    place = Place(tmp_path, server.access())
    assert traces.page(RUN) == f"{server.url}/trace/{trace_id(RUN)}"
    place.run(Waiting(place.clock))
    pushed = traces.push(place.path, place.record)
    assert pushed["trace_url"] == traces.page(RUN) == f"{server.url}/project/project-1/traces/{trace_id(RUN)}"
    assert (pushed["spans"], pushed["rejected"]) == (4, 0)


@pytest.mark.parametrize("fault", [status(401), status(403), status(500), status(429, retry_after="3600")])
def test_a_langfuse_that_refuses_costs_one_word_and_nothing_of_the_file(
    server: LangfuseServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    server.fail(fault, TRACES)
    place = Place(tmp_path, server.access())
    place.run(Waiting(place.clock))
    assert place.whole()
    (word,) = told(caplog)
    assert f"python main.py traces push {RUN}" in word
    assert SECRET_KEY not in word
    assert PUBLIC_KEY not in word
    assert is_missing(place.path, place.access)


def test_nobody_there_costs_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture, server: LangfuseServer) -> None:
    access = server.access().model_copy(update={"url": unreachable()})
    place = Place(tmp_path, access)
    place.run(Waiting(place.clock))
    assert place.whole()
    assert len(told(caplog)) == 1


def test_a_black_hole_costs_half_a_second_for_all_processes_of_the_run(
    server: LangfuseServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail(hangs())
    place = Place(tmp_path, server.access())
    waiting = Waiting(place.clock, real=False)
    for process in range(1, 4):
        caplog.clear()
        tracer = place.tracer(waiting, every_s=0.001)
        with tracer.span(f"drive of process {process}", "run"):
            tracer.event("something to send")
            for _ in range(int(ENOUGH_S / 0.01)):
                if len(server.asked) >= process:
                    break
                Event().wait(0.01)
        tracer.close()
        assert len(server.asked) == process
        assert len(told(caplog)) == 1
    assert sum(waiting.asked) <= PART_S
    assert len(read_trace(place.path).spans) == 6
    assert is_missing(place.path, place.access)


def test_what_is_back_is_sent_what_it_lacks(
    server: LangfuseServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail(status(503), TRACES)
    place = Place(tmp_path, server.access())
    place.run(Waiting(place.clock))
    server.heal()
    traces = LangfuseTraces(server.access(), tmp_path / "langfuse", clock=place.clock)
    assert traces.is_missing(place.path)
    assert traces.push(place.path, place.record)["spans"] == 4
    assert not traces.is_missing(place.path)


def test_the_next_process_sends_what_the_last_could_not(server: LangfuseServer, tmp_path: Path) -> None:
    server.fail(status(503), TRACES)
    place = Place(tmp_path, server.access())
    place.run(Waiting(place.clock))
    server.heal()
    place.run(Waiting(place.clock))
    assert sorted(s.name for s in server.kept.spans.values()) == sorted(
        ["run", "drive 1", "drive 2", *["estimate", "moment"] * 2]
    )
    assert read_note(place.path).whole


def test_a_run_that_was_deleted_meanwhile_has_no_end_to_tell(server: LangfuseServer, tmp_path: Path) -> None:
    place = Place(tmp_path, server.access())

    def gone() -> RunRecord:
        raise UsageError("There is no such run.")

    tracer = place.tracer(Waiting(place.clock), record=gone)
    with tracer.span("run", "run"):
        pass
    tracer.close()
    assert len(server.kept.spans) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from pydantic import SecretStr
from caravan.values.run import RunRecord
from langfuse_access import LangfuseAccess
from live_traces import LangfuseTraces
from machine import SystemClock
from observability import LocalTracer

path, url, public, secret = Path(sys.argv[1]), *sys.argv[2:5]
record = RunRecord.model_validate_json(sys.argv[5])
access = LangfuseAccess.of(url, SecretStr(public), SecretStr(secret))
local = LocalTracer(path, run_id=record.id, clock=SystemClock())
tracer = LangfuseTraces(access, path.parent, clock=SystemClock()).live(local, path, record, lambda: record)
with tracer.span("run", "run"):
    with tracer.span("estimate", "node"):
        pass
    with tracer.span("deploy_job", "node"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_is_killed_loses_nothing_that_can_be_sent_later(server: LangfuseServer, tmp_path: Path) -> None:
    place = Place(tmp_path, server.access())
    words = [str(place.path), server.url, PUBLIC_KEY, SECRET_KEY, place.record.model_dump_json()]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment, cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    traces = LangfuseTraces(server.access(), tmp_path / "langfuse", clock=place.clock)
    assert traces.is_missing(place.path)
    traces.push(place.path, place.record)
    spans = {s.name: s for s in server.kept.spans.values()}
    assert set(spans) == {"run", "drive 1", "estimate", "deploy_job"}
    state = {name: json.loads(s.attributes["langfuse.observation.metadata"]).get("state") for name, s in spans.items()}
    assert (state["estimate"], state["deploy_job"], state["drive 1"]) == ("ok", "cut off", "cut off")


def test_a_run_begins_without_the_libraries_for_sending(tmp_path: Path) -> None:
    said = (
        "import sys, live_traces, sending, otlp;"
        "print([m for m in ('opentelemetry', 'google.protobuf', 'requests', 'langfuse') if m in sys.modules])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", said], env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert found.stdout.decode().strip() == "[]"
