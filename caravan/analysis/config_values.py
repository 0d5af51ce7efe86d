"""What the configuration files that an entry reads say of its training, key by key, with the lines. Pure.

A file counts when the documented command names it, an option has it as its default, Hydra composes it, or else the
code spells it out. What is found is what the repository has; which of it a plan may change is not known here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from posixpath import basename, dirname, join, normpath
from typing import Any, Final

from caravan.analysis.configs import ENDINGS, flat
from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.settings import Setting
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import CONFIG_KEYS
from caravan.values.repo import ConfigValue
from caravan.values.yaml_loading import safe_loader

_MAX_FILES: Final = 12
_MAX_VALUES: Final = 200
_NEAR: Final = 4  # modules, the entry's own first, whose strings are looked at
_OTHERS: Final = frozenset({"package.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"})
_NOT_TRAINING: Final = frozenset(
    {
        "zero_optimization",
        "distributed_type",
        "compute_environment",
        "architectures",
        "build-system",
        "services",
        "jobs",
    }
)
"""Keys at the top of configurations of something else: DeepSpeed, accelerate, a model, a package, CI."""


def read_config_values(
    sources: Sources,
    modules: Sequence[Module],
    options: Sequence[FoundOption],
    named: Sequence[str],
    cwd: str,
    settings: Sequence[Setting] = (),
) -> tuple[ConfigValue, ...]:
    """The values in all files that the entry reads, those that the command names (`named`) first."""
    found: list[ConfigValue] = []
    places = dict.fromkeys([*named, *_by_default(options, sources, cwd), *(s.path for s in settings)])
    if not places:
        places = dict.fromkeys(_spelled_out(modules, sources, cwd))
    for path in list(places)[:_MAX_FILES]:
        text = sources.text(path)
        if text is not None and path.endswith(ENDINGS):
            found += _values(path, text)
    return tuple(found[:_MAX_VALUES])


def _values(path: str, text: str) -> Iterator[ConfigValue]:
    values = flat(path, text)
    tops = {key.split(".")[0] for key in values}
    if tops & _NOT_TRAINING:
        return
    lines: Mapping[str, int] | None = None
    for key, value in values.items():
        if key.rpartition(".")[2].replace("-", "_") in CONFIG_KEYS and isinstance(value, str | int | float | None):
            lines = _lines(path, text) if lines is None else lines
            short = value[:300] if isinstance(value, str) else value
            yield ConfigValue(file=path, key=key, value=short, line=lines.get(key, 0))


def _lines(path: str, text: str) -> Mapping[str, int]:
    """Dotted key → the line that it stands on."""
    return _toml_lines(text) if path.endswith(".toml") else _yaml_lines(text)


def _yaml_lines(text: str) -> Mapping[str, int]:
    """Of YAML, and of JSON, which is YAML but for tabs."""
    import yaml

    found: dict[str, int] = {}
    try:
        plain = text.replace("\t", " ")
        root = yaml.compose(plain, Loader=safe_loader(plain))
    except (yaml.YAMLError, RecursionError):
        return found
    pending: list[tuple[str, Any]] = [("", root)]
    while pending and len(found) < 5000:
        prefix, node = pending.pop()
        pairs: Iterable[tuple[str, int, Any]] = ()
        if isinstance(node, yaml.MappingNode):
            pairs = [(str(k.value), k.start_mark.line, v) for k, v in node.value if isinstance(k, yaml.ScalarNode)]
        elif isinstance(node, yaml.SequenceNode):
            pairs = [(str(i), v.start_mark.line, v) for i, v in enumerate(node.value)]
        for key, line, value in pairs:
            path = f"{prefix}.{key}" if prefix else key
            found[path] = line + 1
            pending.append((path, value))
    return found


def _toml_lines(text: str) -> Mapping[str, int]:
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = header[1].strip().replace('"', "")
        elif key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
            found.setdefault(f"{table}.{key[1]}" if table else key[1], number)
    return found


def _by_default(options: Sequence[FoundOption], sources: Sources, cwd: str) -> Iterator[str]:
    for found in options:
        default = found.option.default
        if isinstance(default, str) and default.endswith(ENDINGS):
            yield from _existing(default, (cwd, dirname(found.where.file)), sources)


def _spelled_out(modules: Sequence[Module], sources: Sources, cwd: str) -> Iterator[str]:
    """Files that the code itself names, as `open("config.json")` or `HERE / "config.yaml"` do."""
    for module in modules[:_NEAR]:
        for node in sorted(module.strings, key=lambda n: (n.lineno, n.col_offset)):
            name = str(node.value)
            if len(name) < 200 and name.endswith(ENDINGS):
                yield from _existing(name, (cwd, dirname(module.path)), sources)


def _existing(name: str, folders: Iterable[str], sources: Sources) -> Iterator[str]:
    for folder in folders:
        path = normpath(join(folder, name))
        if path in sources.paths and basename(path) not in _OTHERS:
            yield path
            return
