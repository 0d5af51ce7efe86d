"""What the code says of its checkpoints: whether it writes some as it goes on, under which names, how it takes one up.

Pure, over parsed modules. A name is a pattern: what stands for a step or an epoch in it is `*`.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Final

from caravan.analysis.findings import Call, Module
from caravan.analysis.python import keyword, text_of, value_of
from caravan.analysis.walking import walk
from caravan.values.repo import Checkpoints, SourceLine

_SAVES: Final = frozenset(
    {"save", "savez", "savez_compressed", "save_state", "save_checkpoint", "save_pretrained", "save_file", "dump"}
)
_SAVES_BY_NAME: Final = re.compile(r"(?i)(?:save|write|store|dump).*(?:check_?point|ckpt|state|snapshot)|^checkpoint$")
_NAME: Final = re.compile(r"(?i)ckpt|check_?point|snapshot|step|epoch|iter|latest|(?:^|[_.-])last(?:[_.-]|$)")
_FILE: Final = re.compile(r"[\w.*=-]{1,80}")
_PASSING: Final = re.compile(r"(?i)tmp|temp|\.part|\.log$|\.jsonl?$|\.csv$|\.txt$|\.png$|\.ya?ml$")
_MOST: Final = 5
_LIGHTNING: Final = frozenset({"lightning", "pytorch_lightning"})


def checkpoints(modules: Sequence[Module]) -> tuple[Checkpoints | None, tuple[SourceLine, ...]]:
    """What the entry's modules do, the nearest first, and the lines that say so; None where nothing says it."""
    for look in (_trainer, _lightning, _own):
        found = look(modules)
        if found is not None:
            return found
    return None, ()


_Found = tuple[Checkpoints, tuple[SourceLine, ...]]


def _trainer(modules: Sequence[Module]) -> _Found | None:
    """transformers' Trainer and what derives from it."""
    libraries = {i.module.split(".")[0] for m in modules for i in m.imports}
    if not libraries & {"transformers", "trl"}:
        return None
    made = next((m.at(c.line) for m in modules for c in m.calls if c.last.endswith("Trainer")), None)
    started = next(((m, c) for m in modules for c in m.calls if _starts(c)), None)
    if made is None or started is None:
        return None
    module, call = started
    where = module.at(call.line)
    searching = next((m.at(c.line) for m in modules for c in m.calls if c.last == "get_last_checkpoint"), None)
    given = keyword(call.node, "resume_from_checkpoint") or (call.node.args[0] if call.node.args else None)
    value = value_of(given) if given is not None else None
    named = given is not None and not (isinstance(given, ast.Constant) and value in (None, False))
    # `resume_from_checkpoint=True` looks for itself, and fails where there is none.
    taken: str | None = "argument" if named and value is not True else "itself" if searching or named else None
    lines = tuple(dict.fromkeys(line for line in (where, searching, made) if line is not None))
    return Checkpoints(kind="trainer", names=("checkpoint-*",), taken_up=taken), lines


def _starts(call: Call) -> bool:
    return call.last == "train" and "trainer" in call.name.rpartition(".")[0].lower()


def _lightning(modules: Sequence[Module]) -> _Found | None:
    """Lightning's Trainer writes a checkpoint each epoch unless it is told not to."""
    if not {i.module.split(".")[0] for m in modules for i in m.imports} & _LIGHTNING:
        return None
    for module in modules:
        for call in module.calls:
            if value_of(keyword(call.node, "enable_checkpointing")) is False:
                return None
            if call.last == "LightningCLI":
                return Checkpoints(kind="lightning", names=("*.ckpt",), taken_up="argument"), (module.at(call.line),)
    for module in modules:
        for call in module.calls:
            if call.last != "fit" or "trainer" not in call.name.lower():
                continue
            given = keyword(call.node, "ckpt_path")
            named = given is not None and not (isinstance(given, ast.Constant) and given.value is None)
            itself = isinstance(given, ast.Constant) and given.value == "last"
            taken = "itself" if itself else "argument" if named else None
            return Checkpoints(kind="lightning", names=("*.ckpt",), taken_up=taken), (module.at(call.line),)
    return None


def _own(modules: Sequence[Module]) -> _Found | None:
    """Code that writes its own: names with a step in them first, then fixed ones that are written over."""
    varying: dict[str, SourceLine] = {}
    fixed: dict[str, SourceLine] = {}
    for module in modules:
        for node in _written(module):
            name = _pattern(node, module)
            if name and (_NAME.search(name) or name.strip("*.").isdigit()) and not _PASSING.search(name):
                (varying if "*" in name else fixed).setdefault(name, module.at(getattr(node, "lineno", 1)))
    names = varying or fixed
    if not names:
        return None
    taken = next((m.at(c.line) for m in modules for c in m.calls if c.last in ("load_state", "load_checkpoint")), None)
    lines = tuple(dict.fromkeys((*list(names.values())[:_MOST], *((taken,) if taken else ()))))
    return Checkpoints(kind="files", names=tuple(names)[:_MOST], taken_up="argument"), lines


def _written(module: Module) -> Iterator[ast.expr]:
    """The texts in what is given to a saving call, and in the functions that save."""
    for call in module.calls:
        if call.last in _SAVES or _SAVES_BY_NAME.search(call.last):
            yield from _texts(call.node)
    for name, function in module.functions.items():
        saves = any(
            isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in _SAVES
            for node in walk(function)
        )
        if _SAVES_BY_NAME.search(name) or saves:
            yield from _texts(function)


def _texts(node: ast.AST) -> Iterator[ast.expr]:
    inside = {id(part) for n in walk(node) if isinstance(n, ast.JoinedStr) for part in n.values}
    for found in walk(node):
        joined = isinstance(found, ast.JoinedStr)
        plain = isinstance(found, ast.Constant) and isinstance(found.value, str) and id(found) not in inside
        if isinstance(found, ast.JoinedStr | ast.Constant) and (joined or plain):
            yield found


def _pattern(node: ast.expr, module: Module) -> str:
    """The last part of a path with `*` for what is filled in; empty for what is no file's name."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(str(v.value) if isinstance(v, ast.Constant) else "*" for v in node.values)
    else:
        text = re.sub(r"\{[^{}]*\}|%0?\d*[dfsi]", "*", text_of(node, module) or "")
    name = re.sub(r"\*+", "*", text.rpartition("/")[2])
    return name if _FILE.fullmatch(name) and re.search(r"[A-Za-z]{2}", name) else ""
