"""Labels: how many there are, whether they fit the model, and whether the test data knows the same. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from caravan.training.data.problems import Problems
from caravan.training.data.rows import Row
from caravan.values.training import DataKind

_MOST: Final = 10_000
"""Different labels that are kept; more are no classes."""
_FEW: Final = 20  # labels up to which each row may have one of its own, as the scripts take it
_SKEW: Final = 20  # times as many rows of the commonest label as of the rarest, from which on it is told
_RARE: Final = 2  # rows of a label below which none of it can be held out


@dataclass
class Labels:
    """The labels of the rows that were looked at, with how often and where first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[str, int]] = field(default_factory=dict)
    numbers: bool = True
    rows: int = 0

    def add(self, row: Row, label: str | int) -> None:
        """Another row's label."""
        self.rows += 1
        name = str(label)
        self.numbers &= name.lstrip("-").isdigit()
        if name in self.counts or len(self.counts) < _MOST:
            self.counts[name] += 1
            self.first.setdefault(name, (row.file, row.line))

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, numbers by their size."""
        return tuple(sorted(self.counts, key=lambda n: (int(n), n) if self.numbers else (0, n)))

    def told(self, problems: Problems, model_labels: int | None, *, whole: bool) -> None:
        """What is wrong with them. `model_labels`: how many the model's head has, where one is kept."""
        if not self.counts:
            return
        file, line = next(iter(self.first.values()))
        if len(self.counts) == 1 and self.rows > 1:
            told = "all rows have the same label: there is nothing to tell apart"
            problems.add(DataKind.LABEL, told, file, line, fatal=whole)
            return
        if len(self.counts) >= _MOST or (len(self.counts) > _FEW and len(self.counts) > self.rows / 2):
            told = f"{len(self.counts):,} different labels in {self.rows:,} rows: is it the right column?"
            problems.add(DataKind.LABEL, told, file, line)
            return
        self._range(problems, model_labels)
        ordered = self.counts.most_common()
        most, (rare, least) = ordered[0][1], ordered[-1]
        if most >= _SKEW * least or (least < _RARE and self.rows >= _SKEW):
            file, line = self.first[rare]
            told = f"the rarest of {len(self.counts)} labels has {least:,} rows, the commonest {most:,}"
            problems.add(DataKind.LABEL, told, file, line, fatal=False)

    def _range(self, problems: Problems, model_labels: int | None) -> None:
        if not self.numbers:
            return
        for name in self.names:
            number, (file, line) = int(name), self.first[name]
            if number < 0:
                problems.add(DataKind.LABEL, f"the label {number} is below 0", file, line)
            elif model_labels is not None and number >= model_labels:
                told = f"the label {number} is out of range: the head of the model has 0 to {model_labels - 1}"
                problems.add(DataKind.LABEL, told, file, line)

    def compared(self, evaluation: "Labels", problems: Problems) -> None:
        """Labels that are only in one of training and test data. `self` is what is learned."""
        if not evaluation.counts or len(self.counts) >= _MOST:
            return
        for name in evaluation.names:
            if name not in self.counts:
                file, line = evaluation.first[name]
                told = "a label of the evaluation data is in no row of the training data that was looked at"
                problems.add(DataKind.LABEL, told, file, line)
        unseen = [name for name in self.names if name not in evaluation.counts]
        if unseen:
            told = f"{len(unseen)} of {len(self.counts)} labels are in no row of the evaluation data"
            file, line = self.first[unseen[0]]
            problems.add(DataKind.LABEL, told, file, line, fatal=False)
