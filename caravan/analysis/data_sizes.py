"""How many rows the data files of a repository have: counted where they are small, else extrapolated from a part.

Pure, over bytes that a tree reads; every read is bounded. What is no rows (plain text, archives) has only its bytes.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from posixpath import basename, normpath
from typing import Final, NamedTuple

from caravan.analysis.thrift import parquet_rows
from caravan.analysis.tree import FileEntry
from caravan.values.base import Json
from caravan.values.datasets import DatasetSize

MOST_READ: Final = 4_000_000
"""Bytes of one file that are read."""
MOST_TOGETHER: Final = 24_000_000
"""Bytes of all files together that are read."""
MOST_FILES: Final = 40
_END: Final = 1_000_000
"""Bytes at a Parquet file's end in which its footer is looked for."""
_SAMPLE: Final = 200
"""Rows whose text is measured."""
_KINDS: Final = re.compile(r"(?i)\.(jsonl|ndjson|json|csv|tsv|txt|parquet)$")
_NO_DATA: Final = re.compile(
    r"(?i)^(?:package|package-lock|tsconfig|.*config|.*settings?|vocab|tokenizer.*|special_tokens.*|added_tokens|.*schema"
    r"|requirements.*|readme.*|license.*|licence.*|notice.*|changelog.*|merges|cmakelists|.*prompts?|.*index|ds_.*|zero\d.*"
    r"|manifest|.*hparams?|.*results?|.*metrics?|robots|todo)\.\w+$"
)
_SMALLEST: Final = 200


class Part(NamedTuple):
    """What was read of a file: rows and characters of text a row in it, and the bytes that they take."""

    rows: int
    mean_chars: float | None
    consumed: int


def data_sizes(
    files: Sequence[FileEntry],
    start: Callable[[str, int], bytes | None],
    end: Callable[[str, int], bytes | None],
    named: str | None,
) -> tuple[DatasetSize, ...]:
    """The sizes of the data files, those of the data set that is `named` first.

    `start` and `end` give a file's first or last bytes, None for one that can't be read.
    """
    found: list[DatasetSize] = []
    left = MOST_TOGETHER
    for file in _likely(files, named or "")[:MOST_FILES]:
        if left <= 0:
            break
        left -= min(file.size, MOST_READ)
        if (size := _size(file, start, end)) is not None:
            found.append(size)
    return tuple(found)


def _likely(files: Sequence[FileEntry], named: str) -> list[FileEntry]:
    """Files that may be data: the named one and those below the named folder, then the largest."""
    path = normpath(named) if named else "?"
    mine = [f for f in files if _KINDS.search(f.path) and (f.path == path or f.path.startswith(f"{path}/"))]
    known = {f.path for f in mine}
    others = [f for f in files if f.path not in known and f.size >= _SMALLEST and _may_be_data(f.path)]
    return [*mine, *sorted(others, key=lambda f: (-f.size, f.path))]


def _may_be_data(path: str) -> bool:
    return bool(_KINDS.search(path)) and not _NO_DATA.match(basename(path)) and not path.startswith(".")


def _size(
    file: FileEntry, start: Callable[[str, int], bytes | None], end: Callable[[str, int], bytes | None]
) -> DatasetSize | None:
    kind = file.path.rpartition(".")[2].lower()
    if kind == "parquet":
        rows = parquet_rows(end(file.path, _END) or b"")
        told = "its footer" if rows is not None else "its bytes"
        return DatasetSize(name=file.path, rows=rows, bytes=file.size, source=f"{file.path} of the repository: {told}")
    if kind == "txt":
        return DatasetSize(name=file.path, bytes=file.size, source=f"{file.path} of the repository: its bytes")
    data = start(file.path, MOST_READ)
    if not data:
        return None
    whole = len(data) >= file.size
    part = _READERS[kind](data.decode("utf-8", "replace"), whole)
    if part is None or part.rows <= 0:
        return None
    rows = part.rows if whole else round(part.rows * file.size / max(1, part.consumed))
    told = f"{part.rows} rows counted" if whole else f"extrapolated from its first {part.rows} rows"
    return DatasetSize(
        name=file.path,
        rows=rows,
        bytes=file.size,
        mean_chars=part.mean_chars,
        exact=whole,
        source=f"{file.path} of the repository: {told}",
    )


def _json_lines(text: str, whole: bool) -> Part | None:
    lines = text.split("\n")
    if not whole:
        lines = lines[:-1]  # it may be cut off
    rows = [line for line in lines if line.strip()]
    sample = [n for row in rows[:_SAMPLE] if (n := _chars_of_line(row)) is not None]
    if not rows or len(sample) < min(len(rows), _SAMPLE) / 2:
        return None
    return Part(len(rows), sum(sample) / len(sample), sum(len(line.encode()) + 1 for line in lines))


def _chars_of_line(row: str) -> int | None:
    try:
        return _chars(json.loads(row))
    except (ValueError, RecursionError):
        return None


def _chars(value: Json, deep: int = 6) -> int:
    """Characters of the texts in a value."""
    if isinstance(value, str):
        return len(value)
    if deep <= 0:
        return 0
    if isinstance(value, dict):
        return sum(_chars(v, deep - 1) for v in value.values())
    return sum(_chars(v, deep - 1) for v in value) if isinstance(value, list) else 0


def _json_rows(text: str, whole: bool) -> Part | None:
    """The items of a list, or of the longest list in a table (`{"data": […]}`)."""
    if not whole:
        return _items(text)
    try:
        document = json.loads(text)
    except ValueError:
        return _json_lines(text, whole)  # lines of JSON under that name
    except RecursionError:
        return None
    if isinstance(document, dict):
        lists = [v for v in document.values() if isinstance(v, list)]
        document = max(lists, key=len, default=None)
    if not isinstance(document, list) or not document or not isinstance(document[0], dict | list | str):
        return None
    sample = document[:_SAMPLE]
    return Part(len(document), sum(_chars(row) for row in sample) / len(sample), len(text))


def _items(text: str) -> Part | None:
    """The items at the beginning of a list that is cut off."""
    begin = text.find("[")
    if begin < 0 or text[:begin].strip():
        return _json_lines(text, False)
    decoder, at, chars, count = json.JSONDecoder(), begin + 1, 0, 0
    for _ in range(10_000):
        gap = re.compile(r"[\s,]*").match(text, at)
        try:
            item, at = decoder.raw_decode(text, gap.end() if gap else at)
        except (ValueError, RecursionError):
            break
        chars, count = chars + _chars(item), count + 1
    return Part(count, chars / count, len(text[:at].encode())) if count else None


def _table(separator: str) -> Callable[[str, bool], Part | None]:
    def read(text: str, whole: bool) -> Part | None:
        if not whole:
            text = text[: text.rfind("\n") + 1]
        try:
            rows = list(_rows_of(text, separator))
        except csv.Error:
            return None
        if len(rows) < 2 or len(rows[0]) > 2000:
            return None
        sample = rows[1 : 1 + _SAMPLE]
        return Part(len(rows) - 1, sum(sum(map(len, row)) for row in sample) / len(sample), len(text.encode()))

    return read


def _rows_of(text: str, separator: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    yield from (row for row in reader if row)


_READERS: Final[dict[str, Callable[[str, bool], Part | None]]] = {
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "json": _json_rows,
    "csv": _table(","),
    "tsv": _table("\t"),
}
