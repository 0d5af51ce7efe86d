"""`logs` and `report`: what a run wrote down, from the copies in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import RunArgument, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import StateError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from caravan.terminal.streams import Terminal

_PIECE = 1 << 20  # bytes read at once
_PAUSE_S = 1.0  # between two looks at a log that grows


def logs(
    ctx: typer.Context,
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="The tasks' stderr in place of their stdout.")] = False,
) -> None:
    """Print the logs of a run's tasks."""
    from caravan.terminal.lookup import is_driven
    from caravan.values.run import ENDED

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    store = wiring.store()
    record = store.run(run)
    folder = wiring.folder(record.id)
    if follow and record.status not in ENDED and not is_driven(wiring, record):
        terminal.err(f"No agent works on run {record.id} now, so nothing new comes: `main.py resume {record.id}`.")
        follow = False
    printer = _LogPrinter(terminal, "stderr" if stderr else "stdout")
    while True:
        # Looked at before the logs are read: what was written before the end is then read too.
        ended = store.run(record.id).status in ENDED
        printer.print_new(folder.log_files())
        if ended or not follow:
            break
        wiring.clock.sleep(_PAUSE_S)
    if not printer.finish():
        terminal.err(f"Run {record.id} has no {printer.stream} yet.")


class _LogPrinter:
    """Prints whole lines of files that grow, each byte once."""

    def __init__(self, terminal: Terminal, stream: str) -> None:
        self.stream = stream
        self._terminal = terminal
        self._offsets: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}
        self._current: Path | None = None

    def print_new(self, files: tuple[Path, ...]) -> None:
        """Print what is new in the files of this stream."""
        for file in files:
            if f".{self.stream}." in file.name:
                self._print_file(file)

    def finish(self) -> bool:
        """Print last lines without a break; whether anything was there."""
        for file, rest in self._rest.items():
            if rest:
                self._head(file)
                self._terminal.raw(rest.decode("utf-8", "replace"))
        self._terminal.stdout.flush()
        return bool(self._offsets)

    def _print_file(self, file: Path) -> None:
        try:
            with file.open("rb") as stream:
                stream.seek(self._offsets.get(file, 0))
                while piece := stream.read(_PIECE):
                    self._offsets[file] = self._offsets.get(file, 0) + len(piece)
                    whole, _, self._rest[file] = (self._rest.get(file, b"") + piece).rpartition(b"\n")
                    if whole:
                        self._head(file)
                        self._terminal.raw(whole.decode("utf-8", "replace"))
        except OSError as error:
            raise StateError(f"The log {file} can't be read ({error.strerror}).") from error
        self._terminal.stdout.flush()

    def _head(self, file: Path) -> None:
        """Say on stderr which file follows, so that what is piped is the log alone."""
        if file != self._current:
            self._current = file
            self._terminal.stdout.flush()
            self._terminal.err(f"==> {one_line(file.name)}")


def report(ctx: typer.Context, run: RunArgument) -> None:
    """Print a run's report (Markdown)."""
    from caravan.terminal.results import REPORT

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    record = wiring.store().run(run)
    path = wiring.folder(record.id).path / REPORT
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError as error:
        raise UsageError(
            f"Run {record.id} has no report yet ({record.status.value}).",
            hint=f"`main.py show {record.id}` tells more.",
        ) from error
    except OSError as error:
        raise StateError(f"The report {path} can't be read ({error.strerror}).") from error
    terminal.raw(text)
