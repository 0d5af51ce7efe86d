"""The port ModelHub from a table, and a stand-in of the hub itself on the loopback that the real adapter asks."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from caravan.values.datasets import DatasetAnswer, SplitSize
from caravan.values.shape import ModelAnswer


@dataclass
class HubContent:
    """What a hub has. `models`: name → (config, parameters); `datasets`: name → split → rows; `gated` are models."""

    models: Mapping[str, tuple[Any, int | None]] = field(default_factory=dict)
    datasets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    gated: tuple[str, ...] = ()


class FakeHub:
    """Answers from a table; `asked` lists the names in their order."""

    def __init__(self, content: HubContent, *, token: str | None = None) -> None:
        self.content, self.token = content, token
        self.asked: list[str] = []

    def model(self, name: str, revision: str | None = None) -> ModelAnswer:
        self.asked.append(name)
        if name not in self.content.models:
            return ModelAnswer(model=name, text="there is none, or none without a token (HF_TOKEN)")
        config, params = self.content.models[name]
        if name in self.content.gated and not self.token:
            return ModelAnswer(model=name, params=params, text="it needs a token (HF_TOKEN)")
        return ModelAnswer(model=name, config=config, params=params)

    def dataset(self, name: str) -> DatasetAnswer:
        self.asked.append(name)
        if name not in self.content.datasets:
            return DatasetAnswer(dataset=name, text="there is none, or none without a token (HF_TOKEN)")
        told = self.content.datasets[name].items()
        return DatasetAnswer(
            dataset=name, splits=tuple(SplitSize(config="default", split=s, rows=n, bytes=100 * n) for s, n in told)
        )


@dataclass
class HubRequests:
    """What the stand-in was asked: paths, and the tokens that came with them. `answer` overrides all answers."""

    paths: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    answer: tuple[int, dict[str, str], bytes] | None = None


@contextmanager
def hub_server(content: HubContent) -> Iterator[tuple[str, HubRequests]]:
    """The stand-in's address and what it was asked. It wants the token `good` for what is gated."""
    seen = HubRequests()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            token = self.headers.get("Authorization")
            seen.paths.append(self.path)
            seen.tokens.append(token)
            if seen.answer is not None:
                return self.reply(*seen.answer)
            status, document = _answer(content, self.path.partition("?"), token == "Bearer good")
            return self.reply(status, {"Content-Type": "application/json"}, json.dumps(document).encode())

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(content: HubContent, asked: tuple[str, str, str], trusted: bool) -> tuple[int, Any]:
    path, _, query = asked
    if path == "/size":
        name = query.removeprefix("dataset=").replace("%2F", "/")
        if name not in content.datasets:
            return 404, {"error": "The dataset does not exist."}
        splits = [
            {"config": "default", "split": s, "num_rows": n, "num_bytes_memory": 100 * n}
            for s, n in content.datasets[name].items()
        ]
        return 200, {"size": {"splits": splits}}
    if path.startswith("/api/models/"):
        name = path.removeprefix("/api/models/").partition("/revision/")[0]
        if name not in content.models:
            return 401, {"error": "Invalid username or password."}
        params = content.models[name][1]
        return 200, {"safetensors": {"parameters": {"BF16": params}, "total": params}} if params else {}
    if path.startswith("/api/datasets/"):
        return 401, {"error": "Invalid username or password."}
    name, _, file = path.removeprefix("/").partition("/resolve/main/")
    if name in content.gated and not trusted:
        return 401, {"error": "Access to model is restricted."}
    if name in content.models and file == "config.json" and content.models[name][0] is not None:
        return 200, content.models[name][0]
    return 404, {"error": "Entry not found"}
