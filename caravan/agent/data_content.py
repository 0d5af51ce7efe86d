"""What a plan's data are, by their content, as far as they are seen from this machine."""

import hashlib
import posixpath
from pathlib import Path
from typing import Final

from caravan.agent.context import Context
from caravan.analysis.tree import SourceTree
from caravan.values.base import sha256_text
from caravan.values.errors import CaravanError, UsageError
from caravan.values.plan import TrainingPlan

_MOST: Final = 8_000_000_000
"""Bytes that are read for this: some ten seconds. They are read once, as long as nothing in them changes."""


def content_of(plan: TrainingPlan, tree: SourceTree, context: Context) -> str:
    """SHA-256 of the data's content, in the code or on this machine; empty where they are elsewhere or too large.

    Of a folder in the code: of its files' names and contents, by name.
    """
    data = plan.data
    if data is not None and data.sha256:
        return data.sha256
    inside = _in_code(plan, tree)
    if inside is not None:
        return _of_code(inside, tree)
    local = _local(plan, context)
    if local is None or context.courier is None:
        return ""
    try:
        return context.courier.measure(local, context.progress.note, _MOST).sha256
    except CaravanError:  # too large, not readable, or written to just now: then it is not known
        return ""


def _in_code(plan: TrainingPlan, tree: SourceTree) -> str | None:
    """The data's path in the delivered code, where they are there."""
    named = plan.dataset.path or ""
    if not named or named.startswith(("/", "~")) or "://" in named:
        return None
    paths = [posixpath.normpath(posixpath.join(start, named)) for start in (plan.workdir or ".", ".")]
    found = [entry.path for entry in tree.files()]
    return next((p for p in paths if any(f == p or f.startswith(f"{p}/") for f in found)), None)


def _of_code(path: str, tree: SourceTree) -> str:
    try:
        if path in tree:
            return hashlib.sha256(tree.read_bytes(path)).hexdigest()
        lines = [
            f"{entry.path.removeprefix(path)} {hashlib.sha256(tree.read_bytes(entry.path)).hexdigest()}\n"
            for entry in tree.files()
            if entry.path.startswith(f"{path}/")
        ]
    except UsageError:  # it can't be read: then it is not delivered either
        return ""
    return sha256_text("".join(lines))


def _local(plan: TrainingPlan, context: Context) -> Path | None:
    if plan.data is not None and plan.data.local and not plan.data.link:
        return Path(plan.data.local)
    named = plan.dataset.path or ""
    if not named.startswith(("/", "~")) or not context.facts().shared_files or plan.driver == "docker":
        return None
    path = Path(named).expanduser()
    return path if path.exists() else None
