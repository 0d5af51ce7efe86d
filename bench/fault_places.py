"""What a scenario's run finds on this machine: a loopback server, wheels for pip, its own directory.

It knows nothing of scenarios' contents but the words that stand for these places.
"""

import json
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SERVER = "@SERVER@"
PORT = "@PORT@"
WORK = "@WORK@"

_BUSY_S = 8.0  # for how long after its first request a path of /busy/ or /late/ is of no use


class _Handler(BaseHTTPRequestHandler):
    """/file/X is a text, /secret/X for nobody, /missing/X not there; for some seconds after its first request
    /busy/X answers 429 and /late/X ends the connection without an answer.
    """

    server: "Server"

    def do_GET(self) -> None:
        if self.path.startswith(("/busy/", "/late/")):
            first = self.server.firsts.setdefault(self.path, time.monotonic())
            if time.monotonic() - first < _BUSY_S:
                if self.path.startswith("/busy/"):
                    self._answer(429, "Too Many Requests\n", {"Retry-After": "300"})
                self.close_connection = True
                return
        if self.path.startswith(("/busy/", "/late/", "/file/")):
            self._answer(200, "x,y\n" + "".join(f"{n / 8},{n / 4 + 0.5}\n" for n in range(-8, 9)), {})
            return
        if self.path.startswith("/secret/"):
            self._answer(401, "Unauthorized\n", {})
            return
        self._answer(404, "Not Found\n", {})

    def _answer(self, code: int, text: str, headers: dict[str, str]) -> None:
        body = text.encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """The loopback server of all scenarios."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.firsts: dict[str, float] = {}
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def anew(self) -> None:
        """What is busy or late is so once more: each arm finds the same faults."""
        self.firsts.clear()


@contextmanager
def served() -> Iterator[Server]:
    """A loopback server that answers until the end."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_wheels(folder: Path, wheels: Mapping[str, Mapping[str, str]]) -> None:
    """Wheels of pure Python files: `distribution==version` → path → text. `METADATA` among them: further headers."""
    folder.mkdir(parents=True, exist_ok=True)
    for requirement, files in wheels.items():
        distribution, _, version = requirement.partition("==")
        name = distribution.replace("-", "_")
        info = f"{name}-{version}.dist-info"
        headers = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{files.get('METADATA', '')}"
        tag = "Wheel-Version: 1.0\nGenerator: caravan-bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        written = {k: v for k, v in files.items() if k != "METADATA"}
        written |= {f"{info}/METADATA": headers, f"{info}/WHEEL": tag}
        record = "".join(f"{path},,\n" for path in (*written, f"{info}/RECORD"))
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            for path, text in {**written, f"{info}/RECORD": record}.items():
                archive.writestr(path, text)


def placed(value: Any, places: Mapping[str, str]) -> Any:
    """The value with every word of `places` in its texts replaced."""
    text = json.dumps(value)
    for word, place in places.items():
        text = text.replace(word, json.dumps(place)[1:-1])
    return json.loads(text)
