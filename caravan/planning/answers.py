"""Answers: typed, checked, and turned into changes of the plan. Also `--set` and the answers file.

Pure: texts and values in, changes out. Wrong input is a UsageError that names the question or field and what it takes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from caravan.planning.catalogue import matches_model
from caravan.planning.command import read_command
from caravan.planning.fields import is_path, require_path, typed
from caravan.planning.outputs import URL_CHOICE, read_sink
from caravan.planning.replies import Heard, as_written, hear, is_whatever
from caravan.values.base import Json
from caravan.values.dialogue import Answer, Question
from caravan.values.errors import PlanError, UsageError
from caravan.values.masking import mask_json
from caravan.values.metric_names import direction_of
from caravan.values.plan import Author, PlanChange

QUESTION_PATHS: Final = {
    "entry_point": "command",
    "base_model": "model.id",
    "dataset": "dataset.path",
    "method": "training.method",
    "gpus": "resources.gpus",
    "gpu_type": "resources.gpu_model",
    "epochs": "training.epochs",
    "max_cost": "limits.max_cost_usd",
    "time_limit": "limits.max_run_s",
    "target_metric": "target",
    "outputs": "outputs",
    "seed": "training.seed",
    "training_type": "training.type",
}
"""Ids of the questions that may be asked → the plan field that each answers. `option:--x` asks for an option, and
`model:FIELD` is a model's own question about a field."""

OPTION: Final = "option:"
MODEL: Final = "model:"

_SUGGESTED: Final = frozenset(
    {"outputs", "command", "launch.nodes", "limits.max_cost_usd"} | {f"resources.{n}" for n in ("gpus", "gpu_model")}
)
"""Fields of which the choices are suggestions: any place, script or number of one's own will do there."""


def parse_set(text: str) -> PlanChange:
    """`training.lr=1e-4` as a change by the user. Raises UsageError for an unknown field or a wrong value."""
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not equals or not path:
        raise UsageError(f"--set {text!r} isn't field=value.", hint="For example --set training.lr=1e-4.")
    if path == "outputs" and not value.startswith("{"):
        return _user_change(path, read_sink(value).model_dump(mode="json"), "--set outputs")
    return _user_change(require_path(path), value, f"--set {path}")


def load_answers(text: str, now: datetime | None = None) -> dict[str, Json]:
    """An answers file, YAML or JSON: question id or plan field → value, checked.

    A free text (`gpus: two A100s, under 50 dollars`) becomes a value for each field that it speaks of. Raises
    UsageError that names every unknown field, the first wrong value, or what of a text no field takes.
    """
    import yaml

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise UsageError(
            f"The answers file is neither YAML nor JSON{line}.", hint="Write `id: value` lines."
        ) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UsageError("The answers file must be a mapping.", hint="Write `question id or plan field: value` lines.")
    unknown = [str(k) for k in document if not isinstance(k, str) or not _known(k)]
    if unknown:
        raise UsageError(
            f"The answers file has unknown fields: {', '.join(unknown)}.",
            hint=f"Question ids are {', '.join(QUESTION_PATHS)}; plan fields are dotted (training.lr).",
        )
    found: dict[str, Json] = {}
    for key, value in document.items():
        found |= _loaded(key, value, now)
    return found | {key: value for key, value in document.items() if key in found and not isinstance(value, str)}


def _loaded(key: str, value: Json, now: datetime | None) -> dict[str, Json]:
    path = _path_of(key)
    heard = _heard(path, value, (), now)
    if heard is None or (heard.value is None and not heard.others):
        changes_from({key: value})
        return {key: value}
    if heard.unused or heard.clashes:
        said = heard.unused[0] if heard.unused else f"It says two things of {heard.clashes[0].path}."
        raise UsageError(f"The answer to {key!r} isn't clear. {said}", hint="Write one value for each field.")
    found = {c.path: c.value for c in heard.others}
    changes_from(found | ({} if heard.value is None else {key: heard.value}))
    return {**found, **({} if heard.value is None else {key: heard.value})}


def _heard(path: str, value: Json, choices: Sequence[Json], now: datetime | None) -> Heard | None:
    """What a text says beyond a plain value of its field; None where it is such a value."""
    if not isinstance(value, str):
        return None
    heard = hear(path, value, now, choices)
    if as_written(path):
        return heard if heard.value is not None else None
    try:
        _changes(path, value, "")
        plain = True
    except UsageError:
        plain = False
    if plain and not heard.others and (heard.value is None or not re.search(r"\s", value.strip())):
        return None
    return heard


def _known(key: str) -> bool:
    return key in QUESTION_PATHS or (key.startswith(OPTION) and len(key) > len(OPTION)) or is_path(_path_of(key))


