"""Which code and which data a run trained with, what was forecast of it and what it came to: the value that is stored.

It reads the state and what was measured; it stores nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from caravan.agent.context import Context
from caravan.agent.scoring import scored
from caravan.agent.state import RunState
from caravan.gate.judging import figures
from caravan.values.base import Json
from caravan.values.family import family_of, seed_of
from caravan.values.plan import TrainingPlan
from caravan.values.registry import CodeVersion, DataVersion, Forecast, RunResult
from caravan.values.run import RunStatus

_NOTHING: Final[Mapping[str, Json]] = MappingProxyType({})


def run_result(state: RunState, context: Context, ended_at: datetime) -> RunResult | None:
    """What the run came to; None of one that ended before it had a plan."""
    if state.plan is None:
        return None
    told = scored(state, context)
    return result_of(state, at=ended_at, status=state.status, cost_usd=state.spent_usd, told=told)


def result_of(
    state: RunState, *, at: datetime, status: RunStatus, cost_usd: float, told: Mapping[str, Json] = _NOTHING
) -> RunResult:
    """The result of a run that has a plan. `at`: as of when; `told`: what was measured, as `scoring.scored` says it."""
    plan = state.need_plan()
    return RunResult(
        run_id=state.run_id,
        ended_at=at,
        status=status,
        prompt=state.request.prompt,
        plan=plan.model_dump(mode="json", exclude={"provenance"}),
        plan_sha256=state.attempts[-1].plan_sha256 if state.attempts else plan.digest(),
        family=family_of(plan),
        seed=seed_of(plan),
        image=plan.image,
        code=code_version(state, plan),
        data=data_version(state, plan),
        metrics=state.gate.metrics if state.gate is not None else figures(state.metrics, plan),
        gate=state.gate,
        forecast=_forecast(state, told),
        attempts=len(state.attempts),
        cost_usd=cost_usd,
        reproduces=state.request.reproduces.run_id if state.request.reproduces else None,
    )


def code_version(state: RunState, plan: TrainingPlan) -> CodeVersion:
    """The code that was sent: the commit where it is known, and the archive's SHA-256 where there is one."""
    git = state.profile.git if state.profile else None
    return CodeVersion(
        source=state.request.source,
        commit=plan.code.ref or (git.commit if git else None),
        uncommitted=plan.code.uncommitted or (git.uncommitted if git else ()),
        sha256=plan.code.sha256,
    )


def data_version(state: RunState, plan: TrainingPlan) -> DataVersion:
    """The data as far as it was seen from here."""
    seen, sent = state.data, plan.data
    return DataVersion(
        path=plan.dataset.path,
        sha256=(sent.sha256 if sent else None) or state.data_sha256 or (seen.sha256 if seen else None),
        rows=(seen.rows if seen else None) or plan.dataset.examples,
    )


def _forecast(state: RunState, told: Mapping[str, Json]) -> Forecast:
    """The last estimate before it was measured beside what was measured; money is that of the whole run."""
    known = state.estimate
    seconds = (known.formula_seconds or known.seconds) if known else None
    memory = (known.formula_gib or known.gpu_memory_gib) if known else None
    return Forecast(
        memory_gib=_number(told.get("predicted_memory")) or memory or None,
        measured_gib=_number(told.get("measured_memory")),
        seconds=seconds.likely if seconds else None,
        measured_s=_took(state),
        usd=known.cost_usd.likely if known and known.cost_usd else None,
        measured_usd=state.spent_usd if state.attempts else None,
    )


def _took(state: RunState) -> float | None:
    """Seconds of a training that came through in one go, whether or not its time was estimated."""
    last = state.attempts[-1] if state.attempts else None
    outcome = last.outcome if last is not None else None
    if last is None or outcome is None or not outcome.succeeded or last.resumed:
        return None
    if outcome.started_at is None or outcome.finished_at is None:
        return None
    return max(0.0, (outcome.finished_at - outcome.started_at).total_seconds())


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
