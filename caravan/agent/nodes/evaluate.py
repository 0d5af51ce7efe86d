"""What is made of a training that ended well: its outputs are looked at, its model is evaluated, the gate judges it."""

import math

from caravan.agent.context import Context
from caravan.agent.deploying import stopped_by_user
from caravan.agent.evaluating import Apart, evaluate_apart
from caravan.agent.judged import gate_report, measured, training_log
from caravan.agent.learning import keep_run
from caravan.agent.logs import log_tail
from caravan.agent.metrics import last_metrics
from caravan.agent.outputs import look, place_of, told, unkept
from caravan.agent.state import RunState, Update, joined
from caravan.agent.troubled import keep_well
from caravan.analysis.hazards import HazardKind
from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.logtext import digest
from caravan.gate.judging import objection
from caravan.planning.config_files import reaches
from caravan.planning.evaluation_place import asked_for, nothing_to_judge
from caravan.values.evaluation import EvaluationResult, GateReport, GateVerdict
from caravan.values.failure import Stage
from caravan.values.plan import TrainingPlan
from caravan.values.run import IN_EVALUATION, RunStatus


def evaluate(state: RunState, context: Context) -> Update:
    """Look at what the training left: its outputs, and its model through the gate."""
    outcome, plan = state.outcome, state.need_plan()
    log = training_log(state, context)
    metrics = last_metrics(log.text, names=log.names)
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    seen = look(plan, context, outcome.alloc_id if outcome else None)
    keep_run(state, context, outcome, log.text)
    empty, place = seen.empty is True, place_of(plan, state.run_id)
    lacking = _no_outputs(plan, place, empty) or unkept(plan, place, seen)
    done = Apart(result=measured(state, context))
    why = nothing_to_judge(plan, seen.summary) if state.evaluating is None and not _told(done.result) else ""
    if why:
        done = Apart(result=EvaluationResult(by="model", error=why) if asked_for(plan) else None)
    elif not lacking and done.result is None and not gate_report(state, context, None, log).failed:
        done = evaluate_apart(state, context)  # what the log speaks against already is not evaluated for money
    if stopped_by_user(state, context):
        return {**done.update, "status": RunStatus.STOPPED, "detail": f"stopped by the user {IN_EVALUATION}"}
    if done.again:
        return done.update
    report = gate_report(state, context, done.result, log, expected=not why)
    tail = log_tail(context, outcome.alloc_id, task=outcome.task) if outcome and outcome.alloc_id else b""
    against = objection(report) or lacking
    if not against and not metrics and empty and _ends_in_traceback(tail, context):
        against = (
            "the program ended with exit code 0, but an error is the last that it printed, it logged no metric and "
            f"wrote nothing to {place}"
        )
    update: Update = {**done.update, "metrics": finite, "gate": report, "attempts": _with_gate(state, report)}
    if against:
        failure = evidence_of(
            Stage.EVALUATE, outcome=outcome, message=against, log=tail, driver=plan.driver, secrets=context.secrets
        )
        return {**update, "failure": failure}
    keep_well(state, context)
    detail, warnings = _checked(place, metrics, empty=empty)
    if report.verdict is GateVerdict.PASS:
        detail = "the training ended and its model passed its evaluation"
    unjudged = (f"the model was not evaluated: {why}",) if why and done.result is None else ()
    warnings = (*warnings, *unjudged, *_look(report), *told(plan, context, seen, state.run_id))
    return {
        **update,
        "warnings": joined(_still_so(state, empty=seen.empty), warnings),
        "status": RunStatus.SUCCEEDED,
        "detail": detail,
    }


def _still_so(state: RunState, *, empty: bool | None) -> tuple[str, ...]:
    """The warnings so far, without what its outputs have shown to be wrong: that nothing would be saved."""
    if empty is not False or state.profile is None:
        return state.warnings
    shown_wrong = {hazard.text for hazard in state.profile.hazards if hazard.kind == HazardKind.SAVES_NOTHING}
    return tuple(text for text in state.warnings if text not in shown_wrong)


def _told(result: EvaluationResult | None) -> bool:
    """Whether an evaluation measured something."""
    return result is not None and not result.error


def _with_gate(state: RunState, report: GateReport) -> tuple[object, ...]:
    """The attempts, the last one with what was made of its model."""
    last = state.attempts[-1:]
    return (*state.attempts[:-1], *(a.model_copy(update={"gate": report}) for a in last))


def _look(report: GateReport) -> tuple[str, ...]:
    """What a person should look at of a model that neither passed nor failed; nothing of any other."""
    if report.verdict is not GateVerdict.LOOK:
        return ()
    odd = [check.text for check in report.checks if check.verdict is GateVerdict.LOOK]
    why = "; ".join(odd) or "no figure on held-out data is known, so that nothing says how good it is"
    return (f"the model needs a look and was not registered: {why}",)


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


def _no_outputs(plan: TrainingPlan, place: str, empty: bool) -> str:
    """Whether the script was told where to write, it is known what is there, and nothing is."""
    if not reaches(plan, "training.output_dir") or not empty:
        return ""
    return f"the training ended well but wrote nothing to {place}"
