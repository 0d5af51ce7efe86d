"""A toolbox over a repository that is opened only when somebody looks."""

from collections.abc import Callable
from functools import cache

from caravan.ports import Toolbox


class LazyToolbox:
    """The port Toolbox over a repository that is opened on first use.

    It may be gone since it was packed. Then each look raises the UsageError of opening it, and who looks finds nothing:
    a repair that needs no look is still taken.
    """

    def __init__(self, opened: Callable[[], Toolbox]) -> None:
        self._opened = cache(opened)

    def read_file(self, path: str, *, start: int = 1, lines: int = 200) -> str:
        """As the toolbox answers."""
        return self._opened().read_file(path, start=start, lines=lines)

    def list_directory(self, path: str = ".") -> tuple[str, ...]:
        """As the toolbox answers."""
        return self._opened().list_directory(path)

    def search(self, text: str, *, limit: int = 50) -> tuple[str, ...]:
        """As the toolbox answers."""
        return self._opened().search(text, limit=limit)

    def find(self, name: str, *, limit: int = 20) -> tuple[str, ...]:
        """As the toolbox answers."""
        return self._opened().find(name, limit=limit)
