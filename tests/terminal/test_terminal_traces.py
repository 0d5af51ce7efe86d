"""`traces`: the order of time, the tree's picture at every width, the document, and damaged files."""

import io
import json
import unicodedata
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from caravan.runs.timeline import Step, Timeline, timeline
from caravan.runs.traces import read_trace
from caravan.terminal.app import run
from caravan.terminal.trace_rows import details, slowest_rows, took_words, tree_rows
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.run import RunRecord, RunRequest, RunStatus
from caravan.values.trace import SpanRecord, Trace
from observability import LocalTracer
from tests.agent.test_loop import World
from tests.fakes.clock import FakeClock
from tests.fakes.wiring import FakeWiring, nobody, person, printed


class GraphInterrupt(Exception):
    """Named as the graph library names its own."""


class Scene:
    """A run's trace as the tracer writes it, by a clock that the test moves; also the time of day alone can step."""

    def __init__(self, home: Path) -> None:
        self.path = home / "traces" / "abc12345.jsonl"
        self.passed, self.stepped = 0.0, 0.0
        self.clock = FakeClock()
        self.now, self.clock.now = self.clock.now, self._now  # type: ignore[method-assign]
        self.tracer = LocalTracer(self.path, run_id="abc12345", clock=self.clock)

    def _now(self) -> Any:
        return self.now() + timedelta(seconds=self.stepped)

    def sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    def drive(self, *nodes: str, asks: str = "", each: float = 1.0) -> None:
        """One drive through nodes that take a second each; the last may ask a person."""
        with self.tracer.span("run", "run"):
            for node in nodes:
                self.node(node, each, asks if node == nodes[-1] else "")

    def node(self, name: str, seconds: float, asks: str = "") -> None:
        try:
            with self.tracer.span(name, "node") as span:
                self.sleep(seconds)
                if asks:
                    span.set(waiting=True, asks=[asks])
                    raise GraphInterrupt
        except GraphInterrupt:
            pass

    def killed_in(self, name: str, seconds: float) -> None:
        """A drive whose process dies in a node, some seconds after it wrote its last line."""
        lines = self.path.read_bytes() if self.path.exists() else b""
        with self.tracer.span("run", "run"), self.tracer.span(name, "node"):
            self.sleep(seconds)
            self.tracer.event("last sign of life")
            lines = self.path.read_bytes()
        self.path.write_bytes(lines)

    def line(self, *, driven: bool = False, waits: bool = False) -> Timeline:
        return timeline(read_trace(self.path), self.clock.now(), driven=driven, waits=waits)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def told(line: Timeline, depth: int = 2) -> list[tuple[int, str, float | None, str]]:
    return [
        (level, s.name, s.seconds if s.seconds is None else round(s.seconds, 3), s.state.value)
        for level, s in line.walk()
        if level <= depth
    ]


# Time


def test_waiting_for_a_person_stands_apart_from_work(scene: Scene) -> None:
    scene.drive("analyze", "approve", asks="approval")
    scene.sleep(3600)
    scene.drive(each=0)  # somebody looked, and did not answer
    scene.sleep(60)
    scene.drive("approve", "deploy")
    line = scene.line()
    assert told(line) == [
        (1, "drive 1", 2, "asked"),
        (2, "analyze", 1, "ok"),
        (2, "approve", 1, "asked"),
        (1, "waiting for a person", 3660, ""),
        (1, "drive 2", 2, "ok"),
        (2, "approve", 1, "ok"),
        (2, "deploy", 1, "ok"),
    ]
    assert (line.seconds, line.working, line.waiting, line.idle) == (3664, 4, 3660, 0)
    waited = next(s for _, s in line.walk() if s.kind == "wait")
    assert waited.attributes == {"asks": ["approval"]}


def test_a_killed_run_shows_both_drives_and_what_was_cut_off(scene: Scene) -> None:
    scene.killed_in("verify", 30)
    scene.sleep(100)
    scene.drive("verify", each=5)
    line = scene.line()
    assert told(line) == [
        (1, "drive 1", 30, "cut off"),
        (2, "verify", 30, "cut off"),
        (1, "no sign of an agent", 100, ""),
        (1, "drive 2", 5, "ok"),
        (2, "verify", 5, "ok"),
    ]
    assert [s.at_least for _, s in line.walk() if s.name == "verify"] == [True, False]
    assert (line.waiting, line.idle) == (0, 100)


def test_what_goes_on_now_is_running(scene: Scene) -> None:
    scene.killed_in("verify", 30)
    scene.sleep(12)
    assert told(scene.line(driven=True)) == [(1, "drive 1", 42, "running"), (2, "verify", 42, "running")]
    assert told(scene.line()) == [(1, "drive 1", 30, "cut off"), (2, "verify", 30, "cut off")]


