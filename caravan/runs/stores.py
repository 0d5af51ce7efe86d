"""Putting one object at a URL, whole or not at all: by PUT to a web server, by fsspec anywhere else.

Credentials come from the environment, as the libraries find them (`~/.netrc`, a cloud's own chain); none is in a URL.
"""

import concurrent.futures
import hashlib
import os
import queue
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from caravan.values.delivery import Parcel
from caravan.values.errors import CaravanError, ServiceError, UsageError

READ_AGAIN: Final = 64_000_000
"""Bytes up to which what arrived is read again and its checksum compared; a node compares it in any case."""
PATIENCE_S: Final = 600.0
_MISSING: Final = 404
_TOO_LARGE: Final = 413
_DENIED: Final = (401, 403)
_FAULTY: Final = 500  # and above: the server's own trouble
_WITHOUT_FOLDERS: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss"})
_T = TypeVar("_T")


class Store(Protocol):
    """Where one object goes."""

    def size(self) -> int | None:
        """The object's size; None where it is not there."""

    def read(self) -> Iterator[bytes]:
        """The object's bytes."""

    def write(self, pieces: Iterator[bytes], size: int) -> None:
        """Write the object, whole or not at all."""


def store_of(url: str, *, patience_s: float = PATIENCE_S) -> Store:
    """The store of an object. Raises UsageError where what it needs is not installed."""
    return HttpStore(url, patience_s) if url.startswith(("http://", "https://")) else FileSystemStore(url, patience_s)


def is_there(store: Store, parcel: Parcel) -> bool:
    """Whether that very object is there; one of another size or, where that is cheap to see, content is not it."""
    return store.size() == parcel.size and (parcel.size > READ_AGAIN or _sha256(store.read()) == parcel.sha256)


def put(store: Store, url: str, content: Iterator[bytes], parcel: Parcel) -> None:
    """Put the object there and look whether it arrived. Raises ServiceError, or UsageError where it has changed."""
    checked = _checked(content, url, parcel)
    store.write(checked, parcel.size)
    if not is_there(store, parcel):
        have = store.size()
        said = "is not there" if have is None else "is another than was sent" if have == parcel.size else f"has {have}"
        raise ServiceError(f"{url} {said} after it was put: {parcel.size} bytes were sent.", hint="Resume the run.")


def _checked(content: Iterator[bytes], url: str, parcel: Parcel) -> Iterator[bytes]:
    """The bytes; an error before the last of them is handed on, if they are not those that were measured."""
    digest, size, held = hashlib.sha256(), 0, b""
    for piece in content:
        digest.update(piece)
        size += len(piece)
        if held:
            yield held
        held = piece
    if size != parcel.size or digest.hexdigest() != parcel.sha256:
        raise UsageError(f"What goes to {url} changed after it was planned.", hint="Start a new run.")
    if held:
        yield held


