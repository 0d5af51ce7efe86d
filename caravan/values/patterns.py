"""Regular expressions that are compiled when they are first used: a command uses few of those that it imports."""

import re
from typing import Any, cast


class _Late:
    """What stands for a pattern, and becomes one with the first look at it."""

    def __init__(self, text: str, flags: int) -> None:
        self._given = text, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(*self._given), name)  # `re` keeps what it has compiled, should two threads ask
        setattr(self, name, found)
        return found


def late(text: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern; its text is checked no earlier than it is used."""
    return cast("re.Pattern[str]", _Late(text, flags))
