"""When two lessons are the same one, and how an equal lesson is merged into a stored one.

Counting is by source: what one run says counts once, however often it says it (a node may run twice). Merging two
stored forms of a lesson gives the same in either order, and merging one in again changes nothing.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from caravan.lessons.records import CODE, CONTEXT_KEYS, REPOSITORY, STARTER, StoredLesson, Vote
from caravan.lessons.versions import seen_together
from caravan.values.base import Json, canonical_json, sha256_text
from caravan.values.failure import FailureClass, Lesson, Scope
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
CODES: Final = "codes_seen"
"""The key of the context that says in which states of the code a lesson was seen, where there were several."""
_CODES: Final = 16  # states of the code that are remembered
_VOTES: Final = 64  # sources remembered for each lesson; a run repeats itself soon or not at all


def lesson_key(lesson: Lesson) -> str:
    """The identity of a lesson: class, fingerprint, what is trained how in which repository, and what was changed.

    The state of the code tells lessons apart only where the repository is not known: what helped before an edit and
    after it is one lesson with two votes, which remembers under which states of the code it was seen. Where it ran
    counts only for causes that the GPU's type decides, and how much it had, and under which versions, counts nowhere:
    other amounts are other changes. What speaks to one repository alone is never one with what
    another taught. A lesson without class and fingerprint is what somebody wrote down: then its words count too.
    """
    keys: tuple[str, ...] = (*CONTEXT_KEYS, "gpu_model") if lesson.failure in BY_GPU else CONTEXT_KEYS
    if lesson.context.get(REPOSITORY) is not None:
        keys = (REPOSITORY, *(key for key in keys if key != CODE))
    identity: dict[str, Json] = {
        "failure": lesson.failure,
        "fingerprint": lesson.fingerprint,
        "context": {key: lesson.context[key] for key in keys if lesson.context.get(key) is not None},
        "changes": [[change.path, change.value] for change in lesson.changes],
    }
    if lesson.scope is Scope.REPOSITORY:
        identity["scope"] = [lesson.scope, lesson.context.get(REPOSITORY)]
    if lesson.failure is None and not lesson.fingerprint:
        identity["text"] = shape(lesson.text).casefold()
    return sha256_text(canonical_json(identity))


def first(lesson: Lesson, now: datetime) -> StoredLesson:
    """A lesson seen for the first time."""
    worked, failed, shipped = lesson.worked is True, lesson.worked is False, lesson.source == STARTER
    return StoredLesson(
        lesson=lesson,
        worked=int(worked),
        failed=int(failed),
        elsewhere_worked=int(worked and shipped),
        elsewhere_failed=int(failed and shipped),
        first_seen=now,
        last_seen=now,
        votes=(Vote(source=lesson.source, worked=lesson.worked, at=now, elsewhere=shipped),),
    )


def merge(stored: StoredLesson, lesson: Lesson, now: datetime) -> StoredLesson:
    """The stored lesson after an equal one came; the versions of both are kept.

    From a source that has spoken already, only a changed outcome changes anything: it replaces the earlier one. So does
    what it says here of what a record only said that it had.
    """
    vote = Vote(source=lesson.source, worked=lesson.worked, at=now, elsewhere=lesson.source == STARTER)
    earlier = next((v for v in stored.votes if v.by() == vote.by()), None)
    if earlier is not None and (
        vote.worked is None or (vote.worked == earlier.worked and earlier.elsewhere == vote.elsewhere)
    ):
        return stored
    counted = {
        "worked": stored.worked + _is(vote, True) - _is(earlier, True),
        "failed": stored.failed + _is(vote, False) - _is(earlier, False),
        "elsewhere_worked": max(stored.elsewhere_worked + _theirs(vote, True) - _theirs(earlier, True), 0),
        "elsewhere_failed": max(stored.elsewhere_failed + _theirs(vote, False) - _theirs(earlier, False), 0),
    }
    others = tuple(v for v in stored.votes if v is not earlier)
    context = _context(stored.lesson.context, lesson.context)
    return stored.model_copy(
        update={
            **counted,
            "lesson": stored.lesson.model_copy(update={"context": context}),
            "times": stored.times + (earlier is None),
            "last_seen": max(stored.last_seen, now),
            "votes": (*others, vote)[-_VOTES:],
        }
    )


def merge_stored(stored: StoredLesson, other: StoredLesson) -> StoredLesson:
    """The stored lesson after the record of an equal one came from elsewhere; the same record twice changes nothing.

    Sources that both know count once, with their later word; over what a source said here, no word of it from elsewhere
    counts. Sources that a record counts but does not name any more can't be told apart, so that then the larger count
    stands. What either knows to be of its own runs stays so.
    """
    if stored == other:
        return stored
    votes = _joined(stored, other)
    counts = {name: sum(_is(v, outcome) for v in votes) for name, outcome in (("worked", True), ("failed", False))}
    own = {name: sum(_is(v, outcome) - _theirs(v, outcome) for v in votes) for name, outcome in _OUTCOMES}
    times = len(votes)
    if any(len(record.votes) < record.times for record in (stored, other)):
        both = (stored.own(), other.own())
        counts = {name: max(count, getattr(stored, name), getattr(other, name)) for name, count in counts.items()}
        own = {name: max(own[name], *(record[n] for record in both)) for n, (name, _) in enumerate(_OUTCOMES)}
        times = max(times, stored.times, other.times, counts["worked"] + counts["failed"])
    older = min((stored, other), key=lambda s: (s.first_seen, s.lesson.canonical()))
    before, latest = sorted((stored, other), key=lambda s: (s.last_seen, canonical_json(s.lesson.context)))
    context = _context(before.lesson.context, latest.lesson.context)
    return older.model_copy(
        update={
            **counts,
            "lesson": older.lesson.model_copy(update={"context": context}),
            "elsewhere_worked": counts["worked"] - own["worked"],
            "elsewhere_failed": counts["failed"] - own["failed"],
            "times": times,
            "first_seen": min(stored.first_seen, other.first_seen),
            "last_seen": max(stored.last_seen, other.last_seen),
            "votes": tuple(votes[-_VOTES:]),
        }
    )


_OUTCOMES: Final = (("worked", True), ("failed", False))


def _joined(stored: StoredLesson, other: StoredLesson) -> list[Vote]:
    """The votes of both, each source's word that counts, in the order in which they were given."""
    found: dict[str, tuple[tuple[datetime, str], Vote]] = {}
    words = [(vote, record) for record in (stored, other) for vote in record.votes]
    words.sort(key=lambda word: _weight(*word))
    for vote, record in words:
        found[vote.by()] = ((vote.at or record.last_seen, vote.by()), vote)
    return [vote for _, vote in sorted(found.values(), key=lambda f: f[0])]


