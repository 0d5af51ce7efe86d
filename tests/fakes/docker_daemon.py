"""A stand-in of Docker's daemon: its HTTP API on a unix socket, with containers that only pretend to run.

A container's command says what it pretends: `["say", TEXT, CODE]` says it on both streams and ends, `["wait"]` runs
until it is killed (143 by SIGTERM, else 137), `["oom"]` ends as out of memory, `["missing"]` does not start.
"""

import json
import re
import socketserver
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class DockerDaemon:
    """Serves from `start` to `stop`. `asked` holds method and path of each request, `made` each container's body."""

    def __init__(self, socket: Path, *images: str) -> None:
        self.url = f"unix://{socket}"
        self.images = set(images)
        self.asked: list[str] = []
        self.made: dict[str, dict[str, Any]] = {}
        self.containers: dict[str, dict[str, Any]] = {}
        self.changed = threading.Condition()
        self._server = _Server(str(socket), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> "DockerDaemon":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def find(self, key: str) -> dict[str, Any] | None:
        return next((c for c in self.containers.values() if key in (c["Id"], c["Name"])), None)

    def end(self, container: dict[str, Any], code: int, *, oom: bool = False) -> None:
        with self.changed:
            container["State"] = {"Running": False, "ExitCode": code, "OOMKilled": oom}
            self.changed.notify_all()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # a client that went away
        del request, client_address


def _handler(daemon: DockerDaemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def address_string(self) -> str:
            return "unix"

        def _go(self) -> None:
            parts = urlsplit(self.path)
            path = re.sub(r"^/v[\d.]+", "", parts.path)
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            with daemon.changed:
                daemon.asked.append(f"{self.command} {path}")
            status, answer = answer_to(daemon, self.command, path, query, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            kind = "application/vnd.docker.raw-stream" if isinstance(answer, bytes) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _go  # noqa: N815 - the server's names

    return Handler


def answer_to(daemon: DockerDaemon, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:
    """Status and answer of a request."""
    if path in ("/version", "/info", "/_ping"):
        runtimes = {"runc": {"path": "runc"}}
        return 200, {"Version": "0-stand-in", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Runtimes": runtimes}
    if found := re.fullmatch(r"/images/(.+)/json", path):
        if found[1] in daemon.images:
            return 200, {"Id": "sha256:" + "1" * 64}
        return 404, {"message": f"No such image: {found[1]}"}
    if path == "/images/create":
        return 500, {"message": f'Get "https://registry/v2/": no route to {query["fromImage"]}'}
    if path == "/containers/json":
        wanted = json.loads(query["filters"])["label"][0].split("=", 1)
        own = [c for c in daemon.containers.values() if c["Config"]["Labels"].get(wanted[0]) == wanted[1]]
        return 200, [{"Id": c["Id"], "Names": ["/" + c["Name"]]} for c in own]
    if path == "/containers/create":
        return _create(daemon, query["name"], body)
    found = re.fullmatch(r"/containers/([^/]+)(?:/(\w+))?", path)
    container = daemon.find(found[1]) if found else None
    if found is None or container is None:
        return 404, {"message": f"No such container: {path}"}
    actions: dict[str, Callable[..., Any]] = {
        "json": _shown,
        "start": _start,
        "kill": _kill,
        "wait": _wait,
        "logs": _logs,
    }
    if method == "DELETE":
        del daemon.containers[container["Id"]]
        return 204, b""
    return actions[found[2]](daemon, container, query)


def _create(daemon: DockerDaemon, name: str, body: dict[str, Any]) -> Any:
    for mount in body["HostConfig"].get("Mounts") or []:
        if mount["Type"] == "bind" and not Path(mount["Source"]).exists():
            return 400, {"message": f"bind source path does not exist: {mount['Source']}"}
    made = f"{len(daemon.made) + 1:064x}"
    state = {"Running": False, "ExitCode": 0, "OOMKilled": False}
    daemon.containers[made] = {"Id": made, "Name": name, "Config": body, "State": state}
    daemon.made[name] = body
    return 201, {"Id": made, "Warnings": []}


def _shown(daemon: DockerDaemon, container: dict[str, Any], query: dict[str, str]) -> Any:
    del daemon, query
    return 200, container


def _start(daemon: DockerDaemon, container: dict[str, Any], query: dict[str, str]) -> Any:
    del query
    word, *rest = container["Config"]["Cmd"]
    if word == "missing":
        return 400, {"message": 'exec: "missing": executable file not found in $PATH: unknown'}
    container["State"]["Running"] = True
    if word == "say":
        daemon.end(container, int(rest[1]))
    elif word == "oom":
        daemon.end(container, 137, oom=True)
    return 204, b""


def _kill(daemon: DockerDaemon, container: dict[str, Any], query: dict[str, str]) -> Any:
    if not container["State"]["Running"]:
        return 409, {"message": "is not running"}
    signal = query["signal"].removeprefix("SIG")
    daemon.end(container, {"15": 143, "TERM": 143}.get(signal, 137))
    return 204, b""


def _wait(daemon: DockerDaemon, container: dict[str, Any], query: dict[str, str]) -> Any:
    del query
    with daemon.changed:
        daemon.changed.wait_for(lambda: not container["State"]["Running"])
    return 200, {"StatusCode": container["State"]["ExitCode"]}


def _logs(daemon: DockerDaemon, container: dict[str, Any], query: dict[str, str]) -> Any:
    word, *rest = container["Config"]["Cmd"]
    _wait(daemon, container, query)
    stream = 1 if query["stdout"] in ("1", "True", "true") else 2
    text = f"{rest[0]}\n".encode() if word == "say" else b""
    return 200, struct.pack(">BxxxL", stream, len(text)) + text if text else b""
