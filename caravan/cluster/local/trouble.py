"""What is wrong with the file that holds the state, and what a person can do, in one line. Opens nothing."""

import errno
import sqlite3
from pathlib import Path

_FULL = ("full", "no space")
_FORBIDDEN = ("readonly", "read-only", "permission", "unable to open")


def unreadable(path: Path, error: Exception) -> str:
    """Why the cluster can't begin with that file."""
    return f"The built-in cluster's state {path} can't be read: {_said(error)}. {_advice(error)}"


def unwritable(path: Path, error: sqlite3.Error) -> str:
    """Why a change could not be stored. Nothing of it has happened."""
    return f"The built-in cluster can't write its state {path}: {_said(error)}. {_advice(error, writing=True)}"


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, sqlite3.Error):
        return str(error)
    return "what it holds is not what this version writes"


def _advice(error: Exception, *, writing: bool = False) -> str:
    text = _said(error).lower()
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or any(word in text for word in _FULL):
        return "Make room on its disk and try again; what runs goes on meanwhile."
    if any(word in text for word in _FORBIDDEN):
        return "Let this user read and write it and its directory, and try again."
    if writing or "locked" in text or "i/o" in text:
        return "See that its disk works and has room, and try again; what runs goes on meanwhile."
    return "Put a copy of it back, or move it away to begin anew without its jobs."
