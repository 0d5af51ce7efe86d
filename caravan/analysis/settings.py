"""The configuration documents that an entry really reads, flat, each with the ones that it is built upon.

Pure, over `Sources`. A document counts when the command names it, a parser's default does, Hydra composes it, or the
file itself includes it. Nothing is run: a configuration in Python is read as far as its values are literals.
"""

import ast
import configparser
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import basename, dirname, join, normpath, splitext
from typing import Final

from caravan.analysis.configs import ENDINGS, flat, load
from caravan.analysis.documents import Documented
from caravan.analysis.findings import FoundOption, Module, clean
from caravan.analysis.gin import bindings
from caravan.analysis.hydra import roots
from caravan.analysis.python import dotted, value_of
from caravan.analysis.sources import Sources
from caravan.analysis.walking import walk
from caravan.values.base import Json

KINDS: Final = (*ENDINGS, ".gin", ".cfg", ".ini", ".py")
_MAX_DOCUMENTS: Final = 30
_MAX_CONFIG_TEXT: Final = 300_000
_BASE_KEYS: Final = ("_base_", "_BASE_", "__base__", "base_config", "extends", "inherit_from", "include", "includes")
_INSIDE: Final = ("-config", "_config", "config", "conf", "cfg", "gin_file", "gin_files", "args", "recipe", "yaml")


@dataclass(frozen=True, slots=True)
class Setting:
    """A configuration document: its path and its values by dotted key."""

    path: str
    values: Mapping[str, Json]


def read_settings(
    sources: Sources,
    named: Sequence[str],
    modules: Sequence[Module],
    options: Sequence[FoundOption],
    used: Documented | None,
) -> tuple[Setting, ...]:
    """The documents in order of precedence: what the command names, then what those build upon, then the defaults."""
    cwd = used.cwd if used else (dirname(modules[0].path) if modules else ".") or "."
    given = _overrides(used)
    found: dict[str, Setting] = {}
    for path in named:
        _add(path, sources, given, found)
    for path in _hydra(sources, modules, given):
        _add(path, sources, given, found)
    if not found:
        for path in _by_default(options, sources, cwd):
            _add(path, sources, given, found)
    return tuple(found.values())


def named_files(
    used: Documented | None, sources: Sources, entry: str | None, asked: frozenset[str] = frozenset()
) -> list[str]:
    """The configuration files of the repository that the documented command names, in its order.

    For one that is not there (`configs/my_own.cfg`) its neighbour counts that the words `asked` speak of.
    """
    if used is None:
        return []
    found: dict[str, None] = {}
    words = list(used.command.args)
    folders = [f for w in words if (f := normpath(join(used.cwd, w))) in sources.folders][:5]
    for i, word in enumerate((*used.command.launcher_args, *words)):
        value = word.rpartition("=")[2].split(":")[0].strip("\"'")
        if value.endswith(KINDS):
            path = resolved(value, sources, (used.cwd, dirname(entry or "") or ".", ".", *folders))
            if path is None and value.endswith((".cfg", ".yaml", ".yml", ".toml", ".gin")):
                path = _neighbour(value, sources, (used.cwd, dirname(used.command.where.file) or "."), asked)
            if path and path != entry and basename(path) != "package.json":
                found.setdefault(path)
        elif i and _is_config_option(words, i - len(used.command.launcher_args)):
            path = _by_name(value, sources, (used.cwd, dirname(entry or "") or "."))
            if path and path != entry:
                found.setdefault(path)
    return list(found)


def _neighbour(name: str, sources: Sources, folders: Iterable[str], words: frozenset[str]) -> str | None:
    """Of the same kind of files where a missing one would stand, the one that most words of the request name."""
    for folder in dict.fromkeys(folders):
        home = dirname(normpath(join(folder, name)))
        near = [p for p in sources.paths if dirname(p) == home and splitext(p)[1] == splitext(name)[1]]
        told = {p: len(set(re.findall(r"[a-z]+|\d+b?", basename(p).lower())) & words) for p in near}
        best = max(sorted(near), key=lambda p: (told[p], -len(p)), default=None)
        if best and told[best]:
            return best
    return None


