"""The curves of a run, from its folder: metrics out of the copies of its logs, resources out of its samples.

Logs may be large. They are read as a stream, up to a bound; of what is longer windows are read that lie evenly, and
the curves say so. What is kept of a quantity is bounded too, and keeps the lowest and the highest of each stretch.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from caravan.agent.quick_metrics import QuickRows, json_rows
from caravan.agent.resource_curves import resource_curves
from caravan.agent.thinning import Thinned
from caravan.agent.training_lines import by_log, head_in
from caravan.diagnosis.series import HELD_OUT
from caravan.ports import RunFolder
from caravan.values.amounts import size_text
from caravan.values.curves import AttemptCurves, Axis, Curve
from caravan.values.errors import StateError
from caravan.values.log_marks import Series
from caravan.values.metric_names import spelling
from caravan.values.plan import OutputSink
from caravan.values.run import Attempt, RunEvent

METRICS_FILE: Final = "metrics.jsonl"
"""The file of metrics that many programs leave in their outputs, a JSON object in a line."""

MOST_BYTES: Final = 16 << 20
"""Bytes of the logs of an attempt that are read."""
_WINDOW: Final = 1 << 20
_CLOCKS_S: Final = 2.0  # by which clocks of files and of the cluster may differ on one machine
_MOST_CURVES: Final = 32  # of an attempt
_TASK: Final = "train"
_STEP: Final = re.compile(r"(?:(?:train|trainer)[/_.])?(?:global_?)?(?:steps?|iter(?:ation)?s?)", re.IGNORECASE)
_EPOCH: Final = re.compile(r"(?:(?:train|trainer)[/_.])?epochs?", re.IGNORECASE)
_NO_CURVE: Final = re.compile(
    r"(?:.*[/_.])?(?:total_?)?(?:num_?)?(?:steps?|epochs?|episodes?|iter(?:ation)?s?|time|timestamp)", re.IGNORECASE
)
_SIDE: Final = re.compile(
    r"^(?:train(?:ing)?|eval(?:uation)?|valid(?:ation)?|val|test|dev|held_?out)[/_.]|[/_.](?:train|eval|valid|val|test)$",
    re.IGNORECASE,
)
_Place = tuple[float, float, float]  # step, epoch, row of the log
_RATE: Final = re.compile(r"(?:.*[/_.])?(?:lr|learning_rate)(?:[-_/.].*)?", re.IGNORECASE)


def curves_of(
    folder: RunFolder,
    attempts: Sequence[Attempt],
    events: Sequence[RunEvent],
    *,
    names: tuple[str, ...] = (),
    outputs: OutputSink | None = None,
) -> tuple[AttemptCurves, ...]:
    """The curves of each attempt that came to a node, the earliest first; also of one that still runs.

    `events` say which allocation belongs to which attempt. `names` are metrics that the program is known to log.
    `outputs`: the file of metrics there tells of the last attempt, where it can be seen from here, better than the log
    does; what earlier attempts wrote there and the last one went on from is in it too. Raises StateError for a folder
    that can't be read.
    """
    members = _members(attempts, events)
    began = max((event.at.timestamp() for event in events if event.kind == "placed"), default=0.0)
    found = []
    for number, allocations in members.items():
        told, notes = _logged(folder, allocations, names)
        rest = _of_file(outputs, began) if number == max(members) and outputs is not None else ()
        if rest:
            own = {curve.name for curve in rest}
            told = (*rest, *(curve for curve in told if curve.name not in own and _STEP.fullmatch(curve.name) is None))
            notes = (*notes, f"The curves of {', '.join(sorted(own))[:200]} are from {METRICS_FILE} in the outputs.")
        told, more = _most_telling(_each_once(told))
        resources, since = resource_curves(folder, allocations)
        found.append(
            AttemptCurves(
                attempt=number, metrics=told, resources=resources, training_since=since, notes=(*notes, *more)
            )
        )
    return tuple(curves for curves in found if curves.metrics or curves.resources)


def _each_once(told: Iterable[Curve]) -> tuple[Curve, ...]:
    """The curves without those of the same quantity under another spelling; of these the one with the most values."""
    found: dict[str, Curve] = {}
    for curve in told:
        other = found.setdefault(spelling(curve.name), curve)
        if curve.seen > other.seen:
            found[spelling(curve.name)] = curve
    return tuple(found.values())


def _members(attempts: Sequence[Attempt], events: Sequence[RunEvent]) -> dict[int, dict[str, int]]:
    """The allocations of each attempt, by their id, with the number of the member each was."""
    found: dict[int, dict[str, int]] = {}
    for event in events:
        alloc_id, number = event.data.get("alloc_id"), event.data.get("attempt")
        if event.kind == "placed" and isinstance(alloc_id, str) and isinstance(number, int):
            member = re.search(r"\[(\d{1,6})\]$", str(event.data.get("member", "")))
            found.setdefault(number, {})[alloc_id] = int(member[1]) if member else 0
    for attempt in attempts:
        known = found.setdefault(attempt.number, {})
        for use in attempt.uses:
            known.setdefault(use.alloc_id, use.member)
        if attempt.outcome is not None and attempt.outcome.alloc_id:
            known.setdefault(attempt.outcome.alloc_id, 0)
    return dict(sorted(found.items()))


def _logged(
    folder: RunFolder, allocations: Mapping[str, int], names: tuple[str, ...]
) -> tuple[tuple[Curve, ...], tuple[str, ...]]:
    """The metrics that the first member logged, or the first that logged any; stdout's before those of stderr."""
    files = folder.log_files()
    for member in sorted(set(allocations.values()))[:8]:
        mine = {alloc_id[:8] for alloc_id, number in allocations.items() if number == member}
        of_task = [f for f in files if f.name.split(".")[0] in mine and f.name.split(".")[1:2] == [_TASK]]
        of_task = of_task or [f for f in files if f.name.split(".")[0] in mine]
        curves: dict[str, Curve] = {}
        notes: list[str] = []
        for stream in ("stdout", "stderr"):
            told = [f for f in of_task if f".{stream}." in f.name]
            rows = _Rows()
            reader = QuickRows(names)
            size = _size(told)
            for window in _windows(told, size):
                rows.take(reader.of(window))
            for curve in rows.curves():
                curves.setdefault(curve.name, curve)
            if size > MOST_BYTES:
                notes.append(
                    f"The log ({stream}) has {size_text(size)}: {size_text(MOST_BYTES)} of it, in windows that "
                    "lie evenly, were read for the curves."
                )
        if curves:
            return tuple(curves.values()), tuple(notes)
    return (), ()


