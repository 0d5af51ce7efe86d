"""Values without secrets: masked, and still what they are."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from caravan.values.base import Value
from caravan.values.masking import mask_json

_V = TypeVar("_V", bound=Value)


def masked_value(value: _V, known: Iterable[str] = ()) -> _V | None:
    """The value with the secrets in all its texts masked; None where it is none of its kind any more.

    A mask may be longer than what it stands for, and is no digest, address or path: what was valid need not stay so.
    """
    try:
        return type(value).model_validate(mask_json(value.model_dump(mode="python"), known))
    except ValidationError:
        return None
