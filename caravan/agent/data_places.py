"""Data and models on this machine, opened for a look: a file or a folder with what lies in it. Only reads.

What is found in them is `caravan.training.data`'s.
"""

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from caravan.training.data.model_files import ModelFiles
from caravan.training.data.places import DataFile, Place
from caravan.values.base import Json

_MOST_FILES: Final = 200_000
_MOST_CONFIG: Final = 8 << 20
_MOST_TOKENIZER: Final = 100 << 20


def named_path(text: str, root: Path | None) -> Path:
    """Where a path that a person names lies on this machine: as the working directory sees it; one that climbs (`../x`)
    and leads nowhere from there is taken as the repository in `root` sees it, where that leads somewhere.

    Raises OSError and RuntimeError (`~nobody/x`).
    """
    path = Path(text).expanduser()
    if root is None or not text.startswith("../") or path.exists():
        return path
    beside = root / text
    return beside if beside.exists() else path


def place_at(path: Path, name: str = "") -> Place:
    """The data at a path, called `name` for a person. What is not there, or may not be read, is told in the place."""
    name = name or str(path)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return Place(name, tuple(_inside(path, name)), folder=True)
    except OSError as error:
        return Place(name, missing=_missing(error))
    if not stat.S_ISREG(found.st_mode):
        return Place(name, missing="it is neither a file nor a folder")
    if not os.access(path, os.R_OK):
        return Place(name, missing="it may not be read: its permissions forbid that")
    return Place(name, (_file(path, name, found.st_size),))


def _missing(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file or folder"
    return f"it can't be looked at: {error.strerror or error}"


def _inside(folder: Path, name: str) -> Iterator[DataFile]:
    """The regular files below a folder; hidden ones and those that can't be looked at are left out."""
    count = 0
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "_")))
        for each in sorted(files):
            path = Path(root, each)
            try:
                found = path.stat()
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode):
                count += 1
                yield _file(path, f"{name.rstrip('/')}/{path.relative_to(folder).as_posix()}", found.st_size)
            if count >= _MOST_FILES:
                return


def _file(path: Path, name: str, size: int) -> DataFile:
    def opened() -> IO[bytes]:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in the file's place would wait for ever
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("it is no file any more")
        return os.fdopen(descriptor, "rb", buffering=0)

    return DataFile(name, size, opened)


def model_at(folder: Path, name: str = "", *, source: str = "") -> ModelFiles:
    """What a folder with a model tells of it. `missing` says why it holds none."""
    name = name or str(folder)
    if not folder.is_dir():
        return ModelFiles(name, missing="there is no such folder of a model")
    config = _json(folder / "config.json")
    if config is None:
        return ModelFiles(name, missing="the folder holds no model: it has no config.json that can be read")
    template = _text(folder / "chat_template.jinja")
    if template is None:
        also = _json(folder / "chat_template.json")
        said = (also or {}).get("chat_template")
        template = said if isinstance(said, str) else None
    return ModelFiles(
        name=name,
        config=config,
        tokenizer=_bytes(folder / "tokenizer.json", _MOST_TOKENIZER),
        tokenizer_config=_json(folder / "tokenizer_config.json"),
        template=template,
        whole=(folder / "tokenizer_config.json").is_file(),
        source=source or str(folder),
        parameters=_parameters(folder),
        weights_bytes=_weights(folder) or None,
    )


def template_at(path: Path | None) -> str | None:
    """The text of a file with a chat template; None where there is none that can be read."""
    return _text(path) if path is not None else None


def _weights(folder: Path) -> int:
    """Bytes of the weights' files."""
    try:
        return sum(p.stat().st_size for p in folder.glob("*.safetensors"))
    except OSError:
        return 0


def _parameters(folder: Path) -> int | None:
    """Parameters by the headers of the weights' files; None where they can't be read."""
    total = 0
    try:
        for path in folder.glob("*.safetensors"):
            with path.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                header = json.loads(stream.read(min(length, _MOST_CONFIG)))
            total += sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return total or None


def model_in_cache(cache: Path, model: str, revision: str | None = None) -> ModelFiles | None:
    """What a hub's cache here has of a model (`models--ORG--NAME/snapshots/…`); None where it has nothing."""
    if not model or model.startswith((".", "/", "~")) or model.count("/") > 1:
        return None
    base = cache / f"models--{model.replace('/', '--')}"
    named = _text(base / "refs" / (revision or "main"))
    candidates = [base / "snapshots" / each for each in (revision, (named or "").strip()) if each]
    try:
        found = next((c for c in candidates if c.is_dir()), None)
    except OSError:
        return None
    if found is None or _json(found / "config.json") is None:
        return None
    return model_at(found, model, source=f"the hub's cache in {cache}")


def _bytes(path: Path, most: int = _MOST_CONFIG) -> bytes | None:
    try:
        if not path.is_file() or path.stat().st_size > most:
            return None
        return path.read_bytes()
    except OSError:
        return None


def _text(path: Path) -> str | None:
    data = _bytes(path)
    return data.decode("utf-8", "replace") if data is not None else None


def _json(path: Path) -> dict[str, Json] | None:
    data = _bytes(path)
    try:
        found = json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
