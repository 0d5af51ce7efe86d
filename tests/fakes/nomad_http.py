"""A tiny HTTP server that answers as it is told, for what a client meets on a bad day. Loopback, free port."""

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # as sent, without the query
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    every: tuple[tuple[str, str], ...] = ()  # the query with parameters that come more than once


@dataclass(frozen=True)
class Answer:
    body: Any = None  # bytes as they are, anything else as JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0  # promise that many bytes more than are sent
    silent: bool = False  # never answer
    stream: Callable[[], Iterator[bytes]] | None = None  # pieces that are sent one by one, in place of a body
    torn: bool = False  # a stream ends as if its connection had broken


class NomadHttp:
    """Answers every request by `answer`; `requests` holds what came in."""

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        *,
        certificate: str | None = None,
        key: str | None = None,
        authority: str | None = None,  # who must have signed the client's certificate
        unix: str | None = None,  # listen there instead
        host: str = "127.0.0.1",
    ) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.names: list[str | None] = []  # the server names that TLS clients asked for
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = not unix

            def log_message(self, *args: Any) -> None:
                pass

            def _serve(self) -> None:
                outer._serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            address_family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in host else socket.AF_INET
            allow_reuse_address = not unix

            def server_bind(self) -> None:
                socketserver.TCPServer.server_bind(self)  # HTTPServer's asks for the name of the host

            def handle_error(self, *args: Any) -> None:
                pass  # clients hang up on purpose

        self._server = Server(unix or (host, 0), Handler)  # type: ignore[arg-type]
        self._unix = unix
        self._host = f"[{host}]" if ":" in host else host
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            if authority:
                context.load_verify_locations(authority)
                context.verify_mode = ssl.CERT_REQUIRED
            context.sni_callback = lambda _socket, name, _context: self.names.append(name)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"unix://{self._unix}" if self._unix else f"{self._scheme}://{self._host}:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        if self._closing.is_set():  # a connection that was kept open
            handler.close_connection = True
            return
        length = int(handler.headers.get("Content-Length") or 0)
        raw = handler.rfile.read(length) if length else b""
        parts = urlsplit(handler.path)
        request = Request(
            handler.command,
            parts.path,
            dict(parse_qsl(parts.query)),
            {k.lower(): v for k, v in handler.headers.items()},
            json.loads(raw) if raw else None,
            tuple(parse_qsl(parts.query)),
        )
        self.requests.append(request)
        answer = self.answer(request)
        if answer.silent:
            self._closing.wait(30)
            handler.close_connection = True
            return
        if answer.stream is not None:
            self._send_stream(handler, answer)
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) + answer.cut))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = bool(answer.cut)

    def _send_stream(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        assert answer.stream is not None
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        for piece in answer.stream():
            if self._closing.is_set():
                return
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.flush()
        if not answer.torn:
            handler.wfile.write(b"0\r\n\r\n")

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
