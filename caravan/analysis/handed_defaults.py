"""Options that a helper makes of a mapping of defaults which it is handed. Pure, over parsed modules.

`add_defaults(parser, dict(lr=1e-4, batch_size=8))`, where `add_defaults` adds an option for each item of its parameter;
the mapping may be put together in the function that hands it over, and by others that it calls.
"""

import ast
from collections.abc import Iterator
from typing import Final, NamedTuple

from caravan.analysis.findings import Module
from caravan.analysis.python import dotted, text_of, value_of
from caravan.analysis.resolve import Functions, Resolver
from caravan.analysis.walking import walk
from caravan.values.base import Json

_MAX_DEPTH: Final = 5
_MAX_ROWS: Final = 300


class Loop(NamedTuple):
    """A loop over the items of a function's parameter: the parameter's position, the loop."""

    position: int
    parameter: str
    loop: ast.For


def loop_over_parameter(function: Functions) -> Loop | None:
    """The first loop over `parameter.items()` (or the parameter itself) in a function."""
    names = [a.arg for a in function.args.args]
    for node in walk(function):
        if not isinstance(node, ast.For):
            continue
        over = node.iter
        if isinstance(over, ast.Call) and isinstance(over.func, ast.Attribute) and over.func.attr in ("items", "keys"):
            over = over.func.value
        if isinstance(over, ast.Name) and over.id in names:
            return Loop(names.index(over.id), over.id, node)
    return None


def rows(resolver: Resolver, module: Module, around: Functions | None, node: ast.expr) -> list[tuple[str, Json]]:
    """(name, default) of the mapping that an expression stands for in a function; empty for what can't be known."""
    return list(dict(_rows(resolver, module, around, node, 0)).items())[:_MAX_ROWS]


def _rows(
    resolver: Resolver, module: Module, around: Functions | None, node: ast.expr, depth: int
) -> Iterator[tuple[str, Json]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:  # {**others}
                yield from _rows(resolver, module, around, value, depth + 1)
            elif name := text_of(key, module):
                yield name, value_of(value, module)
    elif isinstance(node, ast.Call):
        yield from _of_call(resolver, module, around, node, depth)
    elif isinstance(node, ast.Name):
        yield from _of_name(resolver, module, around, node.id, depth)


def _of_name(
    resolver: Resolver, module: Module, around: Functions | None, name: str, depth: int
) -> Iterator[tuple[str, Json]]:
    """What a function assigns to a name and puts into it (`update`), else a constant of the module."""
    known = False
    for statement in around.body if around else ():
        value = getattr(statement, "value", None)
        if isinstance(statement, ast.Assign | ast.AnnAssign) and value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                known = True
                yield from _rows(resolver, module, around, value, depth + 1)
        elif isinstance(value, ast.Call) and dotted(value.func) == f"{name}.update":
            for argument in value.args[:1]:
                yield from _rows(resolver, module, around, argument, depth + 1)
            yield from ((w.arg, value_of(w.value, module)) for w in value.keywords if w.arg)
    constant = None if known else resolver.constant_of(module, name)
    if constant:
        yield from _rows(resolver, constant[0], None, constant[1], depth + 1)


def _of_call(
    resolver: Resolver, module: Module, around: Functions | None, node: ast.Call, depth: int
) -> Iterator[tuple[str, Json]]:
    """The items of `dict(a=1, **others)`, else of the mapping that a function of the repository returns."""
    if dotted(node.func) == "dict":
        for argument in node.args[:1]:
            yield from _rows(resolver, module, around, argument, depth + 1)
        for word in node.keywords:
            if word.arg:
                yield word.arg, value_of(word.value, module)
            else:
                yield from _rows(resolver, module, around, word.value, depth + 1)
        return
    found = resolver.function_of(module, dotted(node.func))
    for statement in walk(found[1]) if found else ():
        if found and isinstance(statement, ast.Return) and statement.value is not None:
            yield from _rows(resolver, found[0], found[1], statement.value, depth + 1)
            return
