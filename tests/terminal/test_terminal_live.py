"""The live view on an emulated terminal: what is on the screen, what stays, and that nothing is left over."""

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from caravan.terminal.board import Board
from caravan.terminal.live import LiveProgress, LiveScreen
from caravan.terminal.picture import Glyphs, board_rows, repair_rows
from caravan.terminal.region import Region, Row
from caravan.values.run import Allocation, Phase, Snapshot, TaskEvent, TaskState
from tests.fakes.clock import FakeClock
from tests.fakes.screens import Screen

SIZES = [(80, 24), (160, 40), (40, 10)]


def live(screen: Screen, clock: FakeClock, **options: Any) -> LiveProgress:
    return LiveProgress(LiveScreen(screen.console(**options), refresh=False), clock)


def snapshot(clock: FakeClock, phase: Phase, reason: str = "", *, job: str = "a01", since_s: float = 0) -> Snapshot:
    if phase is Phase.QUEUED:
        return Snapshot(job_id=job, at=clock.now(), phase=phase, reason=reason)
    began = clock.now() - timedelta(seconds=since_s)
    task = TaskState(
        name="train",
        state="dead" if phase is Phase.ENDED else "running",
        started_at=None if phase is Phase.STARTING else began,
        finished_at=clock.now() if phase is Phase.ENDED else None,
        events=(TaskEvent(type="Received", at=began),),
    )
    alloc = Allocation(id="1", name="a", group="g", node_name="gpu-node-1", client_status="running", tasks=(task,))
    return Snapshot(job_id=job, at=clock.now(), phase=phase, reason=reason, allocations=(alloc,))


def train(view: LiveProgress, clock: FakeClock) -> None:
    """Up to the middle of a training."""
    view.node("analyze_codebase")
    view.note("3 files read")
    view.node("verify_deployment")
    view.attempt(2, 3, usd_per_hour=3.6, max_run_s=7200, metric=None, spent_usd=1.0)
    view.snapshot(snapshot(clock, Phase.QUEUED, "group: memory (2 nodes)"))
    clock.sleep(60)
    view.snapshot(snapshot(clock, Phase.RUNNING))
    clock.sleep(600)
    view.snapshot(snapshot(clock, Phase.RUNNING, since_s=600))
    for step in range(50):
        view.metrics({"step": step, "loss": 5 - step / 20, "lr": 1e-4})
        view.log("stdout", [f"step {step} loss {5 - step / 20}"])
    view.log("stderr", ["a warning " * 40])


@pytest.mark.parametrize("size", SIZES)
def test_all_that_is_known_is_on_the_screen(size: tuple[int, int]) -> None:
    screen, clock = Screen(*size), FakeClock()
    view = live(screen, clock)
    with view:
        train(view, clock)
        shown = screen.rows()
        assert not screen.cursor_seen
    text = "\n".join(shown)
    for wanted in ("attempt 2 of 3", "running on gpu-node-1", "10:00", "1.60 USD so far", "2.55", "step 49"):
        assert wanted in text, wanted
    if size[0] >= 80:
        assert "1:50:00 left of 2 h" in text
        assert "lowest 2.55" in text
        assert "a01 queued: group: memory (2 nodes)" in text
    assert any(row.startswith("  ! a warning") and row.endswith("…") for row in shown)
    assert any("│ step 4" in row for row in shown)
    assert all(cell_len(row) < size[0] for row in shown)
    assert sum("watching the job" in row for row in shown) == 1
    assert screen.cursor_seen
    assert not any("watching the job" in row or "USD so far" in row for row in screen.everything())


def test_what_happened_stays_when_the_view_closes() -> None:
    screen, clock = Screen(), FakeClock()
    view = live(screen, clock)
    with view:
        train(view, clock)
        view.snapshot(snapshot(clock, Phase.ENDED, "train: out of memory (exit code 137)", since_s=600))
        view.node("diagnose")
        view.note("Cause: The task was killed.")
        view.node("fix_iteration")
        view.repair("The task was killed.", "more memory", {"resources.memory_mb": (256, 512)})
    view.note("after")
    lines = screen.everything()
    assert lines == [
        "· 3 files read",
        "▸ Attempt 2 of 3",
        "• a01 queued: group: memory (2 nodes)",
        "• a01 running on gpu-node-1 after 60 s",
        "✗ a01 ended after 10 min: train: out of memory (exit code 137)",
        "· Cause: The task was killed.",
        "↻ Repair: more memory",
        "    resources.memory_mb  256 → 512",
        "· after",
    ]


