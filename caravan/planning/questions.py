"""The questions: only where the repository leaves a gap and the answer changes the plan.

Ranked by what a wrong guess would cost (`stakes`); at most five. Nothing is asked that the repository or the sentence
says; where these contradict each other or the cluster, that is asked (`contradictions`).
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.config_keys import repository_values
from caravan.planning.contradictions import Held, contradictions
from caravan.planning.draft import wants_gpu
from caravan.planning.flags import known_flags
from caravan.planning.prompt_reading import said_paths
from caravan.planning.question_rules import DOUBTED, RULES, Scene, documented, gpu_types
from caravan.planning.spoken import Spoken, spoken
from caravan.planning.stakes import ASKED_ABOVE, WASTED, cost
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.failure import FailureClass, PastCase
from caravan.values.job import ClusterFacts
from caravan.values.plan import PlanChange
from caravan.values.repo import RepoProfile

MOST: Final = 5


def draft_questions(
    profile: RepoProfile,
    prompt: str,
    facts: ClusterFacts,
    cases: Sequence[PastCase],
    *,
    answered: Collection[str] = (),
    image: str | None = None,
) -> tuple[Question, ...]:
    """At most five questions, the costliest to guess wrong first.

    `answered`: plan paths or question ids that `--set` or an answers file give. A past case in which data, model or
    access was missing makes the question about it more urgent.
    """
    heard = spoken(profile, prompt, facts)
    said = {c.path: c.value for c in heard.changes}
    paths = said_paths(prompt) | said.keys()
    flags = known_flags(profile)
    no_gpu = said.get("resources.gpus") == 0
    known = frozenset({*paths, *answered, *repository_values(profile, documented(profile))})
    wants = wants_gpu(profile) and not no_gpu and _has_gpus(facts)
    gpus = _gpus_said(said, profile, facts)
    scene = Scene(profile, prompt, facts, known, flags, wants, image, gpus, frozenset({*paths, *answered}))
    found = [q for rule in RULES for q in rule(scene) if q.path not in scene.said and q.id not in scene.said]
    found = [q for q in found if q.path not in known or q.id in DOUBTED]
    urgent = _urgent(cases)
    found = [q.model_copy(update={"cost_of_wrong": q.cost_of_wrong + urgent.get(q.id, 0.0)}) for q in found]
    return ranked(q for q in found if q.required or q.cost_of_wrong >= ASKED_ABOVE)


def ranked(questions: Iterable[Question], most: int = MOST) -> tuple[Question, ...]:
    """The costliest to guess wrong first, at most that many."""
    return tuple(sorted(questions, key=lambda q: (-q.cost_of_wrong, q.id))[:most])


def contradicted(
    questions: Sequence[Question], heard: Spoken, said: Sequence[PlanChange], held: Held
) -> tuple[Question, ...]:
    """The questions, with those that what was said already raises by a contradiction in place of their like.

    `heard` is the sentence's, `said` what `--set` and answers files say beside it.
    """
    again = contradictions((*heard.changes, *said), held._replace(clashes=heard.clashes, excluded=heard.excluded))
    paths = {q.path for q in again}
    return ranked((*again, *(q for q in questions if q.path not in paths)))


def offered(questions: Sequence[Question], facts: ClusterFacts, gpus: Json) -> tuple[Question, ...]:
    """The questions for one who has asked for that many GPUs: GPU types that no node has so many of are no choices."""
    if not isinstance(gpus, int):
        return tuple(questions)
    enough = set(gpu_types(facts, gpus))
    found = []
    for question in questions:
        if question.path == "resources.gpu_model" and not question.required:
            choices = tuple(c for c in question.choices if c in enough)
            if len(choices) < 2:
                continue
            question = question.model_copy(update={"choices": choices})
        found.append(question)
    return tuple(found)


def _gpus_said(said: dict[str, Json], profile: RepoProfile, facts: ClusterFacts) -> int:
    """How many GPUs of a node are known to be asked for; a repository that wants more than there are gets the most."""
    asked = said.get("resources.gpus")
    if isinstance(asked, int):
        return asked
    return min(profile.num_gpus or 1, max((g.count for n in facts.usable_nodes() for g in gpu_groups(n)), default=1))


def _has_gpus(facts: ClusterFacts) -> bool:
    return any(gpu_groups(n) for n in facts.usable_nodes())


def _urgent(cases: Sequence[PastCase]) -> dict[str, float]:
    """What past cases add to the doubt: that failure has happened, so that a wrong guess is no mere possibility."""
    found: dict[str, float] = {}
    for case in cases:
        if case.failure is FailureClass.DATA_PATH_MISSING:
            found["dataset"] = cost(0.5, WASTED)
        if case.failure is FailureClass.HUB_NOT_FOUND:
            found["base_model"] = cost(0.5, WASTED)
    return found
