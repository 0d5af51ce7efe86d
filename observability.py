"""Tracing into a local file, one trace for each run, and logging to stderr.

A trace outlives processes: each appends its spans to the run's file, and the trace's id follows from the run's.
The tracer never raises and never holds a run up: what can't be written is counted and told once. All text is masked.
It must not know what the spans stand for.
"""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, TextIO

from pydantic import BaseModel, Field, ValidationError

from caravan.ports import Clock, Span
from caravan.values.base import Json, Value
from caravan.values.errors import Interrupted, StateError, UsageError
from caravan.values.masking import mask, mask_json

SpanStatus = Literal["open", "ok", "error", "interrupted"]

_LONGEST_TEXT: Final = 2000  # characters of one attribute
_MOST_ITEMS: Final = 50
_DEEPEST: Final = 4
_LONGEST_LINE: Final = 64 * 1024  # bytes; attributes of a longer record are left out
_PAUSES: Final = frozenset({"GraphInterrupt", "GraphBubbleUp", "KeyboardInterrupt", "SystemExit", "GeneratorExit"})
"""Exceptions that end a span without being errors, by name: the graph library must not be imported for this."""

_current: ContextVar[str | None] = ContextVar("caravan_span", default=None)
_log = logging.getLogger("caravan.trace")


class SpanRecord(Value):
    """A span as it was written. Times in UTC, `seconds` by the monotonic clock; `open`: its process never ended it.

    A moment (`Tracer.event`) is a record of kind `event` without duration, under the span it happened in.
    """

    id: str
    parent: str | None = None
    name: str
    kind: str = "span"
    started_at: datetime
    ended_at: datetime | None = None
    seconds: float | None = None
    status: SpanStatus = "open"
    error: str = ""
    attributes: dict[str, Json] = Field(default_factory=dict)
    pid: int = 0


def trace_id(run_id: str) -> str:
    """The run's trace id: the first 16 bytes of the id's SHA-256 as 32 hexadecimal digits (W3C trace context)."""
    return hashlib.sha256(run_id.encode("utf-8", "replace")).hexdigest()[:32]


class LocalTracer:
    """The port Tracer on a file of JSON lines (mode 0600), appended to by every process that works on the run.

    Each span gives a line at its start and one at its end, so a killed process leaves its open spans visible.
    `dropped` counts lines that could not be written.
    """

    def __init__(self, path: Path, *, run_id: str, clock: Clock, secrets: Sequence[str] = ()) -> None:
        self._path = path
        self._trace = trace_id(run_id)
        self._clock = clock
        self._secrets = tuple(secrets)
        self._begun = False
        self.dropped = 0

    def span(self, name: str, kind: str = "span", **attributes: Json) -> AbstractContextManager[Span]:
        """A span around a block; the block's exceptions pass through and are noted, masked."""
        return _OpenSpan(self, name, kind, attributes)

    def event(self, name: str, **attributes: Json) -> None:
        """A moment inside the current span."""
        self.write("event", _new_id(), {"parent": _current.get(), "name": name}, attributes)

    def url(self) -> str | None:
        """The file's path."""
        return str(self._path)

    def close(self) -> None:
        """Nothing is left to write: every line is written at once."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return self._clock.monotonic()

    def write(self, kind: str, span: str, fields: dict[str, Json], attributes: Mapping[str, Json]) -> None:
        """Append one line; a failure is counted."""
        bare = {"type": kind, "trace": self._trace, "span": span, "at": self._clock.now().isoformat(), **fields}
        bare = {key: self._masked(value) for key, value in bare.items()}
        line = _line(bare | {"attributes": mask_json(bounded(attributes), self._secrets)})
        if len(line) > _LONGEST_LINE:
            line = _line(bare | {"attributes": {"left_out": f"{len(line)} bytes"}})
        try:
            self._append(line)
        except OSError as error:
            self.dropped += 1
            if self.dropped == 1:
                _log.warning("The trace %s can't be written (%s); the run goes on without it.", self._path, error)

    def _masked(self, value: Json) -> Json:
        return mask(bounded(value), self._secrets) if isinstance(value, str) else value

    def _append(self, line: bytes) -> None:
        if not self._begun:
            for folder in (self._path.parent.parent, self._path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if not self._begun and (size := os.fstat(handle).st_size) and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # a process died while it wrote: its torn line must not swallow this one
            self._begun = True
            if os.write(handle, line) < len(line):
                self._begun = False  # now the torn line is ours
                raise OSError(f"only a part of a line was written to {self._path}")
        finally:
            os.close(handle)


class _OpenSpan:
    """A span of a LocalTracer, from its start on."""

    def __init__(self, tracer: LocalTracer, name: str, kind: str, attributes: dict[str, Json]) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self._first = attributes
        self._added: dict[str, Json] = {}
        self._id = _new_id()

    @property
    def id(self) -> str:
        return self._id

    def set(self, **attributes: Json) -> None:
        self._added.update(attributes)

    def __enter__(self) -> Span:
        self._parent = _current.get()
        _current.set(self._id)
        self._start = self._tracer.now()
        fields = {"parent": self._parent, "name": self._name, "kind": self._kind, "pid": os.getpid()}
        self._tracer.write("start", self._id, fields, self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.set(self._parent)  # not reset by token: a span may end in another context than it began in
        status, text = span_status(error)
        seconds = round(self._tracer.now() - self._start, 6)
        self._tracer.write("end", self._id, {"seconds": seconds, "status": status, "error": text}, self._added)


class NullTracer:
    """The port Tracer for who wants no trace."""

    def span(self, name: str, kind: str = "span", **attributes: Json) -> AbstractContextManager[Span]:  # noqa: ARG002
        """A span that nobody sees."""
        return _NoSpan()

    def event(self, name: str, **attributes: Json) -> None:
        """Nothing."""

    def url(self) -> str | None:
        """There is no trace."""
        return None

    def close(self) -> None:
        """Nothing is left to write."""


class _NoSpan:
    id = ""

    def set(self, **attributes: Json) -> None:
        pass

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def span_status(error: BaseException | None) -> tuple[SpanStatus, str]:
    """How a span ended by the exception that left it: its status and one line of text, not masked yet."""
    if error is None:
        return "ok", ""
    names = {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, Interrupted) or names & _PAUSES:
        return "interrupted", type(error).__name__
    return "error", " ".join(f"{type(error).__name__}: {error}".split())


def bounded(value: object, depth: int = 0) -> Json:
    """A value as JSON of bounded size: long texts and lists cut, what is no JSON named by its type."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, str | Path):
        text = str(value).encode("utf-8", "replace").decode("utf-8")
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… ({len(text)} characters)"
    if depth >= _DEEPEST:
        return f"({type(value).__name__})"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        items = list(value.items())[:_MOST_ITEMS]
        return {str(key)[:200]: bounded(item, depth + 1) for key, item in items}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [bounded(item, depth + 1) for item in list(value)[:_MOST_ITEMS]]
    return value.isoformat() if isinstance(value, datetime) else f"({type(value).__name__})"


