"""`logs` and `report`: what a run wrote down, from the copies in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import StateError, UsageError
from caravan.values.log_marks import without_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from caravan.terminal.lookup import LogOf
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.run import Purpose, RunRecord

_PIECE = 1 << 20  # bytes read at once
_PAUSE_S = 1.0  # between two looks at a log that grows


def logs(
    ctx: typer.Context,
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="The tasks' stderr in place of their stdout.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of one attempt only.")] = None,
    evaluation: Annotated[
        bool, typer.Option("--evaluation", help="The log of the job that evaluates the model, not the training's.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Begin with the last N lines.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the logs of a run's tasks.

    It is the training's log; where a job of its own evaluates the model, --evaluation prints that one's. Which task of
    which attempt follows is said on stderr, so that what is piped is the log alone. With --json the logs stand in one
    document, each with attempt, allocation and task.
    """
    from caravan.values.run import ENDED, Purpose

    if as_json and follow:
        raise UsageError("--follow prints without end, and --json one document.", hint="Leave one of them out.")

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    store = wiring.store()
    record = store.run(run)
    folder = wiring.folder(record.id)
    known = sum(d.purpose is Purpose.TRAIN for d in store.deployments(record.id))
    waits = follow and record.status not in ENDED
    if attempt is not None and attempt > known and not follow:
        raise UsageError(f"Run {record.id} has {known or 'no'} attempt{'' if known == 1 else 's'}.")
    if evaluation and not waits and _evaluation_job(wiring, record.id, attempt) is None:
        whose = f"Attempt {attempt} of run {record.id}" if attempt else f"Run {record.id}"
        raise UsageError(f"{whose} has no evaluation job. What its training evaluates itself is in the training's log.")
    purpose = Purpose.EVALUATE if evaluation else Purpose.TRAIN
    printer = _LogPrinter(wiring, terminal, record.id, "stderr" if stderr else "stdout", attempt, purpose)
    printer.collects = as_json
    if record.status not in ENDED and not folder.is_held() and attempt in (None, known):
        _print_from_cluster(wiring, terminal, record, printer, follow=follow, tail=tail)
    else:
        if tail is not None:
            printer.skip_to_last(folder.log_files(), tail)
        _print_copies(wiring, terminal, record.id, printer, follow=follow)
    there_is = printer.finish()
    if as_json:
        terminal.document({"run_id": record.id, "stream": printer.stream, "logs": printer.collected()})
        return
    if not there_is and tail != 0:
        other = "stdout" if stderr else "stderr"
        there = any(_has_lines(file) for file in printer.chosen(folder.log_files(), other))
        hint = f"; its {other} has lines ({'without' if stderr else 'with'} --stderr)" if there else ""
        whose = f"The evaluation of run {record.id}" if evaluation else f"Run {record.id}"
        terminal.err(f"{whose} has no {printer.stream} yet{hint}.")
    printer.point_at_evaluation()


def _evaluation_job(wiring: Wiring, run_id: str, attempt: int | None) -> str | None:
    """The id of the newest job that evaluates a model of the run, or of that attempt of it."""
    from caravan.values.run import DeploymentState, Purpose

    deployments = wiring.store().deployments(run_id)
    there = [d for d in deployments if d.purpose is Purpose.EVALUATE and d.state is not DeploymentState.INTENDED]
    return next((d.job_id for d in reversed(there) if attempt in (None, d.attempt)), None)


def _print_copies(wiring: Wiring, terminal: Terminal, run_id: str, printer: _LogPrinter, *, follow: bool) -> None:
    """Print what an agent copies, until the run has ended or nobody copies any more."""
    from caravan.values.run import ENDED

    store, folder = wiring.store(), wiring.folder(run_id)
    while True:
        # Looked at before the logs are read: what was written before the end is then read too.
        ended = store.run(run_id).status in ENDED
        held = folder.is_held()
        printer.print_new(folder.log_files())
        if ended or not follow:
            return
        printer.point_at_evaluation()
        if not held:
            terminal.err(f"No agent works on run {run_id} now: `main.py resume {run_id}` goes on.")
            return
        wiring.clock.sleep(_PAUSE_S)


