"""Rows of data with the file and line that each stands in: JSONL, JSON, CSV, TSV, Parquet, text, folders, a hub id.

What is wrong is refused with its line. Nothing here ever shows what a row says.
"""

import csv
import gzip
import hashlib
import io
import json
import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.files import digest_files
from shared.refusals import Refused

HELD_OUT = frozenset(("test", "valid", "validation", "eval", "dev", "val", "holdout"))
HALVED = "half a character, as where a text was cut within an emoji: take it out"
_ESCAPED = re.compile(r"\\u[dD]")  # a surrogate may be written so, `\ud83d`
HUB = re.compile(r"(?:hub:)?(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?(?::(?P<split>[\w.-]+))?")


@dataclass(frozen=True)
class Row:
    """One row: what it holds by column, and where it stands (`line` is None where its file has no lines)."""

    values: dict[str, Any]
    file: str
    line: int | None = None

    def refused(self, kind: str, text: str) -> Refused:
        """The refusal that names this row's place."""
        return Refused(kind, text, self.file, self.line)


@dataclass
class Rows:
    """All rows of a source. `sha256` is of the bytes that were read."""

    source: str
    rows: list[Row]
    files: tuple[str, ...] = ()
    sha256: str = ""
    held_out: "Rows | None" = field(default=None, repr=False)


def load(source: str) -> Rows:
    """The rows of a file, a folder or a hub id. Files of a folder whose names say so are its held-out part."""
    path = Path(source)
    if path.is_dir():
        return _folder(source, path)
    if path.exists():
        return _read(source, [path])
    hub = None if path.parent != Path() and path.parent.exists() else HUB.fullmatch(source)
    if hub and (
        source.startswith("hub:") or (path.suffix.lower() not in READERS and not source.startswith((".", "/")))
    ):
        return _hub(source, hub)
    raise Refused("missing", "there is no such file or folder", source)


