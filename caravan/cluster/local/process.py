"""The cluster's process: `python -m caravan.cluster.local.process HOME`, started by `control` and by nobody else.

It reads `HOME/launch.json`, takes the lock of its home, listens on a port of the loopback and says so in
`HOME/address.json` and on its standard output. It ends on SIGTERM; tasks that run then go on under their supervisors.
"""

import asyncio
import contextlib
import fcntl
import gc
import json
import logging
import os
import socket
import sqlite3
import sys
from pathlib import Path

import uvicorn

from caravan.cluster.local import machine, services, trouble, view
from caravan.cluster.local.api_cluster import Identity
from caravan.cluster.local.broker import Broker
from caravan.cluster.local.executor import write_json
from caravan.cluster.local.inventory import Inventory, load_inventory, measure
from caravan.cluster.local.preparing import Site
from caravan.cluster.local.runner import Runner
from caravan.cluster.local.server import build_app
from caravan.cluster.local.state import State
from caravan.cluster.local.supervise import Supervisors
from caravan.cluster.local.variables import Variables
from caravan.cluster.local.words import JsonDict, now_ns
from caravan.values.errors import CaravanError, StateError

_log = logging.getLogger(__name__)


def _inventory(home: Path, launch: JsonDict) -> Inventory:
    """The declared machines, or this one; each with the interpreter that runs the cluster in its meta."""
    given = launch["inventory"]
    inventory = load_inventory(Path(given)) if given else measure(home)
    marks = {"caravan_python": sys.executable}
    nodes = tuple(n.model_copy(update={"meta": {**n.meta, **marks}}) for n in inventory.nodes)
    return inventory.model_copy(update={"nodes": nodes})


def _listen(home: Path) -> socket.socket:
    """A listening socket on the loopback, on the former port if that is free: clients may still know it."""
    former = 0
    with contextlib.suppress(OSError, ValueError, KeyError):
        former = int(json.loads((home / "address.json").read_text(encoding="utf-8"))["address"].rpartition(":")[2])
    for port in (former, 0):
        # The protocol is named because asyncio sends small answers at once (TCP_NODELAY) only where it is.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError:
            listening.close()
            continue
        listening.listen(128)
        return listening
    raise StateError("No port of the loopback can be had.")


async def serve(home: Path, hindrance: str) -> None:
    """Be the cluster until told to end. Raises a CaravanError when it can't come up.

    `hindrance` is why tasks get no views of their own on this machine; empty when they do.
    """
    launch: JsonDict = json.loads((home / "launch.json").read_text(encoding="utf-8"))
    token = (home / "token").read_text(encoding="utf-8").strip()
    inventory = _inventory(home, launch)
    try:
        state = State(home / "state.db")
    except (OSError, sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise StateError(trouble.unreadable(home / "state.db", error)) from error
    try:
        variables = Variables(home / "variables.json")
    except (OSError, ValueError, KeyError) as error:
        named = type(error).__name__  # what a broken file holds is not for a log
        raise StateError(
            f"The built-in cluster's variables {home / 'variables.json'} can't be read: {named}."
        ) from None
    listening = _listen(home)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    here = await asyncio.to_thread(machine.explore, home, hindrance, launch["environment"])
    inventory = here.marked(inventory, measured=not launch["inventory"])
    about = f"{inventory.describe()} ({here.words()})"
    identity = Identity("caravan.global", address, os.getpid(), about, now_ns())
    supervisors = Supervisors(home / "bell")
    supervisors.open()
    site = Site(
        home / "allocs",
        home / "runs",
        supervisors,
        {name: value for name, value in launch["environment"].items() if name != machine.DOCKER_HOST},
        variables,
        services=lambda: services.for_templates(state),
        isolated=not hindrance,
        daemon=here.daemon,
    )
    broker = Broker(state, inventory.nodes)
    app = build_app(
        state,
        broker,
        inventory.nodes,
        identity,
        allocs=site.allocs,
        variables=variables,
        token=token,
        checks=site.checks,
    )
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, server_header=False
    )
    server = uvicorn.Server(config)
    failures: list[BaseException] = []

    def crashed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    runner = Runner(state, inventory.nodes, site, broker.freed, crashed)
    runner.recover()
    evaluating = asyncio.ensure_future(broker.serve(runner))
    evaluating.add_done_callback(lambda done: None if done.cancelled() else crashed(done.exception() or SystemExit()))
    announcement = {"address": address, "pid": os.getpid(), "inventory": identity.inventory}
    write_json(home / "address.json", announcement)
    _announce(announcement)
    _log.info("serving %s at %s", about, address)
    try:
        await server.serve(sockets=[listening])
    finally:
        evaluating.cancel()
        await runner.close()
        supervisors.close()
        state.close()
    if failures and isinstance(failures[0], sqlite3.Error):
        raise StateError(trouble.unwritable(state.path, failures[0])) from failures[0]
    if failures:
        raise StateError(f"The built-in cluster can't go on: {failures[0]!r}.") from failures[0]


def _hindrance(home: Path) -> str:
    """Try once whether tasks can have views of their own."""
    folder = home / "trial"
    folder.mkdir(mode=0o700, exist_ok=True)
    return view.hindrance(folder)


def _announce(announcement: JsonDict) -> None:
    """Tell whoever started this process that it serves, then let go of the pipe."""
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(1, json.dumps(announcement).encode() + b"\n")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def main(arguments: list[str]) -> int:
    """Run the cluster of the named home."""
    os.umask(0o077)
    gc.set_threshold(50_000, 20, 50)  # a history is many objects that stay: looking at all of them takes a while
    home = Path(arguments[0])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    lock = os.open(home / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.error("another process serves this home")
        return 1
    try:
        asyncio.run(serve(home, _hindrance(home)))
    except CaravanError as error:
        _log.error("%s", error.line())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
