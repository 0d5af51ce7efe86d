"""What the readers of options share: an option made from a node, names of types, a function's parameters. Pure."""

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.analysis.bindings import with_defaults
from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.python import dotted, value_of
from caravan.analysis.resolve import Functions
from caravan.values.base import Json
from caravan.values.repo import ScriptOption

MAX_OPTIONS: Final = 4000
"""Options of one parser that are read, those of all its subcommands together."""
_MAX_DEPTH: Final = 8


def make(module: Module, node: ast.AST, flags: tuple[str, ...], *, command: str = "", **fields: Json) -> FoundOption:
    """An option under its first long spelling (else its first one)."""
    flag = next((f for f in flags if f.startswith("--")), flags[0])
    fields["help"] = " ".join(str(fields.get("help") or "").split())[:300]
    aliases = tuple(f for f in flags if f != flag)
    option = ScriptOption(flag=flag, aliases=aliases, **fields)
    return FoundOption(option, flags, module.at(getattr(node, "lineno", 0)), command)


def choices_of(value: Json) -> tuple[str, ...]:
    """The choices of an option, where they are a list of literals."""
    return tuple(str(v) for v in value) if isinstance(value, list) else ()


def type_name(node: ast.expr | None, depth: int = 0) -> str | None:
    """The name of a type, also of an annotation: `int | None`, `Optional[int]`, `List[str]`, `Annotated[int, …]`."""
    if node is None or depth > _MAX_DEPTH:
        return None
    if isinstance(node, ast.BinOp):
        left = type_name(node.left, depth + 1)
        return type_name(node.right, depth + 1) if left is None else left
    if isinstance(node, ast.Subscript):
        outer = dotted(node.value).rsplit(".", 1)[-1]
        inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
        return type_name(inner, depth + 1) if outer in ("Optional", "Union", "Annotated") else outer.lower() or None
    if isinstance(node, ast.Constant):
        return str(node.value) if node.value is not None else None
    return dotted(node).rsplit(".", 1)[-1] or None


def class_names(node: ast.expr | None, depth: int = 0) -> Iterator[str]:
    """The (dotted) names that an annotation may stand for, in order: each part of a union, what `Annotated` wraps."""
    if node is None or depth > _MAX_DEPTH:
        return
    if isinstance(node, ast.BinOp):
        yield from class_names(node.left, depth + 1)
        yield from class_names(node.right, depth + 1)
    elif isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        outer = dotted(node.value).rsplit(".", 1)[-1]
        for part in inner[:1] if outer == "Annotated" else inner if outer in ("Optional", "Union") else ():
            yield from class_names(part, depth + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif name := dotted(node):
        yield name


def annotated_calls(node: ast.expr | None) -> Iterator[ast.Call]:
    """The calls in `Annotated[type, call, …]`."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        yield from (e for e in node.slice.elts if isinstance(e, ast.Call))


def literal_choices(node: ast.expr | None) -> tuple[str, ...]:
    """The values of `Literal[…]`, also inside `Optional` or a union; empty for another annotation."""
    if isinstance(node, ast.BinOp):
        return literal_choices(node.left) or literal_choices(node.right)
    if not isinstance(node, ast.Subscript):
        return ()
    outer = dotted(node.value).rsplit(".", 1)[-1]
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Literal":
        return tuple(str(v) for e in inner if (v := value_of(e)) is not None)
    if outer in ("Optional", "Union", "Annotated"):
        return next((found for e in inner if (found := literal_choices(e))), ())
    return ()


def class_at(module: Module, node: ast.AST) -> str:
    """The class around a node, by a name that no function has."""
    line = getattr(node, "lineno", 0)
    around = (n for n, c in module.classes.items() if c.lineno <= line <= (c.end_lineno or 0))
    return f"class {next(around, '')}"


def parameters(function: Functions) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """A function's parameters that an option can set, with their default expressions."""
    for argument, default in with_defaults(function):
        if argument in function.args.kwonlyargs or argument.arg not in ("self", "cls", "ctx"):
            yield argument, default


def decorators(module: Module, *names: str) -> Iterator[tuple[Functions, ast.Call]]:
    """The functions of a module with a decorator whose name ends in one of `names`, with that call."""
    for function in module.functions.values():
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and dotted(decorator.func).rsplit(".", 1)[-1] in names:
                yield function, decorator


def imports(module: Module, *packages: str) -> bool:
    """Whether the module imports one of these packages."""
    return any(i.module.split(".")[0] in packages for i in module.imports if not i.level)


def once(options: Iterable[FoundOption]) -> Iterator[FoundOption]:
    """The options without those whose flag came before (of the same subcommand)."""
    seen: set[tuple[str, str]] = set()
    for found in options:
        key = found.option.flag, found.command
        if key not in seen:
            seen.add(key)
            yield found
