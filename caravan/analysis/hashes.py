"""The digest of a tree: SHA-256 over paths, modes and contents. Files that are as they were are not read again."""

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from caravan.analysis.kept import Hashed, Stamp

MAX_HASHED: Final = 64_000_000
"""Bytes of a file up to which all of it counts in the digest; of a larger one size, beginning and end count."""
MAX_HASHED_IN_ALL: Final = 1_000_000_000
_PIECE: Final = 1 << 20


class _Entry(Protocol):
    @property
    def path(self) -> str: ...

    @property
    def mode(self) -> int: ...


class Digester:
    """Hashes files one after another; `hashes` are those that were found, by path.

    `open_file` gives a descriptor (raises OSError); `known` are earlier hashes, and `stamps` what the file system says
    of files now, for those that are no links.
    """

    def __init__(self, open_file: Callable[[str], int], known: dict[str, Hashed], stamps: dict[str, Stamp]) -> None:
        self._open, self._known, self._stamps = open_file, known, stamps
        self._left = MAX_HASHED_IN_ALL
        self.hashes: dict[str, Hashed] = {}

    def digest(self, entries: Iterable[_Entry], note: Callable[[str], None]) -> str:
        """The digest of all entries that can be read; the others are noted.

        Of a file over `MAX_HASHED` bytes, and of all after `MAX_HASHED_IN_ALL` bytes, the content's size, first and
        last MiB stand for the content: data sets that lie in the repository must not take hours.
        """
        whole = hashlib.sha256()
        for entry in entries:
            try:
                found = self._of(entry.path)
            except OSError as error:
                note(f"{entry.path} can't be read: {error.strerror or error}.")
                continue
            whole.update(f"{entry.path}\0{entry.mode:o}\0{found}\n".encode())
        return whole.hexdigest()

    def _of(self, path: str) -> str:
        known, stamp = self._known.get(path), self._stamps.get(path)
        if known is not None and known.stamp == stamp and (":" in known.digest) == self._in_part(known.stamp.size):
            hashed = known
        else:
            hashed = self._read(path)
        if path in self._stamps:  # what a link leads to may change under the link's own stamp
            self.hashes[path] = hashed
        self._left -= 2 * _PIECE if ":" in hashed.digest else hashed.stamp.size
        return hashed.digest

    def _in_part(self, size: int) -> bool:
        return size > max(min(self._left, MAX_HASHED), 2 * _PIECE)

    def _read(self, path: str) -> Hashed:
        content = hashlib.sha256()
        with os.fdopen(self._open(path), "rb", buffering=0) as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            if self._in_part(stamp.size):
                content.update(file.read(_PIECE))
                file.seek(stamp.size - _PIECE)
                content.update(file.read(_PIECE))
                return Hashed(stamp, f"{stamp.size}:{content.hexdigest()}")
            left = stamp.size
            while piece := file.read(min(left, _PIECE)):
                content.update(piece)
                left -= len(piece)
        return Hashed(stamp, content.hexdigest())
