"""Configuration keys as options of a program: how its command line overrides them, if it does. Pure.

gin bindings, ml_collections' `--config.key`, Hydra's and OmegaConf's `a.b=c`, spaCy's `--section.key`, yacs' pairs. A
key that nothing on the command line overrides carries its file (`FoundOption.source`).
"""

import ast
import re
from collections.abc import Iterator, Sequence
from posixpath import dirname, relpath
from typing import Final

from caravan.analysis.attribute_trees import attribute_options
from caravan.analysis.class_options import Fields, Spelling
from caravan.analysis.config_trees import default_tree, ml_config_files, ml_values
from caravan.analysis.documents import Documented
from caravan.analysis.entry import pairs
from caravan.analysis.findings import FoundOption, Module, source_line
from caravan.analysis.gin import bindings
from caravan.analysis.hydra import roots
from caravan.analysis.option_parts import once
from caravan.analysis.options import MAX_OPTIONS, Parser
from caravan.analysis.python import dotted, keyword, text_of
from caravan.analysis.settings import Setting, read_values
from caravan.analysis.sources import Sources
from caravan.values.base import Json
from caravan.values.repo import ScriptOption

_BARE: Final = Spelling(before="")
_MAX_COMMANDS: Final = 30
_NEAR: Final = 6
"""Modules, the entry's own first, whose calls say how its configuration is overridden."""
_FROM_WORDS: Final = frozenset({"from_cli", "from_dotlist", "merge_with_cli", "merge_with_dotlist"})
_NOT_TRAINING: Final = re.compile(
    r"(?:^|/)(?:package|tokenizer|tokenizer_config|generation_config|special_tokens_map)\.json$"
    r"|accelerate|deepspeed|zero\d|/ds_"
)
_WEAK: Final = frozenset({"argv", "argparse", "absl", "documented"})
"""Parsers that stand beside the configuration's own way of overriding."""


def with_configuration(
    parser: Parser | None,
    settings: Sequence[Setting],
    modules: Sequence[Module],
    used: Documented | None,
    sources: Sources,
    commands: Sequence[Documented] = (),
) -> Parser | None:
    """The parser with the keys of the configuration that its program reads; the parser's own options stand first.

    Of a program that is none of the repository's, the options are those that its `commands` use.
    """
    if parser is None and used is not None and used.path is None and not modules:
        known = tuple(once(_shown(commands, used)))
        parser = Parser("documented", known) if known else None
    style, keys = "", list[FoundOption]()
    for name, found in (
        ("gin", _gin(settings, modules, used, sources)),
        ("absl", _ml_config(settings, modules, sources)),
        ("hydra", _hydra(settings, modules, sources)),
        ("spacy", _spacy(settings, used)),
        ("omegaconf", _words(settings, modules, used, sources)),
        ("yacs", default_tree(settings, modules, sources)),
        ("argv", attribute_options(modules, sources.resolver)),
        ("config", _kept(settings)),
    ):
        keys = list(found)
        if keys:
            style = name
            break
    if not keys:
        return parser
    own = parser.options if parser else ()
    shown = parser is not None and parser.style == "documented"
    options = tuple(once([*keys, *own] if shown else [*own, *keys]))[:MAX_OPTIONS]
    kept = parser is not None and (style == "config" or parser.style not in _WEAK)
    return Parser(parser.style if parser and kept else style, options)


def _option(path: str, flag: str, value: Json, line: int = 0, source: str = "") -> FoundOption:
    kind = None if value is None else type(value).__name__
    kept = value if not isinstance(value, list | dict) or len(str(value)) < 300 else None
    option = ScriptOption(flag=flag, default=kept, type=kind)
    return FoundOption(option, (flag,), source_line(path, line), source=source)


def _shown(commands: Sequence[Documented], used: Documented) -> Iterator[FoundOption]:
    """The options that documented commands of the same program use; the one that was chosen first."""
    same = [d for d in commands if d.command.target == used.command.target and d.command.kind == used.command.kind]
    for d in [used, *same[:_MAX_COMMANDS]]:
        for key, value in pairs(d.command):
            if re.fullmatch(r"-{1,2}[A-Za-z][\w.-]*|[A-Za-z_][\w.]*", key):
                kind = None if re.search(r"[<>${}]", value) else type(_number(value)).__name__
                yield FoundOption(ScriptOption(flag=key, type=kind), (key,), d.command.where)


