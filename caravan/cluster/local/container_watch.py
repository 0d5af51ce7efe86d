"""What stands for a container where tasks are processes: `python -m caravan.cluster.local.container_watch URL NAME`.

A task's supervisor runs it as the task's command. It says what the container says, hands on the signals that it gets,
and ends with the container's exit code. It neither makes nor removes the container: the cluster does.
"""

import os
import signal
import sys
import threading

from caravan.cluster.local.containers import Daemon, DaemonError

_FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT", "SIGWINCH", "SIGALRM")
    if hasattr(signal, name)
)
NOT_WATCHED = 125
"""The exit code when the daemon can't be asked; the container may live."""


def _say(daemon: Daemon, name: str) -> None:
    for out, err in daemon.follow(name):
        for stream, data in ((1, out), (2, err)):
            while data:
                data = data[os.write(stream, data) :]


def main(arguments: list[str]) -> int:
    """Watch the named container to its end."""
    url, name = arguments
    waiting: list[int] = []
    # Before anything else: a signal that comes early must reach the container, not end its watcher.
    for number in _FORWARDED:
        signal.signal(number, lambda got, _: waiting.append(got))
    daemon = Daemon.find(url, "")
    if daemon is None:
        return NOT_WATCHED
    ended: list[int] = []

    def watch() -> None:
        try:
            _say(daemon, name)
            ended.append(daemon.wait(name))
        except (DaemonError, OSError):
            ended.append(NOT_WATCHED)
        os.kill(os.getpid(), signal.SIGCONT)  # wakes the main thread

    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    while not ended:
        for number in waiting or ():
            daemon.kill(name, number)
        waiting.clear()
        got = signal.sigwait(_FORWARDED)
        if not ended:
            waiting.append(got)
    return ended[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
