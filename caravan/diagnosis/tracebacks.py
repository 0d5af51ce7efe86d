"""Python tracebacks out of a log's lines: frames, exception, chains; ranks that write between each other told apart.

Knows the forms of tracebacks (Python's own; those of notebooks and of rich, whose frames are told on as Python's) and
who only reports that another process failed; bounded however long the log is.
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
_IGNORED: Final = "Exception ignored "  # Python's words above what a program did not hear of
_STOPPED: Final = re.compile(r"KeyboardInterrupt|SystemExit")  # somebody ended it there, ignored or not
_IN: Final = '", line '
# These say only that a worker failed, or that it was told to stop; the worker's own traceback says why.
_WRAPPERS: Final = re.compile(
    r"^(?:[\w.]*\.)?(?:ChildFailedError|CalledProcessError|ProcessRaisedException|SignalException|KeyboardInterrupt"
    r"|SystemExit|BrokenPipeError|PapermillExecutionError|CellExecutionError)\b"
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
# As rich draws them, in a box; what was raised stands below it.
_BOX: Final = re.compile(r"^[╭┌+][─-]+ Traceback \(most recent call last\) [─-]+[╮┐+]$")
_BOXED: Final = re.compile(r"^[│|] ?(?P<text>.*?) *[│|]?$")
_BOXED_PLACE: Final = re.compile(r"^(?P<file>/\S+?):(?P<line>\d+)(?: in(?: (?P<function>\S+))?)?$")
_BOXED_ARROW: Final = re.compile(r"^[❱>] *\d+ (?P<source>.*)")
# As IPython writes them: `KeyError   Traceback (most recent call last)`, `Cell In[3], line 7`, `File x.py:7, in f(a)`.
_CELLS: Final = re.compile(r"^(?P<name>[A-Z]\w*) +Traceback \(most recent call last\)$")
_PLACE: Final = re.compile(
    r"^(?:(?P<cell>(?:Cell|Input) In ?\[\d+\]|<ipython-input-\d+-\w+>)|File (?P<file>[^\s:]+):(?P<at>\d+)"
    r"|(?P<old>/\S+\.py))(?:, line (?P<line>\d+)|,? in (?P<function>[^\s(]+).*|$)"
)
_ARROW: Final = re.compile(r"^-+> ?(?P<line>\d+)(?P<source>.*)")


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
    ignored: bool = False  # raised where nobody could hear of it: the program went on
    boxed: bool = False  # it is in rich's form, and its box is not over
    raises: str = ""  # in a notebook's form: what is raised, by its last name
    place: tuple[str, str, str] | None = None  # in these forms: file, line and function of a frame whose source follows

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

    def add_of_cells(self, line: str, text: str) -> None:
        """Take a line above or of the exception, in a notebook's form."""
        arrow, place = _ARROW.match(text), _PLACE.match(text)
        if place is not None:
            self._told()
            where = place["cell"] or place["file"] or place["old"]
            self.place = (where, place["at"] or place["line"] or "", place["function"] or "<module>")
        elif arrow is not None and self.place is not None:
            self.place = (self.place[0], arrow["line"], self.place[2])
            self._told(arrow["source"].strip())
        elif not line[:1].isspace() and re.match(rf"(?:[\w.]+\.)?{self.raises}(?::|$)", text):
            self._told()
            self.message.append(line)

    def add_of_box(self, text: str) -> None:
        """Take a line of the box that rich draws."""
        if text[:1] in "╰└":
            self.boxed = False
            self._told()
            return
        inner = boxed["text"].strip() if (boxed := _BOXED.match(text)) else ""
        if place := _BOXED_PLACE.match(inner):
            self._told()
            self.place = (place["file"], place["line"], place["function"] or "<module>")
        elif arrow := _BOXED_ARROW.match(inner):
            self._told(arrow["source"].strip("│ "))

    def _told(self, source: str = "") -> None:
        if self.place is not None and self.place[1]:
            self.add(f'  File "{self.place[0]}", line {self.place[1]}, in {self.place[2]}')
            if source:
                self.add(f"    {source}")
        self.place = None

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

    def is_ignored(self) -> bool:
        """Whether Python itself ignored it, and it does not say that somebody ended the program there."""
        last = self.parts[-1]
        return last.ignored and not any(_STOPPED.match(line) for line in last.message[:1])

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
    ignores: bool = False
    writer: str = ""


class Tracebacks:
    """Reads lines and keeps the chains, the first and the last few of different shapes."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._first: dict[str, Chain] = {}
        self._last: dict[str, Chain] = {}

    def read(self, writer: str, line: str, number: int, at: int) -> bool:
        """Take the line of that number; `at` is the caller's count of what shows that the training goes on.

        Returned is whether it belongs to an exception that Python itself ignored, which ends nothing.
        """
        if line.startswith(_IGNORED):
            self._stream(writer).ignores = True
            return False
        stream = self._streams.get(writer)
        if stream is not None and stream.ignores and HEADER not in line:
            stream.ignores = False  # what it ignored had no traceback: the next one is another's
        told = HEADER[:-1] in line or (stream is not None and (stream.open is not None or line.endswith(_CHAIN_ENDS)))
        if not told and not (_IN in line and _FRAME.match(line)):
            return False  # nearly every line
        stream = stream or self._stream(writer)
        text = line.strip()
        if text.startswith(HEADER):
            self._begin(stream)
        elif begun := _CELLS.match(text):
            self._begin(stream).raises = begun["name"]
        elif _BOX.match(text):
            self._begin(stream).boxed = True
        elif text in _CHAINED:
            stream.joins = True
            stream.open = None
        elif stream.open is not None:
            self._go_on(stream, line, text)
        elif _IN in line:  # its header was cut off
            self._begin(stream, implied=True)
            self._go_on(stream, line, text)
        else:
            return False
        stream.number, stream.at = number, at
        here = stream.open
        return here is not None and here.ignored and here.message in ([], [line]) and not _STOPPED.match(line)

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

    def _begin(self, stream: _Stream, *, implied: bool = False) -> Traceback:
        ignored = stream.ignores or (stream.joins and any(part.ignored for part in stream.current[-1:]))
        if not stream.joins:
            self._keep(stream)
        stream.joins = stream.ignores = False
        stream.open = begun = Traceback(implied=implied, ignored=ignored and not implied)
        stream.current.append(begun)
        if len(stream.current) > _CHAIN:  # the root and the latest tell it; handlers may recurse for ever
            del stream.current[1]
        return begun

    def _go_on(self, stream: _Stream, line: str, text: str) -> None:
        here = stream.open
        if here is None:
            return
        if here.boxed:
            here.add_of_box(text)
        elif here.raises and not here.ended:
            here.add_of_cells(line, text)
        elif not here.ended and (line[:1].isspace() or not text):
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