def _print_from_cluster(
    wiring: Wiring, terminal: Terminal, record: RunRecord, printer: _LogPrinter, *, follow: bool, tail: int | None
) -> None:
    """Print the copies and what the job has written since, which no agent copies: it comes from the cluster itself."""
    from caravan.terminal.cluster_logs import ClusterLogs
    from caravan.values.run import Phase

    folder = wiring.folder(record.id)
    with ClusterLogs(wiring, record, printer.stream, printer.purpose) as cluster:
        phase = cluster.fetch()
        printer.belong(cluster.belonging())
        if tail is not None:
            printer.skip_to_last((*folder.log_files(), *cluster.files()), tail)
        printer.print_new(folder.log_files())
        printer.goes_on_in(cluster.files())
        printer.print_new(cluster.files())
        while follow and phase not in (None, Phase.ENDED, Phase.GONE) and not folder.is_held():
            wiring.clock.sleep(_PAUSE_S)
            phase = cluster.fetch()
            printer.belong(cluster.belonging())
            printer.goes_on_in(cluster.files())
            printer.print_new(cluster.files())
        printer.finish()
        if cluster.trouble:
            terminal.err(f"The job's log can't be read on: {cluster.trouble}.".replace("..", "."))
    if follow and folder.is_held():
        terminal.err(f"An agent works on run {record.id} again: `main.py logs {record.id} -f` follows it.")
    elif follow:
        terminal.err(f"No agent works on run {record.id} now: `main.py resume {record.id}` goes on.")


