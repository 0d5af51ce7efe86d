"""Clocks that nobody waits for: one that stands still until somebody would wait, and one that runs fast."""

import time
from datetime import UTC, datetime, timedelta
from threading import Event


class FakeClock:
    """The port Clock: `sleep` returns at once and moves the time on. `slept` lists what was asked for."""

    def __init__(self, start: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self._start = start
        self._passed = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._passed += max(0.0, seconds)

    def wait(self, event: Event, seconds: float) -> bool:
        if event.is_set():
            return True
        self.sleep(seconds)
        return event.is_set()


class FastClock:
    """The real time, `speed` times as fast: for what several threads do. `slept` lists what was asked for.

    `jump` moves the wall clock, and only that.
    """

    def __init__(self, speed: float = 20.0) -> None:
        self._speed = speed
        self._jumped = timedelta()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self._jumped

    def jump(self, by: timedelta) -> None:
        self._jumped += by

    def monotonic(self) -> float:
        return time.monotonic() * self._speed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        time.sleep(max(0.0, seconds) / self._speed)

    def wait(self, event: Event, seconds: float) -> bool:
        self.slept.append(seconds)
        return event.wait(max(0.0, seconds) / self._speed)
