"""Git's ignore rules over texts: `.gitignore` files at every depth, the nearest one deciding. Opens no file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# Never part of a training's code, whatever the rules say: caches, environments, the history itself.
ALWAYS: Final = frozenset(
    {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    | {".ipynb_checkpoints", ".tox", ".nox", ".idea", ".vscode", ".DS_Store"}
)


@dataclass(frozen=True)
class Rules:
    """The ignore rules that hold in one directory: pairs of (directory, rules), the nearest directory last."""

    levels: tuple[tuple[str, "GitIgnoreSpec"], ...] = ()

    def below(self, directory: str, text: str | None) -> "Rules":
        """The rules with those of a `.gitignore` in `directory` ("" is the root) added. A broken line is skipped."""
        spec = _spec(text) if text else None
        return Rules((*self.levels, (directory, spec))) if spec is not None else self

    def ignored(self, path: str, *, directory: bool = False) -> bool:
        """Whether git would ignore `path`, given that no directory above it is ignored."""
        for level, spec in reversed(self.levels):
            inside = path[len(level) + 1 :] if level else path
            found = spec.check_file(inside + "/" if directory else inside).include
            if found is not None:
                return found
        return False


def _spec(text: str) -> "GitIgnoreSpec | None":
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in lines if _valid(line)])


def _valid(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
