"""Documents: code blocks, indented blocks, inline commands of Markdown, reStructuredText and HTML, by their headings.

Pure: text in, blocks out. It must not know what a command is.
"""

import html
import re
from dataclasses import dataclass, field
from typing import Final

MAX_LINES: Final = 20_000
MAX_CONTEXT: Final = 600
_FENCE: Final = re.compile(r"^(?:>\s?)?(\s{0,12})(`{3,}|~{3,}|:{3,}(?=\s*\{code))\s*(?:\{[\w-]+\}\s*)?\{?\.?([\w+.-]*)")
_HEADING: Final = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_HTML_HEADING: Final = re.compile(r"(?i)^\s*<h([1-6])[^>]*>(.*?)</h\1>")
_SUMMARY: Final = re.compile(r"(?i)<summary[^>]*>(.*?)</summary>")
_UNDERLINE: Final = re.compile(r"^(=+|-+|~+|\^+|\*+|\"+)$")
_INLINE: Final = re.compile(
    r"`((?:[A-Z_]+=\S+ )*(?:python3?|torchrun|accelerate launch|deepspeed|bash|sh|sbatch|papermill|make|mpirun)\s"
    r"[^`\n]+)`"
)
_INLINE_CONSOLE: Final = re.compile(r"`([a-z][\w-]{1,30} [a-z][\w-]+(?: [^`\n]{0,200})?)`")
_PRE: Final = re.compile(r"(?i)<(pre|code)\b[^>]*>(.*)")
_PRE_END: Final = re.compile(r"(?i)</(?:pre|code)>")
_TAG: Final = re.compile(r"<[^<>]{1,200}>")
_PLACES: Final = re.compile(
    r"<(?=/?(?:a|b|i|em|span|div|p|br|code|pre|strong|kbd|sub|sup|font|td|tr|li|ul)\b)[^<>]{0,200}>", re.I
)
_SHELL: Final = frozenset(
    {
        *("", "bash", "sh", "shell", "console", "zsh", "text", "terminal", "shell-session", "cmd", "txt", "plaintext"),
        *("shellsession", "sh-session", "commandline", "cli", "none", "code", "bat", "powershell", "batch", "plain"),
        *(
            "shellscript",
            "python3",
            "bash-session",
            "fish",
            "ps1",
            "prompt",
            "code-block",
            "sourcecode",
            "parsed-literal",
        ),
    }
)
_PYTHON_COMMAND: Final = re.compile(
    r"(?m)^[ \t]*[$!>]?[ \t]*(?:python3?|torchrun|accelerate launch|deepspeed|bash|sh)\s+[\w./-]+"
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block that may hold commands: its text, its first line's number and the heading above it.

    `context` holds the headings above that one and the words just before the block.
    """

    text: str
    line: int
    heading: str
    context: str = field(default="", compare=False)


@dataclass
class _Page:
    """What was read so far: the headings by their level, the last words of prose, the blocks."""

    headings: dict[int, str] = field(default_factory=dict)
    prose: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    @property
    def heading(self) -> str:
        return self.headings[max(self.headings)] if self.headings else ""

    def title(self, level: int, text: str) -> None:
        self.headings = {k: v for k, v in self.headings.items() if k < level} | {level: _plain(text)}
        self.prose = []

    def add(self, text: str, line: int) -> None:
        context = " ".join([*(self.headings[k] for k in sorted(self.headings)), *self.prose[-3:]])
        self.blocks.append(Block(text, line, self.heading, context[:MAX_CONTEXT]))


def _plain(text: str) -> str:
    return _TAG.sub("", text).strip()


def shell_blocks(text: str) -> list[Block]:
    """The blocks of a document that may hold shell commands, in order; blocks in other languages are left out."""
    lines = text.split("\n")[:MAX_LINES]
    page, i = _Page(), 0
    while i < len(lines):
        i = (
            _fenced(lines, i, page)
            or _titled(lines, i, page)
            or _marked_up(lines, i, page)
            or _indented(lines, i, page)
        )
    return page.blocks


def _fenced(lines: list[str], i: int, page: _Page) -> int:
    """The line after a fenced block, 0 where none begins here. A block may stand in a note that is fenced itself."""
    fence = _FENCE.match(lines[i])
    if not fence:
        return 0
    directive = re.search(r"\{([\w-]+)\}", lines[i])
    if directive and directive[1] not in ("code-block", "code", "code-cell", "sourcecode"):
        return i + 1 if len(fence[2]) > 3 or fence[2][0] == ":" else _fence_end(lines, i + 1, fence[2]) + 1
    end = _fence_end(lines, i + 1, fence[2])
    body = lines[i + 1 : end]
    if lines[i].startswith(">"):
        body = [re.sub(r"^>\s?", "", line) for line in body]
    inner = "\n".join(body)
    language = fence[3].lower()
    if language in _SHELL or (
        language in ("python", "py", "yaml", "diff") and _PYTHON_COMMAND.match(inner.lstrip("\n"))
    ):
        page.add(inner, i + 2)
    return end + 1


def _titled(lines: list[str], i: int, page: _Page) -> int:
    line = lines[i]
    title, tagged, summary = _HEADING.match(line), _HTML_HEADING.match(line), _SUMMARY.search(line)
    if title:
        page.title(len(title[1]), title[2])
    elif tagged:
        page.title(int(tagged[1]), tagged[2])
    elif summary:
        page.title(7, summary[1])
    elif line.strip() and i + 1 < len(lines) and len(lines[i + 1]) >= 3 and _UNDERLINE.match(lines[i + 1].rstrip()):
        page.title({"=": 1, "*": 1, "-": 2, "~": 3}.get(lines[i + 1][0], 4), line.strip())
        return i + 2
    else:
        return 0
    return i + 1


def _marked_up(lines: list[str], i: int, page: _Page) -> int:
    """A `<pre>` block of HTML."""
    opened = _PRE.search(lines[i])
    if not opened or (opened[1].lower() == "code" and _PRE_END.search(opened[2])):
        return 0
    end, held = i, [opened[2]]
    while not _PRE_END.search(held[-1]) and end + 1 < len(lines) and end - i < 200:
        end += 1
        held.append(lines[end])
    held[-1] = _PRE_END.split(held[-1])[0]
    page.add("\n".join(html.unescape(_PLACES.sub("", h)) for h in held), i + 1)
    return end + 1


def _indented(lines: list[str], i: int, page: _Page) -> int:
    """An indented block, else a line of prose with the commands in it; always the next line to read."""
    line = lines[i]
    if line.startswith(("    ", "\t")) and (i == 0 or not lines[i - 1].strip()):
        end = _indented_end(lines, i)
        page.add("\n".join(s[4:] if s[:4] == "    " else s.lstrip("\t") for s in lines[i:end]), i + 1)
        return end
    if line.strip():
        page.prose.append(line.strip()[:300])
        for match in _INLINE.finditer(line):
            page.add(match[1], i + 1)
        for match in _INLINE_CONSOLE.finditer(line):
            if not _INLINE.match(match[0]):
                page.add(match[1], i + 1)
    return i + 1


def _fence_end(lines: list[str], start: int, fence: str) -> int:
    for i in range(start, len(lines)):
        stripped = lines[i].lstrip("> ").strip()
        if stripped.startswith(fence) and not stripped.strip(fence[0]):
            return i
    return len(lines)


def _indented_end(lines: list[str], start: int) -> int:
    end = start
    while end < len(lines) and (lines[end].startswith(("    ", "\t")) or not lines[end].strip()):
        end += 1
    return end
