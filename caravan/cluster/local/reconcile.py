"""What a job's evaluation must place, stop and leave alone. Pure: it compares a job with its allocations."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from caravan.cluster.local.canonical import group_of, same_tasks
from caravan.cluster.local.state import AllocRecord
from caravan.cluster.local.words import SECOND, JsonDict

NOT_NEEDED = "alloc not needed due to job update"
UPDATED = "alloc is being updated due to job update"
RESCHEDULED = "alloc was rescheduled because it failed"
MOVED = "alloc is being migrated"
_SOON = SECOND  # as near as this to its time, a failed allocation is tried again at once
_COUNTS = (
    "Canary",
    "DestructiveUpdate",
    "Disconnect",
    "Ignore",
    "InPlaceUpdate",
    "Migrate",
    "Place",
    "Preemptions",
    "Reconnect",
    "RescheduleLater",
    "RescheduleNow",
    "Stop",
)


@dataclass(frozen=True)
class Wanted:
    """An allocation to place; `previous` is the one it follows, for another try or because that was lost.

    `instead`: it takes the place of that one, which is stopped for it.
    """

    group: JsonDict
    name: str
    previous: AllocRecord | None = None
    rescheduled: bool = False
    instead: bool = False


@dataclass
class Decision:
    """What an evaluation does; `later` is to be placed anew at a time (ns). `updates` counts it for each group, as the
    API's DesiredTGUpdates."""

    place: list[Wanted] = field(default_factory=list)
    stop: list[tuple[AllocRecord, str]] = field(default_factory=list)
    keep: list[AllocRecord] = field(default_factory=list)
    later: list[tuple[AllocRecord, int]] = field(default_factory=list)
    updates: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, group: str, what: str, number: int = 1) -> None:
        """Count an update of a group."""
        self.updates.setdefault(group, dict.fromkeys(_COUNTS, 0))[what] += number


def reconcile(job: JsonDict | None, records: list[AllocRecord], now: int, eval_id: str = "") -> Decision:
    """Compare a job with its allocations (of this registration and older ones); `now` in nanoseconds.

    A job that is None or stopped needs none of them. `eval_id` is the evaluation that asks: what was put off until
    it comes is due. The newest records stand first.
    """
    decision = Decision()
    if job is None or job["Stop"]:
        for title in dict.fromkeys([g["Name"] for g in (job or {}).get("TaskGroups", [])]):
            decision.count(title, "Stop", 0)
        for record in records:
            if not _over(record):
                _stop(decision, record, NOT_NEEDED)
        return decision
    own = [r for r in records if r.job["CreateIndex"] == job["CreateIndex"]]
    for record in records:
        wanted = group_of(job, record.body["TaskGroup"])
        if record not in own or wanted is None or not wanted["Count"]:
            _unwanted(decision, record)
    for group in job["TaskGroups"]:
        decision.count(group["Name"], "Place", 0)
        if group["Count"]:
            mine = [r for r in own if r.body["TaskGroup"] == group["Name"]]
            _Group(decision, job, group, now, eval_id).settle(mine)
    return decision


def _over(record: AllocRecord) -> bool:
    """Whether server or client has ended it."""
    return record.client_terminal or record.body["DesiredStatus"] == "stop"


def _older(record: AllocRecord, job: JsonDict) -> bool:
    return bool(record.job["Version"] != job["Version"] or record.job["CreateIndex"] != job["CreateIndex"])


def _stop(decision: Decision, record: AllocRecord, why: str) -> None:
    decision.stop.append((record, why))
    decision.count(record.body["TaskGroup"], "Stop")


def _unwanted(decision: Decision, record: AllocRecord) -> None:
    """One of a group that is gone, or of an older registration. As in Nomad, those that have ended are counted too."""
    if not _over(record):
        _stop(decision, record, NOT_NEEDED)
    elif record.body["DesiredStatus"] != "stop" or record.job["Type"] == "batch":
        decision.count(record.body["TaskGroup"], "Stop")


