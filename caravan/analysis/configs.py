"""Configuration files (YAML, TOML, JSON) as flat mappings of dotted keys. Pure; a broken one is empty."""

import json
import tomllib
from posixpath import splitext
from typing import Any, Final

from caravan.analysis.findings import clean
from caravan.values.base import Json
from caravan.values.yaml_loading import safe_loader

ENDINGS: Final = (".yaml", ".yml", ".json", ".toml")
MAX_TEXT: Final = 300_000
_MAX_KEYS: Final = 5000


def load(path: str, text: str) -> Any:
    """The document, by the file's ending. Raises ValueError for what does not parse, is too long or too deep."""
    if len(text) > MAX_TEXT:
        raise ValueError("too long for a configuration")
    ending = splitext(path)[1].lower()
    try:
        if ending == ".json":
            return json.loads(text)
        if ending == ".toml":
            return tomllib.loads(text)
        return _yaml(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _yaml(text: str) -> Any:
    import yaml

    if text.count("*") and text.count("&") > 100:
        raise ValueError("too many anchors")  # aliases of aliases grow without bound
    try:
        return yaml.load(text, Loader=safe_loader(text))  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error).split("\n")[0]) from error
    except (AttributeError, TypeError, OverflowError) as error:  # the loader on odd scalars and keys
        raise ValueError(f"{type(error).__name__} in the document") from error


def flat(path: str, text: str) -> dict[str, Json]:
    """Dotted key → scalar or list of a configuration; empty when it does not parse or is no mapping."""
    try:
        document = load(path, text)
    except ValueError:
        return {}
    found: dict[str, Json] = {}
    pending: list[tuple[str, Any, int]] = [("", document, 0)]
    while pending and len(found) < _MAX_KEYS:
        prefix, value, depth = pending.pop()
        if isinstance(value, dict) and depth < 20:
            pending += [(f"{prefix}.{k}" if prefix else str(k), v, depth + 1) for k, v in value.items()]
        elif isinstance(value, list) and value and isinstance(value[0], dict) and depth < 20:
            pending += [(f"{prefix}.{i}", v, depth + 1) for i, v in enumerate(value[:20])]
        elif prefix and isinstance(value, str | int | float | bool | list | None):
            found[clean(prefix)] = clean(value) if isinstance(value, str) else value
    return found


def pick(values: dict[str, Json], *names: str) -> Json:
    """The first value whose key, or its last part, is one of `names` (in their order); None where there is none."""
    for name in names:
        hits = [k for k in values if k == name or k.endswith("." + name)]
        found = next((values[k] for k in sorted(hits, key=lambda k: k.count(".")) if values[k] is not None), None)
        if found is not None:
            return found
    return None
