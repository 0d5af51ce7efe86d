"""Writing files of the state directory: whole or not at all, for the owner alone, errors in our words.

It must not know what the files mean.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from caravan.values.errors import StateError

FOLDER_MODE: Final = 0o700


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    """Errors of the file system inside the block as StateErrors that name the file and say what to do."""
    try:
        yield
    except OSError as error:
        place = error.filename2 or error.filename or path  # of a renaming, what could not be replaced
        raise StateError(f"{place} can't be used: {error.strerror or error}.", hint=_hint(error)) from error


def _hint(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room on that disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Make it writable, or set CARAVAN_HOME to another directory."
    return "Look at that path, or set CARAVAN_HOME to another directory."


def make_folder(path: Path) -> None:
    """The folder, and those above it that are missing, with mode 0700. Existing ones stay as they are.

    Raises OSError.
    """
    try:
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent)
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A new empty file (mode 0600) in the folder of `path`, removed at the end of the block if it is still there."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def publish(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Give a finished temporary file its name. `durable`: it is on the disk before a crash of the machine can come."""
    if durable:
        _sync(temporary)
    temporary.replace(path)
    if durable:
        _sync(path.parent)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file whole: under a temporary name, then renamed. Its folder is made. Raises OSError."""
    make_folder(path.parent)
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        publish(temporary, path, durable=durable)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
