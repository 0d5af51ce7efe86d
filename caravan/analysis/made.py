"""Models that a repository makes by a script of its own, as it documents: the command, and where the model lies then.

For repositories that train nothing: what they prepare is what a fine-tune begins with. Pure, over texts of a tree.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from posixpath import basename, dirname, normpath
from typing import Final, NamedTuple

from caravan.analysis.markdown import shell_blocks
from caravan.analysis.tree import SourceTree

_MOST: Final = 40
"""Scripts and documents each that are looked at."""
_SAVES: Final = re.compile(r"\bsave_pretrained\s*\(")
_TRAINS: Final = re.compile(
    r"(?i)\b(?:(?-i:Trainer)|optimi[sz]er\w*|epochs?|num_epochs|loss\w*|learning_rate|lr|batch_size|DataLoader|accelerate"
    r"|deepspeed|lightning)\b|\.(?:backward|fit|train|learn)\("
)
"""What a script speaks of that trains, or that starts a training. One that only makes a model has none of it."""
_IMPORTS: Final = re.compile(r"(?m)^\s*(?:from|import)\s+(\.*[A-Za-z_]\w*|\.+)")
_PLACE: Final = re.compile(
    r"(?i)^--?(?:o|out\w*|output[\w-]*|dest\w*|target\w*|save[\w-]*|model[\w-]*|folder|dir\w*|path|to)$"
)
_PAGE: Final = re.compile(r"(?i)(?:^|/)[^/]*\.(?:md|rst|txt)$")


class MadeModel(NamedTuple):
    """A model that is there once `command` has run in the repository's root, at `path`. `file` and `line` say so."""

    path: str
    command: str
    file: str
    line: int


def made_models(tree: SourceTree) -> tuple[MadeModel, ...]:
    """The models that documented commands make, in the order in which they are documented."""
    scripts = dict(_makers(tree))
    return tuple(dict.fromkeys(_documented(tree, scripts))) if scripts else ()


def makes_model(tree: SourceTree, script: str) -> bool:
    """Whether a script saves a model and trains none: what starts a training is another one, if there is any."""
    text = tree.text(script) if script.endswith(".py") and script in tree else None
    return text is not None and _only_makes(text, frozenset(_modules(tree)))


def _only_makes(text: str, own: frozenset[str]) -> bool:
    """Whether a script saves a model, speaks of no training, and leaves none to other files of the repository."""
    if not _SAVES.search(text) or _TRAINS.search(text):
        return False
    return not any(name.startswith(".") or name in own for name in _IMPORTS.findall(text))


def _modules(tree: SourceTree) -> Iterator[str]:
    """The names under which files of the tree may be imported."""
    for entry in tree.files():
        if entry.path.endswith(".py"):
            yield from entry.path.removesuffix(".py").split("/")


def _makers(tree: SourceTree) -> Iterator[tuple[str, str]]:
    """Scripts that save a model and train none, with their text."""
    own = frozenset(_modules(tree))
    for entry in [e for e in tree.files() if e.path.endswith(".py") and e.size < 200_000][:_MOST]:
        text = tree.text(entry.path) or ""
        if _only_makes(text, own):
            yield entry.path, text


def _documented(tree: SourceTree, scripts: dict[str, str]) -> Iterator[MadeModel]:
    pages = [e.path for e in tree.files() if _PAGE.search(e.path) and e.size < 500_000][:_MOST]
    for page in sorted(pages, key=lambda p: (p.count("/"), p)):
        text = tree.text(page) or ""
        for number, line in _commands(text):
            script, words = _started(line, page, scripts)
            path = _place(words, scripts[script]) if script else None
            if script and path:
                yield MadeModel(path, shlex.join(["python", script, *words]), page, number)


def _commands(text: str) -> Iterator[tuple[int, str]]:
    for block in shell_blocks(text):
        for offset, line in enumerate(block.text.split("\n")):
            yield block.line + offset, line.strip().lstrip("$> ").partition(" #")[0]


def _started(line: str, page: str, scripts: dict[str, str]) -> tuple[str | None, list[str]]:
    """The script that a line starts, as a path from the root, and its arguments."""
    try:
        words = shlex.split(line)
    except ValueError:
        return None, []
    if len(words) < 2 or not re.fullmatch(r"python3?", words[0]):
        return None, []
    named = normpath(words[1])
    for path in (named, normpath(f"{dirname(page)}/{named}")):
        if path in scripts:
            return path, words[2:]
    alike = [path for path in scripts if basename(path) == basename(named)]
    return (alike[0], words[2:]) if len(alike) == 1 and "/" not in named else (None, [])


def _place(words: list[str], script: str) -> str | None:
    """Where the model is saved: what the command says, else the script's default."""
    for i, word in enumerate(words):
        name, joined, value = word.partition("=")
        value = value if joined else words[i + 1] if i + 1 < len(words) else ""
        if _PLACE.match(name) and value and not value.startswith("-"):
            return _inside(value)
    if words and not words[0].startswith("-"):
        return _inside(words[0])
    return next(filter(None, map(_inside, _defaults(script))), None)


def _inside(path: str) -> str | None:
    path = normpath(path)
    return None if path.startswith(("/", "..", "~", ".")) or "$" in path else path


def _defaults(script: str) -> Iterator[str]:
    """Texts that an option for a place has by default, then what is handed to `save_pretrained` as a text."""
    try:
        tree = ast.parse(script)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    saved: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        first = node.args[0] if node.args else None
        text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
        if node.func.attr == "save_pretrained" and text:
            saved.append(text)
        if node.func.attr == "add_argument" and text and (_PLACE.match(text) or not text.startswith("-")):
            given = next((k.value for k in node.keywords if k.arg == "default"), None)
            if (value := _path_in(given)) is not None:
                yield value
    yield from saved


def _path_in(node: ast.expr | None) -> str | None:
    """A path as code writes it: a text, `Path("model")`, `HERE / "model"`; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Call) and node.args:
        return _path_in(node.args[0])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        right = _path_in(node.right)
        left = "" if isinstance(node.left, ast.Name) else _path_in(node.left)  # a name: the script's own folder
        return None if right is None or left is None else f"{left}/{right}".lstrip("/")
    return None
