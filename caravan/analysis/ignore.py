"""Git's ignore rules over texts: `.gitignore` files at every depth, the nearest one deciding. Opens no file."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# Never part of a training's code, whatever the rules say: caches, environments, the history itself.
ALWAYS: Final = frozenset(
    {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    | {".ipynb_checkpoints", ".tox", ".nox", ".idea", ".vscode", ".DS_Store"}
)


MAX_RULES: Final = 2000
_LONGEST_RULE: Final = 1000
_MAX_WILDCARDS: Final = 4  # in one part of a path: matching takes the length of the name to that power


@dataclass(frozen=True)
class Rules:
    """The ignore rules that hold in one directory: pairs of (directory, rules), the nearest directory last.

    `left_out`: the last file added had rules that are not followed, because matching them could take forever.
    """

    levels: tuple[tuple[str, "GitIgnoreSpec"], ...] = ()
    left_out: bool = False

    def below(self, directory: str, text: str | None) -> "Rules":
        """The rules with those of a `.gitignore` in `directory` ("" is the root) added. A broken line is skipped."""
        lines = [line for line in (text or "").splitlines() if line.strip() and not line.lstrip().startswith("#")]
        kept = [line for line in lines[:MAX_RULES] if _bounded(line)]
        spec = _spec(kept)
        levels = (*self.levels, (directory, spec)) if spec is not None else self.levels
        return Rules(levels, left_out=len(kept) < len(lines))

    def ignored(self, path: str, *, directory: bool = False) -> bool:
        """Whether git would ignore `path`, given that no directory above it is ignored."""
        for level, spec in reversed(self.levels):
            inside = path[len(level) + 1 :] if level else path
            found = spec.check_file(inside + "/" if directory else inside).include
            if found is not None:
                return found
        return False


def _bounded(line: str) -> bool:
    """Whether a rule can be matched in little time: few wildcards in each part of its path, few `**` parts."""
    parts = line.split("/")
    each = max(len(re.findall(r"\*+", part)) for part in parts)
    return len(line) <= _LONGEST_RULE and each <= _MAX_WILDCARDS and parts.count("**") <= _MAX_WILDCARDS


def _spec(lines: list[str]) -> "GitIgnoreSpec | None":
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
