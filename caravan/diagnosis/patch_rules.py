"""What an error and a file together prove about a slip in the code: one rule for each kind, over the parsed file.

A rule gives an edit only where a single place in the erroneous statement and a single near name are left. Pure; it
knows no repository beyond what it is handed, and no job.
"""

import ast
import difflib
import re
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Final

from caravan.diagnosis.patch_scope import Edit, Scene, members, names_in_scope, options_of, taken_by

_NEAR: Final = 0.75  # likeness of a name that is a slip of another
_APART: Final = 0.08  # by how much it must be liker than the next


Rule = Callable[[Scene], Edit | None]


def misspelt_attribute(scene: Scene) -> Edit | None:
    """`'X' object has no attribute 'y'`: Python's own suggestion, else the class of the repository, or its options."""
    match = re.match(
        r"(?:module |type object )?'(?P<owner>[\w.]+)'(?: object)? has no attribute '(?P<name>\w+)'"
        r"(?:\. Did you mean: '(?P<meant>\w+)'\?)?",
        scene.message,
    )
    if scene.kind != "AttributeError" or match is None:
        return None
    owner, name, meant = match["owner"].rpartition(".")[2], match["name"], match["meant"]
    known = options_of(scene) if owner == "Namespace" else set(dir(_TYPES[owner])) if owner in _TYPES else None
    known = members(scene, owner) if known is None else known
    meant = _agreed(name, meant, known)
    places = [n for n in scene.nodes() if isinstance(n, ast.Attribute) and n.attr == name]
    if meant is None or len(places) != 1:
        return None
    place = places[0]
    return _end_of(scene, place, name, meant, f"{match['owner']} has no {name}, but {meant}")


_TYPES: Final = {t.__name__: t for t in (list, dict, set, tuple, str, bytes, int, float, complex, frozenset)}
"""Python's own types, whose attributes are the same wherever it runs."""


def _end_of(scene: Scene, node: ast.expr, name: str, new: str, why: str) -> Edit | None:
    """The last name of an expression replaced."""
    line = node.end_lineno or node.lineno
    end = _column(scene.text, line, node.end_col_offset or 0)
    row = scene.text.split("\n")[line - 1]
    if row[end - len(name) : end] != name:
        return None
    return Edit(line, end - len(name), end, new, f"{why}.")


def _column(text: str, line: int, offset: int) -> int:
    """The column in characters of an offset that the parser counts in bytes."""
    row = text.split("\n")[line - 1]
    return len(row.encode("utf-8")[:offset].decode("utf-8", "ignore"))


def misspelt_name(scene: Scene) -> Edit | None:
    """`name 'x' is not defined`: Python's suggestion, a module of the standard library, or a near name in scope."""
    match = re.match(
        r"name '(?P<name>\w+)' is not defined"
        r"(?:\. Did you (?:mean: '(?P<meant>\w+)'|forget to import '(?P<module>\w+)')\??)?",
        scene.message,
    )
    if scene.kind != "NameError" or match is None:
        return None
    name, meant = match["name"], match["meant"]
    places = [n for n in scene.nodes() if isinstance(n, ast.Name) and n.id == name]
    used = any(
        isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == name for n in scene.nodes()
    )
    if name in sys.stdlib_module_names and used:
        return _import(scene, name)
    meant = _agreed(name, meant, names_in_scope(scene))
    if meant is None or len(places) != 1:
        return None
    return _end_of(scene, places[0], name, meant, f"{name} is not defined, but {meant} is")


def _import(scene: Scene, module: str) -> Edit:
    """`import x` beside the first import, below what must stand before all imports."""
    body = scene.tree.body
    first = next((n for n in body if isinstance(n, ast.Import | ast.ImportFrom) and _module(n) != "__future__"), None)
    if first is None:
        told = [n for n in body if _is_head(n)]
        line = (told[-1].end_lineno or 0) + 1 if told else 1
    else:
        line = first.lineno
    return Edit(line, 0, 0, f"import {module}", f"{module} is used and not imported.", new_line=True)


def _module(node: ast.stmt) -> str:
    return (node.module or "") if isinstance(node, ast.ImportFrom) else ""


def _is_head(node: ast.stmt) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text or _module(node) == "__future__"


