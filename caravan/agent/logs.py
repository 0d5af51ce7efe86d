"""Copying a job's logs into the run's folder as they grow, showing new lines, telling the metrics in all of them.

Must not know what a log that grows or stands still means for the job: it says how much was heard, and what was not.
"""

import re
from collections.abc import Iterable
from itertools import count
from os.path import commonprefix
from pathlib import Path
from typing import Final

from caravan.agent.context import Context
from caravan.agent.log_reader import LogReader, Source
from caravan.agent.metrics import metric_rows
from caravan.agent.training_lines import by_log, head_in
from caravan.agent.watchdog import Heard
from caravan.values.errors import ClusterDenied, ClusterError
from caravan.values.escapes import without_escapes
from caravan.values.evaluation import figures_line, parse_evaluation
from caravan.values.log_marks import Series, plainly, without_tokens
from caravan.values.masking import mask
from caravan.values.run import Phase, Snapshot

STREAMS = ("stdout", "stderr")
TERMINAL: Final = frozenset({"complete", "failed", "lost"})
"""Client statuses of an allocation in which nothing runs any more."""
_SHOWN_LINES: Final = 20  # of one piece: a person can't read more at once, and the copy has them all
_LONGEST: Final = 4096  # characters of a line that are shown and read for metrics; the copy has more
_KEPT: Final = 4 * _LONGEST  # bytes of a line that are kept to be masked before it is cut
_PIECES: Final = 16  # read in one round (1 MiB each), so that an endless log does not keep us from the deadlines
_EARLIER: Final = 4 << 20  # bytes of an earlier copy that are read for metrics
_SOON_S: Final = 0.9  # between two looks at a log that grows; a watch has a heartbeat each second
_LATE_S: Final = 2.7
_BREAK: Final = re.compile(rb"(\r\n|\n|\r)")


class LogFollower:
    """Follows the logs of one job. `names` are metrics that the repository is known to log.

    `metrics`: whether they are told; what an evaluation prints belongs to no curve of the training.

    Of several `nodes` each line is shown with its member's number, and the metrics are those of the first member.

    A line is shown and read once it is whole. Of what a progress bar writes over itself only the last state is shown,
    while metrics are read from every state of it.
    """

    def __init__(self, context: Context, *, names: tuple[str, ...] = (), nodes: int = 1, metrics: bool = True) -> None:
        self._context = context
        self._metrics = metrics
        self._nodes = nodes
        self._members: dict[str, int] = {}
        self._series: dict[Source, Series] = {}
        self._names = names
        self._reader = LogReader(context.cluster)
        self._rests: dict[Source, bytes] = {}
        self._sizes: dict[Source, int] = {}
        self._deaf: set[Source] = set()
        self._pauses: dict[Source, float] = {}
        self._due: dict[Source, float] = {}
        self._before: dict[Source, int] = {}
        self._denied = ""
        self._last_line = ""

    def heard(self, snapshot: Snapshot) -> Heard:
        """What was heard so far of the allocations that live, and whether one of their logs could not be read."""
        live = {a.id for a in snapshot.allocations if a.client_status not in TERMINAL}
        size = sum(size for source, size in self._sizes.items() if source[0] in live)
        return Heard(size, any(source[0] in live for source in self._deaf), self._last_line)

    def copy(self, snapshot: Snapshot) -> None:
        """Append what is new in every task's stdout and stderr to the copies, show it, tell its metrics.

        Logs that can't be had now are skipped: not there yet, collected, or the node or the cluster does not answer.
        What was missed is copied by the next round, because the offset only moves with what was copied.
        """
        over = snapshot.phase in (Phase.ENDED, Phase.GONE)
        for allocation in snapshot.allocations:
            self._members[allocation.id] = _number(allocation.name)
            for task in allocation.tasks:
                if task.started_at is None:
                    continue
                for stream in STREAMS:
                    source = (allocation.id, task.name, stream)
                    if over or self._is_due(source):
                        self._copy(source, to_the_end=over)
        if over:
            for source, rest in self._rests.items():
                if rest:
                    self._rests[source] = self._told(source, rest + b"\n")

    def _is_due(self, source: Source) -> bool:
        """Whether to ask for a log now: each second while it grows, each third one while it does not."""
        now, size = self._context.clock.monotonic(), self._sizes.get(source, 0)
        if now < self._due.get(source, now):
            return False
        grew = size != self._before.get(source)
        self._before[source] = size
        self._pauses[source] = _SOON_S if grew else min(2 * self._pauses.get(source, _SOON_S), _LATE_S)
        self._due[source] = now + self._pauses[source]
        return True

    def _copy(self, source: Source, *, to_the_end: bool) -> None:
        """One round over a log. A job that is over writes no more: then all of it is read, because its end says why."""
        context = self._context
        if source not in self._rests:
            self._rests[source] = self._begin(source)
        for _ in count() if to_the_end else range(_PIECES):
            copied = self._sizes[source] = context.folder.log_size(*source)
            try:
                data, remark = self._reader.read(source, copied)
            except ClusterError as error:
                self._deaf.add(source)
                self._tell_denied(error)
                return
            self._deaf.discard(source)
            if remark:
                context.progress.note(remark)
            if not data:
                return
            context.folder.append_log(*source, data)
            self._rests[source] = self._told(source, self._rests[source] + data)

    def _tell_denied(self, error: ClusterError) -> None:
        """A token that may not read logs is said once: without them nobody can tell whether the job makes progress."""
        if isinstance(error, ClusterDenied) and error.message != self._denied:
            self._denied = error.message
            self._context.progress.note(f"The log can't be read, so a job that hangs is not noticed: {error.message}")

    def _begin(self, source: Source) -> bytes:
        """Where an earlier agent has copied already: tell its metrics, and find the beginning of the line it was in."""
        copied = self._context.folder.log_size(*source)
        if not copied:
            return b""
        for parts in by_log(self._copies(source)):
            series = self._series[source] = Series([head_in(parts[0])])
            for file in parts:
                self._tell_metrics(source, (_text(state) for state in split_lines(_end_of(file))[0]), series)
        start = max(0, copied - _KEPT)
        try:
            before = self._context.cluster.logs(*source, offset=start, limit=copied - start)
        except ClusterError:
            return b""
        return re.split(rb"[\r\n]", before)[-1]

    def _copies(self, source: Source) -> list[Path]:
        alloc_id, task, stream = source
        files = [f for f in self._context.folder.log_files() if f.name.startswith(alloc_id[:8])]
        return [f for f in files if f".{task}.{stream}." in f.name]

    def _told(self, source: Source, data: bytes) -> bytes:
        """Show and read the whole lines in `data`; the rest, which goes on, comes back."""
        states, shown, rest = split_lines(data)
        # Names of metrics come out of a line too. Masked before it is cut: half a secret is none that is known.
        self._tell_metrics(source, (self._plain(state) for state in states))
        lines = [line for piece in shown[-_SHOWN_LINES:] if (line := plainly(self._shown(piece)))]
        if lines:
            self._last_line = lines[-1]
            more = len(shown) - _SHOWN_LINES
            if more > 0:
                lines = [f"… {more} lines before these, in the log", *lines]
            member = f"[{self._members.get(source[0], 0)}] " if self._nodes > 1 else ""
            self._context.progress.log(source[2], [f"{member}{line}" for line in lines])
        return rest

    def _shown(self, line: bytes) -> str:
        """A line as a person reads it: of the document that an evaluation prints, its figures."""
        found = parse_evaluation(line) if line.startswith(b'{"version"') else None
        return self._plain(line if found is None else figures_line(found).encode())

    def _plain(self, line: bytes) -> str:
        text, known = without_escapes(_text(line)), self._context.secrets
        shown = mask(text, known)
        if len(line) >= _KEPT:  # cut: what is shown is the same, whatever goes on at the end
            shown = commonprefix((shown, mask(text[:-_LONGEST], known)))  # noqa: RUF071 (characters are meant)
        return shown[:_LONGEST]

    def _tell_metrics(self, source: Source, lines: Iterable[str], series: Series | None = None) -> None:
        if not self._metrics or (self._nodes > 1 and self._members.get(source[0], 0)):
            return  # the members log the same training: one series of each metric
        series = series or self._series.setdefault(source, Series())
        for row in metric_rows(series.of(lines), names=self._names):
            self._context.progress.metrics(row)


