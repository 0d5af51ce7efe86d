"""Python files by `ast`: imports, calls, definitions, literals. Nothing is ever imported or run; opens no file."""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from posixpath import dirname, join, normpath
from typing import Any, Final

from caravan.analysis.findings import Call, Import, Module, clean
from caravan.analysis.walking import walk
from caravan.values.base import Json

MAX_SOURCE: Final = 500_000
"""Characters of a Python file that is parsed; a longer one is generated data."""
_MAX_LITERAL_DEPTH: Final = 12
_MAX_STRING: Final = 10_000
_MAX_ITEMS: Final = 1000
_DEFINITIONS: Final = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class NotLiteral(Exception):
    """The expression's value can't be known without running it."""


def read_module(path: str, text: str) -> Module:
    """The parsed file. Never raises: a file that does not parse gives a module with `error` set."""
    if len(text) > MAX_SOURCE:
        return Module(path, error=f"{path} is too long to be parsed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the repository are not ours to report
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        line = getattr(error, "lineno", None) or 0
        return Module(path, error=f"{path}:{line} does not parse as Python 3: {reason}")
    return _module(path, text, tree)


def _module(path: str, text: str, tree: ast.Module) -> Module:
    found: dict[type[ast.AST], list[Any]] = {}
    for node in walk(tree):  # iterative: no depth of nesting can overflow it
        found.setdefault(type(node), []).append(node)
    calls = (Call(name, node) for node in found.get(ast.Call, []) if (name := dotted(node.func)))
    functions = [*found.get(ast.FunctionDef, []), *found.get(ast.AsyncFunctionDef, [])]
    return Module(
        path=path,
        lines=tuple(text.split("\n")),
        imports=tuple(_imports(found)),
        calls=tuple(sorted(calls, key=lambda c: (c.node.lineno, c.node.col_offset))),
        functions={f.name: f for f in reversed(functions)},
        classes={c.name: c for c in reversed(found.get(ast.ClassDef, []))},
        constants=_constants(tree),
        subscripts=tuple(found.get(ast.Subscript, [])),
        strings=tuple(c for c in found.get(ast.Constant, []) if isinstance(c.value, str)),
        loops=tuple(found.get(ast.For, [])),
        attributes=tuple(a for a in found.get(ast.Assign, []) if isinstance(a.targets[0], ast.Attribute)),
        whiles=tuple(found.get(ast.While, [])),
        main_line=next((s.lineno for s in tree.body if _is_main_guard(s)), None),
        runs_at_top=next((s.lineno for s in tree.body if _runs(s)), None),
    )


def _imports(found: dict[type[ast.AST], list[Any]]) -> Iterator[Import]:
    for node in found.get(ast.Import, []):
        for alias in node.names:
            yield Import(alias.name, (), 0, node.lineno, (alias.asname or alias.name.split(".")[0],))
    for node in found.get(ast.ImportFrom, []):
        names, bound = tuple(a.name for a in node.names), tuple(a.asname or a.name for a in node.names)
        yield Import(node.module or "", names, node.level, node.lineno, bound)


def _constants(tree: ast.Module) -> dict[str, ast.Assign | ast.AnnAssign]:
    """Assignments at the top of the module (also below `if`, `with`, `try`); the first one of a name counts."""
    constants: dict[str, ast.Assign | ast.AnnAssign] = {}
    body = list(tree.body)
    body += [inner for s in tree.body if isinstance(s, ast.If | ast.With | ast.Try) for inner in s.body]
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            constants.setdefault(statement.targets[0].id, statement)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            constants.setdefault(statement.target.id, statement)
    return constants


def _is_main_guard(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If) or not isinstance(statement.test, ast.Compare):
        return False
    sides = (statement.test.left, *statement.test.comparators)
    names = {s.id for s in sides if isinstance(s, ast.Name)}
    return "__name__" in names and any(isinstance(s, ast.Constant) and s.value == "__main__" for s in sides)


def _runs(statement: ast.stmt) -> bool:
    """Whether a statement at the top of a module does work when the file is started: a loop or a bare call."""
    if isinstance(statement, _DEFINITIONS):
        return False
    if isinstance(statement, ast.For | ast.While | ast.With):
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)