def _path_of(key: str) -> str:
    if key.startswith(OPTION):
        return f"training.options.{key.removeprefix(OPTION)}"
    return QUESTION_PATHS.get(key, key.removeprefix(MODEL))


def changes_from(given: Mapping[str, Json]) -> tuple[PlanChange, ...]:
    """The changes that answers by question id or plan field make, whether the question was asked or not."""
    changes: list[PlanChange] = []
    for key, value in given.items():
        if value is None:
            continue
        path = require_path(_path_of(key)) if not key.startswith(OPTION) else _path_of(key)
        changes += _changes(path, value, f"answers: {key}")
    return tuple(changes)


def given_answers(questions: Sequence[Question], given: Mapping[str, Json]) -> tuple[Answer, ...]:
    """The answers that a mapping of question id or plan field → value holds for these questions, typed."""
    values = {q.id: given.get(q.id, given.get(q.path)) for q in questions}
    return tuple(
        Answer(question_id=q.id, value=type_answer(q, values[q.id])) for q in questions if values[q.id] is not None
    )


def read_answer(
    question: Question, questions: Sequence[Question], value: Json, now: datetime | None = None
) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    """The answers that a text given to one question holds: to it, to others that are asked, to fields nobody asks of.

    With them a line for each thing that could not be used. Raises UsageError where there is no answer at all.
    """
    if isinstance(value, str):
        if (named := _by_name(value, questions)) is not None:
            return (named,), ()
        plain = any(value.strip().casefold() == str(c).casefold() for c in question.choices)
        heard = None if plain else _heard(question.path, value, question.choices, now)
        if heard is not None and (heard.value is not None or heard.others or heard.clashes):
            return _answers(question, questions, heard), (*heard.unused, *_unclear(heard))
    return (Answer(question_id=question.id, value=type_answer(question, value)),), ()


def _answers(question: Question, questions: Sequence[Question], heard: Heard) -> tuple[Answer, ...]:
    asked = {q.path: q for q in questions}
    found = [] if heard.value is None else [Answer(question_id=question.id, value=type_answer(question, heard.value))]
    for change in heard.others:
        other = asked.get(change.path)
        value = change.value if other is None else type_answer(other, change.value)
        found.append(Answer(question_id=change.path if other is None else other.id, value=value, words=change.why))
    return tuple(found)


def _unclear(heard: Heard) -> Iterator[str]:
    for clash in heard.clashes:
        yield f"It says two things of {clash.path} ({', '.join(clash.words())}): neither is taken."


_FIELD: Final = re.compile(r"^\s*([A-Za-z_][\w.:-]*)\s*=\s*(\S.*)$")


def _by_name(text: str, questions: Sequence[Question]) -> Answer | None:
    """`field=value` at any question, where there is such a question or field."""
    match = _FIELD.match(text)
    if match is None or not _known(match[1]):
        return None
    asked = next((q for q in questions if match[1] in (q.id, q.path)), None)
    if asked is not None:
        return Answer(question_id=asked.id, value=type_answer(asked, match[2].strip()))
    (change,) = changes_from({match[1]: match[2].strip()})[:1]
    return Answer(question_id=change.path, value=change.value, words=text.strip())


