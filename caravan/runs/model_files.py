"""The files of a registered model where they lie: found again, compared with what was registered, and handed on.

The list of files came from a job, so it is data: a name that leads outside is refused. Nothing here writes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from caravan.runs.origins import DiskOrigin, Listing, Place, Remote, UrlOrigin
from caravan.runs.outputs import Fetched
from caravan.values.base import Json
from caravan.values.errors import CaravanError, StateError, UsageError
from caravan.values.file_names import is_safe
from caravan.values.registry import ModelFile, ModelVersion

_OURS: Final = ".caravan"  # the folder of what is half here, in every folder that is fetched into
_SMALL: Final = 1 << 20  # bytes of a config or a README that are read whole
Kind = Literal["path", "url", "volume", "allocation"]


class Address(NamedTuple):
    """A model's address in its parts. `name`: of a volume or an allocation. `path`: the path, the URL, or the path
    below the name.
    """

    kind: Kind
    name: str
    path: str


def read_address(address: str) -> Address:
    """The parts of `ModelFiles.address`. Raises StateError for one that a volume's or an allocation's name lacks."""
    for kind in ("volume", "allocation"):
        if address.startswith(f"{kind}:") and not address.startswith(f"{kind}://"):
            name, _, path = address.removeprefix(f"{kind}:").partition("/")
            if not name or not all(part not in ("", ".", "..") for part in path.split("/") if path):
                raise StateError(f"{address[:200]} is no address of a model.", hint="Register it again.")
            return Address("volume" if kind == "volume" else "allocation", name, path)
    if address.startswith("file://"):  # as a path, so that no link is followed
        return Address("path", "", unquote(urlsplit(address).path))
    return Address("url", "", address) if "://" in address else Address("path", "", address)


def place_here(address: Address, model: ModelVersion, *, inside: Path | None = None) -> Place:
    """Where files at a path or a URL are read. A path below `inside` must stay there, whatever its job made of it."""
    if address.kind == "url":
        return UrlOrigin(address.path)
    path = Path(address.path)
    own = inside if inside is not None and path.is_relative_to(inside) else None
    return DiskOrigin(path, [file.path for file in model.files.files] or None, inside=own)


class Checked(NamedTuple):
    """A registered file as it is now."""

    path: str
    state: Literal["whole", "changed", "missing", "unread"]
    detail: str = ""


class ModelOrigin:
    """A registered model as an origin: the files that were registered, and no others.

    A model whose files could not be listed when it was registered gives whatever is there, unverified.
    """

    def __init__(self, model: ModelVersion, place: Place) -> None:
        self.model = model
        self.key = place.key
        self._place = place
        self._sizes: dict[str, int] | None = None
        for file in model.files.files:
            if not is_safe(file.path) or file.path.split("/")[0] == _OURS:
                raise UsageError(
                    f"{model.ref} lists a file {file.path[:200]!r}: that name leads elsewhere, or can't be written.",
                    hint="Its job named it so; nothing is fetched of that model.",
                )

    @property
    def verified(self) -> bool:
        """Whether checksums are known."""
        return bool(self.model.files.files)

    def listing(self) -> Listing:
        """Its files. Raises StateError, before any byte has come, where one is missing or has another size."""
        if not self.verified:
            return self._place.listing()
        for file in self.model.files.files:
            found = self.look(file)
            if found is not None:
                raise StateError(
                    f"{file.path} of {self.model.ref} {_SAID[found.state]} ({found.detail}).", hint=self.hint
                )
        return Listing(tuple(Remote(file.path, file.bytes, file.sha256) for file in self.model.files.files))

    @property
    def hint(self) -> str:
        """What to do about a file that is not as it was registered."""
        return f"`main.py models verify {self.model.ref}` looks at every file of it."

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        """The file's bytes, as they come: whoever keeps them compares the checksum."""
        return self._place.pieces(file, offset)

    def whole(self, file: Remote) -> Iterator[bytes]:
        """The file's bytes. StateError, before the last of them, where they are not those that were registered."""
        digest, count, held = hashlib.sha256(), 0, b""
        for piece in self.pieces(file, 0):
            digest.update(piece)
            count += len(piece)
            if held:
                yield held
            held = piece
        if count != file.size or file.sha256 not in (None, digest.hexdigest()):
            raise StateError(
                f"{file.name} of {self.model.ref} was changed since it was registered: its bytes are others.",
                hint=self.hint,
            )
        if held:
            yield held

    def small(self, name: str) -> bytes | None:
        """A small file's content, verified; None where the model has none of that name, or a large one."""
        found = next((file for file in self.listing().files if file.name == name and file.size <= _SMALL), None)
        return None if found is None else b"".join(self.whole(found))

    def check(self, told: Callable[[str, int], None]) -> Iterator[Checked]:
        """Every registered file, read from its first byte to its last. `told` hears of the bytes of each.

        What can't be reached at all is an error; a file that can't be read is `unread`, and the others are looked at.
        """
        for file in self.model.files.files:
            yield self.look(file) or self._read(file, told)

    def _read(self, file: ModelFile, told: Callable[[str, int], None]) -> Checked:
        digest, count = hashlib.sha256(), 0
        try:
            for piece in self.pieces(Remote(file.path, file.bytes, file.sha256), 0):
                digest.update(piece)
                count += len(piece)
                told(file.path, count)
        except CaravanError as error:
            return Checked(file.path, "unread", error.message)
        if count != file.bytes or digest.hexdigest() != file.sha256:
            return Checked(file.path, "changed", f"SHA-256 {digest.hexdigest()[:12]}…, not {file.sha256[:12]}…")
        return Checked(file.path, "whole")

    def look(self, file: ModelFile) -> Checked | None:
        """What is wrong with a file as far as its name and size say it."""
        if self._sizes is None:
            self._sizes = self._place.sizes()
        size = self._sizes.get(file.path)
        if size is None:
            return Checked(file.path, "missing", "it is not there")
        if size != file.bytes:
            return Checked(file.path, "changed", f"{size} bytes, not {file.bytes}")
        return None


_SAID: Final = {
    "missing": "was deleted since it was registered",
    "changed": "was changed since it was registered",
}


def whole_here(model: ModelVersion, folder: Path, told: Callable[[str, int], None]) -> tuple[Fetched, ...] | None:
    """The model's files where all of them lie in the folder already, as registered; None where one does not."""
    files = model.files.files
    if not files or not folder.is_dir():
        return None
    here = ModelOrigin(model, DiskOrigin(folder, [file.path for file in files]))
    if any(here.look(file) is not None for file in files) or any(row.state != "whole" for row in here.check(told)):
        return None
    return tuple(Fetched(file.path, file.bytes, file.sha256, False) for file in files)


def small_json(path: Path) -> dict[str, Json]:
    """A small JSON file of a folder that was fetched; nothing for what is none."""
    try:
        return json_of(path.read_bytes()) if path.stat().st_size <= _SMALL else {}
    except OSError:
        return {}


def json_of(data: bytes | None) -> dict[str, Json]:
    """A config as it is, or nothing for what is none."""
    try:
        found = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
