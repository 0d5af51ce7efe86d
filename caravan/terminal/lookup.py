"""A run as it stands, read without driving it: checkpoints, folder and trace put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from caravan.values.errors import UsageError
from caravan.values.record import ENDED, EVALUATION_PLACED, MODEL_CALL, Purpose

ALLOC_DIGITS: Final = 8

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from caravan.agent.state import RunState
    from caravan.terminal.results import Result
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.dialogue import Ask
    from caravan.values.record import RunEvent, RunRecord
    from caravan.values.reproduction import Reproduced


def is_driven(wiring: Wiring, record: RunRecord) -> bool:
    """Whether an agent works on the run now; a run that says `running` may have lost its agent.

    One that was handed over to an agent on the cluster counts as driven until it is brought back: nobody is asked.
    """
    from caravan.values.record import RunStatus

    return record.status is RunStatus.RUNNING and (wiring.folder(record.id).is_held() or is_on_cluster(wiring, record))


def is_on_cluster(wiring: Wiring, record: RunRecord) -> bool:
    """Whether the run was handed over to an agent on the cluster, and not brought back since."""
    from caravan.terminal.oncluster import station_of

    return record.status not in ENDED and station_of(wiring.folder(record.id)) is not None


class LogOf(NamedTuple):
    """Whose log a copy is: the attempt (0: not known), the node's name, and the job's purpose."""

    attempt: int = 0
    node: str = ""
    purpose: Purpose = Purpose.TRAIN


def logs_of(wiring: Wiring, run_id: str) -> dict[str, LogOf]:
    """To which attempt and which job of it an allocation belongs: by the id's digits that name a log's copy."""
    found: dict[str, LogOf] = {}
    for event in wiring.store().events(run_id):
        alloc_id, attempt = event.data.get("alloc_id"), event.data.get("attempt")
        if isinstance(alloc_id, str) and isinstance(attempt, int):
            purpose = Purpose.EVALUATE if event.kind == EVALUATION_PLACED else Purpose.TRAIN
            found[alloc_id[:ALLOC_DIGITS]] = LogOf(attempt, str(event.data.get("node", "")), purpose)
    return found


def placed_attempts(wiring: Wiring, run_id: str) -> dict[int, tuple[str, str]]:
    """The attempts that came to a node: the allocation and the name of its node. Of several members, the first's."""
    found: dict[int, tuple[str, str]] = {}
    for event in wiring.store().events(run_id):
        alloc_id, number = event.data.get("alloc_id"), event.data.get("attempt")
        first = str(event.data.get("member", "[0]")).endswith("[0]")  # it has the outputs
        if event.kind == "placed" and first and isinstance(alloc_id, str) and isinstance(number, int):
            found[number] = alloc_id, str(event.data.get("node", ""))
    return found


def trace_file(wiring: Wiring, run_id: str) -> Path | None:
    """The run's local trace; None where there is none."""
    path = wiring.trace_path(run_id)
    return path if path.is_file() else None


def trace_page(wiring: Wiring, trace: Path | None, run_id: str) -> str | None:
    """Where the run's trace is seen: its page in LangFuse where that is set, else the local file."""
    if trace is None:
        return None
    try:
        there = wiring.langfuse_traces
    except UsageError:  # the settings name none that can be used
        there = None
    return there.page(run_id) if there is not None else str(trace)


def glance(wiring: Wiring, record: RunRecord) -> Result:
    """What is told of a run now: without its state, where that is not needed for it."""
    kept = wiring.sheet(record.id)
    if kept is None or (kept.asks and record.status not in ENDED):
        return look_up(wiring, record)
    return _found(wiring, record, (None, None), kept.document)


def look_up(wiring: Wiring, record: RunRecord) -> Result:
    """What is known of a run now."""
    return _found(wiring, record, wiring.standing(record.id))


def _found(
    wiring: Wiring,
    record: RunRecord,
    standing: tuple[RunState | None, Ask | None],
    kept: dict[str, Json] | None = None,
) -> Result:
    from caravan.terminal.results import Result

    state, question = standing
    # A run that was stopped while it waited keeps its question in the checkpoint; it asks no more.
    ask = None if record.status in ENDED else question
    trace = trace_file(wiring, record.id)
    return Result(
        record=record,
        state=state,
        ask=ask,
        folder=wiring.folder(record.id).path,
        trace_url=trace_page(wiring, trace, record.id),
        trace_path=trace,
        cluster=record.request.cluster,
        reserved_usd=wiring.store().reserved_usd(record.id),
        used=_used(wiring.store().events(record.id)),
        reproduced=reproduced(wiring, record),
        kept=kept,
    )


def _used(events: Sequence[RunEvent]) -> Json:
    if all(event.kind != MODEL_CALL for event in events):
        return None
    from caravan.values.model_usage import document

    return document(events)


def reproduced(wiring: Wiring, record: RunRecord) -> Reproduced | None:
    """Whether a reproduction that has ended well came to what its original did; None for any other run."""
    from caravan.values.record import RunStatus

    repeats = record.request.reproduces
    if repeats is None or record.status is not RunStatus.SUCCEEDED:
        return None
    from caravan.runs.agreement import agreement, not_known

    store = wiring.store()
    ours, theirs = store.result(record.id), store.result(repeats.run_id)
    if ours is None or theirs is None:
        return not_known(record.id, repeats.run_id, "its own result" if ours is None else "the original's result")
    return agreement(theirs, ours, store.results(family=theirs.family), repeats.tolerance)