@dataclass
class _Group:
    """What becomes of the allocations of one group, by Nomad's rules: which count, which go, which are to come."""

    decision: Decision
    job: JsonDict
    group: JsonDict
    now: int
    eval_id: str
    counted: list[AllocRecord] = field(default_factory=list)
    again: list[AllocRecord] = field(default_factory=list)  # failed, and due to be tried again
    moved: list[AllocRecord] = field(default_factory=list)  # stopped by hand or lost: replaced

    def settle(self, records: list[AllocRecord]) -> None:
        for record in records:
            self.classify(record)
        self.stop_surplus()
        self.update()
        self.place()

    def count(self, what: str, number: int = 1) -> None:
        self.decision.count(self.group["Name"], what, number)

    def classify(self, record: AllocRecord) -> None:
        """Whether an allocation counts towards the group's number, is replaced, or no longer matters."""
        body, batch = record.body, self.job["Type"] == "batch"
        stopped, status = body["DesiredStatus"] == "stop", body["ClientStatus"]
        if batch and _older(record, self.job) and _over(record):
            self.count("Ignore")
        elif stopped and body.get("DesiredDescription") == MOVED and not body.get("NextAllocation"):
            self.moved.append(record)
            self.count("Migrate")
        elif stopped:
            self.count("Ignore", int(batch))
        elif record.client_terminal and body.get("NextAllocation"):
            return  # another has taken its place
        elif status == "lost":
            self.moved.append(record)
        elif status == "failed":
            self.failed(record)
        elif batch or status != "complete":
            self.counted.append(record)

    def failed(self, record: AllocRecord) -> None:
        at = reschedule_at(record, self.group)
        if at is not None and (at - self.now <= _SOON or record.body.get("FollowupEvalID") == self.eval_id != ""):
            self.again.append(record)
            return
        self.counted.append(record)
        if at is not None and not record.body.get("FollowupEvalID"):
            self.decision.later.append((record, at))
            self.count("RescheduleLater")

    def stop_surplus(self) -> None:
        """Stop those with the highest numbers that are too many."""
        surplus = len(self.counted) - self.group["Count"]
        if surplus > 0:
            for record in sorted(self.counted, key=number_of)[-surplus:]:
                _stop(self.decision, record, NOT_NEEDED)
                self.counted.remove(record)

    def update(self) -> None:
        """Bring those of an older version to the new one, in place where what runs stays the same."""
        for record in sorted(self.counted, key=number_of):
            if not _older(record, self.job):
                self.count("Ignore")
            elif not same_tasks(record.job, self.job, self.group["Name"]):
                self.decision.stop.append((record, UPDATED))
                self.decision.place.append(Wanted(self.group, record.body["Name"], record, instead=True))
                self.count("DestructiveUpdate")
            elif record.client_terminal:
                self.count("Ignore")
            else:
                self.decision.keep.append(record)
                self.count("InPlaceUpdate")

    def place(self) -> None:
        """Place what is to follow another, then what is missing, under the lowest free numbers."""
        taken = {r.body["Name"] for r in (*self.counted, *self.again, *self.moved)}
        for record in sorted(self.again, key=number_of):
            self.decision.place.append(Wanted(self.group, record.body["Name"], record, rescheduled=True))
            self.decision.stop.append((record, RESCHEDULED))
            self.count("Stop")
        room = self.group["Count"] - len(self.counted) - len(self.again)
        following = sorted(self.moved, key=number_of)[: max(room, 0)]
        for record in following:
            previous = None if _older(record, self.job) else record
            self.decision.place.append(Wanted(self.group, record.body["Name"], previous))
        wanted = (f"{self.job['ID']}.{self.group['Name']}[{i}]" for i in range(self.group["Count"]))
        free = [name for name in wanted if name not in taken][: max(room - len(following), 0)]
        self.decision.place += [Wanted(self.group, name) for name in free]
        moved = sum(r.body["DesiredStatus"] == "stop" for r in following)  # told as migrations
        self.count("Place", len(self.again) + len(following) - moved + len(free))


def number_of(record: AllocRecord) -> int:
    """The number in an allocation's name: `job.group[3]`."""
    return int(str(record.body["Name"]).rpartition("[")[2].rstrip("]") or 0)


def before_which(holding: Mapping[str, AllocRecord], record: AllocRecord) -> str | None:
    """The allocation that has to end before this one may begin: the one that it replaces, while that holds anything."""
    before = holding.get(str(record.body.get("PreviousAllocation")))
    return before.id if before is not None and not record.body.get("TaskStates") else None


def reschedule_at(record: AllocRecord, group: JsonDict) -> int | None:
    """When a failed allocation is to be placed anew (ns since 1970), or None: its policy allows no more."""
    policy = group["ReschedulePolicy"]
    if record.body["ClientStatus"] != "failed" or record.body.get("NextAllocation"):
        return None
    ended = _ended(record)
    tries = [e["RescheduleTime"] for e in (record.body.get("RescheduleTracker") or {}).get("Events") or []]
    if not policy["Unlimited"]:
        recent = [t for t in tries if t >= ended - policy["Interval"]]
        if len(recent) >= policy["Attempts"]:
            return None
    return ended + _delay(policy, len(tries))


def _delay(policy: JsonDict, tries: int) -> int:
    base, ceiling = int(policy["Delay"]), int(policy["MaxDelay"])
    if policy["DelayFunction"] == "exponential":
        delay = base << min(tries, 30)
    elif policy["DelayFunction"] == "fibonacci":
        one, other = base, base
        for _ in range(min(tries, 60)):
            one, other = other, one + other
        delay = one
    else:
        return base
    return min(delay, ceiling) if ceiling else delay


def _ended(record: AllocRecord) -> int:
    """The time of the last task event; without one, of the last change."""
    states = (record.body.get("TaskStates") or {}).values()
    times = [e["Time"] for s in states for e in s["Events"] or []]
    return int(max(times, default=record.body["ModifyTime"]))
