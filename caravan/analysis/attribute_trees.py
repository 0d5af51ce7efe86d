"""Settings that code keeps as attributes of nested nodes, and that words of the command line override. Pure.

`C = Node(); C.trainer = Trainer.defaults(); C.trainer.lr = 1e-3`, then `config.merge(sys.argv[1:])`.
"""

import ast
from collections.abc import Iterator, Sequence
from typing import Final

from caravan.analysis.findings import FoundOption, Module, source_line
from caravan.analysis.python import dotted, text_of, value_of
from caravan.analysis.resolve import Functions, Resolver
from caravan.analysis.walking import walk
from caravan.values.base import Json
from caravan.values.repo import ScriptOption

_NEAR: Final = 6
_MAX_DEPTH: Final = 4
_MAX_ROWS: Final = 500

_Row = tuple[str, Json, Module, int]


def attribute_options(modules: Sequence[Module], resolver: Resolver) -> Iterator[FoundOption]:
    """The settings of the entry's own tree as options, where the tree is given the words of the command line."""
    for module in modules[:1]:
        merges = [c for c in module.calls if any(dotted(_whole(a)) == "sys.argv" for a in c.node.args)]
        for call in merges:
            owner = call.name.rpartition(".")[0]
            maker = _maker(module, resolver, owner) if owner and owner != "sys" else None
            if maker is None:
                continue
            before = "--" if any(_spells_dashes(m, call.last) for m in modules[:_NEAR]) else ""
            rows = {row[0]: row for row in _attributes(resolver, *maker, 0)}
            for key, value, where, line in list(rows.values())[:_MAX_ROWS]:
                kind = None if value is None else type(value).__name__
                kept = None if isinstance(value, list | dict) else value
                option = ScriptOption(flag=before + key, default=kept, type=kind)
                yield FoundOption(option, (before + key,), source_line(where.path, line))
            return


def _whole(node: ast.expr) -> ast.expr:
    return node.value if isinstance(node, ast.Subscript) else node


def _maker(module: Module, resolver: Resolver, name: str) -> tuple[Module, Functions] | None:
    """The function whose result is assigned to a name at the top of a module or in one of its functions."""
    inside = (n for f in module.functions.values() for n in walk(f) if isinstance(n, ast.Assign))
    for statement in (*module.constants.values(), *inside):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if isinstance(statement.value, ast.Call) and any(dotted(t) == name for t in targets):
            found = resolver.function_of(module, dotted(statement.value.func))
            if found:
                return found
    return None


def _spells_dashes(module: Module, method: str) -> bool:
    """Whether a method of that name in a module compares or cuts `--`."""
    function = next((f for n, f in module.functions.items() if n.rpartition(".")[2] == method), None)
    texts = (n.value for n in walk(function) if isinstance(n, ast.Constant)) if function else ()
    return "--" in texts


def _attributes(resolver: Resolver, module: Module, function: Functions, depth: int) -> Iterator[_Row]:
    """(key, value, module, line) of what a function assigns to attributes of the node that it returns."""
    returned = [dotted(n.value) for n in walk(function) if isinstance(n, ast.Return) and n.value is not None]
    root = next((name for name in returned if name), "")
    for node in walk(function) if root else ():
        if not isinstance(node, ast.Assign):
            continue
        name, _, key = dotted(node.targets[0]).partition(".")
        if name != root or not key:
            continue
        if isinstance(node.value, ast.Call):
            made = _method(resolver, module, dotted(node.value.func)) if depth < _MAX_DEPTH else None
            for inner, value, where, line in _attributes(resolver, *made, depth + 1) if made else ():
                yield f"{key}.{inner}", value, where, line
        else:
            yield key, value_of(node.value, module) or text_of(node.value, module), module, node.lineno


def _method(resolver: Resolver, module: Module, name: str) -> tuple[Module, Functions] | None:
    """A function, or a method of a class, that a dotted name calls."""
    owner, _, method = name.rpartition(".")
    found = resolver.class_of(module, owner) if owner else None
    if found:
        hit = next((s for s in found[1].body if isinstance(s, Functions) and s.name == method), None)
        return (found[0], hit) if hit else None
    return resolver.function_of(module, name)
