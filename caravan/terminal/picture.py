"""A board as rows of a terminal: pure drawing at a given width, height and time.

Nothing is told by colour alone, and only the colours are used that can be read on light and on dark ground: red, green
and magenta of the terminal's own palette, and bold. No dim text: it vanishes on one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from caravan.terminal.board import AXES, figure, is_number, nodes_of
from caravan.terminal.sparkline import sparkline
from caravan.terminal.text import one_line, words
from caravan.values.amounts import duration, money
from caravan.values.record import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from caravan.terminal.board import Board
    from caravan.values.base import Json
    from caravan.values.run import Snapshot

GOOD: Final = "green"
BAD: Final = "red"
ACCENT: Final = "magenta"
NAME: Final = "bold"

_LABEL: Final = 10  # columns of the names before the values
_LOG_LINES: Final = 8
_WIDEST_SPARK: Final = 72
_BAR: Final = 24


@dataclass(frozen=True)
class Glyphs:
    """The signs of a picture: those of Unicode, or of ASCII where the terminal's encoding has no others."""

    ascii_only: bool = False

    def __call__(self, sign: str, plain: str) -> str:
        """The sign, or what stands for it."""
        return plain if self.ascii_only else sign

    def spinner(self, seconds: float) -> str:
        """The turning sign at a time."""
        frames = "|/-\\" if self.ascii_only else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        return frames[int(seconds * 8) % len(frames)]


