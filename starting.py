"""A memory that knows the shipped lessons beside what is stored, until a run tries one or a person forgets it.

A shipped lesson is stored with the first run that has its word on it; from then on the store's is the only one. What
was taken in and what was forgotten stands as empty files in a folder, one for each lesson, so that several processes
need no lock. It knows the port alone, and nothing of where lessons are stored.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from caravan.lessons import Candidate, Sought, as_case, first, lesson_key, prepared, rank, search_text, to_record
from caravan.ports import Clock, Memory
from caravan.values.base import Json
from caravan.values.errors import ServiceError
from caravan.values.failure import Diagnosis, Exported, Lesson, PastCase

_GONE: Final = (".taken", ".forgotten")


class StartingMemory:
    """The port Memory over another one, with shipped lessons. `lessons` loads them, on the first call that needs them.

    `folder` keeps which of them were taken in or forgotten: those stay away, also after an update of the program.
    """

    def __init__(self, memory: Memory, lessons: Callable[[], Sequence[Lesson]], folder: Path, *, clock: Clock) -> None:
        self._memory = memory
        self._lessons = lessons
        self._folder = folder
        self._clock = clock

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        """As the memory does, and what is shipped against the cause; before anything failed nothing is shipped."""
        cases = self._memory.recall(text=text, diagnosis=diagnosis, context=context, limit=limit)
        if diagnosis is None and context.get("entry_point"):
            return cases
        sought = Sought(
            failure=diagnosis.failure if diagnosis else None,
            fingerprint=diagnosis.fingerprint if diagnosis else "",
            context=context,
            confidence=diagnosis.confidence if diagnosis else 1.0,
        )
        shipped = rank(self._candidates(text), sought, self._clock.now(), limit=limit)
        known = {_key(case) for case in cases}
        new = [_undated(case) for case in shipped if _key(case) not in known]
        return tuple(sorted((*cases, *new), key=lambda case: -case.score)[: max(limit, 0)])

    def remember(self, lesson: Lesson) -> str:
        """As the memory does. The first word on a shipped lesson takes that in before it."""
        case_id = _id(lesson_key(prepared(lesson)))
        shipped = self._shipped.get(case_id)
        if shipped is not None and not self._gone(case_id):
            try:
                self._memory.restore(to_record(first(shipped, self._clock.now())))
            except ServiceError:  # the word itself may be kept for later
                return self._memory.remember(lesson)
            self._note(case_id, ".taken")
        return self._memory.remember(lesson)

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """As the memory does, then what is shipped."""
        cases = self._memory.all(limit=limit)
        if len(cases) >= limit:
            return cases
        known = {_key(case) for case in cases}
        shipped = (_undated(as_case(candidate, self._clock.now())) for candidate in self._candidates())
        return (*cases, *(case for case in shipped if _key(case) not in known))[:limit]

    def forget(self, case_id: str) -> bool:
        """As the memory does; a shipped lesson stays forgotten."""
        if case_id not in self._shipped:
            return self._memory.forget(case_id)
        if self._gone(case_id):
            return False
        self._note(case_id, ".forgotten")
        return True

    def export(self) -> tuple[dict[str, Json], ...]:
        """As the memory does: what is shipped is everywhere already."""
        return self._memory.export()

    def note_export(self, path: Path) -> None:
        """As the memory does."""
        self._memory.note_export(path)

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:
        """As the memory does."""
        return self._memory.exports_of(case_id)

    def restore(self, record: Json) -> bool:
        """As the memory does."""
        return self._memory.restore(record)

    def close(self) -> None:
        """As the memory does."""
        self._memory.close()

    @cached_property
    def _shipped(self) -> dict[str, Lesson]:
        return {_id(lesson_key(lesson)): lesson for lesson in map(prepared, self._lessons())}

    def _candidates(self, text: str = "") -> list[Candidate]:
        asked, now = _words(text), self._clock.now()
        there = {case_id: lesson for case_id, lesson in self._shipped.items() if not self._gone(case_id)}
        return [
            Candidate(id=case_id, stored=first(lesson, now), similarity=_alike(asked, _words(search_text(lesson))))
            for case_id, lesson in there.items()
        ]

    def _gone(self, case_id: str) -> bool:
        return any((self._folder / f"{case_id}{what}").exists() for what in _GONE)

    def _note(self, case_id: str, what: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._folder / f"{case_id}{what}").touch(mode=0o600)
        except OSError as error:
            raise ServiceError(
                f"{self._folder} can't be written ({error.strerror}).",
                hint="CARAVAN_MEMORY_STARTERS=0 goes on without.",
            ) from error


def _undated(case: PastCase) -> PastCase:
    return case.model_copy(update={"last_seen": None})


def _key(case: PastCase) -> str:
    fields = case.model_dump(include={"failure", "fingerprint", "text", "context", "changes", "before", "scope"})
    return lesson_key(Lesson.model_validate(fields))


def _id(key: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"starter:{key}"))


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9_]{3,}", text.casefold()))


def _alike(asked: frozenset[str], there: frozenset[str]) -> float:
    """The share of what is asked that stands there, 0 to 1."""
    return len(asked & there) / len(asked) if asked else 0.0
