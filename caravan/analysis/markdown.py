"""Documents: code blocks, indented blocks and inline commands of Markdown and reStructuredText, by their headings."""

import re
from dataclasses import dataclass
from typing import Final

MAX_LINES: Final = 20_000
_FENCE: Final = re.compile(r"^(\s{0,12})(`{3,}|~{3,})\s*([\w+.-]*)")
_HEADING: Final = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_UNDERLINE: Final = re.compile(r"^(=+|-+|~+|\^+)$")
_INLINE: Final = re.compile(
    r"`((?:[A-Z_]+=\S+ )*(?:python3?|torchrun|accelerate launch|deepspeed|bash|sh|papermill)\s[^`\n]+)`"
)
_SHELL: Final = frozenset({"", "bash", "sh", "shell", "console", "zsh", "text", "terminal", "shell-session", "cmd"})


@dataclass(frozen=True, slots=True)
class Block:
    """A block that may hold commands: its text, its first line's number and the heading above it."""

    text: str
    line: int
    heading: str


def shell_blocks(text: str) -> list[Block]:
    """The blocks of a document that may hold shell commands, in order; blocks in other languages are left out."""
    lines = text.split("\n")[:MAX_LINES]
    found: list[Block] = []
    heading, i = "", 0
    while i < len(lines):
        line = lines[i]
        fence = _FENCE.match(line)
        if fence:
            end = _fence_end(lines, i + 1, fence[2])
            if fence[3].lower() in _SHELL:
                found.append(Block("\n".join(lines[i + 1 : end]), i + 2, heading))
            i = end + 1
            continue
        title = _HEADING.match(line)
        if title:
            heading = title[1]
        elif line.strip() and i + 1 < len(lines) and len(lines[i + 1]) >= 3 and _UNDERLINE.match(lines[i + 1]):
            heading = line.strip()
        elif line.startswith(("    ", "\t")) and (i == 0 or not lines[i - 1].strip()):
            end = _indented_end(lines, i)
            found.append(
                Block("\n".join(s[4:] if s[:4] == "    " else s.lstrip("\t") for s in lines[i:end]), i + 1, heading)
            )
            i = end
            continue
        else:
            found += [Block(m[1], i + 1, heading) for m in _INLINE.finditer(line)]
        i += 1
    return found


def _fence_end(lines: list[str], start: int, fence: str) -> int:
    for i in range(start, len(lines)):
        stripped = lines[i].strip()
        if stripped.startswith(fence) and not stripped.strip(fence[0]):
            return i
    return len(lines)


def _indented_end(lines: list[str], start: int) -> int:
    end = start
    while end < len(lines) and (lines[end].startswith(("    ", "\t")) or not lines[end].strip()):
        end += 1
    return end
