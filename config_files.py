"""`caravan.toml`: which files there are, which of them may be relied on, and what stands in them, unchecked.

The administrator's file, the user's, and the working directory's. That last one may be a stranger's, who left it in a
repository that was cloned: it is known by its content (`config trust`), as direnv knows a `.envrc`. What settings mean
is not known here.
"""

import hashlib
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

from caravan.values.errors import StateError, UsageError
from caravan.values.masking import mask

NAME: Final = "caravan.toml"
SYSTEM: Final = Path("/etc/caravan")
"""Where an administrator's files are. No setting changes that."""
LARGEST: Final = 1 << 20  # bytes of a file that is read
_TRUSTED: Final = "trusted.json"
_SAID: Final = 300  # characters of a library's words


class Layer(IntEnum):
    """Where a value is from; the higher stands over the lower."""

    DEFAULT = 0
    SYSTEM = 1
    USER = 2
    HERE = 3
    NAMED = 4
    ENVIRONMENT = 5
    FLAG = 6


@dataclass(frozen=True)
class ConfigFile:
    """A `caravan.toml` that was read. `shown`: what messages call it; `trusted`: all of it may be taken."""

    path: Path
    layer: Layer
    data: Mapping[str, Any]
    text: str = field(default="", repr=False)
    mode: int = 0o600
    shown: str = ""
    trusted: bool = True

    @property
    def settings(self) -> Any:
        """The table `[settings]`, which may be anything yet."""
        return self.data.get("settings", {})

    @property
    def has_profiles(self) -> bool:
        """Whether it speaks of clusters."""
        return "clusters" in self.data or "default_cluster" in self.data

    def line(self, *keys: str) -> int:
        """The line of a key."""
        return line_of(self.text, keys)


@dataclass(frozen=True)
class Found:
    """The files, the lowest first, and what is to be told of one that was left out."""

    files: tuple[ConfigFile, ...] = ()
    notes: tuple[str, ...] = ()

    def profiles(self) -> ConfigFile | None:
        """The file with the cluster profiles: the highest that speaks of any. They are not mixed."""
        trusted = [file for file in self.files if file.trusted]
        return next((file for file in reversed(trusted) if file.has_profiles), None)


def find_files(named: Path | None, *, user: Path, system: Path, here: Path | None, trust: "Trust") -> Found:
    """The files that are in force: the one that is named alone, else the system's, the user's and that of `here`.

    Raises UsageError for a file that can't be used. One of the working directory that nobody trusted stops nothing: it
    is told of.
    """
    if named is not None:
        return Found((read_config(named.expanduser(), Layer.NAMED, shown=str(named)),))
    files = []
    for layer, folder in ((Layer.SYSTEM, system), (Layer.USER, user)):
        if (folder / NAME).exists():
            files.append(read_config(folder / NAME, layer))
    path = here / NAME if here is not None else None
    if path is None or not path.exists() or any(_same(path, file.path) for file in files):
        return Found(tuple(files))
    try:
        found = read_config(path, Layer.HERE)
    except UsageError as error:
        if _is_trusted(path, trust):
            raise
        return Found(tuple(files), (f"{error.message} Nothing is taken from it.",))
    trusted = trust.knows(found.path, found.text)
    return Found((*files, _with_trust(found, trusted=trusted)))


def _with_trust(file: ConfigFile, *, trusted: bool) -> ConfigFile:
    return ConfigFile(file.path, file.layer, file.data, file.text, file.mode, file.shown, trusted)


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _is_trusted(path: Path, trust: "Trust") -> bool:
    try:
        return trust.knows(path.resolve(), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False


def working_directory() -> Path | None:
    """The directory of this process; None where it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


def read_config(path: Path, layer: Layer, *, shown: str = "") -> ConfigFile:
    """One file as it stands. Raises UsageError where it can't be read, is no TOML, or everybody may write it."""
    shown = shown or str(path)
    try:
        if not path.is_file():
            path.open("rb").close()  # raises what is wrong with it
            raise UsageError(f"{shown} is no file.")
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(LARGEST + 1)
    except OSError as error:
        hint = "Check --config or CARAVAN_CONFIG." if layer is Layer.NAMED else "Correct it, or move it away."
        raise UsageError(f"{shown} can't be read ({error.strerror}).", hint=hint) from error
    document = parsed(data, Path(shown))
    if mode & stat.S_IWOTH:
        raise UsageError(f"{shown} can be written by everybody.", hint=f"chmod o-w {shown}")
    return ConfigFile(path.resolve(), layer, document, data.decode("utf-8"), stat.S_IMODE(mode), shown)


def toml_of(stream: BinaryIO, path: Path) -> dict[str, Any]:
    """The document in an open file. Raises OSError, or UsageError for what is no TOML."""
    return parsed(stream.read(LARGEST + 1), path)


def parsed(data: bytes, path: Path) -> dict[str, Any]:
    """The document of these bytes. Raises UsageError naming `path` for what is no TOML."""
    if len(data) > LARGEST:
        raise UsageError(f"{path} is too large for what it should be.")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: {said(str(error))}.", hint="It must be TOML.") from error


def said(text: str) -> str:
    """What a library says of a value, fit for a message of ours."""
    return mask(text.removeprefix("Value error, ").rstrip("."))[:_SAID]


def line_of(text: str, keys: Sequence[str]) -> int:
    """The line of a key below its tables, as far as a look at the text tells it; 1 where it doesn't."""
    line, lines = 1, text.splitlines()
    for key in keys:
        spelled = re.compile(rf"""(?:^|[\s.\[{{,])["']?{re.escape(key)}["']?\s*(?:=|\.|\])""")
        line = next((n for n in range(line, len(lines) + 1) if spelled.search(lines[n - 1])), line)
    return line


class Trust:
    """The files of working directories that the user has read and trusts, by path and SHA-256 of their content.

    Kept in the user's configuration directory, in a file of mode 0600. A file that changed is trusted no more.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _TRUSTED

    def knows(self, path: Path, text: str) -> bool:
        """Whether the file at `path` with this content is trusted."""
        return self._read().get(str(path)) == digest(text)

    def give(self, path: Path, text: str) -> None:
        """Trust it, with this content."""
        self._write({**self._read(), str(path): digest(text)})

    def take(self, path: Path) -> bool:
        """Trust it no more; False where it was not trusted."""
        known = self._read()
        if str(path) not in known:
            return False
        self._write({key: value for key, value in known.items() if key != str(path)})
        return True

    def _read(self) -> dict[str, str]:
        try:
            # Whoever else may write there may trust in the user's place: then nothing is trusted.
            looks = self._path.stat()
            if looks.st_uid != os.geteuid() or looks.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return {}
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def _write(self, known: Mapping[str, str]) -> None:
        write_whole(self._path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def digest(text: str) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file in one step: it is the old one or the new one. Raises StateError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), mode)
        Path(name).replace(path)
    except OSError as error:
        raise StateError(f"{path} can't be written ({error.strerror}).", hint="Is the directory yours?") from error
