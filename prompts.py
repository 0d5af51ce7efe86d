"""The prompt book: the texts that the language model is given, by name, with their version.

A text has places `{{field}}`, filled by `caravan.values.filling`. This module must not know who asks the model, or
which model it is.
"""

from pathlib import Path
from typing import Final

from caravan.values.base import sha256_text
from caravan.values.errors import StateError, UsageError
from caravan.values.filling import fields as fields
from caravan.values.filling import fill as fill

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
