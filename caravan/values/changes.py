"""A change of a plan, and who makes it. What a plan is, is not known here."""

from enum import StrEnum

from caravan.values.base import Json, Value


class Author(StrEnum):
    """Who set a field of the plan."""

    DEFAULT = "default"
    REPOSITORY = "repository"
    CLUSTER = "cluster"
    ESTIMATE = "estimate"
    MEMORY = "memory"
    MODEL = "model"
    ANSWER = "answer"
    USER = "user"
    REPAIR = "repair"


STANDING = frozenset({Author.ANSWER, Author.USER, Author.REPAIR})
"""Authors whose fields no rule, estimate, memory or model may change afterwards."""


class PlanChange(Value):
    """One change of one field. `path` is dotted (`training.micro_batch`, `env.HF_HOME`); `value` None unsets it.

    `confirms`: it names a field as it may be already, as a plan file does; what is the repository's own stays so.
    """

    path: str
    value: Json = None
    by: Author
    why: str = ""
    confirms: bool = False
