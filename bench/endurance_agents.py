"""Agents that can be started and killed by the hundred: the product's command line in forked processes of their own.

The libraries are loaded once, before the first fork; an agent is a process with its own session, environment and files,
and SIGKILL ends it as it would any other. It judges nothing.
"""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config import prepare_third_party_environment

ROOT = Path(__file__).resolve().parent.parent
_NEEDED = (
    "caravan.terminal.driving", "caravan.agent.driver", "caravan.runs.store", "caravan.cluster.nomad", "observability",
    "caravan.cluster.watch", "alembic.command", "mem0", "wordllama", "qdrant_edge",
)  # fmt: skip
_LOOK_S = 0.005


class Agent:
    """`main.py WORDS` in a process of its own. `before` is called in it before it begins."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        place: Path,
        before: Callable[[], None] | None = None,
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.out, self.err = place / "out", place / "err"
        self.code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(words, environment, before)

    def _become(self, words: Sequence[str], environment: Mapping[str, str], before: Any) -> None:
        code = 70
        try:
            os.setsid()
            for number, path, flags in (
                (0, Path(os.devnull), os.O_RDONLY),
                (1, self.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                (2, self.err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ):
                os.dup2(os.open(path, flags, 0o600), number)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(ROOT)
            sys.argv = ["main.py", *words]
            if before is not None:
                before()
            import main

            code = main.main(words)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self) -> bool:
        """Whether it has ended; then `code` is its exit code, negative by a signal."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, until: Callable[[], bool] | None = None, limit_s: float = 600.0) -> bool:
        """Wait for its end, or until something is so; whether it has ended. After `limit_s` it hangs, and is killed."""
        end = time.monotonic() + limit_s
        while not self.ended():
            if until is not None and until():
                return False
            if time.monotonic() > end:
                self.kill()
                return True
            time.sleep(_LOOK_S)
        return True

    def kill(self) -> bool:
        """SIGKILL; whether it was still alive."""
        if self.ended():
            return False
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code == -signal.SIGKILL

    def said(self) -> str:
        """What it told meanwhile."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""


def load(place: Path) -> None:
    """Load what a run needs, so that forks have it. Raises SystemExit where a library has begun a Python thread.

    `place`: where libraries may write.
    """
    prepare_third_party_environment(place)
    for name in _NEEDED:
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise SystemExit("a library starts threads while it is loaded: agents can't be forked")
