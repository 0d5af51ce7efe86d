"""A change of the user's code as a model suggests it: edits of lines as they stand, made into a diff, never applied.

Each edit must name lines that the file has exactly once; the changed file must parse; nothing in the diff may look like
a secret. The diff is made here against the file's own text, so it applies, whatever line numbers a model would count.
"""

import ast
import difflib
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from caravan.agent.qwen.bringing import brings_in
from caravan.agent.qwen.guard import Refused
from caravan.agent.qwen.replies import Edit, PatchReply
from caravan.agent.qwen.words import misleads
from caravan.values.masking import mask

_FILES: Final = 3
_CHANGED: Final = 40  # lines: more is no suggestion any more
_AROUND: Final = 40  # lines of a file around a frame that the model is shown
_SHOWN: Final = 3  # frames
_FRAME: Final = re.compile(r"File \"(?P<path>[^\"]{1,500})\", line (?P<line>\d{1,7})")


def sources(lines: Sequence[str], files: Sequence[str], read: Callable[[str], str | None]) -> str:
    """The files of the repository around the frames of a traceback, the innermost frames first; empty: none is."""
    found: dict[tuple[str, int], str] = {}
    for path, number in reversed(list(_frames(lines, files))):
        text = read(path)
        if text is None or len(found) >= _SHOWN or (path, number) in found:
            continue
        rows = text.split("\n")
        begin = max(0, number - _AROUND)
        shown = "\n".join(rows[begin : number + _AROUND])
        found[path, number] = f"=== {path}, lines {begin + 1} to {min(len(rows), number + _AROUND)}\n{shown}"
    return "\n".join(found.values())


def _frames(lines: Sequence[str], files: Sequence[str]) -> Iterator[tuple[str, int]]:
    known = set(files)
    for line in lines:
        for match in _FRAME.finditer(line):
            parts = [p for p in posixpath.normpath(match["path"]).split("/") if p]
            path = next((end for n in range(len(parts)) if (end := "/".join(parts[n:])) in known), None)
            if path is not None:
                yield path, int(match["line"])


def made(
    reply: PatchReply, files: Sequence[str], read: Callable[[str], str | None], secrets: Sequence[str] = ()
) -> tuple[str, tuple[Refused, ...]]:
    """The edits as one unified diff, which is empty where any of them can't be made, and why."""
    texts: dict[str, str] = {}
    for edit in reply.edits:
        before = texts.get(edit.file) or (read(edit.file) if edit.file in files else None)
        after, why = _edited(before, edit)
        if why:
            return "", (Refused(f"patch of {edit.file[:60]}", why),)
        texts[edit.file] = after
    if not texts:
        return "", ()
    if len(texts) > _FILES:
        return "", (Refused("patch", f"it changes more than {_FILES} files"),)
    diff = "".join(_diff(path, read(path) or "", text) for path, text in texts.items())
    changed = sum(row.startswith(("+", "-")) and not row.startswith(("+++", "---")) for row in diff.split("\n"))
    if changed > _CHANGED:
        return "", (Refused("patch", f"it changes {changed} lines"),)
    if mask(diff, tuple(secrets)) != diff:
        return "", (Refused("patch", "a line of it looks like a secret"),)
    return diff, ()


def _edited(before: str | None, edit: Edit) -> tuple[str, str]:
    if before is None:
        return "", "the repository has no such file"
    find, replace = _as_written(edit.find, before), _as_written(edit.replace, before)
    if not find.strip() or before.count(find) != 1:
        return "", f"its lines stand there {before.count(find) if find.strip() else 'no'} times"
    after = before.replace(find, replace)
    if after == before:
        return "", "it changes nothing"
    if edit.file.endswith(".py") and not _parses(after):
        return "", "the changed file is no Python"
    if not edit.file.endswith(".py"):
        return "", "a change is suggested of Python files alone"
    new = brings_in(before, after)
    return after, f"it brings in {new}" if new else misleads(replace, before)


def _as_written(text: str, whole: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in whole else text


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _diff(path: str, before: str, after: str) -> str:
    tab = "\t" if re.search(r"\s", path) else ""  # a name with a space would end there
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))
    rows = difflib.unified_diff(old, new, fromfile=f"a/{path}{tab}", tofile=f"b/{path}{tab}")
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)
