"""The shape of a model that a command names: a config on this machine, else what the hub says of one no table knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from caravan.planning.model_configs import read_model_config
from caravan.planning.shapes import guessed_shape, listed_shape
from caravan.terminal.text import one_line

if TYPE_CHECKING:
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.shape import ModelShape

_LONGEST = 2_000_000
_NAMES = ("config.json", "transformer/config.json", "unet/config.json")


def known_model(wiring: Wiring, name: Json) -> tuple[ModelShape | None, tuple[str, ...]]:
    """The shape, None where only the name itself may tell one, and notes on what was looked at in vain."""
    if not isinstance(name, str) or not name.strip():
        return None, ()
    here = _config_here(name)
    if here is not None:
        found = read_model_config(_loaded(here), source=one_line(str(here), 200))
        return found.shape, (f"{one_line(str(here), 200)} gives no shape: {found.reason}",) if found.reason else ()
    hub = wiring.hub() if listed_shape(name) is None and name.count("/") == 1 else None
    if hub is None:
        return None, ()
    answer = hub.model(name)
    if answer.config is None:
        if answer.params and answer.params < 10**14:
            guess = guessed_shape(answer.params / 1e9)
            told = f"guessed from the {guess.params_b:.3g} B parameters that the hub counts"
            return guess.model_copy(update={"source": told}), ()
        return None, (f"the hub says nothing of {one_line(name, 100)}: {one_line(answer.text, 200)}",)
    told = f"config.json of {one_line(name, 100)} on the hub"
    found = read_model_config(answer.config, params=answer.params, source=told)
    return found.shape, (f"{told} gives no shape: {found.reason}",) if found.reason else ()


def _config_here(name: str) -> Path | None:
    """The config at a path on this machine, or in the folder there."""
    try:
        path = Path(name).expanduser()
        if path.is_file() and path.suffix == ".json":
            return path
        return next((path / n for n in _NAMES if (path / n).is_file()), None)
    except (OSError, RuntimeError, ValueError):
        return None


def _loaded(path: Path) -> Json:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
