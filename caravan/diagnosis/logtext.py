"""What a task wrote, boiled down: clean lines, the traceback that matters, the lines that name a trouble.

Logs may be megabytes long and are read once, line by line, with bounded memory. What a log says is data: nothing in
it is followed.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from caravan.values.masking import mask

LINE_LIMIT: Final = 300  # characters of a line that is kept
LINES_LIMIT: Final = 40  # lines that are kept
_RAW_LINE: Final = 8192  # characters of a line that are looked at: no message needs more, a dumped tensor has megabytes
_TAIL: Final = 10  # last lines, whatever they say
_NAMED: Final = 10  # last lines that name a trouble
_FRAMES: Final = 6  # lines of a traceback above its exception: three frames, each with its source line
_MESSAGE: Final = 4  # lines of an exception's own message; more would be what is written after it
_CHAIN: Final = 8  # tracebacks of one chain

_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
# `45%|####      | 45/100 [00:10<00:12, 4.5it/s]`, with or without a description before it.
_PROGRESS: Final = re.compile(r"\d{1,3}%\|[^|]*\|[^\[]*\[[^\]]*\]")
_RANK: Final = re.compile(r"^(?:\[(?:rank|default)\d+\]:?\s?|\([^()\n]{1,60}pid=\d+[^()\n]{0,60}\)\s?)")
_HEADER: Final = "Traceback (most recent call last):"
_CHAINED: Final = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_EXCEPTION: Final = re.compile(r"^[A-Za-z_][\w.]*(?::|$)")
# A launcher's own traceback says only that a worker failed; the worker's says why.
_WRAPPERS: Final = re.compile(r"^(?:[\w.]*\.)?(?:ChildFailedError|CalledProcessError|ProcessRaisedException)\b")
# Words that name a trouble, in small letters. Looked up one by one, which is several times as fast as one pattern.
_TROUBLE: Final = (
    *("error", "exception", "fatal", "fail", "kill", "abort", "denied", "refused", "cannot", "can't", "could not"),
    *("unable", "no such", "not found", "invalid", "out of memory", "oom", "no space", "segfault", "segmentation"),
    *("core dumped", "timed out", "timeout", "unauthorized", "forbidden", "panic"),
)


@dataclass
class _Traceback:
    """A traceback as it is read: its frames (the last ones), then its exception's lines."""

    frames: deque[str] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    message: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return bool(self.message)

    def lines(self) -> list[str]:
        return [*self.frames, *self.message]

    def is_wrapper(self) -> bool:
        return bool(self.message) and bool(_WRAPPERS.match(self.message[0]))


@dataclass
class LogDigest:
    """What is kept of a log: the chain of tracebacks that matters (root first), lines of trouble, the last lines."""

    chain: tuple[tuple[str, ...], ...] = ()
    trouble: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()

    def decisive(self) -> tuple[str, ...]:
        """The lines that may tell the cause, at most 40, the traceback first. Each line once."""
        traceback = [line for part in (self.chain[:1] + self.chain[1:][-1:]) for line in part]
        return tuple(dict.fromkeys((*traceback, *self.trouble, *self.tail)))[:LINES_LIMIT]


def digest(log: bytes, secrets: Iterable[str] = ()) -> LogDigest:
    """Read a log once. Secrets are masked before anything is cut or kept; any bytes will do."""
    known = tuple(secrets)
    reader = _Reader()
    tail: deque[str] = deque(maxlen=_TAIL)
    trouble: deque[str] = deque(maxlen=_NAMED)
    for line in clean_lines(log):
        reader.read(line)
        if line.strip():
            tail.append(line)
            small = line.lower()
            if any(word in small for word in _TROUBLE):
                trouble.append(line)
    chain = tuple(tuple(_kept(line, known) for line in part.lines()) for part in reader.chain())
    return LogDigest(chain, tuple(_kept(s, known) for s in trouble), tuple(_kept(s, known) for s in tail))


def clean_lines(log: bytes) -> Iterator[str]:
    """The log's lines without escapes, progress bars and ranks' prefixes; of a redrawn line what was drawn last."""
    inside_key = False
    for raw in log.split(b"\n"):
        line = raw.rstrip(b"\r").rpartition(b"\r")[2][:_RAW_LINE].decode("utf-8", "replace")
        # The lines inside a private key look like nothing on their own, so they go before lines are told apart.
        inside_key = (inside_key or "-----BEGIN " in line) and "-----END " not in line
        if inside_key and "-----BEGIN " not in line:
            continue
        if not line.isprintable():
            line = _ESCAPES.sub("", line)
        line = line.rstrip()
        if line[:1] in ("[", "("):
            line = _RANK.sub("", line)
        if "%|" in line:
            line = _PROGRESS.sub("", line).strip()
            if not line or (line.endswith(":") and _HEADER not in line):
                continue
        before, header, after = line.partition(_HEADER)  # a progress bar leaves no line break behind it
        if header and before.strip():
            yield before.rstrip()
            line = header + after
        yield line


def _kept(line: str, known: tuple[str, ...]) -> str:
    line = mask(line, known)
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 1] + "…"


class _Reader:
    """Finds tracebacks and joins those of one chain. Keeps the last chain that is no launcher's, else the last."""

    def __init__(self) -> None:
        self._open: _Traceback | None = None
        self._current: list[_Traceback] = []
        self._best: list[_Traceback] = []
        self._joins = False

    def read(self, line: str) -> None:
        """Take the next line."""
        text = line.strip()
        if text.startswith(_HEADER):
            self._begin()
        elif text in _CHAINED:
            self._joins = True
            self._open = None
        elif self._open is not None:
            self._go_on(line, text)

    def chain(self) -> list[_Traceback]:
        """The tracebacks of the chain, the root first."""
        self._settle()
        return self._best

    def _begin(self) -> None:
        if not self._joins:
            self._settle()
            self._current = []
        self._joins = False
        self._open = _Traceback()
        self._current = [*self._current, self._open]
        if len(self._current) > _CHAIN:  # the root and the latest tell it; a recursion of handlers may go on for ever
            del self._current[1]

    def _go_on(self, line: str, text: str) -> None:
        here = self._open
        if here is None:
            return
        if not here.ended and (line[:1].isspace() or not text):
            if text:
                here.frames.append(line)
        elif not here.ended:
            here.message.append(line)
            if not _EXCEPTION.match(text):
                self._open = None  # something else wrote into the traceback: keep the line, expect no more
        elif text and len(here.message) < _MESSAGE:
            here.message.append(line)
        else:
            self._open = None

    def _settle(self) -> None:
        if self._current and (not self._best or not all(t.is_wrapper() for t in self._current)):
            self._best = self._current
