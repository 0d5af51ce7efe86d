"""Tracers: what each does, what the file survives, and that logging hides secrets."""

import contextlib
import contextvars
import io
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.ports import Tracer
from caravan.runs.traces import read_trace
from caravan.values.errors import ClusterError, Interrupted, StateError, UsageError
from caravan.values.trace import SpanRecord, trace_tree
from observability import (
    LocalTracer,
    NullTracer,
    harmless,
    setup_logging,
    trace_id,
)
from tests.fakes.tracer import MemoryTracer

SECRET = "correct-horse-battery"
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[1]


class StepClock:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return 1000 + self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


class Traced:
    """A tracer with its clock and a way to see what it recorded."""

    def __init__(self, tracer: Tracer, clock: StepClock, spans: Callable[[], tuple[SpanRecord, ...]]) -> None:
        self.tracer, self.clock, self.spans = tracer, clock, spans

    def named(self, name: str) -> SpanRecord:
        (found,) = (s for s in self.spans() if s.name == name)
        return found


@pytest.fixture(params=["local", "memory"])
def traced(request: pytest.FixtureRequest, tmp_path: Path) -> Traced:
    clock = StepClock()
    if request.param == "memory":
        memory = MemoryTracer(clock, [SECRET])
        return Traced(memory, clock, memory.spans)
    path = tmp_path / "home" / "traces" / "r-1.jsonl"
    local = LocalTracer(path, run_id="r-1", clock=clock, secrets=[SECRET])
    return Traced(local, clock, lambda: read_trace(path).spans)


class GraphBubbleUp(Exception):
    """Named as the graph library names its own."""


class GraphInterrupt(GraphBubbleUp):
    pass


def test_spans_nest_and_have_times(traced: Traced) -> None:
    with traced.tracer.span("run", "run", source="/repo") as run:
        traced.clock.sleep(1)
        with traced.tracer.span("analyze_codebase", "node"):
            traced.clock.sleep(2)
            traced.tracer.event("found", files=3)
        with traced.tracer.span("make_plan", "node"):
            pass
    assert [(depth, s.name, s.kind) for depth, s in trace_tree(traced.spans())] == [
        (0, "run", "run"),
        (1, "analyze_codebase", "node"),
        (2, "found", "event"),
        (1, "make_plan", "node"),
    ]
    analysis = traced.named("analyze_codebase")
    assert (analysis.parent, analysis.status) == (run.id, "ok")
    assert analysis.started_at == START + timedelta(seconds=1)
    assert analysis.ended_at == START + timedelta(seconds=3)
    assert analysis.seconds == pytest.approx(2)
    assert traced.named("found").attributes == {"files": 3}
    assert traced.named("run").attributes == {"source": "/repo"}


