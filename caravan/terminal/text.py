"""Texts for a terminal: made harmless, shortened, and values in words. Pure, standard library only.

What a log, a repository or a cluster says may hold control characters; nothing of it reaches a terminal but through
`clean` or `one_line`.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

# ECMA-48: control sequences (CSI), strings up to BEL or ST (OSC, DCS, SOS, PM, APC), then two-character escapes.
# Texts, compiled on first use by `re`: compiling costs milliseconds that a help page does not need.
_SEQUENCES: Final = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\-~]"
)
# What is left of controls, marks that turn the direction of writing (they can hide what a command does), line
# separators, and lone surrogates, which can't be encoded.
_UNSAFE: Final = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def clean(text: str) -> str:
    """`text` without escape sequences, other control characters made visible (`\\x1b`); lines and tabs stay.

    A carriage return inside a line starts it anew, as a progress bar does it: what it overwrote is left out.
    """
    text = re.sub(_SEQUENCES, "", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(_overwritten(line) for line in text.split("\n"))
    return re.sub(_UNSAFE, _visible, text)


def _overwritten(line: str) -> str:
    return next((piece for piece in reversed(line.split("\r")) if piece), "")


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: object, limit: int | None = None) -> str:
    """`text` cleaned, on one line, cut to `limit` characters (an ellipsis included)."""
    line = " ".join(clean(str(text)).split())
    if limit is not None and len(line) > limit:
        return line[: max(limit - 1, 0)].rstrip() + "…"
    return line


def words(value: Any) -> str:
    """A JSON value for a person: `yes` and `no`, lists with commas, nothing as a dash."""
    if value is None or value in ("", [], {}, ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{one_line(k)}={words(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(words(v) for v in value)
    return one_line(value)


def age(seconds: float) -> str:
    """Seconds in at most four characters: `45s`, `12m`, `3h`, `2d`, `400d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size or (seconds >= size and unit == "m"):
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def span(low: float, high: float, form: Callable[[float], str]) -> str:
    """A range in words by `form`, or one figure when both ends read the same."""
    first, last = form(low), form(high)
    return first if first == last else f"{first} to {last}"


def joined(parts: Iterable[str], separator: str = ", ") -> str:
    """The parts that are not empty, joined."""
    return separator.join(p for p in parts if p)
