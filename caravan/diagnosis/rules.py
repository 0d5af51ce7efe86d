"""Which evidence shows which cause: rules as rows of data, and the judge that weighs what they find.

A rule looks for a pattern in the lines of one origin. Of the causes found, one falls to another that outranks it,
then the surest is taken, then the one whose row comes first. Nothing found: the cause is `unknown`, never a guess.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from caravan.diagnosis.evidence import STOPPED_BY_REQUEST
from caravan.diagnosis.repair import mendable
from caravan.diagnosis.taxonomy import advice
from caravan.values.failure import Diagnosis, Evidence, FailureClass, PastCase, Stage
from caravan.values.fingerprint import fingerprint
from caravan.values.plan import TrainingPlan


class Origin(StrEnum):
    """Where a line of evidence comes from. A pattern means something only where it was said."""

    VALIDATION = "validation"  # Nomad's errors on parsing and validating
    FILTERED = "filtered"  # placement: why nodes were filtered out
    EXHAUSTED = "exhausted"  # placement: what nodes that qualify lack
    PLACEMENT = "placement"  # placement: counts, in our words
    EVENT = "event"  # the task's events
    OUTCOME = "outcome"  # how it ended, in our words
    LOG = "log"  # what the task wrote


@dataclass(frozen=True)
class Rule:
    """A row: `pattern` in a line of `origin` shows `failure` with `confidence`, and then none of `outranks`.

    `escalate` marks evidence under which no job change or retry is right although the class has repairs.
    """

    pattern: re.Pattern[str]
    origin: Origin
    failure: FailureClass
    confidence: float
    outranks: tuple[FailureClass, ...] = ()
    escalate: bool = False


@dataclass(frozen=True)
class Finding:
    """A rule that matched, and the lines in which it did."""

    rule: Rule
    lines: tuple[str, ...]


def _rule(
    pattern: str,
    origin: Origin,
    failure: FailureClass,
    confidence: float,
    *outranks: FailureClass,
    escalate: bool = False,
) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), origin, failure, confidence, outranks, escalate)


_F = FailureClass
_O = Origin
# Nomad asks each node in this order: driver, constraints, devices, volumes, room. A node that failed late came close,
# so what it lacked is the cause, whatever other nodes were filtered out for before.
_BEFORE_DEVICES: Final = (_F.PLACEMENT_CONSTRAINT_FILTERED, _F.DRIVER_UNAVAILABLE)
_BEFORE_VOLUMES: Final = (*_BEFORE_DEVICES, _F.PLACEMENT_GPU_UNAVAILABLE)
_BEFORE_ROOM: Final = (*_BEFORE_DEVICES, _F.VOLUME_UNAVAILABLE)

RULES: Final[tuple[Rule, ...]] = (
    # Nomad's words on a job that it does not take.
    _rule(r"nonexistent (?:namespace|node pool)", _O.VALIDATION, _F.CLUSTER_TARGET_MISMATCH, 1.0, _F.JOBSPEC_INVALID),
    _rule(r"no path to region", _O.VALIDATION, _F.CLUSTER_TARGET_MISMATCH, 1.0, _F.JOBSPEC_INVALID),
    _rule(r".", _O.VALIDATION, _F.JOBSPEC_INVALID, 0.9),
    # Nomad's words on a job that it can't place.
    _rule(r"^no nodes available$", _O.PLACEMENT, _F.CLUSTER_TARGET_MISMATCH, 0.9),
    _rule(r"^missing drivers$", _O.FILTERED, _F.DRIVER_UNAVAILABLE, 0.95, _F.PLACEMENT_CONSTRAINT_FILTERED),
    _rule(r"^missing devices$", _O.FILTERED, _F.PLACEMENT_GPU_UNAVAILABLE, 0.95, *_BEFORE_DEVICES),
    _rule(r"missing compatible host volumes|\bCSI\b", _O.FILTERED, _F.VOLUME_UNAVAILABLE, 0.95, *_BEFORE_VOLUMES),
    _rule(r"^(?!missing )(?!.*\bCSI\b)", _O.FILTERED, _F.PLACEMENT_CONSTRAINT_FILTERED, 0.9),
    _rule(r"^devices\b", _O.EXHAUSTED, _F.PLACEMENT_GPU_UNAVAILABLE, 0.95, *_BEFORE_ROOM),
    _rule(r"^(?!devices\b)", _O.EXHAUSTED, _F.PLACEMENT_RESOURCES_EXHAUSTED, 0.95, *_BEFORE_ROOM),
    _rule(r"port collision", _O.EXHAUSTED, _F.PORT_CONFLICT, 0.95, _F.PLACEMENT_RESOURCES_EXHAUSTED),
    # How the task ended. Exit code 137 alone says nothing: every SIGKILL has it, and a task that is asked to stop and
    # does not ends so too, even when the driver then calls it killed for memory.
    _rule(r"^interrupted$", _O.OUTCOME, _F.INTERRUPTED_EXTERNALLY, 0.95, _F.HOST_MEMORY_OOM),
    _rule(r"^asked to stop$", _O.OUTCOME, _F.INTERRUPTED_EXTERNALLY, 0.9, _F.HOST_MEMORY_OOM),
    _rule(r"^time limit", _O.EVENT, _F.INTERRUPTED_EXTERNALLY, 1.0, _F.HOST_MEMORY_OOM, escalate=True),
    _rule(r"exceeded max_run_duration", _O.EVENT, _F.INTERRUPTED_EXTERNALLY, 1.0, _F.HOST_MEMORY_OOM, escalate=True),
    _rule(f"^{STOPPED_BY_REQUEST}$", _O.EVENT, _F.INTERRUPTED_EXTERNALLY, 1.0, _F.HOST_MEMORY_OOM, escalate=True),
    _rule(r"^killed for memory$", _O.OUTCOME, _F.HOST_MEMORY_OOM, 0.95),
    _rule(r"^Terminated: .*\bOOM Killed\b", _O.EVENT, _F.HOST_MEMORY_OOM, 0.95),
)

_QUOTED: Final = 8  # lines of evidence that a diagnosis quotes


def diagnose(evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> Diagnosis:  # noqa: ARG001
    """The cause by the rules; `unknown` with the most telling lines where none fits. Never raises.

    Past cases don't change a cause that rules read off the evidence; they come in where repairs are ordered.
    """
    findings = outranked(find(evidence))
    if not findings and evidence.stage is Stage.VALIDATE:
        return _impossible(evidence)
    if not findings:
        return _unknown(evidence, plan)
    best = max(findings, key=lambda f: f.rule.confidence)  # of equals the first, and rules are in order
    failure, lines = best.rule.failure, _unique(line for f in findings for line in f.lines)
    message = evidence.message or next(iter(lines), "")
    escalate = any(f.rule.escalate for f in findings if f.rule.failure is failure) or not mendable(failure)
    return Diagnosis(
        failure=failure,
        confidence=best.rule.confidence,
        cause=_cause(failure, message),
        lines=lines[:_QUOTED],
        escalate=escalate,
        advice=advice(failure, message, evidence, plan),  # the ladder may end, or be empty for this cluster
        fingerprint=fingerprint(failure, _unique(best.lines)),
        node_name=evidence.node_name,
    )


def _impossible(evidence: Evidence) -> Diagnosis:
    """Our own checks refused the plan before the cluster was asked: their words are the cause."""
    return Diagnosis(
        failure=FailureClass.JOBSPEC_INVALID,
        confidence=1.0,
        cause=evidence.message or "The plan can't become a job.",
        escalate=True,
        advice="Nothing was deployed. Start again with what it names, by --set or in the repository.",
        fingerprint=fingerprint(FailureClass.JOBSPEC_INVALID, (evidence.message,)),
    )


def find(evidence: Evidence, rules: Sequence[Rule] = RULES) -> tuple[Finding, ...]:
    """The rules that match, in their order, each with all lines in which it does."""
    lines = lines_of(evidence)
    found = ((rule, tuple(line for line in lines[rule.origin] if rule.pattern.search(line))) for rule in rules)
    return tuple(Finding(rule, matched) for rule, matched in found if matched)


def outranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings without those whose cause another one outranks."""
    fallen = {failure for finding in findings for failure in finding.rule.outranks}
    return tuple(f for f in findings if f.rule.failure not in fallen)


