"""Deploying a job exactly once, and following it to its end."""

from functools import partial

from caravan.agent.context import Context
from caravan.agent.deploying import deploy_once, follow, stopped_by_user, stored_of
from caravan.agent.granting import has_begun
from caravan.agent.lawful import denied, require_policies
from caravan.agent.learning import keep_first_steps
from caravan.agent.logs import log_tail, task_logs
from caravan.agent.money import reserve, seen_usd
from caravan.agent.outputs import checkpoint_there
from caravan.agent.resuming import reached, told_of, used_up
from caravan.agent.sampling import near_its_memory, observations
from caravan.agent.smoke import measured, with_first_steps
from caravan.agent.state import RunState, Update, joined
from caravan.agent.training_lines import by_log, ended_in_evaluation
from caravan.agent.watching import Seen
from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.sign import BUDGET_OVER
from caravan.planning.budget import refusal
from caravan.planning.evaluating import in_last_phase
from caravan.values.base import Json
from caravan.values.errors import ClusterError
from caravan.values.estimate import Verdict
from caravan.values.failure import Evidence, Stage
from caravan.values.job import ClusterKind
from caravan.values.run import (
    IN_EVALUATION,
    Attempt,
    Deployment,
    Outcome,
    OutcomeKind,
    RunEvent,
    RunStatus,
)

_NEAR = 0.9  # share of its memory from which on a task may well have run out of it later


def deploy_job(state: RunState, context: Context) -> Update:
    """Look whether the job is there already, store the intent, register it only if it is certainly new.

    A job under our id with our SHA-256 is taken over (a crash came between registering and recording). One that was
    recorded as registered but is gone is lost: a person decides, it is never registered anew by itself.
    """
    if stopped_by_user(state, context):
        return {"status": RunStatus.STOPPED, "detail": "stopped by the user before the job was deployed"}
    done = deploy_once(
        state.need_deployment(),
        context,
        job=lambda: context.folder.load_job(state.sequence)[1],
        hindered=partial(_hindered, state=state, context=context),
    )
    if done.lost:
        return {"lost": True, "lost_usd": seen_usd(state, context), "deployment": done.deployment}
    if done.hindered is not None:
        return done.hindered
    if done.refused:
        refused = Evidence(stage=Stage.DEPLOY, message=done.refused, validation_errors=(done.refused,))
        return {"failure": refused}
    return _told(state, context, done.deployment)


def _hindered(job: Json, *, state: RunState, context: Context) -> Update | None:
    """What speaks against a job that is certainly new: policies that can't be read or deny it, money that is gone."""
    require_policies(context)
    refused = _without_money(state, context)
    if refused is not None:
        return refused
    against = denied(state, context, Stage.DEPLOY, job)
    return {"failure": against} if against else None


def _without_money(state: RunState, context: Context) -> Update | None:
    """Reserve the job's money; where a limit that runs share does not leave it, nothing is registered.

    A run that has begun waits for a person: there may be money again another time.
    """
    answer = reserve(state, context)
    if answer.short is None:
        return None
    cost = state.need_estimate().cost_usd
    text = refusal(answer.short, cost.high if cost is not None else None)
    if has_begun(state):
        return {"exhausted": f"{BUDGET_OVER}: {text}", "turn": "estimate"}
    update: Update = {"status": RunStatus.REJECTED, "detail": text}
    if state.budget is not None:
        told = {"limit": answer.short.cap.name, "left_usd": answer.short.left_usd, "shared": True}
        verdict = {"verdict": Verdict.OVER_HARD, "text": text, "spent_usd": state.spent_usd, **told}
        update["budget"] = state.budget.model_copy(update=verdict)
    return update


def _told(state: RunState, context: Context, registered: Deployment) -> Update:
    """That the attempt is deployed, as an event that is stored once."""
    context.store.add_event(
        state.run_id,
        RunEvent(
            # The deployment's own time, so that a node that runs twice stores one event.
            at=registered.registered_at or context.clock.now(),
            kind="deployed",
            text=f"attempt {state.sequence} deployed as {registered.job_id}",
            data={"job_id": registered.job_id, "attempt": state.sequence, **_committed(state)},
        ),
    )
    return {
        "deployment": registered.model_copy(update={"watched": None}),
        "deployed_plans": joined(state.deployed_plans, (registered.plan_sha256,)),
    }


def _committed(state: RunState) -> dict[str, Json]:
    """What the attempt may cost at most, for whoever adds up what running jobs may cost."""
    cost = state.estimate.cost_usd if state.estimate else None
    return {} if cost is None else {"usd": cost.high}


