"""Where a path leads in truth. It asks the file system for names and links alone, and opens no file."""

import os
from itertools import islice
from pathlib import Path
from typing import Final

from caravan.values.errors import RepositoryError

_BARE: Final = frozenset({"HEAD", "objects", "refs", "config"})
_MAX_LISTED: Final = 200  # a bare repository holds a dozen names


def directory(root: Path) -> Path:
    """The real path of a directory that may be a repository. Raises RepositoryError."""
    try:
        if not root.is_dir():
            raise RepositoryError(f"{root} is no directory.", hint="Give the directory that holds the repository.")
        with os.scandir(root) as found:
            names = {entry.name for entry in islice(found, _MAX_LISTED)}
        if names >= _BARE and ".git" not in names:
            raise RepositoryError(
                f"{root} is a bare git repository, without files.", hint=f"Give its URL: file://{root.resolve()}"
            )
        return root.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RepositoryError(f"{root} can't be read: {reason}.", hint="Check its permissions.") from error


def inner_path(root: Path, path: str) -> str | None:
    """The real place of `path` in `root`; None where it is not in it, or a link on the way leads out of it."""
    whole, here = os.path.realpath(root), os.fspath(root)
    for part in path.split("/"):
        here = os.path.join(here, part)  # noqa: PTH118 (a loop of links must not raise)
        real = os.path.realpath(here)
        if real != whole and not real.startswith(f"{whole}{os.sep}"):
            return None
    return os.path.realpath(here)
