"""A failure is diagnosed and repaired within the limits, or handed to a person."""

import json
import re
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain

from caravan.agent.approval import objections
from caravan.agent.context import Context
from caravan.agent.estimating import estimate_of
from caravan.agent.fits import all_avoided, has_place, other_plans
from caravan.agent.granting import going_on, longer_or_less
from caravan.agent.lawful import denials
from caravan.agent.lazy_toolbox import LazyToolbox
from caravan.agent.learning import keep_out_of_memory
from caravan.agent.reopening import since_reopened
from caravan.agent.reproducing import stays
from caravan.agent.resuming import used_up
from caravan.agent.rules import looks_of
from caravan.agent.state import RunState, Update, joined
from caravan.agent.suggested import suggested
from caravan.agent.training import source_of
from caravan.agent.troubled import keep_trouble
from caravan.diagnosis.entry import Fixable
from caravan.diagnosis.handover import handover, needs_code, words_to_go_on
from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.repair import mendable
from caravan.diagnosis.taxonomy import TAXONOMY
from caravan.planning.checks import check_job, check_place, check_plan
from caravan.planning.estimate import beyond_formula
from caravan.ports import Toolbox
from caravan.values.base import Json
from caravan.values.dialogue import PlanChoice
from caravan.values.errors import ClusterError, PlanError
from caravan.values.estimate import held_fields
from caravan.values.failure import (
    ChangePlan,
    Diagnosis,
    Evidence,
    FailureClass,
    Repair,
    Requery,
    RetryElsewhere,
    Stage,
    Wait,
)
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import Author, TrainingPlan, apply_changes, plan_diff
from caravan.values.run import Attempt, OutcomeKind, RunEvent, RunStatus

INTERRUPTION_LIMIT = 5
"""Deployments that may end by an interruption from outside (preemption, node loss) without counting as attempts."""


def diagnose(state: RunState, context: Context) -> Update:
    """Say why it failed, from the evidence alone."""
    evidence, plan = _evidence(state), state.need_plan()
    diagnosis = context.reasoner.diagnose(evidence, plan, state.cases)
    exhausted = used_up(plan, state.outcome) if diagnosis.failure is FailureClass.INTERRUPTED_EXTERNALLY else ""
    if exhausted or _memory_may_know(diagnosis):
        diagnosis = diagnosis.model_copy(update={"escalate": False})
    if diagnosis.failure in _READ_ON:
        read_on = f"{diagnosis.advice} `main.py logs {state.run_id}` shows it."
        diagnosis = diagnosis.model_copy(update={"advice": read_on})
    if not diagnosis.escalate:  # what ends the run is told at its end, once
        by = "" if diagnosis.by == "rules" else f" (by {diagnosis.by})"
        context.progress.note(f"Cause: {diagnosis.cause}{by}")
    update: Update = {"diagnosis": diagnosis, "exhausted": exhausted}
    if evidence.stage in (Stage.VERIFY, Stage.EVALUATE) and state.attempts:
        last = state.attempts[-1].model_copy(update={"diagnosis": diagnosis})
        update |= {"attempts": (*state.attempts[:-1], last), "ran": plan}
    if evidence.interrupted and not exhausted:  # a person decides each time whether it goes on
        update["interruptions"] = state.interruptions + 1
    keep_trouble(state, context, diagnosis, _when(state, context))
    if diagnosis.failure is FailureClass.CUDA_OOM and state.estimate is not None:
        update["memory_beyond"] = beyond_formula(state.estimate, diagnosis.details, state.memory_beyond)
        keep_out_of_memory(state, context, update["memory_beyond"])
    return update


_READ_ON = (FailureClass.UNKNOWN, FailureClass.PROCESS_HANG, FailureClass.NCCL_TIMEOUT)  # the run's log says more


def _memory_may_know(diagnosis: Diagnosis) -> bool:
    """Whether only a past case can help: nobody understands the failure, or no ladder stands against it yet."""
    if diagnosis.failure is FailureClass.UNKNOWN:
        return True
    return not mendable(diagnosis.failure) and TAXONOMY[diagnosis.failure].fixable is not Fixable.NO


