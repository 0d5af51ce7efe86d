"""Where a run's files can be fetched from: a directory here, an allocation, a URL. Each lists files and reads pieces.

What a cluster or a store says of names and sizes is foreign: names that could lead outside are left out and counted.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, TypeVar

from caravan.ports import Cluster
from caravan.runs.stores import PATIENCE_S, Worker
from caravan.values.errors import ServiceError, StateError, UsageError
from caravan.values.file_names import is_safe
from caravan.values.outputs import MANIFEST, parse_manifest

PIECE: Final = 4 << 20  # bytes asked for at once
_MOST: Final = 500_000
_MOST_MANIFEST: Final = 64 << 20  # bytes; what is longer is no manifest of ours
_T = TypeVar("_T")


class Remote(NamedTuple):
    """A file to fetch: its path below the origin, its size, and its SHA-256 where that is known."""

    name: str
    size: int
    sha256: str | None = None


class Listing(NamedTuple):
    """What an origin has. `left_out`: names that are links, lead outside or can't be written here."""

    files: tuple[Remote, ...]
    left_out: tuple[str, ...] = ()


class Origin(Protocol):
    """Somewhere files come from."""

    @property
    def key(self) -> str:
        """By which the origin is known again: what was begun from another one is begun anew."""

    def listing(self) -> Listing:
        """Its files now."""

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        """The file's bytes from `offset` on, no more than its size."""


class Place(Origin, Protocol):
    """An origin that can be asked what is there, whatever was written down of it."""

    def sizes(self) -> dict[str, int]:
        """The sizes of the regular files there now, by name."""


