"""The prompt book: the texts that the language model is given, by name, with their version.

A text has places `{{field}}`. What is put there is data: it is not read for places again, and it can't close the
`<data>` block that it stands in. This module must not know who asks the model, or which model it is.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from caravan.values.base import sha256_text
from caravan.values.errors import StateError, UsageError

_FIELD: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_END_OF_DATA: Final = re.compile(r"<(?=\s*/\s*data\b)", re.IGNORECASE)
_VERSION_DIGITS: Final = 12


class LocalPromptBook:
    """The port PromptBook on the files `*.md` of a folder (`templates/prompts`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> tuple[str, str]:
        """The prompt's text and its version. Raises UsageError for an unknown name, StateError if unreadable."""
        if name not in self.names():
            raise UsageError(f"There is no prompt {name!r}.", hint=f"There are: {', '.join(self.names())}.")
        path = self._folder / f"{name}.md"
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StateError(f"The prompt {path} can't be read: {error}.", hint="Restore the file.") from error
        return text, version_of(text)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(path.stem for path in self._folder.glob("*.md")))


def version_of(text: str) -> str:
    """A text's version: the first 12 hexadecimal digits of its SHA-256. Equal texts have equal versions."""
    return sha256_text(text)[:_VERSION_DIGITS]


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