def test_an_open_question_is_waited_for_until_now(scene: Scene) -> None:
    scene.drive("approve", asks="approval")
    scene.sleep(50)
    assert told(scene.line(waits=True))[-1] == (1, "waiting for a person", 50, "waiting")
    assert len(told(scene.line())) == 2


@pytest.mark.parametrize("step", [-7200, 7200])
def test_steps_of_the_clock_give_no_negative_times(scene: Scene, step: float) -> None:
    with scene.tracer.span("run", "run"):
        scene.sleep(10)
        scene.stepped = step
        scene.node("verify", 10)
    scene.sleep(5)
    scene.drive("report")
    line = scene.line()
    # The time between two drives is right too: both its ends are read after the step.
    assert [s for _, _, s, _ in told(line)] == [20, 10, 5, 1, 1]
    scene.stepped = -step  # and between two drives nobody can know, but it does not go backwards
    scene.drive("report")
    line = scene.line()
    starts = [s.start for _, s in line.walk()]
    assert starts == sorted(starts)
    assert all((s.seconds or 0) >= 0 for _, s in line.walk())


def test_a_watch_shows_its_phases(scene: Scene) -> None:
    with scene.tracer.span("run", "run"), scene.tracer.span("watch", "cluster", job="caravan-abc12345-a01"):
        for phase, seconds in (("queued", 20), ("starting", 3), ("running", 7200), ("ended", 0)):
            scene.tracer.event("phase", phase=phase, reason="", node="gpu-1")
            scene.sleep(seconds)
    assert told(scene.line(), 9)[2:] == [
        (3, "queued", 20, ""),
        (3, "starting", 3, ""),
        (3, "running", 7200, ""),
        (3, "ended", 0, ""),
    ]


def test_a_watch_that_was_cut_off_tells_how_far_it_had_come(scene: Scene) -> None:
    watch = scene.tracer.span("watch", "cluster", job="j")
    watch.__enter__()
    scene.tracer.event("phase", phase="running")
    for minutes in (10, 20):
        scene.sleep(600)
        scene.tracer.event("watching", snapshots=minutes, reason="")
    line = scene.line()
    assert told(line) == [(1, "watch", 1200, "cut off"), (2, "running", 1200, "")]
    assert line.steps[0].attributes == {"job": "j", "snapshots": 20, "reason": ""}
    watch.__exit__(None, None, None)


def test_the_slowest_have_time_of_their_own(scene: Scene) -> None:
    with scene.tracer.span("run", "run"):
        scene.sleep(1)
        with scene.tracer.span("verify", "node"):
            scene.sleep(2)
            with scene.tracer.span("watch", "cluster"):
                scene.tracer.event("phase", phase="running")
                scene.sleep(10)
    assert [(s.name, s.own_seconds) for s in scene.line().slowest(2)] == [("watch", 10), ("verify", 2)]


def test_moments_outside_of_drives_are_shown(scene: Scene) -> None:
    scene.tracer.event("before all")
    scene.drive("analyze")
    assert told(scene.line())[:2] == [(1, "before all", None, ""), (1, "drive 1", 1, "ok")]


def test_a_real_run_that_asked_is_read_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    record = world.start(yes=False)
    tracer = LocalTracer(tmp_path / "trace.jsonl", run_id=record.id, clock=world.clock)
    ask, asked = world.drive(record, tracer=tracer), 0
    while isinstance(ask, Ask):
        asked += 1
        world.clock.sleep(3600)
        reply = Reply() if ask.kind is AskKind.QUESTIONS else Reply(approved=True)
        ask = world.drive(record, reply, tracer=tracer)
    line = timeline(read_trace(tmp_path / "trace.jsonl"), world.clock.now(), driven=False, waits=False)
    drives = [s for s in line.steps if s.kind == "run"]
    assert [s.state.value for s in drives] == ["asked"] * asked + ["ok"]
    assert (line.waiting, line.idle) == (3600 * asked, 0)
    assert [s.name for s in drives[-1].inside[-2:]] == ["report", "scored"]
    assert max(depth for depth, _ in line.walk()) >= 2


# The picture


