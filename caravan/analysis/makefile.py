"""Makefiles: the recipes of their targets as shell text, with the file's own variables put in."""

import re
from dataclasses import dataclass
from typing import Final

MAX_LINES: Final = 10_000
_VARIABLE: Final = re.compile(r"^([A-Za-z_]\w*)\s*[:?+]?=\s*(.*)$")
_TARGET: Final = re.compile(r"^([A-Za-z0-9_./-][A-Za-z0-9_./ -]*):(?!=)")
_USE: Final = re.compile(r"\$[({](\w+)[)}]")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A target, its recipe as shell text and the number of the recipe's first line."""

    target: str
    text: str
    line: int


def recipes(text: str) -> list[Recipe]:
    """The recipes of a Makefile, in order. Never raises."""
    variables: dict[str, str] = {}
    found: list[Recipe] = []
    target, held, start = "", list[str](), 0
    for number, line in enumerate(text.split("\n")[:MAX_LINES], 1):
        if line.startswith("\t") and target:
            start = start or number
            held.append(_expanded(line.strip().lstrip("@-+"), variables))
            continue
        if held:
            found.append(Recipe(target, "\n".join(held), start))
            held, start = [], 0
        assigned, rule = _VARIABLE.match(line), _TARGET.match(line)
        if assigned:
            variables[assigned[1]] = _expanded(assigned[2].split(" #")[0].strip(), variables)[:500]
        elif rule:
            target = rule[1].split()[0]
    if held:
        found.append(Recipe(target, "\n".join(held), start))
    return found


def _expanded(text: str, variables: dict[str, str]) -> str:
    return _USE.sub(lambda m: variables.get(m[1], m[0]), text).replace("$$", "$")[:20_000]