def _number(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


# ---- gin


def _gin(
    settings: Sequence[Setting], modules: Sequence[Module], used: Documented | None, sources: Sources
) -> Iterator[FoundOption]:
    files = [s for s in settings if s.path.endswith(".gin")]
    if not files:
        return
    spelled = any("--gin." in t or t == "gin." for m in modules[:_NEAR] for n in m.strings if (t := str(n.value)))
    typed = used is not None and any(w.startswith("--gin.") for w in used.command.args)
    before = "--gin." if spelled or typed else ""
    for setting in files:
        for name, value, line in bindings(sources.text(setting.path) or ""):
            macro = isinstance(value, str) and value.startswith("%") and not value.startswith("%gin.REQUIRED")
            if not macro:  # what a macro sets is set by the macro
                default = None if isinstance(value, str) and value.startswith(("%", "@")) else value
                yield _option(setting.path, before + name, default, line)


# ---- ml_collections


def _ml_config(settings: Sequence[Setting], modules: Sequence[Module], sources: Sources) -> Iterator[FoundOption]:
    """`--config.batch_size` for a file whose `get_config()` an absl flag takes."""
    for module in modules[:_NEAR]:
        for call in module.calls:
            if call.last not in ("DEFINE_config_file", "DEFINE_config_dict") or not call.node.args:
                continue
            name = text_of(call.node.args[0], module) or "config"
            named = [s.path for s in settings if s.path.endswith(".py")]
            for path in named or ml_config_files(module, call.node, sources):
                values = read_values(path, sources.text(path) or "", sources) | dict(ml_values(sources.module(path)))
                for key, value in values.items():
                    yield _option(path, f"--{name}.{key}", value)
            return


# ---- Hydra, OmegaConf and other `key=value` words


def _hydra(settings: Sequence[Setting], modules: Sequence[Module], sources: Sources) -> Iterator[FoundOption]:
    found = [root for m in modules[:_NEAR] for root in roots(m)]
    if not found:
        return
    home = found[0].home
    for setting in settings:
        inside = setting.path.startswith(f"{home}/") or home == "."
        if inside and setting.path.endswith((".yaml", ".yml")):
            prefix = _package(setting.path, home, sources.text(setting.path) or "")
            for key, value in setting.values.items():
                if not re.search(r"(?:^|\.)(?:defaults|hydra|_target_)(?:\.|$)", key):
                    yield _option(setting.path, f"{prefix}.{key}" if prefix else key, value)
    yield from _structured(modules, frozenset(r.name for r in found), sources)


def _structured(modules: Sequence[Module], names: frozenset[str], sources: Sources) -> Iterator[FoundOption]:
    """Fields of the classes that are registered as configurations, or merged with the command line's words."""
    for module in modules[:_NEAR]:
        for call in module.calls:
            node = keyword(call.node, "node") or (call.node.args[0] if call.node.args else None)
            if call.last == "structured" and node is not None:
                name = dotted(node.func if isinstance(node, ast.Call) else node)
                yield from Fields(sources.resolver, _BARE).of_class(module, name)
            elif call.last == "store" and keyword(call.node, "node") is not None and node is not None:
                group = text_of(keyword(call.node, "group"), module) or ""
                stored = text_of(keyword(call.node, "name"), module) or ""
                if group or stored in names:
                    path = tuple(group.split("/")) if group else ()
                    name = dotted(node.func if isinstance(node, ast.Call) else node)
                    yield from Fields(sources.resolver, _BARE).of_class(module, name, path)


def _package(path: str, home: str, text: str) -> str:
    """Where Hydra puts a file's keys: below the names of its folders, or where its `@package` line says."""
    said = re.search(r"^\s*#\s*@package\s+(\S+)", text[:2000], re.MULTILINE)
    folder = relpath(dirname(path) or ".", home)
    own = "" if folder == "." else folder.replace("/", ".")
    if said is None:
        return own
    word = said[1].replace("_group_", own)
    return "" if word in ("_global_", "_root_") else word


def _words(
    settings: Sequence[Setting], modules: Sequence[Module], used: Documented | None, sources: Sources
) -> Iterator[FoundOption]:
    """Keys of a configuration that `key=value` words override: code reads such words, or a command has some."""
    reads = any(c.last in _FROM_WORDS for m in modules[:_NEAR] for c in m.calls)
    if reads:
        yield from _structured(modules, frozenset(), sources)
    words = used.command.args if used else ()
    typed = [w.lstrip("+").partition("=")[0] for w in words if re.match(r"\+{0,2}[A-Za-z_][\w.]*=", w)]
    known = {key for s in settings for key in s.values}
    if reads or any(k in known for k in typed):
        yield from (_option(s.path, k, v) for s in settings for k, v in s.values.items() if _trains(s))


def _spacy(settings: Sequence[Setting], used: Documented | None) -> Iterator[FoundOption]:
    """Sections of the configuration that `spacy train` reads."""
    if used is None or not re.search(r"(?:^|\s)spacy\s+(?:pre)?train(?:\s|$)", used.command.text):
        return
    for setting in settings:
        if setting.path.endswith(".cfg"):
            yield from (_option(setting.path, f"--{key}", value) for key, value in setting.values.items())


def _kept(settings: Sequence[Setting]) -> Iterator[FoundOption]:
    """Keys that only the file sets."""
    for setting in settings:
        if _trains(setting):
            yield from (_option(setting.path, key, value, source=setting.path) for key, value in setting.values.items())


def _trains(setting: Setting) -> bool:
    return not _NOT_TRAINING.search(setting.path.lower())
