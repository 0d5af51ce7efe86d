"""Whether a plan's model is evaluated, and where: resolved once, so that it stands in the plan that a person approves.

Pure. What evaluates it is `evaluating`'s.
"""

from typing import Final

from caravan.planning.evaluating import JUDGED_HEADS, JUDGED_TASKS, evaluation_words, in_last_phase
from caravan.values.outputs import OutputSummary
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


def nothing_to_judge(plan: TrainingPlan, summary: OutputSummary | None) -> str:
    """Why Caravan's own evaluator would find no model that it can judge, in words; empty where it may, and where the
    plan has another evaluation. Where what the training left is not known (`summary` None), a person who asked for the
    evaluation gets its job, and nobody else pays for a try.
    """
    command = evaluation_words(plan)
    if command is None or command.by != "model":
        return ""
    trying = asked_for(plan) or not apart(plan)
    if summary is None:
        return "" if trying else "what its training left is not known"
    model = summary.model
    if model is None or not model.kind:
        return "its training left no model in Hugging Face's format"
    if model.architectures is None:
        return "" if trying else "what kind of model its training left is not known"
    if model.kind == "adapter" and (model.task or not model.architectures):
        known = not model.task or model.task in JUDGED_TASKS
    else:
        known = any(name.endswith(JUDGED_HEADS) for name in model.architectures)
    if known:
        return ""
    what = model.task or ", ".join(model.architectures) or "a model of no named class"
    return f"its training left {what}, and Caravan judges causal language models and text classifiers"


def asked_for(plan: TrainingPlan) -> bool:
    """Whether a person wants the evaluation: what Caravan does by itself gives way more easily."""
    fields = ("on", "where", "data", "metric", "regression", "canary", "generate")
    return bool(plan.evaluation.on) and any(plan.set_by(f"evaluation.{name}") in STANDING for name in fields)


def _differing(now: object, value: bool | str | None, path: str, why: str) -> tuple[PlanChange, ...]:
    return () if now == value else (_default(path, value, why),)


def _default(path: str, value: bool | str | None, why: str) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.DEFAULT, why=why)
