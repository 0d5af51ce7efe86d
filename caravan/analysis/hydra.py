"""Where Hydra programs read their configuration: the directory and the name of the primary document. Pure."""

import ast
from collections.abc import Iterator
from posixpath import basename, dirname, join, normpath
from typing import Final, NamedTuple

from caravan.analysis.findings import Module
from caravan.analysis.python import dotted, keyword, text_of

_MAINS: Final = ("hydra.main", "main", "hydra_runner")
_STARTS: Final = ("initialize", "initialize_config_dir", "initialize_config_module")


class Root(NamedTuple):
    """A directory from the repository's root and the name of the document in it, without its ending, or empty."""

    home: str
    name: str


def roots(module: Module) -> Iterator[Root]:
    """What `@hydra.main` names, also as one path (`config_path="conf/config.yaml"`), or `initialize` and `compose`."""
    here = dirname(module.path)
    for function in module.functions.values():
        for node in function.decorator_list:
            if isinstance(node, ast.Call) and dotted(node.func) in _MAINS:
                folder = _text(node, "config_path", module)
                name = _text(node, "config_name", module)
                if folder is not None or name is not None:
                    yield _root(here, folder or "", name or "")
    name = next((n for c in module.calls if c.last == "compose" and (n := _text(c.node, "config_name", module))), "")
    for call in module.calls:
        folder = _text(call.node, "config_path", module) if call.last in _STARTS else None
        if folder is not None:
            yield _root(here, folder, name)


def _text(node: ast.Call, name: str, module: Module) -> str | None:
    given = keyword(node, name)
    if given is None and name == ("config_name" if dotted(node.func).endswith("compose") else "config_path"):
        given = node.args[0] if node.args else None
    return text_of(given, module)


def _root(here: str, folder: str, name: str) -> Root:
    if folder.endswith((".yaml", ".yml")):
        folder, name = dirname(folder), basename(folder)
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    return Root(normpath(join(here, folder)), stem)
