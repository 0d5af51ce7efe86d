"""The cause as a sentence for a person: for each class what to say, depending on what the evidence names.

The sentences stand in the taxonomy's rows; here is how one is chosen and filled. A sentence of which something is not
known is passed over; at the end the class is said in words, with the line that shows it.
"""

import re
import string
from collections.abc import Mapping
from typing import Final

from caravan.diagnosis.taxonomy import TAXONOMY
from caravan.values.failure import FailureClass

_MESSAGE: Final = 240  # characters of a quoted line
_ENDS: Final = re.compile(r"[\s.:;,…]+$")


def sentence(failure: FailureClass, details: Mapping[str, str], message: str, node: str) -> str:
    """One line for a person. `message` is the line or the cluster's words that show the cause; may be empty."""
    known = {**details, "node": node, "message": _quoted(message)}
    for said in TAXONOMY[failure].said:
        if said.when.items() <= known.items() and all(known.get(name) for name in places(said.text)):
            return " ".join(said.text.format_map(known).split()).replace("….", "…")
    name = failure.value.replace("_", " ")
    words = f"{name[0].upper()}{name[1:]}"
    return f"{words}: {known['message']}.".replace("….", "…") if known["message"] else f"{words}."


def places(text: str) -> tuple[str, ...]:
    """The names in braces of a sentence."""
    return tuple(name for _, name, _, _ in string.Formatter().parse(text) if name)


def _quoted(message: str) -> str:
    text = " ".join(message.split())
    if len(text) <= _MESSAGE:
        return _ENDS.sub("", text)
    cut = text[: _MESSAGE + 1]
    return _ENDS.sub("", cut.rpartition(" ")[0] or cut[:-1]) + "…"
