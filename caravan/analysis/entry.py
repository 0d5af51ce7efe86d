"""Everything that was read about a chosen entry, and how to look things up in it. Pure; it decides no field.

Order of trust: what the documented command gives, what its configurations say, what the parser has as default.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from caravan.analysis.configs import pick
from caravan.analysis.documents import Documented
from caravan.analysis.findings import Command, Found, FoundOption, Module
from caravan.analysis.prompt import Wishes
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
        if self.documented:
            where = (self.documented.command.where,)
            given = pairs(self.documented.command)
            found += [Found(v, 0.9, where) for name in names for key, v in given if last(key) == name]
        for path, values in self.configs.items():
            rows = sorted(values.items(), key=lambda row: row[0].count("."))
            place = (SourceLine(file=path, line=0),)
            found += [Found(v, 0.8, place) for name in names for key, v in rows if last(key) == name and v is not None]
        for name in names:
            option = self.option(name)
            if option and option.option.default is not None:
                found.append(Found(option.option.default, 0.7, (option.where,)))
        return found

    @property
    def sentence(self) -> str:
        """The user's sentence."""
        return self.wishes.text


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
