"""Holding Ctrl-C back over what must not be torn apart. Standard library only."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


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
