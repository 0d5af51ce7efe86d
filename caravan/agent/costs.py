"""What a deployment has cost: for how long its allocations held their machines, at the plan's price. Pure.

Must not know how the deployment ended, nor what the budget is.
"""

from datetime import datetime, timedelta

from caravan.values.run import Allocation, Snapshot

_NOTHING = timedelta()
_ENDED = frozenset({"complete", "failed"})


def held_s(snapshot: Snapshot, *, created_at: datetime, registered_at: datetime, now: datetime) -> float:
    """Seconds for which the allocations held their machines, all added up, also those that were lost or replaced.

    An allocation holds its machine from its placement on. One whose end nobody saw counts until another one took its
    place, or to `now`. `created_at`: when the run began, before which nothing can have been placed; `registered_at`:
    from when an allocation counts whose clock tells nonsense. All three by the agent's clock; the cluster's may differ.
    """
    ours = [a for a in snapshot.allocations if not a.job_version]  # another version was registered by somebody else
    begins = {a.id: _begin(a) for a in ours}
    return sum(
        _held(a, begins[a.id], begins.get(a.next_id or ""), (created_at, registered_at, now)).total_seconds()
        for a in ours
    )


def _held(
    alloc: Allocation, begin: datetime | None, replaced: datetime | None, times: tuple[datetime, datetime, datetime]
) -> timedelta:
    if begin is None:
        return _NOTHING  # no machine ever took it
    created_at, registered_at, now = times
    # A clock that was set back since the run began bounds nothing.
    longest = now - created_at if now >= created_at else timedelta.max
    end = _end(alloc)
    if end is not None and end >= begin:  # by one clock, right or wrong
        return min(end - begin, longest)
    end = replaced if replaced is not None and begin <= replaced < now else now
    # From here on two clocks are compared.
    begin = begin if created_at <= begin <= end else min(registered_at, end)
    return min(max(end - begin, _NOTHING), longest)


def _begin(alloc: Allocation) -> datetime | None:
    """When the allocation's node took it: its first event comes before the first task starts."""
    times = [t.started_at for t in alloc.tasks if t.started_at] + _event_times(alloc)
    return min(times, default=None)


def _end(alloc: Allocation) -> datetime | None:
    """When its last task ended, None where nobody saw that."""
    ends = [t.finished_at for t in alloc.tasks if t.finished_at]
    if alloc.client_status in _ENDED:
        return max(ends if len(ends) == len(alloc.tasks) else ends + _event_times(alloc), default=None)
    return max(ends) if alloc.client_status == "lost" and ends and len(ends) == len(alloc.tasks) else None


def _event_times(alloc: Allocation) -> list[datetime]:
    return [e.at for t in alloc.tasks for e in t.events if e.at.year > 1970]  # where an event has no time, it has that
