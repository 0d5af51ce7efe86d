"""The shape of a row of the taxonomy. Only types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fixable(StrEnum):
    """Whether a change of the job mends it."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class Said:
    """A sentence on a cause for when the details hold `when`; it may name details, `node` and `message` in braces."""

    text: str
    when: Mapping[str, str] = field(default_factory=dict)


def said(text: str, **when: str) -> Said:
    """A sentence and the details under which it is true."""
    return Said(text, when)


@dataclass(frozen=True)
class Entry:
    """A cause: whether it can be mended, what it is, what a person can do about it, the fields of a fix.

    `advice` may name the places in `taxonomy.ADVICE_PLACES`; `fields` are names of `fields.FIELDS`, those worth trying
    first come first. `said` are sentences that tell the cause, the most telling first: the first of which all is known
    is taken, and where there is none, the class's name with the line that shows it.
    """

    fixable: Fixable
    description: str
    advice: str
    fields: tuple[str, ...] = ()
    said: tuple[Said, ...] = ()
