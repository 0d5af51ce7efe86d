"""A tracer in memory: what the local one would write, as records."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from caravan.ports import Clock, Span
from caravan.values.base import Json
from caravan.values.masking import mask
from caravan.values.trace import SpanRecord
from observability import harmless, span_status


class MemoryTracer:
    """The port Tracer; `spans()` gives the records in the order in which they began."""

    def __init__(self, clock: Clock, secrets: Sequence[str] = ()) -> None:
        self._clock = clock
        self._secrets = tuple(secrets)
        self._spans: dict[str, SpanRecord] = {}
        self._current: ContextVar[str | None] = ContextVar("span", default=None)

    def spans(self) -> tuple[SpanRecord, ...]:
        return tuple(self._spans.values())

    def span(self, name: str, kind: str = "span", **attributes: Json) -> AbstractContextManager[Span]:
        return self._span(name, kind, attributes)

    @contextmanager
    def _span(self, name: str, kind: str, attributes: dict[str, Json]) -> Iterator[Span]:
        span = _MemorySpan(self._record(name, kind, attributes).id)
        start = self._clock.monotonic()
        self._current.set(span.id)
        error: BaseException | None = None
        try:
            yield span
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._leave(span.id)
            status, text = span_status(error)
            self._spans[span.id] = self._spans[span.id].model_copy(
                update={
                    "ended_at": self._clock.now(),
                    "seconds": self._clock.monotonic() - start,
                    "status": status,
                    "error": mask(text, self._secrets),
                    "attributes": self._spans[span.id].attributes | harmless(span.added, self._secrets),
                }
            )

    def event(self, name: str, **attributes: Json) -> None:
        record = self._record(name, "event", attributes)
        self._spans[record.id] = record.model_copy(update={"status": "ok"})

    def url(self) -> str | None:
        return None

    def close(self) -> None:
        """Nothing is left to write."""

    def _leave(self, span: str) -> None:
        inside = self._current.get()
        while inside is not None and inside != span:
            inside = self._spans[inside].parent
        if inside is not None:
            self._current.set(self._spans[inside].parent)

    def _record(self, name: str, kind: str, attributes: dict[str, Json]) -> SpanRecord:
        record = SpanRecord(
            id=f"{len(self._spans):016x}",
            parent=self._current.get(),
            name=mask(name, self._secrets),
            kind=kind,
            started_at=self._clock.now(),
            attributes=harmless(attributes, self._secrets),
        )
        self._spans[record.id] = record
        return record


class _MemorySpan:
    def __init__(self, span_id: str) -> None:
        self._id = span_id
        self.added: dict[str, Json] = {}

    @property
    def id(self) -> str:
        return self._id

    def set(self, **attributes: Json) -> None:
        self.added.update(attributes)
