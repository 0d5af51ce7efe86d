"""This machine: its clock, and the built-in cluster in a state directory. No run and no setting is known here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path
    from threading import Event

    from caravan.cluster.local.control import LocalCluster
    from caravan.values.base import Json


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """The time in UTC."""
        from datetime import UTC, datetime

        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        import time

        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        import time

        time.sleep(seconds)

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait for the event."""
        return event.wait(seconds)


class LocalControl:
    """The built-in cluster's control over the state directory."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def up(self, inventory: Path | None) -> dict[str, Json]:
        """Start it, or find it running."""
        from caravan.cluster.local import control
        from config import process_environment

        return document(control.start(self._home, inventory=inventory, environment=process_environment()))

    def revive(self) -> bool:
        """Start it again, as it was, if it died; False when it was ended on purpose."""
        from caravan.cluster.local import control
        from config import process_environment

        return control.revive(self._home, environment=process_environment())

    def down(self) -> bool:
        """End it; False when it does not run."""
        from caravan.cluster.local import control

        return control.stop(self._home)

    def status(self) -> dict[str, Json] | None:
        """What runs, or None."""
        from caravan.cluster.local import control

        running = control.status(self._home)
        return document(running) if running else None


def document(running: LocalCluster) -> dict[str, Json]:
    """What runs, as JSON: address, token file, process, inventory."""
    from dataclasses import asdict

    return {k: v if isinstance(v, int | str) else str(v) for k, v in asdict(running).items()}
