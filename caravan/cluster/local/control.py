"""Starting, finding and stopping the built-in cluster. What a command needs of it; the server's own code is not loaded.

`home` is the cluster's directory (mode 0700): `token` and `address.json` (0600), `launch.json`, `state.db`, `allocs/`,
`runs/`, `cluster.log`.
"""

import json
import os
import select
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.cluster.local.executor import write_json
from caravan.cluster.local.taskenv import inheritable
from caravan.values.errors import ClusterUnreachable, StateError, UsageError

_PROJECT = Path(__file__).resolve().parents[3]
_START_SECONDS = 60.0
_ASK_SECONDS = 5.0
_END_SECONDS = 30.0


@dataclass(frozen=True)
class LocalCluster:
    """A built-in cluster that runs. `inventory` says in words what it offers."""

    address: str
    token_file: Path
    pid: int
    inventory: str

    def token(self) -> str:
        """The token that requests must carry."""
        return self.token_file.read_text(encoding="utf-8").strip()


def start(home: Path, *, inventory: Path | None, environment: Mapping[str, str]) -> LocalCluster:
    """The cluster of that home: the one that runs, or a new process that outlives this one.

    `inventory` is a file of declared machines; None: this machine as it is. A running cluster keeps its own; asking
    it for another one raises UsageError. Tasks get the harmless part of `environment` (PATH, HOME and the like).
    Raises ClusterUnreachable with the log's last line when it does not come up, StateError when `home` can't be used.
    """
    from filelock import FileLock

    home = home.resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        with FileLock(home / "start.lock", mode=0o600):
            running = status(home)
            if running is not None:
                _check_same(home, inventory)
                return running
            _prepare(home, inventory, environment)
            return _launch(home, environment)
    except OSError as error:
        raise StateError(f"The built-in cluster's directory {home} can't be used: {error.strerror}.") from error


def revive(home: Path, *, environment: Mapping[str, str]) -> bool:
    """Start the cluster of that home again, as it was, if its process has died; True when it runs now.

    False: it was ended on purpose (`stop`), and stays so. Raises ClusterUnreachable when it does not come up,
    StateError when `home` can't be used.
    """
    from filelock import FileLock

    home = home.resolve()
    try:
        with FileLock(home / "start.lock", mode=0o600):
            if status(home) is not None:
                return True
            if not (home / "address.json").exists():
                return False
            _launch(home, environment)
            return True
    except OSError as error:
        raise StateError(f"The built-in cluster's directory {home} can't be used: {error.strerror}.") from error


def _check_same(home: Path, inventory: Path | None) -> None:
    if inventory is None:
        return
    now = json.loads((home / "launch.json").read_text(encoding="utf-8"))["inventory"]
    if now is None or Path(now) != inventory.resolve():
        raise UsageError(
            f"The built-in cluster already runs with {now or 'this machine'} as its inventory.",
            hint="Stop it first: `cluster down`.",
        )


def _prepare(home: Path, inventory: Path | None, environment: Mapping[str, str]) -> None:
    if inventory is not None:
        from caravan.cluster.local.inventory import load_inventory

        load_inventory(inventory)  # a wrong file is the user's to mend: say so here, not in a log
    token = home / "token"
    if not token.exists() or not token.read_text(encoding="utf-8").strip():  # a kill can come before it is written
        with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(str(uuid.uuid4()))
    given = str(inventory.resolve()) if inventory is not None else None
    write_json(home / "launch.json", {"inventory": given, "environment": inheritable(environment)})


def _launch(home: Path, environment: Mapping[str, str]) -> LocalCluster:
    """Start the process, in a session of its own, and wait for its word that it serves."""
    log = home / "cluster.log"
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "caravan.cluster.local.process", str(home)],
            cwd=_PROJECT,
            env=inheritable(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
            start_new_session=True,
        )
    if child.stdout is None:
        raise ClusterUnreachable("The built-in cluster's process has no output.")
    with child.stdout as told:
        ready, _, _ = select.select([told], [], [], _START_SECONDS)
        word = told.readline() if ready else b""
    if not word:
        child.kill()
        child.wait()
        raise ClusterUnreachable(f"The built-in cluster does not come up: {_last_line(log)}", hint=f"See {log}.")
    said = json.loads(word)
    child.returncode = 0  # it is meant to outlive us: no warning that it still runs
    return LocalCluster(said["address"], home / "token", said["pid"], said["inventory"])


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines:
        return "it says nothing"
    return lines[-1].partition(" ERROR ")[2] or lines[-1]


