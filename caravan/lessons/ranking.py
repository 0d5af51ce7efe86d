"""Which past cases fit: by structure first (cause, fingerprint, context), by likeness of text second.

Likeness alone misleads: the scores of right and wrong neighbours overlap, so it only orders what the structure leaves
equal, and fills up the end. Age weakens a case within its tier; what a person wrote down does not age.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pydantic import Field

from caravan.lessons.records import CODE, COMPARED_KEYS, StoredLesson
from caravan.values.base import Json, Value
from caravan.values.failure import FailureClass, PastCase

HALF_LIFE_DAYS: Final = 180.0
"""Days after which a case weighs half. A choice, not a measurement: images and libraries turn over in about a year."""

# Shares of the weight inside a tier: context, how often it worked, likeness of the text. They add up to 1.
_CONTEXT, _SUCCESS, _LIKENESS = 0.4, 0.35, 0.25
_TIERS: Final = 4
_NAMES: Final = {CODE: "code", "gpu_model": "GPU"}
# Causes that say nothing in common: two failures of unknown cause are alike only by their fingerprint.
_NO_CAUSE: Final = frozenset({FailureClass.UNKNOWN, FailureClass.NO_FAILURE})


class Candidate(Value):
    """A stored lesson that may fit. `similarity` is the cosine of the texts, None where it was not asked for."""

    id: str
    stored: StoredLesson
    similarity: float | None = None


class Sought(Value):
    """What is looked for: the cause and fingerprint of a failure (None before anything failed) and the context."""

    failure: FailureClass | None = None
    fingerprint: str = ""
    context: dict[str, Json] = Field(default_factory=dict)


def rank(candidates: Iterable[Candidate], sought: Sought, now: datetime, *, limit: int = 5) -> tuple[PastCase, ...]:
    """The `limit` most fitting cases, the best first, each with its score (0 to 1) and why it is here.

    A case of a higher tier stands before every case of a lower one, whatever their age and text. Candidates that share
    neither structure nor words with what is sought are left out.
    """
    cases = []
    for candidate in {c.id: c for c in candidates}.values():
        tier = _tier(candidate.stored, sought)
        if tier == 0 and (candidate.similarity or 0.0) <= 0.0:
            continue
        cases.append(_case(candidate, sought, tier, now))
    return tuple(sorted(cases, key=lambda c: (-c.score, c.id))[: max(limit, 0)])


def as_case(candidate: Candidate, now: datetime) -> PastCase:
    """A stored lesson as a case that was not searched for: `why` tells its record only."""
    stored = candidate.stored
    return PastCase(
        id=candidate.id,
        failure=stored.lesson.failure,
        fingerprint=stored.lesson.fingerprint,
        text=stored.lesson.text,
        context=stored.lesson.context,
        changes=stored.lesson.changes,
        before=stored.lesson.before,
        worked=stored.verdict(),
        times=stored.times,
        succeeded=stored.worked,
        failed=stored.failed,
        last_seen=stored.last_seen,
        source=stored.votes[-1].source if stored.votes else stored.lesson.source,
        why=", ".join(_record(stored, now)),
    )


def _case(candidate: Candidate, sought: Sought, tier: int, now: datetime) -> PastCase:
    stored = candidate.stored
    same, compared = _context(stored, sought)
    share = len(same) / len(compared) if compared else 0.0
    success = (stored.worked + 1) / (stored.worked + stored.failed + 2)  # Laplace's rule of succession
    likeness = min(max(candidate.similarity or 0.0, 0.0), 1.0)
    weight = (_CONTEXT * share + _SUCCESS * success + _LIKENESS * likeness) * _decay(stored, now)
    case = as_case(candidate, now)
    why = [*_likeness(candidate, sought, same), case.why]
    return case.model_copy(
        update={
            "score": (tier + weight) / _TIERS,
            "same": tuple(same),
            "why": ", ".join(w for w in why if w),
        }
    )


def _tier(stored: StoredLesson, sought: Sought) -> int:
    """3: same cause and fingerprint; 2: same cause; 1: same fingerprint, or some of the context; 0: neither.

    Before anything failed there is no cause: then the same code counts as 3 and the whole context as 2.
    """
    same_print = bool(sought.fingerprint) and stored.lesson.fingerprint == sought.fingerprint
    if sought.failure is not None:
        if stored.lesson.failure is sought.failure and same_print:
            return 3
        if stored.lesson.failure is sought.failure and sought.failure not in _NO_CAUSE:
            return 2
        return int(same_print)
    same, compared = _context(stored, sought)
    if CODE in same:
        return 3
    if same and len(same) == len(compared):
        return 2
    return int(bool(same) or same_print)


def _context(stored: StoredLesson, sought: Sought) -> tuple[list[str], list[str]]:
    """The context keys on which both agree, and those that both have."""
    have = stored.lesson.context
    compared = [k for k in COMPARED_KEYS if have.get(k) is not None and sought.context.get(k) is not None]
    return [k for k in compared if str(have[k]).casefold() == str(sought.context[k]).casefold()], compared


def _decay(stored: StoredLesson, now: datetime) -> float:
    if any(vote.source == "user" for vote in stored.votes):
        return 1.0
    return float(0.5 ** (_days(stored, now) / HALF_LIFE_DAYS))


def _days(stored: StoredLesson, now: datetime) -> float:
    return max((now - stored.last_seen).total_seconds(), 0.0) / 86400


def _likeness(candidate: Candidate, sought: Sought, same: list[str]) -> list[str]:
    """Why the case is here, in words."""
    lesson = candidate.stored.lesson
    why = []
    if sought.failure is not None and lesson.failure is sought.failure:
        why.append(f"same cause ({lesson.failure})")
    elif sought.failure is not None and lesson.failure is not None:
        why.append(f"another cause ({lesson.failure})")
    if sought.fingerprint and lesson.fingerprint == sought.fingerprint:
        why.append("same fingerprint")
    if same:
        why.append(f"same {' and '.join(_NAMES.get(k, k.replace('_', ' ')) for k in same)}")
    if candidate.similarity is not None:
        why.append(
            f"text likeness {candidate.similarity:.2f}"
            if why
            else f"only the text is alike ({candidate.similarity:.2f})"
        )
    return why


def _record(stored: StoredLesson, now: datetime) -> list[str]:
    """How the lesson fared so far, in words."""
    told = stored.worked + stored.failed
    record = [f"worked {stored.worked} of {told} times" if told else "outcome not known"]
    if stored.times > 1:
        record.append(f"seen {stored.times} times")
    days = int(_days(stored, now))
    record.append("seen today" if days == 0 else f"last seen {days} day{'s' if days != 1 else ''} ago")
    return record
