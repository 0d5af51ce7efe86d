"""A job of a run from its registration, exactly once, to its end: an attempt's training, or the evaluation behind it.

It must not know what a job is for, nor what follows from its end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from caravan.agent.account import Account
from caravan.agent.context import Context
from caravan.agent.elapsed import begun
from caravan.agent.money import approved_usd, cost_usd, rate_of
from caravan.agent.purse import Purse
from caravan.agent.state import RunState
from caravan.agent.watchdog import ended_by_deadline
from caravan.agent.watching import JobWatch, Seen
from caravan.values.base import Json
from caravan.values.errors import JobConflict, JobRefused
from caravan.values.job import RegisteredJob
from caravan.values.run import Deployment, DeploymentState, Outcome, OutcomeKind, Phase, RunStatus, SmokeResult

Hindrance = TypeVar("Hindrance")


@dataclass(frozen=True)
class Deployed(Generic[Hindrance]):
    """What came of it: the job that is registered, or one of the reasons why there is none.

    `lost`: it was recorded as registered and is gone. `hindered`: what spoke against it. `refused`: the cluster's
    words.
    """

    deployment: Deployment
    job: RegisteredJob | None = None
    lost: bool = False
    hindered: Hindrance | None = None
    refused: str = ""


def stored_of(run_id: str, wanted: Deployment, context: Context) -> Deployment:
    """The deployment as the store has it: with what its deadlines have used up."""
    return next((d for d in context.store.deployments(run_id) if d.job_id == wanted.job_id), wanted)


def deploy_once(
    wanted: Deployment, context: Context, *, job: Callable[[], Json], hindered: Callable[[Json], Hindrance | None]
) -> Deployed[Hindrance]:
    """Look whether the job is there already, store the intent, register it only if it is certainly new.

    A job under our id with our SHA-256 is taken over (a crash came between registering and recording). One that was
    recorded as registered but is gone is lost: it is never registered anew. `job` is read and `hindered` asked only of
    one that is certainly new, before anything of it is stored.
    """
    deployment = stored_of(wanted.run_id, wanted, context)
    if deployment.spec_sha256 != wanted.spec_sha256:
        context.store.intend(wanted)  # refuses an id that is stored with another specification
    found = context.cluster.find(deployment.job_id, deployment.namespace)
    if found is None and deployment.state is not DeploymentState.INTENDED:
        lost = deployment.model_copy(update={"state": DeploymentState.UNKNOWN})
        context.store.save_deployment(lost)
        return Deployed(deployment, lost=True)
    if found is None:
        given = job()
        against = hindered(given)
        if against is not None:
            return Deployed(deployment, hindered=against)
        # Only now is it to be deployed: what a limit or a policy keeps back was never an attempt.
        deployment = _begun(context.store.intend(wanted), context)
        try:
            found = context.cluster.register(given)
        except JobConflict:
            found = context.cluster.find(deployment.job_id, deployment.namespace)
        except JobRefused as error:
            return Deployed(deployment, refused=error.message)
    if found is None or found.spec_sha256 != deployment.spec_sha256:
        return Deployed(deployment, refused=f"job id {deployment.job_id} is taken by a job that is not this run's")
    return Deployed(_registered(context.store.intend(wanted), found, context), job=found)


def _begun(deployment: Deployment, context: Context) -> Deployment:
    """The intent, stored with the time before which the job can't have been placed."""
    begins = deployment.model_copy(update={"watched": begun(context.clock)})
    context.store.save_deployment(begins)
    return begins


def _registered(deployment: Deployment, job: RegisteredJob, context: Context) -> Deployment:
    """The deployment as it is stored once the cluster has its job."""
    registered = deployment.model_copy(
        update={
            "state": max(deployment.state, DeploymentState.REGISTERED, key=list(DeploymentState).index),
            "registered_at": deployment.registered_at or context.clock.now(),
            "job_modify_index": deployment.job_modify_index or job.modify_index,
            "watched": deployment.watched or begun(context.clock),
        }
    )
    context.store.save_deployment(registered)
    return registered


def stopped_by_user(state: RunState, context: Context) -> bool:
    """Whether the user has stopped the run meanwhile."""
    return context.store.run(state.run_id).status is RunStatus.STOPPED


@dataclass(frozen=True)
class Followed:
    """How a deployment ended: what was seen, the outcome (None: its job is gone), and what the run has spent by then.

    `deployment` is stored as it is here.
    """

    seen: Seen
    deployment: Deployment
    outcome: Outcome | None
    spent_usd: float


def follow(
    state: RunState,
    context: Context,
    deployment: Deployment,
    *,
    names: tuple[str, ...] = (),
    first_steps: Callable[[SmokeResult], object] = bool,
) -> Followed:
    """Watch a deployed job to its end, keep its logs, judge its outcome, count its cost.

    Plan and estimate are the state's: they say what its time costs. `names` and `first_steps` are `JobWatch`'s.
    """
    plan = state.need_plan()
    purse = _account(state, context, deployment)
    seen = JobWatch(context, plan, deployment, names=names, purse=purse, first_steps=first_steps).follow()
    cost = cost_usd(state, context, seen.last, seen.age)
    if seen.last.phase is Phase.GONE and not stopped_by_user(state, context):
        gone = deployment.model_copy(update={"state": DeploymentState.UNKNOWN})
        context.store.save_deployment(gone)
        return Followed(seen, gone, None, state.spent_usd + cost)
    outcome = _outcome(context, deployment, seen)
    finished = deployment.model_copy(update={"state": DeploymentState.FINISHED, "watched": seen.watched})
    context.store.save_deployment(finished)
    spent = state.spent_usd + cost
    context.store.update_run(state.run_id, cost_usd=spent, spent_since=deployment.registered_at)
    return Followed(seen, finished, outcome, spent)


def _account(state: RunState, context: Context, deployment: Deployment) -> Account | None:
    """What the run may still spend while it is watched; None for a job that costs nothing.

    It may spend what is approved, and of that no more than was reserved beside other runs.
    """
    plan, approved = state.need_plan(), approved_usd(state, context)
    rate = rate_of(plan, state.need_estimate())
    if not rate.usd_per_hour or approved is None:
        return None
    reserved = context.store.reserved_usd(state.run_id)
    purse = Purse(
        approved_usd=approved if reserved is None else min(approved, reserved),
        spent_usd=state.spent_usd,
        usd_per_hour=rate.usd_per_hour,
        nodes=plan.launch.nodes,
        end_s=plan.kill_timeout_s,
        assumed=rate.assumed,
    )
    return Account(purse, state, context, deployment.registered_at)


def _outcome(context: Context, deployment: Deployment, seen: Seen) -> Outcome:
    if seen.changed:
        return Outcome(kind=OutcomeKind.CHANGED, reason=f"job {deployment.job_id}: {seen.changed}")
    judged = context.judge(seen.last, seen.sentinel, deployment.spec_sha256)
    return ended_by_deadline(judged, seen.watched, ended=seen.ended)