class DiskOrigin:
    """Files of a directory of this machine: all below it, or those named. Links below it are not followed.

    The directory itself may be a link, as people have their outputs on another disk. One that a job makes must stay
    `inside` of what was given to it: a job could put a link to anything in its place. Raises StateError.
    """

    def __init__(self, root: Path, names: Sequence[str] | None = None, *, inside: Path | None = None) -> None:
        self._root = Path(os.path.realpath(root))  # says nothing against a link that leads to itself
        if inside is not None and not self._root.is_relative_to(os.path.realpath(inside)):
            raise StateError(f"{root} is a link now that leads to {self._root}: nothing is fetched from there.")
        self._names = names
        self.key = str(root)

    def listing(self) -> Listing:
        """The regular files."""
        names = self._names if self._names is not None else list(self._walk())
        files, left = [], []
        for name in sorted(names):
            try:
                looks = (self._root / name).lstat()
            except OSError:
                continue  # gone meanwhile
            if stat.S_ISREG(looks.st_mode) and is_safe(name):
                files.append(Remote(name, looks.st_size))
            else:
                left.append(name)
        return Listing(tuple(files), tuple(left))

    def sizes(self) -> dict[str, int]:
        """The sizes of its files."""
        return {file.name: file.size for file in self.listing().files}

    def _walk(self) -> Iterator[str]:
        for here, folders, names in os.walk(self._root):
            links = [f for f in folders if (Path(here) / f).is_symlink()]
            for name in (*names, *links):
                yield (Path(here) / name).relative_to(self._root).as_posix()

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        """The file's bytes. Raises StateError, also for what is no file any more since it was listed."""
        path = self._root / file.name
        try:
            with self._open(file.name) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise StateError(f"{path} is no file any more.", hint="Pull again.")
                stream.seek(offset)
                while offset < file.size and (piece := stream.read(min(PIECE, file.size - offset))):
                    offset += len(piece)
                    yield piece
        except OSError as error:
            raise StateError(f"{path} can't be read ({error.strerror}).", hint="Pull again.") from error

    def _open(self, name: str) -> BinaryIO:
        """Open a file step by step, so that no step is through a link, whatever was put there since. Raises OSError."""
        *folders, last = name.split("/")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        here = os.open(self._root, flags | os.O_DIRECTORY)
        try:
            for folder in folders:
                below = os.open(folder, flags | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            return os.fdopen(os.open(last, flags | os.O_NONBLOCK, dir_fd=here), "rb")
        finally:
            os.close(here)


class AllocationOrigin:
    """Files below a directory of an allocation (`alloc/data/outputs`), over the cluster's API."""

    def __init__(self, cluster: Cluster, alloc_id: str, root: str) -> None:
        self._cluster = cluster
        self._alloc_id = alloc_id
        self._root = root
        self.key = f"{alloc_id}:{root}"

    def exists(self) -> bool:
        """Whether the cluster still has the allocation's files."""
        return self._cluster.list_files(self._alloc_id, "alloc") is not None

    def listing(self) -> Listing:
        """Its files; a directory that is not there has none."""
        files: list[Remote] = []
        left: list[str] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            where = f"{self._root}/{folder}".rstrip("/")
            for entry in self._cluster.list_files(self._alloc_id, where) or ():
                name = f"{folder}{entry.name}"
                if "/" in entry.name or not is_safe(name) or entry.is_link:
                    left.append(name)
                elif entry.is_dir:
                    folders.append(f"{name}/")
                else:
                    files.append(Remote(name, entry.size))
                if len(files) + len(folders) > _MOST:
                    raise UsageError(
                        f"The allocation says it has more than {_MOST} files: that is no training's output."
                    )
        return Listing(tuple(sorted(files)), tuple(left))

    def sizes(self) -> dict[str, int]:
        """The sizes of its files."""
        return {file.name: file.size for file in self.listing().files}

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        """The file's bytes, a bounded piece for each request."""
        path = f"{self._root}/{file.name}"
        while offset < file.size:
            limit = min(PIECE, file.size - offset)
            piece = self._cluster.read_part(self._alloc_id, path, offset=offset, limit=limit)[:limit]
            if not piece:
                return
            offset += len(piece)
            yield piece


class UrlOrigin:
    """Files below an fsspec URL: those of its manifest, or, where none was written, whatever is there.

    `patience_s`: seconds for one answer of the store.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        self.key = url
        self._url = url
        self._patience_s = patience_s
        self._worker = Worker()
        self._fs: Any = None
        self._root = ""

    def listing(self) -> Listing:
        """Its files. Raises ServiceError when the place can't be read, UsageError for a package that is missing."""
        self._fs, root = self._call(self._open)
        self._root = root.rstrip("/")
        data = self._call(lambda: _whole(self._fs, f"{self._root}/{MANIFEST}"))
        manifest = parse_manifest(data) if data is not None else None
        if manifest is not None:
            found = [Remote(name, file.size, file.sha256) for name, file in sorted(manifest.files.items())]
        else:
            there = self._call(lambda: _found(self._fs, self._root))
            found = [Remote(name, size) for name, size in sorted(there.items()) if not name.startswith("caravan-")]
        good = tuple(file for file in found if is_safe(file.name))
        return Listing(good, tuple(file.name for file in found if not is_safe(file.name)))

    def sizes(self) -> dict[str, int]:
        """The sizes of the files there, whatever the manifest says. Raises as `listing` does."""
        self._fs, root = self._call(self._open)
        self._root = root.rstrip("/")
        return self._call(lambda: _found(self._fs, self._root))

    def _open(self) -> Any:
        import fsspec

        return fsspec.core.url_to_fs(self._url)

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        """The file's bytes."""
        stream = self._call(lambda: self._fs.open(f"{self._root}/{file.name}", "rb"))
        try:
            self._call(lambda: stream.seek(offset))
            while offset < file.size:
                limit = min(PIECE, file.size - offset)
                piece = self._call(lambda limit=limit: bytes(stream.read(limit)))  # type: ignore[misc]
                if not piece:
                    return
                offset += len(piece)
                yield piece
        finally:
            self._worker.submit(stream.close)

    def _call(self, work: Callable[[], _T]) -> _T:
        """What a store's library says; whatever it raises, a kind of its own included, in our words."""
        future = self._worker.submit(work)
        try:
            error = future.exception(timeout=self._patience_s)
        except TimeoutError as late:
            raise ServiceError(f"{self._url} does not answer.", hint="Pull again; what has come is kept.") from late
        if error is None:
            return future.result()
        if isinstance(error, ImportError):
            raise UsageError(f"{self._url} can't be read here: {error}.", hint="Install that package here.") from error
        why = f"{type(error).__name__}: {error}"[:300]
        raise ServiceError(
            f"{self._url} can't be read: {why}.", hint="Its credentials must be in this environment."
        ) from error


def _whole(fs: Any, path: str) -> bytes | None:
    try:
        return bytes(fs.cat_file(path, end=_MOST_MANIFEST))
    except FileNotFoundError:
        return None


def _found(fs: Any, root: str) -> dict[str, int]:
    try:
        found = fs.find(root, detail=True)
    except FileNotFoundError:
        return {}
    return {path.removeprefix(f"{root}/"): int(info.get("size") or 0) for path, info in found.items()}
