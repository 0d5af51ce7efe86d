"""Following one deployed job: its logs kept, its places and reasons stored, its result file read, its deadlines held.

Must not know how the end is judged, nor what is done about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from caravan.agent.changed import changed_by_others, may_be_another, replaced
from caravan.agent.context import Context
from caravan.agent.elapsed import Age, watched_so_far
from caravan.agent.gang import broken, sums_up
from caravan.agent.logs import TERMINAL, LogFollower
from caravan.agent.purse import Money
from caravan.agent.resuming import TakenUp
from caravan.agent.sampling import SampleFollower
from caravan.agent.smoke import FirstSteps
from caravan.agent.watchdog import END_S, Watchdog
from caravan.values.base import Json
from caravan.values.errors import ClusterError, ClusterUnreachable
from caravan.values.plan import TrainingPlan
from caravan.values.run import (
    EVALUATION_PLACED,
    Deployment,
    Phase,
    Purpose,
    RunEvent,
    RunStatus,
    Sentinel,
    SmokeResult,
    Snapshot,
    Stretch,
    Watched,
)
from caravan.values.samples import ResourceUse

_REASONS: Final = 10  # reasons for waiting that are stored of one deployment; a scheduler may count nodes for ever

_ALARMS: Final = {Stretch.QUEUED: "queue_over", Stretch.GANG: "gang_over", Stretch.BUDGET: "budget_over"}
"""Kinds of the event that says why a job was stopped; any other is `stalled`."""

_OVER: Final = (Phase.ENDED, Phase.GONE)

ASK_S: Final = 5.0
"""Seconds between two questions whether a job whose deadline has passed is still as it was seen last."""


@dataclass(frozen=True)
class Seen:
    """How a watch ended: the last snapshot, the result file, the deadlines, how old the job is, what somebody else
    changed, what the first steps showed, and what each member used.
    """

    last: Snapshot
    sentinel: Sentinel | None
    watched: Watched
    age: Age
    changed: str = ""
    smoke: SmokeResult | None = None
    uses: tuple[ResourceUse, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether the job was seen to end; not where it was told to, and its node does not answer."""
        return self.last.phase in _OVER


