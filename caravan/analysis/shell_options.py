"""What a shell script lets its caller say: variables with a default, and whether it hands arguments on. Pure.

A variable that the script sets whatever the caller says is none of them.
"""

import re
from collections.abc import Iterator
from typing import Final

from caravan.values.base import Json
from caravan.values.repo import ScriptOption

HANDED_ON: Final = "$@"
"""The flag of an option that stands for all: the script gives its arguments to the program that it starts."""
_DEFAULTED: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*):?[-=]([^{}$`]*)\}")
_SET: Final = re.compile(
    r"^\s*(?:export\s+|declare\s+(?:-\w+\s+)?|local\s+|readonly\s+)?([A-Za-z_]\w*)=(.*)$", re.MULTILINE
)
_MOST: Final = 200


def shell_options(text: str) -> tuple[ScriptOption, ...]:
    """The options of a script's text, spelled `$NAME`; the first default of each counts."""
    return tuple(_options("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))))


def set_whatever(text: str) -> frozenset[str]:
    """The variables that a script sets whatever its caller says."""
    return frozenset(m[1] for m in _SET.finditer(text) if not re.search(rf"\$\{{?{m[1]}\b", m[2]))


def _options(text: str) -> Iterator[ScriptOption]:
    own = set_whatever(text)
    seen: set[str] = set()
    for match in _DEFAULTED.finditer(text):
        name = match[1]
        if name not in own and name not in seen and len(seen) < _MOST:
            seen.add(name)
            value = _value(match[2].strip("\"' "))
            yield ScriptOption(flag=f"${name}", default=value, type=type(value).__name__ if value is not None else None)
    if re.search(r"\$@|\$\*|\$\{@\}", text):
        yield ScriptOption(flag=HANDED_ON)


def _value(text: str) -> Json:
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d{1,3})?", text):
        return float(text)
    return text or None
