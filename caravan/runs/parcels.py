"""What is sent, as bytes: a file as it is, a directory as one tar file that is the same for the same content.

It opens what the user named and nothing else: no link leads it away from there, and what may hold a secret is left
out. Where the bytes go is not known here.
"""

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from caravan.runs.files import write_file
from caravan.values.amounts import size_text
from caravan.values.base import Json
from caravan.values.delivery import Parcel
from caravan.values.errors import UsageError

PIECE: Final = 4 << 20
_BLOCK: Final = 512
_TELL: Final = 1 << 30  # bytes between two lines of progress
_MOST: Final = 2_000_000  # files
_KEPT: Final = 1000  # measurements

_NAMED: Final = 5  # names in a message
_KEPT_NAMES: Final = 20
_TOO_MUCH: Final = "Put it on a volume (--set data.kind=volume --set data.location=NAME), or set CARAVAN_MAX_DATA_GB."

Told = Callable[[str], None]
Denies = Callable[[str], bool]
"""Whether a path in what is sent, by its name, may hold a secret."""


class Member(NamedTuple):
    """A file or folder of a tree: its name in it, where it is, and what its content is known by."""

    name: str
    path: Path
    folder: bool
    size: int
    executable: bool
    looks: tuple[int, int, int]  # size, change in ns, inode


class Found(NamedTuple):
    """What of a directory is sent, by name, and what is left out of it, each with the reason."""

    members: tuple[Member, ...]
    left: tuple[str, ...] = ()


def members(root: Path, is_denied: Denies, most: int | None = None) -> Found:
    """What is in a directory, without what `is_denied` says of names in it and links that lead out of it.

    Links inside it are followed. Raises UsageError for a loop, a pipe, more than `most` bytes or far too many files,
    as soon as it is met: nothing has been read by then.
    """
    refuse_denied(root, is_denied)
    walk = _Walk(root, is_denied, most)
    pending = [(root, "", frozenset({walk.real}))]
    while pending:
        folder, prefix, above = pending.pop()
        children = walk.children(folder)
        if prefix and not children:
            walk.found.append(Member(prefix.rstrip("/"), folder, folder=True, size=0, executable=True, looks=(0, 0, 0)))
        for child in children:
            if walk.leaves_out(child, prefix):
                continue
            member = _member(child, prefix)
            if member is not None:
                walk.add(member)
                continue
            real = os.path.realpath(child.path)
            if real in above:
                raise UsageError(f"The data holds a loop of links at {child.path}.", hint="Remove that link.")
            pending.append((Path(child.path), f"{prefix}{child.name}/", above | {real}))
    if walk.left and not any(not m.folder for m in walk.found):
        raise UsageError(
            f"Nothing in the data {root} may be sent: {shown(walk.left)}.", hint="Name what a link leads to instead."
        )
    return Found(tuple(sorted(walk.found)), tuple(sorted(walk.left)))


def refuse_denied(root: Path, is_denied: Denies) -> None:
    """Raises UsageError for a place whose very name says that secrets are kept in it."""
    real = os.path.realpath(root)
    if is_denied(real.lstrip("/")):
        raise UsageError(
            f"The data {real} is not sent: by its name it may hold secrets.", hint="Give data a name of its own."
        )


