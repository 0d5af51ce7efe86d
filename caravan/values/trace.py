"""A run's trace as it was read back: spans, moments, and what of the file could not be read. No files, no drawing."""

from collections.abc import Iterable
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from caravan.values.base import Json, Value

SpanStatus = Literal["open", "ok", "error", "interrupted"]


LARGEST_TRACE: Final = 16 << 20
"""Bytes of a trace file; from there on nothing is written, and nothing is read."""

LONGEST_LINE: Final = 64 * 1024
"""Bytes of a line of a trace file; a longer record loses its attributes."""


class SpanRecord(Value):
    """A span as it was written. Times in UTC, durations by the monotonic clock; `open`: its process never ended it.

    A moment (`Tracer.event`) is a record of kind `event` without duration, under the span it happened in. A span
    without a parent is a drive: the work of one process on the run, from start or resume to its end or a question.
    """

    id: str
    parent: str | None = None
    name: str
    kind: str = "span"
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    seconds: float | None = Field(default=None, description="None while it is open, and for a moment")
    status: SpanStatus = "open"
    error: str = ""
    attributes: dict[str, Json] = Field(default_factory=dict)
    pid: int = 0
    offset_s: float = Field(default=0.0, ge=0, description="seconds from the start of its drive")
    known_s: float = Field(
        default=0.0, ge=0, description="how long it lasted: `seconds`, or for an open one up to its drive's last line"
    )
    last_at: AwareDatetime | None = Field(default=None, description="the time in UTC at which `known_s` was over")


class Trace(Value):
    """A trace in the order in which its spans began, and how much of the file was left out."""

    spans: tuple[SpanRecord, ...] = ()
    torn_lines: int = Field(default=0, ge=0, description="lines that are no record: torn by a crash or damaged")
    unread_bytes: int = Field(default=0, ge=0, description="what lies beyond the most that is read of a file")


def trace_tree(spans: Iterable[SpanRecord]) -> tuple[tuple[int, SpanRecord], ...]:
    """The spans with their depth, each followed by the spans inside it; one without a known parent has depth 0."""
    inside: dict[str | None, list[SpanRecord]] = {}
    seen: set[str] = set()
    for span in spans:  # a parent always began before its children, so that a damaged file can't make a circle
        inside.setdefault(span.parent if span.parent in seen else None, []).append(span)
        seen.add(span.id)
    waiting = [(0, span) for span in reversed(inside.get(None, []))]
    tree = []
    while waiting:
        depth, span = waiting.pop()
        tree.append((depth, span))
        waiting += [(depth + 1, child) for child in reversed(inside.get(span.id, []))]
    return tuple(tree)
