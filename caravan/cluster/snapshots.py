"""Nomad's JSON about one job → `Snapshot`, `RegisteredJob`, `PlacementFailure`. Pure.

Holds how a job, its allocations and its evaluations are read as one phase and one line of reason. Must not know how
the JSON came here, nor whether the training was a success: that is judged in `caravan.cluster.watch`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from caravan.values.base import Json
from caravan.values.job import PlacementFailure, RegisteredJob
from caravan.values.run import Allocation, Phase, Snapshot, TaskEvent, TaskState

TERMINAL: Final = frozenset({"complete", "failed", "lost"})
"""Client statuses after which nothing runs any more. `unknown` (a disconnected node) may come back."""

MAX_REASON: Final = 500
"""Characters of a reason: it is a line for a person, the whole text stays in the task's events."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAILURE_EVENTS: Final = frozenset(
    {
        "Driver Failure",
        "Setup Failure",
        "Failed Validation",
        "Failed Artifact Download",
        "Task hook failed",
        "Sibling Task Failed",
        "Disk Resources Exceeded",
    }
)
_BOILERPLATE: Final = "Docker container exited with non-zero exit code"  # says no more than the exit code itself


def one_line(text: str, limit: int = MAX_REASON) -> str:
    """`text` on one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def to_registered(job: Json) -> RegisteredJob:
    """A job document of `/v1/job/:id` as a RegisteredJob."""
    return RegisteredJob(
        id=job["ID"],
        namespace=job.get("Namespace") or "default",
        status=job.get("Status") or "",
        stopped=bool(job.get("Stop")),
        modify_index=job.get("JobModifyIndex") or 0,
        version=job.get("Version") or 0,
        meta=job.get("Meta") or {},
    )


def to_placement_failures(failed: Json) -> tuple[PlacementFailure, ...]:
    """`FailedTGAllocs` of a plan or an evaluation (group → metrics, or None), in the order of the groups' names."""
    return tuple(_placement_failure(group, metrics or {}) for group, metrics in sorted((failed or {}).items()))


def _placement_failure(group: str, metrics: Mapping[str, Json]) -> PlacementFailure:
    return PlacementFailure(
        group=group,
        nodes_evaluated=metrics.get("NodesEvaluated") or 0,
        nodes_filtered=metrics.get("NodesFiltered") or 0,
        nodes_exhausted=metrics.get("NodesExhausted") or 0,
        nodes_available=metrics.get("NodesAvailable") or {},
        class_filtered=metrics.get("ClassFiltered") or {},
        constraint_filtered=metrics.get("ConstraintFiltered") or {},
        dimension_exhausted=metrics.get("DimensionExhausted") or {},
        quota_exhausted=tuple(metrics.get("QuotaExhausted") or ()),
    )


def to_snapshot(
    job: Json | None, allocations: Sequence[Json], evaluations: Sequence[Json], *, job_id: str, at: datetime
) -> Snapshot:
    """What a job's documents say together.

    `job` is `/v1/job/:id` (None: not there), `allocations` and `evaluations` are the lists below it. Entries of other
    jobs (Nomad 1.x lists those of every id with this one as its prefix) and of an earlier, purged job of the same id
    are left out. Raises KeyError, TypeError, AttributeError or ValueError when the JSON has not Nomad's shape.
    """
    allocs_json = sorted(_own(allocations, job, job_id), key=lambda a: (a.get("CreateIndex") or 0, a["ID"]))
    evals = sorted(_own(evaluations, job, job_id), key=lambda e: (e.get("CreateIndex") or 0, e["ID"]))
    allocs = tuple(to_allocation(a) for a in allocs_json)
    failures = _unplaced(job, allocs, evals)
    phase = _phase(job, allocs, failures)
    return Snapshot(
        job_id=job_id,
        at=at,
        phase=phase,
        job_status=(job or {}).get("Status") or "",
        modify_index=(job or {}).get("JobModifyIndex") or 0,
        version=(job or {}).get("Version") or 0,
        stopped=bool((job or {}).get("Stop")),
        allocations=allocs,
        placement_failures=failures,
        reason=one_line(_reason(phase, job or {}, allocs, evals, failures)),
    )


def _own(entries: Sequence[Json], job: Json | None, job_id: str) -> list[Json]:
    born = (job or {}).get("CreateIndex") or 0
    return [
        e for e in entries if e.get("JobID", job_id) == job_id and (not born or (e.get("CreateIndex") or born) >= born)
    ]


