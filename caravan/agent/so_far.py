"""What a run has come to so far, of which no result was stored: it still runs, or ended before results were kept."""

from caravan.agent.state import RunState
from caravan.agent.versions import code_version, data_version
from caravan.gate.judging import figures
from caravan.values.family import family_of, seed_of
from caravan.values.registry import Forecast, RunResult
from caravan.values.run import RunRecord


def result_so_far(state: RunState, record: RunRecord) -> RunResult:
    """The result by the run's last checkpoint, without what was measured beside its metrics; it must have a plan."""
    plan = state.need_plan()
    known = state.estimate
    seconds = (known.formula_seconds or known.seconds) if known else None
    return RunResult(
        run_id=record.id,
        ended_at=record.updated_at,
        status=record.status,
        prompt=state.request.prompt,
        plan=plan.model_dump(mode="json", exclude={"provenance"}),
        plan_sha256=plan.digest(),
        family=family_of(plan),
        seed=seed_of(plan),
        image=plan.image,
        code=code_version(state, plan),
        data=data_version(state, plan),
        metrics=state.gate.metrics if state.gate is not None else figures(state.metrics, plan),
        gate=state.gate,
        forecast=Forecast(
            memory_gib=(known.formula_gib or known.gpu_memory_gib) if known else None,
            seconds=seconds.likely if seconds else None,
            usd=known.cost_usd.likely if known and known.cost_usd else None,
            measured_usd=state.spent_usd if state.attempts else None,
        ),
        attempts=len(state.attempts),
        cost_usd=record.cost_usd,
        reproduces=record.request.reproduces.run_id if record.request.reproduces else None,
    )