def _is_config_option(words: Sequence[str], i: int) -> bool:
    if i < 0 or i >= len(words):
        return False
    own = words[i].partition("=")[0] if "=" in words[i] else words[i - 1] if i else ""
    return own.lstrip("-").replace("-", "_").endswith(("config", "config_name", "config_file", "cfg", "recipe"))


def _by_name(name: str, sources: Sources, folders: Iterable[str]) -> str | None:
    """A configuration that is called by its bare name (`--config small`), when only one file can be meant."""
    if not re.fullmatch(r"[\w/.-]{2,100}", name):
        return None
    ends = tuple(f"/{name}{kind}" for kind in (".yaml", ".yml", ".toml", ".json", ".gin"))
    for folder in folders:
        prefix = "" if folder == "." else f"{folder}/"
        hits = [p for p in sources.paths if p.startswith(prefix) and f"/{p}".endswith(ends)]
        if len(hits) == 1:
            return hits[0]
    return None


def resolved(name: str, sources: Sources, folders: Iterable[str]) -> str | None:
    """The repository's file that a path means: from one of the folders, else the only file that ends like it."""
    for folder in folders:
        path = normpath(join(folder, name))
        if path in sources.paths:
            return path
    parts = [p for p in name.split("/") if p not in (".", "..")]
    while parts and re.search(r"[${}<>*]", parts[0]):
        parts = parts[1:]
    if len(parts) < 2:
        return None
    tail = "/".join(parts)
    if tail in sources.paths:
        return tail
    hits = [p for p in sources.paths if p.endswith(f"/{tail}")]
    return hits[0] if len(hits) == 1 else None


def _overrides(used: Documented | None) -> dict[str, str]:
    words = used.command.args if used else ()
    return dict(w.lstrip("+").split("=", 1) for w in words if "=" in w and not w.startswith("-"))


def _by_default(options: Sequence[FoundOption], sources: Sources, cwd: str) -> Iterator[str]:
    for found in options:
        default = found.option.default
        if isinstance(default, str) and default.endswith(KINDS) and len(default) < 200:
            path = resolved(default, sources, (cwd, dirname(found.where.file) or ".", "."))
            if path and path != found.where.file:
                yield path


def _add(path: str, sources: Sources, given: Mapping[str, str], found: dict[str, Setting]) -> None:
    """The document and, after it, what it builds upon."""
    pending = [path]
    while pending and len(found) < _MAX_DOCUMENTS:
        here = pending.pop(0)
        text = sources.text(here) if here not in found else None
        if text is None or len(text) > _MAX_CONFIG_TEXT:
            continue
        values = read_values(here, text, sources)
        chosen = {k: v for k, v in values.items() if not k.startswith("defaults.")}  # which files, and no settings
        found[here] = Setting(here, chosen)
        pending += [p for p in _bases(here, text, sources, given) if p not in found]


def read_values(path: str, text: str, sources: Sources | None = None) -> dict[str, Json]:
    """Dotted key → value of a configuration of any kind; empty where nothing can be read."""
    if path.endswith(".gin"):
        return dict(_gin(text))
    if path.endswith((".cfg", ".ini")):
        return _ini(text)
    if path.endswith(".py"):
        return _python(sources.module(path)) if sources else {}
    return flat(path, text)


def _gin(text: str) -> Iterator[tuple[str, Json]]:
    for name, value, _ in bindings(text):
        yield name.replace("/", "."), value


def _literal(text: str) -> Json:
    try:
        return value_of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text


def _ini(text: str) -> dict[str, Json]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of keys keep their case
    try:
        parser.read_string(text)
    except (configparser.Error, AttributeError):  # the latter for a line that goes on an option without a value
        return {}
    rows = ((f"{s}.{k}", v) for s in parser.sections() for k, v in parser.items(s))
    found: dict[str, Json] = {}
    for key, value in rows:
        literal = _literal(value) if value else None
        found[clean(key)] = clean(value or "") if literal is None else literal
    for key, value in list(found.items()):  # spaCy's `${paths.train}`
        if isinstance(value, str) and (match := re.fullmatch(r"\$\{([\w.:]+)\}", value)):
            found[key] = found.get(match[1].replace(":", "."), value)
    return found


