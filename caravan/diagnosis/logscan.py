"""Which lines of a long log are worth reading: its end, what names a trouble, tracebacks, and samples of its losses.

A training repeats itself: its lines have few shapes once the digits are left out, and what can be said of a line by
its words is said once for each shape. Works on bytes, block by block, so the log may be endless; knows no causes.
"""

import json
from collections.abc import Iterator
from typing import Final

_WHOLE: Final = 32_768  # bytes that are read line by line whatever they hold
_BLOCK: Final = 65_536  # bytes whose shapes are taken at once
_SHAPES: Final = 20_000  # that are remembered
_TAIL_LINES: Final = 64  # last lines, read whatever they hold
_TAIL_BYTES: Final = 65_536
_FOLLOW: Final = 150  # lines that are read after a traceback's header: no chain that matters is longer
_WRAPPED: Final = 262_144  # bytes of a line of JSON that is opened: a log driver cuts far below
# What loggers and log drivers call the words and the traceback of a line, the words first.
_MESSAGES: Final = ("log", "message", "msg", "event", "textPayload", "MESSAGE", "@message", "text", "line", "body")
_TRACES: Final = (
    "exc_info",
    "exc_text",
    "exception",
    "stack_info",
    "stack_trace",
    "stacktrace",
    "traceback",
    "error",
    "error.stack_trace",
)
_BEFORE, _AFTER = 4, 3  # lines around one that names a trouble
_OF_A_SHAPE: Final = 2  # first and last lines of one shape that are read in a block
_SAMPLES: Final = 1  # places in a block from which losses are read: a level each 64 KiB
_IN_ROW: Final = 3  # losses that are read there: as many as make a level
_LAST_LOSSES: Final = 8  # before the tail
_LOSS: Final = b"oss"  # of `loss` and `Loss`

TROUBLE: Final = (
    *("error", "exception", "fatal", "fail", "kill", "abort", "denied", "refused", "cannot", "can't", "could not"),
    *("unable", "no such", "not found", "invalid", "no space", "segfault", "segmentation", "core dumped", "timed out"),
    *("timeout", "unauthorized", "forbidden", "panic", "not exist", "n't exist", "missing", "required", "unknown"),
    *("nan", "overflow", "diverg", "explod", "non-finite", "terminat", "caravan:", "no module", "oom", "out of memory"),
    *("mismatch", "unexpected", "not in struct", "not here", "returned", "exit", "bad_alloc", "unrecognized"),
    *("matched no", "traceback", "the above exc", "too old", "not available", "not compatible", "no longer support"),
    *("xid", "cancelled", "sigterm", "sigint", "signal", "preempt", "evict", "drain", "interrupt", "reclaim"),
    *(
        "(idle)",
        "most recent call first",
        "_wait",
        "(selectors",
        "connection.py",
        "nothing ",
        "no progress",
        "no output",
    ),
    *(
        "insufficient",
        "stuck",
        "hung",
        "hang",
        "stall",
        "deadlock",
        "blocked for",
        "nccl warn",
        "illegal",
        "bus error",
        "memory",
    ),
    *("unsupported", "not support", "already in use", "not enough", "dl_open", "undefined symbol", "not detected"),
    *("gated", "token is valid", "login successful", "429", "too many requests", "rate limit", "restricted", "x509"),
    *("certificate", "toomanyrequests", "unhealthy", "read-only", "quota", "unreachable", "could not resolve"),
    *(
        "no nodes",
        "unsatisfied",
        "conflict",
        "deadline",
        "(stopped)",
        "not recognize",
        "not a local folder",
        "retrying",
    ),
    *("not specified", "requires", "corrupt", "truncated", "is up to date", "reset", "lost", "limit", "mib"),
)
"""Words that name a trouble, in small letters. Looked up one by one, which is faster than one pattern."""

_WORDS: Final = tuple(word.encode() for word in TROUBLE)
_OPENS: Final = (b"Traceback (most recent call last):", b"-----BEGIN ")
_DIGITS: Final = b"0123456789"


