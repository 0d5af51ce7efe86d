"""A stand-in for a Qdrant server: the REST calls that Mem0's adapter makes, over a dictionary, on the loopback.

Written after the public REST reference; answers have its shape (`result`, `status`, `time`). Filters know `must`,
`should`, `must_not` and `match` by value, any of several or none of several; distances are cosines.
"""

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Points = dict[str, dict[str, Any]]


class QdrantState:
    """Collections by name, each a dictionary of points; `key` is the API key that requests must bring."""

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self.collections: dict[str, Points] = {}
        self.requests: list[str] = []
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.size = 256  # numbers of a vector in collections that are there
        self.fails: int | None = None  # every request is answered with that status
        self.garbles = False  # every answer is no JSON
        self.lock = threading.Lock()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The status and the `result` of one request."""
        self.requests.append(f"{method} {path}")
        self.bodies.append((path, body))
        if path == "/collections":
            return 200, {"collections": [{"name": name} for name in self.collections]}
        match = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
        if match is None:
            return 404, None
        name, rest = match[1], match[2] or ""
        if not rest:
            return self._collection(method, name)
        if name not in self.collections:
            return 404, None
        points = self.collections[name]
        if rest == "/index":
            return 200, {"operation_id": 1, "status": "completed"}
        act = {
            "PUT /points": _upsert,
            "POST /points": _retrieve,
            "POST /points/delete": _delete,
            "POST /points/payload": _set_payload,
            "PUT /points/payload": _overwrite_payload,
            "PUT /points/vectors": _set_vectors,
            "POST /points/query": _query,
            "POST /points/scroll": _scroll,
        }.get(f"{method} {rest}")
        return (404, None) if act is None else (200, act(points, body))

    def _collection(self, method: str, name: str) -> tuple[int, Any]:
        if method == "PUT":
            self.collections.setdefault(name, {})
            return 200, True
        if name not in self.collections:
            return 404, None
        return 200, {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "points_count": len(self.collections[name]),
            "indexed_vectors_count": 0,
            "config": {
                "params": {"vectors": {"size": self.size, "distance": "Cosine"}},
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                },
            },
            "payload_schema": {},
        }


def _upsert(points: Points, body: dict[str, Any]) -> Any:
    for point in body["points"]:
        points[str(point["id"])] = {"vector": _dense(point["vector"]), "payload": point.get("payload") or {}}
    return _DONE


def _retrieve(points: Points, body: dict[str, Any]) -> Any:
    return [{"id": i, "payload": points[i]["payload"]} for i in map(str, body["ids"]) if i in points]


def _delete(points: Points, body: dict[str, Any]) -> Any:
    for point_id in map(str, body["points"]):
        points.pop(point_id, None)
    return _DONE


def _set_payload(points: Points, body: dict[str, Any]) -> Any:
    for point_id in map(str, body["points"]):
        points[point_id]["payload"] |= body["payload"]
    return _DONE


def _overwrite_payload(points: Points, body: dict[str, Any]) -> Any:
    for point_id in map(str, body["points"]):
        points[point_id]["payload"] = body["payload"]
    return _DONE


def _set_vectors(points: Points, body: dict[str, Any]) -> Any:
    for point in body["points"]:
        points[str(point["id"])]["vector"] = _dense(point["vector"])
    return _DONE


def _query(points: Points, body: dict[str, Any]) -> Any:
    wanted = body["query"]
    wanted = wanted["nearest"] if isinstance(wanted, dict) else wanted
    scored = [
        {"id": i, "version": 0, "score": _cosine(wanted, p["vector"]), "payload": p["payload"]}
        for i, p in points.items()
        if _passes(p["payload"], body.get("filter"))
    ]
    scored.sort(key=lambda p: -p["score"])
    return {"points": scored[: body.get("limit", 10)]}


def _scroll(points: Points, body: dict[str, Any]) -> Any:
    found = [
        {"id": i, "payload": p["payload"]}
        for i, p in sorted(points.items())
        if _passes(p["payload"], body.get("filter"))
    ]
    return {"points": found[: body.get("limit", 10)], "next_page_offset": None}


_DONE = {"operation_id": 1, "status": "completed"}


def _dense(vector: Any) -> list[float]:
    """The unnamed vector, which may come among named ones."""
    dense: list[float] = vector[""] if isinstance(vector, dict) else vector
    return dense


def _cosine(a: list[float], b: list[float]) -> float:
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def _passes(payload: dict[str, Any], condition: dict[str, Any] | None) -> bool:
    if not condition:
        return True
    if "key" in condition:
        value, match = payload.get(condition["key"]), condition["match"]
        values = [] if value is None else value if isinstance(value, list) else [value]
        if "except" in match:  # a point without the field has no value that could be another one
            return any(v not in match["except"] for v in values)
        wanted = match["any"] if "any" in match else [match["value"]]
        return any(v in wanted for v in values)
    must, should = condition.get("must") or [], condition.get("should") or []
    return (
        all(_passes(payload, c) for c in must)
        and (not should or any(_passes(payload, c) for c in should))
        and not any(_passes(payload, c) for c in condition.get("must_not") or [])
    )


@contextmanager
def qdrant_server(state: QdrantState) -> Iterator[str]:
    """The address of a server over that state, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            if state.fails is not None:
                status, result = state.fails, None
            elif state.key is not None and self.headers.get("api-key") != state.key:
                status, result = 403, None
            else:
                with state.lock:
                    status, result = state.answer(self.command, self.path.partition("?")[0], body)
            said = "ok" if status == 200 else {"error": "Not found" if status == 404 else "forbidden"}
            document = {"result": result, "status": said, "time": 0.0}
            data = b"<html>a gateway</html>" if state.garbles else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
