"""What was answered before: by an earlier run of the same repository, or by a lesson of memory on its code.

Such an answer is taken without asking again and told; where that run failed, or only memory says it, it is what is
offered as the default. The store keeps what people said in a run as an event of it, by plan path.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from caravan.agent.context import Context
from caravan.agent.state import RunState
from caravan.planning.answers import QUESTION_PATHS, type_answer
from caravan.values.base import Json, sha256_text
from caravan.values.dialogue import Answer, Question
from caravan.values.errors import UsageError
from caravan.values.failure import PastCase
from caravan.values.lesson_fields import depends_on_nothing_else, name_of
from caravan.values.masking import MASK, mask_json
from caravan.values.plan import PlanChange
from caravan.values.repo import GitState
from caravan.values.run import RunEvent, RunRecord, RunStatus

KIND: Final = "answered"
"""Kind of the event."""

_LOOKED_AT: Final = 40  # runs, the newest: each is one small query
_ILL: Final = (RunStatus.FAILED, RunStatus.ESCALATED, RunStatus.REJECTED)
_KEPT: Final = frozenset(QUESTION_PATHS.values()) - {"limits.max_run_s", "training.type"}
"""A deadline is of one day, and a type of one run, unless it was asked about."""


class Before(NamedTuple):
    """An answer of an earlier run, in which run and when. `well`: the run did not fail."""

    value: Json
    where: str
    well: bool


def identities(state: RunState) -> tuple[str, ...]:
    """By what the repository is known again, as digests: where it is, and where its git remote is."""
    return digests_of(state.request.source, state.need_profile().git)


def digests_of(source: str, git: GitState | None) -> tuple[str, ...]:
    """The digests of a repository's place and, where it has one, of its git remote, which is the surer."""
    places = [source]
    if git is not None and git.remote_url:
        places.append(f"{git.remote_url.removesuffix('.git')}#{git.prefix}")
    return tuple(sha256_text(place) for place in places)


def keep_answers(state: RunState, said: Iterable[PlanChange], context: Context) -> None:
    """Store what people said of fields that are asked about, for later runs of the repository."""
    kept: dict[str, Json] = {}
    for change in said:
        if change.path in _KEPT or change.path.startswith("training.options."):
            kept[change.path] = change.value
    for answer in state.answers:
        question = next((q for q in state.questions if q.id == answer.question_id), None)
        if question is not None and (answer.by_user or answer.recalled) and answer.value is not None:
            kept[question.path] = answer.value  # as it was written: a command with its launcher
    kept = {
        path: value
        for path, value in kept.items()
        if MASK not in str(value) and mask_json({path: value}) == {path: value}
    }
    if not kept:
        return
    at = context.store.run(state.run_id).created_at  # the run's own time: a node that runs twice stores one event
    data: dict[str, Json] = {"repository": list(identities(state)), "answers": kept}
    context.store.add_event(state.run_id, RunEvent(at=at, kind=KIND, text=", ".join(sorted(kept)), data=data))


def before(state: RunState, context: Context) -> dict[str, Before]:
    """Plan path → what the last earlier run of this repository was told; the newest run first."""
    ours = set(identities(state))
    found: dict[str, Before] = {}
    for run in context.store.runs(limit=_LOOKED_AT):
        if run.id == state.run_id:
            continue
        for path, value in _told(run, ours, context):
            ended = run.status not in _ILL
            where = f"as in run {run.id} on {run.created_at:%Y-%m-%d}"
            known = found.get(path)
            if known is None or (ended and not known.well):
                found[path] = Before(value, where, ended)
    return found


def _told(run: RunRecord, ours: set[str], context: Context) -> Iterator[tuple[str, Json]]:
    for event in context.store.events(run.id):
        if event.kind != KIND:
            continue
        theirs, answers = event.data.get("repository"), event.data.get("answers")
        if isinstance(theirs, list) and isinstance(answers, dict) and ours & {str(t) for t in theirs}:
            yield from answers.items()


def answered_before(
    questions: Sequence[Question], known: dict[str, Before], cases: Sequence[PastCase]
) -> tuple[tuple[Question, ...], tuple[Answer, ...]]:
    """The questions, with earlier answers as defaults where they are doubtful; and those that need not be asked.

    A contradiction is never answered by what was said before.
    """
    asked, answers = list[Question](), list[Answer]()
    for question in questions:
        old = known.get(question.path)
        if old is not None and _fits(question, old.value):
            if old.well:
                answers.append(Answer(question_id=question.id, value=old.value, by_user=False, recalled=old.where))
                asked.append(question)
            else:
                asked.append(_with_default(question, old.value, f"{old.where}, which did not end well"))
        elif (lesson := _taught(question, cases)) is not None:
            asked.append(_with_default(question, *lesson))
        else:
            asked.append(question)
    return tuple(asked), tuple(answers)


def _with_default(question: Question, value: Json, where: str) -> Question:
    reason = "; ".join(part for part in (question.reason, f"the default is {where}") if part)
    choices = question.choices if not question.choices or value in question.choices else (value, *question.choices)
    return question.model_copy(update={"default": value, "reason": reason, "choices": choices})


def _taught(question: Question, cases: Sequence[PastCase]) -> tuple[Json, str] | None:
    """What worked in this very code, or in what of it the field depends on."""
    for case in cases:
        if case.worked is not True:
            continue
        for change in case.changes:
            if not depends_on_nothing_else(case, change.path):
                continue
            if change.path == question.path and MASK not in str(change.value) and _fits(question, change.value):
                when = f" on {case.last_seen:%Y-%m-%d}" if case.last_seen else ""
                return change.value, f"what worked{when} ({name_of(case)})"
    return None


def _fits(question: Question, value: Json) -> bool:
    try:
        type_answer(question, value)
    except UsageError:
        return False
    return True


def told_lines(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[str, ...]:
    """A line for each answer that was taken over."""
    paths = {q.id: q.path for q in questions}
    return tuple(
        f"Not asked again: {paths[a.question_id]} = {a.value}, {a.recalled}. "
        f"For another say {a.question_id}=VALUE to any question, or --set {paths[a.question_id]}=VALUE."
        for a in answers
        if a.recalled
    )
