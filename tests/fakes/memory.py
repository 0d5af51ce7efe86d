"""A memory in a dictionary, with the real merging and ranking; words in common stand for the likeness of texts."""

import re
import uuid
from collections.abc import Sequence
from pathlib import Path

from caravan.lessons import (
    Candidate,
    Sought,
    StoredLesson,
    as_case,
    first,
    from_record,
    lesson_key,
    merge,
    merge_stored,
    prepared,
    rank,
    search_text,
    to_record,
)
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import ServiceError
from caravan.values.failure import Diagnosis, Exported, Lesson, PastCase


class FakeMemory:
    """The port Memory. `down` makes every call raise ServiceError."""

    def __init__(self, clock: Clock, *, secrets: Sequence[str] = ()) -> None:
        self.clock = clock
        self.secrets = tuple(secrets)
        self.down = False
        self.stored: dict[str, StoredLesson] = {}
        self.exported: dict[str, tuple[Exported, frozenset[str]]] = {}
        self.closed = False

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        self._answer()
        sought = Sought(
            failure=diagnosis.failure if diagnosis else None,
            fingerprint=diagnosis.fingerprint if diagnosis else "",
            context=context,
            text=text.strip() or (diagnosis.cause if diagnosis else ""),
            confidence=diagnosis.confidence if diagnosis else 1.0,
        )
        words = _words(text or (diagnosis.cause if diagnosis else ""))
        found = [
            Candidate(id=case_id, stored=stored, similarity=_alike(words, _words(search_text(stored.lesson))))
            for case_id, stored in self.stored.items()
        ]
        return rank(found, sought, self.clock.now(), limit=limit)

    def remember(self, lesson: Lesson) -> str:
        self._answer()
        lesson = prepared(lesson, self.secrets)
        case_id = _id(lesson)
        known, now = self.stored.get(case_id), self.clock.now()
        self.stored[case_id] = merge(known, lesson, now) if known else first(lesson, now)
        return case_id

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        self._answer()
        found = [Candidate(id=case_id, stored=stored) for case_id, stored in self.stored.items()]
        found.sort(key=lambda c: (c.stored.last_seen, c.id), reverse=True)
        return tuple(as_case(candidate, self.clock.now()) for candidate in found[:limit])

    def forget(self, case_id: str) -> bool:
        self._answer()
        return self.stored.pop(case_id, None) is not None

    def export(self) -> tuple[dict[str, Json], ...]:
        self._answer()
        return tuple(to_record(s) for s in sorted(self.stored.values(), key=lambda s: s.first_seen))

    def note_export(self, path: Path) -> None:
        self._answer()
        if self.stored:
            place = str(path.absolute())
            self.exported[place] = Exported(path=place, at=self.clock.now()), frozenset(self.stored)

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:
        rows = [row for row, ids in self.exported.values() if case_id in ids]
        rows = [row.model_copy(update={"there": Path(row.path).exists()}) for row in rows]
        return tuple(sorted(rows, key=lambda row: (row.at, row.path)))

    def restore(self, record: Json) -> bool:
        self._answer()
        told = from_record(record, self.secrets, now=self.clock.now())
        case_id = _id(told.lesson)
        known = self.stored.get(case_id)
        self.stored[case_id] = merge_stored(known, told) if known else told
        return known is None

    def close(self) -> None:
        self.closed = True

    def _answer(self) -> None:
        if self.down:
            raise ServiceError("The memory can't be reached.", hint="It is down on purpose.")


def _id(lesson: Lesson) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, lesson_key(lesson)))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.casefold()))


def _alike(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0
