"""Where supervisors come from: `python -m caravan.cluster.local.nursery FD`. Stands alone.

A process that has loaded a supervisor's code once and forks one for each run: that takes a millisecond and little
memory, where an interpreter of its own takes a tenth of a second and fourteen MiB. It reads messages from the socket
FD: a run's folder, and with it the open lock that says that the run's supervisor lives. It ends when the cluster's
process does; the supervisors go on.

No import of ours but the supervisor.
"""

import gc
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from caravan.cluster.local.executor import Supervisor, write_json

MAX_MESSAGE = 1 << 16


def _supervise(folder: Path) -> None:
    """In the child: be the supervisor of that run. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(folder / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        Supervisor(folder).run()
        code = 0
    finally:
        if code:  # the last that a process does: it tells its log what went wrong, whatever it is
            os.write(2, traceback.format_exc().encode(errors="replace"))
        os._exit(code)


def _born(folder: Path, channel: socket.socket) -> None:
    try:
        child = os.fork()
    except OSError as error:
        now = time.time_ns()
        said = f"no supervisor can be started: {error.strerror}"
        state = {"pid": None, "started": None, "finished": now, "error": said, "oom": False}
        write_json(folder / "state.json", state)
        return
    if not child:
        channel.close()
        _supervise(folder)


def main(arguments: list[str]) -> int:
    """Fork supervisors until the socket closes."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    channel = socket.socket(fileno=int(arguments[0]))
    gc.freeze()  # a collection in a child would touch, and so copy, what it shares with us
    while True:
        told, locks, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
        if not told:
            return 0
        _born(Path(os.fsdecode(told)), channel)
        for lock in locks:
            os.close(lock)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