class JobWatch:
    """One watch over one deployment; `stored` as the store has it. `names` are metrics that the repository logs.

    `purse` holds its money; `first_steps` is told what they showed, once.
    """

    def __init__(
        self,
        context: Context,
        plan: TrainingPlan,
        stored: Deployment,
        *,
        names: tuple[str, ...],
        purse: Money | None = None,
        first_steps: Callable[[SmokeResult], object] = bool,
    ) -> None:
        self._context = context
        self._plan = plan
        self._deployment = stored
        trains = stored.purpose is Purpose.TRAIN
        self._logs = LogFollower(context, names=names, nodes=plan.launch.nodes, metrics=trains)
        self._first_steps = FirstSteps(context, plan, stored, first_steps)
        self._taken_up = TakenUp(context, plan, stored)
        self._samples = SampleFollower(context, plan)
        so_far = watched_so_far(stored)
        self._dog = Watchdog(plan.limits, context.clock, so_far, context.secrets, plan.kill_timeout_s, purse)
        self._placed: set[str] = set()
        self._reasons = {e.text for e in context.store.events(stored.run_id) if e.kind == "queued"}
        self._stopped_at: float | None = None
        self._summing_since: float | None = None
        self._told_to_stop = False
        self._failing: float | None = None
        self._alarmed = ""
        self._ask_at: float | None = None
        self._sentinel: Sentinel | None = None
        self._proved: tuple[str, ...] = ()
        self._asked: set[tuple[str, str]] = set()

    def follow(self) -> Seen:
        """Watch the job until it has ended, is gone, belongs to somebody else, or does not end though it was told to.

        Raises ClusterUnreachable when the cluster is away for too long, and where the answer decides on a success.
        """
        last: Snapshot | None = None
        deployment, context = self._deployment, self._context
        for snapshot in context.cluster.watch(deployment.job_id, deployment.namespace):
            last = snapshot
            over = snapshot.phase in _OVER
            if not over:
                context.progress.snapshot(snapshot)
            self._keep_places(snapshot)
            self._keep_reason(snapshot)
            self._logs.copy(snapshot)
            if over:
                context.progress.snapshot(snapshot)  # behind its last lines
            self._first_steps.look(snapshot)
            self._taken_up.look(snapshot)
            self._samples.look(snapshot)
            self._prove_early(snapshot)
            if changed := changed_by_others(snapshot, deployment):
                return self._seen(snapshot, changed)
            self._guard(snapshot)
            if self._overstays(snapshot):
                return self._seen(snapshot)
        if last is None:
            raise AssertionError("watch yields at least one snapshot")
        if may_be_another(last, deployment):
            found = context.cluster.find(deployment.job_id, deployment.namespace)
            if changed := replaced(found, deployment):
                return self._seen(last, changed)
        return self._seen(last)

    def _seen(self, last: Snapshot, changed: str = "") -> Seen:
        if changed:
            self._event(last, "changed", f"job {self._deployment.job_id} is not this run's any more: {changed}")
        gone = last.phase is Phase.GONE or bool(changed)
        sentinel = None if gone else self._context.read_sentinel(self._context.cluster, last)
        if sentinel is None and self._proved == _ids(last):
            sentinel = self._sentinel  # read in time; the cluster has collected it since
        dog = self._dog
        return Seen(last, sentinel, dog.watched, dog.age, changed, self._first_steps.found, self._samples.uses)

    def _prove_early(self, snapshot: Snapshot) -> None:
        """Read the result file as soon as a task is dead, before the cluster can collect it; once for each death."""
        dead = {(a.id, t.name) for a in snapshot.allocations for t in a.tasks if t.state == "dead"}
        if dead <= self._asked:
            return
        try:
            self._sentinel = self._context.read_sentinel(self._context.cluster, snapshot)
        except ClusterError:
            return  # asked again with the next snapshot, and at the end
        self._asked |= dead
        self._proved = _ids(snapshot)

    def _guard(self, snapshot: Snapshot) -> None:
        """Stop the job where the user said so or a deadline has passed; what is to outlive us is stored before."""
        context, deployment, dog = self._context, self._deployment, self._dog
        if snapshot.stopped or self._told_to_stop:
            return
        if snapshot.phase not in _OVER and context.store.run(deployment.run_id).status is RunStatus.STOPPED:
            self._stop()  # the stop came between our look at the store and the registration
            return
        if (why := broken(snapshot, self._plan.launch.nodes)) and not self._sums_up(snapshot):
            if why != self._alarmed:
                self._alarmed = why
                context.progress.note(why)
                self._event(snapshot, "member_lost", why)
            self._stop()
            return
        save, note = dog.look(snapshot, self._logs.heard(snapshot))
        if dog.due and (now := self._asked_anew(snapshot)) is not None:
            snapshot = now
            self._logs.copy(snapshot)
            again, _ = dog.look(snapshot, self._logs.heard(snapshot), asked=True)
            save = save or again
        if save:
            context.store.save_deployment(deployment.model_copy(update={"watched": dog.watched}))
        if note:
            context.progress.note(note)
        if dog.alarm and not dog.due and snapshot.phase not in _OVER:
            if dog.alarm != self._alarmed:
                self._alarmed = dog.alarm
                context.progress.note(dog.alarm)
                kind = _ALARMS.get(dog.watched.stretch, "stalled")
                self._event(snapshot, kind, dog.alarm)
            self._stop()

    def _asked_anew(self, last: Snapshot) -> Snapshot | None:
        """The job as it is now, None where the cluster does not say: then it is asked again some seconds later."""
        clock, deployment = self._context.clock, self._deployment
        if self._ask_at is not None and clock.monotonic() < self._ask_at:
            return None
        try:
            now = self._context.cluster.snapshot(deployment.job_id, deployment.namespace)
        except ClusterError:
            return None
        finally:
            self._ask_at = clock.monotonic() + ASK_S
        if now.stopped or changed_by_others(now, deployment):
            return None  # the watch comes to it
        # What the cluster has collected since stays as it was seen, as the watch shows it.
        known = {a.id: a for a in (*last.allocations, *now.allocations)}
        return now.model_copy(update={"allocations": tuple(known.values())})

    def _stop(self) -> None:
        """Stop the job. Where the cluster can't be reached it is tried again, for as long as an end is waited for."""
        now = self._context.clock.monotonic()
        try:
            self._context.cluster.stop(self._deployment.job_id, self._deployment.namespace)
        except ClusterUnreachable:
            self._failing = now if self._failing is None else self._failing
            if now - self._failing > END_S:
                raise
            return
        self._told_to_stop = True

    def _overstays(self, snapshot: Snapshot) -> bool:
        """Whether a job that was stopped, by whomever, does not end: its node may be away for good."""
        if not snapshot.stopped or snapshot.phase in _OVER:
            return False
        now = self._context.clock.monotonic()
        self._stopped_at = now if self._stopped_at is None else self._stopped_at
        return now - self._stopped_at > self._plan.kill_timeout_s + END_S

    def _sums_up(self, snapshot: Snapshot) -> bool:
        """Whether the member that failed may still copy and sum up: for as long as a stopped job may take to end."""
        if not sums_up(snapshot):
            return False
        now = self._context.clock.monotonic()
        self._summing_since = now if self._summing_since is None else self._summing_since
        return now - self._summing_since <= self._plan.kill_timeout_s + END_S

    def _keep_places(self, snapshot: Snapshot) -> None:
        """Store which allocation belongs to which attempt: logs outlive what the cluster knows of it.

        The event has the time of the task's first event, so that a node that runs twice stores it once; by whatever
        clock the cluster goes, it comes after the registration.
        """
        deployment = self._deployment
        for allocation in snapshot.allocations:
            times = [event.at for task in allocation.tasks for event in task.events]
            if allocation.id in self._placed or not times:
                continue
            self._placed.add(allocation.id)
            where = allocation.node_name or allocation.node_id[:8]
            data: dict[str, Json] = {"alloc_id": allocation.id, "attempt": deployment.attempt, "node": where}
            if self._plan.launch.nodes > 1:
                data["member"] = allocation.name.rsplit(".", 1)[-1]
            what, kind = f"attempt {deployment.attempt}", "placed"
            if deployment.purpose is Purpose.EVALUATE:  # whoever looks for the training's outputs is not led there
                what, kind = f"evaluation of {what}", EVALUATION_PLACED
            text = f"{what} placed on {where} (allocation {allocation.id[:8]})"
            at = max(min(times), deployment.registered_at or min(times))
            event = RunEvent(at=at, kind=kind, text=text, data=data)
            self._context.store.add_event(deployment.run_id, event)

    def _keep_reason(self, snapshot: Snapshot) -> None:
        """Store why it waits for room, each reason once."""
        text = f"{snapshot.job_id} waits: {snapshot.reason}"
        placed = snapshot.phase not in (Phase.QUEUED, Phase.STARTING) or not snapshot.placement_failures
        waits = not placed and not snapshot.stopped
        if waits and text not in self._reasons and len(self._reasons) < _REASONS:
            self._reasons.add(text)
            self._event(snapshot, "queued", text)

    def _event(self, snapshot: Snapshot, kind: str, text: str) -> None:
        data: dict[str, Json] = {"job_id": snapshot.job_id, "attempt": self._deployment.attempt}
        event = RunEvent(at=self._context.clock.now(), kind=kind, text=text, data=data)
        self._context.store.add_event(self._deployment.run_id, event)


def _ids(snapshot: Snapshot) -> tuple[str, ...]:
    return tuple(sorted(a.id for a in snapshot.allocations if a.client_status in TERMINAL))