def _size(files: Iterable[Path]) -> int:
    try:
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise StateError(f"The logs of the run can't be read ({error.strerror}).") from error


def _windows(files: Sequence[Path], size: int) -> Iterator[Iterator[str]]:
    """The lines of the files, one behind the other: all of them at once, or those of windows that lie evenly."""
    logs = [(parts, _head(parts[0])) for parts in by_log(files)]
    if size <= MOST_BYTES:
        yield chain.from_iterable(Series([head]).of(_lines(parts, 0, size, last=True)) for parts, head in logs)
        return
    count = MOST_BYTES // _WINDOW
    for number in range(count):
        start = number * (size - _WINDOW) // (count - 1)
        yield Series(head for _, head in logs).of(_lines(files, start, _WINDOW, last=number == count - 1))


def _head(file: Path) -> str:
    try:
        return head_in(file)
    except OSError as error:
        raise StateError(f"The log {file} can't be read ({error.strerror}).") from error


def _lines(files: Sequence[Path], start: int, length: int, *, last: bool) -> Iterator[str]:
    """The lines of `length` bytes from `start` on; one that began before is left out, and one that goes on behind
    unless these are the `last`. A carriage return ends one."""
    rest, cut = b"", start > 0
    for piece in _pieces(files, start, length):
        *lines, rest = re.split(rb"[\r\n]+", rest + piece)
        for line in lines[1:] if cut and lines else lines:
            yield line.decode("utf-8", "replace")
        cut = cut and not lines
        if len(rest) > _WINDOW:  # a line without end: nothing of it is a metric
            rest = b""
    if rest and not cut and last:
        yield rest.decode("utf-8", "replace")


