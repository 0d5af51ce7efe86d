"""What stands for a container where tasks are processes: `python -m caravan.cluster.local.container_watch URL NAME`.

A task's supervisor runs it as the task's command. It says what the container says and ends with the container's exit
code. It neither makes, ends nor removes the container: the cluster does.
"""

import contextlib
import os
import sys
import threading

from caravan.cluster.local.containers import Daemon, DaemonError

_LAST_WORDS_SECONDS = 10.0
NOT_WATCHED = 125
"""The exit code when the daemon can't be asked; the container may live."""


def _say(url: str, name: str, stream: str, descriptor: int) -> None:
    daemon = Daemon.find(url, "")  # one for each stream: the library's client is not meant for threads
    with contextlib.suppress(DaemonError, OSError):  # the container's end is told by another way
        for data in daemon.follow(name, stream) if daemon is not None else ():
            rest = data
            while rest:
                rest = rest[os.write(descriptor, rest) :]


def main(arguments: list[str]) -> int:
    """Watch the named container to its end."""
    url, name = arguments
    daemon = Daemon.find(url, "")
    if daemon is None:
        return NOT_WATCHED
    sayers = [
        threading.Thread(target=_say, args=(url, name, stream, descriptor), daemon=True)
        for stream, descriptor in (("stdout", 1), ("stderr", 2))
    ]
    for sayer in sayers:
        sayer.start()
    code = NOT_WATCHED
    with contextlib.suppress(DaemonError):
        code = daemon.wait(name)
    for sayer in sayers:
        sayer.join(_LAST_WORDS_SECONDS)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
