"""The layers of settings: files, environment, command line. What stands over what, and what a stranger's file may say.

A setting's name in a file is its variable in small letters without CARAVAN_: `soft_limit_usd`, `nomad_addr`. Values are
checked by whoever makes the settings; here is only where each is from.
"""

import difflib
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from caravan.values.errors import UsageError
from caravan.values.masking import mask
from config_files import ConfigFile, Layer

FLAG: Final = "--setting"
_TABLES: Final = ("settings", "clusters", "default_cluster")
_ELSEWHERE: Final = {"config": "it names the file itself: set CARAVAN_CONFIG, or give --config"}

LOWERED: Final = frozenset(
    {"soft_limit_usd", "hard_limit_usd", "monthly_usd", "user_monthly_usd"}
    | {"model_run_tokens", "model_step_tokens", "model_run_seconds", "model_step_seconds"}
    | {"max_archive_mb", "max_data_gb"}
)
"""Limits that a file which nobody trusted may lower, and never raise."""
GRANTED: Final[Mapping[str, Any]] = {"memory": False, "memory_scope": "repository", "smoke": True}
"""What else it may say: less is remembered, less is told, more is checked."""

BELONGS: Final[Mapping[str, tuple[str, ...]]] = {
    "nomad_addr": (
        *("nomad_token", "nomad_http_auth", "nomad_client_cert", "nomad_client_key", "nomad_cacert", "nomad_capath"),
        *("nomad_skip_verify", "nomad_tls_server_name", "nomad_namespace", "nomad_region"),
    ),
    "qdrant_url": ("qdrant_api_key",),
    "model_url": ("model_api_key", "model_api_key_file", "model_cacert"),
    "model_fallback_url": ("model_fallback_api_key",),
    "langfuse_base_url": ("langfuse_public_key", "langfuse_secret_key", "langfuse_cacert"),
    "hf_endpoint": ("hf_token",),
}
"""Address → what is meant for it alone. Where another layer gives another address, it does not go there."""


@dataclass(frozen=True)
class Origin:
    """Where a value is from: `where` names the variable, the file with its line, or the option."""

    layer: Layer
    where: str = ""
    line: int = 0
    tightens: bool = False
    """It is from a file that nobody trusted, and lowers a limit."""

    @property
    def place(self) -> str:
        """The place as a message names it."""
        return f"{self.where}:{self.line}" if self.line else self.where

    @property
    def source(self) -> str:
        """The kind of place."""
        return {Layer.DEFAULT: "default", Layer.ENVIRONMENT: "environment", Layer.FLAG: "flag"}.get(self.layer, "file")


DEFAULT: Final = Origin(Layer.DEFAULT)


@dataclass
class Laid:
    """What the layers come to: values by field, where each is from, and what is told."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def variables(setting: FieldInfo) -> list[str]:
    """A setting's environment variables, the first of them its own."""
    alias = setting.validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]


def file_name(setting: FieldInfo) -> str:
    """What a setting is called in a file."""
    return variables(setting)[0].lower().removeprefix("caravan_")


def lay(
    fields: Mapping[str, FieldInfo],
    files: Sequence[ConfigFile],
    environment: Mapping[str, str],
    flags: Sequence[str] = (),
) -> Laid:
    """Put the layers over each other. `files`: the lowest first; `flags`: NAME=VALUE. Raises UsageError."""
    laid, by_name = Laid(), {file_name(f): name for name, f in fields.items()}
    addresses: dict[str, list[tuple[Layer, str]]] = {}
    for file in files:
        _take(laid, file, fields, by_name)
        _note_addresses(addresses, file.layer, {k: v for k, v in laid.values.items() if _from(laid, k, file.layer)})
    said = {key.lower(): (key, value) for key, value in environment.items() if value}
    for name, setting in fields.items():
        key, value = next((said[v.lower()] for v in variables(setting) if v.lower() in said), ("", ""))
        if key:
            laid.values[name] = _decoded(value, setting)
            laid.origins[name] = Origin(Layer.ENVIRONMENT, key)
            _note_addresses(addresses, Layer.ENVIRONMENT, {name: value})
    for flag in flags:
        name, value = _flag(flag, fields, by_name)
        laid.values[name], laid.origins[name] = (
            _decoded(value, fields[name]),
            Origin(Layer.FLAG, f"{FLAG} {flag.partition('=')[0]}"),
        )
        _note_addresses(addresses, Layer.FLAG, {name: value})
    _keep_to_their_address(laid, fields, addresses)
    return laid


