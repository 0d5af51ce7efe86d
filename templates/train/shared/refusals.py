"""How a script says that its input is at fault: one line on stderr that people and programs read, exit code 2.

    caravan-train: KIND: FILE:LINE: text

The text never holds what a row of the data says.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

INPUT = 2  # exit code: what was given can't be trained on
STOPPED = 143  # exit code: ended by SIGTERM, after a checkpoint
FAILED = 1

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)


class Refused(Exception):
    """What was given can't be trained on. `kind` is one word for programs, `line` counts from 1."""

    def __init__(self, kind: str, text: str, file: object = "", line: int | None = None) -> None:
        super().__init__(text)
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        self.kind, self.line = kind, f"caravan-train: {kind}: {place}{text}"


class Diverged(Exception):
    """The training has lost its numbers."""


def note(text: str) -> None:
    """A remark for a person, on stderr, from the first process alone."""
    if os.environ.get("RANK", "0") == "0":
        print(f"caravan-train: note: {text}", file=sys.stderr, flush=True)


def run(main: Callable[[], int]) -> int:
    """The exit code of a script. A refusal becomes its line; any other error keeps its traceback."""
    try:
        return main()
    except Refused as refused:
        print(refused.line, file=sys.stderr, flush=True)
        return INPUT
    except Diverged as diverged:
        print(f"caravan-train: diverged: {diverged}", file=sys.stderr, flush=True)
        return FAILED


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Around what writes below a folder: no room and no permission are refusals of their own."""
    try:
        yield
    except OSError as error:
        refuse_output(error, folder)
        raise
    except RuntimeError as error:  # torch and safetensors tell no number, only words
        if "No space left" in str(error) or "PytorchStreamWriter failed" in str(error):
            raise Refused("disk_full", "no room is left to write the output", folder) from error
        raise
    except Exception as error:
        if type(error).__name__ == "SafetensorError" and "os error 28" in str(error):
            raise Refused("disk_full", "no room is left to write the output", folder) from error
        raise


def refuse_output(error: OSError, folder: Path) -> None:
    """Raise Refused for an error that says there is no room or no permission; else nothing."""
    if error.errno in FULL:
        raise Refused("disk_full", "no room is left to write the output", folder) from error
    if error.errno in CLOSED:
        raise Refused("output_unwritable", f"can't be written: {error.strerror}", error.filename or folder) from error
