"""How long a run waits for LangFuse, in all its processes together: it is kept in a file beside the run's trace.

Every wait counts, also one that was worth it, so that a LangFuse that is slow each time costs no more than one that
never answers. It must not know what is waited for.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Final

from caravan.ports import Clock

MOST_S: Final = 1.0
"""Seconds that a run waits for LangFuse in all."""
PART_S: Final = 0.5
"""Of these, for its prompts or for its trace."""
PROMPTS: Final = "prompts"
TRACE: Final = "trace"


def waited_path(trace: Path) -> Path:
    """Where it stands how long the run of that trace has waited."""
    return trace.with_suffix(".waited.json")


class Patience:
    """What is left of a run's patience. `file` keeps it for the run's next process; None: there is none.

    A file that can't be read or written costs the run what one process may wait, and nothing else.
    """

    def __init__(
        self, clock: Clock, file: Path | None = None, *, part_s: float = PART_S, most_s: float = MOST_S
    ) -> None:
        self._clock, self._file, self._part_s, self._most_s = clock, file, part_s, most_s
        self._lock = threading.Lock()
        self._waited: dict[str, float] = {}

    def left_s(self, part: str) -> float:
        """Seconds for which the run may still wait for this part."""
        with self._lock:
            waited = self._known()
            left = min(self._part_s - waited.get(part, 0.0), self._most_s - sum(waited.values()))
        return max(left, 0.0)

    def wait(self, event: Event, part: str, wait: Callable[[Event, float], bool] | None = None) -> bool:
        """Wait for the event as long as there is patience; whether it came. `wait` does it, the clock's where None."""
        left = self.left_s(part)
        if event.is_set() or not left:
            return event.is_set()
        began = self._clock.monotonic()
        came = (wait or self._clock.wait)(event, left)
        took = left if not came else min(max(self._clock.monotonic() - began, 0.0), left)
        with self._lock:
            self._waited = self._known()
            self._waited[part] = self._waited.get(part, 0.0) + took
            self._write()
        return came

    def _known(self) -> dict[str, float]:
        """Seconds by part, of this and the run's other processes."""
        kept = self._read()
        return {part: max(kept.get(part, 0.0), self._waited.get(part, 0.0)) for part in {*kept, *self._waited}}

    def _read(self) -> dict[str, float]:
        if self._file is None:
            return {}
        try:
            told = json.loads(self._file.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        parts = told if isinstance(told, dict) else {}
        return {name: float(s) for name, s in parts.items() if isinstance(s, int | float) and 0 <= s <= MOST_S}

    def _write(self) -> None:
        if self._file is None:
            return
        partly = self._file.with_name(f"{self._file.name}.{os.getpid()}.partly")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partly.write_text(json.dumps({name: round(s, 4) for name, s in self._waited.items()}), encoding="utf-8")
            partly.replace(self._file)
        except OSError:  # a full disk
            return
