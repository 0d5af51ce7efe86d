"""The shape of a sign: what in the evidence shows which cause. Only types and how a row is read; no row stands here.

A row names its cause and a pattern, or a look for what shows only in several lines. Rows are data in `signs/`; who
weighs what they find is `rules.py`. Neither a row nor a look knows the plan, the repository or the cluster.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from caravan.diagnosis.details import normal
from caravan.diagnosis.needles import Words, needles
from caravan.values.failure import FailureClass


class Origin(StrEnum):
    """Where a line of evidence comes from. A pattern means something only where it was said."""

    OUTCOME = "outcome"  # how it ended, in our words
    JUDGED = "judged"  # what we found in a training that ended, in our words
    VALIDATION = "validation"  # Nomad's errors on parsing and validating, or its refusal of a request
    EXHAUSTED = "exhausted"  # placement: what nodes that qualify lack
    FILTERED = "filtered"  # placement: why nodes were filtered out
    PLACEMENT = "placement"  # placement: counts, in our words
    EVENT = "event"  # the task's events
    LOG = "log"  # what the task wrote: the traceback that matters first, then the other lines


STOPPED_BY_REQUEST: Final = "Job stopped by request"
"""The event line of ours for a job that somebody stopped: that is a decision, not an accident."""

PARTLY_PLACED: Final = "Only a part of the group found a place"
STALLED_AT_START: Final = "Stalled before its start"
STALLED_WITHOUT_SIGN: Final = "Stalled without a first sign"
STALLED_IN_SILENCE: Final = "Stalled in silence"
NOT_ENDED: Final = "it has not ended since it was told to stop"
SMOKE_TIME: Final = "First steps: more time than was approved"
SMOKE_MEMORY: Final = "First steps: more GPU memory than there is"
BUDGET_OVER: Final = "Budget over"
JOB_CHANGED: Final = "Job changed by somebody else"
"""Words of ours on a job that a deadline or its first steps stopped, and on one that is not the run's any more."""

NOT_FOR_MEMORY: Final = "not killed for memory"
"""A line of ours on an end of which the cluster would have told, had memory been the matter."""

TOLD_BY_EVENTS: Final = "how it ended is told by its events"
"""A line of ours on a task of which no exit code is known but what its events say."""

ENDED_BADLY: Final = "ended badly"
"""A line of ours on an end of which the exit code or a signal says that it was no good one."""

Lines = Mapping[Origin, tuple[str, ...]]
"""All lines of a piece of evidence."""


@dataclass(frozen=True)
class Seen:
    """What a look or a pattern found: the lines, the place of the first among its origin's, and what they name."""

    lines: tuple[str, ...]
    index: int = 0
    details: Mapping[str, str] = field(default_factory=dict)


Look = Callable[[tuple[str, ...]], Seen | None]
"""A predicate over all lines of one origin, for what no single line shows."""