def fix_iteration(state: RunState, context: Context) -> Update:
    """Take the first repair of the ladder that gives something new to try; none: the run is escalated.

    Repairs that the approval covers go first, in the ladder's order: a person is asked only when none of them is left.
    """
    plan, facts = state.need_plan(), context.facts()
    diagnosis = state.diagnosis
    if diagnosis is None:
        raise AssertionError("no diagnosis yet")
    if state.envelope is None:  # nothing is approved yet: what a person set stands until they agree to a change of it
        state = state.model_copy(update={"wished": state.wished or held_fields(plan, None)})
    toolbox = LazyToolbox(lambda: context.toolbox(source_of(state, context)))
    choices = _other_plans(state, context)
    ladder: tuple[Repair, ...] = (going_on(state),)
    if not state.exhausted:
        ladder = context.reasoner.repairs(diagnosis, plan, state.need_profile(), state.cases, facts, toolbox)
    outside: tuple[Repair, TrainingPlan] | None = None
    for repair in chain(ladder, map(_as_repair, _changing(choices)), _further(diagnosis, state, context, toolbox)):
        mended = _mended(repair, state, facts)
        if mended is None:
            continue
        if isinstance(repair, ChangePlan):
            estimate = estimate_of(mended, state, context)
            if check_plan(mended, facts) or (estimate.fits is False and _trusted(state)):
                continue
            if denials(mended, estimate, state, context):
                continue
            if choices is not None and not has_place(mended, state, context, now=_unplaced(state)):
                continue
            if objections(state, context, mended, estimate):
                outside = outside or (repair, mended)
                continue
        return {**_take(repair, mended, state, context), **(longer_or_less(state) if state.exhausted else {})}
    if outside is not None:
        return {**_take(*outside, state, context), **_on_offer(choices, outside[1], plan)}
    return {"status": RunStatus.ESCALATED, "detail": f"{diagnosis.cause} {_told(state, context)}"}


def _other_plans(state: RunState, context: Context) -> tuple[PlanChoice, ...] | None:
    """The nearest plans that have a place, where a place is what is missing; None where that is not the matter."""
    evidence, plan = _evidence(state), state.need_plan()
    if state.request.reproduces is not None:
        return None
    refused = evidence.stage is Stage.VALIDATE and not check_job(plan, context.facts())
    if not _unplaced(state) and not (refused and (evidence.placement_failures or check_place(plan, context.facts()))):
        return None
    return other_plans(plan, state, context, evidence.placement_failures, now=_unplaced(state))


def _unplaced(state: RunState) -> bool:
    """Whether the job has waited for a place as long as it may: another plan must have one now."""
    return state.outcome is not None and state.outcome.kind is OutcomeKind.NOT_PLACED


def _changing(choices: tuple[PlanChoice, ...] | None) -> Iterator[PlanChoice]:
    return (choice for choice in choices or () if choice.changes)


def _further(diagnosis: Diagnosis, state: RunState, context: Context, toolbox: Toolbox) -> Iterator[Repair]:
    """What a language model proposes, which is asked only once nothing of the ladder can be taken unasked."""
    if context.adviser is None or state.exhausted:
        return
    plan, profile = state.need_plan(), state.need_profile()
    known = (diagnosis, plan, profile, state.cases, context.facts(), toolbox, state.tried)
    yield from context.adviser.further_repairs(*known)


def _as_repair(choice: PlanChoice) -> ChangePlan:
    changes = tuple(c.model_copy(update={"by": Author.REPAIR}) for c in choice.changes)
    return ChangePlan(changes=changes, why=choice.text)


def _on_offer(choices: tuple[PlanChoice, ...] | None, taken: TrainingPlan, plan: TrainingPlan) -> Update:
    """The choices beside the one that a person is asked about, and the plan that they change."""
    if choices is None:
        return {}
    others = tuple(c for c in choices if c.changes and apply_changes(plan, c.changes).digest() != taken.digest())
    return {"choices": others, "unplaced": plan}


def _mended(repair: Repair, state: RunState, facts: ClusterFacts) -> TrainingPlan | None:
    """The plan after the repair, or None when it is nothing new: an invalid change, or a plan deployed before."""
    plan = state.need_plan()
    if isinstance(repair, ChangePlan):
        try:
            mended = apply_changes(plan, repair.changes)
        except PlanError:
            return None
        known = {*state.deployed_plans, plan.digest()}
        return None if mended.digest() in known or not stays(plan, mended, state) else mended
    if _unplaced(state) and isinstance(repair, Wait):
        return None  # it has waited as long as the user lets it wait: waiting again would be to ignore that
    interrupted = state.failure is not None and state.failure.interrupted  # has an allowance of its own
    if isinstance(repair, RetryElsewhere) and not interrupted and all_avoided(repair, plan, state, facts):
        return None
    return None if state.tried.count(repair) >= _TIMES.get(repair.kind, 1) and not interrupted else plan


# How often the same repair is worth taking in one run. A wait that did not help is followed by the ladder's longer one.
_TIMES = {"retry_elsewhere": 2, "requery": 2}


