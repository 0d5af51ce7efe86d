"""Where the bytes of data come from: files with a name, a size and a way to open them. It opens nothing itself."""

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import IO, Final


class Kind(StrEnum):
    """What a file's name says that it holds."""

    LINES = "lines"  # lines of JSON
    JSON = "json"  # one list of rows, or lines all the same
    TABLE = "table"  # CSV or TSV
    PARQUET = "parquet"
    TEXT = "text"
    IMAGE = "image"
    OTHER = "other"


_KINDS: Final = {
    **dict.fromkeys(("jsonl", "ndjson"), Kind.LINES),
    "json": Kind.JSON,
    **dict.fromkeys(("csv", "tsv"), Kind.TABLE),
    **dict.fromkeys(("parquet", "pq"), Kind.PARQUET),
    **dict.fromkeys(("txt", "text", "md"), Kind.TEXT),
    **dict.fromkeys(("png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "ppm"), Kind.IMAGE),
}
ENDINGS: Final = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
"""Endings of files with rows, for a person."""
PACKED: Final = ("gz",)
"""Compression that the scripts read."""
_ROWS: Final = (Kind.LINES, Kind.JSON, Kind.TABLE, Kind.PARQUET)
HELD_OUT: Final = frozenset(("test", "valid", "validation", "eval", "dev", "val", "holdout"))


@dataclass(frozen=True)
class DataFile:
    """A file of data: its name for a person, its size in bytes, and how it is opened for reading bytes.

    `open` raises OSError where it can't be opened.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    @property
    def packed(self) -> str:
        """The compression that the name tells, or nothing."""
        ending = self.name.rpartition(".")[2].lower()
        return ending if ending in PACKED else ""

    @property
    def kind(self) -> Kind:
        """What the name says that the file holds."""
        name = self.name.lower().removesuffix(f".{self.packed}" if self.packed else "")
        return _KINDS.get(name.rpartition(".")[2], Kind.OTHER)


@dataclass(frozen=True)
class Place:
    """Data as somebody named them: a file or a folder with what lies in it, by name.

    `missing` says in words why there is nothing to look at (not there, no permission); `unseen` that it is somewhere
    that can't be looked at from here (a hub, a node), and where.
    """

    name: str
    files: tuple[DataFile, ...] = ()
    folder: bool = False
    missing: str = ""
    unseen: str = ""
    rows: int | None = None

    def inside(self, file: DataFile) -> str:
        """A file's path inside the folder."""
        return posixpath.relpath(file.name, self.name) if self.folder and self.name else file.name


def data_files(place: Place) -> tuple[DataFile, ...]:
    """The files of a place that hold rows: of a folder those of its commonest kind, without hidden ones, by name."""
    if not place.folder:
        return place.files
    seen = [f for f in place.files if not _hidden(place.inside(f)) and f.kind is not Kind.OTHER]
    for kinds in (_ROWS, (Kind.IMAGE,), (Kind.TEXT,)):
        mine = [f for f in seen if f.kind in kinds]
        if mine:
            return tuple(sorted(mine, key=lambda f: PurePosixPath(f.name)))
    return ()


def parted(place: Place) -> tuple[Place, Place | None]:
    """The place with the files that are learned from, and the one with those that their names hold out; as the scripts
    take a folder."""
    files = data_files(place)
    apart = tuple(f for f in files if place.folder and held_out(place.inside(f)))
    learned = tuple(f for f in files if f not in apart)
    if not learned or not apart:
        return replace(place, files=files), None
    return replace(place, files=learned), replace(place, files=apart)


def held_out(path: str) -> bool:
    """Whether a file's own name says that it is not trained on."""
    return bool(set(re.split(r"[-_./]", path.lower())) & HELD_OUT)


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))
