"""Taking over what an earlier version stored: the folder of Qdrant's local mode (SQLite with pickled points), once.

The old folder is first moved into the new store's, so that no earlier version writes to it any more, and removed when
all its points are stored: lessons that are forgotten later must not live on in it. Killed at any moment, the next
opening goes on with it. It knows nothing of lessons: what becomes of a point's fields is handed in.
"""

import io
import pickle
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from caravan.vectors.shard import DIMENSION, Shard
from caravan.vectors.shared import InUse, locked

_MOVED: Final = "earlier-"
_POINTS: Final = Path("collection", "lessons", "storage.sqlite")


def take_over(shard: Shard, folder: Path, earlier: Path, renewed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Store in `shard` (open, in `folder`) what the local mode left in `earlier`, if it did, and remove that.

    Raises InUse while an earlier version has it open, and sqlite3.Error, pickle.PickleError, ValueError and the like
    for one that is damaged: then nothing is stored or lost.
    """
    if earlier.is_dir():
        lock = locked(earlier / "owner.lock")
        if lock is None:
            raise InUse
        with lock:
            earlier.rename(folder / f"{_MOVED}{uuid.uuid4().hex}")
    for moved in sorted(folder.glob(f"{_MOVED}*")):
        if (moved / _POINTS).exists():
            shard.take_in([{**point, "payload": renewed(point["payload"])} for point in _points(moved / _POINTS)])
        shutil.rmtree(moved)


class _Point:
    """In the place of Qdrant's own: of what a pickle says of it the three fields are kept, and nothing is run."""

    id: object = ""
    vector: Any = None
    payload: Any = None

    def __setstate__(self, state: object) -> None:
        told = state.get("__dict__", state) if isinstance(state, dict) else {}
        for name in ("id", "vector", "payload"):
            setattr(self, name, told.get(name) if isinstance(told, dict) else None)


class _Reading(pickle.Unpickler):
    """Reads points, and no other class: who could write to that folder can't have anything run by it."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "PointStruct":
            return _Point
        if (module, name) == ("uuid", "UUID"):
            return uuid.UUID
        if name == "set" and module in ("builtins", "__builtin__"):
            return set
        raise pickle.UnpicklingError(f"a point of the earlier store holds {module}.{name}, which is none of its kinds")


def _points(file: Path) -> Iterator[dict[str, Any]]:
    """The points as the local mode stored them; their ids are in the points as they were given."""
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT point FROM points").fetchall()
    for (data,) in rows:
        point = _Reading(io.BytesIO(data)).load()
        vector = point.vector.get("") if isinstance(point.vector, dict) else point.vector
        if vector is None or len(vector) != DIMENSION:
            raise ValueError(f"a point of the earlier store has no vector of {DIMENSION} numbers")
        yield {"id": str(point.id), "vector": [float(x) for x in vector], "payload": dict(point.payload or {})}
