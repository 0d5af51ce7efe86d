"""Reading a run's local trace file back. It must not know how spans are opened, nor how a trace is drawn."""

import json
import math
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from caravan.values.base import Json
from caravan.values.errors import StateError, UsageError
from caravan.values.trace import LARGEST_TRACE, LONGEST_LINE, SpanRecord, Trace

_DEEPEST: Final = 4  # what is written is not deeper


def read_trace(path: Path) -> Trace:
    """The spans and moments in a trace file, in the order in which they began. Lines that are torn are left out.

    Raises UsageError when there is no such file or nothing in it, StateError when it can't be read or holds no record.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_TRACE + LONGEST_LINE)
            unread = max(os.fstat(file.fileno()).st_size - len(data), 0)
    except FileNotFoundError as error:
        raise UsageError(f"There is no trace at {path}.", hint="Was the run made with CARAVAN_TRACE=0?") from error
    except OSError as error:
        raise StateError(f"The trace {path} can't be read: {error.strerror}.") from error
    if not data.strip():
        raise UsageError(f"The trace {path} is empty.", hint="Is the disk full?")
    reader = TraceReader()
    reader.feed(data + b"\n")
    trace = reader.trace()
    if not trace.spans:
        raise StateError(f"The trace {path} is damaged: it holds no record.", hint="It can be deleted without harm.")
    return trace.model_copy(update={"unread_bytes": unread})


class TraceReader:
    """Puts the lines of a trace together: starts with their ends, and each drive's time by its own clock.

    It is fed the file's bytes in pieces, as they are written: `read` counts them, `taken` those of whole lines.
    """

    def __init__(self) -> None:
        self.read = 0
        self.taken = 0
        self._torn = 0
        self._rest = b""
        self._found: dict[str, dict[str, Json]] = {}
        self._drive: dict[str, str] = {}  # span → the outermost span around it
        self._begun: dict[str, float] = {}  # span → when, in seconds of its process's clock
        self._last: dict[str, tuple[float, Json]] = {}  # drive → seconds and time of its last line

    def feed(self, data: bytes) -> None:
        """The file's next bytes; what comes after the last whole line waits for its rest."""
        self.read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.taken += len(line) + 1
            self._take(line)

    def trace(self) -> Trace:
        """What is known by now."""
        found = tuple(self._spans())
        spans = tuple(span for span in found if span is not None)
        return Trace(spans=spans, torn_lines=self._torn + len(found) - len(spans))

    def _take(self, line: bytes) -> None:
        """Take a line in, or count it as torn."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("span"), str):
            self._torn += bool(line.strip())
            return
        attributes = record.get("attributes")
        record["attributes"] = _shallow(attributes) if isinstance(attributes, dict) else {}
        if record.get("type") == "end":
            self._end(record)
        else:
            self._start(record)

    def _start(self, record: dict[str, Json]) -> None:
        name: str = record["span"]
        parent = record.get("parent")
        span: dict[str, Json] = {}
        span |= {key: record[key] for key in ("parent", "name", "kind", "pid", "attributes") if key in record}
        if record.get("type") == "event":
            span |= {"kind": "event", "status": "ok"}
        self._found[name] = span | {"id": name, "started_at": record.get("at")}
        self._drive[name] = self._drive.get(parent, name) if isinstance(parent, str) else name
        self._begun[name] = _clock_of(record)
        self._moved(name, record)

    def _end(self, record: dict[str, Json]) -> None:
        span = self._found.get(record["span"])
        if span is None:
            return
        ending = {key: record.get(key) for key in ("seconds", "status", "error")}
        span.update(ending, ended_at=record.get("at"), attributes=span["attributes"] | record["attributes"])
        self._moved(record["span"], record)

    def _moved(self, span: str, record: dict[str, Json]) -> None:
        drive, now = self._drive[span], _clock_of(record)
        if drive not in self._last or now >= self._last[drive][0]:
            self._last[drive] = now, record.get("at")

    def _spans(self) -> Iterator[SpanRecord | None]:
        """What was found; None stands for what is not whole."""
        for name, span in self._found.items():
            begun, (last, last_at) = self._begun[name], self._last[self._drive[name]]
            ended = span.get("ended_at") is not None
            known = span.get("seconds") if ended else 0.0 if span.get("kind") == "event" else max(last - begun, 0.0)
            offset = max(begun - self._begun[self._drive[name]], 0.0)
            times = {"offset_s": offset, "known_s": known, "last_at": span["ended_at"] if ended else last_at}
            try:
                yield SpanRecord.model_validate(span | times)
            except ValidationError:
                yield None


def _shallow(value: Json, depth: int = 0) -> Json:
    """What we wrote is not deep; what is may not cost whoever shows it his stack."""
    if not isinstance(value, dict | list):
        return value
    if depth > _DEEPEST:
        return f"({type(value).__name__})"
    if isinstance(value, dict):
        return {key: _shallow(item, depth + 1) for key, item in value.items()}
    return [_shallow(item, depth + 1) for item in value]


def _clock_of(record: dict[str, Json]) -> float:
    """Seconds of the writing process's clock, or of the time in UTC where the line has none."""
    seconds = record.get("mono")
    try:
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            return float(seconds)
        return datetime.fromisoformat(record["at"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0
