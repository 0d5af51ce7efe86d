"""What a task wrote, boiled down: clean lines, the traceback that matters, the lines that name a trouble.

Logs may be megabytes long; what is worth reading of them (`logscan.py`) is read once, with bounded memory. What a log
says is data: nothing in it is followed.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from caravan.diagnosis.logscan import Troubles, chosen, unwrapped
from caravan.diagnosis.series import Series
from caravan.diagnosis.tracebacks import HEADER, Chain, Tracebacks
from caravan.values.escapes import without_escapes
from caravan.values.masking import mask

LINE_LIMIT: Final = 400  # characters of a line that is kept
LINES_LIMIT: Final = 60  # lines that are kept
_RAW_LINE: Final = 8192  # characters of a line that are looked at: no message needs more, a dumped tensor has megabytes
_TAIL: Final = 8  # last lines, whatever they say
_NAMED: Final = 5  # first and last lines that name a trouble
_TOLD: Final = 7  # first and last lines that show a cause
_TROUBLES: Final = 400  # first and last lines of trouble, each of its own shape, of which these are chosen
_OTHERS: Final = 4  # tracebacks besides the one that matters
_SHAPE: Final = 120  # characters that tell two lines of trouble apart, numbers left out
_GOES_ON: Final = 3  # losses logged after a trouble: the training lived through it

# `45%|####      | 45/100 [00:10<00:12, 4.5it/s]`, with or without a description before it.
_PROGRESS: Final = re.compile(r"\d{1,3}%\|[^|]{0,400}\|[^\[]{0,100}\[[^\]]{0,200}\]")
# What launchers and log drivers put before a line: a rank, an actor, mpirun's and srun's numbers, a time and stream.
_WRITER: Final = re.compile(
    r"\[(?:rank|default|worker|trainer)[-_ ]?\d+\]:?\s?|\([^()\n]{1,60}pid=\d+[^()\n]{0,60}\)\s?"
    r"|\[\d+,\d+\]<std(?:err|out)>:?\s?|(?:node|worker|rank|gpu)[-_]?\d+(?::\s|\s*\|\s)"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)\s(?:std(?:err|out) [FP] )?"
    r"|\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)\]\s|\[pod/[\w./-]{1,200}\]\s"
)
# Compose's: a container's name with its number, and a bar.
_COMPOSED: Final = re.compile(r"[A-Za-z][\w.-]{0,60}[-_]\d{1,3}\s{1,30}\|\s")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\S+|\d\d:\d\d:\d\d(?:[.,]\d+)?")  # differs from line to line
# What may stand before a traceback's header on every line of its writer.
_PREFIX: Final = re.compile(r"[\[(]?[\w.@-]{1,40}(?:[ ,/:][\w.@-]{1,40}){0,4}[\])]?\s?[:|>]\s{0,2}\Z")
_NUMBERS: Final = re.compile(r"\d+")
_WORDS: Final = re.compile(r"\w*\d\w*")  # numbers, and ids that hold one
_PREFIXES: Final = 16
# Armour: what opens it, what may stand above its body, and its body. A banner opens none.
_KEY_BEGINS: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9 ]{0,40}(?:PRIVATE|PUBLIC) KEY(?: BLOCK)?|[A-Z0-9 ]{0,40}CERTIFICATE(?: REQUEST)?"
    r"|PGP [A-Z ]{1,40}|[A-Z ]{0,40}PARAMETERS)-----(?!.*-----END )"
)
_KEY_HEADER: Final = re.compile(r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|MessageID): ")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_WORD: Final = re.compile(r"(?:[A-Z]?[a-z]{3,}|[A-Z]{4,}|[0-9]+)")
_KEY_LINE: Final = 60  # characters of a line of a key that is known by itself
_T = TypeVar("_T")


def _nothing(_: str) -> bool:
    return False


@dataclass
class LogDigest:
    """What is kept of a log: the chain of tracebacks that matters (root first), lines of trouble, the last lines.

    `others` are the ends of other tracebacks; the last lines come with those that tell how the losses went. What the
    training lived through is not kept as a trouble.
    """

    chain: tuple[tuple[str, ...], ...] = ()
    others: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()

    def decisive(self) -> tuple[str, ...]:
        """The lines that may tell the cause, at most 60, the traceback first. Each line once."""
        traceback = [line for part in (self.chain[:1] + self.chain[1:][-1:]) for line in part]
        rest = (*self.others, *self.trouble)[: LINES_LIMIT - len(traceback) - len(self.tail)]
        return tuple(dict.fromkeys((*traceback, *rest, *self.tail)))[:LINES_LIMIT]


def digest(log: bytes, secrets: Iterable[str] = (), telling: Callable[[str], bool] = _nothing) -> LogDigest:
    """Read a log once. Secrets are masked before anything is cut or kept; any bytes will do.

    `telling` says of a line that names a trouble whether it shows a cause: those go before all others.
    """
    known = tuple(secrets)
    tracebacks = Tracebacks()
    series = Series()
    tail: deque[tuple[int, str]] = deque(maxlen=_TAIL)
    troubles = _Ends(_TROUBLES)
    reader = _Reader()
    for number, writer, line, trouble in reader.lines(log):
        ignored = tracebacks.read(writer, line, number, series.seen)
        if ignored or not line or line.isspace():
            continue
        tail.append((number, line))
        small = line.lower() if "oss" in line or "OSS" in line else ""
        if "loss" in small and not small.startswith("wandb:") and series.read(number, line, small):
            continue
        if trouble:
            troubles.add(number, line, series.seen)

    def kept(lines: Iterable[str]) -> tuple[str, ...]:
        return tuple(_kept(line, known) for line in lines)

    alive = series.seen - _GOES_ON  # what came before this many losses were logged did not end the training
    chains = [chain for chain in tracebacks.chains() if chain.at > alive and not chain.is_ignored()]
    best = _root(chains)
    others = [c for c in chains if c is not best]
    named = troubles.lines(alive)
    many = len(named) > 2 * _NAMED  # fewer are kept all
    told = [line for line in named if telling(line)] if many else []
    return LogDigest(
        chain=tuple(kept(part.lines()) for part in best.parts) if best else (),
        others=kept(s for c in _ends(others, _OTHERS) for s in _end(c)),
        trouble=kept((*_ends(told, _TOLD), *_ends(named, _NAMED))),
        tail=kept(line for _, line in sorted({*series.lines(), *tail, *reader.bars()})),
    )


def _root(chains: Sequence[Chain]) -> Chain | None:
    """The chain that matters: of each writer the last one that is no echo of another's, of these the first in time."""
    last = {chain.writer: chain for chain in chains if not chain.is_wrapper() and not chain.is_echo()}
    if not last:
        last = {chain.writer: chain for chain in chains if not chain.is_wrapper()}
    return min(last.values(), key=lambda chain: chain.number, default=chains[-1] if chains else None)


