"""What a step's prompt is filled with: a part for each of its places, and what each is worth where room is short.

Runs and what measures prompts fill them by these same functions. Nothing here asks a model.
"""

from collections.abc import Sequence
from typing import Final

from caravan.agent.model.window import Part
from caravan.agent.qwen.diagnosis import classes
from caravan.agent.qwen.questions import MOST
from caravan.agent.qwen.views import (
    cases_view,
    diagnosis_view,
    evidence_view,
    facts_view,
    plan_view,
    profile_view,
    tried_view,
)
from caravan.values.dialogue import Question
from caravan.values.failure import Diagnosis, Evidence, PastCase, Repair
from caravan.values.job import ClusterFacts
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile

_MOST: Final = 3.0  # what the step is about
_MORE: Final = 2.0
_LESS: Final = 1.0


def for_questions(
    found: Sequence[Question], profile: RepoProfile, prompt: str, facts: ClusterFacts, cases: Sequence[PastCase]
) -> tuple[Part, ...]:
    """Of `questions`; `found` are those of the rules."""
    return (
        Part(name="prompt", text=prompt, worth=_MOST),
        Part(name="questions", text="\n".join(q.canonical(exclude={"evidence"}) for q in found), worth=_MOST),
        Part(name="profile", text=profile_view(profile), worth=_MORE),
        Part(name="facts", text=facts_view(facts), worth=_LESS),
        Part(name="cases", text=cases_view(cases), worth=_LESS),
        Part(name="limit", text=str(MOST), worth=_MOST),
    )


def for_plan(
    drafted: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
) -> tuple[Part, ...]:
    """Of `plan`."""
    return (
        Part(name="plan", text=plan_view(drafted), worth=_MOST),
        Part(name="profile", text=profile_view(profile), worth=_MORE),
        Part(name="facts", text=facts_view(facts), worth=_LESS),
        Part(name="cases", text=cases_view(cases), worth=_LESS),
    )


def for_diagnosis(evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> tuple[Part, ...]:
    """Of `diagnose`."""
    return (
        Part(name="classes", text=classes(), worth=_MOST),
        Part(name="evidence", text=evidence_view(evidence), worth=_MOST),
        Part(name="plan", text=plan_view(plan), worth=_MORE),
        Part(name="cases", text=cases_view(cases), worth=_LESS),
    )


def for_repairs(
    diagnosis: Diagnosis,
    tried: Sequence[Repair],
    plan: TrainingPlan,
    profile: RepoProfile,
    facts: ClusterFacts,
    cases: Sequence[PastCase],
) -> tuple[Part, ...]:
    """Of `repair`."""
    return (
        Part(name="diagnosis", text=diagnosis_view(diagnosis), worth=_MOST),
        Part(name="tried", text=tried_view(tried), worth=_MOST),
        Part(name="plan", text=plan_view(plan), worth=_MORE),
        Part(name="profile", text=profile_view(profile), worth=_LESS),
        Part(name="facts", text=facts_view(facts), worth=_LESS),
        Part(name="cases", text=cases_view(cases), worth=_LESS),
    )