def _take(repair: Repair, mended: TrainingPlan, state: RunState, context: Context) -> Update:
    if isinstance(repair, Wait):
        _wait(repair, state, context)
        if context.store.run(state.run_id).status is RunStatus.STOPPED:
            return {"status": RunStatus.STOPPED, "detail": "stopped by the user while it waited"}
    avoid = repair.avoid_nodes if isinstance(repair, RetryElsewhere) else ()
    evidence, attempts = _evidence(state), state.attempts
    if attempts:
        attempts = (*attempts[:-1], _repaired(attempts[-1], repair, state.ran or state.need_plan(), mended))
    context.folder.save_plan(mended)
    cause = state.diagnosis.cause if state.diagnosis else ""
    context.progress.repair(cause, repair.why or repair.kind, plan_diff(state.need_plan(), mended))
    return {
        "plan": mended,
        "wished": state.wished,
        "attempts": attempts,
        "tried": (*state.tried, repair),
        "answered": state.diagnosis,
        "fixes": state.fixes + (0 if evidence.interrupted else 1),
        "avoid_nodes": joined(state.avoid_nodes, avoid),
        "sequence": state.sequence + (0 if _same_id(repair, evidence) else 1),
    }


def _wait(wait: Wait, state: RunState, context: Context) -> None:
    """Wait to the time that the first run of this node has noted, or until the user stops the run."""
    clock, number = context.clock, len(state.tried)
    events = since_reopened(context.store.events(state.run_id))
    noted = [e for e in events if e.kind == "waiting" and e.data.get("number") == number]
    if noted:
        until = datetime.fromisoformat(str(noted[0].data["until"]))
    else:
        until = clock.now() + timedelta(seconds=wait.seconds)
        text = f"until {until:%Y-%m-%d %H:%M:%S} UTC: {wait.why}"
        data: dict[str, Json] = {"until": until.isoformat(), "number": number}
        context.store.add_event(state.run_id, RunEvent(at=_when(state, context), kind="waiting", text=text, data=data))
    left = min((until - clock.now()).total_seconds(), wait.seconds)  # the clock may have been set back since
    if left > 0:
        context.progress.note(f"Waiting {left:.0f} s: {wait.why}")
    end = clock.monotonic() + left
    while (left := end - clock.monotonic()) > 0:
        if context.store.run(state.run_id).status is RunStatus.STOPPED:
            return  # nothing is deployed for a stopped run: it ends there
        clock.sleep(min(left, _STEP_S))


_STEP_S = 10.0  # how long a wait goes on at most before it looks whether the run was stopped


def _repaired(attempt: Attempt, repair: Repair, ran: TrainingPlan, mended: TrainingPlan) -> Attempt:
    """The attempt with what was done since it ended; `ran` is its plan.

    A repair that was refused before anything ran goes on in the one that answers the refusal: together they are what
    the next attempt tries.
    """
    before = attempt.repair
    if before is not None and before != repair:
        why = "; then ".join(dict.fromkeys((r.why or r.kind).rstrip(".") for r in (before, repair)))
        changes = {c.path: c for r in (before, repair) if isinstance(r, ChangePlan) for c in r.changes}
        left = tuple(c for c in changes.values() if _value(ran, c.path) != _value(mended, c.path))
        repair = ChangePlan(changes=left, why=why) if left else repair.model_copy(update={"why": why})
    return attempt.model_copy(update={"repair": repair, "changed": plan_diff(ran, mended)})


def _value(plan: TrainingPlan, path: str) -> Json:
    try:
        return plan.get(path)
    except PlanError:  # below a block that is unset
        return None


def _same_id(repair: Repair, evidence: Evidence) -> bool:
    """Whether the job id stays: one that validation caught is still free, and asking again means the same job.

    An id whose intent was stored is never used for another specification.
    """
    return evidence.stage is Stage.VALIDATE or isinstance(repair, Requery)


def _trusted(state: RunState) -> bool:
    """Whether the estimate can speak against a repair: it held the plan before to fit, or GPU memory is the matter."""
    out_of_memory = state.diagnosis is not None and state.diagnosis.failure is FailureClass.CUDA_OOM
    return out_of_memory or (state.estimate is not None and state.estimate.fits is True)


