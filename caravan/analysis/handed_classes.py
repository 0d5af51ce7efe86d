"""Classes of settings that reach a parser through the repository's own code. Pure, over parsed modules.

`parse(Settings)`, where `parse` makes a parser of its parameter; and `settings = Settings` in the body of a class whose
base hands `self.settings` to such a function.
"""

import ast
from collections.abc import Callable, Iterator
from typing import Final

from caravan.analysis.bindings import arguments
from caravan.analysis.findings import Module
from caravan.analysis.python import dotted
from caravan.analysis.resolve import Resolver
from caravan.analysis.walking import walk

_MAX_BASES: Final = 4


def handed_classes(
    module: Module, resolver: Resolver, makes_parser: Callable[[str], bool]
) -> Iterator[tuple[Module, str]]:
    """(module, name) of the classes that a module's calls and classes hand on to a function which parses them."""
    for call in module.calls:
        for argument in call.node.args[:2]:
            name = dotted(argument)
            if _is_class_name(name) and _parses(module, resolver, call.name, makes_parser):
                yield module, name
    for node in module.classes.values():
        for statement in node.body:
            name = dotted(statement.value) if isinstance(statement, ast.Assign) else ""
            if isinstance(statement, ast.Assign) and _is_class_name(name):
                attribute = dotted(statement.targets[0])
                if _hands_on(module, resolver, node, attribute, makes_parser, 0):
                    yield module, name


def _is_class_name(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last[:1].isupper() and not last.isupper()


def _hands_on(
    module: Module,
    resolver: Resolver,
    node: ast.ClassDef,
    attribute: str,
    makes_parser: Callable[[str], bool],
    depth: int,
) -> bool:
    """Whether a class, or one of its bases, hands `self.attribute` to a function that parses it."""
    for call in walk(node):
        if isinstance(call, ast.Call) and any(
            dotted(a) in (f"self.{attribute}", f"cls.{attribute}") for a in call.args
        ):
            name = dotted(call.func)
            if makes_parser(name) or _parses(module, resolver, name, makes_parser):
                return True
    for base in node.bases if depth < _MAX_BASES else ():
        found = resolver.class_of(module, dotted(base.value if isinstance(base, ast.Subscript) else base))
        if (
            found
            and found[1] is not node
            and _hands_on(found[0], resolver, found[1], attribute, makes_parser, depth + 1)
        ):
            return True
    return False


def _parses(module: Module, resolver: Resolver, name: str, makes_parser: Callable[[str], bool]) -> bool:
    """Whether a function of the repository makes a parser of one of its own parameters."""
    if not name or name.rpartition(".")[2][:1].isupper():
        return False
    found = resolver.function_of(module, name)
    if found is None:
        return False
    parameters = {a.arg for a in arguments(found[1])}
    for node in walk(found[1]):
        if isinstance(node, ast.Call) and makes_parser(dotted(node.func)):
            given = {n.id for a in node.args for n in walk(a) if isinstance(n, ast.Name)}
            if given & parameters:
                return True
    return False
