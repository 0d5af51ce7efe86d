"""A group that trains together: whether one of its members is lost to it while the others go on. Pure.

Nomad knows no group of this kind: it would let the others wait for the lost one, GPUs in hand. Must not know how a job
is stopped, nor what is made of its end.
"""

from typing import Final

from caravan.values.run import DRAGGED, Allocation, Phase, Snapshot

_ENDED: Final = frozenset({"complete", "failed", "lost"})


def broken(snapshot: Snapshot, nodes: int) -> str:
    """Why the whole group has to end, in a line; empty where nothing speaks against it.

    A member that came to its end well has done its part. One that was lost, failed or was taken away breaks the group,
    also where the cluster has replaced it: the new one can't join a training that has begun.
    """
    if nodes == 1 or snapshot.phase in (Phase.ENDED, Phase.GONE):
        return ""
    for member in snapshot.allocations:
        if member.client_status in _ENDED and not _well(member):
            name = member.name.rsplit(".", 1)[-1]
            where = member.node_name or member.node_id[:8]
            how = "was lost with its node" if member.client_status == "lost" else "has ended"
            return f"{name} on {where} {how}: the other members can't go on without it, so the job is stopped"
    return ""


def sums_up(snapshot: Snapshot) -> bool:
    """Whether all that ended badly were only dragged along, while the member that failed still copies and sums up.

    Its scripts tell the others at once, so they end before it does; a stop would cut what it copies.
    """
    ended = [m for m in snapshot.allocations if m.client_status in _ENDED and not _well(m)]
    lives = any(m.client_status not in _ENDED for m in snapshot.allocations)
    return lives and bool(ended) and all(_dragged(member) for member in ended)


def _dragged(member: Allocation) -> bool:
    codes = [end.exit_code for task in member.tasks if (end := task.terminated()) is not None]
    return DRAGGED in codes and all(code in (0, DRAGGED) for code in codes)


def _well(member: Allocation) -> bool:
    ends = [task.terminated() for task in member.tasks]
    clean = all(end is not None and end.exit_code == 0 for end in ends) and not any(t.failed for t in member.tasks)
    return member.client_status == "complete" and clean
