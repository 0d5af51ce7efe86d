"""Bytes of a file in order, unpacked, with the SHA-256 of what lies on the disk. One pass, bounded memory.

The rule of a data set's hash is that of `templates/train/shared/files.py`: of one file the SHA-256 of its
bytes as they lie there (compressed ones compressed), which is what `sha256sum` prints; of several the SHA-256 over a
line `DIGEST  NAME` for each, by path.
"""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from caravan.training.data.places import DataFile
from caravan.training.data.sampling import BLOCK

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    Digest = hashlib._Hash


def digest_of(found: Mapping[str, str]) -> str | None:
    """The hash of a data set of its files' hashes by path; None for no file."""
    if len(found) < 2:
        return next(iter(found.values()), None)
    paths = sorted(found, key=PurePosixPath)
    lines = "".join(f"{found[path]}  {PurePosixPath(path).name}\n" for path in paths)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


class Broken(Exception):
    """A file that can't be read to its end. `missing`: it could not be opened."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.text, self.missing = text, missing


class Tee(io.RawIOBase):
    """A raw stream whose bytes go into a digest while they are read."""

    def __init__(self, source: IO[bytes], digest: "Digest") -> None:
        super().__init__()
        self._source, self._digest = source, digest

    def readable(self) -> bool:
        """It is read."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Bytes of the source, hashed."""
        view = memoryview(buffer).cast("B")
        data = self._source.read(len(view))
        self._digest.update(data)
        view[: len(data)] = data
        return len(data)


class Stream:
    """A file that is read once from its beginning to its end. Errors come as `Broken`, in words for a person."""

    def __init__(self, file: DataFile) -> None:
        self.file, self._digest = file, hashlib.sha256()
        self.offset = 0  # of the next block, in unpacked bytes

    def __enter__(self) -> Self:
        try:
            self._source = self.file.open()
        except OSError as error:
            raise Broken(f"it can't be opened: {error.strerror or error}", missing=True) from error
        self._raw = Tee(self._source, self._digest)
        self._unpacked = self._opened()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._source.close()

    def blocks(self, most: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of each block. Stops after `most` unpacked bytes."""
        while most is None or self.offset < most:
            try:
                data = self._unpacked.read(BLOCK)
            except (OSError, EOFError, zlib.error, ValueError) as error:
                what = f"its {self.file.packed} compression is broken" if self.file.packed else "it can't be read"
                raise Broken(f"{what} after {self.offset:,} bytes ({_plain(error)})") from error
            if not data:
                return
            yield self.offset, data
            self.offset += len(data)

    def sha256(self) -> str:
        """The hash of the whole file; what is left of it is read for that."""
        try:
            while self._raw.read(BLOCK):
                pass
        except (OSError, ValueError) as error:
            raise Broken(f"it can't be read to its end ({_plain(error)})") from error
        return self._digest.hexdigest()

    def _opened(self) -> IO[bytes]:
        buffered = io.BufferedReader(self._raw, BLOCK)
        if self.file.packed == "gz":
            return gzip.GzipFile(fileobj=buffered, mode="rb")  # type: ignore[return-value]
        return buffered


class _Blocks(io.RawIOBase):
    def __init__(self, blocks: Iterator[tuple[int, bytes]]) -> None:
        super().__init__()
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, (0, b""))[1])
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def as_text(blocks: Iterator[tuple[int, bytes]]) -> io.TextIOWrapper:
    """Blocks as text with its line ends kept; bytes that are no UTF-8 become lone surrogates, to be found by row."""
    raw = io.BufferedReader(_Blocks(blocks), BLOCK)
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _plain(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:120]
