"""What a node's span tells of its work: small attributes and moments, read off its update. Pure."""

from caravan.agent.state import RunState, Update
from caravan.diagnosis.ladders.remembered import WORKED
from caravan.values.base import Json
from caravan.values.failure import Repair, Wait
from caravan.values.lesson_fields import name_of
from caravan.values.plan import TrainingPlan, plan_diff


def surroundings(state: RunState) -> dict[str, Json]:
    """What a node starts from: the number of the attempt, once there is a plan."""
    return {"attempt": state.sequence} if state.plan else {}


def result(state: RunState, update: Update) -> dict[str, Json]:
    """What a node came to."""
    told: dict[str, Json] = {}
    new = {name: value for name, value in update.items() if value and value != getattr(state, name)}
    if outcome := new.get("outcome"):
        told |= {"outcome": outcome.kind.value, "exit_code": outcome.exit_code, "reason": outcome.reason}
    if diagnosis := new.get("diagnosis"):
        told |= {"failure_class": diagnosis.failure.value, "confidence": diagnosis.confidence}
    if failure := new.get("failure"):
        told["failure"] = failure.message or next(iter((*failure.validation_errors, *failure.log_lines)), "")
    if status := new.get("status"):
        told |= {"run_status": status.value, "detail": update.get("detail", "")}
    if profile := new.get("profile"):
        told |= {"files": profile.files, "entry_point": profile.entry_point}
    if budget := new.get("budget"):
        told["budget"] = budget.verdict.value
    if estimate := new.get("estimate"):
        told |= {"host_memory_mb": estimate.host_memory_mb, "gpu_memory_gib": estimate.gpu_memory_gib}
    if deployment := new.get("deployment") or new.get("evaluating"):
        told["job"] = deployment.job_id
    told |= _of_the_model(new)
    for name in ("questions", "answers", "cases", "warnings", "metrics"):
        if name in new:
            told[name] = len(new[name])
    return told


def _of_the_model(new: Update) -> dict[str, Json]:
    """What was made of a trained model."""
    gate = new.get("gate")
    told: dict[str, Json] = {} if gate is None else {"gate": gate.verdict.value, "judged_by": gate.judged_by}
    return told | ({"registered": new["registered"]} if "registered" in new else {})


def moments(state: RunState, update: Update) -> list[tuple[str, dict[str, Json]]]:
    """Moments of their own: a repair that was taken, or another change of the plan, with each field before and after;
    and each case from memory that either follows.

    Fields stand by their path on both sides, so that one with a secret's name is masked.
    """
    followed: list[tuple[str, dict[str, Json]]] = [
        ("recall used", {"case": case.id, "for": "the plan"}) for case in update.get("remembered", ())
    ]
    plan = update.get("plan")
    changed = _changed(state.plan, plan) if state.plan and plan else {}
    tried = update.get("tried", ())
    if len(tried) > len(state.tried):
        repair = tried[-1]
        waits = {"seconds_waited": repair.seconds} if isinstance(repair, Wait) else {}
        avoids = {"avoid_nodes": list(repair.avoid_nodes)} if repair.kind == "retry_elsewhere" else {}
        followed += [("recall used", {"case": case, "for": "a repair"}) for case in _cases_of(state, repair)]
        return [*followed, ("repair", {"repair": repair.kind, "why": repair.why, **waits, **avoids, **changed})]
    return [*followed, ("plan_changed", changed)] if changed else followed


def _cases_of(state: RunState, repair: Repair) -> list[str]:
    """The cases from memory that a repair follows: its reason names them."""
    return [case.id for case in state.cases if name_of(case) in repair.why] if repair.why.startswith(WORKED) else []


def _changed(before: TrainingPlan, after: TrainingPlan) -> dict[str, Json]:
    fields = plan_diff(before, after)
    if not fields:
        return {}
    sides = ({path: pair[side] for path, pair in fields.items()} for side in (0, 1))
    return dict(zip(("before", "after"), sides, strict=True))
