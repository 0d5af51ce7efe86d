"""Rows of Parquet, by row groups and some hundred at a time: never a whole file in memory. `line` is the row.

pyarrow is imported only where there is such a file.
"""

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Final

from caravan.training.data.places import DataFile
from caravan.training.data.problems import Problems
from caravan.training.data.rows import Counts, Row
from caravan.training.data.sampling import Plan
from caravan.training.data.stream import Broken
from caravan.values.training import DataKind

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH: Final = 512
_GROUPS: Final = 48
_GROUP_BYTES: Final = 2 << 30  # of a row group that is still opened, uncompressed as its footer has it
_PER_GROUP: Final = 4096  # rows of each group that are looked at, where there are many


def parquet_rows(file: DataFile, plan: Plan, counts: Counts, problems: Problems) -> Iterator[Row]:
    """The rows that the plan wants. Raises Broken where the file can't be opened."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        source: IO[bytes] = file.open()
    except OSError as error:
        raise Broken(f"it can't be opened: {error.strerror or error}", missing=True) from error
    with source:
        try:
            parquet = ParquetFile(source)
            counts.counted(parquet.metadata.num_rows)
            for name in parquet.schema_arrow.names:
                counts.columns.setdefault(name, 0)
            yield from _groups(file, parquet, plan, counts, problems)
        except (ArrowException, OSError, ValueError, EOFError) as error:
            counts.rows = None
            problems.add(DataKind.MALFORMED, f"it is no whole Parquet file ({_plain(error)})", file.name)


def _groups(file: DataFile, parquet: "ParquetFile", plan: Plan, counts: Counts, problems: Problems) -> Iterator[Row]:
    metadata = parquet.metadata
    count = metadata.num_row_groups
    sizes = [metadata.row_group(i).total_byte_size for i in range(count)]
    first = 1
    whole = sum(sizes) <= plan.budget.whole and metadata.num_rows <= plan.budget.rows
    chosen = set(range(count)) if whole else _spread(count)
    for group in range(count):
        rows = metadata.row_group(group).num_rows
        if group in chosen and sizes[group] > _GROUP_BYTES:
            told = f"row group {group} has {sizes[group] / 2**30:.1f} GiB, too much to look at"
            problems.add(DataKind.NOT_READ, told, file.name, first, fatal=False)
        elif group in chosen and counts.looked_at < plan.budget.rows:
            yield from _rows(file, parquet, group, first, rows if whole else _PER_GROUP, counts)
        first += rows


def _spread(count: int) -> set[int]:
    """The first and the last group, and some between."""
    step = max(1, count // _GROUPS)
    return {*range(0, count, step), max(0, count - 1)}


def _rows(file: DataFile, parquet: "ParquetFile", group: int, first: int, most: int, counts: Counts) -> Iterator[Row]:
    seen = 0
    for batch in parquet.iter_batches(batch_size=_BATCH, row_groups=[group]):
        for fields in batch.to_pylist():
            counts.saw(fields)
            yield Row(file.name, first + seen, fields)
            seen += 1
        if seen >= most:
            return


def _plain(error: BaseException) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:120]