def _sha256(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


class _Body:
    """Bytes of a known number, as an HTTP library wants them."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces, self._size = pieces, size

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def __len__(self) -> int:
        return self._size


class HttpStore:
    """An address of a web server that takes PUT, WebDAV or not.

    Nothing is ever removed: an address belongs to a content, not to a run, and what is half there may be another run's
    upload under way. Whatever a broken PUT leaves has another size, or another checksum, and is put anew.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        self._url = url
        self._timeout = (min(30.0, patience_s), patience_s)

    def size(self) -> int | None:
        """The object's size."""
        answer = self._ask("HEAD")
        if answer.status_code == _MISSING:
            return None
        length = self._accepted(answer, "be looked at").headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    def read(self) -> Iterator[bytes]:
        """The object's bytes."""
        import requests

        with self._accepted(self._ask("GET", stream=True), "be read") as answer:
            try:
                yield from answer.iter_content(1 << 20)
            except requests.RequestException as error:
                raise self._failed(error) from error

    def write(self, pieces: Iterator[bytes], size: int) -> None:
        """PUT it; folders that a WebDAV server misses are made first."""
        self._make_folders()
        self._accepted(self._ask("PUT", data=_Body(pieces, size)), f"be put ({size} bytes)")

    def _make_folders(self) -> None:
        """On a WebDAV server, which says so; others make folders by themselves, or have none."""
        with suppress(CaravanError):
            if "MKCOL" not in self._ask("OPTIONS").headers.get("Allow", ""):
                return
            root = urlsplit(self._url)
            parts = root.path.strip("/").split("/")[:-1]
            for n in range(1, len(parts) + 1):
                self._ask("MKCOL", url=f"{root.scheme}://{root.netloc}/{'/'.join(parts[:n])}/")

    def _ask(self, method: str, *, url: str = "", **more: Any) -> Any:
        import requests

        headers = {"Accept-Encoding": "identity"}  # the size is that of the object itself
        try:
            return requests.request(method, url or self._url, timeout=self._timeout, headers=headers, **more)
        except requests.RequestException as error:
            raise self._failed(error) from error
        except OSError as error:  # a connection that ends while the body is sent
            raise self._failed(error) from error

    def _accepted(self, answer: Any, what: str) -> Any:
        if answer.ok:
            return answer
        status = answer.status_code
        if status == _TOO_LARGE:
            hint = "Raise the server's limit of a request's size (nginx: client_max_body_size), or use another store."
        elif status in _DENIED:
            hint = "Its credentials belong into ~/.netrc."
        else:
            hint = "Resume the run." if status >= _FAULTY else "See docs/jobs.md for what a store may be."
        raise ServiceError(f"{self._url} can't {what}: the server answered {status}.", hint=hint)

    def _failed(self, error: Exception) -> ServiceError:
        why = re.sub(r"<[^>]*>", "", str(error))[:200] or type(error).__name__
        return ServiceError(f"{self._url} can't be reached: {why}.", hint="Resume the run once it can.")


class Worker:
    """One thread that does one thing after another for a store's library. It may hang and keeps no process alive."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=_work_off, args=(self._work,), daemon=True).start()
        weakref.finalize(self, self._work.put, None)

    def submit(self, work: Callable[[], _T]) -> concurrent.futures.Future[_T]:
        """What it will come to: a value, or whatever the library raises."""
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def done() -> None:
            with _HandedOn(future):
                future.set_result(work())

        self._work.put(done)
        return future


class _HandedOn:
    """What is raised within goes to whoever waits for the future, as from a pool's thread; it is mapped there."""

    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self._future = future

    def __enter__(self) -> None:
        """Nothing is prepared."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is not None:
            self._future.set_exception(error)
        return True


def _work_off(work: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (one := work.get()) is not None:
        one()
        del one  # what it holds is not ours


class FileSystemStore:
    """An object of any file system that fsspec knows: written under another name and renamed, or at once where a store
    shows nothing before all is there.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        self._url, self._patience_s = url, patience_s
        self._worker = Worker()
        self._dead = False  # it has not answered once: nothing more is asked, no clean-up either
        self._fs, self._path = self._call(self._open)

    def _open(self) -> Any:
        import fsspec

        return fsspec.core.url_to_fs(self._url)

    def size(self) -> int | None:
        """The object's size."""

        def look() -> int | None:
            try:
                self._fs.invalidate_cache()
                return int(self._fs.info(self._path)["size"])
            except FileNotFoundError:
                return None

        return self._call(look)

    def read(self) -> Iterator[bytes]:
        """The object's bytes."""
        stream = self._call(lambda: self._fs.open(self._path, "rb"))
        try:
            while piece := self._call(lambda: bytes(stream.read(1 << 22))):
                yield piece
        finally:
            self._call(stream.close)

    def write(self, pieces: Iterator[bytes], size: int) -> None:
        """Write it in one go; what is begun and not ended is taken back, also after Ctrl-C."""
        del size
        whole = self._url.partition("://")[0] in _WITHOUT_FOLDERS
        place = self._path if whole else f"{self._path}.{os.getpid()}-{threading.get_ident()}.part"
        if not whole:
            self._call(lambda: self._fs.makedirs(place.rpartition("/")[0], exist_ok=True))
        stream = self._call(lambda: self._fs.open(place, "wb"))
        try:
            for piece in pieces:
                self._call(lambda piece=piece: stream.write(piece))  # type: ignore[misc]
            self._call(stream.close)
            if not whole:
                self._call(lambda: self._fs.mv(place, self._path))
        except BaseException:
            self._take_back(stream, place, whole=whole)
            raise

    def _take_back(self, stream: Any, place: str, *, whole: bool) -> None:
        """End what was begun, without making an object of it: an upload in parts is called off."""
        with suppress(CaravanError):
            if whole and hasattr(stream, "discard"):
                stream.closed = True  # closing it would complete it
                self._call(stream.discard)
            else:
                self._call(stream.close)
        if not whole:
            with suppress(CaravanError):
                self._call(lambda: self._fs.rm_file(place))

    def _call(self, work: Callable[[], _T]) -> _T:
        """What a store's library says; whatever it raises, a kind of its own included, in our words."""
        silent = ServiceError(f"{self._url} does not answer.", hint="Resume the run; nothing is sent twice.")
        if self._dead:
            raise silent
        future = self._worker.submit(work)
        try:
            error = future.exception(timeout=self._patience_s)
        except TimeoutError as late:
            self._dead = True
            raise silent from late
        if error is None:
            return future.result()
        if isinstance(error, ImportError):
            raise UsageError(f"{self._url} can't be used from here: {error}.", hint="Install that package.") from error
        if isinstance(error, ValueError) and "rotocol" in str(error):
            raise UsageError(f"{self._url}: {error}.", hint="See docs/jobs.md for what a store may be.") from error
        why = f"{type(error).__name__}: {error}"[:200]
        hint = "Its credentials must be in this environment; then resume the run."
        raise ServiceError(f"{self._url} can't be used: {why}.", hint=hint) from error