def _weight(vote: Vote, record: StoredLesson) -> tuple[bool, bool, datetime, bool, str]:
    """Which of two words of one source counts: the one given here, then a told outcome, then the later one.

    Of equals the worse does, so that the order in which they come is none.
    """
    return (
        not vote.elsewhere,
        vote.worked is not None,
        vote.at or record.last_seen,
        vote.worked is False,
        vote.canonical(),
    )


def _context(before: dict[str, Json], latest: dict[str, Json]) -> dict[str, Json]:
    """The later context over the earlier one, with the versions of both."""
    joined = {**before, **{key: value for key, value in latest.items() if value is not None}}
    seen = seen_together(before, latest)
    codes = sorted({*codes_of(before), *codes_of(latest)})
    if len(codes) > 1:
        now = str(joined.get(CODE) or codes[-1])
        joined[CODES] = sorted([*[code for code in codes if code != now][1 - _CODES :], now])
    return {**joined, "versions_seen": seen} if seen else joined


def codes_of(context: dict[str, Json]) -> tuple[str, ...]:
    """The digests of all code in which the lesson was seen, as far as they are remembered."""
    seen = context.get(CODES)
    known = [context.get(CODE), *(seen if isinstance(seen, list | tuple) else ())]
    return tuple(dict.fromkeys(str(code) for code in known if code is not None))


def _is(vote: Vote | None, outcome: bool) -> int:
    return int(vote is not None and vote.worked is outcome)


def _theirs(vote: Vote | None, outcome: bool) -> int:
    return int(vote is not None and vote.elsewhere and vote.worked is outcome)


def tally(lessons: Iterable[StoredLesson]) -> tuple[int, int]:
    """How often lessons worked and failed in all, each lesson's word from elsewhere as one at most."""
    worked = failed = 0
    for stored in lessons:
        own_worked, own_failed = stored.own()
        worked += own_worked + int(stored.elsewhere_worked > stored.elsewhere_failed)
        failed += own_failed + int(stored.elsewhere_failed > stored.elsewhere_worked)
    return worked, failed
