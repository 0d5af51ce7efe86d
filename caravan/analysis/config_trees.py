"""Configurations that are Python: ml_collections' files, and the tree of defaults of yacs. Pure."""

import ast
import re
from collections.abc import Iterator, Sequence
from posixpath import dirname
from typing import Final

from caravan.analysis.findings import FoundOption, Module, source_line
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.analysis.settings import Setting, resolved
from caravan.analysis.sources import Sources
from caravan.values.base import Json
from caravan.values.repo import ScriptOption, SourceLine

_MAX_FILES: Final = 40
_MAKES: Final = ("ConfigDict", "FrozenConfigDict", "dict")
_NODE: Final = re.compile(r"\b(?:CfgNode|CN)\(|\byacs\b")
_READS: Final = re.compile(r"merge_from_(?:list|file)|\bget_cfg\b")


def ml_config_files(module: Module, call: ast.Call, sources: Sources) -> Iterator[str]:
    """The file that an absl flag has as its default, else the likeliest one near that has a `get_config`."""
    default = text_of(call.args[1] if len(call.args) > 1 else keyword(call, "default"), module)
    here = dirname(module.path) or "."
    if default and (path := resolved(default.split(":")[0], sources, (here, "."))):
        yield path
        return
    prefix = "" if here == "." else f"{here}/"
    near = [p for p in sources.paths if p.startswith(prefix) and p.endswith(".py") and "config" in p[len(prefix) :]]
    near.sort(key=lambda p: (not p.endswith("default.py"), p.count("/"), p))
    yield from [p for p in near[:_MAX_FILES] if "def get_config" in (sources.text(p) or "")][:1]


def ml_values(module: Module) -> Iterator[tuple[str, Json]]:
    """(key, value) of what `get_config()` makes in one piece: `ConfigDict({…})`, `ConfigDict(dict(a=…))`, `dict(…)`."""
    function = module.functions.get("get_config")
    for statement in function.body if function else ():
        node = statement.value if isinstance(statement, ast.Return | ast.Assign) else None
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _MAKES:
            prefix = ""
            if isinstance(statement, ast.Assign):
                prefix = dotted(statement.targets[0]).partition(".")[2]
            yield from _pieces(node, prefix, module, 0)


def _pieces(node: ast.expr, prefix: str, module: Module, depth: int) -> Iterator[tuple[str, Json]]:
    rows: list[tuple[str, ast.expr]] = []
    if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _MAKES and depth < 8:
        rows = [(k.arg, k.value) for k in node.keywords if k.arg]
        for argument in node.args[:1]:
            yield from _pieces(argument, prefix, module, depth + 1)
    elif isinstance(node, ast.Dict) and depth < 8:
        rows = [(name, v) for k, v in zip(node.keys, node.values, strict=True) if k and (name := text_of(k))]
    elif prefix and not isinstance(node, ast.Dict):
        yield prefix, value_of(node, module)
    for name, value in rows:
        yield from _pieces(value, f"{prefix}.{name}" if prefix else name, module, depth + 1)


def default_tree(settings: Sequence[Setting], modules: Sequence[Module], sources: Sources) -> Iterator[FoundOption]:
    """Keys of a yacs configuration (`SOLVER.BASE_LR`): of the documents first, then of the code's tree of defaults."""
    named = {c.last for m in modules for c in m.calls} | {n for m in modules for i in m.imports for n in i.names}
    if not _READS.search(" ".join(sorted(named))):
        return
    trees = list(_trees(modules, sources))
    keys = {key for m in trees for key, _, _ in _assigned(m)}
    if not keys:
        return
    for setting in settings:
        for key, value in setting.values.items():
            if key in keys:
                yield _option(key, value, source_line(setting.path, 0))
    for module in trees:
        for key, node, line in _assigned(module):
            yield _option(key, value_of(node, module), module.at(line))


def _option(key: str, value: Json, where: SourceLine) -> FoundOption:
    default = value if not isinstance(value, list | dict) else None
    option = ScriptOption(flag=key, default=default, type=None if value is None else type(value).__name__)
    return FoundOption(option, (key,), where, source=where.file)


def _trees(modules: Sequence[Module], sources: Sources) -> Iterator[Module]:
    """Modules that build a tree of settings: those that are reached, then files named after defaults."""
    seen = set[str]()
    for module in modules:
        if next(_assigned(module), None) and _NODE.search("\n".join(module.lines)):
            seen.add(module.path)
            yield module
    kinds = [r"(?:^|/)defaults?\.py$", r"(?:^|/)(?:config|cfg)\.py$"]
    for kind in kinds:
        named = sorted((p for p in sources.paths if re.search(kind, p)), key=lambda p: (p.count("/"), p))
        for path in named[:_MAX_FILES] if kind == kinds[0] or not seen else ():
            if path not in seen and _NODE.search(sources.text(path) or ""):
                seen.add(path)
                yield sources.module(path)


def _assigned(module: Module) -> Iterator[tuple[str, ast.expr, int]]:
    """(key, value, line) of `_C.SOLVER.BASE_LR = 0.01` at the top of a module or in a function that builds it."""
    for node in module.attributes:
        key = dotted(node.targets[0]).partition(".")[2]
        if key and key.isupper() and not isinstance(node.value, ast.Call):
            yield key, node.value, node.lineno
