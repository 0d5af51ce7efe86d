"""The deadlines of a deployed job: in the queue, at its start, until its first sign of progress, in silence.

Time counts from what is seen of the job, by the clock that never jumps, and is stored as it is used up: an agent that
takes over neither forgets a deadline nor begins it anew. Must not know how a job is watched, stopped or judged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from caravan.agent.elapsed import Age, away_s, begun
from caravan.agent.purse import Money
from caravan.diagnosis.sign import (
    BUDGET_OVER,
    NOT_ENDED,
    PARTLY_PLACED,
    STALLED_AT_START,
    STALLED_IN_SILENCE,
    STALLED_WITHOUT_SIGN,
)
from caravan.ports import Clock
from caravan.values.amounts import duration
from caravan.values.base import sha256_text
from caravan.values.masking import mask
from caravan.values.plan import Limits
from caravan.values.run import (
    Allocation,
    Outcome,
    OutcomeKind,
    Phase,
    Snapshot,
    Stretch,
    TaskEvent,
    Watched,
)

SAVE_EVERY_S: Final = 30.0
"""How often the time used up is stored: an agent that is killed leaves it at most so much behind, and its successor
adds the time between."""

SECRET_S: Final = 600
"""Seconds that a task may wait for a Nomad variable or a Vault secret: either it is there, or a person has to write
it; and meanwhile the job holds its GPUs."""

END_S: Final = 600
"""Seconds, beside the task's own time to end, in which a job that was stopped must have ended."""

RUN_MARGIN_S: Final = 300
"""Seconds, beside the task's own time to end, by which the cluster or the launch script may be late with the run's
time limit: then it is held here."""

_TERMINAL: Final = frozenset({"complete", "failed", "lost"})  # client statuses in which nothing runs
_MOVES: Final = frozenset({"Driver", "Downloading Artifacts"})  # a pull tells now and then how far it is
_SECRET: Final = ("nomad.var", "vault.")  # what a template says it misses, in consul-template's words
_LIMITS: Final = {
    Stretch.QUEUED: "limits.queue_s",
    Stretch.GANG: "limits.gang_s",
    Stretch.START: "limits.start_s",
    Stretch.FIRST_SIGN: "limits.first_sign_s",
    Stretch.SILENCE: "limits.silence_s",
    Stretch.RUN: "limits.max_run_s",
}
TOLD: Final = {
    Stretch.QUEUED: "No room on the cluster",
    Stretch.GANG: PARTLY_PLACED,
    Stretch.START: STALLED_AT_START,
    Stretch.FIRST_SIGN: STALLED_WITHOUT_SIGN,
    Stretch.SILENCE: STALLED_IN_SILENCE,
    Stretch.RUN: "Time limit over",
    Stretch.BUDGET: BUDGET_OVER,
}
"""How the reason of an alarm begins: by these words the cause is found (`caravan.diagnosis.signs.stalls`)."""


@dataclass(frozen=True)
class Heard:
    """What was heard of the living tasks: bytes of their logs so far, and whether a log could not be read just now."""

    size: int = 0
    deaf: bool = False
    last_line: str = ""


@dataclass(frozen=True)
class Place:
    """Where a job is: the stretch, what its deadline counts from, the limit, and what is waited for, in words."""

    stretch: Stretch
    mark: str
    limit_s: int
    words: str
    began: datetime | None = None


