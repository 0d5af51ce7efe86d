"""A stand-in for LangFuse: the endpoints that are used, as its public reference has them, on the loopback.

A real HTTP server. It keeps prompts with their versions and labels, datasets, scores, and the spans that it is sent,
decoded from protobuf; it refuses what LangFuse refuses, and does what servers do wrong when it is told to (`fail`).
Bodies and messages have LangFuse's shapes; where its reference is silent, its public source was followed.
"""

import base64
import json
import re
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from langfuse_access import LangfuseAccess
from tests.fakes.langfuse_kept import ROUTES, Asked, Document, Kept, create_prompt, unpacked

PUBLIC_KEY = "pk-lf-12345678-public"
SECRET_KEY = "sk-lf-87654321-secret"


@dataclass(frozen=True)
class Fault:
    """What the server does wrong. Made by the functions below."""

    kind: str
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


def status(code: int, message: str = "it failed", **headers: str) -> Fault:
    """An error answer; `retry_after="7"` is a header."""
    told = {"message": message, "error": "Error"}
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fault("answer", code, json.dumps(told).encode(), (("Content-Type", "application/json"), *named))


def blurts(body: bytes | str, code: int = 200, kind: str = "application/json") -> Fault:
    """Any bytes as the answer."""
    return Fault("answer", code, body.encode() if isinstance(body, str) else body, (("Content-Type", kind),))


def oversize(size: int = 8 << 20) -> Fault:
    """An answer that is a JSON text of this many bytes."""
    return blurts(b'"' + b"x" * size + b'"')


def redirects(to: str, code: int = 307) -> Fault:
    """A redirect."""
    return Fault("answer", code, b"", (("Location", to),))


def slow(seconds: float) -> Fault:
    """The right answer, so much later."""
    return Fault("slow", seconds=seconds)


def trickles() -> Fault:
    """Headers that come a byte at a time and never end."""
    return Fault("trickles")


def hangs() -> Fault:
    """It takes the request and never answers."""
    return Fault("hangs")


def cuts() -> Fault:
    """The connection breaks within the answer."""
    return Fault("cuts")


class LangfuseServer:
    """The server, while the block lasts: `with LangfuseServer() as server: ... server.url`."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.lock = threading.RLock()
        self._faults: list[tuple[str, Fault, int | None]] = []
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The base address."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def access(self, **known: Any) -> LangfuseAccess:
        """How it is reached."""
        found = LangfuseAccess.of(self.url, SecretStr(PUBLIC_KEY), SecretStr(SECRET_KEY), **known)
        assert found is not None
        return found

    def environment(self) -> dict[str, str]:
        """The variables that point to it."""
        return {
            "LANGFUSE_BASE_URL": self.url,
            "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY,
            "LANGFUSE_SECRET_KEY": SECRET_KEY,
        }

    def fail(self, fault: Fault, path: str = "", times: int | None = None) -> None:
        """From now on requests whose path begins so go wrong, so many times; None: until `heal`."""
        with self.lock:
            self._faults.append((path, fault, times))

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        with self.lock:
            self._faults.clear()

    def paths(self, prefix: str = "") -> list[str]:
        """Method and path of the requests so far, in their order, of paths that begin so."""
        return [f"{a.method} {a.path}" for a in self.asked if a.path.startswith(prefix)]

    def sent(self) -> bytes:
        """All that came in any body, unpacked, one after the other: for looking whether something leaked."""
        return b"\n".join(unpacked(a) for a in self.asked)

    def put_prompt(self, name: str, content: Any, *labels: str, config: Any = None) -> Document:
        """A version of a prompt, as somebody makes it in LangFuse's pages."""
        asked = {"name": name, "prompt": content, "labels": list(labels), "config": config or {}}
        asked["type"] = "text" if isinstance(content, str) else "chat"
        code, told = create_prompt(self.kept, asked)
        assert code == 201, told
        return told

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault(self, path: str) -> Fault | None:
        """What goes wrong with a request to this path."""
        with self.lock:
            for index, (prefix, fault, times) in enumerate(self._faults):
                if not path.startswith(prefix):
                    continue
                if times is not None:
                    if times <= 1:
                        del self._faults[index]
                    else:
                        self._faults[index] = (prefix, fault, times - 1)
                return fault
        return None

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Status and document; bytes are sent as they stand."""
        if asked.path == "/api/public/health":
            return 200, {"status": "OK", "version": "3.99.0"}
        pair = base64.b64encode(f"{PUBLIC_KEY}:{SECRET_KEY}".encode()).decode()
        if asked.headers.get("authorization") != f"Basic {pair}":
            told = "Invalid credentials. Confirm that you've configured the correct host."
            return 401, {"message": told, "error": "UnauthorizedError"}
        with self.lock:
            for method, pattern, function in ROUTES:
                found = re.fullmatch(pattern, asked.path)
                if found and method == asked.method:
                    return function(self.kept, asked, *(unquote(part) for part in found.groups()))
        return 404, b"<!DOCTYPE html><html><title>404: This page could not be found</title></html>"


def unreachable() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def _handler(server: LangfuseServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, parts.path, query, headers, body)
            with server.lock:
                server.asked.append(asked)
            try:
                self._answer(asked, server.fault(asked.path))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has had enough

        do_GET = do_POST = do_PATCH = _serve  # noqa: N815

        def _answer(self, asked: Asked, fault: Fault | None) -> None:
            if fault is None or fault.kind == "slow":
                if fault is not None and server.closing.wait(fault.seconds):
                    self.close_connection = True
                    return
                code, told = server.answer(asked)
                kind = "application/x-protobuf" if asked.path.endswith("/traces") else "application/json"
                data = told if isinstance(told, bytes) else json.dumps(told).encode()
                self._whole(code, data, (("Content-Type", "text/html" if code == 404 and told is data else kind),))
            elif fault.kind == "answer":
                self._whole(fault.status, fault.body, fault.headers)
            elif fault.kind == "cuts":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                self.close_connection = True
            elif fault.kind == "trickles":
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not server.closing.wait(0.05):
                    self.wfile.write(b"x")
                    self.wfile.flush()
            else:
                self.close_connection = True
                server.closing.wait(60)

        def _whole(self, code: int, data: bytes, headers: tuple[tuple[str, str], ...]) -> None:
            self.send_response(code)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client went away between two requests

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler
