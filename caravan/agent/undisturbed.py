"""Checkpoints are written and read whole: a Ctrl-C that comes meanwhile is taken up right afterwards."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class UndisturbedSerializer(JsonPlusSerializer):
    """LangGraph's serializer without interruptions.

    It reads values in callbacks of a compiled decoder, which turns any exception in them, a KeyboardInterrupt too, into
    an unreadable value, and that into None: the run would go on with a state that lacks its plan.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """A value as its kind and bytes."""
        with undisturbed():
            return super().dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that `dumps_typed` wrote."""
        with undisturbed():
            return super().loads_typed(data)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep SIGINT and SIGTERM back until the block has ended, then hand each to its handler once.

    Only Python's own handlers can raise in the middle of something, and only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept: dict[int, Any] = {}
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    disturbing = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in disturbing:
            signal.signal(number, kept.__setitem__)
        yield
    finally:
        for number, handler in disturbing.items():
            signal.signal(number, handler)
        for kept_number, frame in kept.items():
            disturbing[signal.Signals(kept_number)](kept_number, frame)
