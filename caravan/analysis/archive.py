"""Archives of a repository: zip and tar (plain, gzip, bzip2, xz), unpacked into the cache, never beside the archive.

An archive is not trusted. Nothing in it is written outside of its folder or by way of a link, what could hold secrets
is not unpacked, and size, number, depth, memory and time are bounded whatever its headers say.
"""

import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, NamedTuple

from pydantic import ValidationError

from caravan.analysis.deny import is_denied
from caravan.analysis.ignore import ALWAYS
from caravan.analysis.places import make_private, prune, replace_folder
from caravan.analysis.unpacking import Deadline, Packed, TooMuch, unpacked_stream
from caravan.values.base import Value
from caravan.values.errors import RepositoryError

ENDINGS: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
OTHER_ENDINGS: Final = (".tar.zst", ".tzst", ".7z", ".rar", ".tar.lz4", ".tar.lz")
"""Archives that are known as such and can't be read here."""


class Limits(NamedTuple):
    """Bytes of an archive as it lies there, and of all files in it together; number of members; seconds for all."""

    packed: int = 2_000_000_000
    unpacked: int = 4_000_000_000
    members: int = 60_000
    seconds: float = 600.0


LIMITS: Final = Limits()
_MAX_DEPTH: Final = 60
_MAX_NAME: Final = 255  # bytes of one part of a path: what file systems take
_MAX_LIST: Final = 64_000_000  # bytes of a zip's table of contents, which is read at once
_HEADERS: Final = 4096  # bytes of a tar for each member beside its content
_MAX_NOTES: Final = 20
_PIECE: Final = 1 << 15
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ZIP_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)  # LZMA's memory has no bound
# What the standard library raises over broken archives of these kinds.
_BROKEN: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, RecursionError),
    *(ValueError, NotImplementedError, RuntimeError, OverflowError, IndexError, KeyError, OSError, MemoryError),
)


class About(Value):
    """What an unpacked archive's folder says of itself. `top`: the folder in it that holds everything, or nothing.

    `whole`: git made it of a commit, so that git's ignore rules leave nothing out.
    """

    top: str = ""
    whole: bool = False
    notes: tuple[str, ...] = ()


class Unpacked(NamedTuple):
    """Where an archive's files are, whether git tracks all of them, and what was left out."""

    root: Path
    whole: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A member as its header describes it. `kind`: file, folder, link, copy (a tar's hard link) or other."""

    name: str
    kind: str
    size: int = 0
    executable: bool = False
    target: str = ""
    open: Callable[[], IO[bytes]] | None = None


def is_archive(name: str) -> bool:
    """Whether a path or an address is named like an archive, be it one that can't be read here."""
    return name.lower().endswith((*ENDINGS, *OTHER_ENDINGS))


def unpack(path: Path, cache: Path, *, limits: Limits = LIMITS) -> Unpacked:
    """The archive's files in a folder of `cache`, named by its content: unpacked once, and taken again after.

    Raises RepositoryError, one line, for what is no archive, broken, hostile or too large; then nothing is left.
    """
    if path.name.lower().endswith(OTHER_ENDINGS):
        raise RepositoryError(f"{path.name} can't be unpacked here.", hint=f"Unpack it, or give {', '.join(ENDINGS)}.")
    try:
        make_private(cache)
        digest = _digest(path, limits)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", _stem(path.name)).strip("-.") or "archive"
        folder = cache / f"{stem[:60]}-{digest[:16]}"
        about = _earlier(folder)
        if about is None:
            about = _unpack_anew(path, folder, limits)
            prune(cache, keep=folder)
        os.utime(folder)
    except TooMuch as error:
        raise RepositoryError(
            f"{path} is not unpacked: {error}.", hint="Unpack it yourself, where you trust it."
        ) from error
    except _BROKEN as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RepositoryError(f"{path} can't be unpacked: {_one_line(reason)}.", hint="Is it whole?") from error
    return Unpacked(folder / "files" / about.top, about.whole, about.notes)


def _digest(path: Path, limits: Limits) -> str:
    """SHA-256 of a regular file within the bound."""
    whole = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise TooMuch("it is no regular file")
        if found.st_size > limits.packed:
            raise TooMuch(f"it has more than {limits.packed // 1_000_000} MB")
        while piece := file.read(1 << 20):
            whole.update(piece)
    return whole.hexdigest()


def _stem(name: str) -> str:
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)]


