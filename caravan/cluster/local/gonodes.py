"""What a parsed template is made of. Pure."""

from dataclasses import dataclass, field
from typing import Any


class Wrong(Exception):
    """A template that can't be parsed (`parsing`) or evaluated, in Go's words.

    `at` is the place in the template's text of what went wrong while evaluating, and `said` how that is written there.
    """

    def __init__(self, text: str, *, parsing: bool = False, at: int = 0, said: str = "") -> None:
        super().__init__(text)
        self.parsing = parsing
        self.at = at
        self.said = said


@dataclass
class Command:
    """Operands in a row: the first is called when it is a function. `at` and `said` as in Wrong, of all and of the
    last one."""

    operands: list[Any]
    at: int = 0
    said: str = ""
    last_at: int = 0
    last_said: str = ""


@dataclass
class Pipe:
    """Commands whose values are handed on; `names` are the variables that get the last one, new with `declares`."""

    commands: list[Command]
    names: list[str] = field(default_factory=list)
    declares: bool = False


@dataclass(frozen=True)
class Chain:
    """A variable, the dot or a parenthesis, and the fields behind it."""

    root: Any  # "$name", "." or a Pipe
    fields: tuple[str, ...]
    at: int = 0
    said: str = ""


@dataclass(frozen=True)
class Word:
    """A function or a constant by name."""

    name: str
    at: int = 0


@dataclass
class Node:
    """`text`, `pipe`, or a block `if`, `with`, `range` with its two bodies."""

    kind: str
    text: str = ""
    pipe: Pipe | None = None
    body: "list[Node]" = field(default_factory=list)
    other: "list[Node]" = field(default_factory=list)
    line: int = 1
    at: int = 0  # where an action's words begin in the template's text
