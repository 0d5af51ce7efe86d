"""Shell text as lines that each hold whole commands: continuations, here-documents, arrays, a batch script's header.

Pure: text in, lines out. It must not know what a command means.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_LINES: Final = 20_000
MAX_COMMAND: Final = 20_000
_PROMPT: Final = re.compile(r"^\s*(?:\$|>|%|#>|!|\(\w+\)\s*\$)\s+|^\s*[!%](?=[a-z])")
_HEREDOC: Final = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_]\w*)\1")
_READS: Final = re.compile(
    r"^\s*(?:read\s.*?\b([A-Za-z_]\w*)\s*<<|(?:export\s+|local\s+)?([A-Za-z_]\w*)=\"?\$\(\s*cat\s*<<)"
)
_RUNS: Final = re.compile(r"^\s*(?:bash|sh|ssh|sbatch|srun|sudo|docker)\b")
_OPEN: Final = re.compile(r"^\s*(?:export\s+|local\s+|readonly\s+)?[A-Za-z_]\w*\+?=(?:\"[^\"]*|'[^']*)$")
_ARRAY: Final = re.compile(r"^\s*(?:declare\s+-a\s+|local\s+|export\s+|readonly\s+)*([A-Za-z_]\w*)(\+?)=\((.*)$")
_SBATCH: Final = re.compile(r"^\s*#SBATCH\s+(.*)$")
_GPUS: Final = re.compile(r"--gpus(?:[=\s]+)(?:[a-zA-Z]\w*:)?(\d+)|-G\s*(\d+)")
_GPUS_PER_NODE: Final = re.compile(
    r"--gpus-per-node(?:[=\s]+)(?:[a-zA-Z]\w*:)?(\d+)|--gres(?:[=\s]+)gpu(?::[a-zA-Z]\w*)?:(\d+)"
)
_NODES: Final = re.compile(r"(?:--nodes(?:[=\s]+)|-N\s*)(\d+)")


class Line(NamedTuple):
    """A line's text and its number in the file."""

    number: int
    text: str


_GOES_ON: Final = re.compile(r"\s+--[a-zA-Z][\w-]*(?:[ =]|$)")


def logical_lines(text: str, first: int) -> Iterator[Line]:
    """The lines with continuations joined and prompts taken off; comments and empty lines are left out.

    A here-document that is read into a variable, and an array over several lines, are one assignment; one that a
    shell reads is lines like others; one that goes into a file is left out.
    """
    lines = text.split("\n")[:MAX_LINES]
    held, start, i = "", first, 0
    while i < len(lines):
        line = lines[i].rstrip()
        i += 1
        if not held:
            start, line = first + i - 1, _PROMPT.sub("", line)
        if not held and line.lstrip().startswith("#"):
            continue  # a comment ends with its line, whatever stands at its end
        forgotten = held and i < len(lines) and _GOES_ON.match(lines[i])  # the backslash, as documents do
        if (line.endswith("\\") or forgotten) and len(held) < MAX_COMMAND:
            held += line.removesuffix("\\") + " "
            continue
        whole, held = held + line, ""
        if not whole.strip() or whole.lstrip().startswith("#"):
            continue
        if _OPEN.match(whole):
            i, whole = _quoted(lines, i, whole)
        array, heredoc = _ARRAY.match(whole), _HEREDOC.search(whole)
        if array:
            i, whole = _array(lines, i, array)
        elif heredoc:
            end = _end(lines, i, heredoc[2])
            reads = _READS.match(whole)
            body = lines[i:end]
            if reads:
                joined = " ".join(b.rstrip().rstrip("\\").strip() for b in body)
                yield Line(start, f"{reads[1] or reads[2]}={shlex.quote(joined[:MAX_COMMAND])}")
                i = end + 1
                continue
            whole = whole[: heredoc.start()]
            i = i if _RUNS.match(whole) else end + 1
        if whole.strip():
            yield Line(start, whole.strip())
    if held.strip():
        yield Line(start, held.strip())


def _quoted(lines: list[str], i: int, opened: str) -> tuple[int, str]:
    """(next line, one assignment) for a text over several lines whose quote `opened` opens."""
    held = opened.rstrip("\\")
    mark = opened[opened.index("=") + 1]
    while i < len(lines) and len(held) < MAX_COMMAND:
        line = lines[i].rstrip()
        i += 1
        held += " " + line.rstrip("\\").strip()
        if mark in line:
            break
    return i, held


def _end(lines: list[str], start: int, word: str) -> int:
    """The line that ends a here-document; the next one where nothing does."""
    return next((j for j in range(start, min(len(lines), start + 2000)) if lines[j].strip() == word), start - 1)


def _array(lines: list[str], i: int, opened: re.Match[str]) -> tuple[int, str]:
    """(next line, one assignment) for an array that begins on the line before `i`."""
    name, more, rest = opened[1], opened[2], opened[3]
    parts: list[str] = []
    while True:
        inside = re.sub(r"(?:^|\s)#.*$", "", rest).strip().rstrip("\\").strip()
        closed = inside.endswith(")") and inside.count("(") < inside.count(")")
        parts.append(inside[:-1] if closed else inside)
        if closed or i >= len(lines) or len(parts) > 300:
            break
        rest = lines[i]
        i += 1
    return i, f"{name}{more}={shlex.quote(' '.join(p for p in parts if p)[:MAX_COMMAND])}"


def scheduler_header(text: str) -> dict[str, str]:
    """`gpus`, `gpus_per_node` and `nodes` that the header of a Slurm batch script asks for."""
    found: dict[str, str] = {}
    for line in text.split("\n", 200)[:200]:
        asked = _SBATCH.match(line)
        for name, pattern in (("gpus_per_node", _GPUS_PER_NODE), ("gpus", _GPUS), ("nodes", _NODES)):
            hit = pattern.search(asked[1]) if asked else None
            if hit:
                found.setdefault(name, next(g for g in hit.groups() if g))
    return found
