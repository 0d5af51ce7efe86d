"""Which past cases fit: by structure first (cause, what it names, fingerprint, context), by likeness of text second.

Likeness alone misleads: the scores of right and wrong neighbours overlap, so it only orders what the structure leaves
equal, and fills up the end. Age and other versions weaken a case within its tier; what a person wrote down does not
age by its days.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from pydantic import Field

from caravan.lessons.facets import another_thing, likeness, same_thing
from caravan.lessons.merging import codes_of, tally
from caravan.lessons.neighbours import NO_CAUSE, near
from caravan.lessons.records import CODE, COMPARED_KEYS, REPOSITORY, STARTER, StoredLesson, said
from caravan.lessons.versions import HALF_STEPS, apart, holds
from caravan.lessons.weights import BY_CONTEXT, weights
from caravan.lessons.wording import likeness as alike_words
from caravan.lessons.wording import words as words_of
from caravan.values.base import Json, Value
from caravan.values.failure import FailureClass, PastCase, Scope
from caravan.values.lesson_fields import PROGRAM

HALF_LIFE_DAYS: Final = 180.0
"""Days after which half of what age takes is gone. A choice, not a measurement: images and libraries turn over in
about a year."""
FRESH: Final = 0.1
"""The share of a case's weight that age and other versions take at most: an old case of this very failure says more
than a fresh one of another."""

# Shares of the weight inside a tier. They add up to 1.
_FIT, _TEXT, _SUCCESS = 0.45, 0.35, 0.2
_FIT_BY_WORDS, _TEXT_BY_WORDS = 0.3, 0.5  # where the words say which failure it is
_FIT_ELSEWHERE, _TEXT_ELSEWHERE = 0.15, 0.65  # of another cause: nothing but the words says that it is this failure
_TIERS: Final = 5
_LIKE, _VERY_LIKE = 0.5, 0.72
_PRIOR: Final = 1.0  # the weight of not knowing: a fit of one half
_NAMES: Final = {CODE: "code", "gpu_model": "GPU", "base_model": "model", "entry_point": "entry point"}
_SURE: Final = 0.9  # from here on a diagnosis says its cause in so many words
# How alike the decisive lines must be for a lesson of another cause to stand beside those of the same one.
_SAME_WORDS, _SAME_WORDS_FAR = 0.4, 0.7


class Candidate(Value):
    """A stored lesson that may fit. `similarity` is the cosine of the texts, None where it was not asked for."""

    id: str
    stored: StoredLesson
    similarity: float | None = None


class Sought(Value):
    """What is looked for: the cause and fingerprint of a failure (None before anything failed), context and text."""

    failure: FailureClass | None = None
    fingerprint: str = ""
    context: dict[str, Json] = Field(default_factory=dict)
    text: str = ""
    confidence: float = Field(default=1.0, description="how sure the cause is, 0 to 1")


class _Looked(NamedTuple):
    candidate: Candidate
    tier: int
    fit: float
    words: float = 0.0


def rank(candidates: Iterable[Candidate], sought: Sought, now: datetime, *, limit: int = 5) -> tuple[PastCase, ...]:
    """The `limit` most fitting cases, the best first, each with its score (0 to 1) and why it is here.

    A case of a higher tier stands before every case of a lower one, whatever their age and text. Candidates that share
    neither structure nor words with what is sought are left out, and so is what speaks to another repository alone. A
    change that failed more often than it worked in contexts like this one counts as one that does not work.
    """
    heard = [c for c in {c.id: c for c in candidates}.values() if _speaks_to(c.stored, sought)]
    looked = _first_tiers([_look(c, w, sought) for c, w in zip(heard, _words(heard, sought), strict=True)], limit)
    looked = [x for x in looked if x.tier > 0 or (x.candidate.similarity or 0.0) > 0.0 or x.words > 0.0]
    against = _failed_alike(looked)
    scored = [(_score(x, sought, now, against), x) for x in looked]
    scored.sort(key=lambda s: (-s[0], s[1].candidate.id))
    return tuple(_case(score, x, sought, now, against) for score, x in scored[: max(limit, 0)])


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
        scope=stored.lesson.scope,
        own=stored.taught_here(),
        why=", ".join(_record(stored, now)),
    )


def _speaks_to(stored: StoredLesson, sought: Sought) -> bool:
    """Whether a lesson may be told here: one of a repository only in that repository."""
    if stored.lesson.scope is not Scope.REPOSITORY:
        return True
    here = sought.context.get(REPOSITORY)
    return here is not None and stored.lesson.context.get(REPOSITORY) == here


def _look(candidate: Candidate, words: float, sought: Sought) -> _Looked:
    fit = _fit(candidate.stored, sought)
    return _Looked(candidate, _tier(candidate.stored, sought, fit, words), fit, words)


def _fit(stored: StoredLesson, sought: Sought) -> float:
    """How alike the contexts are in what the cause depends on, 0 to 1; one half where nothing is known."""
    share = weights(stored.lesson.failure if sought.failure in NO_CAUSE else sought.failure)
    found = likeness(stored.lesson.context, sought.context)
    if 1.0 in (found.get("code"), found.get("program")):
        return 1.0  # an edit of other files, or another place, makes it no other training
    known = {facet: value for facet, value in found.items() if facet in share and facet not in ("code", "program")}
    total = sum(share[facet] for facet in known) + _PRIOR
    return (sum(share[facet] * value for facet, value in known.items()) + 0.5 * _PRIOR) / total


def _tier(stored: StoredLesson, sought: Sought, fit: float, words: float) -> int:
    """How much the structures have in common, 4 to 0.

    After a failure: 4: the same failure in a like context; 3: the same failure elsewhere; 2: the same cause, or the
    same thing or the same words by another cause; 1: the same cause of another thing, or the same fingerprint by
    another cause; 0: neither. The same failure is told by its fingerprint, by its decisive line or by what it names;
    where every failure of a cause reads alike, by the context. A cause that is not sure, or not known, may have been
    taken for a neighbour of it: then the same line or the same thing by that one is the same failure, too.
    Before one: 4: the same code or program; 3: the same repository, or a context very like this one; 2: a like one;
    1: a part.
    """
    have = stored.lesson.context
    if sought.failure is None:
        return _tier_of_plan(stored, sought, fit)
    same_print = bool(sought.fingerprint) and stored.lesson.fingerprint == sought.fingerprint
    if sought.failure in NO_CAUSE or stored.lesson.failure is not sought.failure:
        if same_print and stored.lesson.failure is sought.failure:
            return 4
        return max(int(same_print), _tier_across(stored, sought, words))
    same_print = same_print or _same_line(have, sought.context)
    if another_thing(have, sought.context) or not holds(have, sought.context):
        return 1
    if sought.failure in BY_CONTEXT:
        return 4 if fit >= _VERY_LIKE else 3 if fit >= _LIKE or same_print else 2
    if same_print or same_thing(have, sought.context):
        return 4 if fit >= _LIKE else 3
    return 2


def _tier_across(stored: StoredLesson, sought: Sought, words: float) -> int:
    """The same for a lesson of another cause, or where the cause is not known."""
    have, want = stored.lesson.context, sought.context
    if another_thing(have, want):
        return 0
    kin = near(stored.lesson.failure, sought.failure)
    doubtful = sought.failure in NO_CAUSE or sought.confidence < _SURE
    if same_thing(have, want):
        return 3 if kin else 2
    if _same_line(have, want):
        return 3 if kin and doubtful else 2
    return 2 if words >= (_SAME_WORDS if kin and doubtful else _SAME_WORDS_FAR) else 0


def _same_line(have: dict[str, Json], want: dict[str, Json]) -> bool:
    """Whether the first decisive line of both is the same, but for what varies."""
    mine, theirs = said(have), said(want)
    return bool(mine) and mine[:1] == theirs[:1] and len(words_of(mine[0])) > 1


def _tier_of_plan(stored: StoredLesson, sought: Sought, fit: float) -> int:
    have, want = stored.lesson.context, sought.context
    if _same_code(have, want) or _same(have, want, PROGRAM):
        return 4
    same, compared = _context(stored, sought)
    if _same(have, want, REPOSITORY) or (len(same) > 1 and fit >= _VERY_LIKE) or (same and same == compared):
        return 3
    if same and fit >= _LIKE:
        return 2
    return int(bool(same))


def _same_code(have: dict[str, Json], want: dict[str, Json]) -> bool:
    return want.get(CODE) is not None and want[CODE] in codes_of(have)


def _same(have: dict[str, Json], want: dict[str, Json], key: str) -> bool:
    return want.get(key) is not None and have.get(key) == want.get(key)


def _first_tiers(looked: Sequence[_Looked], limit: int) -> list[_Looked]:
    """Those of the highest tiers that hold enough of them: no other can be among the first."""
    kept: list[_Looked] = []
    for tier in sorted({x.tier for x in looked}, reverse=True):
        if len(kept) >= limit:
            break
        kept += [x for x in looked if x.tier == tier]
    return kept


def _words(candidates: Sequence[Candidate], sought: Sought) -> list[float]:
    """How alike the words are of each, 0 to 1: of the decisive lines where both have them, else of the texts."""
    lessons = [c.stored.lesson for c in candidates]
    asked = "\n".join(said(sought.context))
    texts = alike_words(sought.text, [x.text for x in lessons]) if sought.text.strip() else [0.0] * len(lessons)
    if not asked:
        return texts
    lines = alike_words(asked, ["\n".join(said(x.context)) for x in lessons])
    return [max(line, text) for line, text in zip(lines, texts, strict=True)]


def _failed_alike(looked: Sequence[_Looked]) -> dict[str, tuple[int, int]]:
    """Changes that failed at least once in a like context of the same cause → how often they worked and failed."""
    alike: dict[str, list[StoredLesson]] = {}
    for x in looked:
        if _is_like(x):
            alike.setdefault(_signature(x.candidate.stored), []).append(x.candidate.stored)
    return {what: tally(those) for what, those in alike.items() if what and any(stored.failed for stored in those)}


def _is_like(looked: _Looked) -> bool:
    return looked.tier >= 2 and looked.fit >= _LIKE


def _signature(stored: StoredLesson) -> str:
    return "\n".join(sorted(f"{change.path}={change.value!r}" for change in stored.lesson.changes))


def _told(looked: _Looked, against: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """How often it worked and failed: its change in like contexts, where that failed, else the lesson alone."""
    alike = against.get(_signature(looked.candidate.stored)) if _is_like(looked) else None
    return tally([looked.candidate.stored]) if alike is None else alike


def _score(looked: _Looked, sought: Sought, now: datetime, against: dict[str, tuple[int, int]]) -> float:
    """How fitting it is, 0 to 1."""
    stored = looked.candidate.stored
    worked, failed = _told(looked, against)
    success = (worked + 1) / (worked + failed + 2)  # Laplace's rule of succession
    fit_share, text_share = _shares(stored, sought)
    fresh = 1.0 - FRESH * (1.0 - _decay(stored, sought, now))
    weight = (fit_share * looked.fit + text_share * _text(looked) + _SUCCESS * success) * fresh
    return (looked.tier + weight) / _TIERS


def _case(
    score: float, looked: _Looked, sought: Sought, now: datetime, against: dict[str, tuple[int, int]]
) -> PastCase:
    candidate, stored = looked.candidate, looked.candidate.stored
    worked, failed = _told(looked, against)
    case = as_case(candidate, now)
    same, _ = _context(stored, sought)
    notes = []
    if _is_like(looked) and _signature(stored) in against and failed > worked and case.worked is not False:
        notes.append(f"not followed: the same change failed {failed} of {worked + failed} times in like contexts")
    if not holds(stored.lesson.context, sought.context):
        notes.append("not followed: it holds for other versions")
    why = [*_likeness(candidate, sought, same), case.why, *notes, *_aged(stored, sought)]
    return case.model_copy(
        update={
            "score": score,
            "worked": None if notes else case.worked,
            "same": tuple(same),
            "why": ", ".join(w for w in why if w),
        }
    )


def _shares(stored: StoredLesson, sought: Sought) -> tuple[float, float]:
    """How much the fit of the contexts and the likeness of the texts count."""
    if sought.failure is not None and (sought.failure in NO_CAUSE or stored.lesson.failure is not sought.failure):
        return _FIT_ELSEWHERE, _TEXT_ELSEWHERE
    return (_FIT, _TEXT) if sought.failure in BY_CONTEXT else (_FIT_BY_WORDS, _TEXT_BY_WORDS)


def _text(looked: _Looked) -> float:
    """How alike the texts are: by meaning, and by the rare words that they share."""
    cosine = min(max(looked.candidate.similarity or 0.0, 0.0), 1.0)
    if looked.candidate.similarity is None:
        return looked.words
    return 0.4 * cosine + 0.6 * looked.words if looked.words else cosine


def _context(stored: StoredLesson, sought: Sought) -> tuple[list[str], list[str]]:
    """The context keys on which both agree, and those that both have."""
    have = stored.lesson.context
    compared = [k for k in COMPARED_KEYS if have.get(k) is not None and sought.context.get(k) is not None]
    equal = [k for k in compared if str(have[k]).casefold() == str(sought.context[k]).casefold()]
    if CODE not in equal and _same_code(have, sought.context):
        equal.insert(0, CODE)
    if "subject" not in equal and same_thing(have, sought.context):
        equal.append("subject")
    return equal, compared


def _decay(stored: StoredLesson, sought: Sought, now: datetime) -> float:
    """What is left of a case by its age in days and in versions, 1 to 0."""
    steps = apart(stored.lesson.context, sought.context, sought.failure or stored.lesson.failure)
    days = 0.0 if any(vote.source in ("user", STARTER) for vote in stored.votes) else _days(stored, now)
    return float(0.5 ** (days / HALF_LIFE_DAYS + steps / HALF_STEPS))


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
    if another_thing(lesson.context, sought.context):
        why.append(f"of another thing ({str(lesson.context.get('subject'))[:60]})")
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
    own = sum(stored.own())
    shipped = stored.lesson.source == STARTER
    record = [f"worked {stored.worked} of {told} times" if told else "outcome not known"]
    if shipped and not own:
        record = ["a starter lesson that no run here has tried"]
    elif told and not own:
        record.append("elsewhere, not in runs here")
    if stored.fallen():
        record.append("not followed any more: it failed here as often as it worked, or more")
    if stored.times > 1:
        record.append(f"seen {stored.times} times")
    days = int(_days(stored, now))
    if not shipped or own:
        record.append("seen today" if days == 0 else f"last seen {days} day{'s' if days != 1 else ''} ago")
    return record


def _aged(stored: StoredLesson, sought: Sought) -> list[str]:
    """That it was learned under other versions, where this takes half of its weight or more."""
    steps = apart(stored.lesson.context, sought.context, sought.failure or stored.lesson.failure)
    return ["learned under other versions"] if steps >= HALF_STEPS else []
