"""The sheet of a run: what is told of its state, as plain JSON.

It is made of the state, and of it alone, whenever a checkpoint is saved, and stored beside it. `show` prints from it,
and so needs none of the classes of the values, which cost many times the printing; where there is none that belongs to
the newest checkpoint and to this very program, `show` makes it of the state itself. What is told of the record, the
events and the machine is not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from caravan.terminal.endings import how_it_ended
from caravan.terminal.summary import Scene, estimate_rows, plan_rows, provenance_rows
from caravan.terminal.text import joined, one_line
from caravan.values.amounts import duration
from caravan.values.evaluation import CheckKind, GateVerdict
from caravan.values.metric_names import held_out, judging
from caravan.values.run import DeploymentState, OutcomeKind
from caravan.values.samples import peaks_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caravan.agent.state import RunState
    from caravan.values.base import Json
    from caravan.values.evaluation import GateReport
    from caravan.values.run import Attempt, Outcome

SCENE: Final = Scene("repository", "cluster")
"""What stands for both in the plan's rows: where a run is may change without its state."""

_STANDS = (CheckKind.BASE, CheckKind.TARGET)


def sheet_of(state: RunState) -> dict[str, Json]:
    """What is told of a state; equal to what comes back when it was written as JSON and read."""
    plan, deployment, last = state.plan, state.deployment, state.attempts[-1] if state.attempts else None
    later = deployment is not None and last is not None and deployment.attempt > last.number
    deployed = deployment is not None and deployment.state is not DeploymentState.INTENDED
    return {
        "document": document_of(state),
        "attempts": [attempt_told(attempt) for attempt in state.attempts],
        "mended": last is None or deployment is None or (later and deployed),
        "job_file": (deployment.hcl_path or "") if deployment else "",
        "metrics": metrics_line(state.metrics),
        "gate": gate_line(state.gate),
        "registered": state.registered,
        "used": [["used", text] for text in _peaks(state)] + [["seen", one_line(t)] for t in _observed(last)],
        "warnings": [one_line(text) for text in state.warnings],
        "outputs": one_line(joined((plan.outputs.kind, plan.outputs.location), ": ")) if plan else "",
        "sink": [plan.outputs.kind, one_line(plan.outputs.location)] if plan else None,
        "patch": state.diagnosis.patch if state.diagnosis else "",
        "plan": [list(row) for row in plan_rows(plan, SCENE)] if plan else None,
        "estimate": [list(row) for row in estimate_rows(state.estimate)] if state.estimate else None,
        "provenance": [list(row) for row in provenance_rows(plan)] if plan else None,
    }


def document_of(state: RunState | None) -> dict[str, Json]:
    """What the main job's document has of the state."""
    plan = state.plan if state else None
    found = (state.diagnosis or state.answered) if state else None
    return {
        "attempts": [a.model_dump(mode="json") for a in state.attempts] if state else [],
        "diagnosis": found.model_dump(mode="json") if found else None,
        "repairs": [r.model_dump(mode="json") for r in state.tried] if state else [],
        "plan": plan.model_dump(mode="json") if plan else None,
        "estimate": state.estimate.model_dump(mode="json") if state and state.estimate else None,
        "outputs": plan.outputs.model_dump(mode="json") if plan else None,
        "hcl_path": state.deployment.hcl_path if state and state.deployment else None,
        "metrics": dict(state.metrics) if state else {},
        "gate": state.gate.model_dump(mode="json") if state and state.gate else None,
        "registered": (state.registered or None) if state else None,
        "resources": _resources(state),
        "warnings": list(state.warnings) if state else [],
        "budget": state.budget.model_dump(mode="json") if state and state.budget else None,
    }