def _line(record: dict[str, Json]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _new_id() -> str:
    return os.urandom(8).hex()


def read_trace(path: Path) -> tuple[SpanRecord, ...]:
    """The spans and moments in a trace file, in the order in which they began. Lines that are torn are left out.

    Raises UsageError when there is no such file, StateError when it can't be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        raise UsageError(f"There is no trace at {path}.", hint="Was the run made with CARAVAN_TRACE=0?") from error
    except OSError as error:
        raise StateError(f"The trace {path} can't be read: {error.strerror}.") from error
    found: dict[str, dict[str, Json]] = {}
    for record in _records(lines):
        _take_in(record, found)
    return tuple(_readable(found.values()))


def _records(lines: Iterable[bytes]) -> Iterator[dict[str, Json]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("span"), str):
            yield record


def _take_in(record: dict[str, Json], found: dict[str, dict[str, Json]]) -> None:
    attributes = record.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    if record.get("type") == "end":
        span = found.get(record["span"])
        if span is not None:
            ending = {"ended_at": record.get("at"), **{k: record.get(k) for k in ("seconds", "status", "error")}}
            span.update(ending, attributes=span["attributes"] | attributes)
        return
    span = {key: record[key] for key in ("parent", "name", "kind", "pid") if key in record}
    if record.get("type") == "event":
        span |= {"kind": "event", "status": "ok"}
    found[record["span"]] = span | {"id": record["span"], "started_at": record.get("at"), "attributes": attributes}


def _readable(spans: Iterable[dict[str, Json]]) -> Iterator[SpanRecord]:
    for span in spans:
        try:
            yield SpanRecord.model_validate(span)
        except ValidationError:
            continue


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


class _MaskingFormatter(logging.Formatter):
    def __init__(self, text: str, secrets: Sequence[str]) -> None:
        super().__init__(text)
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record), self._secrets)


def setup_logging(verbose: bool = False, *, secrets: Sequence[str] = (), stream: TextIO | None = None) -> None:
    """Log to stderr (or `stream`), masked: warnings of everybody, and with `verbose` Caravan's own progress too.

    Calling it again replaces what the last call set up.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name("caravan")
    handler.setFormatter(_MaskingFormatter("%(levelname)s %(name)s: %(message)s", secrets))
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.get_name() == "caravan"]:
        root.removeHandler(old)
    root.addHandler(handler)
    logging.getLogger("caravan").setLevel(logging.DEBUG if verbose else logging.WARNING)
