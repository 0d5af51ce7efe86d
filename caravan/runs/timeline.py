"""A run's trace as a person reads it: drives, what was waited for between them, steps with their time. Pure.

Times within a drive come from its process's monotonic clock, so that a step of the clock can't make one negative;
between two drives only the clock of the day knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from caravan.values.trace import trace_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from caravan.values.base import Json
    from caravan.values.trace import SpanRecord, Trace

_SHORTEST_GAP: Final = 0.1  # seconds between two drives that are worth a row


class State(StrEnum):
    """How a step stands, in words."""

    OK = "ok"
    FAILED = "failed"
    ASKED = "asked"  # it ended with a question to a person
    INTERRUPTED = "interrupted"
    CUT_OFF = "cut off"  # its process ended without ending it
    RUNNING = "running"
    WAITING = "waiting"  # nobody has answered yet
    NONE = ""  # a moment, or a time in which nothing was done


@dataclass
class Step:
    """A row: a span, a moment, a phase of a watch, or the time between two drives.

    `start` in seconds from the start of the trace. `seconds` is None for a moment; `at_least`: it was cut off, and
    lasted at least so long.
    """

    id: str
    name: str
    kind: str
    start: float
    seconds: float | None
    state: State = State.NONE
    at_least: bool = False
    error: str = ""
    attributes: dict[str, Json] = field(default_factory=dict)
    parent: str | None = None
    inside: list[Step] = field(default_factory=list)

    @property
    def own_seconds(self) -> float:
        """The time that is in none of the spans inside."""
        return max((self.seconds or 0.0) - sum(s.seconds or 0.0 for s in self.inside if s.kind != "phase"), 0.0)

    def walk(self, depth: int = 1) -> Iterator[tuple[int, Step]]:
        """The step and all inside it, with their depth (a drive has 1)."""
        waiting = [(depth, self)]
        while waiting:  # no recursion: a damaged trace may be deep
            depth, step = waiting.pop()
            yield depth, step
            waiting += [(depth + 1, child) for child in reversed(step.inside)]


@dataclass(frozen=True)
class Timeline:
    """The run's steps from its first drive to its last; all times in seconds."""

    steps: tuple[Step, ...]
    seconds: float
    working: float
    waiting: float
    idle: float
    left_out: int = 0

    def walk(self) -> Iterator[tuple[int, Step]]:
        """All steps in the order of the tree, with their depth (1 for drives)."""
        for step in self.steps:
            yield from step.walk()

    def slowest(self, count: int) -> list[Step]:
        """The steps with the most time of their own, the slowest first."""
        spans = [s for _, s in self.walk() if s.kind not in ("event", "phase", "wait") and s.seconds is not None]
        return sorted(spans, key=lambda s: -s.own_seconds)[:count]


def timeline(trace: Trace, now: datetime, *, driven: bool, waits: bool) -> Timeline:
    """The trace put in order.

    `driven`: an agent works on the run now, so what is open in its last drive goes on. `waits`: the run waits for a
    person now.
    """
    drives = list(_without_looks(_drives(trace.spans)))
    steps: list[Step] = []
    clock = 0.0
    for number, spans in enumerate(drives, 1):
        last = number == len(drives)
        root, ended = spans[0][1], _ended_at(spans)
        drive = _drive(spans, clock, now=now if last and driven else None)
        if root.kind == "run":
            drive.name = f"drive {1 + sum(s.kind == 'run' for s in steps)}"
        steps.append(drive)
        clock = drive.start + (drive.seconds or 0.0)
        until = now if last and waits else None if last else drives[number][0][1].started_at
        gap = max((until - ended).total_seconds(), 0.0) if until and root.kind != "event" else 0.0
        if gap >= _SHORTEST_GAP:
            steps.append(_between(number, clock, gap, person=_asks(drive) or last, over=not last, after=drive))
            clock += gap
    return Timeline(
        steps=tuple(steps),
        seconds=clock,
        working=sum(s.seconds or 0.0 for s in steps if s.kind != "wait"),
        waiting=sum(s.seconds or 0.0 for s in steps if s.name == WAITING),
        idle=sum(s.seconds or 0.0 for s in steps if s.name == IDLE),
        left_out=sum(n for s in steps if isinstance(n := s.attributes.get("left_out"), int)),
    )