def shown(names: Sequence[str]) -> str:
    """How many names there are, and the first of them."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class _Walk:
    """A walk through a directory: what was found in it, and the bounds that end it."""

    def __init__(self, root: Path, is_denied: Denies, most: int | None) -> None:
        self.found: list[Member] = []
        self.left: list[str] = []
        self.real = os.path.realpath(root)
        self._root, self._is_denied, self._most = root, is_denied, most
        self._seen = self._bytes = 0

    def children(self, folder: Path) -> list["os.DirEntry[str]"]:
        """The names in a folder, sorted."""
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._seen += 1
                    if self._seen > _MOST:
                        hint = "Pack it, or put it on a volume."
                        raise UsageError(f"The data in {self._root} has more than {_MOST} files.", hint=hint)
                    found.append(entry)
        except OSError as error:
            raise UsageError(f"The data in {folder} can't be read: {error.strerror}.") from error
        return sorted(found, key=lambda e: e.name)

    def leaves_out(self, child: "os.DirEntry[str]", prefix: str) -> bool:
        """Whether it is not sent, noting why."""
        name, inside = f"{prefix}{child.name}", ""
        if child.is_symlink():
            real = os.path.realpath(child.path)
            if not f"{real}/".startswith(f"{self.real.rstrip('/')}/"):
                self.left.append(plain(f"{name} (a link to {real})"))
                return True
            inside = os.path.relpath(real, self.real)
        if self._is_denied(name) or (inside and self._is_denied(inside)):
            self.left.append(plain(f"{name} (may hold a secret)"))
            return True
        return False

    def add(self, member: Member) -> None:
        """One more file."""
        self.found.append(member)
        self._bytes += member.size
        if self._most is not None and self._bytes > self._most:
            raise UsageError(f"The data in {self._root} has more than {self._most / 1e9:g} GB.", hint=_TOO_MUCH)


def plain(name: str) -> str:
    """A name that may be no text, as one."""
    return name.encode("utf-8", "backslashreplace").decode()


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


def content(path: Path, is_denied: Denies) -> Iterator[bytes]:
    """The bytes that are sent of a file, or of a directory: below its own name, as a tar file. Raises UsageError."""
    refuse_denied(path, is_denied)
    return _tar(path, is_denied) if path.is_dir() else _pieces(path, path.stat().st_size)


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


def _tar(root: Path, is_denied: Denies) -> Iterator[bytes]:
    for member in members(root, is_denied).members:
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

    def __init__(self, path: Path, is_denied: Denies) -> None:
        self._path, self._is_denied = path, is_denied

    def measure(self, path: Path, told: Told, most: int | None = None) -> Parcel:
        """What sending it would send. Raises UsageError for what can't be read, or has more than `most` bytes."""
        folder = path.is_dir()
        stamp, files, left = _stamp(path, self._is_denied, most)
        known = self._known()
        before = known.get(str(path))
        if isinstance(before, dict) and before.get("stamp") == stamp:
            with suppress(ValidationError):  # of another version: it is measured anew
                return Parcel.model_validate(before.get("parcel"))
        digest, size = hashlib.sha256(), 0
        for piece in content(path, self._is_denied):
            digest.update(piece)
            if (size + len(piece)) // _TELL > size // _TELL:
                told(f"Measuring {path}: {size_text(size + len(piece))} read.")
            size += len(piece)
        if _stamp(path, self._is_denied, most).stamp != stamp:
            raise UsageError(f"{path} changed while it was measured.", hint="Start again once nobody writes it.")
        parcel = Parcel(sha256=digest.hexdigest(), size=size, files=files, folder=folder, left_out=left)
        kept = dict(list(known.items())[-_KEPT:]) | {str(path): {"stamp": stamp, "parcel": parcel.model_dump()}}
        write_file(self._path, json.dumps(kept).encode(), durable=False)
        return parcel

    def _known(self) -> dict[str, Json]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class _Looks(NamedTuple):
    """By what the content is known without reading it, the number of files, and what is left out."""

    stamp: str
    files: int
    left: tuple[str, ...] = ()


def _stamp(path: Path, is_denied: Denies, most: int | None) -> _Looks:
    digest = hashlib.sha256()
    if not path.is_dir():
        refuse_denied(path, is_denied)
        try:
            looks = path.stat()
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror}.") from error
        if most is not None and looks.st_size > most:
            raise UsageError(f"The data {path} has more than {most / 1e9:g} GB.", hint=_TOO_MUCH)
        digest.update(repr((looks.st_size, looks.st_mtime_ns, looks.st_ino)).encode())
        return _Looks(digest.hexdigest(), 1)
    found = members(path, is_denied, most)
    for member in found.members:
        digest.update(repr((member.name, member.folder, member.executable, member.looks)).encode())
    digest.update(repr(found.left).encode())
    more = len(found.left) - _KEPT_NAMES
    left = (*found.left[:_KEPT_NAMES], *((f"and {more} more",) if more > 0 else ()))
    return _Looks(digest.hexdigest(), sum(not m.folder for m in found.members), left)