def _resources(state: RunState | None) -> Json:
    """The most that the last attempt used, beside what was estimated; None: nothing was seen."""
    last = state.attempts[-1] if state and state.attempts else None
    if state is None or last is None or not last.uses:
        return None
    known, plan = state.estimate, state.plan
    peaks = [use.gpu_peak_gib for use in last.uses if use.gpu_peak_gib is not None]
    hosts = [use.host_peak_mb for use in last.uses if use.host_peak_mb is not None]
    free = [use.disk_free_mb for use in last.uses if use.disk_free_mb is not None]
    return {
        "attempt": last.number,
        "gpu_peak_gib": max(peaks, default=None),
        "gpu_estimated_gib": (known.formula_gib or known.gpu_memory_gib) if known else None,
        "host_peak_mb": max(hosts, default=None),
        "host_allowed_mb": plan.resources.memory_mb if plan else None,
        "disk_free_mb": min(free, default=None),
        "observed": list(last.observed),
    }


def attempt_told(attempt: Attempt) -> dict[str, Json]:
    """An attempt: how it ended (`stopped`: in words for a stop by the user, where it can be one), the cause with its
    evidence, what was done about it."""
    outcome, diagnosis, repair = attempt.outcome, attempt.diagnosis, attempt.repair
    interrupted = outcome is not None and outcome.kind is OutcomeKind.INTERRUPTED
    cause = None
    if diagnosis is not None:
        cause = {
            "text": one_line(diagnosis.cause),
            "sure": f" ({diagnosis.failure.value}, {diagnosis.confidence:.0%} sure, by {one_line(diagnosis.by)})",
            "lines": [one_line(line) for line in diagnosis.lines],
            "advice": one_line(diagnosis.advice) if diagnosis.advice else "",
        }
    return {
        "number": attempt.number,
        "job_id": one_line(attempt.job_id),
        "job": attempt.job_id,
        "job_file": attempt.hcl_path,
        "counts": attempt.counts,
        "good": outcome is not None and outcome.succeeded and diagnosis is None,
        "ended": _ended(attempt, outcome) if outcome is not None else None,
        "stopped": _ended(attempt, outcome, stopped=True) if outcome is not None and interrupted else None,
        "finished_at": outcome.finished_at.isoformat() if outcome is not None and outcome.finished_at else None,
        "cause": cause,
        "repair": one_line(repair.why or repair.kind) if repair is not None else None,
        "changed": {path: list(pair) for path, pair in attempt.changed.items()},
    }


def _ended(attempt: Attempt, outcome: Outcome, *, stopped: bool = False) -> str:
    ran = ""
    if outcome.started_at and outcome.finished_at:
        ran = duration((outcome.finished_at - outcome.started_at).total_seconds(), exact=True)
    where = joined((f"on {outcome.node_name}" if outcome.node_name else "", f"after {ran}" if ran else ""), " ")
    how, comma, but = how_it_ended(attempt, stopped=stopped).partition(", ")
    return joined((f"{joined((how, where), ' ')}{comma}{but}", "" if stopped else one_line(outcome.reason)), ": ")


def metrics_line(metrics: Mapping[str, float]) -> str:
    """What was logged last of the metrics that tell of the model, those over held-out data first; without speeds,
    steps and rates of learning, unless nothing else was logged.
    """
    first = sorted(judging(tuple(metrics)) or metrics, key=lambda name: not held_out(name))
    return ", ".join(one_line(f"{name} {metrics[name]:.4g}") for name in first)


def gate_line(gate: GateReport | None) -> str:
    """What the gate made of the model, with the checks that did not pass, else how it stands to its base and its
    target; empty where there was none."""
    if gate is None:
        return ""
    told = [check.text for check in gate.checks if check.verdict in (GateVerdict.FAIL, GateVerdict.LOOK)]
    if gate.verdict is GateVerdict.PASS:
        told = [check.text for check in gate.checks if check.kind in _STANDS and check.verdict is GateVerdict.PASS]
    verdict = {GateVerdict.PASS: "passed", GateVerdict.FAIL: "failed"}.get(gate.verdict, "needs a look")
    return one_line(joined((verdict, "; ".join(told)), ": "))


def _peaks(state: RunState) -> list[str]:
    """What the last attempt used at most."""
    if not state.attempts:
        return []
    known = state.estimate
    expected = (known.formula_gib or known.gpu_memory_gib) if known else None
    return [peaks_in_words(use, expected) for use in state.attempts[-1].uses[:4]]


def _observed(last: Attempt | None) -> tuple[str, ...]:
    """What that says of its failure."""
    return last.observed if last is not None else ()