def to_allocation(alloc: Json) -> Allocation:
    """An allocation, or its stub of a list, as a value. Tasks come in the order in which they began."""
    tasks = [to_task(name, state) for name, state in (alloc.get("TaskStates") or {}).items()]
    return Allocation(
        id=alloc["ID"],
        name=alloc["Name"],
        group=alloc.get("TaskGroup") or "",
        node_id=alloc.get("NodeID") or "",
        node_name=alloc.get("NodeName") or "",
        client_status=alloc["ClientStatus"],
        client_description=alloc.get("ClientDescription") or "",
        desired_status=alloc.get("DesiredStatus") or "run",
        desired_description=alloc.get("DesiredDescription") or "",
        previous_id=alloc.get("PreviousAllocation") or None,
        next_id=alloc.get("NextAllocation") or None,
        job_version=alloc.get("JobVersion"),
        tasks=tuple(sorted(tasks, key=lambda t: (t.started_at is None, t.started_at or _EPOCH, t.name))),
    )


def to_task(name: str, state: Json) -> TaskState:
    """A `TaskStates` entry as a value."""
    return TaskState(
        name=name,
        state=state.get("State") or "pending",
        failed=bool(state.get("Failed")),
        restarts=state.get("Restarts") or 0,
        started_at=nomad_time(state.get("StartedAt")),
        finished_at=nomad_time(state.get("FinishedAt")),
        events=tuple(_event(e) for e in state.get("Events") or ()),
    )


