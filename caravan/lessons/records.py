"""Stored lessons and their forms: a text that is embedded and flat fields to filter by, and records to export.

The record is the lesson's own JSON; the flat fields only help to find it. A record that can't be read (written by a
later version, or damaged) is left out by readers and left alone by writers.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, Field, ValidationError

from caravan.lessons.facets import family, kin, subject
from caravan.values.base import Json, Value
from caravan.values.errors import UsageError
from caravan.values.failure import FailureClass, Lesson
from caravan.values.fingerprint import fingerprint
from caravan.values.masking import mask

CODE: Final = "code_digest"
"""The key of the context that says which training code it was; it outlives a renamed folder and other data."""
REPOSITORY: Final = "repository"
"""The key of the context that says where the repository is, as a digest: lessons of its scope are for it alone."""
CONTEXT_KEYS: Final = ("framework", "base_model", "method", "entry_point", CODE)
"""The parts of a lesson's context by which lessons are told apart: what is trained, how, and by which code."""
SAID: Final = "said"
"""The key of the context that holds the shapes of a failure's decisive lines: no paths, numbers or quoted words."""
COMPARED_KEYS: Final = (*CONTEXT_KEYS, REPOSITORY, "gpu_model", "driver", "image", "subject")
"""The parts of which a recalled lesson says whether they are the same as what was looked for."""
USER: Final = "user"
"""The source of what a person wrote down."""
STARTER: Final = "starter"
"""The source of lessons that are shipped."""
_WORDS: Final = ("framework", "base_model", "method")  # of the context, those that are words

_OURS: Final = re.compile(rf"(?:{'|'.join(FailureClass)}):(?:-|[0-9a-f]{{12}})")
"""A fingerprint as it is made here."""

IMPORTED: Final = "imported:"
"""What stands before the source of a vote that came with a record: runs elsewhere and people there are not ours."""

_RECORD: Final = "caravan-lesson"
_VERSION: Final = 2  # since then votes say when they were given
_READ: Final = (1, 2)
_RECORD_LIMIT: Final = 200_000  # characters of an exported lesson that is taken; ours have about a thousand
_LONGEST: Final = 8000  # characters of a text that is stored: a page, more is a log and no lesson
_TEXT_LIMIT: Final = 4000  # characters of a text that is embedded; the embedder averages words, more only blurs


class Vote(Value):
    """What one source (a run, or `user`) said of a lesson and when: whether it worked, None where that is not known.

    `elsewhere`: no run of this tenant said it; it came with the lesson, shipped or imported.
    """

    source: str
    worked: bool | None = None
    at: AwareDatetime | None = None
    elsewhere: bool = False

    def by(self) -> str:
        """Its source as who said it names it: the same source counts once, whichever way its word came."""
        return self.source.removeprefix(IMPORTED)

    def of_run(self) -> bool:
        """Whether a run of this tenant said it."""
        return not self.elsewhere and self.source not in ("", USER, STARTER)


class StoredLesson(Value):
    """A lesson with how often it was seen, worked and failed. `votes` are the latest sources, the newest last.

    `elsewhere_worked` and `elsewhere_failed` are the parts of the tallies that came with it, shipped or imported.
    """

    lesson: Lesson
    times: int = Field(default=1, ge=1)
    worked: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    elsewhere_worked: int = Field(default=0, ge=0)
    elsewhere_failed: int = Field(default=0, ge=0)
    first_seen: AwareDatetime
    last_seen: AwareDatetime
    votes: tuple[Vote, ...] = ()

    def own(self) -> tuple[int, int]:
        """How often it worked and failed in this tenant's own runs."""
        return max(self.worked - self.elsewhere_worked, 0), max(self.failed - self.elsewhere_failed, 0)

    def taught_here(self) -> bool:
        """Whether it worked in a run of this tenant, by that run's own word; a note of a person is none."""
        return any(vote.of_run() and vote.worked is True for vote in self.votes)

    def standing(self) -> int:
        """How much it is worth: its own runs' successes without their failures, and at most one for all others say."""
        worked, failed = self.own()
        theirs = self.elsewhere_worked - self.elsewhere_failed
        return worked - failed + (theirs > 0) - (theirs < 0)

    def verdict(self) -> bool | None:
        """Whether it is worth following; None when it worked as often as it failed, or was never told."""
        standing = self.standing()
        return None if standing == 0 else standing > 0

    def fallen(self) -> bool:
        """Whether it is not followed any more, because of what this tenant's own runs made of it."""
        return self.own()[1] > 0 and self.standing() <= 0


def prepared(lesson: Lesson, secrets: Sequence[str] = ()) -> Lesson:
    """The lesson as it may be stored: masked, in valid Unicode, of bounded length, with a fingerprint."""
    document = masked("", lesson.model_dump(mode="json"), secrets)
    lesson = Lesson.model_validate({**document, "text": document["text"][:_LONGEST]})
    if lesson.fingerprint or lesson.failure is None:
        return lesson
    return lesson.model_copy(update={"fingerprint": fingerprint(lesson.failure, lesson.text.splitlines())})


