"""Filling the places `{{field}}` of a prompt's text. What is put there is data: it is not read for places again.

It can't close the `<data>` block that it stands in. Nothing here knows which prompts there are.
"""

import re
from collections.abc import Mapping
from typing import Final

from caravan.values.errors import UsageError

_FIELD: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_END_OF_DATA: Final = re.compile(r"<(?=\s*/\s*data\b)", re.IGNORECASE)


def fields(text: str) -> tuple[str, ...]:
    """The names of a prompt's places, sorted."""
    return tuple(sorted(set(_FIELD.findall(text))))


def fill(text: str, values: Mapping[str, str]) -> str:
    """The prompt with its places filled. Raises UsageError when a value is missing; values without a place are left.

    Places inside a value stay as they are, and `</data` in it is defused to `&lt;/data`.
    """
    missing = [name for name in fields(text) if name not in values]
    if missing:
        raise UsageError(f"The prompt has places that nothing fills: {', '.join(missing)}.")
    return _FIELD.sub(lambda place: _END_OF_DATA.sub("&lt;", values[place[1]]), text)