WAITING: Final = "waiting for a person"
IDLE: Final = "no sign of an agent"


def _between(number: int, start: float, seconds: float, *, person: bool, over: bool, after: Step) -> Step:
    asks = next((s.attributes["asks"] for _, s in after.walk() if s.attributes.get("asks")), None) if person else None
    return Step(
        id=f"wait-{number}",
        name=WAITING if person else IDLE,
        kind="wait",
        start=start,
        seconds=seconds,
        state=State.NONE if over else State.WAITING,
        attributes={"asks": asks} if asks else {},
    )


def _drives(spans: Iterable[SpanRecord]) -> Iterator[list[tuple[int, SpanRecord]]]:
    """The tree cut into its drives."""
    drive: list[tuple[int, SpanRecord]] = []
    for depth, span in trace_tree(spans):
        if depth == 0 and drive:
            yield drive
            drive = []
        drive.append((depth, span))
    if drive:
        yield drive


def _without_looks(drives: Iterable[list[tuple[int, SpanRecord]]]) -> Iterator[list[tuple[int, SpanRecord]]]:
    """The drives without those in which somebody only looked at the open question: it was waited on meanwhile."""
    asked = False
    for drive in drives:
        if asked and len(drive) == 1 and drive[0][1].kind == "run" and drive[0][1].status == "ok":
            continue
        asked = any(span.attributes.get("waiting") for _, span in drive)
        yield drive


def _ended_at(spans: list[tuple[int, SpanRecord]]) -> datetime:
    root = spans[0][1]
    return root.last_at or root.started_at


def _asks(drive: Step) -> bool:
    return any(step.state is State.ASKED for _, step in drive.walk())


def _drive(spans: list[tuple[int, SpanRecord]], start: float, *, now: datetime | None) -> Step:
    """A drive with its steps; `now` while it goes on."""
    made: dict[str, Step] = {}
    root = spans[0][1]
    for _, span in spans:
        step = _step(span, start, now)
        if span is not root:
            step.parent = span.parent
            made[span.parent or root.id].inside.append(step)
        made[step.id] = step
    for step in made.values():
        _phases(step)
        _signs(step)
    drive = made[root.id]
    if drive.state is State.OK and _asks(drive):
        drive.state = State.ASKED
    return drive


def _step(span: SpanRecord, start: float, now: datetime | None) -> Step:
    opened = span.status == "open"
    seconds = None if span.kind == "event" else span.known_s
    if opened and now is not None and span.last_at is not None and seconds is not None:
        seconds += max((now - span.last_at).total_seconds(), 0.0)
    return Step(
        id=span.id,
        name=span.name,
        kind=span.kind,
        start=start + span.offset_s,
        seconds=seconds,
        state=_state(span, going_on=now is not None),
        at_least=opened and now is None,
        error=span.error if span.status == "error" else "",
        attributes=dict(span.attributes) | (_of_drive(span) if span.kind == "run" else {}),
    )


def _of_drive(span: SpanRecord) -> dict[str, Json]:
    return {"at": f"{span.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", "pid": span.pid}


def _state(span: SpanRecord, *, going_on: bool) -> State:
    if span.kind == "event":
        return State.NONE
    if span.status == "open":
        return State.RUNNING if going_on else State.CUT_OFF
    if span.status == "interrupted":
        return State.ASKED if span.attributes.get("waiting") else State.INTERRUPTED
    return State.FAILED if span.status == "error" else State.OK


def _phases(step: Step) -> None:
    """Give the moments in which a watch saw another phase the time until the next one."""
    phases = [s for s in step.inside if s.kind == "event" and s.name == "phase"]
    ends = [*(p.start for p in phases[1:]), step.start + (step.seconds or 0.0)]
    for phase, end in zip(phases, ends, strict=False):
        phase.kind = "phase"
        phase.name = str(phase.attributes.get("phase") or "phase")
        phase.seconds = max(end - phase.start, 0.0)


def _signs(step: Step) -> None:
    """Fold the signs of life of a watch into it: the last tells how far one has come that was not ended."""
    signs = [s for s in step.inside if s.kind == "event" and s.name == "watching"]
    if signs:
        step.inside = [s for s in step.inside if s not in signs]
        step.attributes = signs[-1].attributes | step.attributes
