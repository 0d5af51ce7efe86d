"""A run's trace on its way to LangFuse: beside the run in a thread of its own, and later from its file.

The local file is what is sent: a sender reads its new lines, so nothing waits in memory, and what is not taken can be
sent later. What LangFuse has taken is remembered beside the file. What a trace stands for is told elsewhere; here it is
masked once more, by what is known to be secret now.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from caravan.ports import Clock
from caravan.values.base import Json, Value
from caravan.values.errors import StateError
from caravan.values.masking import mask, mask_json
from caravan.values.run import RunStatus
from caravan.values.trace import LARGEST_TRACE, LONGEST_LINE
from langfuse_access import LangfuseAccess, LangfuseError, LangfuseFault
from observability import trace_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.runs.observations import About, Observation
    from caravan.values.run import RunRecord
    from langfuse_client import LangfuseClient

_PUSH_TRIES: Final = 3
_PUSH_PAUSE_S: Final = 2.0
_LONGEST_ASKED_S: Final = 60.0  # that a push waits because LangFuse wants it so
_PIECE: Final = 1 << 20


class Sent(Value):
    """What LangFuse has of a trace: all that was over by the first `bytes` of its file.

    `to`: which LangFuse and project, as a digest. `whole`: the run was at rest then, with its scores. `rejected`: spans
    that it would not take.
    """

    to: str = ""
    bytes: int = 0
    whole: bool = False
    rejected: int = 0


@dataclass(frozen=True)
class Taken:
    """What one look has brought to LangFuse."""

    spans: int = 0
    scores: int = 0
    rejected: int = 0
    why: str = ""

    def plus(self, other: Taken) -> Taken:
        """Both together."""
        counts = self.spans + other.spans, self.scores + other.scores, self.rejected + other.rejected
        return Taken(*counts, why=self.why or other.why)


def note_path(trace: Path) -> Path:
    """Where it stands what was sent of a trace."""
    return trace.with_suffix(".sent.json")


def read_note(trace: Path) -> Sent:
    """What was sent of a trace; nothing where that is not known."""
    try:
        return Sent.model_validate_json(note_path(trace).read_bytes())
    except (OSError, ValidationError):
        return Sent()


def place_of(access: LangfuseAccess) -> str:
    """A digest of the server and the project that the keys name."""
    told = f"{access.url}\n{access.public_key.get_secret_value()}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def is_missing(trace: Path, access: LangfuseAccess) -> bool:
    """Whether LangFuse lacks something of the trace, as far as is known here."""
    note = read_note(trace)
    try:
        size = trace.stat().st_size
    except OSError:
        return False
    return size > 0 and not (note.whole and note.to == place_of(access) and note.bytes >= size and not note.rejected)


class TraceSender:
    """Sends one run's trace; used by one thread at a time. `record` is the run as it stands, whoever knows it sets it.

    `content`: what models were asked and have said goes too, where it is in the file, and the user's sentence.
    `again`: what was sent before is sent once more, which does no harm.
    """

    def __init__(
        self,
        client: LangfuseClient,
        path: Path,
        record: RunRecord,
        *,
        clock: Clock,
        secrets: Sequence[str] = (),
        content: bool = False,
        again: bool = False,
    ) -> None:
        from caravan.runs.traces import TraceReader

        self.record = record
        self._client, self._path, self._clock, self._content = client, path, clock, content
        self._secrets = tuple(secrets)
        self._reader = TraceReader()
        self._done: set[str] = set()
        self._looked = -1  # bytes that had been read when all was sent
        self._scores: Json = None
        self.note = read_note(path)
        if again or self.note.to != place_of(client.access):
            self.note = Sent(to=place_of(client.access))
        if self.note.bytes:
            self._take_lines(until=self.note.bytes)
            self._done = {o.id for o in self._observations(live=not self.note.whole)[1:]}

    def send(self, *, live: bool, timeout_s: float | None = None) -> Taken:
        """Send what is new, the root with it; at rest (`live` False) all, and the scores.

        Raises LangfuseError; what was taken until then is remembered, and the next call goes on behind it.
        """
        self._take_lines(until=LARGEST_TRACE + LONGEST_LINE)
        if live and self._reader.read == self._looked:
            return Taken()  # nothing was written since
        made = self._observations(live=live)
        taken = Taken()
        if made and (len(made) > 1 or not live):
            taken = self._send_spans(made, timeout_s)
        if made and not live:
            taken = taken.plus(self._send_scores(timeout_s))
        self._looked = self._reader.read
        if made and (len(made) > 1 or not live):
            rejected = self.note.rejected + taken.rejected
            update = {"bytes": self._reader.taken, "whole": not live, "rejected": rejected}
            self.keep(self.note.model_copy(update=update))
        return taken

    def projects(self, timeout_s: float | None = None) -> tuple[tuple[str, str], ...]:
        """The projects that the keys open: id and name. Raises LangfuseError."""
        return self._client.projects(timeout_s=timeout_s)

    def keep(self, note: Sent) -> None:
        """Remember; a disk that is full costs that what was sent is sent once more."""
        self.note = note
        place = note_path(self._path)
        partly = place.with_name(f"{place.name}.{os.getpid()}.partly")
        try:
            partly.write_text(note.model_dump_json(), encoding="utf-8")
            partly.replace(place)
        except OSError:
            partly.unlink(missing_ok=True)

    def _take_lines(self, until: int) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._reader.read)
                while data := file.read(min(_PIECE, until - self._reader.read)):
                    self._reader.feed(data)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(f"The trace {self._path} can't be read: {error.strerror}.") from error

    def _about(self) -> About:
        """What the trace's page tells of the run as a whole."""
        from caravan import __version__
        from caravan.runs.observations import About

        record = self.record
        request = record.request
        asked = About(
            run_id=record.id,
            trace_id=trace_id(record.id),
            user=record.user,
            session=PurePosixPath(request.source.rstrip("/")).name.removesuffix(".git"),
            tags=("caravan", f"cluster:{request.profile or ('local' if request.cluster == 'local' else 'nomad')}"),
            status=record.status.value,
            detail=record.detail,
            failed=record.status is RunStatus.FAILED,
            waits=record.status is RunStatus.WAITING,
            prompt=request.prompt if self._content else "",
            content=self._content,
            version=__version__,
        )
        told = {name: mask(getattr(asked, name), self._secrets) for name in ("user", "session", "detail", "prompt")}
        return asked.model_copy(update=told | {"tags": tuple(mask(t, self._secrets) for t in asked.tags)})

    def _observations(self, *, live: bool) -> tuple[Observation, ...]:
        from caravan.runs.observations import observations

        harmless = partial(mask_json, known=self._secrets)
        trace, about, now = self._reader.trace(), self._about(), self._clock.now()
        return observations(trace, about, now, live=live, harmless=harmless, without=self._done)

    def _send_spans(self, made: Sequence[Observation], timeout_s: float | None) -> Taken:
        from otlp import batches

        taken = Taken()
        for batch in batches(made):
            taken = taken.plus(self._send_batch(batch, timeout_s))
            self._done |= {o.id for o in batch if o.parent is not None}
        return taken

    def _send_batch(self, batch: Sequence[Observation], timeout_s: float | None) -> Taken:
        from caravan import __version__
        from otlp import packed, refused

        try:
            data = packed(batch, trace_id(self.record.id), __version__)
            answer = self._client.send_traces(data, timeout_s=timeout_s)
        except LangfuseError as error:
            if error.fault is LangfuseFault.TOO_LARGE:
                return self._in_parts(batch, timeout_s)
            if error.fault is LangfuseFault.REFUSED:  # it would be refused again: the rest may be well
                return Taken(rejected=len(batch), why=error.message)
            raise
        rejected, why = refused(answer)
        return Taken(spans=max(len(batch) - rejected, 0), rejected=rejected, why=mask(why, self._secrets)[:200])

    def _in_parts(self, batch: Sequence[Observation], timeout_s: float | None) -> Taken:
        """What is too large in one goes in halves, and one that is too large alone without its texts."""
        if len(batch) > 1:
            half = len(batch) // 2
            first = self._send_batch(batch[:half], timeout_s)
            return first.plus(self._send_batch(batch[half:], timeout_s))
        from caravan.runs.observations import bare

        small = bare(batch[0])
        if small == batch[0]:
            return Taken(rejected=1, why="a span is too large for LangFuse")
        return self._send_batch([small], timeout_s)

    def _send_scores(self, timeout_s: float | None) -> Taken:
        from caravan.runs.scores import scores

        found = scores(self._reader.trace(), trace_id(self.record.id), self.record)
        bodies = [mask_json(score.body(), self._secrets) for score in found]
        if not bodies or bodies == self._scores:
            return Taken()
        answer = self._client.send_scores(bodies, timeout_s=timeout_s)
        self._scores = bodies
        rejected = answer.get("rejected") if isinstance(answer, dict) else 0
        rejected = rejected if isinstance(rejected, int) else 0
        return Taken(scores=len(bodies) - rejected, rejected=rejected, why="scores were refused" if rejected else "")


def push(sender: TraceSender, clock: Clock) -> Taken:
    """Send a trace that nobody adds to, with some patience. Raises LangfuseError."""
    for attempt in range(1, _PUSH_TRIES + 1):
        try:
            return sender.send(live=False)
        except LangfuseError as error:
            pause = error.retry_after_s if error.retry_after_s is not None else _PUSH_PAUSE_S * attempt
            if attempt == _PUSH_TRIES or not error.is_passing or pause > _LONGEST_ASKED_S:
                raise
            clock.sleep(pause)
    raise AssertionError("the last try returns or raises")
