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
    return after, _reaches_out(before, after) or misleads(replace, before)


_OUT: Final = frozenset(
    {
        *(
            "subprocess",
            "socket",
            "socketserver",
            "urllib",
            "http",
            "requests",
            "httpx",
            "aiohttp",
            "ftplib",
            "smtplib",
        ),
        *("telnetlib", "paramiko", "ctypes", "pickle", "marshal", "shelve", "base64", "codecs", "importlib", "runpy"),
        *("pty", "shutil", "multiprocessing", "asyncio", "webbrowser", "zlib", "builtins", "code", "signal", "pip"),
        *("eval", "exec", "compile", "__import__", "system", "popen", "Popen", "execv", "execve", "execvp", "spawnl"),
        *("spawnv", "fork", "environ", "getenv", "remove", "unlink", "rmtree", "chmod", "symlink", "getattr", "open"),
        *(
            "globals",
            "__builtins__",
            "__subclasses__",
            "startfile",
            "kill",
            "putenv",
            "load_library",
            "trust_remote_code",
        ),
    }
)
"""Modules, functions and options that a correction of an error has no need to bring in: they start programs, open
addresses, read secrets, remove files, or hide what they do."""


def _reaches_out(before: str, after: str) -> str:
    """Why a change brings in what no correction needs: it is not suggested even to a person."""
    had, has = _names(before), _names(after)
    new = next((name for name in sorted(_OUT) if has.count(name) > had.count(name)), None)
    return f"it brings in {new}" if new is not None else ""


def _names(text: str) -> list[str]:
    """Every name that the code says, however it gets at it; of imports each part. Of code that is none every word."""
    if not _parses(text):
        return re.findall(r"\w+", text)
    found = list[str]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name):
            found.append(node.id)
        elif isinstance(node, ast.Attribute):
            found.append(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            found.append(node.arg)
        elif isinstance(node, ast.alias):
            found += node.name.split(".")
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += node.module.split(".")
    return found


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
