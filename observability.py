"""Tracing into a local file, one trace for each run, and logging to stderr.

A trace outlives processes: each appends its spans to the run's file, and the trace's id follows from the run's.
The tracer never raises and never holds a run up: what can't be written is counted and told once. All text is masked.
It must not know what the spans stand for.
"""

import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

from pydantic import BaseModel

from caravan.ports import Clock, Span
from caravan.values.base import Json
from caravan.values.errors import Interrupted
from caravan.values.masking import mask, mask_json
from caravan.values.trace import LARGEST_TRACE, LONGEST_LINE, SpanStatus

_LONGEST_TEXT: Final = 2000  # characters of one attribute
_LONGEST_CONTENT: Final = 12_000
"""Likewise of a text of those that a person has asked to be traced: what a model was asked, and what it has said."""
_CONTENT: Final = frozenset({"input", "output"})
_LONGEST_KEY: Final = 200
_LONGEST_MASKED: Final = 64 * 1024  # characters of a longer text that are looked at
_MOST_ITEMS: Final = 50
_DEEPEST: Final = 4
_DETAILS_UNTIL: Final = 8 << 20  # bytes of a file; from there on only runs and nodes begin new spans
_FOREIGN: Final = frozenset({"name", "error"})  # fields whose text is not ours alone
_ALWAYS: Final = frozenset({"run", "node"})
_PAUSES: Final = frozenset({"GraphInterrupt", "GraphBubbleUp", "KeyboardInterrupt", "SystemExit", "GeneratorExit"})
"""Exceptions that end a span without being errors, by name: the graph library must not be imported for this."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_current: ContextVar["_OpenSpan | None"] = ContextVar("caravan_span", default=None)
_log = logging.getLogger("caravan.trace")


def trace_id(run_id: str) -> str:
    """The run's trace id: the first 16 bytes of the id's SHA-256 as 32 hexadecimal digits (W3C trace context)."""
    return hashlib.sha256(run_id.encode("utf-8", "replace")).hexdigest()[:32]


class LocalTracer:
    """The port Tracer on a file of JSON lines (mode 0600), appended to by every process that works on the run.

    Each span gives a line at its start and one at its end, so a killed process leaves its open spans visible.
    A file is bounded: from 8 MB on only runs and nodes begin new spans, from 16 MB on nothing is written. What was
    left out is told in the attribute `left_out` of the spans that have no parent. `dropped` counts lines that could
    not be written.
    """

    def __init__(self, path: Path, *, run_id: str, clock: Clock, secrets: Sequence[str] = ()) -> None:
        self._path = path
        self._trace = trace_id(run_id)
        self._clock = clock
        self._secrets = tuple(secrets)
        self._begun = False
        self.dropped = 0
        self.left_out = 0

    def span(self, name: str, kind: str = "span", **attributes: Json) -> AbstractContextManager[Span]:
        """A span around a block; the block's exceptions pass through and are noted, masked."""
        return _OpenSpan(self, name, kind, attributes)

    def event(self, name: str, **attributes: Json) -> None:
        """A moment inside the current span."""
        inside = _current.get()
        self.write("event", _new_id(), {"parent": inside.id if inside else None, "name": name}, attributes)

    def url(self) -> str | None:
        """The file's path."""
        return str(self._path)

    def close(self) -> None:
        """Nothing is left to write: every line is written at once."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return self._clock.monotonic()

    def write(self, type_: str, span: str, fields: dict[str, Json], attributes: Mapping[str, Json]) -> bool:
        """Append one line; False when the file has no room for it. A failure to write is counted."""
        times = {"at": self._clock.now().isoformat(), "mono": round(self.now(), 6)}
        bare = {"type": type_, "trace": self._trace, "span": span, **times}
        bare |= {key: harmless(fields[key], self._secrets) if key in _FOREIGN else fields[key] for key in fields}
        line = b""
        for longest in (_LONGEST_CONTENT, _LONGEST_TEXT, 0):  # the first that makes a line of a size that is read back
            line = _line(bare | {"attributes": self._told(attributes, longest)})
            if len(line) <= LONGEST_LINE:
                break
        else:
            line = _line(bare | {"attributes": {"left_out": f"{len(line)} bytes"}})
        always = type_ == "end" or fields.get("kind") in _ALWAYS
        try:
            written = self._append(line, LARGEST_TRACE if always else _DETAILS_UNTIL)
        except OSError as error:
            self.dropped += 1
            if self.dropped == 1:
                _log.warning("The trace %s can't be written (%s); the run goes on without it.", self._path, error)
            return True
        self.left_out += not written
        return written

    def _told(self, attributes: Mapping[str, Json], longest: int) -> Json:
        """The attributes as they are written; of what was asked and said `longest` characters of each text."""
        content = {key: attributes[key] for key in _CONTENT & attributes.keys()} if longest else {}
        rest = {key: value for key, value in attributes.items() if key not in _CONTENT}
        told: Json = harmless(rest, self._secrets)
        if content and isinstance(told, dict):
            told |= harmless(content, self._secrets, longest=longest)
        return told

    def _append(self, line: bytes, limit: int) -> bool:
        if not self._begun:
            for folder in (self._path.parent.parent, self._path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size + len(line) > limit:
                return False
            if not self._begun and size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # a process died while it wrote: its torn line must not swallow this one
            self._begun = True
            if os.write(handle, line) < len(line):
                self._begun = False  # now the torn line is ours
                raise OSError(f"only a part of a line was written to {self._path}")
        finally:
            os.close(handle)
        return True


class _OpenSpan:
    """A span of a LocalTracer, from its start on. One for which the file has no room is nobody's parent."""

    def __init__(self, tracer: LocalTracer, name: str, kind: str, attributes: dict[str, Json]) -> None:
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self._first = attributes
        self._added: dict[str, Json] = {}
        self._kept = False
        self.parent: _OpenSpan | None = None
        self.id = _new_id()

    def set(self, **attributes: Json) -> None:
        self._added.update(attributes)

    def __enter__(self) -> Span:
        self.parent = _current.get()
        self._start = self._tracer.now()
        parent = self.parent.id if self.parent else None
        fields = {"parent": parent, "name": self._name, "kind": self._kind, "pid": os.getpid()}
        self._kept = self._tracer.write("start", self.id, fields, self._first)
        if self._kept:
            _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
            return
        self._leave()
        status, text = span_status(error)
        seconds = round(max(self._tracer.now() - self._start, 0.0), 6)
        if self.parent is None and self._tracer.left_out:
            self._added["left_out"] = self._tracer.left_out
        self._tracer.write("end", self.id, {"seconds": seconds, "status": status, "error": text}, self._added)

    def _leave(self) -> None:
        """Make the parent current again, but only where this span, or one inside it that was left open, is current.

        A generator may be closed late, when its span's surroundings are over, and a span may end in another context
        than it began in: then there is nothing to go back to.
        """
        inside = _current.get()
        while inside is not None and inside is not self:
            inside = inside.parent
        if inside is self:
            _current.set(self.parent)


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


