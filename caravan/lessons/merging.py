"""When two lessons are the same one, and how an equal lesson is merged into a stored one.

Counting is by source: what one run says counts once, however often it says it (a node may run twice).
"""

from datetime import datetime
from typing import Final

from caravan.lessons.records import CONTEXT_KEYS, StoredLesson, Vote
from caravan.values.base import canonical_json, sha256_text
from caravan.values.failure import FailureClass, Lesson
from caravan.values.fingerprint import shape

BY_GPU: Final = frozenset(
    {
        FailureClass.CUDA_OOM,
        FailureClass.GPU_MEMORY_CONTENDED,
        FailureClass.BF16_UNSUPPORTED,
        FailureClass.FLASH_ATTN_UNUSABLE,
        FailureClass.CUDA_DRIVER_TOO_OLD,
    }
)
"""Causes whose repair on one type of GPU says little of another."""
_VOTES: Final = 64  # sources remembered for each lesson; a run repeats itself soon or not at all


def lesson_key(lesson: Lesson) -> str:
    """The identity of a lesson: class, fingerprint, what is trained how by which code, and what was changed.

    Where it ran counts only for causes that the GPU's type decides, and how much it had counts nowhere: other amounts
    are other changes. A lesson without class and fingerprint is what somebody wrote down: then its words count too.
    """
    keys = (*CONTEXT_KEYS, "gpu_model") if lesson.failure in BY_GPU else CONTEXT_KEYS
    identity = {
        "failure": lesson.failure,
        "fingerprint": lesson.fingerprint,
        "context": {key: lesson.context[key] for key in keys if lesson.context.get(key) is not None},
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


def merge_stored(stored: StoredLesson, other: StoredLesson) -> StoredLesson:
    """The stored lesson after the record of an equal one came from elsewhere; the same record twice changes nothing.

    Sources that both know count once, with the word of the record that was seen last. Sources that a record counts but
    does not name any more can't be told apart, so that then the larger count stands.
    """
    newer = other.last_seen > stored.last_seen
    words = {v.source: v for v in other.votes}
    mine = [words.get(v.source, v) if newer else v for v in stored.votes]
    new = [vote for source, vote in words.items() if source not in {v.source for v in mine}]
    votes = (*mine, *new) if newer else (*new, *mine)
    counted = {"times": len(votes)} | {
        name: sum(v.worked is outcome for v in votes) for name, outcome in (("worked", True), ("failed", False))
    }
    if any(len(record.votes) < record.times for record in (stored, other)):
        known = {name: max(count, getattr(stored, name), getattr(other, name)) for name, count in counted.items()}
        counted = known | {"times": max(known["times"], known["worked"] + known["failed"])}
    return stored.model_copy(
        update={
            **counted,
            "first_seen": min(stored.first_seen, other.first_seen),
            "last_seen": max(stored.last_seen, other.last_seen),
            "votes": votes[-_VOTES:],
        }
    )
