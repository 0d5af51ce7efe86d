"""A run waits for LangFuse a second at most: for its prompts and its trace together, over all its processes."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import langfuse_traces, make_prompts
from caravan.runs.traces import read_trace
from caravan.values.run import RunRecord, RunRequest, RunStatus
from config import Settings, load_settings
from langfuse_patience import MOST_S, PART_S, PROMPTS, TRACE, Patience, waited_path
from observability import LocalTracer
from tests.fakes.clock import FakeClock
from tests.fakes.langfuse_server import LangfuseServer, hangs

RUN = "abc12345"
ENOUGH_S = 30.0
"""Real seconds that a loaded machine has for what takes milliseconds; only a defect takes so long."""


class CountingClock(FakeClock):
    """Stands still, but for the seconds that somebody waits. With `takes` what is waited for comes after so long."""

    def __init__(self, takes: float | None = None) -> None:
        super().__init__()
        self.takes = takes

    def wait(self, event: Event, seconds: float) -> bool:
        if self.takes is None:
            self.sleep(seconds)
            return False
        assert event.wait(ENOUGH_S)
        self.sleep(self.takes)
        return True


@pytest.fixture
def server() -> Iterator[LangfuseServer]:
    with LangfuseServer() as running:
        yield running


@pytest.fixture
def settings(server: LangfuseServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {**server.environment(), "CARAVAN_PROMPT_CACHE_S": "0"}.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def process(settings: Settings, home: Path, clock: FakeClock) -> None:
    """What one process of the run does with LangFuse, by a run's own adapters: all its prompts, and its trace."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    path = home / "traces" / f"{RUN}.jsonl"
    request = RunRequest(prompt="Train it", source="/x/repo")
    record = RunRecord(id=RUN, created_at=at, updated_at=at, request=request)
    traces = langfuse_traces(settings, home, clock=clock, secrets=())
    assert traces is not None
    local = LocalTracer(path, run_id=RUN, clock=clock)
    tracer = traces.live(local, path, record, lambda: record.model_copy(update={"status": RunStatus.SUCCEEDED}))
    prompts = make_prompts(settings, home, clock=clock, trace=path)
    with tracer.span("run", "run"):
        prompts.begin()
        for name in prompts.names():
            prompts.get(name)
    tracer.close()


def end_threads(server: LangfuseServer) -> None:
    server.closing.set()
    for thread in threading.enumerate():
        if thread.name in ("caravan-prompts", "caravan-traces"):
            thread.join(ENOUGH_S)


@pytest.mark.parametrize("at", ["", "/api/public/v2", "/api/public/otel", "/api/public/scores", "/api/public/projects"])
def test_a_black_hole_costs_a_run_of_many_processes_a_second_in_all(
    server: LangfuseServer, settings: Settings, tmp_path: Path, at: str
) -> None:
    server.fail(hangs(), at)
    clock = CountingClock()
    for _ in range(5):
        process(settings, tmp_path, clock)
    assert 0 < sum(clock.slept) <= MOST_S
    kept = json.loads(waited_path(tmp_path / "traces" / f"{RUN}.jsonl").read_bytes())
    assert sum(kept.values()) == pytest.approx(sum(clock.slept))
    assert len(read_trace(tmp_path / "traces" / f"{RUN}.jsonl").spans) == 5
    end_threads(server)


def test_one_that_is_slow_each_time_costs_no_more(server: LangfuseServer, settings: Settings, tmp_path: Path) -> None:
    clock = CountingClock(takes=0.2)
    for _ in range(6):
        process(settings, tmp_path, clock)
    end_threads(server)
    assert sum(clock.slept) == pytest.approx(MOST_S, abs=0.21)
    kept = json.loads(waited_path(tmp_path / "traces" / f"{RUN}.jsonl").read_bytes())
    assert sum(kept.values()) <= MOST_S + 1e-9


def test_prompts_and_trace_have_half_a_second_each(tmp_path: Path) -> None:
    clock = FakeClock()
    patience, other = (Patience(clock, tmp_path / "x" / "run.waited.json") for _ in range(2))
    assert not patience.wait(Event(), PROMPTS)
    assert (patience.left_s(PROMPTS), other.left_s(PROMPTS), other.left_s(TRACE)) == (0.0, 0.0, PART_S)
    assert not other.wait(Event(), TRACE)
    assert not patience.wait(Event(), TRACE)
    assert clock.slept == [PART_S, PART_S]


def test_what_has_come_is_not_waited_for(tmp_path: Path) -> None:
    clock, came = FakeClock(), Event()
    came.set()
    patience = Patience(clock, tmp_path / "run.waited.json")
    assert patience.wait(came, TRACE)
    assert (clock.slept, list(tmp_path.iterdir())) == ([], [])


@given(st.lists(st.tuples(st.sampled_from((PROMPTS, TRACE)), st.floats(0, 2)), max_size=20))
def test_no_order_of_waits_takes_more_than_there_is(waits: list[tuple[str, float]]) -> None:
    clock = FakeClock()
    patience = Patience(clock)

    def takes(seconds: float) -> Any:
        def wait(_: Event, most: float) -> bool:
            clock.sleep(min(seconds, most))
            return seconds <= most

        return wait

    for part, seconds in waits:
        patience.wait(Event(), part, takes(seconds))
    assert clock.monotonic() <= MOST_S + 1e-9


@pytest.mark.parametrize("text", ["", "{", "[]", '{"trace": "x"}', '{"trace": 1e9}', '{"trace": -1}', "[" * 100_000])
def test_a_damaged_file_costs_what_one_process_may_wait(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.waited.json"
    file.write_text(text)
    assert Patience(FakeClock(), file).left_s(TRACE) == PART_S


def test_a_file_that_can_t_be_written_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file where a folder should be")
    clock = FakeClock()
    patience = Patience(clock, tmp_path / "x" / "run.waited.json")
    assert not patience.wait(Event(), TRACE)
    assert patience.left_s(TRACE) == 0.0
