"""What a drive that ended came to, as a moment of its trace: how often it was tried, what was predicted and measured.

Beside the state it reads what was measured in the run, and nothing else. Scores are made of it where traces are read.
"""

from caravan.agent.context import Context
from caravan.agent.learning import subject_now
from caravan.agent.state import RunState
from caravan.values.base import Json
from caravan.values.measurement import Measurement


def scored(state: RunState, context: Context) -> dict[str, Json]:
    """The attributes of that moment. GiB of one GPU, seconds, US dollars; what is not known is not there."""
    told: dict[str, Json] = {
        "status": state.status.value,
        "attempts": len(state.attempts),
        "fixes": state.fixes,
        "cost_usd": state.spent_usd,
    }
    if state.gate is not None:
        told["gate"] = state.gate.verdict.value
    return told | _memory(state, context) | _time(state)


def _memory(state: RunState, context: Context) -> dict[str, Json]:
    """The peak of the run that came furthest, beside the formula's figure for its plan."""
    seen = [m for m in _measured(state, context) if m.run_id == state.run_id and m.predicted_gib and m.peak_gib]
    if not seen:
        return {}
    last = max(seen, key=lambda m: (m.attempt, m.kind == "run"))
    return {"predicted_memory": last.predicted_gib, "measured_memory": last.peak_gib}


def _measured(state: RunState, context: Context) -> tuple[Measurement, ...]:
    subject = subject_now(state)
    if subject is None:
        return ()
    return context.store.measurements(model=subject.model, family=subject.family, method=subject.method)


def _time(state: RunState) -> dict[str, Json]:
    """How long the training took that came through in one go, beside what was said before it began."""
    last = state.attempts[-1] if state.attempts else None
    outcome, known = (last.outcome if last else None), state.estimate
    predicted = (known.formula_seconds or known.seconds) if known else None
    if last is None or outcome is None or predicted is None or not outcome.succeeded or last.resumed:
        return {}
    if outcome.started_at is None or outcome.finished_at is None:
        return {}
    took = (outcome.finished_at - outcome.started_at).total_seconds()
    return {"predicted_time": predicted.likely, "measured_time": took}
