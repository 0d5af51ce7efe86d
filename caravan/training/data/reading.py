"""All rows of a place, whatever its files are: each file in order, its problems beside it, its hash at its end."""

import hashlib
from collections.abc import Iterator

from caravan.training.data.images import image_rows
from caravan.training.data.jsonl import json_rows
from caravan.training.data.parquet import parquet_rows
from caravan.training.data.places import ENDINGS, DataFile, Kind, Place
from caravan.training.data.plain_text import text_rows
from caravan.training.data.problems import Problems
from caravan.training.data.rows import Counts, Row
from caravan.training.data.sampling import BLOCK, Budget, Plan
from caravan.training.data.stream import Broken, Stream, digest_of
from caravan.training.data.tables import table_rows
from caravan.values.training import DataKind

_READERS = {Kind.LINES: json_rows, Kind.JSON: json_rows, Kind.TABLE: table_rows, Kind.TEXT: text_rows}


class Reading:
    """One pass over the files of a place. After `rows` was used up the counts, the columns and the hash are known."""

    def __init__(self, place: Place, budget: Budget, problems: Problems) -> None:
        self.place, self.counts, self.problems = place, Counts(), problems
        self.files = place.files
        self._budget = budget
        self._hashes: dict[str, str] = {}

    @property
    def sha256(self) -> str | None:
        """The hash of all files; None where one of them could not be read whole."""
        return digest_of(self._hashes) if len(self._hashes) == len(self.files) else None

    @property
    def images(self) -> bool:
        """Whether it is a folder of images."""
        return bool(self.files) and self.files[0].kind is Kind.IMAGE

    def rows(self) -> Iterator[Row]:
        """The rows that are looked at, in order."""
        if self.images:
            yield from image_rows(self.place, self.files, self.counts, self.problems)
            return
        packed = any(file.packed for file in self.files)
        plan = Plan(self._budget, None if packed else sum(file.size for file in self.files))
        at = 0
        for file in self.files:
            yield from self._file(file, plan, at)
            at += file.size

    def _file(self, file: DataFile, plan: Plan, at: int) -> Iterator[Row]:
        try:
            if file.kind is Kind.PARQUET:
                yield from parquet_rows(file, plan, self.counts, self.problems)
                self._hashes[file.name] = _hash(file)
                return
            reader = _READERS.get(file.kind)
            if reader is None:
                raise Broken(f"it is no kind of data that is read ({', '.join(ENDINGS)})")
            with Stream(file) as stream:
                yield from reader(stream, plan, at, self.counts, self.problems)
                self._hashes[file.name] = stream.sha256()
        except Broken as broken:
            self.counts.rows = None
            kind = DataKind.MISSING if broken.missing else DataKind.MALFORMED
            self.problems.add(kind, broken.text, file.name)


def _hash(file: DataFile) -> str:
    digest = hashlib.sha256()
    try:
        with file.open() as source:
            while block := source.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise Broken(f"it can't be read: {error.strerror or error}", missing=True) from error
    return digest.hexdigest()
