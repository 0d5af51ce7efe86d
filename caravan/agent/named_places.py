"""Data and models outside the repository that a sentence names, looked at while a training type is chosen.

It reads the beginnings of files that a person has named, on this machine alone. How they get to the job is
`data_delivery`'s.
"""

import os
from pathlib import Path
from typing import Final

from caravan.agent.data_places import named_path, place_at
from caravan.training.choosing import Scene, outside, said_in
from caravan.training.data.places import DataFile
from caravan.training.mentions import Kind, mentions
from caravan.training.sniffing import HEAD, Seen, image_folders, likely, look

_WEIGHTS: Final = (".safetensors", ".bin")


def beyond_the_tree(scene: Scene, root: Path | None = None) -> Scene:
    """The scene with what lies outside the repository and is named: the model's folder, and what the data look like.

    `root`: where the repository lies on this machine; None for a copy of one that lies elsewhere.
    """
    places = [m.text for m in mentions(scene.prompt) if m.kind is Kind.PLACE]
    models = [name for name in places if _is_model(name, root)]
    scene = scene._replace(models=scene.models | set(models), model=scene.model or next(iter(models), None))
    data = said_in(scene).data
    if data is None or not outside(data):
        return scene
    return scene._replace(seen=(*scene.seen, *_seen(data, root)))


def _path(name: str, root: Path | None) -> Path | None:
    try:
        return named_path(name, root)
    except (OSError, RuntimeError):  # ~nobody/x
        return None


def _is_model(name: str, root: Path | None) -> bool:
    path = _path(name, root)
    try:
        return path is not None and any(p.name.endswith(_WEIGHTS) for p in path.iterdir()) and _has_config(path)
    except OSError:
        return False


def _has_config(path: Path) -> bool:
    return os.access(path / "config.json", os.R_OK)


def _seen(name: str, root: Path | None) -> list[Seen]:
    """What the files at a place look like; nothing for one that is not here or may not be read."""
    path = _path(name, root)
    if path is None:
        return []
    files = {file.name: file for file in place_at(path, name).files}
    if list(files) == [name]:
        return [seen for seen in [_look(files[name], name)] if seen is not None]
    inner = {each.removeprefix(name).lstrip("/"): file for each, file in files.items()}
    found = [seen for each in likely(inner, any_text=True) if (seen := _look(inner[each], each)) is not None]
    whole = [seen._replace(path=name if seen.path == "." else f"{name}/{seen.path}") for seen in image_folders(inner)]
    return [*(seen._replace(path=f"{name}/{seen.path}") for seen in found), *whole]


def _look(file: DataFile, name: str) -> Seen | None:
    try:
        with file.open() as stream:
            return look(name, stream.read(HEAD))
    except OSError:
        return None
