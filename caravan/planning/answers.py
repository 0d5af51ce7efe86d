"""Answers: typed, checked, and turned into changes of the plan. Also `--set` and the answers file.

Pure: texts and values in, changes out. Wrong input is a UsageError that names the question or field and what it takes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from caravan.planning.command import read_command
from caravan.planning.fields import is_path, require_path, typed
from caravan.planning.metrics import direction_of
from caravan.planning.outputs import URL_CHOICE, read_sink
from caravan.values.base import Json
from caravan.values.dialogue import Answer, Question
from caravan.values.errors import PlanError, UsageError
from caravan.values.masking import mask_json
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
}
"""Ids of the questions that may be asked → the plan field that each answers. `option:--x` asks for an option."""

OPTION: Final = "option:"


def parse_set(text: str) -> PlanChange:
    """`training.lr=1e-4` as a change by the user. Raises UsageError for an unknown field or a wrong value."""
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not equals or not path:
        raise UsageError(f"--set {text!r} isn't field=value.", hint="For example --set training.lr=1e-4.")
    if path == "outputs" and not value.startswith("{"):
        return _user_change(path, read_sink(value).model_dump(mode="json"), "--set outputs")
    return _user_change(require_path(path), value, f"--set {path}")


def load_answers(text: str) -> dict[str, Json]:
    """An answers file, YAML or JSON: question id or plan field → value, checked and typed.

    Raises UsageError that names every unknown field, or the first wrong value.
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
    changes_from(document)
    return dict(document)


def _known(key: str) -> bool:
    return key in QUESTION_PATHS or (key.startswith(OPTION) and len(key) > len(OPTION)) or is_path(key)


def _path_of(key: str) -> str:
    return f"training.options.{key.removeprefix(OPTION)}" if key.startswith(OPTION) else QUESTION_PATHS.get(key, key)


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
    if isinstance(value, str) and not value.strip():
        return question.default
    said = str(value).strip().lower()
    chosen = next((c for c in question.choices if value == c or said == str(c).lower()), None)
    if chosen is not None and chosen != URL_CHOICE:
        return chosen
    if question.choices and question.path != "outputs":  # any place of one's own will do there
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
        if question is None:
            raise UsageError(f"No question is called {answer.question_id!r}.", hint=f"Asked: {', '.join(by_id)}.")
        value = type_answer(question, answer.value) if answer.value is not None else None
        if value is None or (question.id == "entry_point" and value == question.default):
            continue
        author = Author.ANSWER if answer.by_user else Author.DEFAULT
        why = f"answer to: {question.text}" if answer.by_user else f"default of: {question.text}"
        changes += [c.model_copy(update={"by": author, "why": why}) for c in _changes(question.path, value, why)]
    return tuple(changes)


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
