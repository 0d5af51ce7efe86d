"""A web server on the loopback that takes PUT, and may break, refuse or spoil what it is given."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PutServer:
    """Objects by path. `break_after`: bytes of a PUT after which it hangs up, once; `spoil`: it keeps other bytes."""

    def __init__(self, *, break_after: int | None = None, spoil: bool = False, refuse: int = 0) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.break_after, self.spoil, self.refuse = break_after, spoil, refuse
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing is written."""

            def _answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def do_HEAD(self) -> None:
                server.asked.append(f"HEAD {self.path}")
                there = server.objects.get(self.path)
                self._answer(404 if there is None else 200, length=len(there or b""))

            def do_GET(self) -> None:
                server.asked.append(f"GET {self.path}")
                there = server.objects.get(self.path)
                self._answer(404 if there is None else 200, there or b"")

            def do_DELETE(self) -> None:
                server.asked.append(f"DELETE {self.path}")
                server.objects.pop(self.path, None)
                self._answer(204)

            def do_PUT(self) -> None:
                server.asked.append(f"PUT {self.path}")
                length = int(self.headers["Content-Length"])
                if server.refuse:
                    self.rfile.read(length)
                    self._answer(server.refuse)
                    return
                if server.break_after is not None:
                    server.objects[self.path] = self.rfile.read(min(length, server.break_after))
                    server.break_after = None
                    self.close_connection = True
                    self.connection.close()
                    return
                body = self.rfile.read(length)
                if len(body) == length:  # what is cut off is not kept
                    server.objects[self.path] = bytes(len(body)) if server.spoil else body
                    self._answer(201)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def puts(self) -> list[str]:
        """The paths that were put, in order."""
        return [line.partition(" ")[2] for line in self.asked if line.startswith("PUT ")]

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
