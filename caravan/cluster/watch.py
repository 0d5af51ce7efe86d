"""How a deployment ended: `judge`, and the sentinel that a task's launch script writes last. Pure.

A batch job's own word can't be trusted: Nomad has reported an out-of-memory kill as `complete`, and a stop by hand or
a time limit ends as `complete` too. So success needs task events, exit code and sentinel to agree; whatever falls
between is `unproven`. Must not know how snapshots are fetched.
"""

import json
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from caravan.cluster.snapshots import (
    TERMINAL,
    allocation_words,
    expired,
    first_failed,
    last_end,
    latest,
    one_line,
    task_words,
    was_killed,
)
from caravan.values.run import DRAGGED, Allocation, Outcome, OutcomeKind, Phase, Sentinel, Snapshot, TaskState

SENTINEL_PATH: Final = "alloc/data/caravan-result.json"
"""The sentinel's path inside the allocation, as `Cluster.read_file` takes it."""

_MAX_SENTINEL: Final = 1 << 16  # a result file of ours has about 150 bytes

MEMBERS_MISSING: Final = 75
"""What a member's script ends with where the others did not come in time (`templates/members.py`)."""
_BY_SIGNAL: Final = frozenset({130, 137, 143})  # exit codes of SIGINT, SIGKILL and SIGTERM

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def parse_sentinel(data: bytes) -> Sentinel | None:
    """The sentinel in a result file, or None when the bytes are none (cut off, foreign, wrong types)."""
    if len(data) > _MAX_SENTINEL:
        return None
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            return None
        return Sentinel.model_validate({k: found.get(k) for k in Sentinel.model_fields}, strict=True)
    except (ValueError, RecursionError, ValidationError):
        return None


def judge(snapshot: Snapshot, sentinel: Sentinel | None, spec_sha256: str) -> Outcome:
    """How a deployment ended, from its last snapshot.

    `sentinel` is the result file of its (last) allocation, None where there is none; `spec_sha256` the digest of the
    spec that was deployed. Never raises: what does not fit together is `unproven`.
    """
    if snapshot.phase is Phase.GONE:
        return Outcome(kind=OutcomeKind.GONE, reason=snapshot.reason or "the cluster does not know the job")
    allocations = latest(snapshot.allocations)
    if not allocations:
        return _without_allocation(snapshot)
    if snapshot.phase is not Phase.ENDED:
        return _outcome(OutcomeKind.UNPROVEN, "it has not ended yet", allocations[-1])
    verdicts = [_judge_allocation(a) for a in allocations]
    if any(_dragged(v) for v in verdicts):
        verdicts = [_own_end(v, a) for v, a in zip(verdicts, allocations, strict=True)]
    bad = [(v, a) for v, a in zip(verdicts, allocations, strict=True) if not v.succeeded]
    known = {a.id for a in snapshot.allocations}
    if bad:
        # Where one member of a group drags the others down, the first to end is the cause.
        cause, _ = min(bad, key=lambda one: (*_follows(snapshot, *one), one[0].finished_at or _NEVER))
        if cause.exit_code == MEMBERS_MISSING and snapshot.placement_failures:
            return _partly_placed(snapshot)
        return cause
    if any(a.next_id and a.next_id not in known for a in snapshot.allocations):
        return _outcome(OutcomeKind.UNPROVEN, "an allocation that followed it is not known any more", allocations[-1])
    if snapshot.placement_failures:
        return _partly_placed(snapshot)
    doubt = _doubt(snapshot.job_id, sentinel, spec_sha256)
    # Of several members the first has the outputs.
    leader, _ = min(zip(verdicts, allocations, strict=True), key=lambda one: _index(one[1]))
    return leader.model_copy(update={"kind": OutcomeKind.UNPROVEN, "reason": doubt}) if doubt else leader


def _index(alloc: Allocation) -> int:
    """The allocation's number among those of its group: `job.train[1]` is the second."""
    digits = alloc.name.rpartition("[")[2].rstrip("]")
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _follows(snapshot: Snapshot, verdict: Outcome, alloc: Allocation) -> tuple[bool, bool, bool]:
    """Whether a member's end is one that says little, or one that only follows from another's: clocks of nodes differ,
    so that the order of the times alone does not tell. One that was dragged is never the cause where there is another.
    """
    stopped = snapshot.stopped and verdict.kind is OutcomeKind.INTERRUPTED and alloc.client_status != "lost"
    return verdict.kind is OutcomeKind.UNPROVEN, _dragged(verdict), stopped


def _dragged(verdict: Outcome) -> bool:
    """Whether a member ended because another one had: not where the whole job was told to end."""
    return verdict.kind is OutcomeKind.FAILED and verdict.exit_code == DRAGGED


