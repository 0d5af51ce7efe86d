"""What the built-in cluster keeps for all jobs: the environments of packages that were installed, hubs' downloads.

`home` is the cluster's directory. Nobody but a person clears it: an environment with torch has some GB, and is made
once. Must not know which job used what.
"""

import os
import shutil
import stat
from pathlib import Path
from typing import Final

from caravan.cluster.local.control import living, status
from caravan.values.errors import StateError, UsageError

_AWAY: Final = "cache-removed"


def place(home: Path) -> Path:
    """Where it is."""
    return home.resolve() / "cache"


def size(home: Path) -> int:
    """Bytes of its files, each counted once, those included whose removal did not come to its end."""
    return sum(_bytes(path) for path in (place(home), home.resolve() / _AWAY))


def _bytes(root: Path) -> int:
    seen: dict[tuple[int, int], int] = {}
    for folder, _, files in os.walk(root):
        for name in files:
            try:
                told = (Path(folder) / name).lstat()
            except FileNotFoundError:
                continue  # a job cleans up
            if stat.S_ISREG(told.st_mode):
                seen[told.st_dev, told.st_ino] = told.st_size
    return sum(seen.values())


def clear(home: Path) -> int:
    """Remove all of it; the bytes come back.

    Raises UsageError while a job lives, which may use it, StateError where something can't be removed.
    """
    running = status(home)
    if running is not None and (jobs := living(running)):
        told = ", ".join(jobs[:3]) + (" and others" if len(jobs) > 3 else "")
        raise UsageError(f"The cache may be in use by {told}.", hint="Wait for their end, or stop them first.")
    was, away = size(home), home.resolve() / _AWAY
    try:
        if away.exists():
            shutil.rmtree(away)
        if place(home).exists():
            place(home).rename(away)  # at once: a job that begins meanwhile finds all of it or nothing
            shutil.rmtree(away)
    except OSError as error:
        raise StateError(
            f"The cache can't be removed: {error.filename or place(home)}: {error.strerror}.", hint="Remove it by hand."
        ) from error
    return was