def test_an_open_span_is_visible_as_open(traced: Traced) -> None:
    with traced.tracer.span("run", "run"):
        assert traced.named("run").status == "open"
        assert traced.named("run").ended_at is None


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ClusterError(f"token {SECRET}\nrefused"), "error", "ClusterError: token [masked] refused"),
        (GraphInterrupt("ask"), "interrupted", "GraphInterrupt"),
        (Interrupted("stop"), "interrupted", "Interrupted"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_an_exception_passes_through_and_is_noted(traced: Traced, error: BaseException, status: str, text: str) -> None:
    def fails() -> None:
        with traced.tracer.span("outer"), traced.tracer.span("inner"):
            raise error

    with pytest.raises(type(error)) as caught:
        fails()
    assert caught.value is error
    for name in ("outer", "inner"):
        assert (traced.named(name).status, traced.named(name).error) == (status, text)
    traced.tracer.event("after")
    assert traced.named("after").parent is None


def test_attributes_are_masked_and_bounded(traced: Traced) -> None:
    attributes = {"HF_TOKEN": "abcdefgh", "text": f"has {SECRET}", "long": "x" * 10**6, "many": list(range(10**4))}
    with traced.tracer.span("s", **attributes) as span:
        span.set(object=object(), not_finite=float("nan"), path=Path("/x"), deep={"a": {"b": {"c": {"d": {}}}}})
        span.set(text=f"now {SECRET}")
    record = traced.named("s")
    assert SECRET not in str(record)
    assert record.attributes["HF_TOKEN"] == "[masked]"
    assert record.attributes["text"] == "now [masked]"
    assert len(str(record)) < 10_000
    assert record.attributes["object"] == "(object)"
    assert record.attributes["not_finite"] == "nan"


def test_a_copied_context_keeps_the_parent(traced: Traced) -> None:
    with traced.tracer.span("run") as run:
        worker = threading.Thread(target=contextvars.copy_context().run, args=(traced.tracer.event, "in a thread"))
        worker.start()
        worker.join()
    assert traced.named("in a thread").parent == run.id


def test_a_span_that_ends_late_leaves_the_others_alone(traced: Traced) -> None:
    def watch() -> Iterator[int]:
        with traced.tracer.span("watch"):
            yield from range(2)

    with traced.tracer.span("run") as run:
        with traced.tracer.span("node"):
            forgotten = watch()
            next(forgotten)
        traced.tracer.event("after the node")
        with traced.tracer.span("next"):
            forgotten.close()  # type: ignore[attr-defined]
            traced.tracer.event("in the next")
    assert traced.named("watch").parent == traced.named("node").id
    assert traced.named("after the node").parent == run.id
    assert traced.named("in the next").parent == traced.named("next").id
    traced.tracer.event("at the end")
    assert traced.named("at the end").parent is None


@pytest.mark.parametrize("position", [1990, 1999, 3000])
def test_a_secret_is_masked_before_the_text_is_cut(traced: Traced, position: int) -> None:
    with traced.tracer.span("s", text="." * position + SECRET * 3000, **{"k" * 190 + SECRET: 1}):
        pass
    text = str(traced.named("s"))
    assert not any(SECRET[:n] in text for n in range(4, len(SECRET)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_whatever_the_value_it_becomes_json(value: object) -> None:
    json.dumps(harmless(value), allow_nan=False).encode()


# The file


def local(path: Path) -> LocalTracer:
    return LocalTracer(path, run_id="r-1", clock=StepClock(), secrets=[SECRET])


def test_the_file_is_for_the_owner_and_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "home" / "traces" / "r-1.jsonl"
    tracer = local(path)
    assert tracer.url() == str(path)
    assert not path.exists()
    with tracer.span("a\nb\u2028"):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert {line["trace"] for line in lines} == {trace_id("r-1")}
    assert len(trace_id("r-1")) == 32
    tracer.close()


def test_a_long_record_loses_its_attributes_not_itself(tmp_path: Path) -> None:
    tracer = local(tmp_path / "t.jsonl")
    with tracer.span("s", **{f"a{n}": "x" * 1999 for n in range(50)}):
        pass
    (span,) = read_trace(tmp_path / "t.jsonl").spans
    assert span.status == "ok"
    assert list(span.attributes) == ["left_out"]


KILLED = """
import os, signal, sys
from datetime import datetime, UTC
from pathlib import Path
from observability import LocalTracer
class Clock:
    def now(self): return datetime.now(UTC)
    def monotonic(self): return 0.0
    def sleep(self, seconds): pass
tracer = LocalTracer(Path(sys.argv[1]), run_id="r-1", clock=Clock())
with tracer.span("run", "run"):
    with tracer.span("deploy_job", "node"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_spans_and_the_next_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    with path.open("ab") as file:
        file.write(b'{"type":"start","span":"torn')
    tracer = local(path)
    with tracer.span("resumed", "run"):
        pass
    assert [(s.name, s.status) for s in read_trace(path).spans] == [
        ("run", "open"),
        ("deploy_job", "open"),
        ("resumed", "ok"),
    ]
    assert len({json.loads(line)["trace"] for line in path.read_bytes().splitlines() if b"torn" not in line}) == 1


def test_a_place_that_can_not_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    tracer = local(tmp_path / "file" / "t.jsonl")
    with tracer.span("a"), tracer.span("b"):
        tracer.event("c")
    assert tracer.dropped == 5
    assert len(caplog.records) == 1


def test_a_full_file_keeps_runs_and_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("observability._DETAILS_UNTIL", 2000)
    monkeypatch.setattr("observability.LARGEST_TRACE", 4000)
    path = tmp_path / "t.jsonl"
    tracer = local(path)
    with tracer.span("run", "run"):
        for number in range(4):
            with tracer.span(f"node {number}", "node"):
                for _ in range(10):
                    with tracer.span("call", "cluster"):
                        tracer.event("moment")
    assert path.stat().st_size <= 4000
    spans = read_trace(path).spans
    kinds = [s.kind for s in spans]
    assert kinds.count("node") == 4
    assert 0 < kinds.count("cluster") + kinds.count("event") < 10
    assert {s.status for s in spans} == {"ok"}
    known = {s.id: s.kind for s in spans}
    assert all(known[s.parent] in ("run", "node", "cluster") for s in spans if s.parent)
    assert spans[0].attributes == {"left_out": 80 - kinds.count("cluster") - kinds.count("event")}
    while path.stat().st_size < 3700:
        with tracer.span("another run", "run"):
            pass
    size = path.stat().st_size
    for _ in range(3):
        with tracer.span("no room", "run"):
            pass
    assert path.stat().st_size <= 4000
    assert size <= 4000
    assert caplog.records == []


GOOD = b'{"type":"start","span":"s%d","name":"good","at":"2026-11-21T00:00:00+00:00","attributes":{}}\n'


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe\n",
        b"[]\n",
        b"null\n",
        b'{"type":"start","span":"x","name":5,"at":"no"}\n',
        b'{"type":"start","span":"x","name":"x","at":"2026-11-21T00:00:00"}\n',  # a time of no zone
        b'{"type":"start","span":7}\n',
        b'{"type":"end","span":"s1","at":[],"status":"strange","attributes":3}\n',
        b"[" * 100_000 + b"\n",
        b'{"span":' * 100_000 + b"\n",
        b'{"type":"start","span":"x","name":"x","mono":' + b"9" * 4000 + b',"at":[]}\n',
    ],
)
def test_a_damaged_file_reads_as_far_as_it_goes(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(GOOD % 1 + damage + b"\n" + GOOD % 2)
    trace = read_trace(path)
    assert "s2" in {s.id for s in trace.spans}
    assert (trace.torn_lines, trace.unread_bytes) == (1, 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(harmless(v)).encode()), max_size=6))
def test_whatever_stands_in_a_file_it_is_read_or_refused(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        path.write_bytes(b"\n".join([GOOD % 1, *lines, GOOD % 2]))
        assert {"s1", "s2"} <= {s.id for s in read_trace(path).spans}
        path.write_bytes(b"\n".join(lines))
        with contextlib.suppress(UsageError, StateError):
            read_trace(path)


def test_deep_attributes_are_made_shallow(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(GOOD.replace(b"{}", b'{"a":' * 900 + b"1" + b"}" * 900) % 1)
    (span,) = read_trace(path).spans
    assert len(str(span.attributes)) < 100


def test_a_huge_file_is_read_to_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caravan.runs.traces.LARGEST_TRACE", 1000)
    monkeypatch.setattr("caravan.runs.traces.LONGEST_LINE", 0)
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(GOOD % n for n in range(1000)))
    trace = read_trace(path)
    assert 5 < len(trace.spans) < 20
    assert trace.unread_bytes == path.stat().st_size - 1000
    assert trace.torn_lines <= 1


def test_a_trace_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trace"):
        read_trace(tmp_path / "none.jsonl")
    with pytest.raises(StateError, match="can't be read"):
        read_trace(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="is empty"):
        read_trace(tmp_path / "empty")
    (tmp_path / "noise").write_bytes(os.urandom(10_000) + b"\0")
    with pytest.raises(StateError, match="holds no record"):
        read_trace(tmp_path / "noise")


# Time


class SteppingClock(StepClock):
    """Its time of day jumps; its monotonic time does not."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped = timedelta()

    def now(self) -> datetime:
        return super().now() + self.stepped


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_step_of_the_clock_changes_no_duration(tmp_path: Path, hours: int) -> None:
    path, clock = tmp_path / "t.jsonl", SteppingClock()
    tracer = LocalTracer(path, run_id="r-1", clock=clock)
    with tracer.span("run", "run"):
        clock.sleep(1)
        with tracer.span("node", "node"):
            clock.sleep(2)
            clock.stepped = timedelta(hours=hours)
            clock.sleep(3)
            tracer.event("moment")
        clock.sleep(1)
    run, node, moment = read_trace(path).spans
    assert (run.seconds, run.offset_s, run.known_s) == (7, 0, 7)
    assert (node.seconds, node.offset_s, node.known_s) == (5, 1, 5)
    assert (moment.seconds, moment.offset_s, moment.known_s) == (None, 6, 0)


def test_what_was_cut_off_lasted_up_to_its_last_line(tmp_path: Path) -> None:
    path, clock = tmp_path / "t.jsonl", SteppingClock()
    tracer = LocalTracer(path, run_id="r-1", clock=clock)
    run, node = tracer.span("run", "run"), tracer.span("node", "node")
    run.__enter__()
    clock.sleep(2)
    node.__enter__()
    clock.stepped = -timedelta(days=1)
    clock.sleep(3)
    tracer.event("moment")
    found = read_trace(path).spans
    assert [(s.status, s.seconds, s.known_s) for s in found[:2]] == [("open", None, 5), ("open", None, 3)]
    assert {s.last_at for s in found[:2]} == {clock.now()}
    node.__exit__(None, None, None)
    run.__exit__(None, None, None)


def test_lines_without_a_monotonic_time_are_read_by_the_time_of_day(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    start = '{"type":"start","span":"%s","parent":%s,"name":"x","at":"2026-11-21T00:00:%02d+00:00"}\n'
    path.write_text(start % ("a", "null", 10) + start % ("b", '"a"', 25) + start % ("c", '"a"', 5))
    assert [(s.offset_s, s.known_s) for s in read_trace(path).spans] == [(0, 15), (15, 0), (0, 20)]


def test_a_circle_of_parents_is_no_endless_tree() -> None:
    spans = [SpanRecord(id=a, parent=b, name=a, started_at=START) for a, b in (("x", "y"), ("y", "x"), ("z", "z"))]
    assert [(depth, s.id) for depth, s in trace_tree(spans)] == [(0, "x"), (1, "y"), (0, "z")]


def test_no_tracing_is_a_tracer_too() -> None:
    tracer: Tracer = NullTracer()
    with tracer.span("a", "run", x=1) as span:
        span.set(y=2)
        tracer.event("b")
    assert tracer.url() is None
    assert isinstance(tracer, Tracer)
    tracer.close()


# Logging


@pytest.fixture
def clean_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("caravan")
    before, level = list(root.handlers), ours.level
    yield
    root.handlers[:] = before
    ours.setLevel(level)


@pytest.mark.usefixtures("clean_logging")
def test_logging_hides_secrets_and_is_set_up_once() -> None:
    stream = io.StringIO()
    setup_logging(stream=io.StringIO())
    setup_logging(verbose=True, secrets=[SECRET], stream=stream)
    logging.getLogger("caravan.x").debug("uses %s", SECRET)
    logging.getLogger("other").warning("HF_TOKEN=%s", "abcdefgh")
    logging.getLogger("other").info("chatter")
    assert stream.getvalue() == "DEBUG caravan.x: uses [masked]\nWARNING other: HF_TOKEN=[masked]\n"
    setup_logging(stream=stream)
    logging.getLogger("caravan.x").info("quiet")
    assert "quiet" not in stream.getvalue()


def test_importing_does_nothing(tmp_path: Path) -> None:
    script = "import observability, prompts, logging, sys; assert not logging.getLogger().handlers"
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment, timeout=60)
    assert list(tmp_path.iterdir()) == []
