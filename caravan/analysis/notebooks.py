"""Notebooks: their code cells as one Python text, with the lines that only IPython understands made comments."""

import json
import re
from typing import Final

MAX_CELLS: Final = 2000
_SHELL_LINE: Final = re.compile(r"(?m)^[ \t]*!((?:.*\\\n)*.*)|^[ \t]*%(cd .*)$")


def code_of(text: str) -> str | None:
    """The code of a notebook's cells, or None for what is no notebook. Shell lines (`!cmd`) become `# !cmd`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(cells, list):
        return None
    lines: list[str] = []
    for cell in cells[:MAX_CELLS]:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", "")
        whole = "".join(str(s) for s in source) if isinstance(source, list) else str(source)
        if whole.lstrip().startswith("%%"):
            continue
        lines += [f"# {line}" if line.lstrip().startswith(("!", "%", "?")) else line for line in whole.split("\n")]
    return "\n".join(lines)


def shell_of(text: str) -> str:
    """The shell commands of a notebook's cells: lines after `!`, and whole cells of `%%bash`; empty for no notebook."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    cells = document.get("cells") if isinstance(document, dict) else None
    lines: list[str] = []
    for cell in cells[:MAX_CELLS] if isinstance(cells, list) else ():
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            whole = "".join(str(s) for s in source) if isinstance(source, list) else str(source)
            if whole.lstrip().startswith(("%%bash", "%%sh", "%%shell")):
                lines += whole.lstrip().split("\n")[1:]
            elif "!" in whole or "%cd" in whole:
                lines += [shell or cd for shell, cd in _SHELL_LINE.findall(whole)]
    return "\n".join(lines)
