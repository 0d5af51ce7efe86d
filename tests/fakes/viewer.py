"""Somebody who watches a job in a thread and remembers what is seen."""

import threading
from collections.abc import Callable, Iterator

from caravan.values.errors import CaravanError
from caravan.values.run import Phase, Snapshot


class Viewer:
    """Consumes a watch until it ends; `until` waits for something to be seen."""

    def __init__(self, snapshots: Iterator[Snapshot]) -> None:
        self._snapshots = snapshots
        self._changed = threading.Condition()
        self._leaving = False
        self.seen: list[Snapshot] = []
        self.error: CaravanError | None = None
        self.over = False
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for snapshot in self._snapshots:
                with self._changed:
                    self.seen.append(snapshot)
                    self._changed.notify_all()
                    if self._leaving:
                        break
        except CaravanError as error:
            self.error = error
        finally:
            self._snapshots.close()  # type: ignore[attr-defined]
            with self._changed:
                self.over = True
                self._changed.notify_all()

    def until(self, good: Callable[["Viewer"], bool]) -> None:
        """Wait until what was seen is as wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or good(self), 60)
            assert good(self), (self.error, [s.phase for s in self.seen[-5:]])

    def count(self, more: int) -> None:
        """Wait for so many snapshots more."""
        wanted = len(self.seen) + more
        self.until(lambda v: len(v.seen) >= wanted)

    def sees(self, phase: Phase) -> Snapshot:
        """Wait for a snapshot in that phase."""
        self.until(lambda v: any(s.phase is phase for s in v.seen))
        return next(s for s in reversed(self.seen) if s.phase is phase)

    def ends(self) -> Snapshot:
        """Wait for the watch's end: its last snapshot."""
        self.until(lambda v: v.over)
        assert self.error is None, self.error
        return self.seen[-1]

    def fails(self) -> CaravanError:
        """Wait for the error that ends the watch."""
        self.until(lambda v: v.over)
        assert self.error is not None
        return self.error

    def leave(self) -> None:
        """Watch no more."""
        with self._changed:
            self._leaving = True
            if not self.over:
                self._changed.wait_for(lambda: self.over, 60)
        self._thread.join(60)
