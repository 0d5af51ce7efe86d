"""Programs that some tests need and that not every machine has: such a test is skipped without them.

CARAVAN_TEST_NEEDS names, by commas, what has to be there (`postgresql`, `chromium`): a test that misses it then fails.
"""

import os
import shutil
from pathlib import Path

import pytest

_DEMANDED = frozenset(os.environ.get("CARAVAN_TEST_NEEDS", "").split(","))  # before the environment is scrubbed
_POSTGRES = Path("/usr/lib/postgresql")  # Debian keeps the server's programs of each version in a folder of its own


def postgresql() -> Path:
    """The folder with `initdb` and `postgres`, of the newest version here."""
    folders = [path.parent for path in _POSTGRES.glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: [int(part) for part in folder.parent.name.split(".")])
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else missing("postgresql")


def chromium() -> Path:
    """The browser's program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return Path(found) if found else missing("chromium")


def missing(need: str) -> Path:
    """Skip the test that runs, or fail it where the need is demanded."""
    if need in _DEMANDED:
        pytest.fail(f"{need} is not here, and CARAVAN_TEST_NEEDS demands it")
    pytest.skip(f"{need} is not here")