class Watchdog:
    """Holds the deadlines of one deployment. `stored` is what an earlier agent used up, None for a new job.
    `end_s`: seconds that a task has to end when it is told to. `purse`: the run's money, where its job costs some.

    `watched` is to be stored when `look` says so. `alarm` is the reason why the job is to be stopped; empty: go on. It
    comes only with a snapshot that is new: while the cluster is away, or tells nothing, the job may have moved on. And
    it goes again when the job has moved on before it was stopped.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        stored: Watched | None,
        secrets: Sequence[str] = (),
        end_s: int = 0,
        purse: Money | None = None,
    ) -> None:
        self._limits = limits
        self._purse = purse
        self._late_s = end_s + RUN_MARGIN_S
        self._secrets = secrets
        self._clock = clock
        self._last = clock.monotonic()
        self._away = away_s(stored, clock)
        self.watched = stored or begun(clock)
        self.age = Age(self.watched, clock)
        """How old the job is, by which its money is counted."""
        self._saved = self._last
        self._at: datetime | None = None
        self.due = False
        """Whether a deadline has passed if all is still as it was seen: then the cluster is to be asked."""

    @property
    def alarm(self) -> str:
        """Why the job is to be stopped, once a deadline has passed."""
        return self.watched.alarm

    def look(self, snapshot: Snapshot, heard: Heard, *, asked: bool = False) -> tuple[bool, str]:
        """Look at the deadline: whether `watched` is to be stored now, and a note for a person (or nothing).

        `asked`: the cluster was asked for this snapshot just now; else it may be one that the watch shows again.
        """
        now = self._clock.monotonic()
        passed, self._last = max(0.0, now - self._last) + self._away, now
        away, self._away = self._away, 0.0
        fresh, self.due = asked or snapshot.at != self._at, False
        self._at = self._at if asked else snapshot.at
        place = where(snapshot, heard, self._limits)
        if place is None:
            return self._untouched(snapshot), ""
        over = self._overrun(snapshot, passed, away) or self._overspent(snapshot)
        if over is not None and (fresh or self.alarm):
            return self._raised(over, heard, fresh)
        self.due = over is not None
        before, mark = self.watched, sha256_text(place.mark)[:16]
        if place.stretch is not before.stretch or mark != before.mark:
            since = _since(place.began, self._clock, away)
            must = place.stretch is not before.stretch or bool(before.alarm)
            self.watched = self._stamped(before, stretch=place.stretch, mark=mark, spent_s=since, noted=False, alarm="")
            return self._to_save(must), ""
        if self.alarm:
            self.due = not fresh
            return False, ""
        if heard.deaf and place.stretch in (Stretch.FIRST_SIGN, Stretch.SILENCE):
            passed = 0.0  # nothing is known of that time: a log that can't be read is no silence
        self.watched = self._stamped(before, spent_s=before.spent_s + passed)
        self.due = self.due or (self.watched.spent_s > place.limit_s and not fresh)
        if self.watched.spent_s > place.limit_s and fresh:
            return self._raised(place, heard, fresh)
        if self.watched.spent_s > place.limit_s / 2 and not before.noted:
            self.watched = self._stamped(self.watched, noted=True)
            return self._to_save(True), mask(_half(place, self.watched.spent_s), self._secrets)
        return self._to_save(False), ""

    def _overrun(self, snapshot: Snapshot, passed: float, away: float) -> Place | None:
        """Count how long its tasks run; where that is more than they may, the place that says so."""
        live = [a for a in snapshot.allocations if a.client_status not in _TERMINAL]
        starts = [t.started_at for a in live for t in a.tasks if t.state == "running" and t.started_at]
        limit = self._limits.max_run_s
        if limit is None or not starts:
            return None
        ids = ",".join(a.id for a in live)
        mark = sha256_text(ids)[:16]
        same = mark == self.watched.ran_mark
        ran = self.watched.ran_s + passed if same else _since(min(starts), self._clock, away)
        self.watched = self._stamped(self.watched, ran_mark=mark, ran_s=ran)
        return Place(Stretch.RUN, ids, limit, "it still runs") if ran > limit + self._late_s else None

    def _overspent(self, snapshot: Snapshot) -> Place | None:
        """The place that says so where the approved money is used up. What was seen before is as good as new here:
        money is spent as long as the job is not known to have ended.
        """
        words = self._purse.over(snapshot, self.age) if self._purse is not None else ""
        return Place(Stretch.BUDGET, "", 0, words) if words else None

    def _raised(self, place: Place, heard: Heard, fresh: bool) -> tuple[bool, str]:
        """The alarm is there, from now on or from before."""
        if self.alarm:
            self.due = not fresh
            return False, ""
        alarm = mask(_alarm(place, heard), self._secrets)
        self.watched = self._stamped(
            self.watched, stretch=place.stretch, mark=sha256_text(place.mark)[:16], alarm=alarm
        )
        return self._to_save(True), ""

    def _untouched(self, snapshot: Snapshot) -> bool:
        """An alarm whose stop never came there has ended nothing. Whether `watched` is to be stored."""
        if not self.alarm or snapshot.stopped or snapshot.phase is not Phase.ENDED:
            return False
        self.watched = self._stamped(self.watched, alarm="")
        return self._to_save(True)

    def _stamped(self, watched: Watched, **changes: object) -> Watched:
        clock, age = self._clock, self.age
        clocks = {"at": clock.now(), "monotonic": clock.monotonic(), "since": age.since, "age_s": age.seconds}
        return watched.model_copy(update={**changes, **clocks})

    def _to_save(self, must: bool) -> bool:
        now = self._clock.monotonic()
        due = must or now - self._saved >= SAVE_EVERY_S
        self._saved = now if due else self._saved
        return due


def _since(began: datetime | None, clock: Clock, away: float) -> float:
    """How long a stretch goes on already that began while nobody watched: no longer than nobody did."""
    if began is None:
        return 0.0
    return min(max(0.0, (clock.now() - began).total_seconds()), away)


def where(snapshot: Snapshot, heard: Heard, limits: Limits) -> Place | None:
    """Where the job is, or None where no deadline counts: it has ended, is gone, or is being stopped."""
    if snapshot.phase in (Phase.ENDED, Phase.GONE) or snapshot.stopped:
        return None
    live = [a for a in snapshot.allocations if a.client_status not in _TERMINAL]
    if not live or snapshot.phase is Phase.QUEUED:  # one whose end was not seen may still be shown as it was
        words = snapshot.reason or "it waits for the scheduler"
        return Place(Stretch.QUEUED, str(len(snapshot.allocations)), limits.queue_s, words)
    if snapshot.placement_failures:  # all or nothing: those that have a place hold GPUs, and do nothing with them
        return Place(Stretch.GANG, "gang", limits.gang_s, snapshot.reason or "the others wait for room")
    ids = ",".join(a.id for a in live)
    running = [t for a in live for t in a.tasks if t.state == "running"]
    if not running or any(a.client_status == "pending" for a in live):
        return _starting(live, ids, snapshot, limits)
    starts = [t.started_at for t in running if t.started_at]
    if not heard.size:
        lives = sum(t.restarts for t in running)
        words = "nothing stands in its log yet"
        return Place(Stretch.FIRST_SIGN, f"{ids} {lives}", limits.first_sign_s, words, max(starts, default=None))
    return Place(Stretch.SILENCE, f"{ids} {heard.size}", limits.silence_s, "its log does not grow")


def _starting(live: Iterable[Allocation], ids: str, snapshot: Snapshot, limits: Limits) -> Place:
    """What keeps it from its start. A pull or download that says something new begins the time anew."""
    pending = [t for a in live for t in a.tasks if t.state == "pending"]
    events = [e for t in pending for e in t.events]
    moves = [e.message for e in sorted(events, key=lambda e: e.at) if e.type in _MOVES]
    limit = min(limits.start_s, SECRET_S) if any(_waits_for_secret(e) for e in events) else limits.start_s
    words = snapshot.reason or "its task has not begun"
    last = _last(events)
    if last is not None:
        words = f"{last.type}: {last.message}" if last.message else last.type
    begun_at = min((e.at for e in events), default=None)
    return Place(Stretch.START, f"{ids} {moves[-1] if moves else ''}", limit, words, begun_at)


def _waits_for_secret(event: TaskEvent) -> bool:
    return event.type == "Template" and any(word in event.message for word in _SECRET)


def _last(events: Iterable[TaskEvent]) -> TaskEvent | None:
    """The newest event of tasks that have not begun; what a template misses goes before what came after it."""
    known = sorted(events, key=lambda e: (e.type == "Template", e.at))  # of equal times the one that came later
    return known[-1] if known else None


def _alarm(place: Place, heard: Heard) -> str:
    if place.stretch is Stretch.BUDGET:
        return f"{TOLD[place.stretch]}: {place.words}"
    limit = f"{_LIMITS[place.stretch]} is {place.limit_s} s"
    if place.limit_s == SECRET_S and place.stretch is Stretch.START:
        limit = f"a secret is waited for {SECRET_S} s at most"
    said = f"; the last line: {heard.last_line}" if heard.last_line and place.stretch is Stretch.SILENCE else ""
    return f"{TOLD[place.stretch]} ({limit}): {place.words}{said}"


def _half(place: Place, spent_s: float) -> str:
    left = max(0.0, place.limit_s - spent_s)
    goal = "given up" if place.stretch in (Stretch.QUEUED, Stretch.GANG) else "stopped"
    return f"For {duration(spent_s)}: {place.words}. In {duration(left)} it is {goal} ({_LIMITS[place.stretch]})."


def ended_by_deadline(outcome: Outcome, watched: Watched | None, *, ended: bool) -> Outcome:
    """The outcome of a job that a deadline stopped: that it did, unless the job had an end of its own before.

    `ended` says whether the job was seen to end. A place that was never found stays `not_placed`.
    """
    if watched is None or not watched.alarm or watched.stretch is Stretch.QUEUED:
        return outcome
    own = outcome.kind is OutcomeKind.FAILED and outcome.exit_code is not None
    late = watched.stretch in (Stretch.RUN, Stretch.BUDGET)
    if (
        outcome.succeeded
        or (own and not late)
        or outcome.kind in (OutcomeKind.GONE, OutcomeKind.EXPIRED, OutcomeKind.CHANGED)
    ):
        return outcome
    if watched.stretch is Stretch.GANG and ended:  # what had a place has given it back
        times = {"started_at": outcome.started_at, "finished_at": outcome.finished_at}
        return Outcome(kind=OutcomeKind.NOT_PLACED, reason=watched.alarm, **times)
    reason = watched.alarm if ended else f"{watched.alarm}; {NOT_ENDED}"
    return outcome.model_copy(update={"kind": OutcomeKind.EXPIRED if late else OutcomeKind.STALLED, "reason": reason})
