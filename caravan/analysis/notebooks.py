"""Notebooks: their code cells as one Python text, with the lines that only IPython understands made comments."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

MAX_CELLS: Final = 2000
_SHELL_LINE: Final = re.compile(r"(?m)^[ \t]*!((?:.*\\\n)*.*)|^[ \t]*%(cd .*)$")


def code_of(text: str) -> str | None:
    """The code of a notebook's cells, or None for what is no notebook. Shell lines (`!cmd`) become `# !cmd`."""
    cells = _cells(text)
    if cells is None:
        return None
    return "\n".join(_python(source) for cell in _of_code(cells) if (source := _source(cell)) is not None)


def parameters_of(text: str) -> str:
    """The code of the first cell that is tagged `parameters`: what papermill sets anew; empty where there is none."""
    for cell in _of_code(_cells(text) or []):
        about = cell.get("metadata")
        tags = about.get("tags") if isinstance(about, dict) else None
        if isinstance(tags, list) and "parameters" in tags:
            return _python(_source(cell) or "")
    return ""


def _cells(text: str) -> list[Any] | None:
    """All cells, whatever they are; None for what is no notebook."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    cells = document.get("cells") if isinstance(document, dict) else None
    return cells[:MAX_CELLS] if isinstance(cells, list) else None


def _of_code(cells: list[Any]) -> Iterator[dict[str, Any]]:
    return (cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code")


def _text(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(str(s) for s in source) if isinstance(source, list) else str(source)


def _source(cell: dict[str, Any]) -> str | None:
    """The cell's text; None where another program than Python reads it (`%%bash`)."""
    whole = _text(cell)
    return None if whole.lstrip().startswith("%%") else whole


def _python(source: str) -> str:
    lines = source.split("\n")
    return "\n".join(f"# {line}" if line.lstrip().startswith(("!", "%", "?")) else line for line in lines)


def shell_of(text: str) -> str:
    """The shell commands of a notebook's cells: lines after `!`, and whole cells of `%%bash`; empty for no notebook."""
    lines: list[str] = []
    for cell in _of_code(_cells(text) or []):
        whole = _text(cell)
        if whole.lstrip().startswith(("%%bash", "%%sh", "%%shell")):
            lines += whole.lstrip().split("\n")[1:]
        elif "!" in whole or "%cd" in whole:
            lines += [shell or cd for shell, cd in _SHELL_LINE.findall(whole)]
    return "\n".join(lines)
