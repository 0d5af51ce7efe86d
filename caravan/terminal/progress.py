"""What a person sees while the agent works: plain lines, or a live view on a terminal. It never raises.

Both implement the port Progress and are context managers around a stretch of work; while a person is asked, the live
view is closed. The live one is in `caravan.terminal.live`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from caravan.ports import Progress
from caravan.terminal.board import DOING, Board, figure, nodes_of, phase_words
from caravan.terminal.text import one_line, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from caravan.ports import Clock
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json
    from caravan.values.run import Phase, Snapshot

# A write to a terminal that went away, or to a closed stream; UnicodeError is a ValueError.
WRITE_ERRORS: Final = (OSError, ValueError)
_USED_EVERY_S: Final = 600.0  # between two lines of what the task uses, likewise
_METRICS_EVERY_S: Final = 60.0  # between two lines of metrics where nobody watches a terminal


class View(Progress, Protocol):
    """A Progress that is open during a stretch of work."""

    def __enter__(self) -> View:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""


def make_view(terminal: Terminal, clock: Clock, *, as_json: bool) -> View:
    """The live view on a terminal that can show it, else plain lines. Both on stderr."""
    return PlainProgress(terminal, clock) if as_json else make_views(terminal, clock, [""])[0]


def make_views(terminal: Terminal, clock: Clock, titles: Sequence[str]) -> list[View]:
    """A view for each title, together on one terminal."""
    from caravan.terminal.keys import in_foreground

    plain: list[View] = [PlainProgress(terminal, clock, title=title) for title in titles]
    if not terminal.stderr.isatty() or not in_foreground(terminal.stderr):
        return plain
    from caravan.terminal.console import console_on

    console = console_on(terminal.stderr)
    if console.is_dumb_terminal:
        return plain
    from caravan.terminal.live import LiveProgress, LiveScreen

    screen = LiveScreen(console, terminal.stdin)
    return [LiveProgress(screen, clock, title=title) for title in titles]


class PlainProgress:
    """Lines on stderr, each prefixed by its node, and by `title` where several runs are watched."""

    def __init__(self, terminal: Terminal, clock: Clock, *, title: str = "") -> None:
        self._terminal = terminal
        self._clock = clock
        self._board = Board(title=title)
        self._said: tuple[Phase, str, str] | None = None
        self._last_metrics = clock.monotonic()
        self._told = 0
        self._last_used = clock.monotonic()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def node(self, name: str, text: str = "") -> None:
        """The agent entered a node."""
        again = name == self._board.node
        if not again:
            self._metrics_now()
        self._board.enter(name, text, self._clock.now())
        if text or not again:  # a node that runs in several steps is told once
            self._line(text or DOING.get(name, ""))

    def snapshot(self, snapshot: Snapshot) -> None:
        """The cluster's word on the job, where it changed."""
        moved = self._board.see(snapshot, self._clock.now())
        if moved:
            self._metrics_now()
        now = (snapshot.phase, snapshot.reason, nodes_of(snapshot))
        if now != self._said:
            self._said = now
            self._line(f"{snapshot.job_id} {phase_words(snapshot)}")

    def log(self, stream: str, lines: Sequence[str]) -> None:
        """The task's lines, those of stderr marked by `!`."""
        for line in lines:
            self._line(f"{'!' if stream == 'stderr' else '|'} {line}")

    def attempt(
        self,
        number: int,
        limit: int,
        *,
        usd_per_hour: float | None,
        max_run_s: int | None,
        metric: str | None = None,
        spent_usd: float = 0.0,
    ) -> None:
        """Which attempt is watched."""
        self._board.begin(
            number, limit, usd_per_hour=usd_per_hour, max_run_s=max_run_s, metric=metric, spent_usd=spent_usd
        )
        self._said = None
        self._told = 0
        self.note(f"Attempt {number} of {limit}")

    def metrics(self, values: Mapping[str, float]) -> None:
        """A line of them at most once a minute: most of them stand in the task's lines anyway."""
        self._board.measure(values)
        if self._clock.monotonic() - self._last_metrics >= _METRICS_EVERY_S:
            self._metrics_now()

    def _metrics_now(self) -> None:
        name = self._board.metric()
        self._last_metrics = self._clock.monotonic()
        if name is None or self._board.series[name].count == self._told:
            return
        series = self._board.series[name]
        self._told = series.count
        lowest = f", lowest {figure(series.lowest)}" if series.lowest is not None and series.count > 1 else ""
        self._line(f"{name} {figure(series.last)} (value {series.count}{lowest})")

    def used(self, text: str) -> None:
        """Kept for the picture; a line of it each few minutes, where there are GPUs to look at."""
        self._board.used = one_line(text)
        if self._clock.monotonic() - self._last_used >= _USED_EVERY_S:
            self._last_used = self._clock.monotonic()
            self._line(f"uses {self._board.used}")

    def repair(self, cause: str, repair: str, changed: Mapping[str, tuple[Json, Json]]) -> None:
        """What is done about a failure; the cause was told when it was found."""
        del cause
        self.note(f"Repair: {repair}")
        for path, (before, after) in changed.items():
            self.note(f"  {path}: {words(before)} → {words(after)}")

    def note(self, text: str) -> None:
        """A line."""
        self._line(text)

    def _before(self) -> str:
        """What each line begins with."""
        return ""

    def _line(self, text: str) -> None:
        title = f"{self._board.title} " if self._board.title else ""
        with contextlib.suppress(*WRITE_ERRORS):
            self._terminal.err(f"{self._before()}{title}{self._board.node or 'run'}: {one_line(text)}")
