"""The job of its own that evaluates a trained model: prepared, deployed once, followed to its end.

Whatever becomes of it, the training went well: what goes wrong is told, and no failure of the run. It is part of what
was approved with the plan; where money or a policy speaks against it, it is not deployed.
"""

from dataclasses import dataclass, field
from typing import Final

from caravan.agent.context import Context
from caravan.agent.deploying import deploy_once, follow, stopped_by_user, stored_of
from caravan.agent.judged import answer_in
from caravan.agent.lawful import denied
from caravan.agent.money import approved_usd, reserve, seen_usd
from caravan.agent.state import RunState, Update
from caravan.hcl import mismatches, parse_hcl, read_back, render_hcl
from caravan.planning.budget import refusal
from caravan.planning.evaluating import evaluation_words
from caravan.planning.evaluation_job import evaluation_estimate, evaluation_plan
from caravan.planning.evaluation_place import apart, beyond_reach
from caravan.planning.jobspec import to_job_spec
from caravan.planning.script import evaluation_helpers, fetch_helpers
from caravan.values.base import Json
from caravan.values.errors import JobRefused
from caravan.values.evaluation import EvaluationResult
from caravan.values.failure import Stage
from caravan.values.run import Deployment, DeploymentState, OutcomeKind, Purpose, RunEvent

_AGAIN: Final = "reeval"
"""In the id of the job that is deployed once more after an interruption from outside. No id begins with another one:
the cluster finds evaluations by an id's beginning."""


@dataclass(frozen=True)
class Apart:
    """What became of the evaluation job. `update`: what of the state changed. `again`: the node is to run once more.

    `result`: what it measured; with an `error` where it came to nothing. None: the plan has no such job.
    """

    update: Update = field(default_factory=dict)
    result: EvaluationResult | None = None
    again: bool = False


def evaluate_apart(state: RunState, context: Context) -> Apart:
    """The next step of the evaluation job: prepare it, or deploy it and follow it to its end.

    What is prepared is kept in the state before anything is deployed, so that a node that runs again after a crash
    finds the same job.
    """
    plan = state.need_plan()
    if not apart(plan) or not state.attempts:
        return Apart()
    if state.evaluating is None:
        return _prepared(state, context) if not stopped_by_user(state, context) else Apart()
    return _followed(state, context, state.evaluating)


def _for_evaluation(state: RunState, context: Context) -> RunState:
    """The state as deploying and counting see the evaluation: with its plan and what that costs."""
    plan = state.need_plan()
    helpers = evaluation_helpers(plan, context.templates)
    if plan.outputs.kind == "url":
        helpers |= fetch_helpers(context.templates)
    derived = evaluation_plan(plan, helpers, run_id=state.run_id, attempt=state.attempts[-1].number)
    return state.model_copy(update={"plan": derived, "estimate": evaluation_estimate(plan, state.need_estimate())})


def _prepared(state: RunState, context: Context, *, again: bool = False) -> Apart:
    """The job, checked and written to the run's folder, as the next step's deployment; or why there is none."""
    if beyond_reach(state.need_plan()):
        return _nothing(state, "what the training wrote is in its job's allocation alone, where no other job reads it")
    seen, number = _for_evaluation(state, context), state.attempts[-1].number
    cost = seen.need_estimate().cost_usd
    approved = approved_usd(state, context)
    whole = state.spent_usd + (cost.high if cost is not None else 0.0)  # of an unknown cost the first cent is too much
    if approved is not None and (whole > approved or (cost is None and 0 < approved <= whole)):
        short = f"{whole:.2f} USD in all leave nothing of the approved {approved:.2f} USD"
        return _nothing(state, f"there is no money left for it: {short}")
    spec = to_job_spec(
        seen.need_plan(),
        context.facts(),
        run_id=state.run_id,
        attempt=number,
        job_id=f"caravan-{state.run_id}-{_AGAIN if again else 'eval'}-{number:02d}",
        templates=context.templates,
    )
    hcl = render_hcl(spec, templates=context.templates)
    try:
        job = context.cluster.parse(hcl)
    except JobRefused as error:
        return _nothing(state, error.message)
    wrong = (*mismatches(spec, parse_hcl(hcl)), *mismatches(read_back(parse_hcl(hcl)), job))
    wrong = wrong or context.cluster.check(job).errors
    if wrong:
        return _nothing(state, wrong[0])
    against = denied(seen, context, Stage.DEPLOY, job)
    if against is not None:
        return _nothing(state, against.message)
    name = _file(number, again=again)
    path = context.folder.save_job(number, hcl, job, name=name)
    deployment = Deployment(
        run_id=state.run_id,
        attempt=number,
        purpose=Purpose.EVALUATE,
        job_id=spec.id,
        namespace=spec.namespace or "default",
        spec_sha256=spec.digest(),
        plan_sha256=state.attempts[-1].plan_sha256,
        hcl_path=str(path),
    )
    return Apart({"evaluating": deployment}, again=True)


