"""What a job's evaluation must place, stop and leave alone. Pure: it compares a job with its allocations."""

from dataclasses import dataclass, field

from caravan.cluster.local.canonical import group_of, same_group
from caravan.cluster.local.state import AllocRecord
from caravan.cluster.local.words import JsonDict

NOT_NEEDED = "alloc not needed due to job update"
UPDATED = "alloc is being updated due to job update"
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
    """An allocation to place; `previous` is the one it follows, for another try or because that was lost."""

    group: JsonDict
    name: str
    previous: AllocRecord | None = None
    rescheduled: bool = False


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


def reconcile(job: JsonDict | None, records: list[AllocRecord], now: int) -> Decision:
    """Compare a job with its allocations (of this registration and older ones); `now` in nanoseconds.

    A job that is None or stopped needs none of them.
    """
    decision = Decision()
    if job is None or job["Stop"]:
        for record in records:
            _stop(decision, record)
        for group in (job or {}).get("TaskGroups", []):
            decision.count(group["Name"], "Stop", 0)
        return decision
    own = [r for r in records if r.job["CreateIndex"] == job["CreateIndex"]]
    for record in records:
        if record not in own or group_of(job, record.body["TaskGroup"]) is None:
            _stop(decision, record)
    for group in job["TaskGroups"]:
        decision.count(group["Name"], "Place", 0)
        names = [f"{job['ID']}.{group['Name']}[{i}]" for i in range(group["Count"])]
        for record in own:
            if record.body["TaskGroup"] == group["Name"] and record.body["Name"] not in names:
                _stop(decision, record)
        for name in names:
            _name(decision, job, group, name, [r for r in own if r.body["Name"] == name], now)
    return decision


def _stop(decision: Decision, record: AllocRecord) -> None:
    if not record.client_terminal and record.body["DesiredStatus"] == "run":
        decision.stop.append((record, NOT_NEEDED))
        decision.count(record.body["TaskGroup"], "Stop")


def _name(decision: Decision, job: JsonDict, group: JsonDict, name: str, records: list[AllocRecord], now: int) -> None:
    """Decide for one allocation name; `records` hold it, the newest first."""
    title = group["Name"]
    decision.count(title, "Ignore", len(records[1:]))
    if not records:
        decision.place.append(Wanted(group, name))
        decision.count(title, "Place")
        return
    newest = records[0]
    old = newest.job["Version"] != job["Version"]
    status = newest.body["ClientStatus"]
    if newest.body["DesiredStatus"] == "stop" or status == "lost":
        decision.place.append(Wanted(group, name, None if old else newest))
        decision.count(title, "Place")
    elif newest.client_terminal and old:
        decision.place.append(Wanted(group, name))
        decision.count(title, "Ignore")
        decision.count(title, "Place")
    elif status == "failed" and (at := reschedule_at(newest, group)) is not None:
        if at <= now:
            decision.place.append(Wanted(group, name, newest, rescheduled=True))
        else:
            decision.later.append((newest, at))
        decision.count(title, "RescheduleNow" if at <= now else "RescheduleLater")
    elif newest.client_terminal or not old:
        decision.count(title, "Ignore")
    elif same_group(group_of(newest.job, title) or {}, group):
        decision.keep.append(newest)
        decision.count(title, "InPlaceUpdate")
    else:
        decision.stop.append((newest, UPDATED))
        decision.place.append(Wanted(group, name))
        decision.count(title, "DestructiveUpdate")


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