def test_a_cause_that_was_not_said_is_in_the_block() -> None:
    rows = repair_rows("Too big.", "less", {"a.b": ([1, 2], {"x": None})}, 60, Glyphs(ascii_only=True))
    assert [row.plain for row in rows] == ["x Cause: Too big.", "> Repair: less", "    a.b  1, 2 -> x=-"]
    rows = repair_rows("", "less", {"a.b": ("o" * 50, "n" * 50)}, 40, Glyphs())
    assert [row.plain for row in rows] == [
        "↻ Repair: less",
        "    a.b",
        "      - " + "o" * 32,
        "        " + "o" * 18,
        "      + " + "n" * 32,
        "        " + "n" * 18,
    ]


def test_watching_again_says_nothing_twice() -> None:
    screen, clock = Screen(), FakeClock()
    view = live(screen, clock)
    for _ in range(2):
        with view:
            view.node("verify_deployment")
            view.attempt(1, 3, usd_per_hour=None, max_run_s=None)
            view.snapshot(snapshot(clock, Phase.RUNNING))
            view.metrics({"loss": 1.0})
            assert "not known" in "\n".join(screen.rows())
            assert "▄" in "\n".join(screen.rows())
    assert screen.everything() == ["▸ Attempt 1 of 3", "• a01 running on gpu-node-1"]


def test_only_what_changed_is_written() -> None:
    screen, clock = Screen(), FakeClock()
    view = live(screen, clock)
    with view:
        train(view, clock)
        screen.written.clear()
        view.metrics({"lr": 1e-4})
        assert screen.written == []  # nothing on the screen is different
        clock.sleep(1)
        view.metrics({"lr": 1e-4})
        written = "".join(screen.written)
        assert "\x1b[2K" not in written
        assert "\x1b[J" not in written
        assert "a warning" not in written


def test_colours_are_those_that_can_be_read_on_any_ground() -> None:
    screen, clock = Screen(), FakeClock()
    with live(screen, clock) as view:
        train(view, clock)
        view.repair("c", "r", {"a": (1, 2)})
        used = {(cell.fg, cell.bg) for line in screen.screen.buffer.values() for cell in line.values()}
        assert {fg for fg, _ in used} <= {"default", "red", "green", "magenta"}
        assert {bg for _, bg in used} == {"default"}
    assert "\x1b[2m" not in "".join(screen.written)
    screen = Screen()
    with live(screen, clock, no_color=True) as view:
        train(view, clock)
        used = {(cell.fg, cell.bg) for line in screen.screen.buffer.values() for cell in line.values()}
        assert used == {("default", "default")}
        assert any(row.startswith("  ! a warning") for row in screen.rows())


def test_a_loss_that_is_no_number_is_shown_as_it_is() -> None:
    board, clock = Board(), FakeClock()
    board.enter("verify_deployment", "", clock.now())
    board.begin(1, 3, usd_per_hour=None, max_run_s=None, metric=None, spent_usd=0)
    for value in (3.0, 2.0, math.nan):
        board.measure({"loss": value})
    text = "\n".join(row.plain for row in board_rows(board, clock.now(), 79, 20, Glyphs()))
    assert "nan" in text
    assert "█▁×" in text
    assert "lowest 2" in text


def test_what_the_task_uses_is_a_row_until_another_attempt_begins() -> None:
    board, clock = Board(), FakeClock()
    board.enter("verify_deployment", "", clock.now())
    board.used = "GPU 0 61.2 of 80 GiB 97 %, host 12.0 GiB"
    rows = [row.plain for row in board_rows(board, clock.now(), 79, 20, Glyphs())]
    assert "  uses      GPU 0 61.2 of 80 GiB 97 %, host 12.0 GiB" in rows
    board.begin(2, 3, usd_per_hour=None, max_run_s=None, metric=None, spent_usd=0)
    assert not any("uses" in row.plain for row in board_rows(board, clock.now(), 79, 20, Glyphs()))