def harmless(value: object, secrets: Sequence[str] = (), *, longest: int = _LONGEST_TEXT) -> Json:
    """A value as JSON that is masked and of bounded size: long texts and lists cut, what is no JSON named by its type.

    A text is masked before it is cut, because half a secret is not recognised as one.
    """
    return mask_json(_bounded(value, tuple(secrets), 0, longest), secrets)


def _bounded(value: object, secrets: tuple[str, ...], depth: int, longest: int) -> Json:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str | Path):
        return _cut(str(value).encode("utf-8", "replace").decode("utf-8"), secrets, longest)
    if depth >= _DEEPEST:
        return f"({type(value).__name__})"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        items = list(value.items())[:_MOST_ITEMS]
        return {
            _cut(str(key), secrets, _LONGEST_KEY): _bounded(item, secrets, depth + 1, longest) for key, item in items
        }
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [_bounded(item, secrets, depth + 1, longest) for item in list(value)[:_MOST_ITEMS]]
    return value.isoformat() if isinstance(value, datetime) else f"({type(value).__name__})"


def _cut(text: str, secrets: tuple[str, ...], limit: int) -> str:
    if len(text) <= limit:
        return text
    shown = mask(text[:_LONGEST_MASKED], secrets)
    if len(text) > _LONGEST_MASKED and len(shown) <= limit:
        shown = ""  # nearly all of it was secrets, and the last one may have been cut
    return f"{shown[:limit]}… ({len(text)} characters)"


def _line(record: dict[str, Json]) -> bytes:
    return _encode(record).encode("utf-8", "replace") + b"\n"


def _new_id() -> str:
    return os.urandom(8).hex()


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
