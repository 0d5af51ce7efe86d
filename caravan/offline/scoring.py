"""How right a model's reply to a case is: it is carried through as in a run, then held against what is right. Pure.

A score is from 0 to 1; its feedback says in words what was wrong, for optimisers that read it. A reply that the guard
refuses is worth as little as it is in a run.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pydantic import BaseModel

from caravan.agent.qwen import diagnosis as causes
from caravan.agent.qwen import plan as plans
from caravan.agent.qwen import questions as asked
from caravan.agent.qwen import repairs as mending
from caravan.agent.qwen.guard import Ground, Refused
from caravan.agent.qwen.replies import DiagnosisReply, PlanReply, QuestionsReply, RepairsReply
from caravan.offline.cases import Allowed, Case, Mend
from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, Repair
from caravan.values.job import ClusterFacts
from caravan.values.plan import PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile

RIGHT: Final = 0.999
"""From here on an answer is an example for others."""
_MODEL: Final = "model"
_EACH: Final = 0.1  # off for each proposal that is not asked for, or that the guard refuses
_PLACES: Final = (1.0, 0.7, 0.5)  # of the repair that mends: at the head, second, third

Proof = Callable[[TrainingPlan, RepoProfile, ClusterFacts], str]
"""Why a plan makes no job that holds; empty: it does."""


class Verdict(NamedTuple):
    """A score from 0 to 1, and what was wrong."""

    score: float
    feedback: str


def judge(case: Case, reply: BaseModel | None, why: str, proof: Proof) -> Verdict:
    """How right the reply is; None: there was none that could be read, because of `why`."""
    if isinstance(reply, DiagnosisReply):
        return _diagnosis(case, reply)
    if isinstance(reply, PlanReply):
        return _plan(case, reply, proof)
    if isinstance(reply, RepairsReply):
        return _repairs(case, reply, proof)
    if isinstance(reply, QuestionsReply):
        return _questions(case, reply)
    return Verdict(0.0, f"There was no answer that could be used: {why}" if why else "There was no usable answer.")


def _diagnosis(case: Case, reply: DiagnosisReply) -> Verdict:
    evidence, right = case.evidence, case.expected.failure
    if evidence is None or right is None:
        raise AssertionError("a case of a diagnosis has evidence and its cause")
    unknown = Diagnosis(failure=FailureClass.UNKNOWN, confidence=0.0, cause="")
    found, why = causes.judged(reply, unknown, evidence, (), _MODEL)
    if right is FailureClass.UNKNOWN:
        told = not why and found.failure is not right
        return Verdict(0.0 if told else 1.0, f"No line shows a cause; said was {reply.failure}." if told else "Right.")
    if reply.failure != right.value:
        return Verdict(0.0, f"The cause is {right.value}, said was {reply.failure[:40]}. {_refused_line(why)}".strip())
    if why:
        return Verdict(0.2, f"The cause {right.value} is right, but the answer is void: {why}.")
    return Verdict(1.0, "Right, and its quotes stand.")


def _refused_line(why: str) -> str:
    return f"It would have been refused too: {why}." if why else ""


def _plan(case: Case, reply: PlanReply, proof: Proof) -> Verdict:
    ground = Ground(case.plan, case.profile, case.facts)
    taken, refused = plans.proposed(reply, ground, _MODEL)
    after = apply_changes(case.plan, taken)
    broken = _broken(case, after, proof)
    if broken:
        return Verdict(0.0, f"The plan with these changes makes no job: {broken}.")
    wanted = case.expected.fields
    missing = [f"{path} should be {_words(right)}" for path, right in wanted.items() if not _holds(after, path, right)]
    needless = [c.path for c in taken if c.path not in wanted]
    hit = 1.0 - len(missing) / len(wanted) if wanted else 1.0
    return _less(hit, missing, needless, refused)


def _repairs(case: Case, reply: RepairsReply, proof: Proof) -> Verdict:
    if case.diagnosis is None:
        raise AssertionError("a case of a repair has a diagnosis")
    ground = Ground(case.plan, case.profile, case.facts, lambda path: path in case.files, mending=True)
    taken, refused = mending.proposed(reply, ground, case.diagnosis, case.tried, _MODEL)
    wanted = case.expected.mends
    if not wanted:
        said = [f"nothing mends this, said was {mending.told([r])[0]}" for r in taken]
        return Verdict(0.0 if taken else 1.0, "; ".join(said) or "Right: nothing mends this.")
    for place, repair in enumerate(taken):
        if any(_mends(repair, mend, case.plan) for mend in wanted):
            broken = _broken(case, _changed(case.plan, repair), proof)
            if broken:
                return Verdict(0.1, f"The repair's plan makes no job: {broken}.")
            return _less(_PLACES[min(place, 2)], ["it should stand at the head"] if place else [], [], refused)
    told = " or ".join(_mend_words(mend) for mend in wanted)
    return _less(0.1 if taken else 0.0, [f"what mends is {told}"], [], refused)


def _questions(case: Case, reply: QuestionsReply) -> Verdict:
    found, _, refused = asked.worded(case.questions, case.profile, case.prompt, reply, _MODEL, case.facts)
    paths, rules = {q.path for q in found}, {q.path for q in case.questions}
    wanted = [path for path in case.expected.paths if path not in rules]
    missing = [f"{path} is not asked about" for path in wanted if path not in paths]
    lost = [f"the rules' question about {path} is gone" for path in rules if path not in paths]
    needless = sorted(paths - rules - set(wanted))
    most = len(wanted) + len(rules)
    hit = 1.0 - (len(missing) + len(lost)) / most if most else 1.0
    return _less(hit, [*missing, *lost], needless, refused)


def _less(hit: float, missing: list[str], needless: list[str], refused: tuple[Refused, ...]) -> Verdict:
    """The score with what is off for proposals that nobody asked for and for those that the guard refuses."""
    said = [*missing, *(f"{path} was not to be touched" for path in needless)]
    said += [f"refused: {one.line()}" for one in refused]
    score = max(0.0, hit - _EACH * (len(needless) + len(refused)))
    return Verdict(round(score, 6), "; ".join(said) or "Right.")


def _broken(case: Case, plan: TrainingPlan, proof: Proof) -> str:
    """Why the changed plan makes no job, where the plan before made one."""
    if plan.digest() == case.plan.digest():
        return ""
    why = proof(plan, case.profile, case.facts)
    return why if why and not proof(case.plan, case.profile, case.facts) else ""


def _mends(repair: Repair, mend: Mend, plan: TrainingPlan) -> bool:
    if repair.kind != mend.kind:
        return False
    after = _changed(plan, repair)
    return all(_holds(after, path, right) for path, right in mend.fields.items())


def _changed(plan: TrainingPlan, repair: Repair) -> TrainingPlan:
    changes: tuple[PlanChange, ...] = repair.changes if isinstance(repair, ChangePlan) else ()
    return apply_changes(plan, changes)


def _holds(plan: TrainingPlan, path: str, right: Allowed) -> bool:
    try:
        value: Json = plan.get(path)
    except PlanError:
        return False
    return right.holds(list(value) if isinstance(value, tuple) else value)


def _words(right: Allowed) -> str:
    if right.one_of:
        return " or ".join(str(value) for value in right.one_of)
    bounds = {"at least": right.at_least, "at most": right.at_most}
    return " and ".join(f"{name} {value:g}" for name, value in bounds.items() if value is not None) or "set"


def _mend_words(mend: Mend) -> str:
    fields: Mapping[str, Allowed] = mend.fields
    return ", ".join(f"{path} = {_words(right)}" for path, right in fields.items()) or mend.kind
