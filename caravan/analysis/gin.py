"""gin files: their bindings by the name that overrides them on a command line. Pure; a broken line is left out."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from caravan.analysis.findings import clean
from caravan.analysis.python import value_of
from caravan.values.base import Json

MAX_LINES: Final = 5000
_BINDING: Final = re.compile(r"^\s*([\w./]+)\s*=\s*(.+?)\s*$")
_BLOCK: Final = re.compile(r"^([\w./]+):\s*(?:#.*)?$")


def bindings(text: str) -> Iterator[tuple[str, Json, int]]:
    """(name, value, line): macros (`BATCH_SIZE`), parameters (`scope/module.Class.parameter`), also those of blocks.

    A value that is no literal (`%MACRO`, `@reference()`) is its text.
    """
    lines = text.split("\n")[:MAX_LINES]
    block, i = "", 0
    while i < len(lines):
        line, start = lines[i], i + 1
        i += 1
        if header := _BLOCK.match(line):
            block = header[1]
            continue
        if line.strip() and not line[0].isspace():
            block = ""
        match = _BINDING.match(line) if "=" in line and not line.lstrip().startswith("#") else None
        if match is None:
            continue
        value = match[2]
        while _open(value) and i < len(lines) and i - start < 50:
            value += " " + lines[i].strip()
            i += 1
        name = f"{block}.{match[1]}" if block and line[0].isspace() else match[1]
        yield clean(name), _literal(value), start


def _open(text: str) -> bool:
    return text.endswith("\\") or sum(text.count(c) for c in "([{") > sum(text.count(c) for c in ")]}")


def _literal(text: str) -> Json:
    for candidate in (text, text.split("#")[0].strip()):
        try:
            value = value_of(ast.parse(candidate.replace("\\ ", " ").strip(), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if value is not None or candidate == "None":
            return value
    return clean(text.split("#")[0].strip())[:300]
