"""How a run ends: the result is looked at, remembered and reported."""

from datetime import datetime
from pathlib import Path

from caravan.agent.context import Context
from caravan.agent.lessons import lessons_of
from caravan.agent.logs import log_tail
from caravan.agent.metrics import last_metrics
from caravan.agent.state import RunState, Update
from caravan.values.errors import ServiceError
from caravan.values.failure import Evidence, Stage
from caravan.values.run import ENDED, RunEvent, RunStatus


def evaluate(state: RunState, context: Context) -> Update:
    """Look at what the training left: its metrics, its target, its outputs."""
    plan, outcome = state.need_plan(), state.outcome
    text = log_tail(context, outcome.alloc_id if outcome else None).decode("utf-8", "replace")
    metrics = last_metrics(text, names=state.need_profile().metrics_logged)
    update: Update = {"metrics": metrics}
    asked_for = plan.outputs.kind == "path" and plan.training.output_dir == plan.outputs.location
    if asked_for and not _anything_in(Path(plan.outputs.location)):
        message = f"the training ended well but wrote nothing to {plan.outputs.location}"
        return update | {"failure": Evidence(stage=Stage.EVALUATE, message=message)}
    if plan.target and plan.target.goal is not None and plan.target.metric in metrics:
        value, goal = metrics[plan.target.metric], plan.target.goal
        if value > goal if plan.target.direction == "min" else value < goal:
            message = f"{plan.target.metric} is {value:g}, the target is {goal:g}"
            return update | {"failure": Evidence(stage=Stage.EVALUATE, message=message)}
    return update | {"status": RunStatus.SUCCEEDED, "detail": "the training ended and its result was checked"}


def _anything_in(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))


def remember(state: RunState, context: Context) -> Update:
    """Store the run's lessons. Memory that is down costs a warning, not the run."""
    for lesson in lessons_of(state):
        try:
            context.memory.remember(lesson)
        except ServiceError as error:
            context.progress.note(f"Not remembered: {error.line()}")
            return {"warnings": (*state.warnings, f"lessons were not stored: {error.message}")}
    return {}


def report(state: RunState, context: Context) -> Update:
    """Write the report and close the run in the store."""
    status = state.status if state.status in ENDED else RunStatus.PLANNED
    detail = state.detail or ("planned; nothing was deployed" if status is RunStatus.PLANNED else "")
    ended = state.model_copy(update={"status": status, "detail": detail})
    context.folder.save_report(context.render_report(ended, context))
    context.store.add_event(state.run_id, RunEvent(at=_ended_at(state, context), kind=status.value, text=detail))
    # Last, because a run that is marked as ended is not driven on after a crash.
    context.store.update_run(state.run_id, status=status, detail=detail, cost_usd=state.spent_usd)
    return {"status": status, "detail": detail}


def _ended_at(state: RunState, context: Context) -> datetime:
    """When the run ended; the same when the node runs twice, so that the event is stored once."""
    known = [e.at for e in context.store.events(state.run_id) if e.kind in {s.value for s in ENDED}]
    return known[0] if known else context.clock.now()