@dataclass(frozen=True)
class Sign:
    """A row: `pattern` in a line (or `look` over the lines) of an origin shows `failure` with `confidence`.

    Then it is none of `outranks`. The pattern's named groups and `details` say what the line names. `above` must be
    found in one of the few lines before (the frame of an exception). A line that says of itself that it is no failure
    (a warning, something that was skipped) shows nothing, unless `mild` is set. `escalate` marks evidence under which
    no job change is right although the class has repairs. `given` and `unless` are lines on how it ended: the row holds
    only with the one, and never with the other. `needs` are words of which a line must hold one for the pattern to
    match.
    """

    failure: FailureClass
    confidence: float
    origins: tuple[Origin, ...]
    pattern: re.Pattern[str] | None = None
    look: Look | None = None
    outranks: tuple[FailureClass, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    above: re.Pattern[str] | None = None
    mild: bool = False
    escalate: bool = False
    given: str = ""
    unless: str = ""
    needs: Words = frozenset()

    def find(self, lines: Lines) -> tuple[Origin, Seen] | None:
        """Where the row holds first, by the order of its origins; None where it does not."""
        outcome = lines.get(Origin.OUTCOME, ())
        if (self.given and self.given not in outcome) or self.unless in outcome:
            return None
        for origin in self.origins:
            seen = self._in(origin, lines.get(origin, ()))
            if seen is not None:
                return origin, Seen(seen.lines, seen.index, {**seen.details, **self.details})
        return None

    def tells(self, line: str) -> bool:
        """Whether a single line of a log shows the cause, as far as one line can."""
        return self.pattern is not None and Origin.LOG in self.origins and bool(self.pattern.search(line[:LOOKED_AT]))

    def _in(self, origin: Origin, lines: tuple[str, ...]) -> Seen | None:
        if self.look is not None:
            return self.look(lines)
        found: list[str] = []
        first = 0
        named: dict[str, str] = {}
        for index, line in enumerate(lines):
            match = self._match(origin, lines, index, line) if self._may(line) else None
            if match is None:
                continue
            first = first if found else index
            found.append(line)
            named = normal({k: v for k, v in match.groupdict().items() if v}) | named
        return Seen(tuple(found), first, named) if found else None

    def _may(self, line: str) -> bool:
        small = line.lower()
        return not self.needs or any(word in small for word in self.needs)

    def _match(self, origin: Origin, lines: tuple[str, ...], index: int, line: str) -> re.Match[str] | None:
        match = self.pattern.search(line[:LOOKED_AT]) if self.pattern is not None else None
        if match is None or (origin is Origin.LOG and not self.mild and is_mild(line)):
            return None
        if self.above is not None and not any(
            self.above.search(one[:LOOKED_AT]) for one in lines[max(0, index - _NEAR) : index]
        ):
            return None
        return match


LOOKED_AT: Final = 1000
"""Characters of a line that patterns see: no pattern may be slow on so few, whatever stands there."""

_NEAR: Final = 6  # lines above an exception: the frames that `logtext` keeps

# A line's level, where it stands for what is no failure.
_WARNING: Final = re.compile(
    r"^\W{0,3}+(?:[\d:.,TZ/+ -]{0,40}+\W{0,3}+)?(?:[\w.]{1,60}\W{1,3})?warn(?:ing)?\b"
    r"|\b\w*Warning\b|\bWARN\b|: W \S+\.cc:\d+\]|^W\d{4} ",
    re.IGNORECASE,
)
_LEVEL: Final = re.compile(
    r"^\W{0,3}+(?:[\d:.,TZ/+ -]{0,40}+\W{0,3}+)?(?:[\w.]{1,60}\W{1,3})?(?:INFO|DEBUG|NOTICE)\b|\[(?:INFO|DEBUG)\]"
)
# What goes on without something says so.
_WITHOUT: Final = re.compile(
    r"\b(?:ignor(?:ed|ing)|fall(?:ing|s)? ?back|fallback|skip(?:s|ped|ping)?|retry(?:ing)?"
    r"|will be disabled|optional(?:ly)?)\b",
    re.IGNORECASE,
)
_EXCEPTION: Final = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|OutOfMemory)\b")


_WARN_WORDS: Final = ("warn", " w ", "w0", "w1")
_LEVEL_WORDS: Final = ("info", "debug", "notice")
_WITHOUT_WORDS: Final = ("ignor", "fall", "skip", "retry", "will be disabled", "optional")


def is_warning(line: str) -> bool:
    """Whether a line is a warning by its level. An exception's own line never is."""
    line = line[:LOOKED_AT]
    return _warns(line, line.lower()) and not _EXCEPTION.match(line)


def _warns(line: str, small: str) -> bool:
    return any(word in small for word in _WARN_WORDS) and bool(_WARNING.search(line))


def is_mild(line: str) -> bool:
    """Whether a line says of itself that what it tells is no failure. An exception's own line never does."""
    line = line[:LOOKED_AT]
    small = line.lower()
    mild = (
        _warns(line, small)
        or (any(word in small for word in _LEVEL_WORDS) and _LEVEL.search(line))
        or (any(word in small for word in _WITHOUT_WORDS) and _WITHOUT.search(line))
    )
    return bool(mild) and not _EXCEPTION.match(line)


def row(
    pattern: str | Look,
    origins: Origin | tuple[Origin, ...],
    failure: FailureClass,
    confidence: float,
    *outranks: FailureClass,
    above: str = "",
    mild: bool = False,
    escalate: bool = False,
    given: str = "",
    unless: str = "",
    **details: str,
) -> Sign:
    """A row of a table: pattern (or look), where it is said, the cause, how sure, what it outranks, fixed details."""
    return Sign(
        failure=failure,
        confidence=confidence,
        origins=(origins,) if isinstance(origins, Origin) else origins,
        pattern=re.compile(pattern) if isinstance(pattern, str) else None,
        look=None if isinstance(pattern, str) else pattern,
        outranks=outranks,
        details=details,
        above=re.compile(above) if above else None,
        mild=mild,
        escalate=escalate,
        given=given,
        unless=unless,
        needs=needles(pattern) if isinstance(pattern, str) else frozenset(),
    )