def status(home: Path) -> LocalCluster | None:
    """The cluster of that home if it answers, else None. A left-over address file fools nobody: it is asked."""
    try:
        said = json.loads((home / "address.json").read_text(encoding="utf-8"))
        found = LocalCluster(said["address"], home / "token", int(said["pid"]), said["inventory"])
        if not _is_ours(found.pid, home):
            return None  # whoever listens at that port now is not told the token
        shown = _ask("GET", found, "/v1/agent/self")
    except (OSError, ValueError, KeyError, TypeError, ClusterUnreachable):
        return None
    own = shown.get("stats", {}).get("caravan", {}).get("pid") == str(found.pid)
    return found if own and shown.get("member", {}).get("Tags", {}).get("caravan_builtin") == "true" else None


def _is_ours(pid: int, home: Path) -> bool:
    """Whether that process is the cluster of that home."""
    import psutil

    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return "caravan.cluster.local.process" in words and Path(words[-1]) == home.resolve()


def _ask(method: str, cluster: LocalCluster, path: str) -> Any:
    """One request to the cluster. Raises ClusterUnreachable when there is no good answer."""
    return _asked(method, cluster, path, _ASK_SECONDS)[0]


def _asked(method: str, cluster: LocalCluster, path: str, seconds: float) -> tuple[Any, int]:
    """The answer, and the index that it is of; 0 where it names none. Raises ClusterUnreachable."""
    import requests

    with requests.Session() as session:
        session.trust_env = False  # no proxy stands before the loopback
        session.headers["X-Nomad-Token"] = cluster.token()
        try:
            got = session.request(method, cluster.address + path, timeout=seconds)
            got.raise_for_status()
            return got.json(), int(got.headers.get("X-Nomad-Index") or 0)
        except (requests.RequestException, ValueError) as error:
            raise ClusterUnreachable(f"The built-in cluster at {cluster.address} does not answer: {error}") from error


def living(cluster: LocalCluster) -> list[str]:
    """The ids of jobs that have an allocation which has not ended."""
    rows = _ask("GET", cluster, "/v1/allocations")
    return sorted({row["JobID"] for row in rows if row["ClientStatus"] in ("pending", "running")})


def stop(home: Path) -> bool:
    """Stop the cluster of that home with all that runs on it; False when none runs.

    Its jobs are stopped as by a person, with their kill time-outs, and kept: they are there after the next start.
    Raises ClusterUnreachable when it does not end.
    """
    from filelock import FileLock, Timeout

    home = home.resolve()
    if not home.is_dir():
        return False
    with FileLock(home / "start.lock", mode=0o600):
        running = status(home)
        if running is None:
            return False
        for job in _ask("GET", running, "/v1/jobs"):
            if not job["Stop"]:
                _ask("DELETE", running, f"/v1/job/{_quoted(job['ID'])}")
        _until_quiet(running)
        os.kill(running.pid, 15)  # SIGTERM; the pid is its own word of a moment ago
        try:
            with FileLock(home / "server.lock", mode=0o600, timeout=_END_SECONDS):
                (home / "address.json").unlink(missing_ok=True)
        except Timeout as error:
            raise ClusterUnreachable(f"The built-in cluster (process {running.pid}) does not end.") from error
    return True


def _quoted(job_id: str) -> str:
    from urllib.parse import quote

    return quote(job_id, safe="")


def _until_quiet(cluster: LocalCluster) -> None:
    """Wait until no allocation runs any more: each look returns when something has changed, or after a second."""
    index, rounds = 0, 600
    while rounds:
        # By the table's index: an allocation's own may be below it, and each look would come back at once.
        shown, index = _asked("GET", cluster, f"/v1/allocations?index={index}&wait=1s", 30.0)
        states = [s for a in shown for s in (a["TaskStates"] or {}).values()]
        if all(s["State"] == "dead" for s in states) and not any(a["ClientStatus"] == "running" for a in shown):
            return
        rounds -= 1
