"""Exporting a registered model: its files with a card, its facts and checksums, to a folder, one tar file, or a URL.

The same model gives the same bytes. What was changed since it was registered is no export: nothing of it gets a name.
"""

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from caravan.runs.files import publish, state_errors, temporary_beside
from caravan.runs.loading_code import ADAPTER_CONFIG, CONFIG
from caravan.runs.model_card import CARD, FACTS, OURS, SUMS, card, facts_json, sums
from caravan.runs.model_files import ModelOrigin, json_of
from caravan.runs.origins import Listing, Remote
from caravan.runs.outputs import Manners, Progressed, Target
from caravan.runs.stores import is_there, put, store_of
from caravan.values.amounts import size_text
from caravan.values.base import Json
from caravan.values.delivery import Parcel
from caravan.values.errors import ServiceError, StateError, UsageError
from caravan.values.registry import ModelVersion

_SPARE: Final = 64 << 20  # bytes of the disk that are left free
_MODE: Final = 0o644
_FORM: Final = "[More Information Needed]"
Told = Callable[[Progressed], None]


class Exported(NamedTuple):
    """What was written: where, the files with their SHA-256, and how many bytes they have."""

    place: str
    files: dict[str, str]
    bytes: int


class Content:
    """What an export holds: the model's own files as they come, and ours in memory. It is an origin of both."""

    def __init__(self, origin: ModelOrigin, trained: str | None) -> None:
        self.model: ModelVersion = origin.model
        self.key, self.hint = origin.key, origin.hint
        self._origin = origin
        own = _card_of(origin)
        self._made: dict[str, bytes] = {
            CARD: card(self.model, own, configs=_configs(origin), trained=trained).encode("utf-8", "replace"),
            FACTS: facts_json(self.model),
        }
        there = origin.listing()
        ours = tuple(Remote(n, len(d), hashlib.sha256(d).hexdigest()) for n, d in self._made.items())
        self.files = tuple(sorted((*(f for f in there.files if f.name not in OURS), *ours)))
        self.left_out = there.left_out

    def listing(self) -> Listing:
        """All but the checksums, which are known once everything was read."""
        return Listing(self.files, self.left_out)

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        """The bytes of a file from `offset` on."""
        made = self._made.get(file.name)
        return self._origin.pieces(file, offset) if made is None else iter((made[offset:],) if made[offset:] else ())

    def whole(self, file: Remote) -> Iterator[bytes]:
        """The bytes of a file; StateError before the last of them where they are not those that were registered."""
        made = self._made.get(file.name)
        return self._origin.whole(file) if made is None else iter((made,))


class _Sums(NamedTuple):
    """The checksums as an origin of one file."""

    data: bytes
    key: str = "sums"

    def listing(self) -> Listing:
        return Listing((Remote(SUMS, len(self.data), hashlib.sha256(self.data).hexdigest()),))

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        del file
        return iter((self.data[offset:],))


def to_folder(content: Content, folder: Path, *, force: bool, tell: Told) -> Exported:
    """Write it into a folder. Broken off, it goes on the next time."""
    target = Target(folder, Manners(marks=False, force=force, differs=_DIFFERS, wrong=content.hint))
    fetched, _ = target.fetch(content, "", final=True, tell=tell)
    found = {file.path: file.sha256 for file in fetched}
    target.fetch(_Sums(sums(found)), "", final=True, tell=tell)
    target.clear()
    return Exported(str(folder), found, sum(file.bytes for file in fetched))


def to_tar(content: Content, path: Path, *, force: bool, tell: Told) -> Exported:
    """Write it as one tar file without times and owners: the same model gives the same file, whole or not at all."""
    if path.exists() and not force:
        raise UsageError(f"{path} is there already.", hint="Name another file with --to, or replace it with --force.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is there and is no file.", hint="Name another file with --to.")
    with state_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        need, free = sum(f.size for f in content.files), shutil.disk_usage(path.parent).free
    if need > free - _SPARE:
        raise StateError(f"{size_text(need)} are to come, and {path.parent} has no room for them.", hint="Make room.")
    with _temporary(path) as temporary:
        found = _write_tar(content, temporary, tell)
        temporary.chmod(_MODE)
        publish(temporary, path)
    return Exported(str(path), found, need)


