"""How the report puts values into words: bounded, on one line, without control characters. Pure."""

import json
from datetime import UTC, datetime
from typing import Final

from caravan.runs.report.blocks import Code, Line
from caravan.values.base import Json

_LONGEST: Final = 400  # characters of one value
NOT_KNOWN: Final[Line] = ("not known",)


def text_of(value: Json, longest: int = _LONGEST) -> str:
    """A value on one line; a whole number without its `.0`."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = (
        value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    )
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * longest]).split())
    return text if len(text) <= longest else f"{text[:longest]}…"


def block_of(text: str, longest: int = 20_000) -> str:
    """A text of several lines without control characters."""
    cut = text if len(text) <= longest else f"{text[:longest]}\n… {len(text) - longest} further characters"
    return "".join(c if c.isprintable() or c in "\n" else " " if c != "\t" else "    " for c in cut).strip("\n")


def code(value: Json) -> Line:
    """A value to the letter; nothing for an empty one."""
    text = text_of(value)
    return (Code(text),) if text else ()


def words(value: Json) -> Line:
    """A value as running text."""
    text = text_of(value)
    return (text,) if text else ()


def time_of(value: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def gib(amount: float) -> str:
    """GiB: what is small with more digits."""
    return f"{amount:.1f} GiB" if amount >= 1 else f"{amount:.2f} GiB"


def number(value: float) -> str:
    """A figure with at most six digits that count."""
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.4g}"


def counted(count: int, what: str) -> str:
    """A number of things."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def off_by(expected: float, seen: float) -> str:
    """By how much an estimate was off, in percent of what was seen."""
    if not seen:
        return ""
    share = (expected - seen) / seen * 100
    return f"{abs(share):.0f} % too {'much' if share >= 0 else 'little'}"
