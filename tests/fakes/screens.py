"""A terminal's screen in memory: what a person would see of what was written (pyte emulates the terminal)."""

import io
from typing import Any

import pyte

from caravan.terminal.console import OurConsole


class Screen(io.StringIO):
    """A stream that is a terminal of `columns` × `rows`, whose lines that scrolled away are kept."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.Stream(self.screen)
        self.written: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self.written.append(text)
        self._stream.feed(text.replace("\r\n", "\n").replace("\n", "\r\n"))
        return len(text)

    def console(self, **options: Any) -> OurConsole:
        """A console on this screen."""
        return OurConsole(
            file=self,
            markup=False,
            emoji=False,
            highlight=False,
            force_terminal=True,
            color_system="standard",
            legacy_windows=False,
            width=self.screen.columns,
            height=self.screen.lines,
            **options,
        )

    def rows(self) -> list[str]:
        """What can be seen, without the empty rows at the bottom."""
        shown = [row.rstrip() for row in self.screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def everything(self) -> list[str]:
        """What scrolled away, then what can be seen."""
        gone = ["".join(line[x].data for x in range(self.screen.columns)).rstrip() for line in self.screen.history.top]
        return gone + self.rows()

    @property
    def cursor_seen(self) -> bool:
        """Whether the cursor is shown."""
        return not self.screen.cursor.hidden
