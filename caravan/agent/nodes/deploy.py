"""Deploying a job exactly once, and following it to its end."""

from functools import partial

from caravan.agent.account import Account
from caravan.agent.context import Context
from caravan.agent.granting import has_begun
from caravan.agent.lawful import denied, require_policies
from caravan.agent.learning import keep_first_steps
from caravan.agent.logs import log_tail
from caravan.agent.money import approved_usd, cost_usd, rate_of, reserve, seen_usd
from caravan.agent.outputs import checkpoint_there
from caravan.agent.purse import Purse
from caravan.agent.resuming import reached, told_of, used_up
from caravan.agent.sampling import near_its_memory, observations
from caravan.agent.smoke import measured, with_first_steps
from caravan.agent.state import RunState, Update, joined
from caravan.agent.watchdog import begun, ended_by_deadline
from caravan.agent.watching import JobWatch, Seen
from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.sign import BUDGET_OVER
from caravan.planning.budget import refusal
from caravan.values.base import Json
from caravan.values.errors import ClusterError, JobConflict, JobRefused
from caravan.values.estimate import Verdict
from caravan.values.failure import Evidence, Stage
from caravan.values.job import ClusterKind, RegisteredJob
from caravan.values.run import (
    Attempt,
    Deployment,
    DeploymentState,
    Outcome,
    OutcomeKind,
    Phase,
    RunEvent,
    RunStatus,
)

_NEAR = 0.9  # share of its memory from which on a task may well have run out of it later


def deploy_job(state: RunState, context: Context) -> Update:
    """Look whether the job is there already, store the intent, register it only if it is certainly new.

    A job under our id with our SHA-256 is taken over (a crash came between registering and recording). One that was
    recorded as registered but is gone is lost: a person decides, it is never registered anew by itself.
    """
    if _stopped_by_user(state, context):
        return {"status": RunStatus.STOPPED, "detail": "stopped by the user before the job was deployed"}
    deployment = _stored(state, context)
    if deployment.spec_sha256 != state.need_deployment().spec_sha256:
        context.store.intend(state.need_deployment())  # refuses an id that is stored with another specification
    found = context.cluster.find(deployment.job_id, deployment.namespace)
    if found is None and deployment.state is not DeploymentState.INTENDED:
        context.store.save_deployment(deployment.model_copy(update={"state": DeploymentState.UNKNOWN}))
        return {"lost": True, "lost_usd": seen_usd(state, context), "deployment": deployment}
    if found is None:
        _, job = context.folder.load_job(state.sequence)
        require_policies(context)
        refused = _without_money(state, context)
        if refused is not None:
            return refused
        against = denied(state, context, Stage.DEPLOY, job)
        if against:
            return {"failure": against}
        # Only now is it to be deployed: what a limit or a policy keeps back was never an attempt.
        deployment = context.store.intend(state.need_deployment())
        try:
            found = context.cluster.register(job)
        except JobConflict:
            found = context.cluster.find(deployment.job_id, deployment.namespace)
        except JobRefused as error:
            return {"failure": Evidence(stage=Stage.DEPLOY, message=error.message, validation_errors=(error.message,))}
    if found is None or found.spec_sha256 != deployment.spec_sha256:
        message = f"job id {deployment.job_id} is taken by a job that is not this run's"
        return {"failure": Evidence(stage=Stage.DEPLOY, message=message, validation_errors=(message,))}
    deployment = context.store.intend(state.need_deployment())
    return _registered(state, context, deployment, found)


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