def board_rows(board: Board, now: datetime, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """The board in at most `height` rows of at most `width` columns."""
    rows = [_head(board, now, glyphs)]
    if board.watching:
        rows += _facts(board, now, width, glyphs)
        rows = rows[:height]
        room = min(_LOG_LINES, height - len(rows))
        lines = list(board.lines)[-room:] if room > 0 else []
        rows += [_log_row(stream, line, glyphs) for stream, line in lines]
    for row in rows:
        row.no_wrap = True
        row.truncate(max(1, width), overflow="crop" if glyphs.ascii_only else "ellipsis")
    return rows[: max(1, height)]


def _head(board: Board, now: datetime, glyphs: Glyphs) -> Text:
    row = Text.assemble((f"{glyphs.spinner(now.timestamp())} ", ACCENT))
    if board.title:
        row.append(f"{board.title} ", style=NAME)
    row.append(board.doing, style=NAME)
    if board.attempt and board.watching:
        row.append(f" {glyphs('·', '-')} attempt {board.attempt} of {board.attempts}")
    since = (now - board.node_since).total_seconds() if board.node_since else 0.0
    if since >= 1 and not board.watching:
        row.append(f" {glyphs('·', '-')} {duration(int(since))}")
    return row


def _facts(board: Board, now: datetime, width: int, glyphs: Glyphs) -> list[Text]:
    rows = [_named("cluster", _cluster(board, now))]
    if board.snapshot is not None and board.running_s(now) is not None:
        rows.append(_named("time", _time(board, now, width, glyphs)))
        rows.append(_named("cost", Text(_cost(board, now))))
    if board.used:
        rows.append(_named("uses", Text(board.used)))
    name = board.metric()
    if name is not None:
        rows.append(_named(name, _metric(board, name, width, glyphs)))
        others = _others(board, name)
        if others:
            rows.append(_named("", Text(others)))
    return rows


def _named(name: str, value: Text) -> Text:
    label = one_line(name, _LABEL - 1)
    return Text.assemble("  ", (label.ljust(_LABEL), NAME), value)


def _cluster(board: Board, now: datetime) -> Text:
    snapshot = board.snapshot
    if snapshot is None:
        return Text("asking")
    style = {Phase.RUNNING: GOOD, Phase.GONE: BAD}.get(snapshot.phase, "")
    row = Text.assemble((snapshot.phase.value, style))
    nodes = nodes_of(snapshot)
    if nodes and snapshot.phase in (Phase.STARTING, Phase.RUNNING):
        row.append(f" on {nodes}")
    since = (now - board.phase_since).total_seconds() if board.phase_since else 0.0
    if snapshot.phase in (Phase.QUEUED, Phase.STARTING) and since >= 1:
        row.append(f" for {duration(int(since))}")
    if snapshot.reason:
        row.append(f": {one_line(snapshot.reason)}")
    return row


def _time(board: Board, now: datetime, width: int, glyphs: Glyphs) -> Text:
    ran, left = board.running_s(now) or 0.0, board.left_s(now)
    row = Text(_clock(ran))
    if left is None or not board.max_run_s:
        return row
    share = min(1.0, max(0.0, 1 - left / board.max_run_s))
    bar = min(_BAR, width - _LABEL - 44)
    if bar >= 8:
        done = round(share * bar)
        row.append(" ")
        row.append(glyphs("━", "=") * done, style=ACCENT)
        row.append(f"{glyphs('╌', '.') * (bar - done)} ")
    else:
        row.append(", ")
    row.append(f"{_clock(left)} left of {duration(board.max_run_s)}", style=BAD if share > 0.9 else "")
    return row


def _clock(seconds: float) -> str:
    """A running time to the second: `4:05`, `1:04:05`, `2 d 01:04:05`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02d}:{minute:02d}:{second:02d}"
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def _cost(board: Board, now: datetime) -> str:
    cost = board.cost_usd(now)
    if cost is None or board.usd_per_hour is None:
        before = f"; attempts before: {money(board.spent_usd)}" if board.spent_usd else ""
        return f"not known: this job has no known price{before}"
    return f"{money(cost)} so far, at {money(board.usd_per_hour)} per hour"


def _metric(board: Board, name: str, width: int, glyphs: Glyphs) -> Text:
    series = board.series[name]
    last = figure(series.last)
    row = Text.assemble((f"{last:<9}", "" if is_number(series.last) else BAD))
    low = series.lowest
    tail = f" lowest {figure(low)}" if low is not None and series.count > 1 and width >= 60 else ""
    room = min(_WIDEST_SPARK, width - 2 - _LABEL - max(9, len(last)) - len(tail) - 1)
    row.append(sparkline(series.values(), room, ascii_only=glyphs.ascii_only), style=ACCENT)
    row.append(tail)
    return row


def _others(board: Board, shown: str) -> str:
    names = sorted((n for n in board.series if n != shown), key=lambda n: (n.lower() not in AXES, n))
    return "  ".join(f"{one_line(n, 24)} {figure(board.series[n].last)}" for n in names)


def _log_row(stream: str, line: str, glyphs: Glyphs) -> Text:
    if stream == "stderr":
        return Text.assemble("  ", ("! ", f"bold {BAD}"), line)
    return Text.assemble("  ", (glyphs("│ ", "| "), ""), line)


def marked(mark: str, text: str | Text, width: int, *, style: str = "", indent: int = 0) -> list[Text]:
    """A text under a mark, wrapped to `width` with a hanging indent; very long words are broken."""
    from rich.console import Console

    body = Text(one_line(text)) if isinstance(text, str) else text
    before = " " * indent
    room = max(8, width - indent - 2)
    console = Console(width=room, color_system=None)
    rows = []
    for number, line in enumerate(body.wrap(console, room, overflow="fold")):
        line.rstrip()
        rows.append(Text.assemble(before, (mark if number == 0 else " ", style), " ", line))
    return rows or [Text.assemble(before, (mark, style))]


def phase_rows(snapshot: Snapshot, said: str, width: int, glyphs: Glyphs, title: str) -> list[Text]:
    """A job's new phase as a line that stays: `said` is the phase in words."""
    mark, style = glyphs("•", "*"), ""
    if snapshot.phase is Phase.ENDED:
        well = not snapshot.reason
        mark, style = (glyphs("✓", "+"), GOOD) if well else (glyphs("✗", "x"), BAD)
    elif snapshot.phase is Phase.GONE:
        mark, style = glyphs("✗", "x"), BAD
    prefix = f"{title} " if title else ""
    return marked(mark, f"{prefix}{snapshot.job_id} {said}", width, style=style)


def diff_rows(changed: Mapping[str, tuple[Json, Json]], width: int, glyphs: Glyphs, *, indent: int = 4) -> list[Text]:
    """What a repair changed, a field a row: path, before → after. Long values wrap below each other."""
    names = min(max((len(one_line(p)) for p in changed), default=0), max(12, width // 2))
    rows: list[Text] = []
    for path, (before, after) in changed.items():
        name, old, new = one_line(path), words(before), words(after)
        arrow = glyphs("→", "->")
        one = f"{name.ljust(names)}  {old} {arrow} {new}"
        if len(one) + indent <= width:
            row = Text(" " * indent + f"{name.ljust(names)}  ")
            row.append(old, style=BAD)
            row.append(f" {arrow} ")
            row.append(new, style=GOOD)
            rows.append(row)
            continue
        rows.append(Text(" " * indent + name))
        rows += marked("-", old, width, style=BAD, indent=indent + 2)
        rows += marked("+", new, width, style=GOOD, indent=indent + 2)
    return rows


def repair_rows(
    cause: str,
    repair: str,
    changed: Mapping[str, tuple[Json, Json]],
    width: int,
    glyphs: Glyphs,
) -> list[Text]:
    """A repair as a block that stays: the cause where it has not been said, what is done, the plan's changes."""
    rows = marked(glyphs("✗", "x"), f"Cause: {one_line(cause)}", width, style=BAD) if cause else []
    rows += marked(glyphs("↻", ">"), Text.assemble(("Repair: ", NAME), one_line(repair)), width, style=ACCENT)
    rows += diff_rows(changed, width, glyphs)
    return rows
