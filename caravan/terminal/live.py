"""The live view: boards of runs at the bottom of a terminal, what has happened above them in the scrollback.

The agent's thread only changes boards and hands over lines; a thread of the screen draws. So a terminal that is slow,
or held by Ctrl-S, does not hold the run up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from caravan.agent.signals import undisturbed
from caravan.terminal.board import Board, phase_words
from caravan.terminal.console import painter_for
from caravan.terminal.keys import in_foreground, silent_keys
from caravan.terminal.picture import ACCENT, NAME, Glyphs, board_rows, marked, phase_rows, repair_rows
from caravan.terminal.progress import WRITE_ERRORS
from caravan.terminal.region import Region, Row
from caravan.terminal.text import joined, one_line
from caravan.values.amounts import duration
from caravan.values.run import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import TextIO

    from caravan.ports import Clock
    from caravan.terminal.console import OurConsole
    from caravan.values.base import Json
    from caravan.values.run import Snapshot

_TICK_S: Final = 0.125
_PATIENCE_S: Final = 2.0  # for a terminal that does not take what is written
_TALLEST: Final = 20
_NARROWEST: Final = 12


class LiveScreen:
    """The pictures of one or more boards on one terminal. `refresh`: a thread draws; else only what happens does."""

    def __init__(self, console: OurConsole, keyboard: TextIO | None = None, *, refresh: bool = True) -> None:
        self.console = console
        self.glyphs = Glyphs(ascii_only=console.options.ascii_only)
        self._keyboard = keyboard
        self._refresh = refresh
        self._boards: list[tuple[Board, Clock]] = []
        self._pending: list[Callable[[int], list[Text]]] = []
        self.lock = threading.RLock()  # of boards and of what is pending
        self._drawing = threading.Lock()
        self._region = Region(console.file)
        self._painter = painter_for(console)
        self._held = contextlib.ExitStack()
        self._depth = 0
        self._suspending: Any = None  # the handler of Ctrl-Z before ours
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, board: Board, clock: Clock) -> None:
        """Draw a board too, below the others."""
        with self.lock:
            self._boards.append((board, clock))
        self._depth += 1
        if self._depth > 1:
            return
        self._take_terminal()
        self._ended.clear()
        if self._refresh:
            if threading.current_thread() is threading.main_thread():
                self._suspending = signal.signal(signal.SIGTSTP, self._suspend)
            self._thread = threading.Thread(target=self._go_on, name="live view", daemon=True)
            self._thread.start()

    def close(self, board: Board) -> None:
        """Draw a board no more; one that is not drawn is no error.

        After the last one the terminal is as it was, with all lines that were handed over.
        """
        if all(other is not board for other, _ in self._boards):
            return
        with self.lock:
            self._boards = [(other, clock) for other, clock in self._boards if other is not board]
        self._depth -= 1
        if self._depth > 0:
            return
        if self._suspending is not None:
            signal.signal(signal.SIGTSTP, self._suspending)
            self._suspending = None
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
            self._thread = None
        if self._drawing.acquire(timeout=_PATIENCE_S):
            try:
                with contextlib.suppress(*WRITE_ERRORS):
                    self._flush()
                    self._region.close()
            finally:
                self._drawing.release()
        self._held.close()

    def _take_terminal(self) -> None:
        if self._keyboard is not None:
            self._held.enter_context(silent_keys(self._keyboard))
        with contextlib.suppress(*WRITE_ERRORS):
            self._region.open()

    def _suspend(self, number: int, frame: object) -> None:
        """Ctrl-Z: give the terminal back to the shell as it was, and take it again when we are called back."""
        del frame
        with self._drawing:
            with contextlib.suppress(*WRITE_ERRORS):
                self._region.close()
            self._held.close()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)  # we stop here
            signal.signal(number, self._suspend)
            self._take_terminal()

    def put(self, block: Callable[[int], list[Text]]) -> None:
        """Lines for the scrollback, made for the width that the terminal then has."""
        with self.lock:
            self._pending.append(block)
        if self._depth == 0:
            with contextlib.suppress(*WRITE_ERRORS):
                for line in self._taken(self.console.size.width):
                    self.console.file.write(f"{line}\n")
                self.console.file.flush()
        else:
            self.changed()

    def changed(self) -> None:
        """Something is new: draw it now where no thread does."""
        if not self._refresh and self._depth:
            with contextlib.suppress(*WRITE_ERRORS):
                self.draw()

    def draw(self) -> None:
        """Draw everything as it is now. Raises what writing raises."""
        with self._drawing:
            self._flush()

    def _flush(self) -> None:
        width, height = self.console.size
        with self.lock:
            above = self._taken(width)
            rows = [self._row(text) for text in self._picture(width, height)]
        self._region.draw(rows, width, above)

    def _taken(self, width: int) -> list[str]:
        with self.lock:
            blocks, self._pending = self._pending, []
        return [self._row(text).text for block in blocks for text in block(_inner(width))]

    def _picture(self, width: int, height: int) -> list[Text]:
        count = max(1, len(self._boards))
        room = max(1, min(_TALLEST * count, height - 1) // count)
        rows = [
            row
            for board, clock in self._boards
            for row in board_rows(board, clock.now(), _inner(width), room, self.glyphs)
        ]
        return rows[: max(1, height - 1)]

    def _row(self, text: Text) -> Row:
        with self._painter.capture() as captured:
            self._painter.print(text, end="", soft_wrap=True)
        return Row(captured.get(), text.cell_len)

    def _go_on(self) -> None:
        with contextlib.suppress(*WRITE_ERRORS):
            while True:
                if self._keyboard is None or in_foreground(self._keyboard):
                    self.draw()
                if self._ended.wait(_TICK_S):
                    return


def _inner(width: int) -> int:
    """The last column stays empty: terminals differ in what happens after it."""
    return max(_NARROWEST, width - 1)


class LiveProgress:
    """The port Progress on a board of a live screen."""

    def __init__(self, screen: LiveScreen, clock: Clock, *, title: str = "") -> None:
        self._screen = screen
        self._clock = clock
        self._board = Board(title=title)
        self._said = ""
        self._reason = ""
        self._causes: set[str] = set()

    def __enter__(self) -> LiveProgress:
        # A Ctrl-C waits until the terminal is wholly ours, or wholly given back. One that ends the entering leaves an
        # open view: whoever catches it closes the view as after any other end.
        with undisturbed():
            self._screen.open(self._board, self._clock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with undisturbed():
            self._screen.close(self._board)

    def node(self, name: str, text: str = "") -> None:
        """The agent entered a node."""
        with self._screen.lock:
            self._board.enter(name, text, self._clock.now())
        self._screen.changed()

    def snapshot(self, snapshot: Snapshot) -> None:
        """The cluster's word on the job; that it moved on, or what holds it up, stays as a line."""
        now = self._clock.now()
        with self._screen.lock:
            since, before = self._board.phase_since, self._board.snapshot
            lasted = (now - since).total_seconds() if since and before and before.phase is not snapshot.phase else None
            if snapshot.phase is Phase.ENDED:
                lasted = self._board.running_s(now) or lasted
            moved = self._board.see(snapshot, now)
            held_up = snapshot.phase is not Phase.STARTING and snapshot.reason != self._reason
            self._reason = snapshot.reason
        if moved or (held_up and snapshot.reason):
            self._phase(snapshot, lasted)
        self._screen.changed()

    def _phase(self, snapshot: Snapshot, lasted: float | None) -> None:
        # What a task does while it starts changes often: that is for the picture alone.
        bare = snapshot.model_copy(update={"reason": ""}) if snapshot.phase is Phase.STARTING else snapshot
        said = phase_words(bare, duration(lasted) if lasted is not None and lasted >= 1 else "")
        title, glyphs = self._board.title, self._screen.glyphs
        self._screen.put(lambda width: phase_rows(snapshot, said, width, glyphs, title))

    def log(self, stream: str, lines: Sequence[str]) -> None:
        """The task's last lines."""
        with self._screen.lock:
            self._board.hear(stream, lines)
        self._screen.changed()

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
        """Which attempt is watched; said once, also when the watching is taken up again."""
        with self._screen.lock:
            again = number == self._board.attempt
            self._board.begin(
                number, limit, usd_per_hour=usd_per_hour, max_run_s=max_run_s, metric=metric, spent_usd=spent_usd
            )
        self._causes.clear()
        if not again:
            title, glyphs = self._board.title, self._screen.glyphs
            said = Text.assemble((joined((title, f"Attempt {number} of {limit}"), " "), NAME))
            self._screen.put(lambda width: marked(glyphs("▸", ">"), said, width, style=ACCENT))

    def metrics(self, values: Mapping[str, float]) -> None:
        """Figures for the sparkline."""
        with self._screen.lock:
            self._board.measure(values)
        self._screen.changed()

    def used(self, text: str) -> None:
        """What the task uses now, for the picture."""
        with self._screen.lock:
            self._board.used = one_line(text)
        self._screen.changed()

    def repair(self, cause: str, repair: str, changed: Mapping[str, tuple[Json, Json]]) -> None:
        """What is done about a failure, as a block that stays."""
        cause = "" if f"Cause: {cause}" in self._causes else cause
        glyphs = self._screen.glyphs
        self._screen.put(lambda width: repair_rows(cause, repair, changed, width, glyphs))

    def note(self, text: str) -> None:
        """A line that stays."""
        if text.startswith("Cause: "):
            self._causes.add(text)
        mark = self._screen.glyphs("·", "-")
        title = f"{self._board.title} " if self._board.title else ""
        self._screen.put(lambda width: marked(mark, f"{title}{text}", width))
