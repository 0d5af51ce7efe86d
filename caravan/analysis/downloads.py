"""Archives at an http(s) URL: fetched into the cache, within bounds, and only when they changed.

It unpacks nothing. An address holds no credentials: who needs some has them in a `.netrc` file.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from caravan.analysis.archive import LIMITS, is_archive
from caravan.analysis.places import make_private, prune
from caravan.analysis.unpacking import Deadline, TooMuch
from caravan.values.base import Value, sha256_text
from caravan.values.errors import RepositoryError
from caravan.values.masking import mask

if TYPE_CHECKING:
    from requests import Response

DOWNLOAD_SECONDS: Final = 600.0
_TIMEOUT: Final = (10.0, 60.0)  # seconds for a connection, and between two pieces
_PIECE: Final = 1 << 18
_MAX_HEADER: Final = 500


class Fetched(Value):
    """What a server said of an archive that lies in the cache: asked again, it says whether that changed."""

    etag: str = ""
    modified: str = ""


def is_address(source: str) -> bool:
    """Whether a source is an http(s) URL of an archive, judged by its path's ending."""
    if not source.startswith(("https://", "http://")) or any(c.isspace() for c in source):
        return False
    try:
        return is_archive(unquote(urlsplit(source).path))
    except ValueError:
        return False


def fetch(url: str, cache: Path, *, seconds: float = DOWNLOAD_SECONDS) -> Path:
    """The archive at `url` as a file of `cache`. Raises RepositoryError, one line, without secrets of the URL."""
    import requests

    shown = mask(url)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", unquote(urlsplit(url).path).rsplit("/", 1)[-1]).lstrip("-.") or "archive"
    place = cache / f"{sha256_text(url)[:16]}-{name[-100:]}"
    about = place.with_name(f"{place.name}.json")
    try:
        make_private(cache)
        known = _known(about) if place.is_file() else Fetched()
        headers = {"Accept-Encoding": "identity", "If-None-Match": known.etag, "If-Modified-Since": known.modified}
        sent = {name: value for name, value in headers.items() if value}
        with requests.get(url, headers=sent, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.not_modified and place.is_file():
                os.utime(place)
                return place
            _check(response, shown)
            _save(response, place, Deadline(seconds))
            said = Fetched(etag=_header(response, "ETag"), modified=_header(response, "Last-Modified"))
        _write(about, said.canonical().encode())
        prune(cache, keep=place)
    except requests.RequestException as error:
        kind = type(error).__name__
        raise RepositoryError(f"{shown} can't be fetched ({kind}).", hint="Check the URL and the network.") from error
    except TooMuch as error:
        raise RepositoryError(
            f"{shown} is not fetched: {error}.", hint="Fetch it yourself, and give the file."
        ) from error
    except OSError as error:
        raise RepositoryError(f"{shown} can't be kept in {cache}: {error.strerror or error}.") from error
    return place


def _check(response: "Response", shown: str) -> None:
    if response.status_code != 200:
        raise RepositoryError(
            f"{shown} can't be fetched: the server answers {response.status_code}.",
            hint="Check the URL and your access.",
        )
    hops = [r.url for r in (*response.history, response)]
    if hops[0].startswith("https:") and not all(hop.startswith("https:") for hop in hops):
        raise TooMuch("it is handed on to an address that is not encrypted")


def _save(response: "Response", place: Path, deadline: Deadline) -> None:
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        left = LIMITS.packed
        with part.open("wb") as file:
            for piece in response.raw.stream(_PIECE, decode_content=False):
                left -= len(piece)
                if left < 0:
                    raise TooMuch(f"it has more than {LIMITS.packed // 1_000_000} MB")
                deadline.check()
                file.write(piece)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _known(about: Path) -> Fetched:
    try:
        return Fetched.model_validate_json(about.read_bytes()[: 4 * _MAX_HEADER])
    except (OSError, ValidationError):
        return Fetched()


def _header(response: "Response", name: str) -> str:
    value = response.headers.get(name, "")
    return value if len(value) <= _MAX_HEADER and value.isprintable() else ""


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