def misspelt_keyword(scene: Scene) -> Edit | None:
    """`f() got an unexpected keyword argument 'x'`: what the message suggests, else f's own signature."""
    match = re.search(
        r"(?P<callee>[\w.]+)\(\) got an unexpected keyword argument '(?P<name>\w+)'"
        r"(?:\. Did you mean '(?P<meant>\w+)'\?)?",
        scene.message,
    )
    if scene.kind != "TypeError" or match is None:
        return None
    name, meant = match["name"], match["meant"] or _instead(scene.message, match["name"])
    meant = meant or _nearest(name, taken_by(scene, match["callee"]))
    return _renamed_keyword(scene, name, meant, f"{match['callee']} takes {meant}, not {name}") if meant else None


def _renamed_keyword(scene: Scene, name: str, meant: str, why: str) -> Edit | None:
    calls = [n for n in scene.nodes() if isinstance(n, ast.Call)]
    places = [(c, k) for c in calls for k in c.keywords if k.arg == name]
    if len(places) != 1 or any(k.arg == meant for k in places[0][0].keywords):
        return None
    keyword = places[0][1]
    start = _column(scene.text, keyword.lineno, keyword.col_offset)
    row = scene.text.split("\n")[keyword.lineno - 1]
    if row[start : start + len(name)] != name:
        return None
    return Edit(keyword.lineno, start, start + len(name), meant, f"{why}.")


_INSTEAD: Final = (
    r"[`'\"]{0,2}NAME[`'\"]{0,2}.{0,200}?(?:[Uu]se|renamed to|replaced (?:by|with)|in favou?r of|name is now) "
    r"(?:the )?[`'\"]{1,2}(?P<meant>[\w.]+)[`'\"]{1,2}"
)


def _instead(message: str, name: str) -> str | None:
    """The name that a message tells to use instead of another one."""
    match = re.search(_INSTEAD.replace("NAME", re.escape(name)), message)
    meant = match["meant"].rpartition(".")[2] if match else ""
    return meant if meant and meant != name else None


def renamed_argument(scene: Scene) -> Edit | None:
    """A library's own words that an argument is called otherwise now: ``use `eval_strategy` instead``."""
    keywords = {k.arg for n in scene.nodes() if isinstance(n, ast.Call) for k in n.keywords if k.arg}
    told = {name: meant for name in keywords if (meant := _instead(scene.message, name))}
    if len(told) != 1 or scene.kind not in ("TypeError", "ValueError", "DeprecationError", "RuntimeError"):
        return None
    ((name, meant),) = told.items()
    return _renamed_keyword(scene, name, meant, f"The library says to use {meant} instead of {name}")


def removed_alias(scene: Scene) -> Edit | None:
    """numpy's own words on a name that it has no more: `np.float` is `float`, `np.float_` is `np.float64`."""
    match = re.search(
        r"`np\.(?P<name>\w+)` was (?:a deprecated alias for the builtin `(?P<builtin>\w+)`"
        r"|removed in the NumPy 2\.0 release\. Use `(?P<meant>(?:np\.)?\w+)` instead)",
        scene.message,
    )
    if scene.kind != "AttributeError" or match is None:
        return None
    name = match["name"]
    places = [
        n for n in scene.nodes() if isinstance(n, ast.Attribute) and n.attr == name and isinstance(n.value, ast.Name)
    ]
    if len(places) != 1 or places[0].lineno != places[0].end_lineno:
        return None
    place = places[0]
    module = place.value.id if isinstance(place.value, ast.Name) else "np"
    new = match["builtin"] or match["meant"].replace("np.", f"{module}.")
    start, end = (_column(scene.text, place.lineno, c or 0) for c in (place.col_offset, place.end_col_offset))
    return Edit(place.lineno, start, end, new, f"numpy has no {name} any more; {new} is what it was.")


def misspelt_import(scene: Scene) -> Edit | None:
    """`cannot import name 'x' from 'y'`: Python's suggestion, else the near name that the repository's module has."""
    match = re.match(
        r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'(?: \([^)]*\))?"
        r"(?:\. Did you mean: '(?P<meant>\w+)'\?)?",
        scene.message,
    )
    if scene.kind != "ImportError" or match is None:
        return None
    name, module = match["name"], match["module"]
    meant = _agreed(name, match["meant"], dir(import_module(module)) if module in _KNOWN_MODULES else ())
    places = [a for n in scene.nodes() if isinstance(n, ast.ImportFrom) for a in n.names if a.name == name]
    if meant is None or len(places) != 1:
        return None
    alias = places[0]
    start = _column(scene.text, alias.lineno, alias.col_offset)
    new = meant if alias.asname else f"{meant} as {name}"
    return Edit(alias.lineno, start, start + len(name), new, f"{match['module']} has no {name}, but {meant}.")


