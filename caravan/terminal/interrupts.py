"""Ctrl-C while a run is driven: the first one interrupts, a second one is kept until it is asked for.

So leaving a run in good order (its state stored, its locks let go of, the terminal as it was) is not itself torn apart
by an impatient second Ctrl-C; the third, or one that comes later, still ends everything at once. SIGTERM leaves like
two of them.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

    from caravan.ports import Clock

_PATIENCE_S: Final = 5.0  # how long leaving in good order may take, until a second Ctrl-C is taken at its word


class Interrupts:
    """A context in which SIGINT and SIGTERM are handled so. Outside the main thread it does nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._armed = True
        self._kept = 0
        self._last = 0.0
        self._terminated = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # What was ignored when we were started, as in the background of a shell, stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @property
    def to_leave(self) -> bool:
        """Whether no question is wanted any more."""
        return self._terminated or self._kept > 0

    def arm(self) -> None:
        """The next Ctrl-C is a first one again. Raises KeyboardInterrupt for one that was kept."""
        self._armed = True  # first, so that none is lost in between
        if self._kept:
            self._armed, self._kept = False, 0
            raise KeyboardInterrupt

    def _on(self, number: int, frame: object) -> None:
        del frame
        self._terminated = self._terminated or number == signal.SIGTERM
        now = self._clock.monotonic()
        if not self._armed and not self._kept and now - self._last < _PATIENCE_S:
            self._kept = 1
            return
        self._armed, self._last = False, now
        raise KeyboardInterrupt
