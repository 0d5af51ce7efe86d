"""The shape of a row of the taxonomy. Only types."""

from dataclasses import dataclass
from enum import StrEnum


class Fixable(StrEnum):
    """Whether a change of the job mends it."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class Entry:
    """A cause: whether it can be mended, what it is, what to tell the user where it can't, the fields of a fix.

    `advice` may name the places in `taxonomy.ADVICE_PLACES`; `fields` are names of `fields.FIELDS`, those worth trying
    first come first.
    """

    fixable: Fixable
    description: str
    advice: str
    fields: tuple[str, ...] = ()
