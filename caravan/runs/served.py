"""What is kept here of a model server: the intent to register it, and its API key, readable by its owner alone.

It must not know what a server is, nor how it is reached.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from caravan.runs.files import make_folder, state_errors, write_file
from caravan.values.base import Json, sha256_text
from caravan.values.errors import RunBusy, UsageError

_INTENT: Final = "served.json"
_KEY: Final = "api.key"


class ServedFolder:
    """The folder of one server: its name on one cluster and in one namespace."""

    def __init__(self, home: Path, cluster: str, namespace: str, name: str) -> None:
        told = sha256_text(f"{cluster}\n{namespace}\n{name}")[:10]
        self._path = home / "models" / f"{name}-{told}"

    @property
    def key_file(self) -> Path:
        """Where the key is, or would be."""
        return self._path / _KEY

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Nobody else deploys this server meanwhile. Raises RunBusy where somebody does."""
        from filelock import FileLock, Timeout

        with state_errors(self._path):
            make_folder(self._path)
        held = FileLock(self._path / "lock", mode=0o600)
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise RunBusy("This model is being deployed by another process.", hint="Wait until that is done.") from None
        try:
            yield
        finally:
            held.release()

    def key(self) -> str | None:
        """The API key, or None where it is not kept here."""
        try:
            return self.key_file.read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The key file {self.key_file} can't be read.", hint="Give --new-key.") from error

    def save_key(self, key: str) -> None:
        """Keep the key."""
        self._write(_KEY, key + "\n")

    def give_key(self, to: Path) -> None:
        """Write the key to another file, with mode 0600. Raises UsageError where it is not kept here."""
        key = self.key()
        if key is None:
            raise UsageError(
                "The API key is not kept on this machine.",
                hint="Take it from who deployed the model, or give --new-key, which makes another one.",
            )
        with state_errors(to):
            write_file(to.absolute(), (key + "\n").encode("ascii"))

    def intend(self, document: Mapping[str, Json]) -> None:
        """Write down what is about to be registered."""
        self._write(_INTENT, json.dumps(dict(document), indent=2) + "\n")

    def intent(self) -> dict[str, Json] | None:
        """What was written down last, or None."""
        try:
            found = json.loads((self._path / _INTENT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def save_job(self, hcl: str) -> Path:
        """Keep the job file, for a person to read."""
        return self._write("job.nomad.hcl", hcl)

    def forget_key(self) -> None:
        """Remove the key."""
        with state_errors(self.key_file):
            self.key_file.unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> Path:
        path = self._path / name
        with state_errors(path):
            make_folder(self._path)
            write_file(path, text.encode())
        return path
