"""Everything that was read about a chosen entry, and how to look things up in it. Pure; it decides no field.

Order of trust: what the documented command gives, what its configurations say, what the parser has as default.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from caravan.analysis.configs import pick
from caravan.analysis.documents import Documented
from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.prompt import Wishes
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import plain
from caravan.values.base import Json
from caravan.values.repo import Launcher

_UNFILLED: Final = re.compile(r"^$|[<>${}*]|\bpath[_ /]to\b|^(?:none|null|true|false)$", re.IGNORECASE)


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
            if value is not None and not _UNFILLED.search(value):
                return value
        return None

    def configured(self, *names: str) -> tuple[Json, str] | None:
        """What a configuration of the documented command says, with the configuration's path."""
        for path, values in self.configs.items():
            value = pick(dict(values), *names)
            if value is not None and not isinstance(value, list | dict):
                return value, path
        return None
