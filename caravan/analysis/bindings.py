"""How names get their values in functions: parameters and defaults, what a call gives, assignments, keys behind a name.

Pure, over parsed Python.
"""

import ast
from collections.abc import Iterator

from caravan.analysis.findings import Module
from caravan.analysis.python import dotted
from caravan.analysis.resolve import Functions
from caravan.analysis.walking import walk


def keys(node: ast.expr) -> tuple[str, ...]:
    """The keys behind the name at which an expression begins: (`model`, `name`) of `cfg.model["name"]`."""
    keys: list[str] = []
    while True:
        match node:
            case ast.Attribute():
                keys.append(node.attr)
                node = node.value
            case ast.Subscript(slice=ast.Constant(value=str() as key)):
                keys.append(key)
                node = node.value
            case ast.Call(func=ast.Attribute(attr="get") as get, args=[ast.Constant(value=str() as key), *_]):
                keys.append(key)
                node = get.value
            case ast.Name():
                if node.id == "self" and keys:
                    keys.pop()  # `self.args.model`
                return tuple(reversed(keys))
            case _:
                return ()


def class_around(module: Module, function: Functions) -> ast.ClassDef | None:
    """The class whose method a function is."""
    return next((c for c in module.classes.values() if function in c.body), None)


def last_line(function: Functions) -> int:
    """The line on which a function ends."""
    return function.end_lineno or function.lineno


def assigned(function: Functions) -> Iterator[tuple[str, ast.expr]]:
    """(`name` or `self.name`, value) of the assignments in a function."""
    for node in walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield dotted(target), node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield dotted(node.target), node.value


def arguments(function: Functions) -> list[ast.arg]:
    """A function's parameters, without `*args` and `**kwargs`."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def with_defaults(function: Functions) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """A function's parameters with their default expressions."""
    spec = function.args
    positional = [*spec.posonlyargs, *spec.args]
    yield from zip(positional, [*[None] * (len(positional) - len(spec.defaults)), *spec.defaults], strict=True)
    yield from zip(spec.kwonlyargs, spec.kw_defaults, strict=True)


def parameters(function: Functions) -> dict[str, ast.expr | None]:
    """Parameter → its default."""
    return {argument.arg: default for argument, default in with_defaults(function)}


def bound(function: Functions, call: ast.Call) -> dict[str, ast.expr]:
    """Parameter → what a call gives for it."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")]
    plain_args = [a for a in call.args if not isinstance(a, ast.Starred)]
    found = dict(zip(names, plain_args, strict=False))
    return found | {k.arg: k.value for k in call.keywords if k.arg}