def masked(name: str, value: Json, secrets: Sequence[str] = ()) -> Json:
    """A JSON value without secrets: strings are masked, those under a telling name (`HF_TOKEN`) as a whole.

    A plan change says its name in `path` and its secret in `value`, so the path names the value.
    """
    if isinstance(value, dict):
        path = value.get("path") if "value" in value else None
        names = {key: path if key == "value" and isinstance(path, str) else key for key in value}
        return {_valid(key): masked(names[key], item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(name, item, secrets) for item in value]
    if not isinstance(value, str):
        return value
    value = _valid(value)
    if name == "fingerprint" and _OURS.fullmatch(value) and not any(secret in value for secret in secrets if secret):
        return value  # a cause that has "secret" in its name is followed by a digest, not by a secret
    line = mask(f"{name}={value}", secrets)
    return line[len(name) + 1 :] if line.startswith(f"{name}=") else mask(value, secrets)


def _valid(text: str) -> str:
    """The text without lone surrogates, which neither an embedder nor a database takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def search_text(lesson: Lesson) -> str:
    """The text that is embedded: cause, what was seen, where, and what was changed."""
    parts = [lesson.failure.replace("_", " ") if lesson.failure else "", lesson.text]
    parts += said(lesson.context)
    parts += [str(lesson.context[key]) for key in _WORDS if lesson.context.get(key)]
    parts += [f"{change.path} {change.value}" for change in lesson.changes]
    return ". ".join(part.strip() for part in parts if part.strip())[:_TEXT_LIMIT] or "lesson"


def said(context: dict[str, Json]) -> list[str]:
    """The decisive lines of the failure, without what varies, the most decisive first."""
    lines = context.get(SAID)
    return [str(line) for line in lines] if isinstance(lines, list | tuple) else []


def asked_text(text: str, context: dict[str, Json]) -> str:
    """The text that lessons are looked for by: what is told of the failure, and its decisive lines."""
    return "\n".join(dict.fromkeys(part for part in (text.strip(), *said(context)) if part))


def to_metadata(stored: StoredLesson, key: str) -> dict[str, Json]:
    """The fields beside the text: `lesson_key` and the marks to find it by, and the record."""
    lesson = stored.lesson
    found = marks(lesson.failure, lesson.fingerprint, lesson.context)
    return {"lesson_key": key, **found, "record": stored.canonical()}


DECIDING: Final = {"gpu": "gpu_model", "framework": "framework", "gpus": "gpus"}
"""Marks that many lessons share, so that they are asked for only where the cause depends on them → the context's key;
their names are those of the facets in `weights`."""


def marks(failure: FailureClass | None, fingerprint: str, context: dict[str, Json]) -> dict[str, str]:
    """What a lesson is found by without its words, by the name of the field; what is not known is left out."""
    known = {"fingerprint": fingerprint, "failure": failure, "code": context.get(CODE)}
    known["model"] = context.get("base_model")
    known["repository"] = context.get(REPOSITORY)
    known |= {"subject": "=".join(subject(context) or ()), "family": family(str(context.get("base_model") or ""))}
    known["kin"] = kin(context)
    known |= {name: context.get(key) for name, key in DECIDING.items()}
    return {name: str(value).casefold() for name, value in known.items() if value}


def from_metadata(metadata: dict[str, Json]) -> StoredLesson | None:
    """The stored lesson, or None where the record is missing or can't be read."""
    record = metadata.get("record")
    if not isinstance(record, str):
        return None
    try:
        return StoredLesson.model_validate_json(record)
    except ValidationError:
        return None


def to_record(stored: StoredLesson) -> dict[str, Json]:
    """The lesson as a record that says what it is; `from_record` reads it, also on another machine.

    It does not say which of its votes came from elsewhere: wherever it is read, all of them do.
    """
    votes = tuple(vote.model_copy(update={"elsewhere": False, "source": vote.by()}) for vote in stored.votes)
    told = stored.model_copy(update={"votes": votes, "elsewhere_worked": 0, "elsewhere_failed": 0})
    document: dict[str, Json] = told.model_dump(mode="json")
    return {"record": _RECORD, "version": _VERSION, **document}


def from_record(record: Json, secrets: Sequence[str] = (), *, now: datetime) -> StoredLesson:
    """The lesson of a record, masked anew, seen at the latest now. Raises UsageError for what is no such record.

    Its tallies are others': they give it little standing, which this tenant's own runs raise or take away.
    """
    if not isinstance(record, dict) or record.get("record") != _RECORD:
        raise UsageError("It is no exported lesson.", hint="`memory export` writes them.")
    if record.get("version") not in _READ:
        raise UsageError(f"It is a lesson of version {record.get('version')!r}; versions up to {_VERSION} can be read.")
    document = {name: value for name, value in record.items() if name not in ("record", "version")}
    try:
        stored = StoredLesson.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"The lesson's {where or 'record'} can't be used: {first['msg']}.") from error
    if stored.worked + stored.failed > stored.times or len(stored.votes) > stored.times:
        raise UsageError("The lesson's counts don't add up.")
    if len(stored.canonical()) > _RECORD_LIMIT:
        raise UsageError(f"The lesson is longer than {_RECORD_LIMIT} characters.")
    times = {"first_seen": min(stored.first_seen, now), "last_seen": min(stored.last_seen, now)}
    theirs = {"elsewhere_worked": stored.worked, "elsewhere_failed": stored.failed}
    votes = tuple(_of_others(vote, secrets, now) for vote in stored.votes)
    return stored.model_copy(
        update={"lesson": prepared(stored.lesson, secrets), "votes": votes, **times, **theirs},
    )


def _of_others(vote: Vote, secrets: Sequence[str], now: datetime) -> Vote:
    """The vote of a record: whoever it names as its source, it was not given here, and its source says so."""
    at = min(vote.at, now) if vote.at else None
    source = str(masked("", vote.by(), secrets))
    source = source if source == STARTER else f"{IMPORTED}{source}"
    return vote.model_copy(update={"source": source, "at": at, "elsewhere": True})
