"""A source tree with files added to it, in memory: nothing is written, and nothing of the repository is hidden.

What is added can be read, analysed and delivered like the rest; its paths are the adder's to keep apart.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from caravan.analysis.tree import MAX_TEXT, FileEntry, SourceTree
from caravan.values.base import canonical_json, sha256_text
from caravan.values.errors import RepositoryError

_MODE: Final = 0o644


class WithAdded(SourceTree):
    """A tree and further files, path → text. Raises RepositoryError where the tree has one of their folders."""

    def __init__(self, tree: SourceTree, files: Mapping[str, str]) -> None:
        # What was scanned is taken over as it is: a look at the files costs more than all else.
        self.__dict__.update({name: value for name, value in vars(tree).items() if name != "digest"})
        self._tree = tree
        self._added = {path: text.encode("utf-8") for path, text in sorted(files.items())}
        _refuse_taken(tree, self._added)
        added = [FileEntry(path, len(data), _MODE) for path, data in self._added.items()]
        self._entries = {e.path: e for e in sorted((*tree.files(), *added), key=lambda e: e.path)}
        self._folders = set(self._folders) | {p for path in files for p in _parents(path)}

    @property
    def added(self) -> tuple[str, ...]:
        """The paths that were added, sorted."""
        return tuple(self._added)

    @property
    def digest(self) -> str:
        """SHA-256 over the tree's own digest and what was added."""
        texts = {path: hashlib.sha256(data).hexdigest() for path, data in self._added.items()}
        return sha256_text(canonical_json([self._tree.digest, texts]))

    def unchanged(self) -> bool:
        """Whether every file of the tree is still what its digest was made of."""
        return self._tree.unchanged()

    def read_bytes(self, path: str, *, limit: int | None = None) -> bytes:
        """A file's first `limit` bytes (all when None). Raises UsageError for what may not or can't be read."""
        data = self._added.get(path)
        return super().read_bytes(path, limit=limit) if data is None else data[:limit]

    def part(self, path: str, limit: int, *, from_end: bool = False) -> bytes | None:
        """A file's first or last `limit` bytes; None for what may not or can't be read."""
        data = self._added.get(path)
        if data is None:
            return super().part(path, limit, from_end=from_end)
        return data[-limit:] if from_end and limit else data[:limit]

    def real(self, path: str) -> str | None:
        """Where a path of the tree leads in truth."""
        return path if path in self._added else super().real(path)


def _refuse_taken(tree: SourceTree, added: Mapping[str, bytes]) -> None:
    folders = {path.split("/", 1)[0] for path in added if "/" in path}
    for entry in tree.files():
        top = entry.path.split("/", 1)[0]
        if top in folders or entry.path in added:
            raise RepositoryError(
                f"The repository has {entry.path} already: {top} is where Caravan puts a script of its own.",
                hint=f"Rename {top} in the repository, or name the repository's own program in the sentence.",
            )
    large = next((path for path, data in added.items() if len(data) > MAX_TEXT), None)
    if large is not None:
        raise RepositoryError(f"{large} is too large to be added as a script.", hint="A type holds scripts, no data.")


def _parents(path: str) -> list[str]:
    return [path[:i] for i, c in enumerate(path) if c == "/"]
