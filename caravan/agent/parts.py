"""By which of its parts a repository is known again: digests of where it is, of its program, of what it installs.

The digest of all code (`lessons.code_digest`) is another one after any edit. What a lesson depends on is less: one on
packages on the dependency files, one on an option on the program that takes it. Pure but for reading the tree.
"""

import ast
import json
from collections.abc import Iterable
from typing import Any, Final

from caravan.analysis.tree import MAX_TEXT, SourceTree
from caravan.values.base import Json, canonical_json, sha256_text
from caravan.values.errors import UsageError
from caravan.values.failure import PastCase
from caravan.values.lesson_fields import DEPENDENCIES, PROGRAM, REPOSITORY
from caravan.values.repo import RepoProfile

_PARTS: Final = (REPOSITORY, PROGRAM, DEPENDENCIES)


def known_by(tree: SourceTree, profile: RepoProfile, places: Iterable[str]) -> dict[str, Json]:
    """The digests by their keys in a lesson's context. `places`: digests of where the repository is, the surest last.

    Without dependency files their digest is that of none: it only counts beside the repository's own.
    """
    return {
        REPOSITORY: tuple(places)[-1],
        PROGRAM: program_digest(tree, profile),
        DEPENDENCIES: _digest(tree, profile.dependency_files),
    }


def program_digest(tree: SourceTree, profile: RepoProfile) -> str:
    """SHA-256 over the entry point without its comments and docstrings, the options it takes, the command that is
    documented for it and the configuration that it reads."""
    options = sorted([o.flag, o.type, canonical_json(o.default), o.required, list(o.choices)] for o in profile.options)
    entry = (profile.entry_point,) if profile.entry_point else ()
    told: Json = [
        profile.entry_point,
        profile.launch_command,
        options,
        _digest(tree, entry),
        _digest(tree, profile.config_files),
    ]
    return sha256_text(canonical_json(told))


def with_parts(cases: Iterable[PastCase], context: dict[str, Json]) -> tuple[PastCase, ...]:
    """The cases, with the parts among `same` that they share with the run whose context that is."""
    return tuple(_with_parts(case, context) for case in cases)


def _with_parts(case: PastCase, context: dict[str, Json]) -> PastCase:
    shared = [key for key in _PARTS if context.get(key) is not None and case.context.get(key) == context[key]]
    return case.model_copy(update={"same": tuple(dict.fromkeys((*case.same, *shared)))})


def _digest(tree: SourceTree, paths: Iterable[str]) -> str:
    """Over paths and contents; files that can't be read count as empty."""
    return sha256_text("\n".join(f"{path}\0{sha256_text(_text(tree, path))}" for path in sorted(set(paths))))


def _text(tree: SourceTree, path: str) -> str:
    """What of a file makes a difference to what runs."""
    try:
        text = tree.read_bytes(path, limit=MAX_TEXT).decode("utf-8", "replace").replace("\r\n", "\n")
    except UsageError:  # the tree notes it
        return ""
    if path.endswith(".py"):
        return _program_of(text)
    if path.endswith(".ipynb"):
        return _cells_of(text)
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def _program_of(text: str) -> str:
    """Python without comments, docstrings and layout; what does not parse as it is."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return ast.dump(module)


def _cells_of(notebook: str) -> str:
    try:
        cells: Any = json.loads(notebook)["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    except (ValueError, KeyError, TypeError, RecursionError):
        return notebook