def a_full_scene(scene: Scene) -> Timeline:
    try:
        with scene.tracer.span("run", "run"):
            with scene.tracer.span("fix_iteration", "node", attempt=1):
                scene.sleep(2)
                scene.tracer.event(
                    "repair", repair="change_plan", why="killed", before={"x.y": 1}, after={"x.y": 2, "z": [1]}
                )
            with (
                scene.tracer.span("deploy_job", "node", attempt=2),
                scene.tracer.span("register", "cluster", job="c-a02"),
            ):
                scene.sleep(0.25)
                raise ValueError("the cluster 测试 said " + "no " * 60)
    except ValueError:
        pass
    scene.sleep(9)
    scene.killed_in("测试" * 30, 61)
    return scene.line()


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("fancy", [True, False])
def test_times_stand_in_one_column(scene: Scene, width: int, fancy: bool) -> None:
    line = a_full_scene(scene)
    rows = [row.plain for row in tree_rows(line, width=width, fancy=fancy)]
    assert max(cell_len(row) for row in rows) <= width
    steps = [row for row in rows if row.rstrip().endswith(("ok", "failed", "cut off"))]
    assert len(steps) == 6
    ends = set()
    for row in steps:  # where the unit of the time ends, counted in cells
        words = row[: row.rindex("%") - 3] if "%" in row else row
        time = next(w for w in ("2.0 s", "250 ms", "2.2 s", "61 s", "1 min 01 s", "9.0 s") if w in words)
        ends.add(cell_len(row[: row.index(time) + len(time)]))
    assert len(ends) == 1
    assert all(row.isascii() for row in rows if "测" not in row) is (not fancy)


def test_the_tree_says_what_matters(scene: Scene) -> None:
    rows = [row.plain.rstrip() for row in tree_rows(a_full_scene(scene), width=100)]
    text = "\n".join(rows)
    assert rows[0].startswith("├─ drive 1  2026-01-02 03:04:05 UTC  process ")
    assert "│  ├─ fix_iteration  attempt 1 " in text
    assert "│  │  └─ repair  change_plan  killed" in text
    assert "│  │        x.y 1 → 2" in text
    assert "│  │        z - → 1" in text
    assert "│     └─ register  job a02 " in text
    assert text.count("! ValueError: the cluster") == 1  # told where it happened, not at every step around
    assert text.count(" failed") == 3
    assert "> 1 min 01 s" in text
    assert "cut off" in text


