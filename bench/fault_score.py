"""Was a scenario's run right? Judged from what the run left: its document, its deployments and its outputs' files.

Pure: a record in, a verdict out. It starts nothing and reads no file.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from bench.scenario import Expected, Scenario

LIMIT = 3
"""Attempts within which a fault must be solved: what the product deploys at most."""


@dataclass(frozen=True)
class Record:
    """What a run left. `outputs`: path → bytes. `deployed`: deployments that the store knows.

    `document` is what the command printed, without plan and estimate but for `provenance` (path → author).
    """

    scenario: str
    arm: str
    document: dict[str, Any]
    code: int
    seconds: float
    deployed: int
    outputs: dict[str, int] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    hung: bool = False
    said: str = ""  # the end of what it told, for misses


@dataclass(frozen=True)
class Verdict:
    """`right`, or `why` it is not. `needless`: changes that nothing asked for, by path or kind."""

    right: bool
    why: str = ""
    false_success: bool = False
    needless: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()  # other changes than the wanted ones, in a run that was fixed


def judge(scenario: Scenario, record: Record) -> Verdict:
    """Whether the run did what must happen."""
    if record.hung:
        return Verdict(False, f"hung for more than {scenario.seconds} s")
    if not record.document:
        return Verdict(False, f"no document, exit code {record.code}: {record.said[-200:]}")
    if scenario.expected is Expected.UNTOUCHED:
        return _untouched(scenario, record)
    if scenario.expected is Expected.ESCALATED:
        return _escalated(scenario, record)
    return _fixed(scenario, record)


def attempts(record: Record) -> list[dict[str, Any]]:
    return list(record.document.get("attempts") or [])


def failed_attempts(record: Record) -> int:
    """Deployed attempts that did not end well, interruptions from outside left out."""
    return sum(1 for a in attempts(record) if a.get("counts", True) and _outcome(a) != "succeeded")


def causes(record: Record) -> list[str]:
    """The causes that were told, in order; the last is that of the whole run."""
    found = [a["diagnosis"]["failure"] for a in attempts(record) if a.get("diagnosis")]
    last = record.document.get("diagnosis")
    return [*found, last["failure"]] if last and (not found or found[-1] != last["failure"]) else found


def done(record: Record) -> tuple[str, ...]:
    """What was done against failures: plan paths that repairs changed, kinds of the others."""
    found: list[str] = []
    for repair in record.document.get("repairs") or []:
        if repair["kind"] == "change_plan":
            found += [change["path"] for change in repair["changes"]]
        else:
            found.append(repair["kind"])
    for attempt in attempts(record):
        found += attempt.get("changed") or {}
    return tuple(dict.fromkeys(found))


def _outcome(attempt: dict[str, Any]) -> str:
    return str((attempt.get("outcome") or {}).get("kind", ""))


def _matches(path: str, wanted: tuple[str, ...]) -> bool:
    return any(path == w or path.startswith(f"{w}.") or path.startswith(f"{w}[") for w in wanted)


def _missing(scenario: Scenario, record: Record) -> list[str]:
    """Outputs that a run that ended well had to leave, and did not."""
    there = [path for path, size in record.outputs.items() if size > 0]
    wanted = scenario.outputs
    return [name for name in wanted if not any(p == name or p.endswith(f"/{name}") for p in there)]


def _succeeded(record: Record) -> bool:
    return record.document.get("status") == "succeeded"


def _ended(record: Record) -> str:
    told = ", ".join(causes(record)) or "no cause"
    return f"{record.document.get('status')} (exit {record.code}) after {record.deployed} attempts: {told}"


def _fixed(scenario: Scenario, record: Record) -> Verdict:
    if not _succeeded(record):
        return Verdict(False, _ended(record))
    if missing := _missing(scenario, record):
        return Verdict(False, f"said to have succeeded without {', '.join(missing)}", false_success=True)
    if record.code != 0:
        return Verdict(False, f"succeeded with exit code {record.code}")
    was = done(record)
    before = tuple(p for p, by in record.provenance.items() if by not in ("default", "user", "answer"))
    if scenario.changed and not any(_matches(p, scenario.changed) for p in (*was, *before)):
        told = f"it ended well without {' or '.join(scenario.changed)}: {', '.join(was) or 'nothing'} was done"
        return Verdict(False, told, false_success=True)
    beside = tuple(p for p in was if not _matches(p, scenario.changed))
    used = sum(1 for a in attempts(record) if a.get("counts", True))
    if used > min(scenario.within, LIMIT):
        return Verdict(False, f"{used} attempts: {', '.join(causes(record))}", beside=beside)
    right = {scenario.failure, *scenario.also}
    if other := [c for c in causes(record)[:1] if c not in right]:
        return Verdict(False, f"fixed, but for another cause: {other[0]}", beside=beside)
    return Verdict(True, beside=beside)


def _escalated(scenario: Scenario, record: Record) -> Verdict:
    if _succeeded(record):
        return Verdict(False, "said to have succeeded", false_success=True)
    right, told = {scenario.failure, *scenario.also}, causes(record)
    asked = record.document.get("question") or {}
    if scenario.asks and not record.deployed and not told and scenario.asks in json.dumps(asked):
        return Verdict(record.code == 3, "" if record.code == 3 else _ended(record))
    if not told or told[-1] not in right:
        return Verdict(False, _ended(record))
    if record.code != 3:
        return Verdict(False, _ended(record))
    first = next(
        (n for n, a in enumerate(attempts(record), 1) if (a.get("diagnosis") or {}).get("failure") in right), 0
    )
    if first and record.deployed > first and not scenario.changed:
        return Verdict(False, f"deployed again after the cause was told: {_ended(record)}", needless=done(record))
    if first and record.deployed >= first + scenario.within:
        return Verdict(False, f"tried more than once after the cause was told: {_ended(record)}")
    return Verdict(True)


def _untouched(scenario: Scenario, record: Record) -> Verdict:
    recalled = tuple(path for path, by in record.provenance.items() if by == "memory")
    if was := (*done(record), *recalled):
        return Verdict(False, f"changed without need: {', '.join(was)}", needless=was)
    if not _succeeded(record):
        return Verdict(False, _ended(record))
    if missing := _missing(scenario, record):
        return Verdict(False, f"said to have succeeded without {', '.join(missing)}", false_success=True)
    if record.deployed != 1:
        return Verdict(False, f"{record.deployed} attempts", needless=("deployed again",))
    return Verdict(True)