def _one_line(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())[:200].rstrip(". ")


def _earlier(folder: Path) -> About | None:
    """What an unpacked archive says of itself; None where it is not there, or says nothing that can be trusted."""
    try:
        about = About.model_validate_json((folder / "about.json").read_bytes()[:_PIECE])
    except (OSError, ValidationError):
        return None
    inside = "/" not in about.top and about.top not in (".", "..")
    return about if inside and (folder / "files" / about.top).is_dir() else None


def _unpack_anew(path: Path, folder: Path, limits: Limits) -> About:
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        make_private(part / "files")
        unpacker = _Unpacker(part / "files", limits, Deadline(limits.seconds))
        with path.open("rb") as file:
            read = _unzip if zipfile.is_zipfile(file) else _untar
            whole = read(file, unpacker)
        unpacker.link()
        about = About(top=_top(part / "files"), whole=whole, notes=tuple(unpacker.notes))
        (part / "about.json").write_text(about.canonical(), encoding="utf-8")
        replace_folder(part, folder)
        return about
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _top(files: Path) -> str:
    """The one folder that holds everything, as in archives that a code host makes; empty where there is none."""
    with os.scandir(files) as found:
        entries = list(found)
    if not entries:
        raise TooMuch("it holds no files")
    one = entries[0]
    return one.name if len(entries) == 1 and one.is_dir(follow_symlinks=False) else ""


# ---- what is written


@dataclass
class _Unpacker:
    """Writes members below `root`, which nobody else writes to: files and folders at once, links when all is there."""

    root: Path
    limits: Limits
    deadline: Deadline
    notes: list[str] = field(default_factory=list)
    _written: int = 0
    _members: int = 0
    _links: dict[str, str] = field(default_factory=dict)

    def put(self, member: Member) -> None:
        """Write one member, or note why not. Raises TooMuch, ValueError for a name that leads out."""
        self._members += 1
        if self._members > self.limits.members:
            raise TooMuch(f"it holds more than {self.limits.members} files")
        self.deadline.check()
        name = _inner(member.name)
        if not name or self._unwanted(name):
            return
        place = self.root / name
        if member.kind == "folder":
            place.mkdir(parents=True, exist_ok=True)
        elif member.kind == "link":
            place.parent.mkdir(parents=True, exist_ok=True)  # now, while nothing on the way can be a link
            self._links[name] = member.target
        elif member.kind == "copy":
            self._copy(name, _inner(member.target))
        elif member.kind == "file" and member.open is not None:
            self._check(self._written + member.size)
            with member.open() as source:
                self._write(place, source, 0o755 if member.executable else 0o644)
        else:
            self.note(f"{name} is no file: not unpacked")

    def _unwanted(self, name: str) -> bool:
        parts = name.split("/")
        if parts[0] == "__MACOSX" or not ALWAYS.isdisjoint(parts):
            return True
        if is_denied(name):
            self.note(f"{name} is on the deny list: never read, never delivered")
            return True
        return False

    def _copy(self, name: str, target: str) -> None:
        """A hard link: the file that was unpacked before, once more. Nothing here is a link yet."""
        if target and (self.root / target).is_file() and target != name:
            with (self.root / target).open("rb") as source:
                self._write(self.root / name, source, stat.S_IMODE(os.fstat(source.fileno()).st_mode))
        else:
            self.note(f"{name} is a link to nothing that was unpacked")

    def _write(self, place: Path, source: IO[bytes], mode: int) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            place.unlink()  # the last of several members with one name counts, as tar has it
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as target:
            while piece := source.read(_PIECE):
                self._written += len(piece)
                self._check(self._written)
                target.write(piece)

    def _check(self, size: int) -> None:
        if size > self.limits.unpacked:
            raise TooMuch(f"its files have more than {self.limits.unpacked // 1_000_000} MB together")
        self.deadline.check()

    def link(self) -> None:
        """Make the links that lead to something inside. Who reads them judges again by where they lead."""
        for name, target in self._links.items():
            inside = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120
            if not target or target.startswith("/") or inside.split("/")[0] == ".." or "\0" in target:
                self.note(f"{name} is a link that leads out: not unpacked")
                continue
            if not os.path.lexists(self.root / name):
                (self.root / name).symlink_to(target)

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if len(self.notes) < _MAX_NOTES and text not in self.notes:
            self.notes.append(text)


