"""Stored lessons and their form in a vector store: a text that is embedded, flat fields to filter by, one record.

The record is the lesson's own JSON; the flat fields only help to find it. A record that can't be read (written by a
later version, or damaged) is left out by readers and left alone by writers.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import Field, ValidationError

from caravan.values.base import Json, Value
from caravan.values.failure import Lesson
from caravan.values.fingerprint import fingerprint
from caravan.values.masking import mask

CONTEXT_KEYS: Final = ("framework", "base_model", "method")
"""The parts of a lesson's context by which lessons are told apart and compared. Others are kept and shown only."""

_TEXT_LIMIT: Final = 4000  # characters of a text that is embedded; the embedder averages words, more only blurs


class Vote(Value):
    """What one source (a run, or `user`) said of a lesson: whether it worked, None where that is not known."""

    source: str
    worked: bool | None = None


class StoredLesson(Value):
    """A lesson with how often it was seen, worked and failed. `votes` are the latest sources, the newest last."""

    lesson: Lesson
    times: int = Field(default=1, ge=1)
    worked: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    first_seen: datetime
    last_seen: datetime
    votes: tuple[Vote, ...] = ()

    def verdict(self) -> bool | None:
        """Whether it worked more often than not; None when it is even or was never told."""
        return None if self.worked == self.failed else self.worked > self.failed


def prepared(lesson: Lesson, secrets: Sequence[str] = ()) -> Lesson:
    """The lesson as it may be stored: masked, in valid Unicode, with a fingerprint."""
    document = masked("", lesson.model_dump(mode="json"), secrets)
    lesson = Lesson.model_validate(document)
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
    line = mask(f"{name}={value}", secrets)
    return line[len(name) + 1 :] if line.startswith(f"{name}=") else mask(value, secrets)


def _valid(text: str) -> str:
    """The text without lone surrogates, which neither an embedder nor a database takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def search_text(lesson: Lesson) -> str:
    """The text that is embedded: cause, what was seen, where, and what was changed."""
    parts = [lesson.failure.replace("_", " ") if lesson.failure else "", lesson.text]
    parts += [str(lesson.context[key]) for key in CONTEXT_KEYS if lesson.context.get(key)]
    parts += [f"{change.path} {change.value}" for change in lesson.changes]
    return ". ".join(part.strip() for part in parts if part.strip())[:_TEXT_LIMIT] or "lesson"


def to_metadata(stored: StoredLesson, key: str) -> dict[str, Json]:
    """The fields beside the text: `lesson_key`, `failure` and `fingerprint` to filter by, and the record."""
    return {
        "lesson_key": key,
        "failure": stored.lesson.failure or "",
        "fingerprint": stored.lesson.fingerprint,
        "record": stored.canonical(),
    }


def from_metadata(metadata: dict[str, Json]) -> StoredLesson | None:
    """The stored lesson, or None where the record is missing or can't be read."""
    record = metadata.get("record")
    if not isinstance(record, str):
        return None
    try:
        return StoredLesson.model_validate_json(record)
    except ValidationError:
        return None
