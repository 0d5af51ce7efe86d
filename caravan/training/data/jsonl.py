"""Rows of JSON: a line each, or one list of them. The line of each is exact, also between what is looked at.

Every byte is passed once. Lines outside the plan's parts are only counted, unless a block looks unlike lines of
objects: then it is read like the others.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Final

from caravan.training.data.places import Kind
from caravan.training.data.problems import Problems
from caravan.training.data.rows import Counts, Row
from caravan.training.data.sampling import BLOCK, MIB, Plan
from caravan.training.data.stream import Stream
from caravan.values.base import Json
from caravan.values.training import DataKind

MAX_ROW: Final = 32 * MIB
"""Bytes of a row that is still read."""
_ODD: Final = 64 * MIB  # of blocks that look unlike lines of objects and are read though the plan would not
_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_LIST: Final = re.compile(rb"\s*\[\s*(?:\{|$)")
_GAP: Final = re.compile(r"[\s,]*")
UTF16: Final = "it is UTF-16, not UTF-8: save it as UTF-8 (iconv -f utf-16 -t utf-8)"


def json_rows(stream: Stream, plan: Plan, at: int, counts: Counts, problems: Problems) -> Iterator[Row]:
    """The rows of a file that the plan wants, `at`: its offset among the files. Raises Broken."""
    blocks = stream.blocks(plan.budget.unpacked if stream.file.packed else None)
    offset, first = next(blocks, (0, b""))
    name = stream.file.name
    if first.startswith(_WIDE):
        problems.add(DataKind.MALFORMED, UTF16, name, 1)
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    start = first.lstrip()[:1]
    chained = _chain(offset, first, blocks)
    lines = stream.file.kind is Kind.LINES
    if start == b"[" and lines and _is_list(first):
        problems.add(DataKind.MALFORMED, "it is one list, not an object in each line: call it .json", name, 1)
        counts.rows = None
    elif start == b"[" and not lines:
        yield from _array(name, chained, plan, counts, problems)
    elif start == b"{" and (_is_spread(first) if lines else _is_document(first)):
        yield from _document(name, chained, plan, lines, counts, problems)
    else:
        yield from _lines(name, chained, plan, at, counts, problems)


def _chain(offset: int, first: bytes, blocks: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    if first:
        yield offset, first
    yield from blocks


def _is_list(first: bytes) -> bool:
    """Whether what begins with a bracket is a list of objects, not a line with a list."""
    return _LIST.match(first) is not None


def _is_document(first: bytes) -> bool:
    """Whether a file that may be one document or lines is no lines: by the scripts' rule, how its first line ends."""
    line, _, rest = first.lstrip().partition(b"\n")
    return not (line.rstrip().endswith(b"}") and rest.strip())


def _is_spread(first: bytes) -> bool:
    """Whether an object goes over several lines: its first line is none by itself, and the second is none either."""
    lines = first.lstrip().split(b"\n", 2)
    if len(lines) < 2 or lines[1].lstrip()[:1] == b"{":
        return False
    return lines[0].strip() == b"{" or (lines[0].rstrip()[-1:] in b"[{," and lines[1][:1] in b' \t"')


def _lines(
    name: str, blocks: Iterator[tuple[int, bytes]], plan: Plan, at: int, counts: Counts, problems: Problems
) -> Iterator[Row]:
    number, carry, odd, skipping = 1, b"", 0, False
    for offset, block in blocks:
        if skipping:
            end = block.find(b"\n")
            if end < 0:
                continue
            block, number, skipping = block[end + 1 :], number + 1, False
        cut = block.rfind(b"\n") + 1
        body, rest = carry + block[:cut] if cut else b"", block[cut:]
        carry = rest if cut else carry + rest
        if len(carry) > MAX_ROW:
            told = f"a row has more than {MAX_ROW // MIB} MiB"
            problems.add(DataKind.NOT_READ, told, name, number + body.count(b"\n"), fatal=False)
            counts.counted(1)
            carry, skipping = b"", True
        if not body:
            continue
        lines = body.count(b"\n")
        strange = _odd(body, lines)
        wanted = plan.wants(at + offset) and counts.looked_at < plan.budget.rows
        if wanted or (strange and odd < _ODD):
            odd += 0 if wanted else len(body)
            yield from _each(name, body[:-1].split(b"\n"), number, counts, problems)
        else:
            counts.counted(lines)
        number += lines
    if carry:
        yield from _each(name, [carry], number, counts, problems)