def _from(laid: Laid, name: str, layer: Layer) -> bool:
    return laid.origins.get(name, DEFAULT).layer is layer


def _take(laid: Laid, file: ConfigFile, fields: Mapping[str, FieldInfo], by_name: Mapping[str, str]) -> None:
    table = file.settings
    if not file.trusted:
        _take_what_is_safe(laid, file, fields, by_name)
        return
    for key in file.data:
        if key not in _TABLES:
            hint = f"Write {key} below [settings]." if key.lower() in by_name else _near(key, _TABLES)
            raise UsageError(f"{file.shown}:{file.line(key)}: {key}: there is no such key.", hint=hint)
    if not isinstance(table, dict):
        raise UsageError(f"{file.shown}:{file.line('settings')}: settings: it is a table: [settings].")
    for key, value in table.items():
        place = f"{file.shown}:{file.line('settings', key)}: [settings] {key}"
        if key in _ELSEWHERE:
            raise UsageError(f"{place}: {_ELSEWHERE[key]}.")
        if key not in by_name:
            raise UsageError(f"{place}: there is no such setting.", hint=_near(key, by_name))
        name = by_name[key]
        _check_kind(place, value, fields[name])
        if is_secret(fields[name]) or (isinstance(value, str) and mask(value) != value):
            _check_mode(file, place)
        laid.values.pop(name, None)
        laid.origins.pop(name, None)
        if value != "":  # an empty text takes back what a lower file says
            laid.values[name] = _in_full(value, fields[name], file.path.parent)
            laid.origins[name] = Origin(file.layer, file.shown, file.line("settings", key))


def _take_what_is_safe(
    laid: Laid, file: ConfigFile, fields: Mapping[str, FieldInfo], by_name: Mapping[str, str]
) -> None:
    """From a file that nobody trusted: what only lowers limits. Of the rest is told by name."""
    table = file.settings if isinstance(file.settings, dict) else {}
    left = [key for key in file.data if key != "settings"]
    for key, value in table.items():
        name = by_name.get(key, "")
        now = laid.values.get(name, fields[name].get_default() if name else None)
        if name and (_lowers(name, value, now, fields[name]) or (name in GRANTED and value == GRANTED[name])):
            laid.values[name] = value
            laid.origins[name] = Origin(file.layer, file.shown, file.line("settings", key), tightens=True)
        elif not name or value != now:
            left.append(key)
    if left:
        shown = ", ".join(mask(" ".join(str(key).split()))[:40] for key in left[:8])
        more = f" and {len(left) - 8} more" if len(left) > 8 else ""
        laid.notes.append(
            f"{file.shown} is not trusted, so this is not taken from it: {shown}{more}. "
            "Read it; then `main.py config trust` takes all of it."
        )


def _lowers(name: str, value: Any, now: Any, setting: FieldInfo) -> bool:
    if name not in LOWERED or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    least = max((m.ge for m in setting.metadata if getattr(m, "ge", None) is not None), default=0)
    whole = isinstance(value, int) or setting.annotation is not int
    try:
        return whole and least <= value and (now is None or value < float(now))
    except (TypeError, ValueError):
        return False


def _check_kind(place: str, value: Any, setting: FieldInfo) -> None:
    """A truth is no number: what checks the settings takes it for 1."""
    if isinstance(value, bool) and "bool" not in str(setting.annotation):
        kind = "text" if "str" in str(setting.annotation).lower() or "Path" in str(setting.annotation) else "a number"
        raise UsageError(f"{place}: it takes {kind}, not {str(value).lower()}.", hint="Correct it there.")