def dotted(node: ast.AST) -> str:
    """`a.b.c` for such an expression, `.c` for an attribute of anything else, "" for what has no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif parts:
        parts.append("")
    return ".".join(reversed(parts))


def keyword(call: ast.Call, *names: str) -> ast.expr | None:
    """The value of the first keyword argument that is named so, or None."""
    return next((k.value for name in names for k in call.keywords if k.arg == name), None)


def value_of(node: ast.expr | None, module: Module | None = None) -> Json:
    """The JSON value of a literal expression, None where it is none or can't be known.

    With `module`, its constants are followed, and paths made of literals and the file's own directory are put
    together (`Path(__file__).parent / "data"` is the path from the repository's root).
    """
    try:
        return None if node is None else _value(node, module, 0)
    except (NotLiteral, ArithmeticError, TypeError, ValueError):
        return None


def text_of(node: ast.expr | None, module: Module | None = None) -> str | None:
    """`value_of` where it is a text, else None."""
    value = value_of(node, module)
    return value if isinstance(value, str) else None


def _value(node: ast.expr, module: Module | None, depth: int) -> Json:
    if depth > _MAX_LITERAL_DEPTH:
        raise NotLiteral
    if isinstance(node, ast.Constant):
        return _plain(node.value)
    if isinstance(node, ast.List | ast.Tuple | ast.Dict) and _length(node) > _MAX_ITEMS:
        raise NotLiteral  # data, no setting
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(e, module, depth + 1) for e in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(k, module, depth + 1) if k else None for k in node.keys]
        return {str(k): _value(v, module, depth + 1) for k, v in zip(keys, node.values, strict=True)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(_value(node.operand, module, depth + 1))
    if isinstance(node, ast.BinOp):
        return _operation(node, module, depth)
    if isinstance(node, ast.Name) and module and (found := module.constants.get(node.id)) and found.value:
        return _value(found.value, module, depth + 1)
    if isinstance(node, ast.Call | ast.Attribute | ast.Subscript | ast.Name) and module:
        return _path(node, module, depth)
    raise NotLiteral


def _length(node: ast.List | ast.Tuple | ast.Dict) -> int:
    return len(node.keys if isinstance(node, ast.Dict) else node.elts)


def _plain(value: object) -> Json:
    if isinstance(value, str):
        if len(value) > _MAX_STRING:
            raise NotLiteral
        return clean(value)
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 1 << 63 else None
    if isinstance(value, float) and value - value == 0:  # finite
        return value
    raise NotLiteral


def _number(value: Json) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotLiteral
    return value


def _operation(node: ast.BinOp, module: Module | None, depth: int) -> Json:
    left, right = (_value(side, module, depth + 1) for side in (node.left, node.right))
    if isinstance(left, str) and isinstance(right, str):
        if isinstance(node.op, ast.Div):
            return normpath(join(left, right))
        if isinstance(node.op, ast.Add):
            return _plain(left + right)
    a, b = _number(left), _number(right)
    if isinstance(node.op, ast.Mult):
        return _plain(a * b)
    if isinstance(node.op, ast.Add | ast.Sub):
        return _plain(a + b if isinstance(node.op, ast.Add) else a - b)
    if isinstance(node.op, ast.Div | ast.FloorDiv):
        return _plain(a / b if isinstance(node.op, ast.Div) else a // b)
    if isinstance(node.op, ast.Pow) and abs(a) <= 64 and abs(b) <= 64:
        return _plain(float(a) ** b if b < 0 else a**b)
    raise NotLiteral


def _path(node: ast.expr, module: Module, depth: int) -> Json:
    """A path expression from the repository's root: Path(x), os.path.join(x, y), dirname(__file__), x.parent."""
    if isinstance(node, ast.Name):
        if node.id == "__file__":
            return module.path
        raise NotLiteral
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        return dirname(str(_value(node.value, module, depth + 1))) or "."
    if not isinstance(node, ast.Call):
        raise NotLiteral
    last = dotted(node.func).rsplit(".", 1)[-1]
    if last in ("resolve", "absolute", "expanduser") and isinstance(node.func, ast.Attribute):
        return _value(node.func.value, module, depth + 1)
    parts = [_value(a, module, depth + 1) for a in node.args]
    if not parts or not all(isinstance(p, str) for p in parts):
        raise NotLiteral
    if last in ("Path", "PurePath", "join"):
        return normpath(join(*parts))
    if last in ("abspath", "realpath", "str"):
        return parts[0]
    if last == "dirname":
        return dirname(parts[0]) or "."
    raise NotLiteral


def module_paths(paths: frozenset[str]) -> Mapping[str, str]:
    """Dotted module name → file, for all Python files; names also without a leading `src`."""
    names: dict[str, str] = {}
    for path in sorted(paths, key=lambda p: (-p.count("/"), p)):
        stem = re.sub(r"(?:/__init__)?\.py$", "", path).replace("/", ".")
        names[stem] = path
        if stem.startswith("src."):
            names[stem[4:]] = path
    return names


def imported_files(module: Module, names: Mapping[str, str]) -> tuple[tuple[str, Import], ...]:
    """The repository's own files that a module imports, with the import, in order."""
    here = dirname(module.path).replace("/", ".")
    found: dict[str, Import] = {}
    for item in module.imports:
        if item.level:
            parts = here.split(".") if here else []
            keep = parts[: len(parts) - item.level + 1] if item.level > 1 else parts
            bases = [".".join([*keep, item.module] if item.module else keep)]
        else:
            bases = [f"{here}.{item.module}" if here else item.module, item.module]
        for base in bases:
            targets = [names.get(f"{base}.{n}" if base else n) for n in item.names] + [names.get(base)]
            hits = [t for t in targets if t and t != module.path]
            for hit in hits:
                found.setdefault(hit, item)
            if hits:
                break
    return tuple(found.items())
