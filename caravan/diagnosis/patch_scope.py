"""What a file and the repository's other files define: the names in scope, a class's members, a function's parameters.

Pure, over parsed files. It knows no error and decides nothing.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_FILES: Final = 40  # files that are looked through for a definition


@dataclass(frozen=True)
class Edit:
    """Text that replaces what stands between two columns of a line (counted in characters), or a whole new line."""

    line: int
    start: int
    end: int
    text: str
    why: str
    new_line: bool = False

    def applied(self, source: str) -> str:
        """The source after the edit."""
        rows = source.split("\n")
        if self.new_line:
            return "\n".join([*rows[: self.line - 1], self.text, *rows[self.line - 1 :]])
        row = rows[self.line - 1]
        rows[self.line - 1] = row[: self.start] + self.text + row[self.end :]
        return "\n".join(rows)


@dataclass(frozen=True)
class Scene:
    """An exception and the file of the frame that raised it; `holding` gives the parsed files that have a word.

    `files` are the paths of the repository's Python files.
    """

    kind: str
    message: str
    path: str
    line: int
    text: str
    tree: ast.Module
    holding: Callable[[str], Iterator[ast.Module]]
    files: Sequence[str] = ()

    def nodes(self) -> Iterator[ast.AST]:
        """The nodes of the innermost statement that the frame's line is in."""
        around = [n for n in ast.walk(self.tree) if isinstance(n, ast.stmt) and covers(n, self.line)]
        simple = [n for n in around if not _has_body(n)]
        if simple:
            yield from ast.walk(min(simple, key=_length))
            return
        for node in ast.walk(self.tree):  # the head of a compound statement: what stands on the line itself
            if getattr(node, "lineno", None) == self.line and isinstance(node, ast.expr | ast.keyword):
                yield node


def covers(node: ast.stmt, line: int) -> bool:
    """Whether the statement stands on that line, or around it."""
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _has_body(node: ast.stmt) -> bool:
    return bool(getattr(node, "body", None))


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno


def members(scene: Scene, owner: str) -> set[str]:
    """What objects of the one class of that name have; empty where it is not the repository's, or inherits unseen."""
    found = definitions(scene, owner, ast.ClassDef)
    if len(found) != 1:
        return set()
    (node,) = found
    body, names = getattr(node, "body", ()), set[str]()
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(part.name)
        elif isinstance(part, ast.AnnAssign | ast.Assign) and part in body:
            targets = [part.target] if isinstance(part, ast.AnnAssign) else part.targets
            names |= {t.id for t in targets if isinstance(t, ast.Name)}
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            names |= {part.attr} if isinstance(part.value, ast.Name) and part.value.id == "self" else set()
    return names


def definitions(scene: Scene, name: str, *kinds: type[ast.AST]) -> list[ast.AST]:
    """The definitions of that name in the repository; those of the erroneous file alone where it has one."""
    found: list[ast.AST] = []
    for n, tree in enumerate(scene.holding(name)):
        if n >= _FILES:
            break
        here = [d for d in ast.walk(tree) if isinstance(d, kinds) and getattr(d, "name", None) == name]
        found += here
        if n == 0 and here and tree.body and ast.dump(tree) == ast.dump(scene.tree):
            return here
    return found


def options_of(scene: Scene) -> set[str]:
    """The names under which a parser of the repository keeps its options."""
    names: set[str] = set()
    for n, tree in enumerate(scene.holding("add_argument")):
        if n >= _FILES:
            break
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
                names |= _dest(call)
    return names


def _dest(call: ast.Call) -> set[str]:
    """The name that one `add_argument` keeps its value under."""
    for keyword in call.keywords:
        if keyword.arg == "dest" and isinstance(keyword.value, ast.Constant):
            return {str(keyword.value.value)}
    flags = [str(a.value) for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    long = [f for f in flags if f.startswith("--")] or flags
    return {long[0].lstrip("-").replace("-", "_")} if long else set()


def names_in_scope(scene: Scene) -> set[str]:
    """The names that the module has, and those of the functions around the line."""
    names = set(_bound(scene.tree.body))
    for node in ast.walk(scene.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and covers(node, scene.line):
            names |= parameters(node) | set(_bound(node.body))
    return names


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that statements bind, those of inner blocks included, of inner functions and classes not."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """The names of all that a function takes."""
    a = node.args
    return {p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg)))}


def taken_by(scene: Scene, callee: str) -> set[str]:
    """What the one function of the repository takes; empty where there is none, or several."""
    _, _, last = callee.removesuffix(".__init__").rpartition(".")
    if last in ("", "__init__"):
        return set()
    classes = definitions(scene, last, ast.ClassDef)
    if len(classes) == 1:
        (node,) = classes
        body = [n for n in getattr(node, "body", ()) if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        fields = {n.target.id for n in getattr(node, "body", ()) if _is_field(n)}
        return parameters(body[0]) - {"self"} if body else fields
    found = definitions(scene, last, ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [n for n in found if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    if len(functions) != 1 or functions[0].args.kwarg is not None:
        return set()
    return parameters(functions[0]) - {"self", "cls"}


def _is_field(node: ast.AST) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
