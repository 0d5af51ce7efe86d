"""Starting the product from a bench: its environment, a whole command, the built-in cluster, and what each took."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Spent(NamedTuple):
    """What one command took, in milliseconds: of the processor (its ended children's included), and on the wall."""

    processor_ms: float
    wall_ms: float


def environment(home: str | Path, **more: str) -> dict[str, str]:
    """This process's environment over another state directory.

    Byte code is kept: else each process would compile anew what is ours, and that would be timed.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "CARAVAN_HOME": str(home), "CARAVAN_LOOK_UP": "0", **more}


def spent(arguments: Sequence[str], environment: dict[str, str]) -> Spent:
    """What a Python process with these arguments takes; it must succeed."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return Spent(1000 * (used.ru_utime + used.ru_stime), 1000 * wall)


def told(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What such a process printed; it must succeed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:4])} ended with {done.returncode}:\n{done.stderr}")
    return done


@contextmanager
def own_cluster(environment: dict[str, str], *, start: bool = True) -> Iterator[None]:
    """The built-in cluster of that state directory, started before (or by what is run within) and ended after."""
    if start:
        told(["main.py", "cluster", "up", "--json"], environment)
    try:
        yield
    finally:
        command = [sys.executable, "main.py", "cluster", "down"]
        subprocess.run(command, cwd=ROOT, env=environment, check=False, stdout=subprocess.DEVNULL)
