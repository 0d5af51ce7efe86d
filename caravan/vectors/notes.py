"""Notes of exports in the memory's folder: which file holds which lessons, so that `forget` can say where copies are.

A note is a file of its own (path, time, ids), written whole, so several processes write them without a lock. It holds
no text of a lesson, and it must not know what a lesson is.
"""

import json
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from caravan.values.base import Value
from caravan.values.failure import Exported


class _Note(Value):
    path: str
    at: datetime
    ids: tuple[str, ...] = ()


_NOTE: TypeAdapter[_Note] = TypeAdapter(_Note)


def write_note(folder: Path, path: Path, ids: Iterable[str], now: datetime) -> None:
    """Note that those lessons are in the file at `path`. Raises OSError."""
    place = str(path.absolute())
    note = _Note(path=place, at=now, ids=tuple(sorted(ids)))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partly = folder / f"{uuid.uuid4().hex}.partly"
    partly.touch(mode=0o600, exist_ok=False)
    partly.write_text(json.dumps(note.model_dump(mode="json")), encoding="utf-8")
    partly.replace(partly.with_suffix(".json"))


def exports_of(folder: Path, case_id: str) -> tuple[Exported, ...]:
    """The files to which that lesson was exported, the oldest first. Raises OSError.

    A file that was written again holds what it was given last.
    """
    last: dict[str, _Note] = {}
    for file in folder.glob("*.json"):
        try:
            note = _NOTE.validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError):  # of a later version, or damaged
            continue
        if note.path not in last or last[note.path].at <= note.at:
            last[note.path] = note
    holding = sorted((note for note in last.values() if case_id in note.ids), key=lambda note: (note.at, note.path))
    return tuple(Exported(path=note.path, at=note.at, there=Path(note.path).exists()) for note in holding)
