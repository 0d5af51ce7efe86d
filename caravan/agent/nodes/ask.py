"""From a profile and a sentence to answers: what is asked, what need not be, and what is asked back."""

from collections.abc import Iterator
from datetime import datetime

from langgraph.types import interrupt

from caravan.agent.context import Context
from caravan.agent.lessons import case_context
from caravan.agent.parts import with_parts
from caravan.agent.recalled import answered_before, before, told_lines
from caravan.agent.state import RunState, Update, joined
from caravan.agent.training import source_of, type_question
from caravan.planning.answers import answers_to_changes, changes_from, given_answers, with_defaults
from caravan.planning.contradictions import Held, contradictions, differing
from caravan.planning.questions import contradicted, offered, ranked
from caravan.planning.spoken import Spoken, spoken
from caravan.values.base import Json
from caravan.values.dialogue import Answer, Ask, AskKind, Question, Reply
from caravan.values.errors import ServiceError, UsageError
from caravan.values.failure import PastCase
from caravan.values.plan import PlanChange

_RECALLED = 10  # cases


def clock_of(state: RunState, context: Context) -> datetime:
    """The time that the sentence was written at, in the user's zone: the run's own, also when it is resumed later."""
    return context.store.run(state.run_id).created_at.astimezone()


def generate_questions(state: RunState, context: Context) -> Update:
    """What only the user can know; nothing that the request, an earlier run or the repository answers."""
    if state.request.reproduces is not None:
        return {}  # its plan has all answers
    facts, profile, request = context.facts(), state.need_profile(), state.request
    cases = _cases(state, context)
    questions = context.reasoner.questions(profile, request.prompt, facts, cases)
    questions = ranked((*type_question(state.training), *questions))
    if state.training is not None:
        questions = tuple(q for q in questions if q.path != "target")  # the type says by what it is judged
    said = (*changes_from(request.answers), *request.sets)
    questions = offered(questions, facts, {c.path: c.value for c in said}.get("resources.gpus"))
    fixed = {change.path for change in said}
    if context.site is not None and context.site.profile.outputs is not None:
        fixed.add("outputs")
    questions = tuple(q for q in questions if q.path not in fixed)
    heard = spoken(profile, request.prompt, facts, clock_of(state, context))
    wondering = {q.id for q in questions}
    asked = contradicted(questions, heard, said, _held(state, context))
    back = tuple(q.id for q in asked if q not in questions)
    plain, answers = answered_before([q for q in asked if q.id not in back], before(state, context), cases)
    questions = tuple(next((p for p in plain if p.id == q.id), q) for q in asked)
    _tell(heard, questions, answers, context, nothing=not wondering and not back)
    return {
        "questions": questions,
        "answers": answers,
        "asked_back": back,
        "warnings": joined(state.warnings, heard.told),
    }


def _cases(state: RunState, context: Context) -> tuple[PastCase, ...]:
    """What memory knows of this code. Losing memory loses no question: `recall` says so later."""
    known = case_context(state)
    try:
        found = context.memory.recall(text=state.request.prompt, diagnosis=None, context=known, limit=_RECALLED)
        return with_parts(found, known)
    except ServiceError:
        return ()
    finally:
        context.memory.close()


def _held(state: RunState, context: Context) -> Held:
    request = state.request
    most = request.budget_usd if request.budget_usd is not None else context.limits.hard_usd
    inside = any(c.path == "code.kind" and c.value == "image" for c in request.sets)

    def files() -> frozenset[str]:
        return frozenset(entry.path for entry in source_of(state, context).files())

    return Held(state.need_profile(), context.facts(), None if inside else files, most)


def _tell(
    heard: Spoken, questions: tuple[Question, ...], answers: tuple[Answer, ...], context: Context, *, nothing: bool
) -> None:
    if heard.changes:
        said = "; ".join(f"{c.path} = {_plain(c.value)} ({c.why.removeprefix('prompt: ')})" for c in heard.changes)
        context.progress.note(f"Understood: {said}")
    for line in (*heard.told, *told_lines(questions, answers)):
        context.progress.note(line)
    if nothing:
        context.progress.note("Nothing needs to be asked: the repository and your words say all that the plan needs.")


def _plain(value: Json) -> Json:
    """A value as a person writes it: 3 for 3.0."""
    return f"{value:g}" if isinstance(value, float) else value