def _python(module: Module) -> dict[str, Json]:
    """Constants, `config.a.b = …` in any function, and `dict(a=…)` to its leaves."""
    found: dict[str, Json] = {}
    for name, statement in module.constants.items():
        if statement.value is not None:
            found.update(_leaves(name, statement.value, module, 0))
    for function in module.functions.values():
        for node in walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                key = dotted(node.targets[0]).partition(".")[2]
                found.update(_leaves(key, node.value, module, 0) if key else ())
    for node in walk(ast.Module(body=_statements(module), type_ignores=[])):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            found.update(_leaves(dotted(node.targets[0]), node.value, module, 0))
    return found


def _statements(module: Module) -> list[ast.stmt]:
    try:
        return [s for s in ast.parse("\n".join(module.lines)).body if isinstance(s, ast.Assign)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _leaves(key: str, node: ast.expr, module: Module, depth: int) -> Iterator[tuple[str, Json]]:
    if depth < 6 and isinstance(node, ast.Call) and node.keywords:
        for item in node.keywords:
            if item.arg:
                yield from _leaves(f"{key}.{item.arg}", item.value, module, depth + 1)
        return
    value = value_of(node, module)
    if isinstance(value, dict):
        yield from ((f"{key}.{k}", v) for k, v in value.items())
    elif value is not None:
        yield key, value


def _bases(path: str, text: str, sources: Sources, given: Mapping[str, str]) -> Iterator[str]:
    here = dirname(path) or "."
    if path.endswith(".gin"):
        for name in re.findall(r"""^\s*include\s+["']([^"']+)["']""", text, re.MULTILINE):
            yield from _one(resolved(name, sources, (here, ".")))
        return
    if path.endswith(".py"):
        statement = sources.module(path).constants.get("_base_")
        names = value_of(statement.value, sources.module(path)) if statement else None
        for name in names if isinstance(names, list) else [names]:
            yield from _one(resolved(str(name), sources, (here,)) if name else None)
        return
    if path.endswith((".cfg", ".ini")):
        return
    try:
        document = load(path, text)
    except ValueError:
        return
    if not isinstance(document, dict):
        return
    for key in _BASE_KEYS:
        value = document.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and splitext(name)[1] in KINDS:
                yield from _one(resolved(name, sources, (here, ".")))
    if isinstance(document.get("defaults"), list):
        yield from _composed(path, document["defaults"], sources, given)


def _one(path: str | None) -> Iterator[str]:
    if path:
        yield path


def _hydra(sources: Sources, modules: Sequence[Module], given: Mapping[str, str]) -> Iterator[str]:
    """The document that `@hydra.main(config_path=…, config_name=…)` reads; groups follow from its defaults list."""
    for module in modules[:4]:
        for home, name in roots(module):
            if name:
                yield from _chosen(home, given, sources)
                yield from _one(resolved(f"{name}.yaml", sources, (home,)))


def _chosen(home: str, given: Mapping[str, str], sources: Sources) -> Iterator[str]:
    """The group files that the command chooses (`experiment=mnist`), which are stronger than the defaults."""
    for group, option in given.items():
        yield from _one(resolved(f"{group}/{option.removesuffix('.yaml')}.yaml", sources, (home,)))


def _composed(path: str, defaults: list[object], sources: Sources, given: Mapping[str, str]) -> Iterator[str]:
    """The files that a Hydra defaults list chooses, from the file's own directory or one of those above."""
    here = dirname(path) or "."
    homes = [here, dirname(here) or ".", dirname(dirname(here)) or "."]
    for item in defaults:
        for group, option in item.items() if isinstance(item, dict) else [("", item)]:
            name = str(group).removeprefix("override ").removeprefix("optional ").split("@")[0].strip("/ ")
            choice = given.get(name, option)
            for one in choice if isinstance(choice, list) else [choice]:
                file = normpath(join(name, f"{str(one).removesuffix('.yaml')}.yaml"))
                if one and str(one) != "_self_":
                    yield from _one(resolved(file, sources, homes))