def _inner(name: str) -> str:
    """A member's path inside the folder, empty for the folder itself. Raises ValueError for one that leads out."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    try:
        sizes = [len(part.encode("utf-8")) for part in parts]
    except UnicodeEncodeError as error:
        raise ValueError(f"a name in it is no text: {name!a}") from error
    if name.startswith("/") or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:[/\\]", name):
        raise TooMuch(f"a name in it leads out of it: {_one_line(ascii(name))}")
    if len(parts) > _MAX_DEPTH or any(size > _MAX_NAME for size in sizes):
        raise TooMuch(f"a name in it is too long: {_one_line(ascii(name[:80]))}")
    return "/".join(parts)


# ---- what is read


def _untar(file: IO[bytes], unpacker: _Unpacker) -> bool:
    limits = unpacker.limits
    stream = Packed(unpacked_stream(file), unpacker.deadline, limits.unpacked + limits.members * _HEADERS)
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=1) as archive:  # type: ignore[call-overload]
        while (info := archive.next()) is not None:
            unpacker.put(_tar_member(archive, info))
        return _COMMIT.fullmatch(archive.pax_headers.get("comment", "")) is not None


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.size < 0:
        raise ValueError("a size in it is negative")
    if info.isdir():
        return Member(info.name, "folder")
    if info.issym():
        return Member(info.name, "link", target=info.linkname)
    if info.islnk():
        return Member(info.name, "copy", target=info.linkname)
    if not info.isreg() or info.issparse():
        return Member(info.name, "other")

    def content() -> IO[bytes]:
        return archive.extractfile(info) or io.BytesIO()

    return Member(info.name, "file", info.size, bool(info.mode & 0o111), open=content)


def _unzip(file: IO[bytes], unpacker: _Unpacker) -> bool:
    _check_table(file, min(unpacker.limits.members, 0xFFFE))
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            unpacker.put(_zip_member(archive, info))
        return _COMMIT.fullmatch(archive.comment.decode("ascii", "replace")) is not None


def _check_table(file: IO[bytes], most: int) -> None:
    """Refuse a table of contents that would take too much memory before it is read."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 66_000))
    tail = file.read(66_000)
    at = tail.rfind(b"PK\5\6")
    count, length = struct.unpack_from("<HI", tail, at + 10)
    # The values that say "see the 64-bit record" are themselves more than is unpacked here.
    if count > most or length > _MAX_LIST:
        raise TooMuch(f"it holds more than {most} files")
    file.seek(0)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name, mode = info.filename.replace("\\", "/"), info.external_attr >> 16
    if info.flag_bits & 1:
        raise ValueError("it is encrypted")
    if name.endswith("/"):
        return Member(name, "folder")
    if info.compress_type not in _ZIP_METHODS:
        raise ValueError(f"{name!a} is compressed in a way that is not read here")
    if stat.S_ISLNK(mode):
        with archive.open(info) as source:
            return Member(name, "link", target=os.fsdecode(source.read(4096)))
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Member(name, "other")
    return Member(name, "file", info.file_size, bool(mode & 0o111), open=lambda: archive.open(info))