def _ends(some: Sequence[_T], most: int) -> Sequence[_T]:
    """The first and the last few."""
    return some if len(some) <= 2 * most else (*some[:most], *some[-most:])


def _end(chain: Chain) -> list[str]:
    """A traceback in short: of its root, the last frame and the exception."""
    root = chain.parts[0]
    return [*list(root.frames)[-2:], *root.message[:1]]


class _Ends:
    """The first and the last few lines of different shapes, each as it came last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._first: dict[str, tuple[int, str, int]] = {}
        self._last: dict[str, tuple[int, str, int]] = {}

    def add(self, number: int, line: str, at: int) -> None:
        """Take a line of trouble; `at` as in `Tracebacks.read`."""
        shape = _WORDS.sub("0", line[:_SHAPE])
        if shape in self._first or len(self._first) < self._most:
            self._first[shape] = (number, line, at)
            return
        self._last.pop(shape, None)
        self._last[shape] = (number, line, at)
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]

    def lines(self, alive: int) -> list[str]:
        """The lines in order, without those from before the training went on."""
        both = sorted([*self._first.values(), *self._last.values()])
        return [line for _, line, at in both if at > alive]


def clean_lines(log: bytes) -> Iterator[str]:
    """The log's lines without escapes, progress bars and ranks' prefixes; of a redrawn line what was drawn last."""
    reader = _Reader()
    return (line for raw in log.split(b"\n") for part in unwrapped(raw) for _, line in reader.clean(part))


class _Reader:
    """Lines as they were meant: who wrote each, without what launchers, terminals and progress bars put around it."""

    def __init__(self) -> None:
        self._inside_key = False
        self._prefixes: list[re.Pattern[str]] = []
        self._bar = ""
        self._bar_at = self._line_at = -1

    def lines(self, log: bytes) -> Iterator[tuple[int, str, str, bool]]:
        """The lines of a log that are worth reading: place, writer, text, and whether it names a trouble."""
        troubles = Troubles()
        for start, raw in chosen(log):
            before = self._bar
            self._bar = ""
            trouble = troubles.named(raw)
            for number, part in enumerate(unwrapped(raw), start):  # each keeps its place among the others
                for writer, line in self.clean(part):
                    if line:
                        self._line_at = number
                    yield number, writer, line, trouble
            # One that tells a loss is not replaced by one that tells none: of another loop, or a download.
            newer = bool(self._bar) and ("loss" in self._bar or "loss" not in before)
            self._bar_at = start if newer else self._bar_at
            self._bar = self._bar if newer else before

    def bars(self) -> Iterator[tuple[int, str]]:
        """The last progress bar, as if it stood before the last line: where it is drawn says little."""
        if self._bar:
            yield min(self._bar_at, self._line_at - 1) if self._line_at >= 0 else self._bar_at, self._bar

    def _in_key(self, line: str) -> bool:
        """Whether a line belongs to a key or a certificate: ends with the first that can't, whatever began it."""
        text = line.strip()
        full = len(text) >= _KEY_LINE and _BASE64.fullmatch(text) is not None and _is_mixed(text)
        if full:
            self._inside_key = True
            return True
        body = _BASE64.fullmatch(text) is not None and _WORD.fullmatch(text) is None
        self._inside_key = self._inside_key and (not text or body or _KEY_HEADER.match(text) is not None)
        return self._inside_key

    def clean(self, raw: bytes) -> Iterator[tuple[str, str]]:
        """A raw line's clean ones, each with who wrote it where a prefix says so."""
        line = raw.rstrip(b"\r").rpartition(b"\r")[2][:_RAW_LINE].decode("utf-8", "replace")
        if not line.isprintable():
            line = without_escapes(line)
        line = line.rstrip()
        writer, line = _writer(line, self._prefixes)
        # The lines inside a key look like nothing on their own, so they go before lines are told apart.
        if (self._inside_key or len(line) >= _KEY_LINE) and self._in_key(line):
            return
        if "-----BEGIN " in line:
            self._inside_key = _KEY_BEGINS.search(line) is not None
        bar = "%|" in line
        if bar:
            self._bar, line = _without_bars(line)
            if not line or (line.endswith(":") and HEADER not in line):
                return
        before, header, after = line.partition(HEADER)
        if header and before.strip():
            if not bar and _PREFIX.match(before) and len(self._prefixes) < _PREFIXES:
                writer = _TIME.sub("", before).strip()
                self._prefixes.append(_learnt(before))
            else:
                yield writer, before.rstrip()  # a progress bar leaves no line break behind it
            line = header + after
        yield writer, line


