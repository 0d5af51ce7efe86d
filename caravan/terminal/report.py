"""The command `report`: a run's report, as it was written at its end, or as it stands."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.results import PAGE, REPORT
from caravan.values.errors import StateError, UsageError
from caravan.values.reports import RunReport
from caravan.values.run import ENDED

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.run import RunRecord


def report(
    ctx: typer.Context,
    run: RunArgument,
    html: Annotated[bool, typer.Option("--html", help="As one HTML file with curves.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Show the HTML file in a browser.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there; .html and .htm mean HTML.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a run's report as Markdown or HTML, or open it in a browser.

    The report is written when a run ends; of one that has not ended it is made anew, as the run stands. On a terminal
    --html says where the file is; what is piped is the file itself.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    record = wiring.store().run(run)
    html = html or open_ or (output is not None and output.suffix.lower() in (".html", ".htm"))
    made = _Made(wiring, record)
    if output is not None:
        _write(output, made.text(html=html))
    path = output
    if path is None and (open_ or as_json or (html and terminal.stdout.isatty())):
        path = made.path(html=html)
    if open_ and path is not None:
        _show(terminal, path)
    if as_json:
        paths = {"report_path": made.kept(REPORT), "report_html_path": made.kept(PAGE)}
        shown = {name: str(kept) if kept else None for name, kept in paths.items()}
        terminal.document(
            {"run_id": record.id, "status": record.status.value, **shown, "output": str(output) if output else None}
        )
    elif path is not None:
        terminal.out(str(path))
    else:
        terminal.raw(made.text(html=html))


class _Made:
    """The report: the files that were written at the run's end, else made now, once."""

    def __init__(self, wiring: Wiring, record: RunRecord) -> None:
        self._wiring, self._record = wiring, record
        self._now: RunReport | None = None
        self._folder = wiring.folder(record.id)

    def kept(self, name: str) -> Path | None:
        """The file in the run's folder, where it is written."""
        path = self._folder.path / name
        return path if path.is_file() else None

    def text(self, *, html: bool) -> str:
        """The report as Markdown or HTML."""
        kept = self.kept(PAGE if html else REPORT) if self._record.status in ENDED else None
        if kept is None:
            made = self._make()
            return made.page if html else made.markdown
        try:
            return kept.read_text("utf-8", "replace")
        except OSError as error:
            raise StateError(f"The report {kept} can't be read ({error.strerror}).") from error

    def path(self, *, html: bool) -> Path:
        """Where the file is, in the run's folder; it is written there where it is not, or no longer holds."""
        name = PAGE if html else REPORT
        if self._record.status not in ENDED or self.kept(name) is None:
            self._folder.save_report(self._make())
        return self._folder.path / name

    def _make(self) -> RunReport:
        if self._now is None:
            from caravan.terminal.lookup import look_up

            seen = look_up(self._wiring, self._record)
            self._now = self._wiring.report(self._record, seen.state, seen.trace_url)
        return self._now


def _write(path: Path, text: str) -> None:
    """Write the file whole, in place of what is there. Raises UsageError where it can't be."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as stream:
                stream.write(text)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(
            f"{path} can't be written ({error.strerror}).", hint="Name a file in a folder that is there with --output."
        ) from error


def _show(terminal: Terminal, path: Path) -> None:
    import webbrowser

    try:
        there = webbrowser.open(path.absolute().as_uri())
    except webbrowser.Error:
        there = False
    if not there:
        terminal.err("No browser could be opened; the file is there.")