def _end_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _EARLIER))
        return opened.read(_EARLIER)


def _number(name: str) -> int:
    """The number of an allocation in its group: `job.train[1]` is 1."""
    digits = name.rpartition("[")[2].rstrip("]")
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def split_lines(data: bytes) -> tuple[list[bytes], list[bytes], bytes]:
    """What is whole in `data`, what of it a person would still see, and the unfinished rest; none has line breaks.

    A carriage return ends a state of a line that the next state overwrites. Empty lines are left out; what is longer
    than any line that is read is cut.
    """
    states: list[bytes] = []
    shown: list[bytes] = []
    overwritten = b""
    # Split, not matched line by line: a search would try every beginning of an endless line anew.
    *pieces, rest = _BREAK.split(data)
    for text, ending in zip(pieces[::2], pieces[1::2], strict=True):
        text = text[:_KEPT]
        if text.strip():
            states.append(text)
            overwritten = text
        if ending != b"\r" and overwritten:
            shown.append(overwritten)
            overwritten = b""
    if overwritten:
        shown.append(overwritten)
    return states, shown, rest[:_KEPT]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip()


def task_logs(context: Context, alloc_id: str, task: str = "") -> list[Path]:
    """The copied logs of an allocation, of that task alone where it has any: see `logs_of`."""
    return logs_of(context.folder.log_files(), alloc_id, task)


def logs_of(files: Iterable[Path], alloc_id: str, task: str = "") -> list[Path]:
    """Those of a run's copied logs that are an allocation's, of that task alone where it has any, in the order in which
    they were begun; those of stdout first, because what ended a task stands in stderr as a rule.
    """
    mine = [f for f in files if f.name.startswith(alloc_id[:8])]
    # What another task wrote, as the one that installs packages, is no sign of this one's end.
    mine = [f for f in mine if task and f".{task}." in f.name] or mine
    return sorted(mine, key=lambda f: ".stderr." in f.name)


def log_tail(context: Context, alloc_id: str, limit: int = 1 << 20, *, task: str = "") -> bytes:
    """The last `limit` bytes of `task_logs`, shared by the files, masked already; without the tokens of marks."""
    files = task_logs(context, alloc_id, task)
    pieces = []
    for file in files:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - limit // max(len(files), 1)))
            pieces.append(without_tokens(stream.read()))
    return b"\n".join(pieces)
