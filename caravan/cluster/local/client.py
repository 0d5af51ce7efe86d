"""What the server's side asks of the client's: a port, without code."""

from typing import Protocol


class Client(Protocol):
    """What runs allocations."""

    def run(self, alloc_id: str) -> None:
        """Start an allocation that has been placed."""

    def stop(self, alloc_id: str) -> None:
        """End an allocation's tasks; nothing happens when they have ended."""

    def restart(self, alloc_id: str, task: str) -> bool:
        """Start a task of an allocation anew, or all for an empty name; False when none runs."""

    def signal(self, alloc_id: str, task: str, name: str) -> bool:
        """Send a signal in the same way. Raises ValueError for no signal."""

    def forget(self, alloc_id: str) -> None:
        """Remove what an ended allocation has left on disk."""
