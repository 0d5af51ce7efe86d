"""What was found before, kept on this machine: the hashes of a tree's files, and profiles by their content.

It is a cache: bounded, private (0700 and 0600), and never believed. What is not exactly as it was written, belongs to
somebody else, or can't be read is as if it were not there. It must not know how anything is found.
"""

import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from caravan.values.base import Json, Value, canonical_json, sha256_text
from caravan.values.repo import RepoProfile

MAX_ENTRY: Final = 32_000_000
"""Bytes of an entry that is read or written."""
MAX_ENTRIES: Final = 300
MAX_BYTES: Final = 200_000_000
"""Of all entries together; the ones that were used least lately go first."""
_SETTLED_NS: Final = 2_000_000_000
"""A file that changed less than this before it was read may change again within one tick of its file system's clock."""


class Stamp(NamedTuple):
    """What the file system says of a file; another content comes with another one. Times in nanoseconds."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """The stamp in what `stat` says."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    @property
    def settled(self) -> bool:
        """Whether a change from now on would give another stamp."""
        return time.time_ns() - max(self.modified, self.changed) > _SETTLED_NS


class Hashed(NamedTuple):
    """A file's hash, and the stamp that it had before it was read."""

    stamp: Stamp
    digest: str


class _Hashes(Value):
    root: str
    rows: dict[str, tuple[int, int, int, int, str]]


class _Profile(Value):
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    profile: RepoProfile


_Kind = TypeVar("_Kind", bound=Value)


class Kept:
    """A folder of the cache. No method raises: what can't be kept is found again the next time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hashes(self, root: Path) -> dict[str, Hashed]:
        """The hashes of files of that directory by path; empty where none are known."""
        found = self._read(self._hashes_at(root), _Hashes)
        if found is None or found.root != os.fspath(root):
            return {}
        return {path: Hashed(Stamp(*row[:4]), row[4]) for path, row in found.rows.items()}

    def keep_hashes(self, root: Path, hashes: Mapping[str, Hashed]) -> None:
        """Keep those of files that can't change without another stamp."""
        rows = {path: (*h.stamp, h.digest) for path, h in hashes.items() if h.stamp.settled}
        self._write(self._hashes_at(root), {"root": os.fspath(root), "rows": rows})

    def profile(self, key: str) -> RepoProfile | None:
        """The profile that was kept under a key (`key_of`)."""
        found = self._read(self._folder / f"profile-{key}.json", _Profile)
        return found.profile if found is not None and found.key == key else None

    def keep_profile(self, key: str, profile: RepoProfile) -> None:
        """Keep a profile, which holds no secrets."""
        document = profile.model_dump(mode="json")
        self._write(self._folder / f"profile-{key}.json", {"key": key, "profile": document})

    def _hashes_at(self, root: Path) -> Path:
        return self._folder / f"hashes-{sha256_text(os.fspath(root))[:32]}.json"

    def _read(self, path: Path, kind: type[_Kind]) -> _Kind | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
                data = file.read(MAX_ENTRY + 1) if ours else b""
            value = kind.model_validate_json(data)
            os.utime(path)  # used lately
        except ValidationError:
            path.unlink(missing_ok=True)
            return None
        except OSError:
            return None
        return value

    def _write(self, path: Path, document: Mapping[str, Json]) -> None:
        try:
            data = canonical_json(document).encode()
            if len(data) > MAX_ENTRY:
                return
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".part-")  # mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                Path(name).replace(path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
            self._prune(path)
        except (OSError, ValueError):  # a name that is no UTF-8
            return

    def _prune(self, newest: Path) -> None:
        """Remove what goes beyond the bounds, and what a process left half written long ago."""
        rows = []
        with os.scandir(self._folder) as found:
            for entry in found:
                stamp = entry.stat(follow_symlinks=False)
                rows.append((stamp.st_mtime, stamp.st_size, entry))
        number = size = 0
        for used, bytes_, entry in sorted(rows, key=lambda row: -row[0]):
            if entry.name.startswith(".part-"):
                beyond = time.time() - used > _ABANDONED
            else:
                number, size = number + 1, size + bytes_
                beyond = (number > MAX_ENTRIES or size > MAX_BYTES) and entry.path != os.fspath(newest)
            if beyond:
                Path(entry.path).unlink(missing_ok=True)


_ABANDONED: Final = 3600.0  # seconds


def key_of(parts: Sequence[Json]) -> str | None:
    """The key of what this version of the code finds from these parts (JSON values); None where it is unknown."""
    version = code_version()
    return None if version is None else sha256_text(canonical_json([version, *parts]))


@cache
def code_version() -> str | None:
    """A digest of the code that finds: this room, the values that it makes, and the Python that parses."""
    whole = hashlib.sha256(sys.version.encode())
    room = Path(__file__).parent
    try:
        for path in sorted([*room.glob("*.py"), *(room.parent / "values").glob("*.py")]):
            whole.update(f"\0{path.name}\0".encode() + path.read_bytes())
    except OSError:
        return None
    return whole.hexdigest()