def _folder(source: str, path: Path) -> Rows:
    inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p.relative_to(path))]
    tables = [p for p in inside if _ending(p) in READERS and _ending(p) not in TEXTS]
    files = tables or [p for p in inside if _ending(p) in TEXTS]
    if not files:
        raise Refused("empty", f"the folder holds no data ({', '.join(sorted(READERS))})", source)
    apart = [p for p in files if set(re.split(r"[-_./]", str(p.relative_to(path)).lower())) & HELD_OUT]
    learned = [p for p in files if p not in apart]
    if not learned:
        return _read(source, files)
    rows = _read(source, learned)
    rows.held_out = _read(source, apart) if apart else None
    return rows


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read(source: str, files: Sequence[Path]) -> Rows:
    rows: list[Row] = []
    for path in files:
        reader = READERS.get(_ending(path))
        if reader is None:
            raise Refused("malformed", f"no kind of data that is read ({', '.join(sorted(READERS))})", path)
        try:
            rows.extend(reader(path))
        except OSError as error:
            raise Refused("missing", f"can't be read: {error.strerror or error}", path) from error
        except EOFError as error:
            raise Refused("malformed", "the compressed file ends too early", path) from error
        except zlib.error as error:
            raise Refused("malformed", "the compressed file is damaged", path) from error
    if not rows:
        raise Refused("empty", "there is no row in it", source)
    return Rows(source, rows, tuple(map(str, files)), digest_files(files))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of each line. A line that is no UTF-8 is refused."""
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise Refused("malformed", "the line is no UTF-8", path, number) from error


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refused("malformed", f"no JSON: {_told(error)}", path, number) from error
        if not isinstance(values, dict):
            raise Refused("malformed", "a row is no object with named columns", path, number)
        if _ESCAPED.search(line) and _halved(values):
            raise Refused("malformed", HALVED, path, number)
        yield Row(values, str(path), number)


def _json(path: Path) -> Iterator[Row]:
    """One list of rows, also under a single name; or lines, as in `.jsonl`."""
    text = "".join(line for _, line in _lines(path))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        first = text.lstrip().split("\n", 1)
        if len(first) == 2 and first[0].rstrip().endswith("}"):
            yield from _jsonl(path)
            return
        raise Refused("malformed", f"no JSON: {_told(error)}", path, getattr(error, "lineno", None)) from error
    if isinstance(document, dict):
        lists = [v for v in document.values() if isinstance(v, list)]
        document = lists[0] if len(lists) == 1 else [document]
    escaped = _ESCAPED.search(text) is not None
    for number, values in enumerate(document if isinstance(document, list) else [], 1):
        if not isinstance(values, dict):
            raise Refused("malformed", f"row {number} is no object with named columns", path)
        if escaped and _halved(values):
            raise Refused("malformed", f"row {number}: {HALVED}", path)
        yield Row(values, str(path))


def _halved(values: Any) -> bool:
    """Whether there is half a surrogate pair in what was read, which no tokenizer takes."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _told(error: Exception) -> str:
    """What a JSON reader says, which is no text of the row."""
    return (
        f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it is nested too deep"
    )


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    text = io.StringIO("".join(line for _, line in _lines(path)), newline="")
    first = text.readline()
    text.seek(0)
    tab, semicolon = _ending(path) == ".tsv", "," not in first and ";" in first
    reader = csv.reader(text, delimiter="\t" if tab else ";" if semicolon else ",", strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise Refused("malformed", f"no row of a table: {error}", path, line) from error
        if cells is None:
            return
        if header is None:
            header = [name.strip() for name in cells]
            if len(set(header)) < len(header) or not all(header):
                raise Refused("malformed", "the first line must name each column once", path, line)
        elif cells:
            if len(cells) != len(header):
                raise Refused("malformed", f"{len(cells)} cells, but {len(header)} columns", path, line)
            yield Row(dict(zip(header, cells, strict=True)), str(path), line)


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                for values in batch.to_pylist():
                    yield Row(values, str(path))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise Refused("malformed", "no whole Parquet file", path) from error


def _text(path: Path) -> Iterator[Row]:
    """Paragraphs: what empty lines part."""
    block: list[str] = []
    begun = 1
    for number, line in _lines(path):
        if line.strip():
            begun = begun if block else number
            block.append(line)
        elif block:
            yield Row({"text": "".join(block).strip()}, str(path), begun)
            block = []
    if block:
        yield Row({"text": "".join(block).strip()}, str(path), begun)


TEXTS = (".txt", ".text", ".md")
READERS: dict[str, Callable[[Path], Iterable[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".pq": _parquet,
    **dict.fromkeys(TEXTS, _text),
}


def _hub(source: str, hub: re.Match[str]) -> Rows:
    """The rows of a data set on the hub, of its training split unless another is named."""
    import datasets

    datasets.disable_progress_bars()
    name = hub["name"]
    try:
        found = datasets.load_dataset(name, revision=hub["revision"], split=hub["split"] or "train")
    except datasets.exceptions.DatasetNotFoundError as error:
        raise Refused("missing", "there is no such file, and no such data set on the hub", source) from error
    except ConnectionError as error:
        if not datasets.config.HF_HUB_OFFLINE:
            raise  # it may answer another time
        raise Refused("missing", "there is no such file, and the hub must not be asked (offline)", source) from error
    except ValueError as error:
        raise Refused("missing", "the data set has no such split or no single configuration", source) from error
    rows = [Row(values, f"hub:{name}") for values in found]
    if not rows:
        raise Refused("empty", "there is no row in it", source)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row.values, sort_keys=True, default=str).encode() + b"\n")
    return Rows(source, rows, (), digest.hexdigest())


# ---- columns and parts


def renamed(text: str | None) -> dict[str, str]:
    """Role → column, as `--columns role=name,role=name` says it."""
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    if any(not equals or not name for _, equals, name in pairs):
        raise Refused("column_missing", "--columns is written role=name,role=name")
    return {role.strip(): name.strip() for role, _, name in pairs}


def column_of(rows: Rows, role: str, known: Sequence[str], given: dict[str, str]) -> str | None:
    """The column that plays a role: the one that was given, else the first known one that is there, else None."""
    there = rows.rows[0].values
    if role in given:
        if given[role] not in there:
            raise missing_column(rows.rows[0], [given[role]])
        return given[role]
    by_small = {name.lower(): name for name in there}
    return next((by_small[name] for name in known if name in by_small), None)


def missing_column(row: Row, names: Iterable[str]) -> Refused:
    """The refusal for a row without a column: which it needs, and which there are."""
    there = ", ".join(sorted(map(str, row.values))[:20])
    return row.refused("column_missing", f"there is no column {' or '.join(names)}; there are: {there or 'none'}")


def split(rows: Sequence[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """(learned, held out): the same for the same rows, fraction and seed. Both keep the order of the data.

    At least one row is held out where a fraction is asked for, and at least one is learned from.
    """
    if fraction <= 0 or len(rows) < 2:
        return list(rows), []
    wanted = min(max(1, round(len(rows) * min(fraction, 0.5))), len(rows) - 1)
    apart = set(random.Random(seed).sample(range(len(rows)), wanted))
    return [r for i, r in enumerate(rows) if i not in apart], [r for i, r in enumerate(rows) if i in apart]
