"""Sheets beside the checkpoints: reading the newest without any of the values' classes, whose loading costs far more.

A sheet belongs to one checkpoint, by its id and the digest of its bytes, and to the program that wrote it, by the
digest of that program's files: whatever else is found is of no use, and the checkpoint itself is read instead.
"""

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from caravan.values.base import Json

MAKE: Final = (
    "CREATE TABLE IF NOT EXISTS sheets (thread_id TEXT NOT NULL PRIMARY KEY, checkpoint_id TEXT NOT NULL,"
    " sha256 TEXT NOT NULL, program TEXT NOT NULL, document TEXT NOT NULL)"
)
"""One row a run: what was told of its newest checkpoint."""
_NEWEST: Final = (
    "SELECT c.checkpoint, s.sha256, s.program, s.document,"
    " (SELECT group_concat(w.channel) FROM writes w WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = ''"
    " AND w.checkpoint_id = c.checkpoint_id)"
    " FROM checkpoints c JOIN sheets s ON s.thread_id = c.thread_id AND s.checkpoint_id = c.checkpoint_id"
    " WHERE c.thread_id = ? AND c.checkpoint_ns = '' AND c.checkpoint_id ="
    " (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = '')"
)
_INTERRUPT: Final = "__interrupt__"  # LangGraph's channel of open questions
_ROOM: Final = Path(__file__).resolve().parents[1]
_TOLD_BY: Final = ("agent", "planning", "terminal", "values")  # the rooms whose code makes a sheet


class Sheet(NamedTuple):
    """What is told of a run's newest state. `asks`: a question is open, of which it tells nothing."""

    document: dict[str, Json]
    asks: bool


def newest_sheet(path: Path, run_id: str) -> Sheet | None:
    """The sheet of the run's newest checkpoint at `path`; None: there is none that is of use."""
    try:
        if not path.stat().st_size:
            return None
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            row = connection.execute(_NEWEST, (run_id, run_id)).fetchone()
        if row is None:
            return None
        checkpoint, sha256, program, document, channels = row
        if (sha256, program) != (digest(checkpoint), this_program()) or channels not in (None, _INTERRUPT):
            return None
        return Sheet(json.loads(document), channels is not None)
    except (OSError, sqlite3.Error, ValueError, TypeError):  # what reads the checkpoint says what is wrong
        return None


def digest(checkpoint: bytes) -> str:
    """SHA-256 of a checkpoint's bytes."""
    return hashlib.sha256(checkpoint).hexdigest()


@cache
def this_program() -> str:
    """A digest of the files that make sheets, by name, size and time of change: another program tells otherwise."""
    seen = []
    for room in _TOLD_BY:
        with os.scandir(_ROOM / room) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    known = entry.stat()
                    seen.append(f"{room}/{entry.name} {known.st_size} {known.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(seen)).encode()).hexdigest()