def _event(event: Json) -> TaskEvent:
    details = {k: str(v) for k, v in (event.get("Details") or {}).items()}
    ended = event["Type"] == "Terminated"
    # The plain fields default to 0 where Nomad knows nothing, so a zero counts only when the details say it.
    code = _int(details.get("exit_code")) if "exit_code" in details else (event.get("ExitCode") or None)
    signal = _int(details.get("signal")) if "signal" in details else event.get("Signal")
    return TaskEvent(
        type=event["Type"],
        message=event.get("DisplayMessage") or event.get("Message") or "",
        at=_EPOCH + timedelta(microseconds=(event.get("Time") or 0) // 1000),
        exit_code=code if ended else None,
        signal=(signal or None) if ended else None,
        oom_killed=details.get("oom_killed") == "true",
        details=details,
    )


def _int(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def nomad_time(text: str | None) -> datetime | None:
    """A time of Nomad's in UTC, which has nanoseconds (Python drops what is below a microsecond), and year 1 for never.

    Raises ValueError for what is no time.
    """
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)


def latest(allocations: Iterable[Allocation]) -> tuple[Allocation, ...]:
    """The newest allocation of each name: one that was replaced no longer counts."""
    newest: dict[str, Allocation] = {}
    for alloc in allocations:
        newest[alloc.name] = alloc
    return tuple(newest.values())


def _unplaced(job: Json | None, allocs: Sequence[Allocation], evals: Sequence[Json]) -> tuple[PlacementFailure, ...]:
    """Why groups have fewer allocations than asked for, from the newest evaluation that says so.

    Evaluations keep their failures after the group was placed, so those of a group that is complete count only while
    the evaluation is still blocked (a lost allocation waits for another node).
    """
    wanted = {g["Name"]: g.get("Count") or 0 for g in (job or {}).get("TaskGroups") or ()}
    names: dict[str, set[str]] = {}
    for alloc in allocs:
        names.setdefault(alloc.group, set()).add(alloc.name)
    found: dict[str, Json] = {}
    for evaluation in evals:
        blocked = evaluation.get("Status") == "blocked"
        found |= {
            group: metrics
            for group, metrics in (evaluation.get("FailedTGAllocs") or {}).items()
            if blocked or len(names.get(group, ())) < wanted.get(group, 0)
        }
    return to_placement_failures(found)


def _phase(job: Json | None, allocs: Sequence[Allocation], failures: Sequence[PlacementFailure]) -> Phase:
    """A group of several members runs only when all of them have a place and run: before that they wait."""
    if job is None:
        return Phase.GONE
    live = [a for a in allocs if a.client_status not in TERMINAL]
    if not live:
        # Nomad calls a job dead only when its evaluations are through too, so no follow-up can come any more.
        return Phase.ENDED if job.get("Status") == "dead" else Phase.QUEUED
    waits = failures or any(a.client_status == "pending" for a in live)
    return Phase.STARTING if waits else Phase.RUNNING


def _reason(
    phase: Phase,
    job: Json,
    allocs: Sequence[Allocation],
    evals: Sequence[Json],
    failures: Sequence[PlacementFailure],
) -> str:
    if phase is Phase.GONE:
        return "the cluster does not know the job"
    placement = "; ".join(f.line() for f in failures)
    if phase is Phase.QUEUED:
        return placement or _why_queued(job, allocs, evals)
    if phase is Phase.ENDED:
        words = [w for w in (allocation_words(a) for a in latest(allocs)) if w]
        return words[0] if words else (placement or ("stopped before it was placed" if job.get("Stop") else ""))
    if job.get("Stop"):
        return "being stopped"
    live = [w for w in (_live_words(a) for a in allocs if a.client_status not in TERMINAL) if w]
    return "; ".join([_partly(job, allocs, placement)] * bool(placement) + live[:1])


def _partly(job: Json, allocs: Sequence[Allocation], placement: str) -> str:
    """How many members have a place, which, and why the others have none."""
    wanted = sum(group.get("Count") or 0 for group in job.get("TaskGroups") or ())
    there = {a.name: a.node_name or a.node_id[:8] for a in allocs if a.client_status not in TERMINAL}
    places = ", ".join(f"{_member(name)} on {node}" for name, node in sorted(there.items()))
    return f"partly placed ({len(there)} of {wanted}: {places}), {placement}"


def _member(name: str) -> str:
    """A member as it is called among the others: `train[0]`."""
    return name.rsplit(".", 1)[-1]


def _why_queued(job: Json, allocs: Sequence[Allocation], evals: Sequence[Json]) -> str:
    if job.get("Stop"):
        return "being stopped"
    described = next((e["StatusDescription"] for e in reversed(evals) if e.get("StatusDescription")), "")
    if allocs:
        return f"waits to be placed again: {allocation_words(allocs[-1]) or described or 'its allocation ended'}"
    return described or "waits for the scheduler"


def _live_words(alloc: Allocation) -> str:
    """What a living allocation is doing, where that is more than running."""
    if alloc.client_status == "unknown":
        return f"node {alloc.node_name or alloc.node_id} is disconnected"
    for task in alloc.tasks:
        if task.restarts and (ended := task.terminated()):
            times = f"{task.restarts} time{'s' if task.restarts != 1 else ''}"
            return f"{task.name}: restarted {times}, last after {_exit_words(ended)}"
        if task.state == "pending" and task.events:
            last = task.events[-1]
            return f"{task.name}: {last.message or last.type}"
    return "" if alloc.client_status == "running" else alloc.client_description


def allocation_words(alloc: Allocation) -> str:
    """Why an ended allocation did not end well, or an empty text where nothing speaks against it."""
    if expired(alloc):
        return "ended by its time limit (max_run_duration)"
    if alloc.client_status == "lost":
        return f"node {alloc.node_name or alloc.node_id} was lost: {alloc.desired_description or 'it is down'}"
    failed = first_failed(alloc)
    if failed is not None and not (alloc.desired_status != "run" and was_killed(failed)):
        return task_words(failed)
    if alloc.desired_status != "run":
        return f"ended from outside ({alloc.desired_status}): {alloc.desired_description or 'no reason given'}"
    return alloc.client_description if alloc.client_status == "failed" else ""


def expired(alloc: Allocation) -> bool:
    """Whether the run time limit ended it. Nomad reports that as `complete`; only its words tell."""
    words = [alloc.client_description] + [e.message for t in alloc.tasks for e in t.events if e.type == "Killing"]
    return any("max_run_duration" in w for w in words)


def was_killed(task: TaskState) -> bool:
    """Whether the client was told to end the task while it ran (and its own end came after that)."""
    for event in _last_life(task):
        if event.type == "Terminated":
            return False
        if event.type == "Killing":
            return True
    return False


def last_end(task: TaskState) -> TaskEvent | None:
    """The `Terminated` event of the task's last start, or None: an earlier start's end proves nothing."""
    return next((e for e in _last_life(task) if e.type == "Terminated"), None)


def _last_life(task: TaskState) -> tuple[TaskEvent, ...]:
    last_start = max((i for i, e in enumerate(task.events) if e.type == "Started"), default=-1)
    return task.events[last_start + 1 :]


def first_failed(alloc: Allocation) -> TaskState | None:
    """The task that ended badly, the first one where there are several, or None."""
    bad = [t for t in alloc.tasks if t.failed or ((e := last_end(t)) and (e.exit_code or e.signal or e.oom_killed))]
    return min(bad, key=lambda t: t.finished_at or datetime.max.replace(tzinfo=UTC), default=None)


def task_words(task: TaskState) -> str:
    """Why a task failed, in one line with the task's name before it."""
    for event in reversed(task.events):
        if event.type == "Terminated":
            return one_line(f"{task.name}: {_exit_words(event)}")
        if event.type in _FAILURE_EVENTS:
            return one_line(f"{task.name}: {event.type}: {event.message}")
        if event.details.get("fails_task") == "true" and event.type not in {"Not Restarting", "Killed"}:
            return one_line(f"{task.name}: {event.message or event.type}")
    last = task.events[-1] if task.events else None
    return one_line(f"{task.name}: {(last.message or last.type) if last else 'failed, and Nomad kept no event'}")


def _exit_words(event: TaskEvent) -> str:
    code = "unknown exit code" if event.exit_code is None else f"exit code {event.exit_code}"
    if event.oom_killed:
        return f"out of memory, killed at its memory limit ({code})"
    if event.signal:
        code += f", signal {event.signal}"
    elif event.exit_code == 137:  # 128 + SIGKILL
        code += " (killed by SIGKILL; no out-of-memory event)"
    said = event.details.get("exit_message", "")
    return code if not said or said.startswith(_BOILERPLATE) else f"{code}: {said}"
