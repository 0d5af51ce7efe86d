"""Which files a training type's folder brings, and what they are called beside its script. It opens none of them."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from caravan.values.errors import UsageError
from caravan.values.training import TrainingType

DEFINITION: Final = "type.yaml"
SHARED: Final = "shared"
"""Folder beside the types whose files several of them take; it is no type."""
TEMPLATE: Final = ".j2"
"""Ending of a file that is rendered, which loses it."""


def sources(found: TrainingType, folder: Path, shared: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """(file, name beside the script) of all files; all of the folder where the definition names none.

    Raises UsageError, naming the line of `files`, for a file that is not there.
    """
    if not found.files:
        for path in _inside(folder):
            yield folder / path, _plain(path)
        return
    for source, target in found.files.items():
        yield from _of(source, target, folder, shared)


def _of(source: str, target: str, folder: Path, shared: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """What one line of `files` stands for: a file, or a pattern with `*`, whose target is a folder (or empty)."""
    of_all = source.startswith(f"{SHARED}/")
    inner = source.removeprefix(f"{SHARED}/") if of_all else source
    folders = shared if of_all else (folder,)
    matching = ({path: place / path for path in _inside(place) if fnmatchcase(path, inner)} for place in folders)
    there = next(filter(None, matching), None)  # the first folder that has such files
    if not there:
        raise UsageError(f"{folder / DEFINITION}: files.{source}: there is no such file.")
    for path in sorted(there):
        place = str(PurePosixPath(target, _plain(path))) if "*" in inner else target or _plain(path)
        yield there[path], place


def _inside(folder: Path) -> list[str]:
    """Paths of a folder's files, without the definition, hidden files and Python's own leavings."""
    if not folder.is_dir():
        return []
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    hidden = [p for p in paths if any(part.startswith(".") or part == "__pycache__" for part in p.parts)]
    return sorted(path.as_posix() for path in paths if path not in hidden and path.as_posix() != DEFINITION)


def _plain(path: str) -> str:
    return path.removesuffix(TEMPLATE)
