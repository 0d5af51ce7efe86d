"""Texts of plain files: each file is texts of its own, apart at blank lines. Pure but for the stream."""

from collections.abc import Iterator
from typing import Final

from caravan.training.data.jsonl import MAX_ROW, UTF16, not_utf8
from caravan.training.data.problems import Problems
from caravan.training.data.rows import Counts, Row
from caravan.training.data.sampling import MIB, Plan
from caravan.training.data.stream import Stream, as_text
from caravan.values.training import DataKind

_PART: Final = 64 * 1024  # characters of a text from which on it is looked at in parts: a book is one text


def text_rows(stream: Stream, plan: Plan, at: int, counts: Counts, problems: Problems) -> Iterator[Row]:
    """The texts of a file, each with its first line. Raises Broken."""
    name, number, first, parts, size = stream.file.name, 0, 1, list[str](), 0
    for line in as_text(stream.blocks(plan.budget.unpacked if stream.file.packed else None)):
        number += 1
        if number == 1 and line.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            problems.add(DataKind.MALFORMED, UTF16, name, 1)
            return
        if len(line) > MAX_ROW:
            problems.add(DataKind.NOT_READ, f"a line has more than {MAX_ROW // MIB} MiB", name, number, fatal=False)
            continue
        if stream.offset > plan.budget.head and not plan.wants(at + stream.offset):
            counts.rows = None
            return
        bad = wrong_signs(line)
        if bad is not None:
            problems.add(DataKind.MALFORMED, bad, name, number)
        if line.strip():
            first = number if not parts else first
            parts.append(line)
            size += len(line)
        if parts and (not line.strip() or size > _PART):
            yield _row(name, first, parts, counts)
            parts, size = [], 0
    if parts:
        yield _row(name, first, parts, counts)


def wrong_signs(text: str) -> str | None:
    """What is wrong with a text as signs: zeros, bytes that are no UTF-8 (kept as lone surrogates)."""
    if "\0" in text:
        return "it holds a zero byte, as files do that were cut off or copied while they were written"
    if text.isascii():
        return None
    return next((not_utf8(ord(sign) - 0xDC00) for sign in text if "\udc80" <= sign <= "\udcff"), None)


def _row(name: str, first: int, parts: list[str], counts: Counts) -> Row:
    counts.counted(1)
    fields = {"text": "".join(parts).strip()}
    counts.saw(fields)
    return Row(name, first, fields)