def _own_end(verdict: Outcome, alloc: Allocation) -> Outcome:
    """The verdict on a member beside one that was dragged, so that one of them had failed before anybody stopped it.

    The one that failed still copies and sums up when the dragged one has ended and the job is stopped because of that.
    Then it was told to end, but its exit code is that of its training, unless it is a signal's.
    """
    failed = first_failed(alloc)
    ended = last_end(failed) if failed else None
    if verdict.kind is not OutcomeKind.INTERRUPTED or alloc.client_status == "lost" or not (failed and ended):
        return verdict
    if ended.signal or ended.exit_code in (None, 0, DRAGGED, *_BY_SIGNAL):
        return verdict
    return _outcome(OutcomeKind.FAILED, task_words(failed), alloc, failed)


def _partly_placed(snapshot: Snapshot) -> Outcome:
    why = "; ".join(f.line() for f in snapshot.placement_failures)
    return Outcome(kind=OutcomeKind.NOT_PLACED, reason=one_line(f"only a part of it was placed: {why}"))


def _without_allocation(snapshot: Snapshot) -> Outcome:
    why = "; ".join(f.line() for f in snapshot.placement_failures) or snapshot.reason
    if snapshot.phase is Phase.ENDED and not snapshot.stopped and not snapshot.placement_failures:
        # A dead batch job without a trace of an allocation: it may have run, and the cluster cleaned up since.
        return Outcome(kind=OutcomeKind.UNPROVEN, reason="the cluster keeps no allocation of it any more")
    return Outcome(kind=OutcomeKind.NOT_PLACED, reason=one_line(why or "it was never placed"))


def _judge_allocation(alloc: Allocation) -> Outcome:
    """The verdict on one ended allocation, by its events alone."""
    failed = first_failed(alloc)
    words = allocation_words(alloc)
    ended = last_end(failed) if failed else None
    if failed is not None and ended is not None and ended.oom_killed:
        return _outcome(OutcomeKind.FAILED, task_words(failed), alloc, failed)
    if expired(alloc):
        return _outcome(OutcomeKind.EXPIRED, words, alloc)
    if alloc.client_status == "lost":
        return _outcome(OutcomeKind.INTERRUPTED, words, alloc, failed)
    if failed is not None and not (alloc.desired_status != "run" and was_killed(failed)):
        return _outcome(OutcomeKind.FAILED, task_words(failed), alloc, failed)
    if alloc.desired_status != "run" and not _ended_by_itself(alloc):
        return _outcome(OutcomeKind.INTERRUPTED, words, alloc, failed)
    if alloc.client_status == "failed":
        return _outcome(OutcomeKind.FAILED, words or "the allocation failed", alloc)
    doubt = _half_ended(alloc)
    if doubt:
        return _outcome(OutcomeKind.UNPROVEN, doubt, alloc)
    return _outcome(OutcomeKind.SUCCEEDED, "", alloc)


def _ended_by_itself(alloc: Allocation) -> bool:
    """Whether every task came to its end before it was told to: then a stop came too late to interrupt anything."""
    ends = [(task, last_end(task)) for task in alloc.tasks]
    told = any(end is None or end.exit_code is None or was_killed(task) for task, end in ends)
    return bool(ends) and not told and alloc.client_status == "complete"


def _half_ended(alloc: Allocation) -> str:
    """What speaks against a complete allocation whose tasks all look well, or an empty text."""
    if alloc.client_status not in TERMINAL:
        return f"allocation {alloc.name} was {alloc.client_status} when it was last seen; its end is not known"
    if not alloc.tasks:
        return f"allocation {alloc.name} is complete, but has no tasks"
    for task in alloc.tasks:
        event = last_end(task)
        if task.state != "dead":
            return f"the allocation is complete, but task {task.name} is {task.state}"
        if event is None or event.exit_code is None:
            return f"task {task.name} ended without an exit code"
        if was_killed(task):
            return f"task {task.name} was told to end, and then ended with exit code {event.exit_code}"
    return ""


def _doubt(job_id: str, sentinel: Sentinel | None, spec_sha256: str) -> str:
    """Why the sentinel does not prove a success, or an empty text."""
    if sentinel is None:
        return "the task ended with exit code 0, but left no result file"
    if sentinel.job_id != job_id or sentinel.spec_sha256 != spec_sha256:
        return f"the result file is of another job ({one_line(sentinel.job_id, 80)})"
    if sentinel.exit_code != 0:
        return f"the task ended with exit code 0, but its result file says {sentinel.exit_code}"
    return ""


def _outcome(kind: OutcomeKind, reason: str, alloc: Allocation, task: TaskState | None = None) -> Outcome:
    """An outcome with the facts of the task that it is about: the failed one, else the last to end."""
    ends = [t for t in alloc.tasks if t.finished_at]
    task = task or max(ends, key=lambda t: t.finished_at or _NEVER, default=None)
    event = last_end(task) if task else None
    return Outcome(
        kind=kind,
        reason=one_line(reason),
        exit_code=event.exit_code if event else None,
        signal=event.signal if event else None,
        oom_killed=bool(event and event.oom_killed),
        alloc_id=alloc.id,
        node_name=alloc.node_name,
        task=task.name if task else "",
        started_at=min((t.started_at for t in alloc.tasks if t.started_at), default=None),
        finished_at=max((t.finished_at for t in ends if t.finished_at), default=None),
    )
