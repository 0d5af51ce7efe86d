"""How the attempts of a run ended, in words: by themselves, by the user's stop, and what was made of it. Pure.

What is told of a run's record is told from its sheet, so that nothing here loads the values' classes.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from caravan.terminal.text import one_line, words
from caravan.values.record import RunStatus

if TYPE_CHECKING:
    from caravan.values.base import Json
    from caravan.values.record import RunRecord
    from caravan.values.run import Attempt


def repair_label(record: RunRecord, sheet: dict[str, Json]) -> str:
    """What the last attempt's repair has come to: `repair` once a job runs with it, else how far it came."""
    if sheet["mended"] or record.status in (RunStatus.RUNNING, RunStatus.SUCCEEDED):
        return "repair"
    if record.status is RunStatus.WAITING:
        return "repair proposed, not approved yet"
    return "repair proposed, not " + ("approved" if record.status is RunStatus.REJECTED else "deployed")


def attempt_line(attempt: Attempt, label: str = "repair", *, cause: bool = True, stopped: bool = False) -> str:
    """An attempt: its job, how it ended, why, and what was done about it (`label`: or would have been).

    `stopped`: by the user, which says all of why.
    """
    outcome, diagnosis, repair = attempt.outcome, attempt.diagnosis, attempt.repair
    changed = changes_text(attempt) if repair else []
    parts = (
        f"{attempt.job_id} {how_it_ended(attempt, stopped=stopped)}",
        outcome.reason if outcome and not stopped else "",
        f"cause: {diagnosis.cause}" if diagnosis and cause else "",
        f"{label}: {repair.why or repair.kind}" if repair else "",
        f"{'changed' if label == 'repair' else 'would change'}: {', '.join(changed)}" if changed else "",
    )
    return one_line("; ".join(p.rstrip(".;") for p in parts if p))


def was_stopped(record: RunRecord, attempt: dict[str, Json]) -> bool:
    """Whether it is the user's stop that ended this attempt of the sheet, the run's last one."""
    return record.status is RunStatus.STOPPED and attempt["stopped"] is not None


def stopped_at(record: RunRecord, sheet: dict[str, Json] | None) -> datetime | None:
    """When a run that the user stopped was over; None for any other."""
    if record.status is not RunStatus.STOPPED:
        return None
    last = sheet["attempts"][-1] if sheet is not None and sheet["attempts"] else None
    if last is not None and was_stopped(record, last) and last["finished_at"]:
        return datetime.fromisoformat(last["finished_at"])
    return record.updated_at


def stopped_rows(record: RunRecord, sheet: dict[str, Json]) -> list[tuple[str, str]]:
    """What is kept of a run that was stopped, and how to go on; nothing of any other."""
    if record.status is not RunStatus.STOPPED or sheet["sink"] is None:
        return []
    rows = []
    if sheet["attempts"]:
        kind, location = sheet["sink"]
        there = f"`main.py pull {record.id}` fetches it" if kind == "allocation" else f"in {location}"
        rows.append(("kept", f"what it had written by then, {there}; its log: `main.py logs {record.id}`"))
    rows.append(("go on", f"`main.py reproduce {record.id} --anyway` makes it again, with the same code and plan"))
    return rows


def how_it_ended(attempt: Attempt, *, stopped: bool = False) -> str:
    """The kind of its end; a training that ended well and whose result did not pass has not succeeded."""
    from caravan.values.run import IN_EVALUATION

    if attempt.outcome is None:
        return "is not judged yet"
    if stopped:
        return f"stopped by you{f' {IN_EVALUATION}' if attempt.outcome.reason.endswith(IN_EVALUATION) else ''}"
    if attempt.outcome.succeeded and attempt.diagnosis is not None:
        return "ended with exit code 0, but its result did not pass"
    return attempt.outcome.kind.value.replace("_", " ")


def changes_text(attempt: Attempt) -> list[str]:
    """What its repair changes in the plan, a text for each field."""
    return [f"{one_line(path)} {words(a)} → {words(b)}" for path, (a, b) in attempt.changed.items()]