def test_the_plans_metric_is_drawn() -> None:
    board = Board()
    board.measure({"step": 1, "loss": 1.0, "eval/accuracy": 0.5})
    assert board.metric() == "loss"
    board.target = "eval/accuracy"
    assert board.metric() == "eval/accuracy"
    other = Board()
    other.measure({"epoch": 1, "lr": 0.1})
    assert other.metric() is None
    other.measure({"my_loss": 1})
    assert other.metric() == "my_loss"


def test_an_endless_task_fills_no_memory() -> None:
    board = Board()
    for n in range(500):
        board.measure({f"loss_{n}": n})
        board.hear("stdout", ["x" * 100_000])
    assert len(board.series) <= 32
    assert sum(len(line) for _, line in board.lines) < 10_000


# Anything a task may write: escape sequences, wide and combining characters, words without an end.
nasty = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\r\t\n\x9b漢字🚀́")), max_size=300)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), nasty), max_size=6), nasty, st.sampled_from(SIZES))
def test_nothing_breaks_the_picture(lines: list[tuple[str, str]], note: str, size: tuple[int, int]) -> None:
    screen, clock = Screen(*size), FakeClock()
    view = live(screen, clock)
    with view:
        view.node("verify_deployment")
        view.attempt(1, 3, usd_per_hour=1.0, max_run_s=60)
        view.snapshot(snapshot(clock, Phase.RUNNING, note))
        for stream, line in lines:
            view.log(stream, [line])
        view.metrics({note: 1.0, "loss": 2.0})
        assert sum("attempt 1 of 3" in row for row in screen.rows()) == 1
    assert not any("watching the job" in row for row in screen.everything() if "Attempt" not in row)
    assert screen.cursor_seen
    view.note(note)
    assert not any(ord(c) < 32 for row in screen.everything() for c in row)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=8), st.lists(st.integers(0, 30), max_size=5)), max_size=8)
)
def test_rows_are_drawn_in_place(pictures: list[tuple[list[int], list[int]]]) -> None:
    screen = Screen(40, 12)
    region, kept = Region(screen), []
    region.open()
    for rows, above in pictures:
        lines = [f"above {n}" for n in above]
        drawn = [f"row {n} " + "x" * n for n in rows]
        region.draw([Row(text, len(text)) for text in drawn], 40, lines)
        kept += lines
        assert screen.everything() == [*kept, *(row.rstrip() for row in drawn)]
    region.close()
    assert screen.everything() == kept


def test_a_terminal_that_became_narrower_leaves_nothing_behind() -> None:
    """The terminal wraps what is too long: 3 rows of 60 columns are 6 of 40, and the first of them is found again."""
    screen = Screen(40, 12)
    region = Region(screen)
    region.open()
    screen.write("before\r\n")
    screen.written.clear()
    region._rows, region._width = [Row("a" * 60, 60), Row("b" * 60, 60), Row("c", 1)], 80
    screen.write("a" * 60 + "\r\n" + "b" * 60 + "\r\nc\r")  # as it wraps them
    region.draw([Row("new", 3)], 40)
    assert screen.rows() == ["before", "new"]


def test_several_runs_share_the_terminal() -> None:
    screen, clock = Screen(80, 24), FakeClock()
    both = LiveScreen(screen.console(), refresh=False)
    first, second = LiveProgress(both, clock, title="aaaa1111"), LiveProgress(both, clock, title="bbbb2222")
    with first:
        with second:
            train(first, clock)
            second.node("make_plan")
            text = "\n".join(screen.rows())
            assert "aaaa1111 watching the job" in text
            assert "bbbb2222 making the plan" in text
            assert "aaaa1111 a01 running on gpu-node-1" in text
            assert not screen.cursor_seen
        first.log("stdout", ["still here"])
        assert "still here" in "\n".join(screen.rows())
        assert "bbbb2222" not in "\n".join(screen.rows())
    assert screen.cursor_seen