def escalate(state: RunState, context: Context) -> Update:
    """Hand over to a person: the cause, what was tried, and what to do."""
    diagnosis = state.diagnosis
    status: RunStatus = RunStatus.ESCALATED
    if state.status is RunStatus.ESCALATED:  # no repair was left
        detail = state.detail
    elif diagnosis is None:
        detail = _evidence(state).message
    else:
        status = RunStatus.ESCALATED if diagnosis.escalate else RunStatus.FAILED
        detail = f"{diagnosis.cause} {_told(state, context)}"
    update = _with_patch(state, context)
    patch = str(update.pop("patch", ""))
    if diagnosis is not None:
        detail = " ".join(filter(None, (detail, patch, _to_go_on(diagnosis, state, context, patched=bool(patch)))))
    context.store.add_event(
        state.run_id, RunEvent(at=_when(state, context), kind="escalated", text=detail, data={"status": status.value})
    )
    return {**update, "status": status, "detail": detail}


def _with_patch(state: RunState, context: Context) -> Update:
    """The diagnosis with a change of the code that is suggested, written down; `patch` says so in a sentence."""
    found, diagnosis = suggested(state, context), state.diagnosis
    if found is None or diagnosis is None:
        return {}
    place = context.folder.save_patch(found.diff).absolute()
    diagnosis = diagnosis.model_copy(update={"patch": found.diff})
    how = f"`git apply {shlex.quote(str(place))}` in the repository applies the change that is suggested."
    update: Update = {"diagnosis": diagnosis, "patch": f"{found.why} {how}"}
    if state.attempts and state.attempts[-1].diagnosis is not None:
        update["attempts"] = (*state.attempts[:-1], state.attempts[-1].model_copy(update={"diagnosis": diagnosis}))
    return update


def _told(state: RunState, context: Context) -> str:
    """How often it was tried, what was changed, and what a person can do."""
    diagnosis = state.diagnosis
    if diagnosis is None:
        raise AssertionError("no diagnosis yet")
    limit = state.need_plan().limits.attempts
    exhausted = not diagnosis.escalate and state.counted_attempts() >= limit
    ending = " No attempt is left." if exhausted else "" if diagnosis.escalate else " No repair is left to try."
    said = _said(state, diagnosis.cause) if not state.attempts else ""
    parts = (f"{_history(state)}{'' if said else ending}".strip(), said or handover(_case(diagnosis, state, context)))
    return " ".join(part for part in parts if part)


def _case(diagnosis: Diagnosis, state: RunState, context: Context) -> Case:
    looks = looks_of(lambda: context.toolbox(source_of(state, context)), state.need_profile())
    return Case(diagnosis, state.need_plan(), state.need_profile(), _facts(context), looks=looks)


def _to_go_on(diagnosis: Diagnosis, state: RunState, context: Context, *, patched: bool) -> str:
    """The command with which it goes on, once a person has done what was told before it: the last word."""
    case = _case(diagnosis, state, context)
    if patched or needs_code(case):
        request = state.request
        words = ["main.py", "--prompt", request.prompt, "--codebase-path", request.source, "--cluster", request.cluster]
        words += [w for c in request.sets for w in ("--set", f"{c.path}={_shown(c.value)}")]
        return f"Then start it again: {shlex.join(words)}"
    return f"Then go on: main.py resume {state.run_id} {words_to_go_on(case) or '--again'}"


def _shown(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _said(state: RunState, cause: str) -> str:
    """What a person set that the cause names, where nothing was deployed yet: then it is theirs to set otherwise."""
    sets = [c for c in state.request.sets if re.search(rf"(?<![\w.]){re.escape(c.path)}(?![\w]|\.\w)", cause)]
    named = " and ".join(f"{c.path}={c.value}" for c in sets)
    return f"You set {named}: start again with another --set." if named else ""


def _facts(context: Context) -> ClusterFacts:
    """The cluster's facts, or none where it does not answer: what is told at the end does not hang on them."""
    try:
        return context.facts()
    except ClusterError:
        return ClusterFacts(kind=ClusterKind.NOMAD, address="")


def _history(state: RunState) -> str:
    """The attempts and the repairs between them, in a sentence; empty where nothing was tried."""
    repairs = list(dict.fromkeys((repair.why or repair.kind).rstrip(".") for repair in state.tried))
    if not repairs:
        return ""
    count = len(state.attempts)
    attempts = f" in {count} attempt{'' if count == 1 else 's'}" if count else ""
    shown = "; then ".join(repairs[-_SHOWN:])
    return f"Tried{attempts}: {shown}."


_SHOWN = 4  # repairs that are told; the report has them all


def _when(state: RunState, context: Context) -> datetime:
    """A time that is the same when the node runs twice: the end of the last attempt, where there was one."""
    last: Attempt | None = state.attempts[-1] if state.attempts else None
    ended = last.outcome.finished_at if last and last.outcome else None
    return ended or context.store.run(state.run_id).created_at


def _evidence(state: RunState) -> Evidence:
    if state.failure is None:
        raise AssertionError("no failure to diagnose")
    return state.failure