def test_the_depth_is_cut_and_said(scene: Scene) -> None:
    rows = [row.plain for row in tree_rows(a_full_scene(scene), width=100, depth=1)]
    assert len(rows) == 3 + 0
    assert "(+2 inside)" in rows[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "<1 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (192, "3 min 12 s"),
        (3599.6, "1 h"),
        (200_000, "2 d 8 h"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert took_words(seconds) == words


def test_a_generation_and_a_tool_fit_in() -> None:
    generation = {"model": "qwen", "input_tokens": 812, "output_tokens": 64}
    assert details(Step("1", "x", "generation", 0, 1, attributes=generation)) == "qwen  812 tokens in  64 tokens out"
    assert details(Step("2", "read_file", "tool", 0, 1, attributes={"path": "train.py"})) == "train.py"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(
    ["attempt", "job", "case", "cases", "asks", "before", "after", "reason", "phase", "left_out", "x"]
)
spans = st.builds(
    SpanRecord,
    id=st.sampled_from("abcdef"),
    parent=st.none() | st.sampled_from("abcdef"),
    name=st.text(max_size=30) | st.just("phase"),
    kind=st.sampled_from(["run", "node", "cluster", "event", "odd"]),
    started_at=st.datetimes(timezones=st.just(UTC)),
    last_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    status=st.sampled_from(["open", "ok", "error", "interrupted"]),
    error=st.text(max_size=300),
    attributes=st.dictionaries(keys, anything, max_size=4),
    offset_s=st.floats(0, 1e9),
    known_s=st.floats(0, 1e9),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(spans, max_size=6, unique_by=lambda s: s.id), st.integers(20, 200), st.booleans(), st.booleans())
def test_whatever_the_trace_its_picture_is_harmless(
    found: list[SpanRecord], width: int, driven: bool, waits: bool
) -> None:
    line = timeline(Trace(spans=tuple(found)), FakeClock().now(), driven=driven, waits=waits)
    assert len([s for _, s in line.walk() if s.kind != "wait"]) <= len(found)
    assert line.working >= 0 <= line.waiting
    for row in [*tree_rows(line, width=width), *slowest_rows(line, 3, width=width)]:
        assert not {unicodedata.category(c) for c in row.plain} & {"Cc", "Cs", "Zl", "Zp"}
        assert cell_len(row.plain) <= max(width, 60)


# The command


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def a_run(wiring: FakeWiring, status: RunStatus = RunStatus.SUCCEEDED) -> RunRecord:
    now = wiring.clock.now()
    request = RunRequest(prompt="Train it", source="/repo")
    record = RunRecord(id="abc12345", created_at=now, updated_at=now, request=request, status=status)
    wiring.runs.create_run(record)
    return record


def command(wiring: FakeWiring, *argv: str) -> tuple[int, str, str]:
    terminal = nobody()
    code = run(wiring, ["traces", *argv], terminal)
    return (code, *printed(terminal))


def test_the_command_draws_the_tree(wiring: FakeWiring, scene: Scene) -> None:
    a_run(wiring)
    scene.drive("analyze_codebase", "approve", asks="approval")
    scene.sleep(600)
    scene.drive("approve", "deploy_job")
    code, out, err = command(wiring, "abc")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == ("Run abc12345: succeeded; 10 min 04 s: 4.0 s at work, 10 min waiting for a person.")
    assert len(lines) == 8
    assert "waiting for a person  asks for approval" in lines[4]
    assert "99%" in lines[4]
    assert max(map(len, lines)) <= 120
    code, out, _ = command(wiring, "abc", "--depth", "1")
    assert len(out.splitlines()) == 4
    code, out, _ = command(wiring, "abc", "--slowest", "2")
    assert len(out.splitlines()) == 3
    assert command(wiring, "abc", "--depth", "0")[0] == 2


def test_a_terminal_of_ascii_gets_ascii(wiring: FakeWiring, scene: Scene) -> None:
    a_run(wiring)
    scene.drive("analyze_codebase", "x" * 300)
    terminal = person()
    raw = io.BytesIO()
    terminal.stdout = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace")
    assert run(wiring, ["traces", "abc"], terminal) == 0
    text = raw.getvalue().decode("ascii")
    assert "|- analyze_codebase" in text
    assert "\\u" not in text


def test_the_document_has_every_span(wiring: FakeWiring, scene: Scene) -> None:
    a_run(wiring, RunStatus.WAITING)
    scene.drive("analyze", "approve", asks="approval")
    scene.sleep(30)
    wiring.clock.sleep(32)
    code, out, _ = command(wiring, "abc", "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["run_id"], document["status"], document["path"]) == ("abc12345", "waiting", str(scene.path))
    assert (document["seconds"], document["working_seconds"], document["waiting_seconds"]) == (32, 2, 30)
    drive, analyze, approve, waiting = document["spans"]
    assert drive["parent"] is None
    assert (analyze["parent"], analyze["start"], analyze["seconds"], analyze["status"]) == (drive["id"], 0, 1, "ok")
    assert (approve["start"], approve["status"], approve["attributes"]["asks"]) == (1, "asked", ["approval"])
    assert (waiting["kind"], waiting["start"], waiting["seconds"], waiting["status"]) == ("wait", 2, 30, "waiting")
    assert len(json.loads(command(wiring, "abc", "--json", "--depth", "1")[1])["spans"]) == 2
    (slowest,) = json.loads(command(wiring, "abc", "--json", "--slowest", "1")[1])["spans"]
    assert slowest["own_seconds"] == 1


def test_what_is_missing_or_damaged_is_said_in_one_line(wiring: FakeWiring, scene: Scene) -> None:
    a_run(wiring)
    code, out, err = command(wiring, "abc")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "no trace" in err
    scene.path.parent.mkdir(exist_ok=True)
    scene.path.write_bytes(b"\0\xff" * 5000)
    code, out, err = command(wiring, "abc")
    assert (code != 0, out, len(err.splitlines())) == (True, "", 1)
    assert "damaged" in err
    scene.path.unlink()
    scene.drive("analyze")
    with scene.path.open("ab") as file:
        file.write(b'{"type":"start","span":"torn\n\xff\xff\n')
    code, out, err = command(wiring, "abc")
    assert (code, err) == (0, "2 torn or damaged lines were left out.\n")
    assert "analyze" in out
    document = json.loads(command(wiring, "abc", "--json")[1])
    assert document["left_out"] == {"steps": 0, "torn_lines": 2, "unread_bytes": 0}


def test_what_was_too_much_is_said(wiring: FakeWiring, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(wiring)
    monkeypatch.setattr("observability._DETAILS_UNTIL", 600)
    with scene.tracer.span("run", "run"):
        for _ in range(9):
            scene.tracer.event("moment")
    monkeypatch.setattr("caravan.runs.traces.LARGEST_TRACE", scene.path.stat().st_size - 1)
    monkeypatch.setattr("caravan.runs.traces.LONGEST_LINE", 1)
    code, _, err = command(wiring, "abc")
    assert code == 0
    assert "details were not written" in err
    with scene.path.open("ab") as file:
        file.write(b"\n" * 10_000)
    assert "were not read" in command(wiring, "abc")[2]


def test_the_result_names_the_trace(wiring: FakeWiring, scene: Scene) -> None:
    a_run(wiring)
    scene.drive("analyze")
    terminal = nobody()
    assert run(wiring, ["show", "abc", "--json"], terminal) == 0
    assert json.loads(printed(terminal)[0])["trace_url"] == str(scene.path)
