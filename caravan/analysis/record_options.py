"""Options of parsers that take a class: HfArgumentParser, tyro, simple_parsing, Tap, pyrallis, absl flags. Pure."""

import ast
from collections.abc import Iterator, Mapping
from typing import Final

from caravan.analysis.class_options import Fields, Spelling
from caravan.analysis.command_options import targets
from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.handed_classes import handed_classes
from caravan.analysis.option_parts import imports, make
from caravan.analysis.python import dotted, keyword, text_of
from caravan.analysis.resolve import Resolver
from caravan.analysis.walking import walk

_FLAT: Final = frozenset({"HfArgumentParser", "TrlParser", "H4ArgumentParser", "DataClassParser"})
_TYRO: Final = frozenset({"cli", "overridable_config_cli", "subcommand_cli_from_dict", "subcommand_type_from_defaults"})
_DOTTED: Final[Mapping[str, Spelling]] = {
    "pyrallis": Spelling(),
    "draccus": Spelling(),
    "chz": Spelling(before=""),
    "argparse_dataclass": Spelling(dashes=True, nested=False),
    "datargs": Spelling(dashes=True, nested=False),
    "simple_parsing": Spelling(nested=False),
    "simple_parser": Spelling(nested=False),
    "pydantic_settings": Spelling(),
}
"""Packages whose parser takes a class, with the flags that they make of its fields."""
_DOTTED_CALLS: Final = frozenset(
    {"parse", "parse_known_args", "wrap", "argparsing", "entrypoint", "nested_entrypoint", "run", "CliApp", "ArgParser"}
)


