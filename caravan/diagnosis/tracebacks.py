"""Python tracebacks out of a log's lines: frames, exception, chains; ranks that write between each other told apart.

Knows the form of tracebacks and who only reports that another process failed; bounded however long the log is.
"""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

HEADER: Final = "Traceback (most recent call last):"
_FRAMES: Final = 6  # lines of a traceback above its exception: three frames, each with its source line
_MESSAGE: Final = 4  # lines of an exception's own message; more would be what is written after it
_CHAIN: Final = 8  # tracebacks of one chain
_KEPT: Final = 5  # chains that are kept from the beginning, and as many from the end
_STREAMS: Final = 256

_CHAINED: Final = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_CHAIN_ENDS: Final = tuple(text.rpartition(" ")[2] for text in _CHAINED)
_EXCEPTION: Final = re.compile(r"^[A-Za-z_][\w.]*(?::|$)")
_RAISED: Final = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning|OutOfMemory\w*)\b(?::|$)"
)
_IN: Final = '", line '
# These say only that a worker failed, or that it was told to stop; the worker's own traceback says why.
_WRAPPERS: Final = re.compile(
    r"^(?:[\w.]*\.)?(?:ChildFailedError|CalledProcessError|ProcessRaisedException|SignalException|KeyboardInterrupt"
    r"|SystemExit|BrokenPipeError)\b"
)
# These are what others hear of a process that ended by its own fault.
_ECHOES: Final = re.compile(
    r"DistBackendError|DistNetworkError|NCCL|[Gg]loo|[Ww]atchdog|[Cc]onnection (?:reset|closed|aborted)|Broken pipe"
    r"|[Cc]losed by peer|HorovodInternalError|ConnectionResetError|DataLoader worker .* exited unexpectedly"
)
_FRAME: Final = re.compile(r"\s*File \"(?P<file>[^\"]*)\", line (?P<line>\d+)(?:, in (?P<function>\S+))?")
# What is installed, and what starts it; everything else is the repository's.
_INSTALLED: Final = re.compile(
    r"(?:site|dist)-packages/|/lib(?:64)?/python\d|^<|/bin/[^/]+$|\.cache/huggingface/|[/\\]importlib[/\\]|/runpy\.py$"
)
_NUMBERS: Final = re.compile(r"\d+")


def own_frame(line: str) -> re.Match[str] | None:
    """A traceback's frame in code that is not installed, with its `file`, `line` and `function`."""
    match = _FRAME.match(line)
    return match if match is not None and not _INSTALLED.search(match["file"]) else None


@dataclass
class Traceback:
    """A traceback: its frames (the last ones, and the last in code that is not installed), its exception's lines."""

    frames: deque[str] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    message: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    implied: bool = False  # no header stood above it

    @property
    def ended(self) -> bool:
        """Whether its exception was read."""
        return bool(self.message)

    def lines(self) -> list[str]:
        """Frames, then the exception."""
        above = [s for s in self.own if s] if self.own and self.own[0] not in self.frames else []
        return [*above, *self.frames, *self.message]

    def add(self, line: str) -> None:
        """Take a line above the exception."""
        self.frames.append(line)
        if own_frame(line):
            self.own = [line]
        elif len(self.own) == 1 and not _FRAME.match(line):
            self.own.append(line)
        elif len(self.own) == 1:
            self.own.append("")

    def is_wrapper(self) -> bool:
        """Whether it only reports another process's failure."""
        return bool(self.message) and bool(_WRAPPERS.match(self.message[0]))


@dataclass
class Chain:
    """Tracebacks of which each was raised while the one before was handled.

    `number` is the line where it (or its latest like) ended, `at` the caller's count there.
    """

    parts: list[Traceback]
    number: int = 0
    at: int = 0
    writer: str = ""

    def is_echo(self) -> bool:
        """Whether it is what a process says that has lost another one."""
        last = self.parts[-1].message
        return bool(last) and bool(_ECHOES.search(last[0]))

    def is_wrapper(self) -> bool:
        """Whether all of it only reports another process's failure."""
        return all(part.is_wrapper() for part in self.parts)

    def shape(self) -> str:
        """What the same failure in another rank has too."""
        return _NUMBERS.sub("0", " ".join(part.message[0] for part in self.parts if part.message))


@dataclass
class _Stream:
    """What one writer is in the middle of."""

    open: Traceback | None = None
    current: list[Traceback] = field(default_factory=list)
    number: int = 0
    at: int = 0
    joins: bool = False
    writer: str = ""


class Tracebacks:
    """Reads lines and keeps the chains, the first and the last few of different shapes."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._first: dict[str, Chain] = {}
        self._last: dict[str, Chain] = {}

    def read(self, writer: str, line: str, number: int, at: int) -> None:
        """Take the line of that number; `at` is the caller's count of what shows that the training goes on."""
        stream = self._streams.get(writer)
        told = HEADER in line or (stream is not None and (stream.open is not None or line.endswith(_CHAIN_ENDS)))
        if not told and not (_IN in line and _FRAME.match(line)):
            return  # nearly every line
        stream = stream or self._stream(writer)
        text = line.strip()
        if text.startswith(HEADER):
            self._begin(stream)
        elif text in _CHAINED:
            stream.joins = True
            stream.open = None
        elif stream.open is not None:
            self._go_on(stream, line, text)
        elif _IN in line:  # its header was cut off
            self._begin(stream, implied=True)
            self._go_on(stream, line, text)
        else:
            return
        stream.number, stream.at = number, at

    def chains(self) -> list[Chain]:
        """The chains that were kept, in the order in which they ended."""
        for stream in self._streams.values():
            self._keep(stream)
        self._streams.clear()
        return sorted([*self._first.values(), *self._last.values()], key=lambda chain: chain.number)

    def _stream(self, writer: str) -> _Stream:
        if writer not in self._streams and len(self._streams) >= _STREAMS:
            writer = ""
        return self._streams.setdefault(writer, _Stream(writer=writer))

    def _begin(self, stream: _Stream, *, implied: bool = False) -> None:
        if not stream.joins:
            self._keep(stream)
        stream.joins = False
        stream.open = Traceback(implied=implied)
        stream.current.append(stream.open)
        if len(stream.current) > _CHAIN:  # the root and the latest tell it; handlers may recurse for ever
            del stream.current[1]

    def _go_on(self, stream: _Stream, line: str, text: str) -> None:
        here = stream.open
        if here is None:
            return
        if not here.ended and (line[:1].isspace() or not text):
            if text:
                here.add(line)
        elif not here.ended and here.implied and not _RAISED.match(text):
            stream.open = None  # frames that somebody prints without an exception
            stream.current.remove(here)
        elif not here.ended:
            here.message.append(line)
            if not _EXCEPTION.match(text):
                stream.open = None  # something else wrote into the traceback: keep the line, expect no more
        elif text and len(here.message) < _MESSAGE:
            here.message.append(line)
        else:
            stream.open = None

    def _keep(self, stream: _Stream) -> None:
        chain = Chain(stream.current, stream.number, stream.at, stream.writer)
        stream.current = []
        shape = chain.shape()
        if not chain.parts:
            return
        if shape in self._first:  # the same again: what it says is kept, and that it came again
            self._first[shape].number, self._first[shape].at = chain.number, chain.at
            return
        if len(self._first) < _KEPT:
            self._first[shape] = chain
            return
        self._last.pop(shape, None)
        self._last[shape] = chain
        if len(self._last) > _KEPT:
            del self._last[next(iter(self._last))]
