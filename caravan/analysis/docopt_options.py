"""Options in a usage text: docopt's module docstring, and the texts that programs print as their help. Pure.

Also for programs in C and C++, whose parsers can't be read but whose usage texts can.
"""

import re
from collections.abc import Iterator
from typing import Final

from caravan.analysis.findings import FoundOption, Module, clean, source_line
from caravan.analysis.option_parts import imports
from caravan.analysis.python import text_of
from caravan.analysis.resolve import Resolver
from caravan.values.base import Json
from caravan.values.repo import ScriptOption

_MAX_LINES: Final = 5000
_LINE: Final = re.compile(
    r"^\s{0,12}(?P<flags>-{1,2}[A-Za-z][\w-]*(?:(?:[ =]<?[A-Za-z_]+>?)?(?:,\s*|\s*\|\s*|/)-{1,2}[A-Za-z][\w-]*)*)"
    r"(?P<value>[ =\t]+(?:<[^<>]{1,40}>|\[[^\[\]]{1,40}\]|[A-Z][A-Z_]{0,20}\b))?(?P<help>[ \t:]+\S.*)?$"
)
_DEFAULT: Final = re.compile(r"(?i)[(\[]?\bdefaults?\s*(?:is|to|=|:)?\s*[`'\"]?([^\s,;)\]`'\"]+)")
_KINDS: Final = {"int": "int", "integer": "int", "n": "int", "num": "int", "float": "float", "double": "float"}


def read_docopt(module: Module, _: Resolver) -> Iterator[FoundOption]:
    """The options of docopt's usage text."""
    if not imports(module, "docopt"):
        return
    text = next((t for s in module.strings if (t := text_of(s)) and re.search(r"(?i)usage:", t)), None)
    if text:
        yield from usage_options(module.path, text.split("\n"), 1)


def usage_options(path: str, lines: list[str], first: int) -> Iterator[FoundOption]:
    """The options that a usage text lists, one a line: flag, value's place, what it means, default."""
    for number, line in enumerate(lines[:_MAX_LINES], first):
        match = _LINE.match(line[:400]) if "-" in line[:14] else None
        if match and (match["value"] or match["help"]):
            flags = tuple(re.findall(r"(?<![\w-])-{1,2}[A-Za-z][\w-]*", match["flags"]))
            value = (match["value"] or "").strip(" =\t<>[]").lower()
            said = clean(" ".join((match["help"] or "").strip(" \t:").split()))
            flag = next((f for f in flags if f.startswith("--")), flags[0])
            kind = _KINDS.get(value, value or None)
            option = ScriptOption(flag=flag, default=_default(said), type=kind, help=said[:300])
            yield FoundOption(option, flags, source_line(path, number, line))


def _default(said: str) -> Json:
    match = _DEFAULT.search(said)
    if match is None:
        return None
    word = match[1].rstrip(".")
    for convert in (int, float):
        try:
            value = convert(word.rstrip("f") if re.fullmatch(r"[\d.]+(?:e-?\d+)?f", word) else word)
        except ValueError:
            continue
        return value if abs(value) < 1e18 else None
    return None if word.lower() in ("none", "null") else word