def read_hf_parser(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """The dataclasses that `HfArgumentParser` (or a parser made from it) is given."""
    for call in module.calls:
        if call.last not in _FLAT and not _derived(module, resolver, call.name):
            continue
        target = call.node.args[0] if call.node.args else keyword(call.node, "dataclass_types")
        for owner, name in _classes(module, resolver, target, 0):
            yield from Fields(resolver, Spelling(nested=False)).of_class(owner, name)
    for owner, name in handed_classes(module, resolver, lambda call: call.rpartition(".")[2] in _FLAT):
        yield from Fields(resolver, Spelling(nested=False)).of_class(owner, name)


def _derived(module: Module, resolver: Resolver, name: str) -> bool:
    """Whether the name is a class of the repository that derives from transformers' parser."""
    if not name.rpartition(".")[2].endswith("Parser"):
        return False
    found = resolver.find(module, name)
    bases = found.node.bases if found and isinstance(found.node, ast.ClassDef) else ()
    return any(dotted(b).rpartition(".")[2] in _FLAT for b in bases)


def _classes(module: Module, resolver: Resolver, target: ast.expr | None, depth: int) -> Iterator[tuple[Module, str]]:
    """(module, name) of the classes that an expression lists: a tuple, a constant, a list that was put together."""
    if target is None or depth > 4:
        return
    if isinstance(target, ast.Tuple | ast.List):
        for item in target.elts:
            yield from _classes(module, resolver, item, depth + 1)
    elif isinstance(target, ast.BinOp):
        yield from _classes(module, resolver, target.left, depth + 1)
        yield from _classes(module, resolver, target.right, depth + 1)
    elif isinstance(target, ast.Call):
        for argument in target.args:
            yield from _classes(module, resolver, argument, depth + 1)
    elif isinstance(target, ast.Starred):
        yield from _classes(module, resolver, target.value, depth + 1)
    elif name := dotted(target):
        found = resolver.constant_of(module, name) or _local(module, name)
        if found and not isinstance(found[1], ast.Name | ast.Attribute):
            yield from _classes(found[0], resolver, found[1], depth + 1)
        else:
            yield module, name


def _local(module: Module, name: str) -> tuple[Module, ast.expr] | None:
    """What a function assigns to the name, where that lists classes."""
    for function in module.functions.values():
        for node in walk(function):
            if (
                isinstance(node, ast.Assign)
                and dotted(node.targets[0]) == name
                and isinstance(node.value, ast.Tuple | ast.List)
            ):
                return module, node.value
    return None


def read_tyro(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """What `tyro.cli` is given: a class, a function, a mapping of subcommands."""
    if not imports(module, "tyro", "dcargs"):
        return
    for call in module.calls:
        owner = call.name.partition(".")[0]
        if call.last not in _TYRO or (owner not in ("tyro", "dcargs") and call.name != call.last):
            continue
        target = call.node.args[0] if call.node.args else keyword(call.node, "f")
        flat = any("OmitArgPrefixes" in ast.unparse(k.value) for k in call.node.keywords if k.arg == "config")
        yield from _given(module, resolver, target, Spelling(dashes=True, nested=not flat))


def _given(module: Module, resolver: Resolver, target: ast.expr | None, spelling: Spelling) -> Iterator[FoundOption]:
    if isinstance(target, ast.Subscript):  # tyro.conf.OmitArgPrefixes[Args]
        flat = "OmitArgPrefixes" in dotted(target.value)
        inner = target.slice.elts[0] if isinstance(target.slice, ast.Tuple) and target.slice.elts else target.slice
        nested = spelling.nested and not flat
        yield from _given(module, resolver, inner, Spelling(spelling.before, spelling.dashes, nested))
        return
    name = dotted(target) if target is not None else ""
    if name and resolver.class_of(module, name):
        yield from Fields(resolver, spelling).of_class(module, name)
    elif target is not None:
        for command, owner, function in targets(module, resolver, target):
            named = Spelling(spelling.before, spelling.dashes, spelling.nested, command)
            yield from Fields(resolver, named).of_function(owner, function)


def read_records(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """Parsers of a class that are used alike: simple_parsing, pyrallis, draccus, chz, pydantic's settings, Tap."""
    package = next((p for p in _DOTTED if imports(module, p)), None)
    if package is not None:
        spelling = _DOTTED[package]
        for call in module.calls:
            if call.last == "add_arguments" and call.node.args:
                yield from Fields(resolver, spelling).of_class(module, dotted(call.node.args[0]))
            elif call.last in _DOTTED_CALLS and call.name.partition(".")[0] in (package, call.last):
                given = keyword(call.node, "config_class")
                for argument in ([given] if given is not None else call.node.args)[:1]:
                    yield from _given(module, resolver, argument, spelling)
        for function in module.functions.values():
            for decorator in function.decorator_list:
                named = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
                first = function.args.args[0].annotation if function.args.args else None
                if named in (f"{package}.wrap", "wrap") and first is not None:
                    yield from _given(module, resolver, first, spelling)
    for node in module.classes.values():
        if imports(module, "tap") and any(dotted(b).rpartition(".")[2] in ("Tap",) for b in node.bases):
            yield from Fields(resolver, Spelling(nested=False)).of_class(module, node.name)


def read_absl(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """absl's and TensorFlow 1's `flags.DEFINE_…`, with the flags that are marked as required."""
    kinds = {"string": "str", "integer": "int", "boolean": "bool", "bool": "bool", "float": "float", "enum": "str"}
    defined = [c for c in module.calls if c.last.startswith("DEFINE_") and c.node.args]
    if not defined:
        return
    needed = {
        text_of(n)
        for c in module.calls
        if c.last in ("mark_flag_as_required", "mark_flags_as_required")
        for a in c.node.args
        for n in walk(a)
        if isinstance(n, ast.Constant)
    }
    for call in defined:
        name, args, kind = text_of(call.node.args[0], module), call.node.args, call.last.removeprefix("DEFINE_")
        if not name or kind in ("config_dict", "alias"):
            continue
        default = args[1] if len(args) > 1 else keyword(call.node, "default", "default_value")
        at = 3 if kind == "enum" else 2
        said = args[at] if len(args) > at else keyword(call.node, "help", "docstring")
        choices = resolver.value(module, args[2]) if kind == "enum" and len(args) > 2 else None
        yield make(
            module,
            call.node,
            (f"--{name}",),
            default=resolver.value(module, default),
            type=kinds.get(kind, kind),
            required=name in needed,
            choices=tuple(map(str, choices)) if isinstance(choices, list) else (),
            help=text_of(said, module),
        )
