"""A script's options, whatever parser it uses: the readers of each kind, in the order in which they are trusted. Pure.

Flags are spelled as the parser spells them; defaults that can't be known without running the code are None.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from caravan.analysis.argparse_options import read_argparse, read_registry
from caravan.analysis.command_options import (
    read_click,
    read_cyclopts,
    read_fire,
    read_jsonargparse,
    read_lightning_cli,
    read_typer,
)
from caravan.analysis.docopt_options import read_docopt
from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.option_parts import MAX_OPTIONS, make, once
from caravan.analysis.python import dotted, text_of, value_of
from caravan.analysis.record_options import read_absl, read_hf_parser, read_records, read_tyro
from caravan.analysis.resolve import Resolver
from caravan.analysis.walking import walk

__all__ = ["MAX_OPTIONS", "Parser", "read_options"]

Reader = Callable[[Module, Resolver], Iterator[FoundOption]]


@dataclass(frozen=True, slots=True)
class Parser:
    """A parser that a module makes: its style and its options."""

    style: str
    options: tuple[FoundOption, ...]


def read_options(module: Module, resolver: Resolver | None = None) -> Parser | None:
    """The options that a module declares, or None when it makes no parser.

    `resolver` finds classes, functions and constants in other modules (dataclasses are often declared elsewhere).
    """
    following = resolver or Resolver({}, lambda path: module if path == module.path else Module(path))
    found: list[FoundOption] = []
    style = ""
    for name, read in _READERS:
        options = list(once(islice(read(module, following), MAX_OPTIONS - len(found))))
        if options:
            style = style or name
            found += options
    return Parser(style, tuple(once(found))) if found else None


def read_overrides(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """The module's own constants, where it runs a file that sets them from `--name=value` words of the command line."""
    if not any(c.name == "exec" and _overrides(module, resolver, c.node) for c in module.calls):
        return
    yield from _constants(module, "--")


def read_parameters(cell: Module) -> Parser | None:
    """What the cell of a notebook that is tagged `parameters` sets: papermill takes each as `name value`."""
    options = tuple(islice(_constants(cell, ""), MAX_OPTIONS))
    return Parser("notebook", options) if options else None


def _constants(module: Module, dashes: str) -> Iterator[FoundOption]:
    for name, statement in module.constants.items():
        value = value_of(statement.value, module)
        if isinstance(value, bool | int | float | str) and not name.startswith("_"):
            comment = module.at(statement.lineno).text.partition("#")[2].strip()
            yield make(module, statement, (dashes + name,), default=value, type=type(value).__name__, help=comment)


def _overrides(module: Module, resolver: Resolver, node: ast.Call) -> bool:
    """Whether `exec` is given the text of a file of the repository that reads the command line into globals."""
    names = {str(c.value) for c in walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    for name in sorted(n for n in names if n.endswith(".py")):
        stem = name.removesuffix(".py").lstrip("./").replace("/", ".")
        folder = module.path.rpartition("/")[0].replace("/", ".")
        path = resolver.names.get(f"{folder}.{stem}" if folder else stem) or resolver.names.get(stem)
        text = "\n".join(resolver.read(path).lines) if path else ""
        if "argv" in text and "globals()" in text:
            return True
    return False


def read_argv(module: Module, _: Resolver) -> Iterator[FoundOption]:
    """`sys.argv` compared with texts, and `key=value` words taken apart by hand: the flags that the code spells."""
    if not any(dotted(s.value) in ("sys.argv", "argv") for s in module.subscripts):
        return
    for node in module.strings:
        text = text_of(node) or ""
        if re.fullmatch(r"--[a-z][\w-]{1,40}", text):
            yield make(module, node, (text.rstrip("="),))


_READERS: Final[tuple[tuple[str, Reader], ...]] = (
    ("hfargparser", read_hf_parser),
    ("tyro", read_tyro),
    ("cyclopts", read_cyclopts),
    ("lightning-cli", read_lightning_cli),
    ("jsonargparse", read_jsonargparse),
    ("dataclass", read_records),
    ("typer", read_typer),
    ("click", read_click),
    ("fire", read_fire),
    ("absl", read_absl),
    ("argparse", read_argparse),
    ("argparse", read_registry),
    ("constants", read_overrides),
    ("docopt", read_docopt),
    ("argv", read_argv),
)
