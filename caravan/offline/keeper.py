"""Where better prompts go: what this room needs of it, as a Protocol."""

from dataclasses import dataclass
from typing import Protocol

from caravan.values.prompts import Prompt


@dataclass(frozen=True)
class Shelved:
    """Where a version is kept, in words, and the command (after `main.py`) by which runs use it."""

    where: str
    use: str


@dataclass(frozen=True)
class Promoted:
    """Whether runs use a version from now on, and where that holds or why not, in words."""

    done: bool
    said: str


class Keeper(Protocol):
    """Knows the prompts in force and keeps better ones; what `main.py` hands in does so at home and in LangFuse."""

    def get(self, name: str) -> Prompt:
        """The version in force."""

    def keep(self, prompt: Prompt, label: str) -> Shelved:
        """Keep a version under that label. Keeping it twice is keeping it once."""

    def promote(self, prompt: Prompt) -> Promoted:
        """Let runs use a version that is kept, or say why that can't be."""