def is_secret(setting: FieldInfo) -> bool:
    """Whether the setting's value may be shown to nobody."""
    return "SecretStr" in str(setting.annotation)


def _check_mode(file: ConfigFile, place: str) -> None:
    if file.mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise UsageError(
            f"{place}: a secret may not stand in a file that others can read or change.", hint=f"chmod 600 {file.shown}"
        )


def _in_full(value: Any, setting: FieldInfo, folder: Path) -> Any:
    """Paths count from the file that names them."""
    if not isinstance(value, str):
        return value
    if "Path" in str(setting.annotation):
        return str(folder / Path(value).expanduser()) if not value.startswith("~") else value
    if file_name(setting) == "training_types":
        parts = [part for part in value.split(os.pathsep) if part]
        return os.pathsep.join(part if part.startswith("~") else str(folder / part) for part in parts)
    return value


def _flag(flag: str, fields: Mapping[str, FieldInfo], by_name: Mapping[str, str]) -> tuple[str, str]:
    given, equals, value = flag.partition("=")
    key = given.strip().lower().removeprefix("caravan_")
    if not equals or not key:
        raise UsageError(f"{FLAG} takes NAME=VALUE.", hint=f"For example {FLAG} soft_limit_usd=5.")
    if key not in by_name or key in _ELSEWHERE:
        raise UsageError(f"{FLAG}: there is no setting {mask(given)[:60]}.", hint=_near(key, by_name))
    if is_secret(fields[by_name[key]]):
        hint = f"Set {variables(fields[by_name[key]])[0]}, or put it into a file that others can't read."
        raise UsageError(f"{FLAG} {key}: everybody on this machine can read a command line.", hint=hint)
    return by_name[key], value


def _decoded(text: str, setting: FieldInfo) -> Any:
    """What a text says: a setting of several parts is written as JSON. What is none is left to whoever checks it."""
    if "tuple[" not in str(setting.annotation):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _note_addresses(addresses: dict[str, list[tuple[Layer, str]]], layer: Layer, values: Mapping[str, Any]) -> None:
    for name in BELONGS:
        if isinstance(value := values.get(name), str):
            addresses.setdefault(name, []).append((layer, value.rstrip("/")))


def _keep_to_their_address(
    laid: Laid, fields: Mapping[str, FieldInfo], addresses: Mapping[str, list[tuple[Layer, str]]]
) -> None:
    """Leave out what is meant for another address than the one that is in force."""
    for name, said in addresses.items():
        last = said[-1][1]
        for key in BELONGS[name]:
            origin = laid.origins.get(key)
            if origin is None:
                continue
            meant = [address for layer, address in said if layer <= origin.layer]
            if not meant or meant[-1] == last:
                continue
            laid.origins.pop(key)
            laid.values.pop(key, None)
            if is_secret(fields[key]):
                where = laid.origins[name].where
                laid.notes.append(
                    f"{file_name(fields[key])} of {origin.where} is not used: it is meant for another "
                    f"{file_name(fields[name])} than that of {where}."
                )


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower().removeprefix("caravan_"), list(names), n=1)
    return f"Did you mean {near[0]}?" if near else "See docs/settings.md for the settings."


def known_name(given: str, fields: Mapping[str, FieldInfo]) -> str:
    """The field of a setting that is given by its name or its variable. Raises UsageError with the nearest."""
    by_name = {file_name(f): name for name, f in fields.items()}
    key = given.strip().lower().removeprefix("caravan_")
    if key in _ELSEWHERE:
        raise UsageError(f"{key} can't stand in a file: {_ELSEWHERE[key]}.")
    if key not in by_name:
        raise UsageError(f"There is no setting {mask(given)[:60]}.", hint=_near(key, by_name))
    return by_name[key]
