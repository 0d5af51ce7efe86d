"""Where a run stands, read from its newest checkpoint without loading LangGraph, which costs many times the reading.

It knows the plain cases alone: the values of a step that is over, and one open question. Whatever else it meets it
leaves to the driver, so that both never differ. It must not write, nor make anything but our own values.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import ormsgpack

from caravan.agent.state import RunState
from caravan.values.base import Value
from caravan.values.dialogue import Ask

_FORMAT: Final = 4  # `v` of LangGraph's checkpoints
_VALUES: Final = "caravan.values."  # whatever else a checkpoint names is not made here
_INTERRUPT: Final = "__interrupt__"  # LangGraph's channel of open questions
# LangGraph's codes of msgpack extensions, langgraph/checkpoint/serde/jsonplus.py.
_SINGLE, _KEYWORDS, _METHOD, _PYDANTIC = 0, 2, 3, 5
_NEWEST: Final = (
    "SELECT checkpoint_id, type, checkpoint FROM checkpoints"
    " WHERE thread_id = ? AND checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1"
)
_WRITES: Final = (
    "SELECT channel, type, value FROM writes WHERE thread_id = ? AND checkpoint_ns = '' AND checkpoint_id = ?"
)


class Standing(NamedTuple):
    """The run's state, None before its first step, and what it waits for."""

    state: RunState | None
    ask: Ask | None


def standing(path: Path, run_id: str) -> Standing | None:
    """Where the run stands by the checkpoints at `path`; None: that is for the driver to say."""
    try:
        if not path.stat().st_size:
            return None  # with a journal beside it, it is damaged: SQLite would not say so
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            connection.execute("BEGIN")  # both tables at one moment
            row = connection.execute(_NEWEST, (run_id,)).fetchone()
            if row is None:
                return Standing(None, None)
            writes = connection.execute(_WRITES, (run_id, row[0])).fetchall()
        return _read(row[1], row[2], writes)
    # What is damaged, in the middle of a step, or of another version.
    except (OSError, sqlite3.Error, ValueError, TypeError, KeyError, AttributeError, IndexError, ImportError):
        return None


def _read(kind: str, data: bytes, writes: list[tuple[str, str, bytes]]) -> Standing | None:
    if kind != "msgpack" or len(writes) > 1 or any(channel != _INTERRUPT for channel, _, _ in writes):
        return None
    checkpoint = _unpacked(data)
    if checkpoint["v"] != _FORMAT:
        return None
    values = {name: value for name, value in checkpoint["channel_values"].items() if name in RunState.model_fields}
    state = RunState.model_validate(values) if values else None
    return Standing(state, _question(*writes[0][1:]) if writes else None)


def _question(kind: str, data: bytes) -> Ask:
    if kind != "msgpack":
        raise ValueError(kind)
    (interrupt,) = _unpacked(data)
    return Ask.model_validate(interrupt["value"])


def _unpacked(data: bytes) -> Any:
    return ormsgpack.unpackb(data, ext_hook=_made, option=ormsgpack.OPT_NON_STR_KEYS)


def _made(code: int, data: bytes) -> Any:
    """The value that an extension stands for. Raises ValueError for one that is not ours."""
    module, name, told, *rest = _unpacked(data)
    if (code, module, name, rest) == (_METHOD, "datetime", "datetime", ["fromisoformat"]):
        return datetime.fromisoformat(told)
    if (code, module, name) == (_KEYWORDS, "langgraph.types", "Interrupt"):
        return told
    if code not in (_SINGLE, _PYDANTIC) or not module.startswith(_VALUES):
        raise ValueError(module)
    made = getattr(import_module(module), name)
    if not isinstance(made, type) or not issubclass(made, Enum if code == _SINGLE else Value):
        raise ValueError(name)
    make: Callable[..., Any] = made
    return make(told) if code == _SINGLE else make(**told)
