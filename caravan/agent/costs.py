"""What a deployment has cost: for how long its allocations held their machines, at the plan's price. Pure.

Must not know how the deployment ended, nor what the budget is.
"""

from datetime import datetime, timedelta

from caravan.values.run import Allocation, Snapshot, TaskState

_NOTHING = timedelta()
_ENDED = frozenset({"complete", "failed"})


def held_s(snapshot: Snapshot, *, since: datetime, now: datetime) -> float:
    """Seconds for which the allocations held their machines, all added up, also those that were lost or replaced.

    An allocation holds its machine from its placement on. One whose end nobody saw counts until another one took its
    place, or to `now`. `since`: when the job was registered, before which nothing can have been placed; one whose clock
    tells nonsense counts from then. From `since` to `now` as much time must lie as has passed, though somebody set the
    clock meanwhile (`caravan.agent.elapsed`): longer no allocation can have held its machine, whatever the cluster's
    clock did.
    """
    ours = [a for a in snapshot.allocations if not a.job_version]  # another version was registered by somebody else
    begins = {a.id: _begin(a) for a in ours}
    return sum(_held(a, begins[a.id], begins.get(a.next_id or ""), (since, now)).total_seconds() for a in ours)


def _held(
    alloc: Allocation, begin: datetime | None, replaced: datetime | None, times: tuple[datetime, datetime]
) -> timedelta:
    if begin is None:
        return _NOTHING  # no machine ever took it
    since, now = times
    longest = max(now - since, _NOTHING)
    end = _end(alloc)
    if end is not None and end >= begin:  # by one clock, right or wrong
        return min(end - begin, longest)
    end = replaced if replaced is not None and begin <= replaced < now else now
    # From here on two clocks are compared.
    begin = begin if since <= begin <= end else min(since, end)
    return min(max(end - begin, _NOTHING), longest)


def _begin(alloc: Allocation) -> datetime | None:
    """When the allocation's node took it: a task's first event comes before it starts.

    The first in their order: by a clock that was set back meanwhile the last one may have the earliest time.
    """
    firsts = [times[0] for task in alloc.tasks if (times := _event_times(task))]
    return min([t.started_at for t in alloc.tasks if t.started_at] + firsts, default=None)


def _end(alloc: Allocation) -> datetime | None:
    """When its last task ended, None where nobody saw that."""
    ends = [t.finished_at for t in alloc.tasks if t.finished_at]
    if alloc.client_status in _ENDED:
        times = [time for task in alloc.tasks for time in _event_times(task)]
        return max(ends if len(ends) == len(alloc.tasks) else ends + times, default=None)
    return max(ends) if alloc.client_status == "lost" and ends and len(ends) == len(alloc.tasks) else None


def _event_times(task: TaskState) -> list[datetime]:
    return [e.at for e in task.events if e.at.year > 1970]  # where an event has no time, it has that
