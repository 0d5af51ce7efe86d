"""Validation: the job is proved before anything is registered, by ourselves and by the cluster's dry run."""

import re
from collections.abc import Iterator, Sequence

from caravan.agent.approval import each_by_itself
from caravan.agent.context import Context
from caravan.agent.data_checks import fatal, seen_again
from caravan.agent.delivery import unpushed
from caravan.agent.fits import cheaper_plans, hopeless, other_plans
from caravan.agent.lawful import denied, require_policies
from caravan.agent.state import RunState, Update, joined
from caravan.agent.there import absent, dockerfile_hint
from caravan.agent.training import changed_since
from caravan.diagnosis.evidence import evidence_of
from caravan.hcl import mismatches, parse_hcl, read_back
from caravan.planning.checks import check_image, check_job, check_plan
from caravan.planning.delivery import nearby_notes
from caravan.values.errors import JobRefused
from caravan.values.estimate import beyond_held
from caravan.values.failure import Evidence, Stage
from caravan.values.job import DryRun


def validate_spec(state: RunState, context: Context) -> Update:
    """Prove the job before anything is registered: by ourselves first, then by the cluster's parse, validate, plan."""
    if state.failure:
        return {}  # it was not rendered as it was meant
    trouble = context.policies.trouble
    if not state.request.dry_run:
        require_policies(context)
    against = denied(state, context, Stage.VALIDATE)
    if against:
        return {"failure": against}
    state, seen = seen_again(state, context)
    wrong = fatal(state.data)
    if wrong:
        return {**seen, "failure": Evidence(stage=Stage.VALIDATE, message="\n".join(wrong), log_lines=wrong)}
    missing = absent(state, context)
    if missing:
        return {"failure": Evidence(stage=Stage.VALIDATE, message=" ".join(missing))}
    problems = check_plan(
        state.need_plan(), context.facts(), unpushed=unpushed(state, context), shipping=context.shipping
    )
    if problems:
        return {"failure": _impossible((*problems, *dockerfile_hint(state, context)), state, context)}
    hcl, _ = context.folder.load_job(state.sequence)
    try:
        job = context.cluster.parse(hcl)
    except JobRefused as error:
        return {"failure": Evidence(stage=Stage.VALIDATE, message=error.message, validation_errors=(error.message,))}
    different = mismatches(read_back(parse_hcl(hcl)), job)
    if different:
        message = f"the cluster reads the job differently: {different[0]}"
        return {"failure": Evidence(stage=Stage.VALIDATE, message=message, validation_errors=different)}
    against = denied(state, context, Stage.VALIDATE, job)
    if against:
        return {"failure": against}
    answer = context.cluster.check(job)
    context.folder.save_job(state.sequence, hcl, job)
    failure = _refusal(answer)
    if failure:
        return {"failure": failure}
    unsafe = [f"nothing could be deployed: {trouble}"] if trouble else []
    if state.request.dry_run:  # nobody is asked for their approval, where it would be told
        unsafe += each_by_itself(state.need_plan(), state, context)
        unsafe += [f"a run would ask first: {text}" for text in beyond_held(state.need_plan(), state.wished)]
    near = nearby_notes(state.need_plan(), context.facts())
    warnings = [
        *unsafe,
        *near,
        *changed_since(state, context),
        *_own(answer.warnings),
        *(f"it will wait: {f.line()}" for f in answer.failures),
    ]
    return {**seen, "warnings": joined(state.warnings, tuple(warnings)), **_choices(answer, state, context)}


def _own(warnings: Sequence[str]) -> Iterator[str]:
    """The warnings that tell a person something. Our services only say where members meet before the training begins:
    nobody sends them requests that an end would have to wait for, so that they need no shutdown_delay."""
    return (w for w in warnings if not _NO_DELAY.search(w))


_NO_DELAY = re.compile(r"\bdefines services, .*\bshutdown_delay set\b")


def _choices(answer: DryRun, state: RunState, context: Context) -> Update:
    """Other plans for one that would wait, or that costs more than may be spent unasked.

    Those for a plan that had no place stay until a person has decided.
    """
    if state.unplaced is not None or state.request.reproduces is not None:  # any other plan would be no reproduction
        return {}
    plan = state.need_plan()
    if answer.failures:
        return {"choices": other_plans(plan, state, context, answer.failures)}
    return {"choices": cheaper_plans(plan, state, context)}


def _impossible(problems: Sequence[str], state: RunState, context: Context) -> Evidence:
    """Our own words on a plan that can't run. Where all that is missing is a place, with the cluster's reasons too.

    Those tell the cause, and a cause may have a repair.
    """
    plan, facts = state.need_plan(), context.facts()
    said = Evidence(stage=Stage.VALIDATE, message=" ".join(problems))
    image, job = check_image(plan, facts), check_job(plan, facts)
    if job:
        return said if job != image or not plan.image else said.model_copy(update={"validation_errors": image})
    hcl, _ = context.folder.load_job(state.sequence)
    try:
        answer = context.cluster.check(context.cluster.parse(hcl))
    except JobRefused:
        return said
    return evidence_of(Stage.VALIDATE, check=answer, message=said.message)


def _refusal(answer: DryRun) -> Evidence | None:
    """Evidence when the job is invalid or no node could ever take it; None when it can run now or has to wait."""
    if answer.errors:
        return evidence_of(Stage.VALIDATE, check=answer)
    never = hopeless(answer)
    if never:
        check = answer.model_copy(update={"failures": never})
        return evidence_of(Stage.VALIDATE, check=check, message=never[0].line())
    return None
