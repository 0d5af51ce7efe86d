"""The look at a training's data: one pass over it and one over its test data, and what came out as a `DataReport`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from caravan.training.data.columns import NEEDED, Parts, names_of, nearest, not_there, parts_of, some
from caravan.training.data.conversations import remark
from caravan.training.data.labels import Labels
from caravan.training.data.lengths import Kept, summed, told
from caravan.training.data.model_files import NO_MODEL, ModelFiles
from caravan.training.data.places import Place, parted
from caravan.training.data.problems import Problems
from caravan.training.data.reading import Reading
from caravan.training.data.rows import Row
from caravan.training.data.same import Leaks, Seen
from caravan.training.data.sampling import Budget
from caravan.training.data.texts import Learned, Wrong, learned
from caravan.training.data.tokens import Counter
from caravan.values.training import DataFormat, DataKind, DataReport, Lengths, TrainingType

_FIRST = 64
"""Rows by which the columns are told."""


@dataclass(frozen=True)
class Wish:
    """What the data is for: the type, the format and columns where a person says them, the limit in tokens."""

    type: TrainingType | None = None
    format: DataFormat | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    max_len: int | None = None


def check_data(
    place: Place,
    wish: Wish | None = None,
    *,
    evaluation: Place | None = None,
    model: ModelFiles = NO_MODEL,
    budget: Budget | None = None,
) -> DataReport:
    """What a look at the data finds. Never raises for what the bytes are; nothing of a row's content is in it.

    `place` is what is learned from, `evaluation` what it is tested on; files of a folder whose names say so are that
    where nothing else is named. `wish` says what it is for, `model` what is known of the model.
    """
    wish, budget, problems = wish or Wish(), budget or Budget(), Problems()
    model_problems(model, problems)
    if place.missing or place.unseen:
        kind = DataKind.MISSING if place.missing else DataKind.NOT_READ
        problems.add(kind, place.missing or place.unseen, place.name, fatal=bool(place.missing))
        return DataReport(files=(), rows=place.rows, problems=problems.told())
    mine, apart = parted(place)
    if not mine.files:
        problems.add(DataKind.EMPTY, "the folder holds no data" if place.folder else "there is no data", place.name)
        return DataReport(problems=problems.told())
    found = _Look(Reading(mine, budget, problems), wish, problems)
    found.run()
    test = evaluation or apart
    if test is not None and found.parts.format is not None:
        _tested(test, found, wish, budget, problems)
    lengths = found.lengths(wish, model)
    found.close(model)
    counts = found.reading.counts
    return DataReport(
        format=found.parts.format if not found.parts.missing else None,
        files=tuple(file.name for file in mine.files[:1000]),
        columns=tuple(counts.columns),
        rows=counts.rows,
        looked_at=counts.looked_at,
        sha256=found.reading.sha256,
        labels=found.labels.names[:1000],
        lengths=lengths,
        problems=problems.told(),
    )


class _Look:
    """A pass over one place."""

    def __init__(self, reading: Reading, wish: Wish, problems: Problems) -> None:
        self.reading, self.problems, self._wish = reading, problems, wish
        self.parts = Parts(None)
        self.seen, self.labels, self.kept = Seen(), Labels(), Kept()
        self.good = self.empty = 0

    def run(self) -> None:
        """Read everything."""
        for row, what in self.rows():
            self.seen.add(row, what)
            if what.label is not None:
                self.labels.add(row, what.label)
            if what.messages:
                self._remark(row, what)
            self.kept.add(row, what)

    def rows(self, parts: Parts | None = None) -> Iterator[tuple[Row, Learned]]:
        """The rows that teach something; what is wrong with the others is told."""
        rows = self.reading.rows()
        first = list(islice(rows, _FIRST))
        columns = list(dict.fromkeys(str(name) for row in first for name in row.fields))
        self.parts = parts or self._parts(columns)
        wrong = not_there(columns, self._wish.columns) if first else {}
        if self.parts.missing or self.parts.format is None or wrong:
            self._misnamed(first, columns, wrong)
            self._lacking(first, columns, wrong)
            for _ in rows:  # what is wrong with the lines is told all the same, and the hash is whole
                pass
            return
        for row in chain(first, rows):
            what = learned(row.fields, self.parts)
            if isinstance(what, Wrong):
                self.empty += what.kind is DataKind.EMPTY_ROW
                self.problems.add(what.kind, what.text, row.file, row.line, fatal=what.fatal)
                continue
            self.good += 1
            yield row, what

    def _parts(self, columns: list[str]) -> Parts:
        wanted = self._wish.format
        if self.reading.images and wanted is None and self._wish.type is None:
            wanted = DataFormat.IMAGES
        return parts_of(columns, self._wish.type, wanted, self._wish.columns)

    def _misnamed(self, first: list[Row], columns: list[str], wrong: Mapping[str, str]) -> None:
        """Columns that a person names and that are not there: told before what the format lacks."""
        for part, name in wrong.items():
            text = (
                f"there is no column {name[:60]!r}, which is named for {part}{_hint(nearest(name, columns), columns)}"
            )
            self.problems.add(DataKind.COLUMN_MISSING, text, first[0].file, first[0].line)

    def _lacking(self, first: list[Row], columns: list[str], wrong: Mapping[str, str]) -> None:
        if not first or (wrong and not set(self.parts.missing) - set(wrong)):
            return
        row, kind = first[0], self._wish.type
        lacks = self.parts.missing or NEEDED.get(self.parts.format or DataFormat.TEXT, ())
        for part in (each for each in lacks if each not in wrong):
            hint = _hint(nearest(part, [c for c in columns if c not in self.parts.columns.values()], kind), columns)
            names = " or ".join(names_of(part, kind)[:4])
            text = f"no column for {part} ({names}) as the format {self.parts.format} needs it{hint}"
            self.problems.add(DataKind.COLUMN_MISSING, text, row.file, row.line)

    def _remark(self, row: Row, what: Learned) -> None:
        found = remark(what.messages)
        if found is not None:
            self.problems.add(found.kind, found.text, row.file, row.line, fatal=found.fatal)

    def lengths(self, wish: Wish, model: ModelFiles) -> Lengths | None:
        """How long the sequences are, with the problems of the limit."""
        if self.parts.format in (None, DataFormat.IMAGES) or self.parts.missing:
            return None
        chosen = self.kept.chosen()
        counter = Counter(model, self.problems)
        tokens = counter.count(chosen, self.parts.format)
        rows = [row for row, _ in chosen]
        found = summed(tokens, wish.max_len, estimated=counter.estimated)
        if found is not None:
            told(found, rows, tokens, self.parts.format, self.problems, most=model.longest)
        return found

    def close(self, model: ModelFiles) -> None:
        """What is known only at the end."""
        counts, place = self.reading.counts, self.reading.place
        self.seen.told(self.problems)
        whole = counts.rows is not None and counts.looked_at >= counts.rows
        self.labels.told(self.problems, model.labels, whole=whole)
        if not self.good and counts.rows == 0 and not self.problems.fatal:
            self.problems.add(DataKind.EMPTY, "there is no row in it", place.files[0].name)
        elif not self.good and self.empty and not self.parts.missing:
            self.problems.add(DataKind.EMPTY, "no row that was looked at has anything to learn", place.files[0].name)


def _hint(close: str | None, columns: list[str]) -> str:
    return f"; did you mean {close!r}?" if close else f" (there are: {some(columns)})"


def _tested(test: Place, trained: _Look, wish: Wish, budget: Budget, problems: Problems) -> None:
    """The test data: its own problems, its leaks, its labels."""
    if test.missing or test.unseen:
        kind = DataKind.MISSING if test.missing else DataKind.NOT_READ
        problems.add(kind, test.missing or test.unseen, test.name, fatal=bool(test.missing))
        return
    files = test if not test.folder else replace(test, files=parted(test)[0].files)
    if not files.files:
        problems.add(DataKind.EMPTY, "there is no evaluation data", test.name)
        return
    look = _Look(Reading(files, budget, problems), wish, problems)
    leaks = Leaks(trained.seen)
    for row, what in look.rows():
        leaks.add(row, what)
        if what.label is not None:
            look.labels.add(row, what.label)
    if look.reading.counts.rows == 0:
        problems.add(DataKind.EMPTY, "the evaluation data has no row", files.files[0].name)
    leaks.told(problems)
    trained.labels.compared(look.labels, problems)


def model_problems(model: ModelFiles, problems: Problems) -> None:
    """That there is no such model, or that it is not known."""
    if model.missing:
        problems.add(DataKind.MODEL_MISSING, model.missing, model.name)
    elif model.unchecked:
        text = f"not checked whether there is such a model: {model.unchecked}"
        problems.add(DataKind.NOT_READ, text, model.name, fatal=False)