def verify_deployment(state: RunState, context: Context) -> Update:
    """Watch the job to its end, keep its logs, and judge the outcome by events, exit code and sentinel together."""
    deployment = stored_of(state.run_id, state.need_deployment(), context)
    context.memory.close()  # watching may take days, and an embedded memory has one owner; the next call opens it again
    _announce(state, context, deployment)
    keep = partial(keep_first_steps, state, context, deployment.attempt)
    ended = follow(state, context, deployment, names=state.need_profile().metrics_logged, first_steps=keep)
    seen, outcome = ended.seen, ended.outcome
    keep(seen.smoke)  # an agent before this one may have found it and come no further
    if outcome is None:
        return {"lost": True, "lost_usd": ended.spent_usd - state.spent_usd}
    over = used_up(state.need_plan(), outcome)
    told = _with_its_phase(outcome, state, context)
    written = checkpoint_there(state.need_plan(), context, outcome.alloc_id) if over else None
    attempt = Attempt(
        number=deployment.attempt,
        job_id=deployment.job_id,
        hcl_path=deployment.hcl_path or "",
        plan_sha256=deployment.plan_sha256,
        # What left nothing to go on from begins anew: that is one more attempt at the whole.
        counts=outcome.kind is not OutcomeKind.INTERRUPTED and (over == "" or written is False),
        outcome=told,
        uses=seen.uses,
        observed=() if outcome.succeeded else observations(seen.uses, state.need_plan(), outcome),
        resumed=told_of(state.run_id, deployment.attempt, context),
    )
    update: Update = {
        "deployment": ended.deployment.model_copy(update={"watched": None}),
        "outcome": outcome,
        "attempts": (*(a for a in state.attempts if a.number != attempt.number), attempt),
        "spent_usd": ended.spent_usd,
    }
    update |= measured(state, deployment.attempt, seen.smoke)
    if stopped_by_user(state, context):
        behind = f" {IN_EVALUATION}" if told is not outcome else ""
        update |= {"status": RunStatus.STOPPED, "detail": f"stopped by the user{behind}"}
    elif not outcome.succeeded:
        log = log_tail(context, outcome.alloc_id) if outcome.alloc_id else b""
        update["reached"] = 0.0 if written is False else reached(state, log)
        update["written"] = written
        evidence = _evidence(state, context, seen, outcome)
        update["failure"] = with_first_steps(evidence, seen.smoke, state.need_estimate().usd_per_hour)
    return update


def _with_its_phase(outcome: Outcome, state: RunState, context: Context) -> Outcome:
    """The outcome, whose reason says where it was the evaluation behind the training that did not end."""
    if outcome.succeeded or not outcome.alloc_id or not in_last_phase(state.need_plan()):
        return outcome
    logs = by_log(task_logs(context, outcome.alloc_id, outcome.task))
    if not any(ended_in_evaluation(parts) for parts in logs):
        return outcome
    return outcome.model_copy(update={"reason": f"{outcome.reason} {IN_EVALUATION}".lstrip()})


def _announce(state: RunState, context: Context, deployment: Deployment) -> None:
    """Say which attempt is watched, and what it costs and may take."""
    plan = state.need_plan()
    context.progress.attempt(
        1 + sum(a.counts for a in state.attempts[state.before :] if a.number != deployment.attempt),
        plan.limits.attempts,
        usd_per_hour=state.need_estimate().usd_per_hour,
        max_run_s=plan.limits.max_run_s,
        metric=plan.target.metric if plan.target else None,
        spent_usd=state.spent_usd,
    )


def _evidence(state: RunState, context: Context, seen: Seen, outcome: Outcome) -> Evidence:
    plan = state.need_plan()
    told = tells_of_memory(state, context) and not near_its_memory(seen.uses, plan, outcome)
    found = evidence_of(
        Stage.VERIFY,
        outcome=outcome,
        snapshot=seen.last,
        log=log_tail(context, outcome.alloc_id, task=outcome.task) if outcome.alloc_id else b"",
        driver=plan.driver,
        memory_told=told,
        secrets=context.secrets,
    )
    return found.model_copy(update={"observed": observations(seen.uses, plan, outcome)})


def tells_of_memory(state: RunState, context: Context) -> bool:
    """Whether the cluster tells of a job that it was killed for memory, so that one of which it does not was not.

    Not where the first steps came near the limit: then a kill of which nobody says anything was most likely for that.
    """
    plan, peak = state.need_plan(), state.measured.smoke.peak_host_mb if state.measured else None
    if peak is not None and peak >= _NEAR * plan.resources.memory_mb:
        return False
    try:
        return plan.driver == "docker" or context.facts().kind is ClusterKind.BUILTIN
    except ClusterError:
        return False
