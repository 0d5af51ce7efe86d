"""Problems as they are found: many of one sort become one, with the first lines and how many more there are. Pure."""

from dataclasses import dataclass, field
from typing import Final

from caravan.values.training import DataKind, DataProblem

NAMED: Final = 3
"""Lines of one sort of problem that are named each; the rest is counted."""


@dataclass
class Problems:
    """A collection that keeps few. `again` counts what is of a sort (kind and text) that was told often enough."""

    _found: list[DataProblem] = field(default_factory=list)
    _counts: dict[tuple[DataKind, str, str], int] = field(default_factory=dict)

    def add(self, kind: DataKind, text: str, file: str = "", line: int | None = None, *, fatal: bool = True) -> None:
        """Another problem. The text never holds what a row says."""
        sort = (kind, text, file)
        self._counts[sort] = self._counts.get(sort, 0) + 1
        if self._counts[sort] <= (NAMED if line is not None else 1):
            self._found.append(DataProblem(kind=kind, text=text, file=file, line=line, fatal=fatal))

    def count(self, kind: DataKind) -> int:
        """How many there are of a kind."""
        return sum(n for (found, _, _), n in self._counts.items() if found is kind)

    @property
    def fatal(self) -> bool:
        """Whether one of them ends a training."""
        return any(problem.fatal for problem in self._found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def told(self) -> tuple[DataProblem, ...]:
        """All of them, fatal ones first, each sort with the number of those that are not named."""
        named: dict[tuple[DataKind, str, str], int] = {}
        for problem in self._found:
            sort = (problem.kind, problem.text, problem.file)
            named[sort] = named.get(sort, 0) + 1
        told, last = [], dict(named)
        for problem in self._found:
            sort = (problem.kind, problem.text, problem.file)
            last[sort] -= 1
            more = self._counts[sort] - named[sort]
            if last[sort] == 0 and more and problem.line is not None:
                rows = f"; {more:,} more row{'s are' if more > 1 else ' is'} like that"
                problem = problem.model_copy(update={"text": problem.text + rows})
            told.append(problem)
        return tuple(sorted(told, key=lambda p: not p.fatal))
