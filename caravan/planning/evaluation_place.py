"""Whether a plan's model is evaluated, and where: resolved once, so that it stands in the plan that a person approves.

Pure. What evaluates it is `evaluating`'s.
"""

from typing import Final

from caravan.planning.evaluating import evaluation_words, in_last_phase
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes

_ON: Final = "evaluation.on"
_WHERE: Final = "evaluation.where"


def evaluation_changes(plan: TrainingPlan) -> tuple[PlanChange, ...]:
    """`evaluation.on` and `evaluation.where` of the plan as it is now; what a person has set stands.

    It may be asked again whenever the plan has changed: what it said before is then resolved anew.
    """
    asked = plan.evaluation
    bare = apply_changes(
        plan, [_default(path, None, "") for path in (_ON, _WHERE) if plan.set_by(path) not in STANDING]
    )
    command = evaluation_words(bare)
    if command is None:
        if bare.evaluation.on is not None:
            return ()
        why = "nothing is known that would evaluate it: its logged metrics are judged"
        return _differing(asked.on, False, _ON, why) + _differing(asked.where, bare.evaluation.where, _WHERE, "")
    by = {"command": "the command that is set", "model": "Caravan's evaluator of models in Hugging Face's format"}
    found = _differing(asked.on, True, _ON, by.get(command.by, f"what belongs to type {command.by}"))
    phase = in_last_phase(bare) or beyond_reach(bare)
    if bare.evaluation.where is not None:
        return found
    if beyond_reach(bare):
        why = "what it writes is in the job's allocation alone"
    else:
        why = "the script is Caravan's own" if phase else "the script is the repository's own"
    return found + _differing(asked.where, "phase" if phase else "job", _WHERE, why)


def beyond_reach(plan: TrainingPlan) -> bool:
    """Whether what the training writes is reached by its own job alone."""
    own = plan.training.output_dir
    if own is not None:
        places = [m.destination for m in plan.mounts] + [plan.outputs.location]
        return not own.startswith("/") or not any(
            place.startswith("/") and f"{own}/".startswith(f"{place.rstrip('/')}/") for place in places
        )
    return plan.outputs.kind == "allocation"


def apart(plan: TrainingPlan) -> bool:
    """Whether the model is evaluated by a job of its own behind the training, as the plan says it."""
    return bool(plan.evaluation.on) and plan.evaluation.where == "job" and evaluation_words(plan) is not None


def _differing(now: object, value: bool | str | None, path: str, why: str) -> tuple[PlanChange, ...]:
    return () if now == value else (_default(path, value, why),)


def _default(path: str, value: bool | str | None, why: str) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.DEFAULT, why=why)
