"""A suggested change of the user's code, as a unified diff: only where it follows from the error and the file itself.

It is shown and never applied. What each error allows to be concluded stands in `patch_rules.py`; here are the frame
that it happened in, the file it belongs to, and the checks: the file is the one that ran, the changed one parses, the
change is one line (or an import), and nothing in the diff looks like a secret.
"""

import ast
import difflib
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from caravan.diagnosis.patch_rules import RULES
from caravan.diagnosis.patch_scope import Edit, Scene
from caravan.values.masking import mask

_FRAME: Final = re.compile(r"^\s*File \"(?P<path>[^\"]{1,500})\", line (?P<line>\d{1,7})(?:, in (?P<name>.{1,200}))?$")
_RAISED: Final = re.compile(r"^(?:[\w.]+\.)?(?P<kind>[A-Z]\w*(?:Error|Exception)): (?P<text>.{1,2000})$")
_FOREIGN: Final = ("site-packages/", "dist-packages/", "/lib/python", "<frozen", "<string>")
_MOST_BYTES: Final = 1_000_000
_CONTEXT: Final = 3


@dataclass(frozen=True)
class Sources:
    """The repository's Python files by their paths, and the text of one as it is there; None for what can't be read."""

    files: tuple[str, ...]
    read: Callable[[str], str | None]


@dataclass(frozen=True)
class Patch:
    """A suggested change: the file and line it is in, the diff, and in a sentence what it follows from."""

    path: str
    line: int
    diff: str
    why: str


def suggest(lines: Sequence[str], sources: Sources, secrets: Sequence[str] = ()) -> Patch | None:
    """The change that follows from the log's lines and the repository's files; None where none does for certain.

    `lines` hold a traceback with its frames. Never raises, whatever they and the files say.
    """
    raised = _last_raised(lines)
    frame = _own_frame(lines, sources) if raised is not None else None
    if raised is None or frame is None:
        return None
    path, number, text = frame
    tree = _parsed(text)
    if tree is None:
        return None
    scene = Scene(raised[0], raised[1], path, number, text, tree, _others(path, sources), sources.files)
    for rule in RULES:
        edit = rule(scene)
        if edit is not None:
            return _checked(scene, edit, secrets, "\r\n" if "\r\n" in (sources.read(path) or "") else "\n")
    return None


def _last_raised(lines: Sequence[str]) -> tuple[str, str] | None:
    """The kind and the words of the exception that ended the program: of the first traceback, which matters most."""
    inside = False
    for line in lines:
        inside = inside or bool(_FRAME.match(line))
        match = _RAISED.match(line.strip()) if inside else None
        if match is not None:
            return match["kind"], match["text"]
    return None


def _own_frame(lines: Sequence[str], sources: Sources) -> tuple[str, int, str] | None:
    """Path, line and text of the innermost frame that is in the repository, if the file is the one that ran."""
    found: tuple[str, int, str] | None = None
    for at, line in enumerate(lines):
        if _RAISED.match(line.strip()) and found is not None:
            break
        match = _FRAME.match(line)
        if match is None or any(part in match["path"] for part in _FOREIGN):
            continue
        path = _in_repository(match["path"], sources.files)
        text = _plain_ends(sources.read(path)) if path is not None else None
        if path is None or text is None or len(text) > _MOST_BYTES:
            continue
        number, rows = int(match["line"]), text.split("\n")
        shown = lines[at + 1].strip() if at + 1 < len(lines) else ""
        if 0 < number <= len(rows) and shown and rows[number - 1].strip().startswith(shown.rstrip("…")):
            found = path, number, text
    return found


def _plain_ends(text: str | None) -> str | None:
    """A text whose lines all end in the same way, with plain ends; None for any other."""
    plain = text.replace("\r\n", "\n") if text is not None else None
    mixed = plain is None or text is None or "\r" in plain or text.count("\r\n") not in (0, text.count("\n"))
    return None if mixed else plain


def _in_repository(path: str, files: Sequence[str]) -> str | None:
    """The file of the repository that a path in the job is, by the longest end of it; None: none."""
    parts = [p for p in posixpath.normpath(path).split("/") if p]
    known = set(files)
    return next((end for n in range(len(parts)) if (end := "/".join(parts[n:])) in known), None)


def _others(path: str, sources: Sources) -> Callable[[str], Iterator[ast.Module]]:
    """The parsed files in which a word occurs, the erroneous one first."""

    def holding(word: str) -> Iterator[ast.Module]:
        for name in (path, *(f for f in sources.files if f != path)):
            text = sources.read(name)
            if text and word in text and len(text) <= _MOST_BYTES and (tree := _parsed(text)) is not None:
                yield tree

    return holding


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _checked(scene: Scene, edit: Edit, secrets: Sequence[str], end: str) -> Patch | None:
    """The edit as a diff, where the changed file parses and no line of the diff had to be masked.

    `end` is how the file's lines end.
    """
    changed = edit.applied(scene.text)
    if changed == scene.text or _parsed(changed) is None:
        return None
    diff = _diff(scene.path, *(text.replace("\n", end) for text in (scene.text, changed)))
    if not diff or mask(diff, tuple(secrets)) != diff:
        return None
    return Patch(scene.path, edit.line, diff, edit.why)


def _diff(path: str, before: str, after: str) -> str:
    tab = "\t" if re.search(r"\s", path) else ""  # a name with a space would end there
    old, new = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (before, after))
    rows = difflib.unified_diff(old, new, fromfile=f"a/{path}{tab}", tofile=f"b/{path}{tab}", n=_CONTEXT)
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)
