"""The code archive of a run: the same files give the same bytes, whatever their order, owner or time.

It must not know where the files come from, and never reads them itself.
"""

import gzip
import hashlib
import stat
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from caravan.runs.files import make_folder, publish, temporary_beside
from caravan.values.errors import UsageError

_GZIP_LEVEL: Final = 6
_EXECUTABLE: Final = 0o111


def write_archive(path: Path, files: Iterable[tuple[str, bytes, int]]) -> None:
    """Write a tar.gz of (relative path, content, file mode) at `path`, whole or not at all.

    Sorted by path, time 0, owner 0; the mode is 0755 for what anybody may execute and 0644 for the rest, as in git. A
    mode that says so is a folder's, which is there although it is empty.
    Raises UsageError for a path that leads outside or comes twice, OSError when it can't be written.
    """
    make_folder(path.parent)
    # The contents wait on the disk, not in memory, until all names are known and can be sorted.
    with temporary_beside(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as spool:
        index = _spool(files, spool)
        # GNU's format, which every tar unpacks, keeps long names and names that are not UTF-8.
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
        ):
            for name, (offset, size, mode) in sorted(index.items()):
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if stat.S_ISDIR(mode) else tarfile.REGTYPE
                member.size = size
                member.mode = 0o755 if mode & _EXECUTABLE else 0o644
                spool.seek(offset)
                archive.addfile(member, spool)
        publish(temporary, path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_files(path: Path) -> int:
    """How many files an archive holds, folders left out. Raises OSError, TarError for what is none."""
    with tarfile.open(path, "r|gz") as archive:
        return sum(member.isfile() for member in archive)


def _spool(files: Iterable[tuple[str, bytes, int]], spool: BinaryIO) -> dict[str, tuple[int, int, int]]:
    index: dict[str, tuple[int, int, int]] = {}
    offset = 0
    for name, content, mode in files:
        if name in index:
            raise UsageError(f"The file {name!r} comes twice in the code to pack.")
        _check_name(name)
        spool.write(content)
        index[name] = (offset, len(content), mode)
        offset += len(content)
    return index


def _check_name(name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\x00" in name or name.endswith("/"):
        raise UsageError(f"The file {name!r} can't be packed: its path leads outside of the repository.")
