"""Where a path leads in truth, and folders of the cache. It asks for names and links alone, and opens no file."""

import os
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Final

from caravan.values.errors import RepositoryError

_BARE: Final = frozenset({"HEAD", "objects", "refs", "config"})
KEPT: Final = 20
"""Repositories that a cache keeps whatever their age."""
_DAY: Final = 86_400.0  # seconds
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


def make_private(folder: Path) -> None:
    """Make a folder that nobody else may look into, and those above it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def replace_folder(part: Path, folder: Path) -> None:
    """Let `part` be `folder`: an older one is out of the way first, so that nobody sees half of either."""
    old = part.with_name(f"{part.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def prune(cache: Path, *, keep: Path) -> None:
    """Remove what was not used for a day from a cache beyond its newest `KEPT` entries; `keep` stays.

    What was used within the day may be read by another process at this moment.
    """
    now = time.time()
    with os.scandir(cache) as found:
        entries = sorted(((e.stat(follow_symlinks=False).st_mtime, e) for e in found), key=lambda row: -row[0])
    for number, (used, entry) in enumerate(entries):
        left_behind = entry.name.startswith(".")
        if now - used < _DAY or entry.path == os.fspath(keep) or (number < KEPT and not left_behind):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)