def _file(number: int, *, again: bool) -> str:
    return f"eval-{number}-2" if again else f"eval-{number}"


def _followed(state: RunState, context: Context, wanted: Deployment) -> Apart:
    """Deploy the job unless that was done, follow it to its end, take what it measured."""
    seen = _for_evaluation(state, context)
    again = f"-{_AGAIN}-" in wanted.job_id
    known = stored_of(state.run_id, wanted, context)
    if stopped_by_user(state, context) and known.state is DeploymentState.INTENDED:
        return Apart()

    def saved() -> Json:
        return context.folder.load_job(wanted.attempt, name=_file(wanted.attempt, again=again))[1]

    done = deploy_once(wanted, context, job=saved, hindered=lambda job: _hindered(seen, context, job))
    if done.lost:
        paid: Update = {"spent_usd": state.spent_usd + seen_usd(state, context)}  # as far as an earlier agent saw it
        return _nothing(state, f"job {wanted.job_id} was registered, but the cluster does not know it any more", paid)
    if done.hindered is not None or done.refused:
        return _nothing(state, done.hindered or done.refused)
    _tell_deployed(state, context, done.deployment)
    ended = follow(seen, context, done.deployment)
    update: Update = {
        "spent_usd": ended.spent_usd,
        "evaluating": ended.deployment.model_copy(update={"watched": None}),
    }
    outcome = ended.outcome
    if outcome is None:
        return _nothing(state, f"job {wanted.job_id} is gone from the cluster", update)
    if stopped_by_user(state, context):
        return Apart(update)
    if outcome.kind is OutcomeKind.INTERRUPTED and not again:
        context.progress.note("The evaluation was interrupted from outside: it is deployed once more")
        found = _prepared(state.model_copy(update=update), context, again=True)
        return Apart({**update, **found.update}, found.result, found.again)
    result = answer_in(outcome.alloc_id, context) if outcome.alloc_id else None
    if result is not None:
        return Apart(update, result)
    reason = outcome.reason or "it left no answer"
    return _nothing(state, f"job {wanted.job_id}: {reason}", update)


def _nothing(state: RunState, why: str, update: Update | None = None) -> Apart:
    """An evaluation that came to nothing, with the reason."""
    command = evaluation_words(state.need_plan())
    return Apart(update or {}, EvaluationResult(by=command.by if command else "", error=why[:1000]))


def _hindered(state: RunState, context: Context, job: Json) -> str | None:
    """What speaks against a job that is certainly new, in words."""
    if context.policies.trouble:
        return context.policies.trouble
    answer = reserve(state, context)
    if answer.short is not None:
        cost = state.need_estimate().cost_usd
        return refusal(answer.short, cost.high if cost is not None else None)
    against = denied(state, context, Stage.DEPLOY, job)
    return against.message if against is not None else None


def _tell_deployed(state: RunState, context: Context, deployment: Deployment) -> None:
    text = f"the model of attempt {deployment.attempt} is evaluated by {deployment.job_id}"
    context.progress.note(text[0].upper() + text[1:])
    data: dict[str, Json] = {"job_id": deployment.job_id, "attempt": deployment.attempt}
    at = deployment.registered_at or context.clock.now()
    context.store.add_event(state.run_id, RunEvent(at=at, kind="evaluation_deployed", text=text, data=data))
