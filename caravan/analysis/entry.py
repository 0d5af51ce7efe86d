"""Everything that was read about a chosen entry, and how to look things up in it. Pure; it decides no field.

Order of trust: what the documented command gives, what its configurations say, what the parser has as default.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from caravan.analysis.configs import pick
from caravan.analysis.documents import Documented
from caravan.analysis.findings import Command, Found, FoundOption, Module
from caravan.analysis.prompt import Wishes
from caravan.analysis.python import keyword, value_of
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import plain
from caravan.values.base import Json
from caravan.values.repo import Launcher, SourceLine

UNFILLED: Final = re.compile(r"^$|[<>${}*]|\bpath[_ /]to\b|^(?:none|null|true|false)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """Everything that was read about the chosen entry."""

    launcher: Launcher
    modules: tuple[Module, ...]
    options: tuple[FoundOption, ...]
    documented: Documented | None
    configs: Mapping[str, Mapping[str, Json]]
    packages: frozenset[str]
    wishes: Wishes
    paths: frozenset[str]
    cwd: str = "."
    commands: Sequence[Documented] = ()
    sources: Sources | None = field(default=None, repr=False, compare=False)
    loaded: dict[str, tuple[Any, ...]] = field(default_factory=dict, repr=False, compare=False)
    """What `loaded.py` found in a module, kept for who asks next."""

    def option(self, *names: str) -> FoundOption | None:
        """The option with the first of these names that the parser has; a dotted option counts by its last part."""
        for name in names:
            for found in self.options:
                if any(plain(n).rsplit(".", 1)[-1] == name for n in found.names()):
                    return found
        return None

    def given(self, *names: str) -> str | None:
        """What the documented command gives to one of these options, when it is no place to fill in."""
        for name in names if self.documented else ():
            value = self.documented.command.value(name) if self.documented else None
            if value is not None and not UNFILLED.search(value):
                return value
        return None

    def configured(self, *names: str) -> tuple[Json, str] | None:
        """What a configuration of the documented command says, with the configuration's path."""
        for path, values in self.configs.items():
            value = pick(dict(values), *names)
            if value is not None and not isinstance(value, list | dict):
                return value, path
        return None

    def said(self, names: Sequence[str]) -> list[Found]:
        """What command, configurations and parser say for these names, the most trusted first; nothing is left out.

        A dotted name counts by its last part; of one source the earlier name goes first.
        """
        found: list[Found] = []
        given = pairs(self.documented.command) if self.documented else []
        where = (self.documented.command.where,) if self.documented else ()
        found += [Found(v, 0.9, where) for name in names for key, v in given if name in _called(key)]
        settled = {n for key, _ in given for n in _called(key)}
        for path, values in self.configs.items():
            rows = sorted(values.items(), key=lambda row: row[0].count("."))
            place = (SourceLine(file=path, line=0),)
            told = [(n, v) for n in names if n not in settled for key, v in rows if n in _called(key) and v is not None]
            found += [Found(value, 0.8, place) for _, value in told]
            settled |= {name for name, _ in told}
        for name in names:
            option = self.option(name) if name not in settled else None
            if option and option.option.default is not None:
                found.append(Found(option.option.default, 0.7, (option.where,)))
        return found + [f for name in names if name not in settled for f in self._written(name)]

    def _written(self, name: str) -> Iterator[Found]:
        """What the entry's own code says: a constant of that name, or such a keyword of a call (`Config(name="x")`)."""
        for module in self.modules[:1]:
            for key, statement in module.constants.items():
                if key.lower() == name and (value := value_of(statement.value, module)) is not None:
                    yield Found(value, 0.6, (module.at(statement.lineno),))
            for call in module.calls if "_" in name else ():
                value = value_of(keyword(call.node, name), module)
                if isinstance(value, str):
                    yield Found(value, 0.55, (module.at(call.line),))

    @property
    def sentence(self) -> str:
        """The user's sentence."""
        return self.wishes.text


def _called(key: str) -> tuple[str, ...]:
    """The names that a dotted key answers to: its last part, and its last two (`data.path` is `data_path`)."""
    parts = plain(key).lower().split(".")
    return (parts[-1], "_".join(parts[-2:])) if len(parts) > 1 else (parts[-1],)


def last(key: str) -> str:
    """The last part of a dotted key, in lower case with underscores."""
    return plain(key).rpartition(".")[2].lower()


def pairs(command: Command) -> list[tuple[str, str]]:
    """(option, value) of a command's words: `--a b`, `--a=b`, `a=b`, `-a b`; options without a value are left out."""
    return list(_pairs(command.args))


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for i, word in enumerate(words):
        key, equals, value = word.partition("=")
        if equals and re.fullmatch(r"[-+~]*[\w.@/-]+", key):
            yield key, value.strip("\"'")
        elif word.startswith("-") and i + 1 < len(words) and not re.match(r"--|-[A-Za-z]", words[i + 1]):
            yield word, words[i + 1].strip("\"'")
