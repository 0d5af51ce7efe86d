"""The port Tracer that writes a run's local file and sends it to LangFuse beside the run, in a thread of its own.

The run never waits for LangFuse but at its end, as long as its patience allows: what is not taken by then is told once,
with the command that sends it later. The thread loads the libraries for sending, and knocks at LangFuse, when the run
begins: what is slow the first time is over before its end.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from caravan.ports import Clock, Span
from caravan.values.base import Json
from caravan.values.errors import CaravanError
from langfuse_access import LangfuseAccess, LangfuseError, LangfuseFault
from langfuse_patience import TRACE, Patience, waited_path
from observability import LocalTracer, trace_id
from sending import TraceSender, is_missing, place_of, push

if TYPE_CHECKING:
    from caravan.values.run import RunRecord

THREAD: Final = "caravan-traces"
_EVERY_S: Final = 3.0  # between two looks for new lines
_FIRST_S: Final = 0.25
"""Until the first look, and from then on twice as long each time: a run of a second has little left at its end."""
_LONGEST_PAUSE_S: Final = 120.0  # between two tries at a LangFuse that does not answer
_ANSWER_S: Final = 5.0
_log = logging.getLogger("caravan.trace")


class Page:
    """Where LangFuse shows a trace. The project's id is asked for once and kept in `folder`."""

    def __init__(self, access: LangfuseAccess, folder: Path) -> None:
        self._access = access
        self._file = folder / f"project-{place_of(access)}.json"

    def url(self, run_id: str) -> str:
        """The page of a run's trace; before the project's id is known one from which LangFuse leads there."""
        project = self._known()
        place = f"project/{project}/traces" if project else "trace"
        return f"{self._access.url}/{place}/{trace_id(run_id)}"

    def _known(self) -> str:
        try:
            told = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return ""
        found = told.get("project") if isinstance(told, dict) else None
        return found if isinstance(found, str) and found.replace("-", "").replace("_", "").isalnum() else ""

    def learn(self, ask: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        """Ask for the project's id where it is not known. Raises LangfuseError."""
        if self._known():
            return
        found = ask()
        if not found:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partly = self._file.with_suffix(f".{hashlib.sha256(found[0][0].encode()).hexdigest()[:8]}.partly")
            partly.write_text(json.dumps({"project": found[0][0]}), encoding="utf-8")
            partly.replace(self._file)
        except OSError:  # it is asked for again the next time
            return


class LangfuseTraces:
    """The traces of runs in one LangFuse project: sent beside a run, sent later, and where they are seen.

    `folder` keeps what is known of the project; `secrets` are values that leave nowhere; `content`: what models were
    asked and have said goes too.
    """

    def __init__(
        self, access: LangfuseAccess, folder: Path, *, clock: Clock, secrets: Sequence[str] = (), content: bool = False
    ) -> None:
        self._access, self._clock, self._content = access, clock, content
        self._secrets = (*secrets, access.public_key.get_secret_value(), access.secret_key.get_secret_value())
        self._page = Page(access, folder)

    def page(self, run_id: str) -> str:
        """The page of a run's trace."""
        return self._page.url(run_id)

    def is_missing(self, path: Path) -> bool:
        """Whether LangFuse lacks something of the trace at `path`, as far as is known here."""
        return is_missing(path, self._access)

    def live(
        self,
        local: LocalTracer,
        path: Path,
        record: RunRecord,
        now: Callable[[], RunRecord],
        wait: Callable[[Event, float], bool] | None = None,
    ) -> LiveTracer:
        """A tracer over the one that writes `path`. `now` reads the run at its end; `wait` is as LiveTracer has it."""
        opened = partial(self._sender, path, record)
        patience = Patience(self._clock, waited_path(path))
        return LiveTracer(local, record.id, self._page, opened, patience=patience, record=now, wait=wait)

    def push(self, path: Path, record: RunRecord) -> dict[str, Json]:
        """Send a trace that nobody works on, whole; what was sent is told, with the trace's page.

        Raises LangfuseError; StateError for a file that can't be read.
        """
        sender = self._sender(path, record, again=True)
        taken = push(sender, self._clock)
        with suppress(LangfuseError):  # the page is found without it too
            self._page.learn(sender.projects)
        told: dict[str, Json] = {"run_id": record.id, "spans": taken.spans, "scores": taken.scores}
        return told | {"rejected": taken.rejected, "why": taken.why, "trace_url": self.page(record.id)}

    def _sender(self, path: Path, record: RunRecord, *, again: bool = False) -> TraceSender:
        from langfuse_client import LangfuseClient

        return TraceSender(
            LangfuseClient(self._access),
            path,
            record,
            clock=self._clock,
            secrets=self._secrets,
            content=self._content,
            again=again,
        )


class LiveTracer:
    """The port Tracer over a `LocalTracer` whose lines go to LangFuse as they come.

    `open_sender` makes the sender, in the thread. `wait` waits for the thread at the end, so many seconds at most as
    the `patience` has left. `every_s`: seconds between two looks for new lines.
    """

    def __init__(
        self,
        local: LocalTracer,
        run_id: str,
        page: Page,
        open_sender: Callable[[], TraceSender],
        *,
        patience: Patience,
        record: Callable[[], RunRecord],
        wait: Callable[[Event, float], bool] | None = None,
        every_s: float = _EVERY_S,
    ) -> None:
        self._local, self._run_id, self._page = local, run_id, page
        self._open_sender, self._patience, self._record, self._wait = open_sender, patience, record, wait
        self._every_s = every_s
        self._stop, self._idle = Event(), Event()
        self._last: RunRecord | None = None
        self._problem: CaravanError | None = None
        self._told = False
        self._thread = Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def span(self, name: str, kind: str = "span", **attributes: Json) -> AbstractContextManager[Span]:
        """As the local tracer's."""
        return self._local.span(name, kind, **attributes)

    def event(self, name: str, **attributes: Json) -> None:
        """As the local tracer's."""
        self._local.event(name, **attributes)

    def url(self) -> str | None:
        """LangFuse's page of the trace."""
        return self._page.url(self._run_id)

    def close(self) -> None:
        """Let the thread send what is left, for as long as the run may wait for it; tell once what stays here."""
        self._local.close()
        if self._stop.is_set():
            return
        try:
            self._last = self._record()
        except CaravanError:  # the run was deleted meanwhile
            self._last = None
        self._stop.set()
        if not self._patience.wait(self._idle, TRACE, self._wait):
            self._tell(self._problem.message if self._problem else "LangFuse did not take it in time")
        elif self._problem is not None:
            self._tell(self._problem.message)

    def _tell(self, why: str) -> None:
        if self._told:
            return
        self._told = True
        _log.warning(
            "LangFuse does not have all of this run's trace: %s. Send it later: python main.py traces push %s",
            why.rstrip("."),
            self._run_id,
        )

    # In the thread

    def _run(self) -> None:
        pause, stopping = min(_FIRST_S, self._every_s), False
        try:
            sender = self._begin()
            while not stopping:
                stopping = self._stop.wait(pause)
                pause = self._look(sender, stopping=stopping, pause=pause)
                if pause < 0:
                    return
            if isinstance(self._problem, LangfuseError) and self._problem.fault is LangfuseFault.UNREACHABLE:
                self._look(sender, stopping=True, pause=pause)  # an idle connection may have been closed
        except CaravanError as error:  # the file can't be read, an address can't be used
            self._problem = error
        finally:
            self._idle.set()

    def _begin(self) -> TraceSender:
        """Do what takes long the first time: load libraries, open the connection. The first look tells what fails."""
        from otlp import load

        sender = self._open_sender()
        load()
        self._learn(sender)
        return sender

    def _learn(self, sender: TraceSender) -> None:
        with suppress(LangfuseError):  # the page is found without it too
            self._page.learn(partial(sender.projects, timeout_s=_ANSWER_S))

    def _look(self, sender: TraceSender, *, stopping: bool, pause: float) -> float:
        """Send what is new; how long to wait for the next look comes back, -1 where none would help."""
        try:
            if stopping and self._last is not None:
                sender.record = self._last
            taken = sender.send(live=not stopping, timeout_s=_ANSWER_S)
            self._problem = None
            if taken.rejected:
                self._tell(f"{taken.rejected} of its spans were refused ({taken.why})")
            if stopping:
                self._idle.set()  # the run waits for no more than this
            self._learn(sender)
            return min(pause * 2, self._every_s)
        except LangfuseError as error:
            self._problem = error
            if not error.is_passing:
                self._tell(error.message)
                return -1
            return min(max(pause * 2, self._every_s * 2, error.retry_after_s or 0.0), _LONGEST_PAUSE_S)
