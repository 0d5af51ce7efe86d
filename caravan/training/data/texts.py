"""What of a row is learned from: its texts and its label, with what is wrong with them as values. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from caravan.training.data.columns import Parts
from caravan.training.data.conversations import conversation
from caravan.values.base import Json
from caravan.values.training import DataFormat, DataKind

_WHOLE: Final = re.compile(r"^(-?\d+)\.0$")
_LONE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # without those that stand for bytes that are no UTF-8
_EACH: Final = (DataFormat.CLASSIFICATION, DataFormat.PAIRS)  # of which the scripts refuse a row without a text
Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why a row is none: without what it says."""

    kind: DataKind
    text: str
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Learned:
    """The texts of a row in the order in which they are read, its label, its messages."""

    texts: tuple[str, ...] = ()
    label: str | int | None = None
    messages: tuple[Message, ...] = ()
    answer: str | None = None

    @property
    def characters(self) -> int:
        """Characters of all texts."""
        return sum(map(len, self.texts))


def learned(fields: Mapping[str, Json], parts: Parts) -> Learned | Wrong:
    """What a row teaches, or what is wrong with it."""
    if parts.format is DataFormat.CHAT:
        return _chat(fields, parts.columns["messages"])
    texts: dict[str, str] = {}
    for part, column in parts.columns.items():
        if part == "label":
            continue
        text = _text(fields, part, column, optional=part in ("input", "negative", "pair"))
        if isinstance(text, Wrong):
            needed = text.kind is DataKind.EMPTY_ROW and parts.format in _EACH
            return replace(text, fatal=True) if needed else text
        texts[part] = text
    label = None
    if "label" in parts.columns:
        found = _label(fields, parts.columns["label"])
        if isinstance(found, Wrong):
            return found
        label = found
    return Learned(tuple(t for t in texts.values() if t), label, (), texts.get("completion"))


def _chat(fields: Mapping[str, Json], column: str) -> Learned | Wrong:
    if column not in fields:
        return Wrong(DataKind.COLUMN_MISSING, f"the row has no {column!r}")
    found = conversation(fields[column], column)
    if isinstance(found, tuple):
        texts = tuple(str(m["content"]) for m in found)
        if any(_LONE.search(t) for t in texts):
            return _HALF
        answers = [m["content"] for m in found if m["role"] == "assistant"]
        return Learned(texts, None, found, "\0".join(answers))
    kind, text, fatal = found.kind, found.text, found.fatal
    return Wrong(kind, text, fatal)


def _text(fields: Mapping[str, Json], part: str, column: str, *, optional: bool) -> str | Wrong:
    if column not in fields:
        return "" if optional else Wrong(DataKind.COLUMN_MISSING, f"the row has no {column!r}")
    value = fields[column]
    if part in ("anchor", "positive", "negative") and isinstance(value, list) and value:
        value = value[0]  # of several the scripts take the first
    if part == "image" and isinstance(value, dict):
        return str(value.get("path") or "image")
    if value is None or value == "":
        return "" if optional else Wrong(DataKind.EMPTY_ROW, f"{column!r} is empty", fatal=False)
    if not isinstance(value, str):
        return Wrong(DataKind.MALFORMED, f"{column!r} is {kind_of(value)}, not a text")
    if _LONE.search(value):
        return _HALF
    if not value.strip():
        return "" if optional else Wrong(DataKind.EMPTY_ROW, f"{column!r} holds spaces alone", fatal=False)
    return value


_HALF: Final = Wrong(DataKind.MALFORMED, "it holds half a character (a lone surrogate): write it with a whole one")


def _label(fields: Mapping[str, Json], column: str) -> str | int | Wrong:
    if column not in fields:
        return Wrong(DataKind.COLUMN_MISSING, f"the row has no {column!r}")
    value = fields[column]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if isinstance(value, str) and value.strip():
        return _WHOLE.sub(r"\1", value.strip())
    if value is None or isinstance(value, str):
        return Wrong(DataKind.LABEL, f"the label {column!r} is empty")
    if isinstance(value, float):
        return str(value) if math.isfinite(value) else Wrong(DataKind.LABEL, f"the label {column!r} is no number")
    return Wrong(DataKind.LABEL, f"the label {column!r} is {kind_of(value)}, not one class")


def kind_of(value: Json) -> str:
    """What a value is, for a person."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return "empty" if value is None else "a text" if isinstance(value, str) else "no text"