def _registered(state: RunState, context: Context, deployment: Deployment, job: RegisteredJob) -> Update:
    registered = deployment.model_copy(
        update={
            "state": max(deployment.state, DeploymentState.REGISTERED, key=list(DeploymentState).index),
            "registered_at": deployment.registered_at or context.clock.now(),
            "job_modify_index": deployment.job_modify_index or job.modify_index,
            "watched": deployment.watched or begun(context.clock),
        }
    )
    context.store.save_deployment(registered)
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
    deployment = _stored(state, context)
    context.memory.close()  # watching may take days, and an embedded memory has one owner; the next call opens it again
    _announce(state, context, deployment)
    names = state.need_profile().metrics_logged
    account = _account(state, context, deployment)
    keep = partial(keep_first_steps, state, context, deployment.attempt)
    watch = JobWatch(context, state.need_plan(), deployment, names=names, purse=account, first_steps=keep)
    seen = watch.follow()
    keep(seen.smoke)  # an agent before this one may have found it and come no further
    if seen.last.phase is Phase.GONE and not _stopped_by_user(state, context):
        context.store.save_deployment(deployment.model_copy(update={"state": DeploymentState.UNKNOWN}))
        return {"lost": True, "lost_usd": cost_usd(state, context, deployment, seen.last)}
    outcome = _outcome(context, deployment, seen)
    finished = deployment.model_copy(update={"state": DeploymentState.FINISHED, "watched": seen.watched})
    context.store.save_deployment(finished)
    over = used_up(state.need_plan(), outcome)
    written = checkpoint_there(state.need_plan(), context, outcome.alloc_id) if over else None
    attempt = Attempt(
        number=deployment.attempt,
        job_id=deployment.job_id,
        hcl_path=deployment.hcl_path or "",
        plan_sha256=deployment.plan_sha256,
        # What left nothing to go on from begins anew: that is one more attempt at the whole.
        counts=outcome.kind is not OutcomeKind.INTERRUPTED and (over == "" or written is False),
        outcome=outcome,
        uses=seen.uses,
        observed=() if outcome.succeeded else observations(seen.uses, state.need_plan(), outcome),
        resumed=told_of(state.run_id, deployment.attempt, context),
    )
    spent = state.spent_usd + cost_usd(state, context, deployment, seen.last)
    context.store.update_run(state.run_id, cost_usd=spent, spent_since=deployment.registered_at)
    update: Update = {
        "deployment": finished.model_copy(update={"watched": None}),
        "outcome": outcome,
        "attempts": (*(a for a in state.attempts if a.number != attempt.number), attempt),
        "spent_usd": spent,
    }
    update |= measured(state, deployment.attempt, seen.smoke)
    if _stopped_by_user(state, context):
        update |= {"status": RunStatus.STOPPED, "detail": "stopped by the user"}
    elif not outcome.succeeded:
        log = log_tail(context, outcome.alloc_id) if outcome.alloc_id else b""
        update["reached"] = 0.0 if written is False else reached(state, log)
        update["written"] = written
        evidence = _evidence(state, context, seen, outcome)
        update["failure"] = with_first_steps(evidence, seen.smoke, state.need_estimate().usd_per_hour)
    return update


def _stored(state: RunState, context: Context) -> Deployment:
    """The deployment as the store has it: with what its deadlines have used up."""
    wanted = state.need_deployment()
    return next((d for d in context.store.deployments(state.run_id) if d.job_id == wanted.job_id), wanted)


def _account(state: RunState, context: Context, deployment: Deployment) -> Account | None:
    """What the run may still spend while it is watched; None for a job that costs nothing.

    It may spend what is approved, and of that no more than was reserved beside other runs.
    """
    plan, approved = state.need_plan(), approved_usd(state, context)
    rate = rate_of(plan, state.need_estimate())
    if not rate.usd_per_hour or approved is None:
        return None
    reserved, created_at = context.store.reserved_usd(state.run_id), context.store.run(state.run_id).created_at
    purse = Purse(
        approved_usd=approved if reserved is None else min(approved, reserved),
        spent_usd=state.spent_usd,
        usd_per_hour=rate.usd_per_hour,
        nodes=plan.launch.nodes,
        end_s=plan.kill_timeout_s,
        created_at=created_at,
        registered_at=deployment.registered_at or created_at,
        assumed=rate.assumed,
    )
    return Account(purse, state, context)


def _outcome(context: Context, deployment: Deployment, seen: Seen) -> Outcome:
    if seen.changed:
        return Outcome(kind=OutcomeKind.CHANGED, reason=f"job {deployment.job_id}: {seen.changed}")
    judged = context.judge(seen.last, seen.sentinel, deployment.spec_sha256)
    return ended_by_deadline(judged, seen.watched, ended=seen.ended)


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


def _stopped_by_user(state: RunState, context: Context) -> bool:
    return context.store.run(state.run_id).status is RunStatus.STOPPED


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
