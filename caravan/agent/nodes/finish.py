"""How a run ends: the result is looked at, remembered and reported."""

import math
from datetime import datetime

from caravan.agent.context import Context
from caravan.agent.learning import keep_run
from caravan.agent.lessons import lessons_of
from caravan.agent.logs import log_tail
from caravan.agent.metrics import last_metrics, metric_rows, of_training
from caravan.agent.outputs import look, place_of, told, unkept
from caravan.agent.reopening import REOPENED
from caravan.agent.state import RunState, Update, joined
from caravan.agent.troubled import keep_well
from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.logtext import digest
from caravan.diagnosis.series import HELD_OUT
from caravan.planning.config_files import reaches
from caravan.values.errors import ServiceError
from caravan.values.failure import Stage
from caravan.values.model_usage import used
from caravan.values.plan import TrainingPlan
from caravan.values.run import ENDED, RunEvent, RunStatus


def evaluate(state: RunState, context: Context) -> Update:
    """Look at what the training left: its metrics, its target, its outputs."""
    outcome = state.outcome
    log = log_tail(context, outcome.alloc_id, task=outcome.task) if outcome and outcome.alloc_id else b""
    plan = state.need_plan()
    names = (*((plan.target.metric,) if plan.target else ()), *state.need_profile().metrics_logged)
    text = of_training(log.decode("utf-8", "replace"))
    metrics = last_metrics(text, names=names)
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    seen = look(plan, context, outcome.alloc_id if outcome else None)
    keep_run(state, context, outcome, text)
    empty, place = seen.empty is True, place_of(plan, state.run_id)
    objection = _diverged(metrics, _never_numbers(text)) or _missed(plan, metrics) or _no_outputs(plan, place, empty)
    objection = objection or unkept(plan, place, seen)
    if not objection and not metrics and empty and _ends_in_traceback(log, context):
        objection = (
            "the program ended with exit code 0, but an error is the last that it printed, it logged no metric and "
            f"wrote nothing to {place}"
        )
    if objection:
        evidence = evidence_of(
            Stage.EVALUATE,
            outcome=outcome,
            message=objection,
            log=log,
            driver=plan.driver,
            secrets=context.secrets,
        )
        return {"metrics": finite, "failure": evidence}
    keep_well(state, context)
    detail, warnings = _checked(place, metrics, empty=empty)
    warnings = (*warnings, *told(plan, context, seen, state.run_id))
    return {
        "metrics": finite,
        "warnings": joined(state.warnings, warnings),
        "status": RunStatus.SUCCEEDED,
        "detail": detail,
    }


def _checked(place: str, metrics: dict[str, float], *, empty: bool) -> tuple[str, tuple[str, ...]]:
    """What is said of a training that ended well, and the warnings: no more than what there was to check."""
    unwritten = f"nothing is in {place}: the program was not told to write there"
    if metrics:
        return "the training ended and its result was checked", (unwritten,) if empty else ()
    unlogged = "no metric was found in the log: whether the training learnt anything is not known"
    if not empty:
        return "the training ended with exit code 0; no metric was logged that could be checked", (unlogged,)
    detail = (
        "the training ended with exit code 0; nothing was there to check: no metric was logged and no output written"
    )
    return detail, (unlogged, unwritten)


def _ends_in_traceback(log: bytes, context: Context) -> bool:
    """Whether the last line of the log belongs to a traceback's exception. Stderr is the log's end."""
    read = digest(log, context.secrets)
    return bool(read.chain and read.tail and read.tail[-1] in read.chain[-1])


def _never_numbers(text: str) -> frozenset[str]:
    """Held-out losses that were no number from the first to the last line: nothing was ever measured there."""
    seen: dict[str, bool] = {}
    for row in metric_rows(text.splitlines()):
        for name, value in row.items():
            if "loss" in name.lower() and HELD_OUT.search(name):
                seen[name] = seen.get(name, False) or math.isfinite(value)
    return frozenset(name for name, ever in seen.items() if not ever)


def _diverged(metrics: dict[str, float], never: frozenset[str]) -> str:
    """Whether a loss ended as no number. A held-out one that never was any tells nothing where the
    training's own ended as one.
    """
    losses = {name: value for name, value in metrics.items() if "loss" in name.lower()}
    learnt = any(math.isfinite(value) for name, value in losses.items() if not HELD_OUT.search(name))
    lost = [name for name, value in losses.items() if not math.isfinite(value) and not (learnt and name in never)]
    return f"the last {lost[0]} is {metrics[lost[0]]}: the training diverged" if lost else ""


def _missed(plan: TrainingPlan, metrics: dict[str, float]) -> str:
    """Whether the target was missed, or can't be judged because its metric was never logged."""
    target = plan.target
    if target is None or target.goal is None:
        return ""
    value = metrics.get(target.metric)
    if value is None:
        return f"{target.metric} was never logged, so the target of {target.goal:g} can't be judged"
    reached = value <= target.goal if target.direction == "min" else value >= target.goal
    return "" if reached else f"{target.metric} is {value:g}, the target is {target.goal:g}"


def _no_outputs(plan: TrainingPlan, place: str, empty: bool) -> str:
    """Whether the script was told where to write, it is known what is there, and nothing is."""
    if not reaches(plan, "training.output_dir") or not empty:
        return ""
    return f"the training ended well but wrote nothing to {place}"


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
    ended = state.model_copy(update={"status": status, "detail": detail})
    text = context.render_report(ended, context)
    context.folder.save_report(context.adviser.summary(text) if context.adviser else text)
    context.store.add_event(state.run_id, RunEvent(at=_ended_at(state, context), kind=status.value, text=detail))
    # Last, because a run that is marked as ended is not driven on after a crash.
    asked = used(context.store.events(state.run_id)).usd or 0.0
    context.store.update_run(state.run_id, status=status, detail=detail, cost_usd=state.spent_usd + asked)
    return {"status": status, "detail": detail}


def _ended_at(state: RunState, context: Context) -> datetime:
    """When the run ended; the same when the node runs twice, so that the event is stored once."""
    events = context.store.events(state.run_id)
    begun = max((n for n, e in enumerate(events, start=1) if e.kind == REOPENED), default=0)
    known = [e.at for e in events[begun:] if e.kind in {s.value for s in ENDED}]
    return known[0] if known else context.clock.now()