def _odd(body: bytes, lines: int) -> bool:
    """Whether a block holds what no lines of objects hold: other ends, zeros, bytes that are no UTF-8."""
    ends = b"\r\n" if body.endswith(b"\r\n") else b"\n"
    whole = body.startswith(b"{") and body.endswith(b"}" + ends)
    if not whole or body.count(b"}" + ends + b"{") + 1 != lines or b"\0" in body:
        return True
    if body.isascii():
        return False
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _each(name: str, lines: list[bytes], number: int, counts: Counts, problems: Problems) -> Iterator[Row]:
    for shift, line in enumerate(lines):
        if not line.strip():
            continue
        counts.counted(1)
        row = _row(name, number + shift, line, counts, problems)
        if row is not None:
            yield row


def _row(name: str, number: int, line: bytes, counts: Counts, problems: Problems) -> Row | None:
    try:
        fields = parsed(line)
    except UnicodeDecodeError as error:
        problems.add(DataKind.MALFORMED, not_utf8(error.object[error.start]), name, number)
    except json.JSONDecodeError as error:
        problems.add(DataKind.MALFORMED, _told(line, error), name, number)
    except (ValueError, RecursionError):
        problems.add(DataKind.MALFORMED, "it is nested too deeply, or holds a number that is too long", name, number)
    else:
        return as_row(name, number, fields, counts, problems)
    counts.looked_at += 1
    return None


def parsed(line: bytes) -> Json:
    """The value of a line. Raises UnicodeDecodeError, JSONDecodeError, ValueError, RecursionError."""
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line.decode("utf-8"))  # which knows NaN and long numbers, and says where it stops


def as_row(name: str, number: int, fields: Json, counts: Counts, problems: Problems) -> Row | None:
    """A row of a value; None with a problem for what is no object."""
    if isinstance(fields, dict):
        counts.saw(fields)
        return Row(name, number, fields)
    hint = ': write it as {"text": …}' if isinstance(fields, str) else ""
    problems.add(DataKind.MALFORMED, f"a row is {_named(fields)}, not an object of columns{hint}", name, number)
    counts.looked_at += 1
    return None


def not_utf8(byte: int) -> str:
    """What to do about a byte that is no UTF-8."""
    return f"byte 0x{byte:02x} is no UTF-8: save the file as UTF-8 (iconv -f latin1 -t utf-8)"


def _told(line: bytes, error: json.JSONDecodeError) -> str:
    if b"\0" in line:
        return "it holds a zero byte, as files do that were cut off or copied while they were written"
    said = error.msg[:1].lower() + error.msg[1:]
    if error.pos >= len(error.doc.rstrip()):
        return "it is no JSON: the line ends in the middle of a value"
    if "'" in error.doc[error.pos : error.pos + 1]:
        return "it is no JSON: JSON puts texts into double quotes"
    return f"it is no JSON ({said})"


def _named(value: Json) -> str:
    names = {type(None): "null", bool: "true or false", list: "a list", str: "a text"}
    return names.get(type(value), "a number")


