"""What is known of a failure, boiled down to the `Evidence` that rules and models read: small, bounded, masked."""

from collections.abc import Iterable, Sequence
from typing import Final

from caravan.diagnosis.logtext import LINE_LIMIT, digest, shortened
from caravan.diagnosis.sign import BUDGET_OVER, JOB_CHANGED, STOPPED_BY_REQUEST
from caravan.diagnosis.signs import telling
from caravan.values.escapes import without_escapes
from caravan.values.failure import Evidence, Stage
from caravan.values.job import DryRun, PlacementFailure
from caravan.values.masking import mask
from caravan.values.run import Allocation, Outcome, OutcomeKind, Snapshot, TaskEvent

_EVENTS: Final = 30  # a task has about five; a restarting one repeats itself
_ERRORS: Final = 20
_MESSAGE: Final = 1000  # characters
_FROM_OUTSIDE: Final = frozenset({OutcomeKind.INTERRUPTED, OutcomeKind.EXPIRED})


def evidence_of(
    stage: Stage,
    *,
    outcome: Outcome | None = None,
    snapshot: Snapshot | None = None,
    log: bytes = b"",
    check: DryRun | None = None,
    message: str = "",
    driver: str = "",
    memory_told: bool = False,
    secrets: Sequence[str] = (),
) -> Evidence:
    """Everything that is known of a failure, as far as it is given.

    `log` is a log or its end, any bytes; `check` Nomad's dry run; `message` an error's text where no job ran;
    `memory_told` whether the cluster would have said so, had it ended for want of memory.
    Secrets are masked by shape and, with `secrets`, by value. Never raises on any content.
    """

    def safe(text: str) -> str:
        return " ".join(mask(without_escapes(text), secrets).split())

    allocation = _allocation(snapshot, outcome)
    failures = _failures(check, snapshot, outcome)
    errors = check.errors if check is not None else ()
    reason = message or (outcome.reason if outcome is not None else "")
    return Evidence(
        stage=stage,
        message=safe(reason or next(iter(errors), ""))[:_MESSAGE],
        exit_code=outcome.exit_code if outcome is not None else None,
        signal=outcome.signal if outcome is not None else None,
        oom_killed=outcome.oom_killed if outcome is not None else False,
        memory_told=memory_told and outcome is not None,
        interrupted=outcome is not None and outcome.kind in _FROM_OUTSIDE,
        events=tuple(shortened(safe(line)) for line in _events(allocation, snapshot, outcome))[-_EVENTS:],
        log_lines=digest(log, secrets, telling).decisive(),
        validation_errors=tuple(safe(error)[:_MESSAGE] for error in errors[:_ERRORS]),
        placement_failures=tuple(_masked(failure, secrets) for failure in failures[:_ERRORS]),
        node_name=(outcome.node_name if outcome is not None else "") or (allocation.node_name if allocation else ""),
        driver=driver,
    )


def _failures(check: DryRun | None, snapshot: Snapshot | None, outcome: Outcome | None) -> tuple[PlacementFailure, ...]:
    """Why the job could not be placed. Of one that ran they are history: it was placed in the end."""
    if check is not None:
        return check.failures
    stalled = outcome is not None and outcome.kind is OutcomeKind.STALLED
    ran = outcome is not None and outcome.alloc_id is not None and not stalled
    return snapshot.placement_failures if snapshot is not None and not ran else ()


def _allocation(snapshot: Snapshot | None, outcome: Outcome | None) -> Allocation | None:
    """The allocation that the outcome speaks of, else the last one.

    Of a group that found no place as a whole, those that had one say only that they were told to end.
    """
    allocations = snapshot.allocations if snapshot is not None else ()
    if outcome is not None and outcome.kind is OutcomeKind.NOT_PLACED:
        return None
    if outcome is not None and outcome.alloc_id:
        return next((a for a in allocations if a.id == outcome.alloc_id), None)
    return allocations[-1] if allocations else None


def _events(allocation: Allocation | None, snapshot: Snapshot | None, outcome: Outcome | None) -> Iterable[str]:
    for task in allocation.tasks if allocation is not None else ():
        yield from (_event(event) for event in task.events)
    stopped = snapshot is not None and snapshot.stopped
    if stopped and outcome is not None and outcome.kind is OutcomeKind.INTERRUPTED:
        yield STOPPED_BY_REQUEST
    if outcome is not None and outcome.kind is OutcomeKind.EXPIRED:
        yield outcome.reason if outcome.reason.startswith(BUDGET_OVER) else f"Time limit: {outcome.reason}"
    if outcome is not None and outcome.kind is OutcomeKind.STALLED:
        yield outcome.reason  # its first words say which deadline it was
    if outcome is not None and outcome.kind is OutcomeKind.CHANGED:
        yield f"{JOB_CHANGED}: {outcome.reason}"


def _event(event: TaskEvent) -> str:
    return f"{event.type}: {event.message}" if event.message else event.type


def _masked(failure: PlacementFailure, secrets: Sequence[str]) -> PlacementFailure:
    """Nomad's words hold the job's own constraints, and a constraint may hold anything."""

    def names(counts: dict[str, int]) -> dict[str, int]:
        return {mask(without_escapes(why), secrets)[:LINE_LIMIT]: count for why, count in counts.items()}

    return failure.model_copy(
        update={
            "constraint_filtered": names(failure.constraint_filtered),
            "dimension_exhausted": names(failure.dimension_exhausted),
            "quota_exhausted": tuple(
                mask(without_escapes(quota), secrets)[:LINE_LIMIT] for quota in failure.quota_exhausted
            ),
        }
    )
