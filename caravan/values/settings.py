"""A setting as it is shown: its name, its value, and where the value is from."""

from typing import NamedTuple


class SettingRow(NamedTuple):
    """One value. `variable`: its environment variable, where it has one; `value`: as text, secrets masked."""

    name: str
    """As a file has it: `soft_limit_usd`, `clusters.prod.address`."""
    variable: str
    value: str
    source: str
    """default, file, environment, flag."""
    where: str = ""
    """File and line, the variable that is set, or the option; empty for a default."""


class ConfigPlace(NamedTuple):
    """A file in which settings can stand."""

    path: str
    exists: bool
    in_force: bool
    trusted: bool
    """Whether all of it is taken; of another only what lowers limits."""


class Written(NamedTuple):
    """What became of a file of settings. `value` is masked where it is a secret."""

    path: str
    name: str
    value: str
    changed: bool