_KNOWN_MODULES: Final = frozenset(
    {
        "collections",
        "collections.abc",
        "contextlib",
        "dataclasses",
        "datetime",
        "functools",
        "itertools",
        "json",
        "math",
    }
    | {"os", "os.path", "pathlib", "random", "re", "time", "typing", "shutil", "tempfile", "copy", "enum", "abc"}
)
"""Modules of the standard library that can be looked into without any harm."""


def misspelt_module(scene: Scene) -> Edit | None:
    """`No module named 'a.b'`, where a is the repository's and has a module of nearly that name."""
    match = re.match(r"No module named '(?P<module>\w+(?:\.\w+)+)'", scene.message)
    if scene.kind != "ModuleNotFoundError" or match is None:
        return None
    parent, _, name = match["module"].rpartition(".")
    inside = re.compile(rf"(?:^|/){re.escape(parent.replace('.', '/'))}/(\w+)(?:\.py|/__init__\.py)$")
    known = {found[1] for file in scene.files if (found := inside.search(file))} - {"__init__", "__main__"}
    meant = None if name in known else _nearest(name, known)
    return _renamed_module(scene, match["module"], parent, meant) if meant is not None else None


def _renamed_module(scene: Scene, module: str, parent: str, meant: str) -> Edit | None:
    """The last name of the one import of a module replaced: `from a.b import c`, `from .b import c`."""
    for node in scene.nodes():
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named += [a.name for a in node.names if a.asname] if isinstance(node, ast.Import) else []
        near = isinstance(node, ast.ImportFrom) and bool(node.level)
        hits = [n for n in named if n == module or (near and n and f".{module}".endswith(f".{n}"))]
        if len(hits) != 1 or not isinstance(node, ast.stmt):
            continue
        row = scene.text.split("\n")[node.lineno - 1]
        places = [m.end() for m in re.finditer(rf"(?<![\w]){re.escape(hits[0])}(?![\w.])", row)]
        if len(places) != 1:
            return None
        last = module.rpartition(".")[2]
        return Edit(
            node.lineno, places[0] - len(last), places[0], meant, f"{parent} has no module {last}, but {meant}."
        )
    return None


def number_in_text(scene: Scene) -> Edit | None:
    """`can only concatenate str (not "int") to str`: the only part of the sum that is no text is written as one."""
    match = re.match(r"can only concatenate str \(not \"(?P<kind>\w+)\"\) to str", scene.message)
    sums = [n for n in scene.nodes() if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add)]
    inner = {id(s.left) for s in sums} | {id(s.right) for s in sums}
    outer = [s for s in sums if id(s) not in inner]
    if scene.kind != "TypeError" or match is None or match["kind"] == "NoneType" or len(outer) != 1:
        return None
    parts = list(_summed(outer[0]))
    others = [p for p in parts if not _is_text(p)]
    if len(others) != 1 or len(parts) < 2 or others[0].lineno != others[0].end_lineno:
        return None
    part = others[0]
    start, end = (_column(scene.text, part.lineno, c or 0) for c in (part.col_offset, part.end_col_offset))
    shown = scene.text.split("\n")[part.lineno - 1][start:end]
    return Edit(part.lineno, start, end, f"str({shown})", f"{shown} is a number there, not a text.")


def _summed(node: ast.expr) -> Iterable[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _summed(node.left)
        yield from _summed(node.right)
    else:
        yield node


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _agreed(name: str, suggested: str | None, known: Iterable[str]) -> str | None:
    """Python's suggestion, unless what is known has others as near: it names the first of several."""
    names = set(known)
    return suggested if suggested is not None and suggested not in names else _nearest(name, names)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The only name that is near enough, and clearly nearer than the next."""
    rated = sorted(((difflib.SequenceMatcher(None, name, k).ratio(), k) for k in set(known) - {name}), reverse=True)
    if not rated or rated[0][0] < _NEAR or (len(rated) > 1 and rated[0][0] - rated[1][0] < _APART):
        return None
    return rated[0][1]


RULES: Final[tuple[Rule, ...]] = (
    removed_alias,
    misspelt_attribute,
    misspelt_name,
    misspelt_keyword,
    renamed_argument,
    misspelt_import,
    misspelt_module,
    number_in_text,
)
"""The first that gives an edit counts."""
