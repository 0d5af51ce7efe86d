"""LangGraph's saver in SQLite that stores the run's sheet with each checkpoint, in the same transaction."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.sqlite import SqliteSaver

from caravan.agent.sheets import MAKE, digest, this_program
from caravan.agent.state import RunState
from caravan.values.base import Json

SheetOf: TypeAlias = Callable[[RunState], dict[str, Json]]

_CHECKPOINT: Final = (
    "SELECT checkpoint FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = '' AND checkpoint_id = ?"
)
_STORE: Final = (
    "INSERT OR REPLACE INTO sheets (thread_id, checkpoint_id, sha256, program, document) VALUES (?, ?, ?, ?, ?)"
)


class _Coming(NamedTuple):
    run_id: str
    checkpoint_id: str
    document: str


class SheetSaver(SqliteSaver):
    """Stores with the checkpoint of a state what `sheet_of` makes of it; without it, or of no state, nothing."""

    def __init__(
        self, connection: sqlite3.Connection, *, serde: SerializerProtocol, sheet_of: SheetOf | None = None
    ) -> None:
        super().__init__(connection, serde=serde)
        self._sheet_of = sheet_of
        self._coming: _Coming | None = None

    def setup(self) -> None:
        """Make the tables."""
        if not self.is_setup:
            super().setup()
            self.conn.execute(MAKE)

    @contextmanager
    def cursor(self, transaction: bool = True) -> Iterator[sqlite3.Cursor]:
        """LangGraph's cursor; what is coming is written before it commits, once its checkpoint is there."""
        with super().cursor(transaction) as cursor:
            yield cursor
            if (coming := self._coming) is None or not transaction:
                return
            row = cursor.execute(_CHECKPOINT, (coming.run_id, coming.checkpoint_id)).fetchone()
            if row is not None:
                about = (coming.run_id, coming.checkpoint_id, digest(row[0]), this_program())
                cursor.execute(_STORE, (*about, coming.document))
                self._coming = None

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and its sheet."""
        where = config["configurable"]
        document = None if where["checkpoint_ns"] else self._sheet(checkpoint["channel_values"])
        self._coming = _Coming(str(where["thread_id"]), checkpoint["id"], document) if document is not None else None
        try:
            return super().put(config, checkpoint, metadata, new_versions)
        finally:
            self._coming = None

    def delete_thread(self, thread_id: str) -> None:
        """Delete a run's checkpoints, and its sheet."""
        super().delete_thread(thread_id)
        with self.cursor() as cursor:
            cursor.execute("DELETE FROM sheets WHERE thread_id = ?", (str(thread_id),))

    def _sheet(self, channels: dict[str, Any]) -> str | None:
        """The sheet as text; None: of no state, or one that JSON would change, so that it could not be told alike."""
        values = {name: value for name, value in channels.items() if name in RunState.model_fields}
        if self._sheet_of is None or not values:
            return None
        try:
            sheet = self._sheet_of(RunState.model_validate(values))
            text = json.dumps(sheet, allow_nan=False)
        except (ValueError, TypeError):
            return None
        return text if json.loads(text) == sheet else None
