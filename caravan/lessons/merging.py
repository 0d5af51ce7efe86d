"""When two lessons are the same one, and how an equal lesson is merged into a stored one.

Counting is by source: what one run says counts once, however often it says it (a node may run twice).
"""

from datetime import datetime
from typing import Final

from caravan.lessons.records import CONTEXT_KEYS, StoredLesson, Vote
from caravan.values.base import canonical_json, sha256_text
from caravan.values.failure import Lesson
from caravan.values.fingerprint import shape

_VOTES: Final = 64  # sources remembered for each lesson; a run repeats itself soon or not at all


def lesson_key(lesson: Lesson) -> str:
    """The identity of a lesson: class, fingerprint, context (framework, base model, method) and what was changed.

    A lesson without class and fingerprint is what somebody wrote down: then its words count too.
    """
    identity = {
        "failure": lesson.failure,
        "fingerprint": lesson.fingerprint,
        "context": {key: lesson.context[key] for key in CONTEXT_KEYS if lesson.context.get(key) is not None},
        "changes": [[change.path, change.value] for change in lesson.changes],
    }
    if lesson.failure is None and not lesson.fingerprint:
        identity["text"] = shape(lesson.text).casefold()
    return sha256_text(canonical_json(identity))


def first(lesson: Lesson, now: datetime) -> StoredLesson:
    """A lesson seen for the first time."""
    return StoredLesson(
        lesson=lesson,
        worked=int(lesson.worked is True),
        failed=int(lesson.worked is False),
        first_seen=now,
        last_seen=now,
        votes=(Vote(source=lesson.source, worked=lesson.worked),),
    )


def merge(stored: StoredLesson, lesson: Lesson, now: datetime) -> StoredLesson:
    """The stored lesson after an equal one came.

    From a source that has spoken already, only a changed outcome changes anything: it replaces the earlier one.
    """
    earlier = next((v for v in stored.votes if v.source == lesson.source), None)
    if earlier is not None and lesson.worked in (None, earlier.worked):
        return stored
    others = tuple(v for v in stored.votes if v is not earlier)
    document = {
        "times": stored.times + (earlier is None),
        "worked": stored.worked + (lesson.worked is True) - (earlier is not None and earlier.worked is True),
        "failed": stored.failed + (lesson.worked is False) - (earlier is not None and earlier.worked is False),
        "last_seen": max(stored.last_seen, now),
        "votes": (*others, Vote(source=lesson.source, worked=lesson.worked))[-_VOTES:],
    }
    return stored.model_copy(update=document)
