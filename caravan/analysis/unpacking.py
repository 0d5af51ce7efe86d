"""Compressed streams within bounds: what a header claims can take neither all the memory nor all the time.

It knows no archive and no name: bytes go in, bytes come out.
"""

import bz2
import gzip
import io
import lzma
import os
import time
from typing import IO, Final, Protocol

_LARGEST_READ: Final = 1 << 16
"""Bytes that are asked for at once. A file's content is read in smaller pieces, and only an odd header is larger."""
_XZ_MEMORY: Final = 256_000_000
"""Bytes; the highest preset of xz takes 65 MB to unpack."""


class TooMuch(Exception):
    """An archive goes beyond a bound, or is made to do harm. The message ends a sentence about it."""


class Deadline:
    """The end of the time that something may take, in seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raise TooMuch when the time is over."""
        if time.monotonic() > self._end:
            raise TooMuch("it takes too long")


class Stream(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, none at the end."""

    def close(self) -> None:
        """Close it."""


class Packed:
    """A file for `tarfile`: it only goes forward, gives little at once, and ends at `limit` bytes.

    Nested headers, sizes below zero and seeks to and fro, which could go on for ever, are thereby refused.
    """

    def __init__(self, file: Stream, deadline: Deadline, limit: int) -> None:
        self._file, self._deadline, self._limit = file, deadline, limit
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises TooMuch."""
        self._deadline.check()
        if not 0 <= size <= _LARGEST_READ or self._at + size > self._limit:
            raise TooMuch("a header in it is too large")
        data = self._file.read(size)
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Bytes read so far."""
        return self._at

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Skip to a later position. Raises TooMuch for an earlier one."""
        if whence != os.SEEK_SET or not self._at <= position <= self._limit:
            raise TooMuch("its headers lead to and fro")
        while self._at < position and self.read(min(position - self._at, _LARGEST_READ)):
            pass
        return self._at

    def seekable(self) -> bool:
        """As far as it goes."""
        return True

    def readable(self) -> bool:
        """It is read."""
        return True

    def close(self) -> None:
        """Close what is read."""
        self._file.close()


class _Xz(io.RawIOBase):
    """An xz stream unpacked with a bound to the memory that its header may ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view)) or b""
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        while not self._unpacker.eof:
            packed = self._file.read(_LARGEST_READ) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not packed:
                raise EOFError("it ends too early")
            if data := self._unpacker.decompress(packed, size):
                return data
        return b""


def unpacked_stream(file: IO[bytes]) -> Stream:
    """The file's bytes without its compression, which its first bytes tell; plain ones as they are."""
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file, mode="rb")
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ\0"):
        return io.BufferedReader(_Xz(file))
    return file
