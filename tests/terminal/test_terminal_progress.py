"""Progress: plain lines and the live view, both harmless whatever the task writes and wherever stderr leads."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.agent.graph import NODES
from caravan.terminal.board import DOING
from caravan.terminal.console import OurConsole
from caravan.terminal.live import LiveProgress, LiveScreen
from caravan.terminal.progress import PlainProgress, View, make_view
from caravan.terminal.streams import Terminal
from caravan.values.run import Allocation, Phase, Snapshot
from tests.fakes.clock import FakeClock
from tests.fakes.wiring import nobody, printed


class TtyText(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(TtyText):
    def write(self, text: str, /) -> int:
        raise OSError(5, "Input/output error")


def snapshot(phase: Phase, reason: str = "") -> Snapshot:
    allocation = Allocation(id="1", name="a", group="g", node_name="node-1", client_status="running")
    return Snapshot(job_id="a01", at=FakeClock().now(), phase=phase, reason=reason, allocations=(allocation,))


def use(view: View) -> None:
    with view:
        view.node("analyze_codebase")
        view.note("3 files\x1b[2J read")
        view.node("verify_deployment")
        for seen in (snapshot(Phase.QUEUED, "no [red]room"), snapshot(Phase.RUNNING), snapshot(Phase.RUNNING)):
            view.snapshot(seen)
        view.log("stdout", [f"step {n}" for n in range(9)])
        view.log("stderr", ["\x1b]0;title\x07bad [bold]"])
    view.note("after")


def test_every_node_is_described() -> None:
    assert DOING.keys() == NODES.keys()


def test_a_node_that_runs_in_several_steps_is_told_once() -> None:
    terminal = nobody()
    view = make_view(terminal, FakeClock(), as_json=False)
    for name in ("evaluate", "evaluate", "diagnose", "evaluate"):
        view.node(name)
    assert printed(terminal)[1].splitlines().count(f"evaluate: {DOING['evaluate']}") == 2


def test_plain_lines_are_prefixed_by_their_node() -> None:
    terminal = nobody()
    use(make_view(terminal, FakeClock(), as_json=False))
    out, err = printed(terminal)
    assert out == ""
    lines = err.splitlines()
    assert lines[:2] == ["analyze_codebase: reading the repository", "analyze_codebase: 3 files read"]
    assert lines.count("verify_deployment: a01 running on node-1") == 1
    assert "verify_deployment: a01 queued: no [red]room" in lines
    assert "verify_deployment: | step 8" in lines
    assert "verify_deployment: ! bad [bold]" in lines


def test_live_view_on_a_terminal() -> None:
    stream = TtyText()
    console = OurConsole(file=stream, markup=False, emoji=False, highlight=False, force_terminal=True, width=80)
    view = LiveProgress(LiveScreen(console, refresh=False), FakeClock())
    use(view)
    shown = stream.getvalue()
    for text in ("watching the job", "3 files read", "a01 queued: no [red]room", "step 8", "bad [bold]", "after\n"):
        assert text in shown, text
    assert "title" not in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("as_json", [False, True])
def test_which_view(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(io.StringIO(), io.StringIO(), TtyText())
    assert isinstance(make_view(terminal, FakeClock(), as_json=as_json), PlainProgress if as_json else LiveProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_view(terminal, FakeClock(), as_json=False), PlainProgress)


def test_a_terminal_that_went_away_stops_nothing() -> None:
    use(PlainProgress(Terminal(io.StringIO(), io.StringIO(), Gone()), FakeClock()))
    use(LiveProgress(LiveScreen(OurConsole(file=Gone(), force_terminal=True, width=80), refresh=False), FakeClock()))
    closed = io.StringIO()
    closed.close()
    use(PlainProgress(Terminal(io.StringIO(), io.StringIO(), closed), FakeClock()))


def test_plain_metrics_come_once_a_minute_and_at_each_change_of_phase() -> None:
    terminal, clock = nobody(), FakeClock()
    view = make_view(terminal, clock, as_json=False)
    view.node("verify_deployment")
    view.attempt(1, 3, usd_per_hour=None, max_run_s=None)
    view.snapshot(snapshot(Phase.RUNNING))
    for step in range(100):
        view.metrics({"step": step, "loss": 10.0 - step})
        clock.sleep(1.3)
    view.snapshot(snapshot(Phase.ENDED))
    view.node("evaluate")
    lines = [line for line in printed(terminal)[1].splitlines() if ": loss" in line]
    assert lines == [
        "verify_deployment: loss -37 (value 48, lowest -37)",
        "verify_deployment: loss -84 (value 95, lowest -84)",
        "verify_deployment: loss -89 (value 100, lowest -89)",
    ]


def test_plain_lines_of_a_repair_and_of_one_run_among_several() -> None:
    terminal = nobody()
    view = PlainProgress(terminal, FakeClock(), title="aaaa1111")
    view.repair("too big", "less", {"a.b": (1, None)})
    assert printed(terminal)[1].splitlines() == [
        "aaaa1111 run: Repair: less",
        "aaaa1111 run: a.b: 1 → -",
    ]


@settings(deadline=None)
@given(st.text(), st.lists(st.text()))
def test_nothing_raises_and_no_control_character_gets_through(text: str, lines: list[str]) -> None:
    terminal = nobody()
    view = make_view(terminal, FakeClock(), as_json=True)
    with view:
        view.node(text)
        view.note(text)
        view.snapshot(snapshot(Phase.QUEUED, text))
        view.log("stdout", lines)
    assert "\x1b" not in printed(terminal)[1]
