"""What is sent, as bytes: a file as it is, a directory as one tar file that is the same for the same content.

It opens what the user named and nothing else; where the bytes go is not known here.
"""

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from caravan.runs.files import write_file
from caravan.values.base import Json
from caravan.values.delivery import Parcel
from caravan.values.errors import UsageError

PIECE: Final = 4 << 20
_BLOCK: Final = 512
_TELL: Final = 1 << 30  # bytes between two lines of progress
_MOST: Final = 2_000_000  # files
_KEPT: Final = 1000  # measurements

Told = Callable[[str], None]


class Member(NamedTuple):
    """A file or folder of a tree: its name in it, where it is, and what its content is known by."""

    name: str
    path: Path
    folder: bool
    size: int
    executable: bool
    looks: tuple[int, int, int]  # size, change in ns, inode


def members(root: Path) -> tuple[Member, ...]:
    """What is in a directory, by name. Links are followed; raises UsageError for a loop, a pipe, or far too much."""
    found: list[Member] = []
    pending = [(root, "", frozenset({os.path.realpath(root)}))]
    while pending:
        folder, prefix, above = pending.pop()
        try:
            with os.scandir(folder) as entries:
                children = sorted(entries, key=lambda e: e.name)
        except OSError as error:
            raise UsageError(f"The data in {folder} can't be read: {error.strerror}.") from error
        if prefix and not children:
            found.append(Member(prefix.rstrip("/"), folder, folder=True, size=0, executable=True, looks=(0, 0, 0)))
        for child in children:
            member = _member(child, prefix)
            if member is not None:
                found.append(member)
                continue
            real = os.path.realpath(child.path)
            if real in above:
                raise UsageError(f"The data holds a loop of links at {child.path}.", hint="Remove that link.")
            pending.append((Path(child.path), f"{prefix}{child.name}/", above | {real}))
        if len(found) > _MOST:
            raise UsageError(f"The data in {root} has more than {_MOST} files.", hint="Pack it, or put it on a volume.")
    return tuple(sorted(found))


def _member(child: "os.DirEntry[str]", prefix: str) -> Member | None:
    """The file; None for a folder."""
    try:
        looks = child.stat()
    except OSError as error:
        raise UsageError(
            f"The data's {child.path} can't be read: {error.strerror}.", hint="A link that leads nowhere? Remove it."
        ) from error
    if stat.S_ISDIR(looks.st_mode):
        return None
    if not stat.S_ISREG(looks.st_mode):
        raise UsageError(f"The data's {child.path} is no regular file.", hint="Remove it, or name the files alone.")
    known = (looks.st_size, looks.st_mtime_ns, looks.st_ino)
    executable = bool(looks.st_mode & 0o111)
    return Member(
        f"{prefix}{child.name}", Path(child.path), folder=False, size=looks.st_size, executable=executable, looks=known
    )


def content(path: Path) -> Iterator[bytes]:
    """The bytes that are sent of a file, or of a directory: below its own name, as a tar file. Raises UsageError."""
    return _tar(path) if path.is_dir() else _pieces(path, path.stat().st_size)


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    left = size
    try:
        with path.open("rb") as file:
            while left:
                piece = file.read(min(PIECE, left))
                if not piece:
                    raise UsageError(f"{path} became shorter while it was read.", hint="Resume once nobody writes it.")
                left -= len(piece)
                yield piece
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error


def _tar(root: Path) -> Iterator[bytes]:
    for member in members(root):
        info = tarfile.TarInfo(f"{root.name}/{member.name}")
        info.type = tarfile.DIRTYPE if member.folder else tarfile.REGTYPE
        info.size, info.mode = member.size, 0o755 if member.executable else 0o644
        yield info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        if not member.folder:
            yield from _pieces(member.path, member.size)
            yield b"\0" * (-member.size % _BLOCK)
    yield b"\0" * (2 * _BLOCK)


class Measures:
    """Measurements by what was measured: a file or tree that looks as before is not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def measure(self, path: Path, told: Told) -> Parcel:
        """What sending it would send. Raises UsageError for what can't be read."""
        folder = path.is_dir()
        stamp, files = _stamp(path)
        known = self._known()
        before = known.get(str(path))
        if isinstance(before, dict) and before.get("stamp") == stamp:
            return Parcel.model_validate(before["parcel"])
        digest, size = hashlib.sha256(), 0
        for piece in content(path):
            digest.update(piece)
            if (size + len(piece)) // _TELL > size // _TELL:
                told(f"Measuring {path}: {(size + len(piece)) / 1e9:.1f} GB read.")
            size += len(piece)
        if _stamp(path)[0] != stamp:
            raise UsageError(f"{path} changed while it was measured.", hint="Start again once nobody writes it.")
        parcel = Parcel(sha256=digest.hexdigest(), size=size, files=files, folder=folder)
        kept = dict(list(known.items())[-_KEPT:]) | {str(path): {"stamp": stamp, "parcel": parcel.model_dump()}}
        write_file(self._path, json.dumps(kept).encode(), durable=False)
        return parcel

    def _known(self) -> dict[str, Json]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _stamp(path: Path) -> tuple[str, int]:
    """By what the content is known without reading it, and the number of files."""
    digest = hashlib.sha256()
    if not path.is_dir():
        try:
            looks = path.stat()
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror}.") from error
        digest.update(repr((looks.st_size, looks.st_mtime_ns, looks.st_ino)).encode())
        return digest.hexdigest(), 1
    found = members(path)
    for member in found:
        digest.update(repr((member.name, member.folder, member.executable, member.looks)).encode())
    return digest.hexdigest(), sum(not m.folder for m in found)