class _LogPrinter:
    """Prints whole lines of files that grow, each byte once: those of one stream, of the jobs of one purpose, and of
    one attempt where named.
    """

    def __init__(
        self, wiring: Wiring, terminal: Terminal, run_id: str, stream: str, attempt: int | None, purpose: Purpose
    ) -> None:
        self.stream = stream
        self.purpose = purpose
        self._wiring = wiring
        self._terminal = terminal
        self._run_id = run_id
        self._attempt = attempt
        self._whose: dict[str, LogOf] = {}
        self._pointed = False
        self._offsets: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}
        self._current = ""
        self.collects = False
        self._texts: dict[Path, list[str]] = {}

    def collected(self) -> list[Json]:
        """What was printed, for a program: a log each, with whose it is."""
        found: list[Json] = []
        for file, texts in self._texts.items():
            alloc, task, whose = _alloc(file), self._task(file), self._of(file)
            about: dict[str, Json] = {
                "attempt": whose.attempt,
                "purpose": whose.purpose.value,
                "node": whose.node or None,
            }
            found.append({**about, "allocation": alloc, "task": task, "path": str(file), "text": "\n".join(texts)})
        return found

    def _write(self, file: Path, text: bytes) -> None:
        words = text.decode("utf-8", "replace")
        if self.collects:
            self._texts.setdefault(file, []).append(words)
            return
        self._head(file)
        self._terminal.raw(words)

    def _task(self, file: Path) -> str:
        return file.name.partition(".")[2].removesuffix(f".{self.stream}.log")

    def skip_to_last(self, files: Sequence[Path], lines: int) -> None:
        """Pass over everything but the last `lines` lines of all files together."""
        for file in reversed(self.chosen(files)):
            try:
                offset, found = last_lines(file, lines)
            except OSError as error:
                raise StateError(f"The log {file} can't be read ({error.strerror}).") from error
            self._offsets[file] = offset
            lines -= found

    def goes_on_in(self, files: Sequence[Path]) -> None:
        """Leave out the unfinished last lines of copies that these files of the same names go on from."""
        for file in files:
            for copy in [copy for copy in self._rest if copy.name == file.name and copy != file]:
                self._rest[copy] = b""

    def print_new(self, files: tuple[Path, ...]) -> None:
        """Print what is new."""
        for file in self.chosen(files):
            self._print_file(file)

    def belong(self, whose: dict[str, LogOf]) -> None:
        """Take over whose logs some allocations write: no agent has stored it of those that came without one."""
        self._whose |= whose

    def chosen(self, files: Sequence[Path], stream: str = "") -> list[Path]:
        """Those of the files that are printed, or would be of the other stream."""
        mine = [file for file in files if f".{stream or self.stream}." in file.name]
        if any(_alloc(file) not in self._whose for file in mine):
            from caravan.terminal.lookup import logs_of

            self._whose |= logs_of(self._wiring, self._run_id)
        return [file for file in mine if self._is_meant(self._of(file))]

    def _is_meant(self, whose: LogOf) -> bool:
        return whose.purpose is self.purpose and self._attempt in (None, whose.attempt)

    def _of(self, file: Path) -> LogOf:
        from caravan.terminal.lookup import LogOf

        return self._whose.get(_alloc(file), LogOf())

    def point_at_evaluation(self) -> None:
        """Say once, where the training's log is printed, that the evaluation has one of its own."""
        from caravan.values.run import Purpose

        if self._pointed or self.purpose is Purpose.EVALUATE:
            return
        job_id = _evaluation_job(self._wiring, self._run_id, self._attempt)
        if job_id is not None:
            self._pointed = True
            self._terminal.stdout.flush()
            at = f" --attempt {self._attempt}" if self._attempt else ""
            self._terminal.err(
                f"This is the training's log; the model's evaluation ({one_line(job_id)}) has its own: "
                f"`main.py logs {self._run_id} --evaluation{at}`."
            )

    def finish(self) -> bool:
        """Print last lines without a break; whether anything was printed."""
        for file, rest in self._rest.items():
            if rest:
                self._rest[file] = b""
                self._write(file, rest)
        self._terminal.stdout.flush()
        return bool(self._current or self._texts)

    def _print_file(self, file: Path) -> None:
        try:
            with file.open("rb") as stream:
                stream.seek(self._offsets.get(file, 0))
                while piece := stream.read(_PIECE):
                    self._offsets[file] = self._offsets.get(file, 0) + len(piece)
                    whole, _, rest = (self._rest.get(file, b"") + piece).rpartition(b"\n")
                    self._rest[file] = _last_state(rest)
                    if shown := without_tokens(whole + b"\n")[:-1]:
                        self._write(file, shown)
        except OSError as error:
            raise StateError(f"The log {file} can't be read ({error.strerror}).") from error
        self._terminal.stdout.flush()

    def _head(self, file: Path) -> None:
        """Say on stderr which log follows."""
        from caravan.values.run import Purpose

        if file.name != self._current:
            self._current = file.name
            self._terminal.stdout.flush()
            alloc, task = _alloc(file), self._task(file)
            whose = self._of(file)
            attempt, where = (f"attempt {whose.attempt}, " if whose.attempt else ""), whose.node and f" on {whose.node}"
            what = f"evaluation of {attempt}" if whose.purpose is Purpose.EVALUATE else attempt
            self._terminal.err(one_line(f"==> {what}{task} {self.stream}{where} (allocation {alloc})"))


def _last_state(line: bytes) -> bytes:
    """Of an unfinished line that carriage returns have begun anew, what stands there now: a progress bar writes for
    hours without a line break."""
    before, begun, now = line.rpartition(b"\r")
    return now if now or not begun else before.rpartition(b"\r")[2] + begun


def _has_lines(file: Path) -> bool:
    """Whether more than the head of marks stands in a log."""
    with file.open("rb") as stream:
        return bool(without_tokens(stream.read(_PIECE)).strip())


def _alloc(file: Path) -> str:
    return file.name.split(".")[0]


def last_lines(file: Path, lines: int) -> tuple[int, int]:
    """Where the last `lines` lines of a file begin, and how many there are; read from its end, piece by piece."""
    with file.open("rb") as stream:
        end = stream.seek(0, 2)
        if lines <= 0 or end == 0:
            return end, 0
        stream.seek(end - 1)
        breaks = 0 if stream.read(1) == b"\n" else 1  # the last line counts, whether it has its break or not
        position = end
        while position > 0:
            start = max(0, position - _PIECE)
            stream.seek(start)
            piece = stream.read(position - start)
            cut = len(piece)
            while (cut := piece.rfind(b"\n", 0, cut)) >= 0:
                breaks += 1
                if breaks > lines:
                    return start + cut + 1, lines
            position = start
        return 0, breaks
