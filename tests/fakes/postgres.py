"""A real PostgreSQL server of the tests' own: in a temporary folder, on a free loopback port, ended by its process.

The server's programs refuse root, so as root they run as another user. Nothing is synced to the disk: the data lives
as long as the tests. Roles log in with SCRAM; each test has a database of its own, whose owner is no superuser.
"""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from caravan.values.database import DatabaseAddress, parse_database_url

PASSWORD = "p@ss/wörd#%1 of:caravan?"  # every sign that must be a code in an address
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",
    "lc_messages": "C",
    "max_connections": "60",
}


class PostgresServer:
    """The server. `programs`: the folder with `initdb` and `postgres`."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="caravan-postgres-"))
        self._as = _user() if os.geteuid() == 0 else {}
        self._numbers = itertools.count(1)
        self._admin = "of-the-tests"
        self._process: subprocess.Popen[str] | None = None
        self.said: deque[str] = deque(maxlen=200)
        try:
            self._initialise()
            self.port = _free_port()
            self.start()
            with self.admin() as connection:
                made = sql.SQL("CREATE ROLE caravan LOGIN PASSWORD {}").format(PASSWORD)
                connection.execute(made)
        except BaseException:
            self.close()
            raise

    def _initialise(self) -> None:
        if self._as:
            os.chown(self._folder, self._as["user"], self._as["group"])
        secret = self._folder / "password"
        secret.write_text(self._admin)
        if self._as:
            os.chown(secret, self._as["user"], self._as["group"])
        command = [
            str(self._programs / "initdb"),
            "-D",
            str(self._folder / "data"),
            "-U",
            "admin",
            "--auth=scram-sha-256",
        ]
        options = [f"--pwfile={secret}", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(
            [*command, *options], check=True, cwd=self._folder, capture_output=True, env=_environment(), **self._as
        )

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port), *settings]
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=self._folder, env=_environment(), **pipes, **self._as)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.rstrip())
            if "ready to accept connections" in line:
                break
        else:
            raise RuntimeError("\n".join(self.said))
        threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()

    def _drain(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            self.said.extend(line.rstrip() for line in process.stderr)

    def stop(self) -> None:
        """End it; what is open is rolled back."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def admin(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        """A connection of the superuser."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="admin", password=self._admin, dbname=database, autocommit=True
        )

    def database(self, *, template: str = "template0", **how: str) -> str:
        """The name of a new database that belongs to `caravan`."""
        name = f"test_{next(self._numbers)}"
        options = [sql.SQL(f"{key} {{}}").format(value) for key, value in how.items()]
        words = sql.SQL("CREATE DATABASE {} OWNER caravan TEMPLATE {} ").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        with self.admin() as connection:
            connection.execute(words + sql.SQL(" ").join(options))
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        with self.admin() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def url(self, name: str, *, user: str = "caravan", password: str = PASSWORD, more: str = "") -> str:
        """How `DATABASE_URL` names a database of this server."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}{more}"

    def address(self, name: str, **more: str) -> DatabaseAddress:
        """The same, read."""
        return parse_database_url(self.url(name, **more))

    def end_connections(self, name: str) -> int:
        """Cut all connections to a database; how many there were."""
        with self.admin() as connection:
            cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
            row = connection.execute(cut, [name]).fetchone()
            return int(row[0]) if row else 0


def _user() -> dict[str, Any]:
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL refuses root, and there is neither a user `postgres` nor `nobody`")


def _environment() -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
