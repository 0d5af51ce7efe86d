"""What a run teaches: its failures with what was changed and whether that worked, as lessons. Pure."""

from caravan.agent.state import RunState
from caravan.values.base import Json
from caravan.values.failure import ChangePlan, Lesson
from caravan.values.run import Attempt


def lessons_of(state: RunState) -> tuple[Lesson, ...]:
    """One lesson for each diagnosed attempt; `worked` is None where no repair was tried."""
    lessons = []
    for index, attempt in enumerate(state.attempts):
        if attempt.diagnosis is None:
            continue
        following = state.attempts[index + 1] if index + 1 < len(state.attempts) else None
        lessons.append(
            Lesson(
                failure=attempt.diagnosis.failure,
                fingerprint=attempt.diagnosis.fingerprint,
                text=_text(attempt),
                context=case_context(state),
                changes=attempt.repair.changes if isinstance(attempt.repair, ChangePlan) else (),
                worked=_worked(attempt, following),
                source=f"{state.run_id}/{attempt.number}",
            )
        )
    return tuple(lessons)


def _worked(attempt: Attempt, following: Attempt | None) -> bool | None:
    """Whether the repair mended the cause: the next attempt ended well, or at least failed of something else."""
    if attempt.repair is None or following is None or following.outcome is None:
        return None
    if following.outcome.succeeded:
        return True
    same = following.diagnosis is not None and attempt.diagnosis is not None
    return not (same and following.diagnosis.failure is attempt.diagnosis.failure)  # type: ignore[union-attr]


def _text(attempt: Attempt) -> str:
    diagnosis = attempt.diagnosis
    cause = diagnosis.cause if diagnosis else ""
    if attempt.repair is None:
        return f"{cause} Nothing was tried."
    return f"{cause} Tried: {attempt.repair.why or attempt.repair.kind}."


def case_context(state: RunState) -> dict[str, Json]:
    """By what a case is found again: the repository, what is trained how, and what the plan asks for."""
    profile, plan = state.need_profile(), state.plan
    context: dict[str, Json] = {
        "framework": profile.framework,
        "method": plan.training.method if plan else profile.method,
        "base_model": plan.model.id if plan else profile.base_model,
        "entry_point": profile.entry_point,
        "tree_digest": profile.tree_digest,
    }
    if plan is None:
        return context
    return context | {
        "driver": plan.driver,
        "gpu_model": plan.resources.gpu_model,
        "gpus": plan.resources.gpus,
        "memory_mb": plan.resources.memory_mb,
    }
