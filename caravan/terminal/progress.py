"""What a person sees while the agent works: plain lines, or a live view on a terminal. It never raises.

Both implement the port Progress and are context managers around a stretch of work; while a person is asked, the live
view is closed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from caravan.ports import Progress
from caravan.terminal.text import joined, one_line, words
from caravan.values.run import Phase, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

    from caravan.terminal.console import OurConsole
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json

DOING: Final = {
    "analyze_codebase": "reading the repository",
    "generate_questions": "looking for what only you can know",
    "collect_responses": "collecting answers",
    "recall": "recalling earlier cases",
    "make_plan": "making the plan",
    "estimate": "estimating memory, time and cost",
    "budget_gate": "holding the cost against the budget",
    "generate_spec": "writing the job",
    "validate_spec": "checking the job",
    "approve": "looking for approval",
    "deploy_job": "deploying the job",
    "verify_deployment": "watching the job",
    "evaluate": "looking at the result",
    "diagnose": "finding the cause",
    "fix_iteration": "mending the plan",
    "escalate": "handing over to you",
    "remember": "remembering what was learned",
    "report": "writing the report",
}
"""Node → what it does, for a person."""

# A write to a terminal that went away, or to a closed stream; UnicodeError is a ValueError.
_WRITE_ERRORS: Final = (OSError, ValueError)
_LOG_LINES: Final = 6


class View(Progress, Protocol):
    """A Progress that is open during a stretch of work."""

    def __enter__(self) -> View:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""


def make_view(terminal: Terminal, *, as_json: bool) -> View:
    """The live view on a terminal that can show it, else plain lines. Both on stderr."""
    if as_json or not terminal.stderr.isatty():
        return PlainProgress(terminal)
    from caravan.terminal.console import console_on

    console = console_on(terminal.stderr)
    return PlainProgress(terminal) if console.is_dumb_terminal else LiveProgress(console)


class _Changes:
    """Tells what is new in a snapshot, because the same one comes again every few seconds."""

    def __init__(self) -> None:
        self._last: tuple[Phase, str, str] | None = None

    def line(self, snapshot: Snapshot) -> str:
        """The snapshot in one line when it says something new, else nothing."""
        nodes = joined(sorted({a.node_name for a in snapshot.allocations if a.node_name}))
        now = (snapshot.phase, snapshot.reason, nodes)
        if now == self._last:
            return ""
        self._last = now
        where = f" on {nodes}" if nodes and snapshot.phase in (Phase.STARTING, Phase.RUNNING) else ""
        reason = f": {snapshot.reason}" if snapshot.reason else ""
        return one_line(f"{snapshot.job_id} {snapshot.phase.value}{where}{reason}")


class PlainProgress:
    """Lines on stderr, each prefixed by its node."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._node = "run"
        self._changes = _Changes()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def node(self, name: str, text: str = "") -> None:
        """The agent entered a node."""
        self._node = one_line(name)
        self._line(text or DOING.get(name, ""))

    def snapshot(self, snapshot: Snapshot) -> None:
        """The cluster's word on the job, where it changed."""
        line = self._changes.line(snapshot)
        if line:
            self._line(line)

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
        del usd_per_hour, max_run_s, metric, spent_usd
        self.note(f"Attempt {number} of at most {limit}")

    def metrics(self, values: Mapping[str, float]) -> None:
        """They stand in the lines."""

    def repair(
        self, cause: str, repair: str, changed: Mapping[str, tuple[Json, Json]], remembered: Sequence[str] = ()
    ) -> None:
        """What is done about a failure."""
        del cause, remembered
        self.note(f"Repair: {repair}")
        for path, (before, after) in changed.items():
            self.note(f"  {path}: {words(before)} → {words(after)}")

    def note(self, text: str) -> None:
        """A line."""
        self._line(text)

    def _line(self, text: str) -> None:
        with contextlib.suppress(*_WRITE_ERRORS):
            self._terminal.err(f"{self._node}: {one_line(text)}")


class LiveProgress:
    """A status line that says node and job phase, the task's last lines above it; notes stay on the screen."""

    def __init__(self, console: OurConsole, *, refresh: bool = True) -> None:
        self._console = console
        self._refresh = refresh
        self._changes = _Changes()
        self._live: Live | None = None
        self._spinner: Spinner | None = None
        self._doing = "starting"
        self._phase = ""
        # The refreshing thread reads these; they are replaced, never changed in place.
        self._lines: tuple[str, ...] = ()

    def __enter__(self) -> LiveProgress:
        from rich.live import Live
        from rich.spinner import Spinner

        self._spinner = Spinner("dots")
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            auto_refresh=self._refresh,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with contextlib.suppress(*_WRITE_ERRORS):
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(*_WRITE_ERRORS):
                live.stop()

    def node(self, name: str, text: str = "") -> None:
        """The agent entered a node."""
        self._doing = one_line(text) or DOING.get(name, name)
        if name != "verify_deployment":
            self._phase, self._lines = "", ()
        self._draw()

    def snapshot(self, snapshot: Snapshot) -> None:
        """The cluster's word on the job: kept as a line where it changed."""
        line = self._changes.line(snapshot)
        if line:
            self._phase = snapshot.phase.value
            self.note(line)

    def log(self, stream: str, lines: Sequence[str]) -> None:
        """The task's last lines, whichever stream they came from."""
        del stream
        self._lines = (*self._lines, *(one_line(line) for line in lines))[-_LOG_LINES:]
        self._draw()

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
        del usd_per_hour, max_run_s, metric, spent_usd
        self.note(f"Attempt {number} of at most {limit}")

    def metrics(self, values: Mapping[str, float]) -> None:
        """They stand in the lines."""

    def repair(
        self, cause: str, repair: str, changed: Mapping[str, tuple[Json, Json]], remembered: Sequence[str] = ()
    ) -> None:
        """What is done about a failure."""
        del cause, remembered
        self.note(f"Repair: {repair}")
        for path, (before, after) in changed.items():
            self.note(f"  {path}: {words(before)} → {words(after)}")

    def note(self, text: str) -> None:
        """A line that stays on the screen."""
        with contextlib.suppress(*_WRITE_ERRORS):
            self._console.print(one_line(text))

    def _draw(self) -> None:
        if self._live is not None and not self._refresh:
            with contextlib.suppress(*_WRITE_ERRORS):
                self._live.refresh()

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        lines = [Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in self._lines]
        status = Text(joined((self._doing, self._phase), " · "), no_wrap=True, overflow="ellipsis")
        if self._spinner is not None:
            self._spinner.update(text=status)
        return Group(*lines, self._spinner or status)
