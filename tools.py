"""The tools that a reasoner may use: read-only looks at one repository, bounded, masked, without denied files.

`RepositoryToolbox` implements the port; `langchain_tools` wraps any toolbox for a language model. Nothing here can
write, start a process or reach the network. The graph's own nodes speak to the cluster through its port: deploying
and verifying are no tools, so that no model can call them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from caravan.analysis import SourceTree
from caravan.ports import Toolbox
from caravan.values.errors import UsageError
from caravan.values.masking import mask

if TYPE_CHECKING:
    from langchain_core.tools import StructuredTool

MAX_LINES: Final = 400
MAX_LINE: Final = 400
MAX_ANSWER: Final = 24_000
"""Characters of one answer: a model's context is worth more than the rest of a long file."""
MAX_NAMES: Final = 500
MAX_HITS: Final = 200
MAX_SEARCHED: Final = 5_000


class RepositoryToolbox:
    """The port `Toolbox` over a repository's tree. `secrets` are values to hide besides what looks like a secret."""

    def __init__(self, tree: SourceTree, *, secrets: Sequence[str] = ()) -> None:
        self._tree = tree
        self._secrets = tuple(secrets)

    def read_file(self, path: str, *, start: int = 1, lines: int = 200) -> str:
        """Lines `start` to `start + lines - 1` (at most 400) with their numbers, long ones cut, secrets masked.

        Raises UsageError for a path outside, denied, ignored or not text.
        """
        rows = self._masked(self._tree.read_text(_inside(path)))
        first = max(1, start)
        last = min(len(rows), first - 1 + max(1, min(lines, MAX_LINES)))
        numbered = [f"{n}: {_cut(rows[n - 1])}" for n in range(first, last + 1)]
        if last < len(rows):
            numbered.append(f"… {len(rows) - last} more lines")
        return "\n".join(numbered)[:MAX_ANSWER]

    def list_directory(self, path: str = ".") -> tuple[str, ...]:
        """Names in a directory (at most 500), directories with a slash. Raises UsageError for no directory."""
        folder = _inside(path)
        prefix = "" if folder == "." else folder + "/"
        names: set[str] = set()
        for entry in self._tree.files():
            if entry.path.startswith(prefix):
                head, slash, _ = entry.path[len(prefix) :].partition("/")
                names.add(head + slash)
        if not names:
            raise UsageError(f"{path} is no directory of the repository.")
        return tuple(sorted(names)[:MAX_NAMES])

    def search(self, text: str, *, limit: int = 50) -> tuple[str, ...]:
        """`file:line: text` rows in which `text` occurs, ignoring case; at most `limit`, and never over 200."""
        wanted = text.strip().lower()
        if not wanted:
            raise UsageError("Say what to search for.")
        found: list[str] = []
        for entry in self._tree.files()[:MAX_SEARCHED]:
            content = self._tree.text(entry.path)
            if content is None or wanted not in content.lower():
                continue
            for number, row in enumerate(self._masked(content), 1):
                if wanted in row.lower():
                    found.append(f"{entry.path}:{number}: {_cut(row.strip())}")
                    if len(found) >= min(max(limit, 1), MAX_HITS):
                        return tuple(found)
        return tuple(found)

    def find(self, name: str, *, limit: int = 20) -> tuple[str, ...]:
        """Paths of files and directories (with a slash at their end) that end in `name`, the shortest first."""
        wanted = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".", "..")]
        if not wanted:
            raise UsageError("Say which name to look for.")
        found: set[str] = set()
        for entry in self._tree.files():
            parts = entry.path.split("/")
            for end in range(len(wanted), len(parts) + 1):
                if parts[end - len(wanted) : end] == wanted:
                    found.add("/".join(parts[:end]) + ("" if end == len(parts) else "/"))
        return tuple(sorted(found, key=lambda p: (p.count("/"), len(p), p))[: max(limit, 0)])

    def _masked(self, text: str) -> list[str]:
        """The text's lines without secrets. Lines are cut before, far enough that a secret at the cut is still seen."""
        return mask("\n".join(row[: 2 * MAX_LINE] for row in text.split("\n")), self._secrets).split("\n")


def _inside(path: str) -> str:
    """The path from the root, with slashes. Raises UsageError for one that leaves the repository."""
    parts = [p for p in path.replace("\\", "/").split("/") if p not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise UsageError(f"{path} is outside the repository.")
    return "/".join(parts) or "."


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else line[:MAX_LINE] + " …"


def langchain_tools(toolbox: Toolbox) -> "list[StructuredTool]":
    """The toolbox as LangChain tools. A wrong use is answered with its error line, so that the model can mend it."""
    from langchain_core.tools import StructuredTool

    def list_directory(path: str = ".") -> str:
        """Names in a directory of the repository; directories end with a slash."""
        try:
            return "\n".join(toolbox.list_directory(path))
        except UsageError as error:
            return f"error: {error.line()}"

    def read_file(path: str, start: int = 1, lines: int = 200) -> str:
        """Numbered lines of a text file of the repository, from line `start` on."""
        try:
            return toolbox.read_file(path, start=start, lines=lines)
        except UsageError as error:
            return f"error: {error.line()}"

    def search_codebase(text: str, limit: int = 50) -> str:
        """Lines of the repository in which a text occurs, ignoring case, as file:line: text."""
        try:
            return "\n".join(toolbox.search(text, limit=limit)) or "nothing found"
        except UsageError as error:
            return f"error: {error.line()}"

    return [StructuredTool.from_function(f) for f in (list_directory, read_file, search_codebase)]
