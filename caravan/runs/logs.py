"""Copies of task logs: masked line by line, bounded, with an account of what has been copied that survives a crash.

Beside each copy lies an account: how many bytes of the task's log are in it as finished lines, and how long it was
then. The account is replaced after the copy was written. After a crash between the two the copy is cut back to
the account and the caller fetches again from there: no byte twice, none lost. The unfinished last line stands in the
copy as far as it can't be the beginning of a secret, and is written anew when more of it comes; it is kept in memory
alone, because the account must not hold a secret either.

Of a log that grows without end the first half of what may be kept stays (`x.log`); the rest goes into parts
(`x.000001.log`, ...) of which the last two stay, and `x.000000.log` says how much is missing before them. Each part is
only ever appended to, so that whoever follows the copy never reads a line twice.

It must not know where logs come from.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from caravan.runs.files import make_folder, write_file
from caravan.values.escapes import without_escapes
from caravan.values.log_marks import is_marked
from caravan.values.masking import HINTS, MASK, forms, mask, unhinted

MAX_LINE: Final = 1 << 14
"""Bytes of a line that are kept. What is longer is cut, and the copy says by how much."""

_PART: Final = re.compile(r"(.+)\.(\d{6})\.log$")
_KEY_EDGE: Final = re.compile(rb"-----(BEGIN|END) [A-Z ]{0,40}PRIVATE KEY-----")
_EDGE_LENGTH: Final = 80  # bytes; more than such a line has
_KEY_LINES: Final = 200  # no private key in PEM form is longer; a stray BEGIN must not hide the rest of a log
_FILLER: Final = "A1" * 20  # continues any secret that is known by its shape
_TELLING: Final = 4  # so many first characters of a known secret are held back at the end of an unfinished line


@dataclass(frozen=True)
class _Account:
    """`raw`: bytes of the task's log copied as finished lines; `written`: the length of the copy's last part then.

    `part` is the number of that part, 0 the first half; `head` is where in the log part 0 ended, `before` and `start`
    where the last but one and the last part begin.
    """

    raw: int = 0
    written: int = 0
    number: int = 0
    in_key: int = 0
    part: int = 0
    head: int = 0
    before: int = 0
    start: int = 0


@dataclass
class _Line:
    """The line that is being read: its first bytes, how many more there were, and where it began in the log.

    `edge` is the last edge of a private key in all of it, b"BEGIN" or b"END"; `last` its last bytes.
    """

    raw: int
    kept: bytes = b""
    left_out: int = 0
    edge: bytes = b""
    last: bytes = b""

    def add(self, data: bytes) -> None:
        window = self.last + data
        for found in _KEY_EDGE.finditer(window):
            self.edge = found[1]
        self.last = window[-_EDGE_LENGTH:]
        taken = data[: MAX_LINE - len(self.kept)]
        self.kept += taken
        self.left_out += len(data) - len(taken)

    @property
    def size(self) -> int:
        return len(self.kept) + self.left_out


class LogCopies:
    """The copies in one folder. `secrets` are values known to be secret. All methods may raise OSError.

    `limit`: bytes that are kept of a log, roughly.
    """

    def __init__(self, folder: Path, secrets: Sequence[str] = (), *, limit: int = 64_000_000) -> None:
        self._folder = folder
        self._quarter = max(limit // 4, 1)
        self._known = forms(tuple(secrets))
        self._known_lower = tuple(secret.lower() for secret in self._known)
        self._open: dict[str, _Line] = {}

    def append(self, name: str, data: bytes) -> None:
        """Append what follows after `size(name)` bytes of the log."""
        account = self._account(name)
        line = self._unfinished(name, account)
        # A carriage return ends a line too: progress bars use nothing else.
        end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))
        done, in_key = b"", account.in_key
        if end:
            done, in_key = self._lines(line, data[:end], in_key)
            line = _Line(raw=line.raw + line.size + end)
        line.add(data[end:])
        self._write(name, replace(account, raw=line.raw, in_key=in_key), done, self._shown_so_far(line, in_key))
        self._open[name] = line

    def _lines(self, begun: _Line, data: bytes, in_key: int) -> tuple[bytes, int]:
        """Finished lines as the copy shows them, and how many lines of a private key came before the next one.

        `data` ends with a line's end and goes on with the line that was `begun`, which stays as it is.
        """
        lines = data.splitlines(keepends=True)
        suspects = self._suspects(_text(begun.kept + data))
        small = not begun.left_out and max(len(begun.kept) + len(lines[0]), *map(len, lines)) <= MAX_LINE
        if small and not suspects and not in_key:
            return begun.kept + data, 0  # nearly all logs; line by line it would take a hundred times as long
        done = bytearray()
        line = replace(begun)
        for whole in lines:
            text = whole.rstrip(b"\r\n")
            line.add(text)
            shown, in_key = self._finished(line, in_key, suspects)
            done += shown + whole[len(text) :]
            line = _Line(raw=0)
        return bytes(done), in_key

    def _suspects(self, text: str) -> tuple[str, ...]:
        """What in a text may belong to a secret, in lower case: only lines that hold some of it need masking."""
        plain = without_escapes(text)
        lower = plain.lower()
        return tuple(word for word in (*HINTS, *self._known_lower, *unhinted(plain)) if word in lower)

    def size(self, name: str) -> int:
        """How many bytes of the log are in the copy, before masking."""
        account = self._account(name)
        return account.raw + self._unfinished(name, account).size

    def files(self) -> tuple[Path, ...]:
        """The copies in the order in which they were begun, each with its parts in theirs."""
        if not self._folder.is_dir():
            return ()
        whole: dict[str, list[str]] = {}
        for path in self._folder.glob("*.log"):
            part = _PART.match(path.name)
            whole.setdefault(f"{part[1]}.log" if part else path.name, []).append(path.name)
        order = sorted(whole, key=lambda n: (self._account(n).number, n))
        return tuple(self._folder / part for name in order for part in sorted(whole[name], key=_place))

    def _part(self, name: str, part: int) -> Path:
        return self._folder / (f"{name.removesuffix('.log')}.{part:06d}.log" if part else name)

    def _account_path(self, name: str) -> Path:
        return self._folder / f".{name}.account"

    def _account(self, name: str) -> _Account:
        """The account as saved; a new one when there is none, it is damaged, or says more than the copy holds."""
        try:
            account = _Account(**json.loads(self._account_path(name).read_bytes()))
            whole = account.written <= self._part(name, account.part).stat().st_size
        except (FileNotFoundError, ValueError, TypeError):
            whole = False
        return account if whole else _Account(number=self._next_number())

    def _next_number(self) -> int:
        return len(list(self._folder.glob(".*.account"))) + 1

    def _unfinished(self, name: str, account: _Account) -> _Line:
        """The line being read, unless somebody else has written the account since."""
        line = self._open.get(name)
        return line if line is not None and line.raw == account.raw else _Line(raw=account.raw)

    def _write(self, name: str, account: _Account, done: bytes, so_far: bytes) -> None:
        make_folder(self._folder)
        if not account.part and not account.written:
            self._remove_parts(name)  # of a copy whose account was lost
        self._put(self._part(name, account.part), account.written, done + so_far)
        saved = replace(account, written=account.written + len(done))
        if saved.written >= self._quarter * (1 if saved.part else 2):
            self._put(self._part(name, saved.part), saved.written, b"")
            saved = self._next_part(name, saved, so_far)
        if done or not self._account_path(name).exists():
            # Not forced to the disk: if the machine dies, the account is at worst older than the copy.
            write_file(self._account_path(name), json.dumps(vars(saved)).encode(), durable=False)

    def _next_part(self, name: str, account: _Account, so_far: bytes) -> _Account:
        """Begin another part, and remove one so that the first and the last two are left. Repeated without harm."""
        part = account.part + 1
        opened = replace(account, part=part, written=0, before=account.start, start=account.raw)
        if part == 1:
            opened = replace(opened, head=account.raw)
        self._put(self._part(name, part), 0, so_far)
        if part > 2:
            missing = opened.before - opened.head
            note = f"[{missing} bytes of the log are left out here: CARAVAN_MAX_LOG_MB bounds what is kept]\n"
            write_file(self._folder / f"{name.removesuffix('.log')}.000000.log", note.encode(), durable=False)
            self._part(name, part - 2).unlink(missing_ok=True)
        return opened

    def _remove_parts(self, name: str) -> None:
        for path in self._folder.glob(f"{name.removesuffix('.log')}.[0-9]*.log"):
            if _PART.match(path.name):
                path.unlink()

    @staticmethod
    def _put(path: Path, at: int, data: bytes) -> None:
        """Let the file end with `data` after its first `at` bytes."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b") as copy:
            copy.truncate(at)
            copy.seek(at)
            copy.write(data)

    def _finished(self, line: _Line, in_key: int, suspects: tuple[str, ...]) -> tuple[bytes, int]:
        """A finished line as the copy shows it, and how many lines of a private key came before the next line."""
        text = _text(line.kept)
        if in_key and not text:
            return b"", in_key
        starts_key = 1 if line.edge == b"BEGIN" else 0
        if is_marked(text) and not line.left_out:
            return line.kept, in_key  # a stray BEGIN must not hide what is the training's and what is not
        if in_key:
            over = line.edge == b"END" or in_key >= _KEY_LINES
            return MASK.encode(), starts_key or (0 if over else in_key + 1)
        lower = without_escapes(text).lower()
        if not line.left_out and not any(word in lower for word in suspects):
            return line.kept, 0
        if line.left_out:
            return _bytes(f"{self._safe(text)} [{line.left_out} bytes left out]"), starts_key
        return _bytes(self._masked(text)), starts_key

    def _shown_so_far(self, line: _Line, in_key: int) -> bytes:
        if not line.kept:
            return b""
        return MASK.encode() if in_key else _bytes(self._safe(_text(line.kept)))

    def _masked(self, text: str) -> str:
        """A text with its secrets masked, without its escape sequences where they stand inside a secret."""
        shown, plain = mask(text, self._known), mask(without_escapes(text), self._known)
        return shown if without_escapes(shown) == plain else plain

    def _safe(self, text: str) -> str:
        """A text that goes on, masked; an ending that may be the first half of a secret is masked too."""
        plain = without_escapes(text)
        shown = self._so_far(plain)
        return shown if text == plain or shown != plain else self._so_far(text)

    def _so_far(self, text: str) -> str:
        held = min((len(text) - n for n in self._begun_secrets(text)), default=len(text))
        text, cut = text[:held], held < len(text)
        shown = mask(text, self._known)
        for ending in ("", "@"):  # a password in a URL is known by the sign that follows it
            probe = mask(text + _FILLER + ending, self._known)
            if probe not in (shown, shown + _FILLER + ending):
                return _common(shown, probe).removesuffix(MASK) + MASK
        return shown + MASK if cut else shown

    def _begun_secrets(self, text: str) -> Iterator[int]:
        """For each known secret with which the text may end: how much of it stands there."""
        for secret in self._known:
            for n in range(min(len(secret) - 1, len(text)), _TELLING - 1, -1):
                if text.endswith(secret[:n]):
                    yield n
                    break


def _place(name: str) -> int:
    """The place of a file among those of one log: the first half, what is missing, the parts."""
    part = _PART.match(name)
    return int(part[2]) if part else -1


def _common(a: str, b: str) -> str:
    """The beginning that both texts share."""
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


def _text(data: bytes) -> str:
    """Bytes as text from which the same bytes come back, whatever they are."""
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
