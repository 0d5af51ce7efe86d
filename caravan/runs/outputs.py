"""Fetching a run's files into a folder: in pieces, resumed where it ended, whole under their names or not at all.

    DIR/outputs/…   DIR/attempt-N/outputs/…   DIR/logs/…   DIR/.caravan/ (what came when, and what is half here)
    DIR/… of a model, whose checksums are known: nothing is written down of it

Nothing outside DIR is written, no link is followed, and no file that somebody else put there is overwritten.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from caravan.runs.archive import file_sha256
from caravan.runs.origins import Listing, Origin, Remote
from caravan.values.amounts import size_text
from caravan.values.errors import StateError, UsageError

_OURS: Final = ".caravan"
_RECORD: Final = "pulled.jsonl"
_SPARE: Final = 64 << 20  # bytes of the disk that are left free


class Mark(NamedTuple):
    """A file that was fetched: its size and SHA-256, and whether its job was over then."""

    size: int
    sha256: str
    final: bool


class Progressed(NamedTuple):
    """How far a fetch has come; files and bytes of all there are."""

    name: str
    files: int
    of_files: int
    bytes: int
    of_bytes: int


class Fetched(NamedTuple):
    """A file that is here now. `new` False: it was here already."""

    path: str
    bytes: int
    sha256: str
    new: bool


class Manners(NamedTuple):
    """How a folder is treated. `marks`: what came is written down, and believed the next time without reading it again.
    `force`: files that differ are replaced. `differs` and `wrong` are the hints of a file in the way, and of one whose
    bytes are not those that were announced.
    """

    marks: bool = True
    force: bool = False
    differs: str = "Remove it, or name another folder with --to."
    wrong: str = "Pull again."


_PLAIN: Final = Manners()


class Target:
    """A folder that files are fetched into. Raises StateError where it can't be written."""

    def __init__(self, root: Path, manners: Manners = _PLAIN) -> None:
        self.root = root
        self._manners = manners
        with _writing(root):
            if root.exists() and not root.is_dir():
                raise UsageError(f"{root} is a file.", hint="Name a folder with --to.")
            (root / _OURS / "parts").mkdir(parents=True, exist_ok=True)
        self._marks = self._read_marks() if manners.marks else {}

    def fetch(
        self, origin: Origin, below: str, *, final: bool, tell: Callable[[Progressed], None]
    ) -> tuple[tuple[Fetched, ...], Listing]:
        """Fetch every file of an origin below a folder of the target (empty: into the target itself).

        `final`: nobody writes to them any more.

        Run again it goes on where it ended. A file that shrinks while it is read is left for the next time unless
        `final`, when it is an error. Raises UsageError for a file of somebody else's that is in the way.
        """
        listing = _without_clashes(origin.listing())
        self._room_for(origin, below, listing.files, final)
        whole, done, size = [], 0, sum(f.size for f in listing.files)
        for number, file in enumerate(listing.files, 1):
            before = done

            def told(count: int, file: Remote = file, number: int = number, before: int = before) -> None:
                tell(Progressed(file.name, number, len(listing.files), before + count, size))

            got = self._fetch_file(origin, file, _under(below, file), final=final, told=told)
            done += file.size
            if got is not None:
                whole.append(got)
        return tuple(whole), listing

    def _fetch_file(
        self, origin: Origin, file: Remote, name: str, *, final: bool, told: Callable[[int], None]
    ) -> Fetched | None:
        path = self._place(name)
        there = self._standing(path, name, file, final=final)
        if isinstance(there, Fetched):
            told(file.size)
            return there
        part = self._part(origin, file, name)
        resume = final or file.sha256 is not None
        begun = resume and part.exists()
        digest = self._download(origin, file, name, resume=resume, told=told)
        if digest is None and begun:  # what was half here may be what is wrong: a power cut leaves such parts
            digest = self._download(origin, file, name, resume=False, told=told)
        if digest is None:
            with _writing(part):
                part.unlink(missing_ok=True)
            if final:
                raise StateError(f"{name} came with other bytes than it should have.", hint=self._manners.wrong)
            return None
        if there is not None and there != digest and path.exists() and not self._is_ours(name, there):
            raise self._in_the_way(path)
        with _writing(path):
            part.replace(path)
        self._mark(name, Mark(file.size, digest, final))
        return Fetched(name, file.size, digest, True)

    def _standing(self, path: Path, name: str, file: Remote, *, final: bool) -> Fetched | str | None:
        """What is there under a file's name: the file itself, or the SHA-256 of another one, or nothing (None)."""
        try:
            looks = path.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path} can't be looked at ({error.strerror}).") from error
        if not stat.S_ISREG(looks.st_mode):
            raise UsageError(f"{path} is there already and is no file.", hint="Name another folder with --to.")
        mark = self._marks.get(name)
        if mark and mark.final and mark.size == looks.st_size == file.size and file.sha256 in (None, mark.sha256):
            return Fetched(name, file.size, mark.sha256, False)
        with _writing(path):
            digest = file_sha256(path)
        if file.sha256 is not None and digest == file.sha256:
            self._mark(name, Mark(file.size, digest, final))
            return Fetched(name, file.size, digest, False)
        if not self._is_ours(name, digest) and (looks.st_size != file.size or file.sha256 is not None):
            raise self._in_the_way(path)
        return digest

    def _is_ours(self, name: str, digest: str) -> bool:
        """Whether a file may be replaced: it came from here, or whatever is there may be."""
        if self._manners.force:
            return True
        mark = self._marks.get(name)
        return mark is not None and mark.sha256 == digest

    def _download(
        self, origin: Origin, file: Remote, name: str, *, resume: bool, told: Callable[[int], None]
    ) -> str | None:
        """The SHA-256 of what has come, whole, into the part; None when it is not what was announced."""
        part = self._part(origin, file, name)
        digest, have = hashlib.sha256(), 0
        with _writing(part), part.open("r+b" if part.exists() else "x+b") as stream:
            if resume:
                while piece := stream.read(1 << 20):
                    digest.update(piece)
                    have += len(piece)
            if have > file.size or not resume:
                digest, have = hashlib.sha256(), 0
                stream.seek(0)
                stream.truncate()
            told(have)
            if have < file.size:
                for piece in origin.pieces(file, have):
                    stream.write(piece)
                    digest.update(piece)
                    have += len(piece)
                    told(have)
        if have != file.size or file.sha256 not in (None, digest.hexdigest()):
            return None
        return digest.hexdigest()

    def _part(self, origin: Origin, file: Remote, name: str) -> Path:
        """Where a file grows: another origin or another size is another place."""
        what = json.dumps([origin.key, name, file.size, file.sha256])
        return self.root / _OURS / "parts" / hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _place(self, name: str) -> Path:
        """A file's path, its folders made. No part of it is a link."""
        path = self.root
        *folders, last = name.split("/")
        for folder in folders:
            path = path / folder
            with _writing(path):
                if path.is_symlink():
                    raise UsageError(f"{path} is a link, and nothing is written through links.", hint="Remove it.")
                path.mkdir(exist_ok=True)
        return path / last

    def _room_for(self, origin: Origin, below: str, files: tuple[Remote, ...], final: bool) -> None:
        missing = 0
        for file in files:
            mark = self._marks.get(_under(below, file))
            part = self._part(origin, file, _under(below, file))
            if (mark is None or not mark.final or not final) and not self._may_be_here(file, below):
                missing += file.size - (part.stat().st_size if part.exists() else 0)
        free = shutil.disk_usage(self.root).free
        if missing > free - _SPARE:
            room = size_text(max(free - _SPARE, 0))
            raise StateError(
                f"{size_text(missing)} are to come, and {self.root} has room for {room}.",
                hint="Make room, or name another folder with --to.",
            )

    def _may_be_here(self, file: Remote, below: str) -> bool:
        """Whether a file of that size stands there whose checksum is known: it is compared, and seldom comes again."""
        try:
            return file.sha256 is not None and (self.root / _under(below, file)).lstat().st_size == file.size
        except OSError:
            return False

    def _in_the_way(self, path: Path) -> UsageError:
        return UsageError(f"{path} is there already and differs.", hint=self._manners.differs)

    def clear(self) -> None:
        """Remove the folder of what is half here, where nothing is."""
        with contextlib.suppress(OSError):
            (self.root / _OURS / "parts").rmdir()
            (self.root / _OURS).rmdir()

    def _read_marks(self) -> dict[str, Mark]:
        path = self.root / _OURS / _RECORD
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StateError(f"{path} can't be read ({error.strerror}).") from error
        found = {}
        for line in lines:
            try:
                name, size, sha256, final = json.loads(line)
            except (ValueError, TypeError):
                continue  # cut off when the disk was full
            found[str(name)] = Mark(size, sha256, bool(final))
        return found

    def _mark(self, name: str, mark: Mark) -> None:
        if not self._manners.marks:
            return
        path = self.root / _OURS / _RECORD
        with _writing(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([name, *mark]) + "\n")
        self._marks[name] = mark


def _without_clashes(listing: Listing) -> Listing:
    """The listing without files that can't stand beside another: below one that is a file itself, or named twice."""
    names = {file.name for file in listing.files}
    taken: set[str] = set()
    files, left = [], list(listing.left_out)
    for file in listing.files:
        parts = file.name.split("/")
        if file.name in taken or any("/".join(parts[:n]) in names for n in range(1, len(parts))):
            left.append(file.name)
        else:
            taken.add(file.name)
            files.append(file)
    return Listing(tuple(files), tuple(left))


def _under(below: str, file: Remote) -> str:
    return f"{below}/{file.name}" if below else file.name


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the disk in our words."""
    try:
        yield
    except OSError as error:
        place = os.fspath(error.filename) if error.filename else str(path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StateError(
                f"There is no room for {place}.", hint="Make room and pull again: what has come is kept."
            ) from error
        raise StateError(
            f"{place} can't be written ({error.strerror or error}).", hint="Name another folder with --to."
        ) from error