def with_defaults(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """The answers, and for every other question its default, marked as not given by the user.

    A required question without a default stays open: only a person can answer it.
    """
    answered = {a.question_id for a in answers}
    open_ones = (q for q in questions if q.id not in answered and not (q.required and q.default is None))
    return (*answers, *(Answer(question_id=q.id, value=q.default, by_user=False) for q in open_ones))


def answers_from(
    questions: Sequence[Question], given: Mapping[str, Json], *, defaults: bool = False
) -> tuple[Answer, ...]:
    """`given_answers`, with `defaults` completed by `with_defaults`."""
    found = given_answers(questions, given)
    return with_defaults(questions, found) if defaults else found


def type_answer(question: Question, value: Json) -> Json:
    """A value or a typed-in text as the question's field takes it; an empty text is the default.

    Raises UsageError that names the question and what it expects.
    """
    if isinstance(value, str) and (not value.strip() or (is_whatever(value) and question.default is not None)):
        return question.default
    said = str(value).strip().lower()
    chosen = next((c for c in question.choices if value == c or said == str(c).lower()), None)
    if chosen is not None and chosen != URL_CHOICE:
        return chosen
    if question.path == "resources.gpu_model":
        meant = [c for c in question.choices if matches_model(said, str(c))]
        if len(meant) == 1:
            return meant[0]
    if question.choices and question.path not in _SUGGESTED:
        expected = "one of " + ", ".join(str(c) for c in question.choices)
        raise UsageError(f"Answer {value!r} to {question.id!r} isn't possible.", hint=f"It takes {expected}.")
    try:
        changes = _changes(question.path, value, "")
    except UsageError as error:
        hint = error.hint or error.message
        raise UsageError(f"Answer {value!r} to {question.id!r} doesn't fit.", hint=hint) from error
    return value if question.path in _SPECIAL and isinstance(value, str) else changes[0].value


def answers_to_changes(questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[PlanChange, ...]:
    """The changes of the plan that the answers make.

    An answer that is None, or the default of a question whose default is what the plan has anyway, changes nothing.
    Raises UsageError for an answer to no question or one that its field doesn't take.
    """
    by_id = {q.id: q for q in questions}
    changes: list[PlanChange] = []
    for answer in answers:
        question = by_id.get(answer.question_id)
        if question is None and is_path(answer.question_id):
            why = answer.words or "said with an answer"
            changes.append(_user_change(answer.question_id, answer.value, why).model_copy(update={"by": Author.ANSWER}))
            continue
        if question is None:
            raise UsageError(f"No question is called {answer.question_id!r}.", hint=f"Asked: {', '.join(by_id)}.")
        value = type_answer(question, answer.value) if answer.value is not None else None
        found_anyway = question.id == "entry_point" and not question.required  # a required one: nothing was found
        if value is None or (found_anyway and value == question.default):
            continue
        author, why = _by(question, answer)
        changes += [c.model_copy(update={"by": author, "why": why}) for c in _changes(question.path, value, why)]
    return tuple(changes)


_ASKED: Final = "asked by "
"""How `by` of a question begins that a language model has added: nobody's word but its own stands for the default."""


def _by(question: Question, answer: Answer) -> tuple[Author, str]:
    if answer.recalled:
        return Author.MEMORY, answer.recalled
    if not answer.by_user and question.by.startswith(_ASKED):
        return Author.MODEL, f"by {question.by.removeprefix(_ASKED)}: default of its question: {question.text}"
    if not answer.by_user:
        return Author.DEFAULT, f"default of: {question.text}"
    return Author.ANSWER, answer.words or f"answer to: {question.text}"


def _changes(path: str, value: Json, why: str) -> tuple[PlanChange, ...]:
    """The changes that setting `path` to what a person wrote means; some answers touch more than one field."""
    special = _SPECIAL.get(path)
    if special is not None and isinstance(value, str):
        return tuple(PlanChange(path=p, value=v, by=Author.ANSWER, why=why) for p, v in special(value))
    return (_user_change(path, value, why).model_copy(update={"by": Author.ANSWER}),)


def _user_change(path: str, value: Json, why: str) -> PlanChange:
    _, free, name = path.partition("env.") if path.startswith("env.") else path.partition("training.options.")
    if free and isinstance(value, str) and mask_json({name: value}) != {name: value}:
        raise UsageError(
            f"{path} looks like a secret, and what is set by value ends in job files and reports.",
            hint="Give its name alone, for example --set 'secrets=[\"HF_TOKEN\"]', and keep the value in the cluster.",
        )
    try:
        return PlanChange(path=path, value=typed(path, value), by=Author.USER, why=why)
    except PlanError as error:
        shown = "that" if "holds a secret" in error.message else repr(value)
        raise UsageError(f"{path} doesn't take {shown}.", hint=_expected(error)) from error


def _expected(error: PlanError) -> str:
    """What the field takes, out of `path: what (got value).`"""
    said = error.message.partition(" (got")[0].partition(": ")[2] or error.message
    if said.startswith("Input should be a valid tuple"):
        return "It takes a list, like '[\"NAME\"]'."
    return f"{said.rstrip('.')}."


def _entry(text: str) -> list[tuple[str, Json]]:
    read = read_command(text)
    if read is None:
        raise UsageError(f"{text!r} is no command.", hint="Name a script, like train.py or torchrun train.py.")
    changes: list[tuple[str, Json]] = [
        ("command", list(read.command)),
        ("launch.launcher", read.launcher.value),
        ("launch.args", list(read.launcher_args)),
    ]
    return changes


def _target(text: str) -> list[tuple[str, Json]]:
    metric = text.strip()
    return [("target", {"metric": metric, "direction": direction_of(metric)})]


def _outputs(text: str) -> list[tuple[str, Json]]:
    return [("outputs", read_sink(text).model_dump(mode="json"))]


_SPECIAL: Final[dict[str, Callable[[str], list[tuple[str, Json]]]]] = {
    "command": _entry,
    "target": _target,
    "outputs": _outputs,
}
"""Fields that a person writes as one line of words."""