def chosen(log: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are worth reading, each with the place of its first byte, in order.

    All lines of a short log; of a long one the last 64, the first and last of each shape that names a trouble in
    a block of 64 KiB, what follows a traceback's header, and losses at even distances.
    """
    start = 0
    if len(log) > _WHOLE:
        start = _tail(log)
        yield from _head(log, start)
    for line in log[start:].split(b"\n"):
        yield start, line
        start += len(line) + 1


def unwrapped(raw: bytes) -> tuple[bytes, ...]:
    """The lines that a line of JSON of a logger or a log driver stands for; any other line as it is.

    A document that holds no such words, one of metrics or of settings, is left as it is.
    """
    text = raw.strip()
    if not text.startswith(b"{") or not text.endswith(b"}") or len(text) > _WRAPPED:
        return (raw,)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return (raw,)
    said = [words for name in _MESSAGES if (words := document.get(name)) and isinstance(words, str)][:1]
    traces = [words for name in _TRACES if "\n" in (words := _said(document.get(name)))]
    driver = "\n" in "".join(said)  # a log driver keeps a line's end; of a logger's one line the other fields tell more
    if not traces and (not driver or any("loss" in name.lower() for name in document)):
        return (raw,)
    lines = "\n".join([*said, *traces]).split("\n")
    return tuple(line.encode("utf-8", "surrogatepass") for line in lines if line.strip()) or (raw,)


def _said(value: object) -> str:
    """A text, or the texts of a list of lines, each with its own end or without."""
    if isinstance(value, dict):
        value = [words for words in value.values() if isinstance(words, str) and "\n" in words]
    if isinstance(value, list):
        value = "\n".join(part.rstrip("\n") for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _tail(log: bytes) -> int:
    """Where the last lines begin."""
    place = len(log)
    for _ in range(_TAIL_LINES):
        place = log.rfind(b"\n", max(0, len(log) - _TAIL_BYTES), place)
        if place < 0:
            return max(0, len(log) - _TAIL_BYTES)
    return place + 1


def _head(log: bytes, end: int) -> Iterator[tuple[int, bytes]]:
    known: dict[bytes, bool] = {}  # shapes, and whether each names a trouble
    late = _last_losses(log, end)
    follow = 0
    start = 0
    while start < end:
        stop = _block_end(log, start, end)
        shapes = log[start:stop].translate(None, _DIGITS).split(b"\n")
        unique = set(shapes)
        for shape in unique - known.keys():
            known[shape] = _names_trouble(shape)
        if len(known) > _SHAPES:
            known = {shape: known[shape] for shape in unique}
        wanted = {shape for shape in unique if known[shape]}
        losses = {*_losses(log, start, stop), *(place for place in late if start <= place < stop)}
        if wanted or follow:
            lines, follow = _picked(log, start, stop, shapes, wanted, follow)
            losses |= lines
        for place in sorted(losses):
            yield place, log[place : _line_end(log, place, stop)]
        start = stop + 1


def _block_end(log: bytes, start: int, end: int) -> int:
    """The end of a block's last line: of one that is longer than a block, wherever it ends."""
    if start + _BLOCK >= end:
        return end
    place = log.rfind(b"\n", start, start + _BLOCK)
    if place < 0:
        place = log.find(b"\n", start, end)
    return place if place >= 0 else end


def _line_end(log: bytes, place: int, stop: int) -> int:
    found = log.find(b"\n", place, stop)
    return found if found >= 0 else stop


class Troubles:
    """Whether a line names a trouble, said once for each shape."""

    def __init__(self) -> None:
        self._known: dict[bytes, bool] = {}

    def named(self, line: bytes) -> bool:
        """Whether the line names one."""
        shape = line.translate(None, _DIGITS)
        known = self._known.get(shape)
        if known is None:
            if len(self._known) > _SHAPES:
                self._known.clear()
            known = self._known[shape] = _names_trouble(shape)
        return known


def _names_trouble(shape: bytes) -> bool:
    small = shape[:_LOOKED_AT].lower() + shape[-_LOOKED_AT:].lower() if len(shape) > _LOOKED_AT else shape.lower()
    return any(word in small for word in _WORDS)


_LOOKED_AT: Final = 8192  # bytes at each end of a line


def _picked(
    log: bytes, start: int, stop: int, shapes: list[bytes], wanted: set[bytes], follow: int
) -> tuple[set[int], int]:
    """Places of lines in a block: those that `follow` and those of wanted shapes; how many are to follow after it."""
    rows: dict[bytes, list[int]] = {}
    for number, shape in enumerate(shapes):
        if shape in wanted:
            rows.setdefault(shape, []).append(number)
    numbers = set(range(min(follow, len(shapes))))
    left = max(0, follow - len(shapes))
    for shape, found in rows.items():
        few = found if len(found) <= 2 * _OF_A_SHAPE else [*found[:_OF_A_SHAPE], *found[-_OF_A_SHAPE:]]
        for number in few:  # with what stands around it
            numbers.update(range(max(0, number - _BEFORE), min(number + _AFTER, len(shapes))))
        if any(opening in shape for opening in _OPENS):
            for number in few:
                numbers.update(range(number, min(number + _FOLLOW, len(shapes))))
                left = max(left, number + _FOLLOW - len(shapes))
    places: set[int] = set()
    place = start
    for number, line in enumerate(log[start:stop].split(b"\n")):
        if number in numbers:
            places.add(place)
        place += len(line) + 1
    return places, left


def _losses(log: bytes, start: int, stop: int) -> Iterator[int]:
    """Places of lines that may hold a loss, a few in a row at even distances."""
    for number in range(_SAMPLES):
        place = start + (stop - start) * number // _SAMPLES
        for _ in range(_IN_ROW):
            place = log.find(_LOSS, place, stop)
            if place < 0:
                break
            before = log.rfind(b"\n", start, place)
            yield before + 1 if before >= 0 else start
            place = _line_end(log, place, stop)


def _last_losses(log: bytes, end: int) -> set[int]:
    """Places of the last lines before the tail that may hold a loss."""
    places: set[int] = set()
    place = end
    for _ in range(_LAST_LOSSES):
        place = log.rfind(_LOSS, max(0, end - 16 * _BLOCK), place)
        if place < 0:
            break
        place = log.rfind(b"\n", 0, place) + 1
        places.add(place)
    return places
