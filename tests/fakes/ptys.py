"""A command in a pseudo-terminal, before which a test sits: it types, and waits for what it wants to see."""

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.fakes.screens import Screen

# Takes the terminal on stdin as its own, so that Ctrl-C reaches it, also where the tests were started in the background
# (a shell lets those ignore it), and becomes the command.
_BECOME = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); os.setsid();"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
_PATIENCE_S = 300.0  # for a machine under heavy load; whoever waits longer waits for ever


class Sitting:
    """A Python command in a terminal of `columns` × `rows`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        columns: int = 100,
        rows: int = 30,
    ) -> None:
        self.screen = Screen(columns, rows)
        self.raw = b""
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BECOME, *argv],
            cwd=cwd,
            env={**environment, "TERM": "xterm-256color"},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def until(self, seen: Callable[["Sitting"], bool]) -> None:
        """Read on until it is seen."""
        end = time.monotonic() + _PATIENCE_S
        while not seen(self):
            ended = self._process.poll() is not None
            if not self._read(1.0):
                assert not ended, f"it ended before that; there is:\n{self.text()}"
            assert time.monotonic() < end, f"this never came; there is:\n{self.text()}"

    def until_text(self, text: str) -> None:
        """Read on until the text stands on the screen."""
        self.until(lambda s: text in "\n".join(s.screen.rows()))

    def end(self) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None or select.select([self._master], [], [], 0)[0]:
            self._read(0.1)
            assert time.monotonic() < end, f"it does not end; there is:\n{self.text()}"
        return self._process.returncode

    def text(self) -> str:
        """Everything that was on the screen and stayed."""
        return "\n".join(self.screen.everything())

    @property
    def echoes(self) -> bool:
        """Whether typed keys are shown."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def close(self) -> None:
        """End the command, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        data = os.read(self._master, 1 << 16)
        self.raw += data
        self.screen.write(data.decode("utf-8", "replace"))
        return True