def _is_mixed(text: str) -> bool:
    """Whether a text holds small and capital letters and digits, as keys in base64 do; a path and a digest don't."""
    lower, upper = text.lower() != text, text.upper() != text
    return lower and upper and text[0] != "/" and any(c.isdigit() for c in text)


def _without_bars(line: str) -> tuple[str, str]:
    """The last progress bar of a line, and the line without any."""
    last = ""
    for match in _PROGRESS.finditer(line):
        last = match[0]
    return last, _PROGRESS.sub("", line).strip()


def _writer(line: str, learnt: Iterable[re.Pattern[str]]) -> tuple[str, str]:
    """A line's prefix, as a name for who wrote it, and the line without it."""
    match = _WRITER.match(line) if line[:1] in _STARTS else None
    if match is None and " | " in line[:_COMPOSE]:
        match = _COMPOSED.match(line)
    if match is None:
        match = next((found for prefix in learnt if (found := prefix.match(line))), None)
    if match is None:
        return "", line
    return _TIME.sub("", match[0]).strip(), line[match.end() :]


def _learnt(before: str) -> re.Pattern[str]:
    """What was found before a traceback's header, as the prefix of all lines of that writer: numbers may differ."""
    return re.compile(r"\d+".join(re.escape(part) for part in _NUMBERS.split(before)))


_COMPOSE: Final = 96  # characters in which a container's name and its bar stand
_STARTS: Final = frozenset("[(0123456789nwrg")


def shortened(line: str) -> str:
    """At most `LINE_LIMIT` characters of a line: its beginning; of a container runtime's also its end.

    Runtimes tell what they heard from each other in one line, each in the words of the one before: the cause is last.
    """
    if len(line) <= LINE_LIMIT:
        return line
    if "OCI runtime" in line and "nvidia-container-" in line:
        return f"{line[: LINE_LIMIT // 2]}…{line[1 - LINE_LIMIT // 2 :]}"
    return line[: LINE_LIMIT - 1] + "…"


def _kept(line: str, known: tuple[str, ...]) -> str:
    return shortened(mask(line, known))