def _pieces(files: Sequence[Path], start: int, length: int) -> Iterator[bytes]:
    for file in files:
        try:
            with file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if start < size and length > 0:
                    stream.seek(start)
                    while length > 0 and (piece := stream.read(min(length, 1 << 18))):
                        length -= len(piece)
                        yield piece
                start = max(0, start - size)
        except OSError as error:
            raise StateError(f"The log {file} can't be read ({error.strerror}).") from error


class _Rows:
    """Metrics as they come, row by row; what they are drawn over is known at the end."""

    def __init__(self) -> None:
        self._known: dict[str, Thinned[_Place]] = {}
        self._at: _Place = (0.0, 0.0, 0.0)
        self._steps = self._epochs = False

    def take(self, rows: Iterable[dict[str, float]]) -> None:
        """Take the next rows. A row without a step belongs to the last one that was told."""
        for row in rows:
            step, epoch, number = self._at
            for name, value in row.items():
                if value != value or abs(value) == float("inf"):
                    continue
                if _STEP.fullmatch(name):
                    step, self._steps = value, True
                elif _EPOCH.fullmatch(name):
                    epoch, self._epochs = value, True
            self._at = (step, epoch, number + 1)
            for name, value in row.items():
                if _NO_CURVE.fullmatch(name) is None and (name in self._known or len(self._known) < 200):
                    self._known.setdefault(name, Thinned()).add(self._at, value)

    def curves(self) -> tuple[Curve, ...]:
        """The curves, over steps where they were told, else over epochs, else over the rows of the log."""
        over: Axis = "step" if self._steps else "epoch" if self._epochs else "row"
        axis = ("step", "epoch", "row").index(over)
        return tuple(_curve(name, over, axis, values) for name, values in self._known.items())


def _curve(name: str, over: Axis, axis: int, values: Thinned[_Place]) -> Curve:
    points = values.points()
    group = "learning rate" if _RATE.fullmatch(name) else _SIDE.sub("", name).lower() or name
    return Curve(
        name=name,
        group=group,
        over=over,
        x=tuple(at[axis] for at, _ in points),
        y=tuple(value for _, value in points),
        held_out=HELD_OUT.search(name) is not None,
        seen=values.seen,
    )


def _of_file(outputs: OutputSink, began: float) -> tuple[Curve, ...]:
    """The curves of the file of metrics that the job left, where it lies on this machine. It is the job's: only a
    plain file is read, and of it the numbers. One that was written last before `began` is an earlier attempt's."""
    if outputs.kind != "path":
        return ()
    rows = _Rows()
    try:
        number = os.open(
            Path(outputs.location) / METRICS_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:  # there is none, or it is not to be seen from here
        return ()
    with os.fdopen(number, "rb") as stream:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES or about.st_mtime < began - _CLOCKS_S:
            return ()
        rows.take(json_rows(line.decode("utf-8", "replace") for line in stream))
    return rows.curves()


def _most_telling(curves: Sequence[Curve]) -> tuple[tuple[Curve, ...], tuple[str, ...]]:
    """Losses first, then learning rates, then the others as they were logged; at most so many."""
    ordered = sorted(curves, key=_rank)
    left = [curve.name for curve in ordered[_MOST_CURVES:]]
    note = (f"{len(left)} further metrics are not drawn: {', '.join(left)[:200]}.",) if left else ()
    return tuple(ordered[:_MOST_CURVES]), note


def _rank(curve: Curve) -> int:
    return 0 if curve.group == "loss" else 1 if "loss" in curve.group else 2 if curve.group == "learning rate" else 3