def to_url(content: Content, url: str, *, as_tar: bool, force: bool, tell: Told) -> Exported:
    """Put it at a URL: each file whole or not at all, the checksums last. What is there already is not sent again."""
    if as_tar:
        return _tar_to_url(content, url, force=force, tell=tell)
    files, size = content.files, sum(f.size for f in content.files)
    root = url.rstrip("/")
    here = _places(content, root, force=force)
    found: dict[str, str] = {}
    done = 0
    for number, file in enumerate(files, 1):
        before = done

        def told(count: int, file: Remote = file, number: int = number, before: int = before) -> None:
            tell(Progressed(file.name, number, len(files), before + count, size))

        digest = file.sha256 or _digest(content, file)
        if file.name not in here:
            _put(f"{root}/{file.name}", _counted(content.whole(file), told), Parcel(sha256=digest, size=file.size))
        found[file.name] = digest
        done += file.size
    last = sums(found)
    _put(f"{root}/{SUMS}", iter((last,)), Parcel(sha256=hashlib.sha256(last).hexdigest(), size=len(last)))
    return Exported(root, found, size)


_DIFFERS: Final = "Name another folder with --to, or replace it with --force."


def _places(content: Content, root: str, *, force: bool) -> set[str]:
    """The names of the files that are there already. Raises UsageError for another file in the way of one."""
    there = set()
    for file in content.files:
        store = store_of(f"{root}/{file.name}")
        size = store.size()
        if size is None:
            continue
        if file.sha256 is not None and is_there(store, Parcel(sha256=file.sha256, size=file.size)):
            there.add(file.name)
        elif not force:
            raise UsageError(
                f"{root}/{file.name} is there already and differs.",
                hint="Name another place with --to, or replace it with --force.",
            )
    return there


def _tar_to_url(content: Content, url: str, *, force: bool, tell: Told) -> Exported:
    store = store_of(url)
    with tempfile.TemporaryDirectory(prefix="caravan-export-") as folder:
        made = to_tar(content, Path(folder) / "model.tar", force=False, tell=tell)
        path = Path(made.place)
        with path.open("rb") as stream:
            parcel = Parcel(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), size=path.stat().st_size)
        if store.size() is not None and not is_there(store, parcel) and not force:
            raise UsageError(f"{url} is there already and differs.", hint="Replace it with --force.")
        with path.open("rb") as stream:
            _put(url, iter(lambda: stream.read(1 << 22), b""), parcel)
    return Exported(url, made.files, made.bytes)


def _put(url: str, pieces: Iterator[bytes], parcel: Parcel) -> None:
    """Put one file there. Its errors say what to do about an export."""
    try:
        put(store_of(url), url, pieces, parcel)
    except ServiceError as error:
        raise ServiceError(error.message, hint="Export again once that is mended: what is there stays.") from error


def _counted(pieces: Iterator[bytes], told: Callable[[int], None]) -> Iterator[bytes]:
    count = 0
    for piece in pieces:
        count += len(piece)
        told(count)
        yield piece


def _digest(content: Content, file: Remote) -> str:
    digest = hashlib.sha256()
    for piece in content.whole(file):
        digest.update(piece)
    return digest.hexdigest()


def _write_tar(content: Content, path: Path, tell: Told) -> dict[str, str]:
    top = f"{content.model.name}-{content.model.version}"
    files, size = content.files, sum(f.size for f in content.files)
    found: dict[str, str] = {}
    done = 0
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, file in enumerate(files, 1):
            tell(Progressed(file.name, number, len(files), done, size))
            reader = _Reader(content.whole(file))
            try:
                tar.addfile(_entry(f"{top}/{file.name}", file.size), reader)
            except tarfile.TarError as error:
                raise StateError(f"{file.name} can't be put into a tar file ({error}).") from error
            found[file.name] = reader.digest.hexdigest()
            done += file.size
        last = sums(found)
        tar.addfile(_entry(f"{top}/{SUMS}", len(last)), io.BytesIO(last))
    return found


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """A member without time, owner and rights of its own."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, 0, _MODE
    return entry


class _Reader(io.RawIOBase):
    """Pieces as a stream that tarfile reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece, self._at = b"", 0
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes, no fewer than `size` before the end."""
        parts: list[bytes] = []
        missing = size
        while missing > 0:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    break
                self.digest.update(self._piece)
            part = self._piece[self._at : self._at + missing]
            self._at += len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, gone at the end if it has not got its name; errors of the disk in our words."""
    with state_errors(path), temporary_beside(path) as temporary:
        yield temporary


def _card_of(origin: ModelOrigin) -> str | None:
    """The job's own card; None where there is none, or only the form that peft and hubs begin one with."""
    data = origin.small(CARD)
    text = data.decode("utf-8", "replace") if data is not None else None
    return None if text is None or _FORM in text else text


def _configs(origin: ModelOrigin) -> Mapping[str, Mapping[str, Json]]:
    """The model's configs by name; of a model whose files were not listed, every file there by its name."""
    found: dict[str, Mapping[str, Json]] = {}
    for file in origin.listing().files:
        if file.name.split("/")[-1] in (CONFIG, ADAPTER_CONFIG):
            found[file.name] = json_of(origin.small(file.name))
        elif not origin.verified:
            found[file.name] = {}
    return found
