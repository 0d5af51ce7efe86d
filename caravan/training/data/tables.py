"""Rows of CSV and TSV: quoted fields may go over lines, and each row's first line is exact."""

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from caravan.training.data.jsonl import UTF16
from caravan.training.data.plain_text import wrong_signs
from caravan.training.data.problems import Problems
from caravan.training.data.rows import Counts, Row
from caravan.training.data.sampling import MIB, Plan
from caravan.training.data.stream import Stream, as_text
from caravan.values.training import DataKind

if TYPE_CHECKING:
    from _csv import Reader

FIELD: Final = 16 * MIB
"""Characters of a field that is still read."""
_COLUMNS: Final = 5000
_FIRST_LINE: Final = MIB


def table_rows(stream: Stream, plan: Plan, at: int, counts: Counts, problems: Problems) -> Iterator[Row]:
    """The rows of a table with a header. The end of much data is not read: where it begins can't be known.

    Raises Broken.
    """
    name = stream.file.name
    text = as_text(stream.blocks(plan.budget.unpacked if stream.file.packed else None))
    header = text.readline(_FIRST_LINE)
    if header.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        problems.add(DataKind.MALFORMED, UTF16, name, 1)
        return
    reader = csv.reader(_chain(header, text), delimiter=delimiter_of(header, name), strict=True)
    previous = csv.field_size_limit(FIELD)
    try:
        yield from _rows(name, reader, stream, plan, at, counts, problems)
    finally:
        csv.field_size_limit(previous)


def delimiter_of(header: str, name: str = "") -> str:
    """What separates the columns, by the scripts' rule: a tab in .tsv, else a comma; a semicolon where no comma is."""
    if name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    return ";" if "," not in header and ";" in header else ","


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _rows(
    name: str,
    reader: "Reader",
    stream: Stream,
    plan: Plan,
    at: int,
    counts: Counts,
    problems: Problems,
) -> Iterator[Row]:
    columns, line = _header(name, reader, problems), reader.line_num + 1
    if columns is None:
        return
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            problems.add(DataKind.MALFORMED, _told(error), name, line)
            counts.rows = None
            return
        if values is None:
            return
        if past(plan, at, stream, counts):
            counts.rows = None
            return
        number, line = line, reader.line_num + 1
        if not values:
            continue
        counts.counted(1)
        row = _row(name, number, columns, values, counts, problems, spread=line - number)
        if row is not None:
            yield row


def past(plan: Plan, at: int, stream: Stream, counts: Counts) -> bool:
    """Whether so much was looked at that a reader that can't leave out parts ends here."""
    far = stream.offset > plan.budget.head and not plan.wants(at + stream.offset)
    return far or counts.looked_at >= plan.budget.rows


def _header(name: str, reader: "Reader", problems: Problems) -> list[str] | None:
    try:
        columns = next(reader, None)
    except csv.Error as error:
        problems.add(DataKind.MALFORMED, _told(error), name, 1)
        return None
    if columns is None:
        return None
    bad = _bad(columns)
    if bad is not None or len(columns) > _COLUMNS:
        problems.add(DataKind.MALFORMED, bad or f"it has {len(columns):,} columns", name, 1)
        return None
    columns = [column.strip() for column in columns]
    if len(set(columns)) < len(columns) or not all(columns):
        problems.add(DataKind.MALFORMED, "the first line must name each column once", name, 1)
        return None
    return columns


def _row(
    name: str, number: int, columns: list[str], values: list[str], counts: Counts, problems: Problems, *, spread: int
) -> Row | None:
    bad = _bad(values)
    if bad is None and len(values) != len(columns):
        over = f" and goes over {spread} lines: look for a quote that is not closed" if spread > _LONG else ""
        bad = f"the row has {len(values)} fields, the header {len(columns)}{over}"
    if bad is None:
        fields = dict(zip(columns, values, strict=True))
        counts.saw(fields)
        return Row(name, number, fields)
    problems.add(DataKind.MALFORMED, bad, name, number)
    counts.looked_at += 1
    return None


_LONG: Final = 50  # lines of one row, from which on an open quote is likelier than a long text


def _bad(values: list[str]) -> str | None:
    return wrong_signs("".join(values))


def _told(error: csv.Error) -> str:
    text = str(error)
    if "field limit" in text:
        return f"a field has more than {FIELD // MIB} MiB: look for a quote that is not closed"
    if "unexpected end" in text:
        return "a quote is opened and never closed"
    if "expected after" in text:
        return "a quoted field goes on after its closing quote: write quotes inside it twice"
    if "new-line" in text:
        return "its lines end with carriage returns alone: write it with newlines"
    return f"it is no CSV ({text[:80]})"
