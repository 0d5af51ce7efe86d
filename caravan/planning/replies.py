"""A free text as the answer to a question: the value for its field, and whatever else it says.

Pure; the caller types and checks what comes out, as it does with any value.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from caravan.planning.prompt_reading import Clash, Reading, read_sentence
from caravan.planning.sentences.common import B, E, negated
from caravan.planning.sentences.numerals import NUMBER, value_of
from caravan.values.base import Json
from caravan.values.plan import PlanChange

_AS_WRITTEN: Final = ("command", "outputs", "target", "training.options.", "env.")
"""Fields whose text is taken as it is written: `--epochs 3` is a part of the command."""
_NAMES: Final = ("model.id", "dataset.path")
_OPTIONS: Final = "training.options."
_AROUND: Final = (
    r"(?:about|around|roughly|maybe|perhaps|please|just|only|use|say|let's say|ok(?:ay)?|at most|max(?:imum)?|up to|"
    r"etwa|ungefähr|circa|ca|bitte|nur|höchstens|maximal|environ|s'il (?:te|vous) plaît|seulement|unos|unas|por favor|"
    r"solo|大约|大概|请|約|だけ)"
)
_ALONE: Final = re.compile(
    rf"^\W*(?:{_AROUND}[\s:,]+)*(?P<n>{NUMBER})[\s,]*(?:{_AROUND}|[个個张枚台轮です]+)*\W*$", re.IGNORECASE
)
_TOKEN: Final = re.compile(
    r"[A-Za-z0-9_~.][\w.~+-]*(?:/[\w.~+-]+)+/?|[\w~-][\w.~-]*\.(?:jsonl?|csv|tsv|txt|parquet|arrow|zip|bin|tar)\b|s3://\S+|gs://\S+"
)
_WHATEVER: Final = frozenset(
    {"default", "the default", "you choose", "you decide", "your choice", "whatever", "i don't care", "don't care"}
    | {
        "no preference",
        "i don't know",
        "don't know",
        "idk",
        "not sure",
        "as you like",
        "egal",
        "weiß nicht",
        "standard",
    }
    | {
        "keine ahnung",
        "entscheide du",
        "peu importe",
        "je ne sais pas",
        "par défaut",
        "da igual",
        "no sé",
        "por defecto",
    }
    | {"随便", "默认", "不知道", "都行", "おまかせ", "お任せ", "わからない", "デフォルト"}
)


class Heard(NamedTuple):
    """`value` for the field that was asked about (None: the text says nothing of it), with the `words` that say so.

    `others` are the changes of other fields, `unused` a line for each thing that no field takes.
    """

    value: Json
    words: str
    others: tuple[PlanChange, ...]
    unused: tuple[str, ...]
    clashes: tuple[Clash, ...] = ()


def is_whatever(text: str) -> bool:
    """Whether the text leaves the answer to the default."""
    return text.strip().strip(".!。").casefold() in _WHATEVER


def as_written(path: str) -> bool:
    """Whether the field takes its text as it is, whatever words are in it."""
    return path.startswith(_AS_WRITTEN)


def hear(path: str, text: str, now: datetime | None = None, choices: Sequence[Json] = ()) -> Heard:
    """What a text says for the field at `path`, and beside it. `now`: aware, in the user's zone."""
    if as_written(path) and not (path.startswith(_OPTIONS) and "," in text):
        return Heard(None, "", (), ())
    reading = read_sentence(text, now, source="answer")
    if as_written(path):
        word = _beside(reading, whole=True)
        return Heard(word, text.strip(), reading.changes, ()) if word else Heard(None, "", (), ())
    own = next((c for c in reading.changes if c.path == path), None)
    others = tuple(c for c in reading.changes if c is not own)
    value = own.value if own is not None else _bare(path, reading, choices)
    told = tuple(f'I could not use "{u.words}": {u.why}.' for u in reading.unused) if value is None or own else ()
    return Heard(value, text.strip(), others, told, reading.clashes)


def _bare(path: str, reading: Reading, choices: Sequence[Json]) -> Json:
    if (match := _ALONE.match(reading.text.strip())) is not None:
        number = value_of(match["n"])
        return None if number is None else int(number) if number == int(number) else number
    if path in _NAMES and reading.changes:
        free = [
            m for m in _TOKEN.finditer(reading.text) if not any(s < m.end() and m.start() < e for s, e in reading.spans)
        ]
        return free[0][0].rstrip(".") if len(free) == 1 else None if free else _beside(reading, whole=False)
    named = [c for c in choices if isinstance(c, str) and _names(reading.text, c)]
    longest = [c for c in named if not any(c != other and c in other for other in named)]
    return longest[0] if len(longest) == 1 else None


def _beside(reading: Reading, *, whole: bool) -> str | None:
    """The one word between commas of which nothing was read (`my_run, 4 GPUs`), or None.

    `whole`: only where all other parts are several words that were read to the last letter: a list stays a value.
    """
    words, other = list[str](), bool(reading.changes)
    for part in _PART.finditer(reading.text):
        spans = [(s, e) for s, e in reading.spans if s < part.end() and part.start() < e]
        if not spans and not re.search(r"\s", part[0].strip()):
            words.append(part[0].strip().strip("\"'"))
        elif whole and not (" " in part[0].strip() and any(_covers(span, part) for span in spans)):
            other = False
    return words[0] if len(words) == 1 and other and words[0] else None


_PART: Final = re.compile(r"[^,;]*[^,;\s]")


def _covers(span: tuple[int, int], part: re.Match[str]) -> bool:
    return span[0] <= part.end() - len(part[0].lstrip()) and part.end() <= span[1]


def _names(text: str, choice: str) -> bool:
    match = re.search(rf"{B}{re.escape(choice)}{E}", text, re.IGNORECASE)
    return match is not None and not negated(text, match.start(), match.end())
