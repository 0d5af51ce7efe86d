"""What a claim is: something that a plan or a job asks for, under the name of the rule that speaks of it."""

from typing import Final, NamedTuple

NEVER: Final = "never"
"""The rule of what no policy can allow."""


class Claim(NamedTuple):
    """Something that is asked for: the rule that speaks of it, the field that asks, and what it asks for."""

    rule: str
    field: str
    value: str
    number: float | None = None