def lines_of(evidence: Evidence) -> dict[Origin, tuple[str, ...]]:
    """The evidence as lines by origin; what is no text is put into ours (`killed for memory`)."""
    failures = evidence.placement_failures
    nowhere = any(not any(f.nodes_available.values()) and not f.nodes_evaluated for f in failures)
    asked_to_stop = _position(evidence.events, "Killing") < _position(evidence.events, "Terminated")
    said = {
        "interrupted": evidence.interrupted,
        "asked to stop": asked_to_stop,
        "killed for memory": evidence.oom_killed,
    }
    return {
        Origin.VALIDATION: evidence.validation_errors,
        Origin.FILTERED: tuple(why for f in failures for why in f.constraint_filtered),
        Origin.EXHAUSTED: tuple(why for f in failures for why in (*f.dimension_exhausted, *f.quota_exhausted)),
        Origin.PLACEMENT: ("no nodes available",) if nowhere else (),
        Origin.EVENT: evidence.events,
        Origin.OUTCOME: tuple(text for text, so in said.items() if so),
        Origin.LOG: evidence.log_lines,
    }


def _position(events: Sequence[str], kind: str) -> int:
    """Where the first event of that kind stands since the task last started; beyond the end when there is none."""
    started = max((n for n, event in enumerate(events) if event.startswith("Started")), default=-1)
    found = (n for n, event in enumerate(events) if n > started and event.partition(":")[0] == kind)
    return next(found, len(events))


def _unknown(evidence: Evidence, plan: TrainingPlan) -> Diagnosis:
    lines = evidence.log_lines or evidence.events or tuple(f.line() for f in evidence.placement_failures)
    told = next((line for line in lines if _EXCEPTION.match(line)), "")
    message = told or evidence.message or next(reversed(lines), "")
    return Diagnosis(
        failure=FailureClass.UNKNOWN,
        confidence=0.0,
        cause=_cause(FailureClass.UNKNOWN, message),
        lines=lines[:_QUOTED],
        escalate=True,
        advice=advice(FailureClass.UNKNOWN, message, evidence, plan),
        fingerprint=fingerprint(FailureClass.UNKNOWN, [s for s in lines if _SHAPED.match(s)] or lines[:_QUOTED]),
        node_name=evidence.node_name,
    )


_EXCEPTION: Final = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Fault)\b")
# The lines of a traceback that belong to its shape: frames and exception, not the source lines in between.
_SHAPED: Final = re.compile(r"\s*File \"[^\"]*\", line \d+, in |[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b")


def _cause(failure: FailureClass, message: str) -> str:
    """One line for a person: the class in words, then what was said."""
    name = failure.value.replace("_", " ")
    text = " ".join(message.split()).rstrip(".")
    return f"{name[0].upper()}{name[1:]}: {text}." if text else f"{name[0].upper()}{name[1:]}."


def _unique(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))