def _array(
    name: str, blocks: Iterator[tuple[int, bytes]], plan: Plan, counts: Counts, problems: Problems
) -> Iterator[Row]:
    """The items of one list, as they come; a part of them where the list is very long."""
    decoder, text, at, line = json.JSONDecoder(), _Text(blocks, plan.budget.array), 0, 1
    at = text.until("[") + 1
    line += text.buffer.count("\n", 0, at)
    while True:
        found = _GAP.match(text.buffer, at)
        gap = found.end() if found else at
        line += text.buffer.count("\n", at, gap)
        at = gap
        if at >= len(text.buffer) and text.more(at):
            at = 0
            continue
        if text.bad is not None:
            problems.add(DataKind.MALFORMED, not_utf8(text.bad), name, line)
            return
        if at >= len(text.buffer) or text.buffer[at] == "]":
            break
        try:
            item, end = decoder.raw_decode(text.buffer, at)
            if end >= len(text.buffer) and text.more(at):  # a number may go on
                at = 0
                continue
        except RecursionError:
            problems.add(DataKind.MALFORMED, "it is nested too deeply", name, line)
            return
        except ValueError as error:
            if text.more(at):
                at = 0
                continue
            problems.add(DataKind.MALFORMED, _told_item(error), name, line + _lines_to(error, text.buffer, at))
            counts.rows = None
            return
        counts.counted(1)
        row = as_row(name, line, item, counts, problems)
        if row is not None:
            yield row
        line += text.buffer.count("\n", at, end)
        at = end
    if text.cut:
        counts.rows = None
    elif at >= len(text.buffer):
        problems.add(DataKind.MALFORMED, "the list has no end: the file was cut off", name, line)


def _told_item(error: ValueError) -> str:
    said = error.msg if isinstance(error, json.JSONDecodeError) else "a value that can't be read"
    return f"it is no JSON ({said[:1].lower() + said[1:]})"


def _lines_to(error: ValueError, text: str, at: int) -> int:
    return text.count("\n", at, error.pos) if isinstance(error, json.JSONDecodeError) else 0


class _Text:
    """Text that grows as it is read. What was used up is let go."""

    def __init__(self, blocks: Iterator[tuple[int, bytes]], most: int) -> None:
        self._blocks, self._most, self._taken = blocks, most, 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.buffer, self.cut = "", False
        self.bad: int | None = None

    def until(self, sign: str) -> int:
        """Where a sign stands that is known to come."""
        while (at := self.buffer.find(sign)) < 0 and self.more(0):
            pass
        return at

    def more(self, at: int) -> bool:
        """Drop what is before `at` and read as much again as there is; False at the end."""
        want, parts = max(BLOCK, len(self.buffer) - at), []
        while want > 0 and self.bad is None:
            if self._taken >= self._most or len(self.buffer) - at > MAX_ROW:
                self.cut = True
                break
            _, block = next(self._blocks, (0, b""))
            try:
                parts.append(self._decoder.decode(block, final=not block))
            except UnicodeDecodeError as error:
                self.bad = error.object[error.start]
                parts.append(error.object[: error.start].decode("utf-8", "replace"))
            if not block:
                break
            self._taken += len(block)
            want -= len(block)
        new = "".join(parts)
        if new:
            self.buffer = self.buffer[at:] + new
        return bool(new)


def _document(
    name: str, blocks: Iterator[tuple[int, bytes]], plan: Plan, lines: bool, counts: Counts, problems: Problems
) -> Iterator[Row]:
    """One object over several lines: its only list are the rows, or it is a row itself. In lines of JSON it is none."""
    text, size = [], 0
    for _, block in blocks:
        size += len(block)
        text.append(block)
        if size > plan.budget.whole:
            counts.rows = None
            told = f"it is one object of more than {plan.budget.whole // MIB} MiB: write its rows in lines"
            problems.add(DataKind.NOT_READ, told, name, 1, fatal=False)
            return
    try:
        document = json.loads(b"".join(text))
    except (ValueError, RecursionError) as error:
        counts.rows = None
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        told = "an object begins that goes over several lines: " * lines + "it is no JSON"
        problems.add(DataKind.MALFORMED, told, name, 1 if lines else line)
        return
    lists = [v for v in document.values() if isinstance(v, list)] if isinstance(document, dict) else []
    if lines:
        told = "it is one object over several lines: write an object in each line (jq -c), or call it .json"
        problems.add(DataKind.MALFORMED, told, name, 1)
        return
    for item in lists[0] if len(lists) == 1 else [document]:
        counts.counted(1)
        row = as_row(name, 1, item, counts, problems)
        if row is not None:
            yield row
