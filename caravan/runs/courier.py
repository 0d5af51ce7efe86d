"""The courier: measures what is sent, puts it where nodes fetch it, has images built. It decides nothing."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from caravan.runs.files import state_errors
from caravan.runs.images import Builder
from caravan.runs.parcels import Denies, Measures, content
from caravan.runs.stores import PATIENCE_S, is_there, put, store_of
from caravan.values.amounts import size_text
from caravan.values.delivery import Parcel
from caravan.values.plan import ImageBuild

Told = Callable[[str], None]
_TELL_EVERY: Final = 10  # percent
_WORTH_TELLING: Final = 50_000_000  # bytes


class StoreCourier:
    """The port Courier. `home`: the state directory; `environment`: what git and the image tools run in.

    `is_denied` says whether a path, by its name, may hold a secret and is left out of what is sent; `secrets` are
    values that are written nowhere. `is_public` says whether a git remote answers without credentials.
    """

    def __init__(
        self,
        home: Path,
        *,
        environment: Mapping[str, str],
        is_denied: Denies,
        secrets: tuple[str, ...] = (),
        is_public: Callable[[str], bool | None] = lambda _: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._measures, self._is_denied = Measures(home / "measured.json", is_denied), is_denied
        self._secrets = secrets
        self._home, self._environment, self._patience_s = home, environment, patience_s
        self._is_public = is_public

    def public(self, url: str) -> bool | None:
        """Whether a git remote answers without credentials; None: not known."""
        return self._is_public(url)

    def measure(self, path: Path, told: Told, most: int | None = None) -> Parcel:
        """What sending the file or directory would send, of at most `most` bytes. Raises UsageError."""
        with state_errors(self._home):
            return self._measures.measure(path, told, most)

    def put(self, path: Path, url: str, parcel: Parcel, told: Told) -> bool:
        """Put the file or directory there; False: it was there. Raises ServiceError, UsageError."""
        store = store_of(url, patience_s=self._patience_s)
        if is_there(store, parcel):
            return False
        put(store, url, _telling(content(path, self._is_denied), parcel.size, url, told), parcel)
        return True

    def build(self, archive: Path, build: ImageBuild, log: Path, told: Told) -> str:
        """Build and push an image; its digest. Raises BuildFailed, ServiceError, UsageError."""
        with state_errors(log):
            builder = Builder(self._environment, pushes=self._home / "pushed.json", secrets=self._secrets)
            return builder.build(archive, build, log, told)


def _telling(pieces: Iterator[bytes], size: int, url: str, told: Told) -> Iterator[bytes]:
    sent = before = 0
    for piece in pieces:
        yield piece
        sent += len(piece)
        percent = sent * 100 // size if size else 100
        if size >= _WORTH_TELLING and percent >= before + _TELL_EVERY:
            before = percent
            told(f"Sending to {url}: {percent} % of {size_text(size)}.")
