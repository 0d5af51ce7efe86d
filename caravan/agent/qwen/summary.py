"""A run's summary in a model's words: what it says in figures, names and commands must stand in the report."""

import re
from typing import Final

from caravan.agent.qwen.words import misleads

LONGEST: Final = 900
_SENTENCES: Final = 6
_FIGURE: Final = re.compile(r"\d+(?:[.,:]\d+)*")
_NAME: Final = re.compile(r"[\w.-]*(?:://|[/_=@])[\w./:@=-]*|--[\w-]+|`[^`]+`")
_WELL: Final = re.compile(
    r"(?<!not )(?<!n't )(?<!never )(?<!un)\b(?:succe(?:ed|ss)\w*|complet(?:ed|ion)|finished well|went well|as planned"
    r"|no (?:failures?|errors?|problems?|further action)|nothing (?:failed|went wrong))\b",
    re.IGNORECASE,
)
"""Words that say that a run ended well."""


def checked(summary: str, report: str) -> tuple[str, str]:
    """The summary on one line where it stands, else empty; and why it does not."""
    text = " ".join("".join(c if c.isprintable() else " " for c in summary).split())
    if not text:
        return "", "it says nothing"
    if len(text) > LONGEST or len(re.findall(r"[.!?](?:\s|$)", text)) > _SENTENCES:
        return "", "it is no summary: too long"
    if why := misleads(text, report):
        return "", why
    if _WELL.search(text) and not re.search(r"\b(?:succeeded|planned)\b", report.partition("\n")[0]):
        return "", "the run did not end well"
    known = set(_FIGURE.findall(report))
    invented = next((f for f in _FIGURE.findall(text) if f not in known), None)
    if invented is not None:
        return "", f"the report does not say {invented}"
    plain = report.replace("\\", "")
    foreign = next((n for n in _NAME.findall(text) if n.strip("`.,:;") not in plain), None)
    return ("", f"the report does not name {foreign[:60]!r}") if foreign is not None else (text, "")
