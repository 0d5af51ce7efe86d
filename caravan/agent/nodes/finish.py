"""How a run ends: its lessons are remembered, it is reported."""

from datetime import datetime

from caravan.agent.context import Context
from caravan.agent.lessons import lessons_of
from caravan.agent.reopening import since_reopened
from caravan.agent.state import RunState, Update, joined
from caravan.agent.versions import run_result
from caravan.values.errors import ServiceError
from caravan.values.model_usage import used
from caravan.values.run import ENDED, RunEvent, RunStatus


def remember(state: RunState, context: Context) -> Update:
    """Store the run's lessons. Memory that is down costs a warning, not the run."""
    failed: ServiceError | None = None
    for lesson in lessons_of(state, context.lesson_scope):
        try:
            context.memory.remember(lesson)
        except ServiceError as error:  # the others are tried all the same: each may be kept for later
            failed = error
    context.memory.close()
    if failed is None:
        return {}
    context.progress.note(f"Not remembered: {failed.line()}")
    return {"warnings": joined(state.warnings, (f"lessons were not stored: {failed.message}",))}


def report(state: RunState, context: Context) -> Update:
    """Write the report and close the run in the store."""
    status = state.status if state.status in ENDED else RunStatus.PLANNED
    detail = state.detail or ("planned; nothing was deployed" if status is RunStatus.PLANNED else "")
    ended, at = state.model_copy(update={"status": status, "detail": detail}), _ended_at(state, context)
    if status is not RunStatus.PLANNED and (came_to := run_result(ended, context, at)) is not None:
        context.store.save_result(came_to)  # before the report, which tells of it
    context.folder.save_report(context.render_report(ended, context))
    context.store.add_event(state.run_id, RunEvent(at=at, kind=status.value, text=detail))
    # Last, because a run that is marked as ended is not driven on after a crash.
    asked = used(context.store.events(state.run_id)).usd or 0.0
    context.store.update_run(state.run_id, status=status, detail=detail, cost_usd=state.spent_usd + asked)
    return {"status": status, "detail": detail}


def _ended_at(state: RunState, context: Context) -> datetime:
    """When the run ended; the same when the node runs twice, so that the event is stored once."""
    events = since_reopened(context.store.events(state.run_id))
    known = [e.at for e in events if e.kind in {s.value for s in ENDED}]
    return known[0] if known else context.clock.now()
