"""Rows that are there twice, and rows of the test data that were learned from. By hashes: no text is kept. Pure."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from caravan.training.data.problems import Problems
from caravan.training.data.rows import Row
from caravan.training.data.texts import Learned
from caravan.values.training import DataKind

_MOST: Final = 400_000  # rows whose hash is kept: about 60 MB
_MANY: Final = 0.05  # share of duplicates from which on it is worth a word; below, one line says so too


def key_of(learned: Learned, *, label: bool = True) -> bytes:
    """What two rows have in common that teach the same. 12 bytes: among a million rows no two meet by chance."""
    parts = [f"{m['role']}\0{m['content']}" for m in learned.messages] or list(learned.texts)
    if label and learned.label is not None:
        parts.append(f"\0{learned.label}")
    return blake2b("\1".join(parts).encode("utf-8", "surrogatepass"), digest_size=12).digest()


@dataclass
class Seen:
    """The rows that were looked at, by hash, with the first place of each."""

    first: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    rows: int = 0
    twice: int = 0
    _example: tuple[str, int, int] | None = None
    labels: dict[bytes, str] = field(default_factory=dict)
    contrary: tuple[str, int, int] | None = None
    contraries: int = 0

    def add(self, row: Row, learned: Learned) -> None:
        """Another row."""
        self.rows += 1
        key = key_of(learned)
        known = self.first.get(key)
        if known is not None:
            self.twice += 1
            if self._example is None:
                self._example = (row.file, row.line, known[1])
        elif len(self.first) < _MOST:
            self.first[key] = (row.file, row.line)
        if learned.label is not None:
            self._compare(row, learned)

    def _compare(self, row: Row, learned: Learned) -> None:
        """The same text under two labels."""
        text = key_of(learned, label=False)
        label = str(learned.label)
        if self.labels.setdefault(text, label) != label:
            self.contraries += 1
            if self.contrary is None:
                self.contrary = (row.file, row.line, 0)

    def told(self, problems: Problems) -> None:
        """The problems of rows that are there twice."""
        if self._example is not None:
            file, line, first = self._example
            share = self.twice / self.rows
            told = f"{self.twice:,} of {self.rows:,} rows ({share:.1%}) are there before; the first repeats row {first}"
            if len(self.first) == 1:
                told = f"all {self.rows:,} rows are the same: the model learns one row by heart"
            problems.add(DataKind.DUPLICATES, told, file, line, fatal=False)
        if self.contrary is not None:
            file, line, _ = self.contrary
            told = f"{self.contraries:,} rows have a text that has another label elsewhere"
            problems.add(DataKind.LABEL, told, file, line, fatal=False)


@dataclass
class Leaks:
    """Rows of the test data that are in the training data."""

    seen: Seen
    rows: int = 0
    leaked: int = 0
    _example: tuple[str, int, tuple[str, int]] | None = None
    _texts: dict[bytes, None] = field(default_factory=dict)

    def add(self, row: Row, learned: Learned) -> None:
        """A row of the test data."""
        self.rows += 1
        known = self.seen.first.get(key_of(learned))
        if known is None:
            return
        self.leaked += 1
        if self._example is None:
            self._example = (row.file, row.line, known)

    def told(self, problems: Problems) -> None:
        """The problem, where there is one."""
        if self._example is None:
            return
        file, line, (source, at) = self._example
        share = f"{self.leaked:,} of {self.rows:,} rows ({self.leaked / self.rows:.1%})"
        told = f"{share} of the evaluation data are in the training data too, this one in {source}:{at}"
        problems.add(DataKind.LEAK, told, file, line, fatal=False)
