"""The keyboard of a terminal while nobody is asked: what is typed is not shown and answers no later question."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


def in_foreground(stream: TextIO) -> bool:
    """Whether this process may draw on the terminal behind a stream: the shell has not put it into the background."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # no terminal with job control: nobody can have put us there
        return True


@contextlib.contextmanager
def silent_keys(stream: TextIO) -> Iterator[None]:
    """Typed keys are not echoed, for they would disturb a picture, and are thrown away at the end. Ctrl-C works."""
    import termios

    try:
        number = stream.fileno()
        before = termios.tcgetattr(number)
    except (OSError, ValueError, termios.error):
        yield  # not a terminal
        return
    if not in_foreground(stream):
        yield
        return
    silent = before[:]
    silent[3] = before[3] & ~termios.ECHO
    with contextlib.suppress(termios.error):
        termios.tcsetattr(number, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            if in_foreground(stream):
                termios.tcsetattr(number, termios.TCSAFLUSH, before)
