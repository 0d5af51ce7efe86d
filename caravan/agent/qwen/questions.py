"""The questions, in a model's words and order, and those that it adds. At most five in all.

A question of the rules keeps its field, default, choices and reason; its words keep every name and figure that they
held. What is required stays. What is added asks about a field that a model may propose, with such values.
"""

import re
from collections.abc import Sequence
from typing import Final

from caravan.agent.qwen.guard import ESSENCE, Ground, Refused, refusal
from caravan.agent.qwen.replies import AskedQuestion, QuestionsReply
from caravan.agent.qwen.words import misleads
from caravan.planning.answers import MODEL
from caravan.values.base import Json
from caravan.values.dialogue import Question
from caravan.values.errors import PlanError
from caravan.values.job import ClusterFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile

MOST: Final = 5
_LONGEST: Final = 300
_SECRET: Final = re.compile(
    r"pass ?words?|pass ?phrase|secret|credential|(?:api|access|private|auth\w*|ssh|signing)[ _-]?(?:key|token)s?"
    r"|(?:hf|hub|wandb|bearer|login|session|personal)[ _-]?(?:key|token)|\btoken (?:for|to|of your)\b",
    re.IGNORECASE,
)
_TELLING: Final = re.compile(r"[\w./:-]*(?:\d|[_/])[\w./:-]*|--[\w-]+")
_OPEN: Final = TrainingPlan(goal="", command=("train",))


def worded(
    questions: Sequence[Question],
    profile: RepoProfile,
    prompt: str,
    reply: QuestionsReply,
    model: str,
    facts: ClusterFacts | None = None,
) -> tuple[tuple[Question, ...], tuple[str, ...], tuple[Refused, ...]]:
    """The questions to ask, what of them is the model's, and what is not taken."""
    known, order = {q.id: q for q in questions}, list[Question]()
    taken, refused = list[str](), list[Refused]()
    ground = Ground(_OPEN.model_copy(update={"goal": prompt}), profile, facts)
    for said in reply.questions:
        if any(q.id == said.id for q in order):
            continue
        mine = known.get(said.id)
        why = _bad_words(said, mine) if mine is not None else _bad_question(said, (*questions, *order), ground)
        if mine is not None:
            same = why or said.text == mine.text
            order.append(mine if same else mine.model_copy(update={"text": said.text, "by": f"worded by {model}"}))
        elif not why:
            order.append(_added(said, model))
            taken.append(f"asks about {said.path}")
        if why:
            refused.append(Refused(f"question {said.id[:40]}", why))
    order += [q for q in questions if q.id not in {o.id for o in order}]
    return _ranked(order), tuple(taken), tuple(refused)


def _ranked(order: Sequence[Question]) -> tuple[Question, ...]:
    """At most five in the model's order: those of the rules before those that are added where there are too many.

    The costs of a wrong guess are handed out anew in this order, because it is they that rank what is asked.
    """
    required = [q for q in order if q.required]
    rules = [q for q in order if not q.required and not q.by.startswith("asked")]
    added = [q for q in order if q.by.startswith("asked") and not q.required]
    kept = {q.id for q in (*required, *rules, *added)[: max(MOST, len(required))]}
    chosen = [q for q in order if q.id in kept]
    costs = sorted((q.cost_of_wrong for q in chosen), reverse=True)
    return tuple(q.model_copy(update={"cost_of_wrong": c}) for q, c in zip(chosen, costs, strict=True))


def _bad_words(said: AskedQuestion, mine: Question) -> str:
    if why := _led(said.text, mine.text):
        return why
    lost = next((w for w in _telling(mine.text) if w.lower() not in said.text.lower()), None)
    return f"its words lose {lost!r}" if lost else ""


def _bad_question(said: AskedQuestion, others: Sequence[Question], ground: Ground) -> str:
    if why := _led(" ".join((said.text, said.reason, *(str(v) for v in (said.default, *said.choices))))):
        return why
    if any(q.path == said.path for q in others):
        return f"{said.path[:40]} is asked about already"
    try:
        _OPEN.get(said.path)
    except PlanError as error:
        return error.message
    values: list[Json] = [v for v in (said.default, *said.choices) if v is not None]
    if said.path in ESSENCE:
        return "" if not values else "what is trained is asked without a suggestion"
    if not values:
        return "it has no default that a plan could be made with"
    whys = (refusal(PlanChange(path=said.path, value=v, by=Author.MODEL), ground) for v in values)
    return next((why for why in whys if why), "")


def _unfit(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST * 2 or not all(c.isprintable() for c in text):
        return "its words are none that can be shown"
    return "nobody is asked for a secret" if _SECRET.search(text) else ""


def _led(text: str, known: str = "") -> str:
    """Why a question would lead a person astray."""
    return _unfit(text) or misleads(text, known)


def _telling(text: str) -> list[str]:
    """The words of a text that name something: figures, paths, options."""
    return [w.strip(".,:;?!") for w in _TELLING.findall(text) if w.strip(".,:;?!")]


def _added(said: AskedQuestion, model: str) -> Question:
    choices = tuple(said.choices)
    if choices and said.default is not None and said.default not in choices:
        choices = (said.default, *choices)
    return Question(
        id=f"{MODEL}{said.path}",
        text=said.text[:_LONGEST],
        path=said.path,
        default=said.default,
        choices=choices,
        reason=said.reason[:_LONGEST],
        by=f"asked by {model}",
    )