def collect_responses(state: RunState, context: Context) -> Update:
    """Answers from the request, by default where `--yes` allows it, else from a person (the first interrupt).

    A required question that the reply leaves open is asked again; an answer that contradicts repository, cluster,
    money or another answer is asked back once.
    """
    if state.request.reproduces is not None:
        return {}
    questions, answers = state.questions, state.answers
    known = {*(a.question_id for a in answers), *state.asked_back}
    answers += given_answers([q for q in questions if q.id not in known], state.request.answers)
    if state.request.yes:
        answers = with_defaults(questions, answers)
        _tell_defaults(questions, answers, context)
    still_open = _open(questions, answers)
    if still_open:
        again = all(q.id in state.asked_back for q in still_open)
        text = "Please look at this again before I plan." if again else "Please answer before I plan."
        ask = Ask(kind=AskKind.QUESTIONS, text=text, questions=still_open)
        reply = Reply.model_validate(interrupt(ask.model_dump(mode="json")))
        needed = {q.id for q in questions if q.required}
        answers = _after(answers, (a for a in reply.answers if a.value is not None or a.question_id not in needed))
        if not any(q.required for q in _open(questions, answers)):
            answers = with_defaults(questions, answers)  # what a person left open takes its default
    back = _contradicting(state, questions, answers, context)
    ids, paths = {q.id for q in back}, {q.path for q in back}
    return {
        "questions": (*(q for q in questions if q.id not in ids and q.path not in paths), *back),
        "answers": tuple(_confirmed(a, state) for a in answers if a.question_id not in ids | paths),
        "asked_back": joined(state.asked_back, ids),
    }


def _tell_defaults(questions: tuple[Question, ...], answers: tuple[Answer, ...], context: Context) -> None:
    """Say what a person would have been asked, and which of the choices was taken instead."""
    taken = {a.question_id: a.value for a in answers if not a.by_user and not a.recalled}
    for question in questions:
        if question.choices and taken.get(question.id) is not None:
            others = ", ".join(str(_plain(c)) for c in question.choices if c != taken[question.id])
            beside = f"it could be {others}" if others else "nothing else was found"
            context.progress.note(
                f"Not asked, by --yes: {question.path} = {_plain(taken[question.id])}; {beside}. "
                f"For another say --set {question.path}=VALUE."
            )


def _open(questions: tuple[Question, ...], answers: tuple[Answer, ...]) -> tuple[Question, ...]:
    answered = {a.question_id for a in answers}
    return tuple(q for q in questions if q.id not in answered)


def _after(answers: tuple[Answer, ...], reply: Iterator[Answer]) -> tuple[Answer, ...]:
    """The answers with a reply's: what a person says replaces what was taken over from an earlier run."""
    said = tuple(reply)
    ids = {a.question_id for a in said}
    return (*(a for a in answers if not (a.recalled and a.question_id in ids)), *said)


def _confirmed(answer: Answer, state: RunState) -> Answer:
    """The default of what was asked back is a person's own word: it holds as such."""
    return answer.model_copy(update={"by_user": True}) if answer.question_id in state.asked_back else answer


def _contradicting(
    state: RunState, questions: tuple[Question, ...], answers: tuple[Answer, ...], context: Context
) -> tuple[Question, ...]:
    """The questions to ask back; of nothing that was asked back before, and not before all is answered."""
    if any(q.required for q in _open(questions, answers)):
        return ()
    theirs = answers_to_changes(questions, tuple(a for a in answers if a.by_user))
    heard = spoken(state.need_profile(), state.request.prompt, context.facts(), clock_of(state, context))
    beside = {c.path for c in theirs} - {q.path for q in questions}
    twice = differing((*(c for c in heard.changes if c.path in beside), *theirs))
    said = (*heard.changes, *changes_from(state.request.answers), *state.request.sets, *theirs)
    found = (*twice, *contradictions(said, _held(state, context)))
    return tuple({q.path: q for q in reversed(found) if q.id not in state.asked_back}.values())


def standing_sets(state: RunState) -> tuple[PlanChange, ...]:
    """What `--set` says, but for the fields that a person was asked about again and has answered."""
    again = {q.path for q in state.questions if q.id in state.asked_back}
    return tuple(c for c in state.request.sets if c.path not in again)


def said_by_people(state: RunState, heard: Spoken) -> tuple[PlanChange, ...]:
    """All that the sentence, answers files, `--set` and answers beside the questions say."""
    asked = {q.id for q in state.questions}
    beside: dict[str, Json] = {a.question_id: a.value for a in state.answers if a.question_id not in asked}
    try:
        extra = changes_from(beside)
    except UsageError:
        extra = ()
    return (*heard.changes, *changes_from(state.request.answers), *state.request.sets, *extra)
