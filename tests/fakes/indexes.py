"""Stand-ins on the loopback: a package index (PEP 503 pages, tiny wheels made on the spot) and an image registry."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


def wheel(name: str, version: str, requires: tuple[str, ...] = (), python: str = ">=3.8") -> tuple[str, bytes]:
    """File name and bytes of a wheel that holds nothing but its metadata."""
    folder = f"{name}-{version}.dist-info"
    rows = [f"Name: {name}", f"Version: {version}", f"Requires-Python: {python}"]
    rows += [f"Requires-Dist: {line}" for line in requires]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\n" + "\n".join(rows) + "\n")
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")
    return f"{name}-{version}-py3-none-any.whl", packed.getvalue()


@contextmanager
def package_index(*wheels: tuple[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The index's address and the paths that were asked for."""
    files = dict(wheels)
    asked: list[str] = []

    def page(path: str) -> tuple[int, str, bytes]:
        asked.append(path)
        last = path.rstrip("/").rpartition("/")[2]
        if path.startswith("/files/"):
            return (200, "application/octet-stream", files[last]) if last in files else (404, "text/plain", b"")
        mine = [f for f in files if f.partition("-")[0].replace("_", "-") == last]
        if not mine:
            return 404, "text/plain", b""
        links = (f'<a href="/files/{f}#sha256={hashlib.sha256(files[f]).hexdigest()}">{f}</a>' for f in mine)
        return 200, "text/html", f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()

    class Handler(_Quiet):
        def do_GET(self) -> None:
            code, kind, body = page(urlsplit(self.path).path)
            self.answer(code, {"Content-Type": kind}, body)

        def do_HEAD(self) -> None:
            self.do_GET()

    with _serving(Handler) as address:
        yield f"http://{address}/simple", asked


class RegistryState:
    """What a registry has: `name:tag` or `name@digest` → digest. `private` are names that want a login."""

    def __init__(self, images: dict[str, str], *, private: tuple[str, ...] = (), challenge: bool = True) -> None:
        self.images, self.private, self.challenge = images, private, challenge
        self.requests: list[str] = []
        self.status: int | None = None
        self.token = b'{"token": "anonymous"}'
        self.missing = 0  # bytes of that answer which are announced and never come


@contextmanager
def image_registry(state: RegistryState) -> Iterator[str]:
    """A registry that gives anonymous tokens by a challenge; its `host:port` comes back."""

    class Handler(_Quiet):
        def do_GET(self) -> None:
            split = urlsplit(self.path)
            state.requests.append(f"GET {self.path}")
            scope = parse_qs(split.query).get("scope", [""])[0]
            if any(name in scope for name in state.private):
                return self.answer(401, {}, b"")
            self.close_connection = self.close_connection or bool(state.missing)
            return self.answer(200, {"Content-Type": "application/json"}, state.token, state.missing)

        def do_HEAD(self) -> None:
            state.requests.append(f"HEAD {self.path}")
            host = self.headers["Host"]
            if state.status is not None:
                return self.answer(state.status, {}, b"")
            name, _, reference = self.path.removeprefix("/v2/").partition("/manifests/")
            if state.challenge and self.headers.get("Authorization") != "Bearer anonymous":
                told = f'Bearer realm="http://{host}/token",service="here",scope="repository:{name}:pull"'
                return self.answer(401, {"WWW-Authenticate": told}, b"")
            sign = "@" if reference.startswith("sha256:") else ":"
            digest = state.images.get(f"{name}{sign}{reference}")
            return self.answer(200 if digest else 404, {"Docker-Content-Digest": digest} if digest else {}, b"")

    with _serving(Handler) as address:
        yield address


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code: int, headers: dict[str, str], body: bytes, missing: int = 0) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
