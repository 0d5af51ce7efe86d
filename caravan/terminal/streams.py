"""The terminal as the commands see it: three streams, who sits before them, and what is written where.

Results go to stdout, dialogue, progress and errors to stderr. It knows nothing of runs, plans or clusters.
"""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from caravan.terminal.text import clean

if TYPE_CHECKING:
    from caravan.values.base import Json


@dataclass
class Terminal:
    """Where a command reads and writes.

    `interactive`: a person can answer on stdin and reads stderr. `exit_code` and `run_id` are what the command has
    come to so far: they stand when writing the result fails, and go into the document of an error.
    """

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    interactive: bool = False
    exit_code: int = 0
    run_id: str | None = field(default=None)

    def out(self, text: str = "") -> None:
        """A text of ours, or one that was cleaned, on stdout as lines."""
        print(text, file=self.stdout)

    def err(self, text: str = "") -> None:
        """Like `out`, on stderr. That nobody reads it, or that the terminal is gone, is no reason to stop working."""
        with contextlib.suppress(OSError):
            print(text, file=self.stderr, flush=True)

    def raw(self, text: str) -> None:
        """A foreign text of any length on stdout, cleaned; it ends with a line break."""
        text = clean(text)
        self.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")

    def document(self, value: Json) -> None:
        """The one JSON document of a command, in ASCII, so that it harms no terminal and fits every encoding."""
        import json

        print(json.dumps(_finite(value), indent=2, allow_nan=False), file=self.stdout)

    def read(self, prompt: str) -> str:
        """A line that the person types, without the blanks around it. Raises EOFError at the input's end (Ctrl-D)."""
        self.stderr.write(prompt)
        self.stderr.flush()
        line = self.stdin.readline()
        if not line:
            raise EOFError
        return line.strip()

    def read_hidden(self, prompt: str) -> str:
        """A line that the person types unseen, where stdin is a terminal; else as it is. Raises EOFError at the end."""
        import getpass

        if self.stdin is sys.stdin and self.stdin.isatty():
            return getpass.getpass(prompt, self.stderr)
        self.stderr.write(prompt)
        self.stderr.flush()
        line = self.stdin.readline()
        if not line:
            raise EOFError
        return line


def system_terminal() -> Terminal:
    """The process's own streams. What their encoding can't write is escaped instead of failing."""
    # A stream that the caller has closed is None; then nothing is read and what is written goes nowhere.
    stdin, stdout, stderr = (stream or io.StringIO() for stream in (sys.stdin, sys.stdout, sys.stderr))
    for stream, errors in ((stdin, "replace"), (stdout, "backslashreplace"), (stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    return Terminal(stdin, stdout, stderr, interactive=stdin.isatty() and stderr.isatty())


def _finite(value: Any) -> Any:
    """JSON has no infinities: they become texts."""
    import math

    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
