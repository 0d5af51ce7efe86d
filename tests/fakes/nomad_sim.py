"""A Nomad that plays what it is told to, truthfully as far as a watcher sees it: jobs, allocations, evaluations with
their indexes, blocking queries and the event stream. Served by `NomadHttp`.

Its jobs have one group and one task each. What goes wrong on the way is told by `trouble`, `stream_trouble` and the
methods that end.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from tests.fakes.nomad_http import Answer, NomadHttp, Request

Key = tuple[str, str]
BEAT = 0.2  # seconds between two signs of life of a stream


class NomadSim:
    """The state and what may be done to it. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self.index = 10
        self.jobs: dict[Key, dict[str, Any]] = {}
        self.allocs: dict[Key, list[dict[str, Any]]] = {}
        self.evals: dict[Key, list[dict[str, Any]]] = {}
        self._streams: list[tuple[Request, queue.Queue[bytes | None]]] = []
        self._history: list[tuple[int, dict[str, Any]]] = []
        self.trouble: Callable[[Request], Answer | None] = lambda _: None
        self.stream_trouble: Callable[[Request], Answer | None] = lambda _: None
        self.hold = 0.15  # seconds that a blocking query is held at most: watchers' clocks run fast
        self.mute = False  # streams give no sign of life
        self.reads = 0  # requests that are no streams
        self.streams_opened = 0
        self.most_at_once = 0
        self._at_once = 0
        self.http = NomadHttp(self.answer)

    @property
    def address(self) -> str:
        return self.http.address

    def close(self) -> None:
        self.end_streams()
        self.http.close()
        with self._moved:
            self._moved.notify_all()

    # What happens on the cluster.

    def register(self, job_id: str, namespace: str = "default") -> None:
        """A new job with an allocation that runs."""
        key = (namespace, job_id)
        with self._moved:
            self.index += 1
            born = self.index
            self.jobs[key] = {
                "ID": job_id,
                "Namespace": namespace,
                "Status": "running",
                "CreateIndex": born,
                "JobModifyIndex": born,
                "ModifyIndex": born,
                "Version": 0,
                "TaskGroups": [{"Name": "train", "Count": 1}],
            }
            self.evals[key] = [{"ID": f"e-{born}", "JobID": job_id, "Status": "complete", "CreateIndex": born}]
            self.allocs[key] = []
            self._place(key)
            self._publish(key, "Job", "JobRegistered")

    def _place(self, key: Key, follows: dict[str, Any] | None = None) -> None:
        events = [event("Received", "Task received by client"), event("Started", "Task started by client")]
        alloc = {
            "ID": f"a-{key[0]}-{key[1]}-{len(self.allocs[key])}-{self.index}",
            "Name": f"{key[1]}.train[0]",
            "JobID": key[1],
            "TaskGroup": "train",
            "NodeID": "n1",
            "NodeName": "node-1",
            "ClientStatus": "running",
            "DesiredStatus": "run",
            "CreateIndex": self.index,
            "ModifyIndex": self.index,
            "PreviousAllocation": follows["ID"] if follows else "",
            "TaskStates": {"train": {"State": "running", "Failed": False, "StartedAt": _now(), "Events": events}},
        }
        self.allocs[key].append(alloc)

    def end(self, job_id: str, code: int = 0, namespace: str = "default", *, dead: bool = True) -> None:
        """The job's task ends with that code, and with `dead` the job does."""
        key = (namespace, job_id)
        with self._moved:
            self.index += 1
            self._end_alloc(self.allocs[key][-1], "failed" if code else "complete", code)
            if dead:
                self.jobs[key] |= {"Status": "dead", "ModifyIndex": self.index}
            self._publish(key, "Allocation", "AllocationUpdated")

    def _end_alloc(self, alloc: dict[str, Any], status: str, code: int | None) -> None:
        state = alloc["TaskStates"]["train"]
        ended = [] if code is None else [_terminated(code)]
        tasks = {"train": state | {"State": "dead", "Failed": bool(code), "FinishedAt": _now()}}
        tasks["train"]["Events"] = state["Events"] + ended
        alloc |= {"ClientStatus": status, "ModifyIndex": self.index, "TaskStates": tasks}

    def lose_node(self, job_id: str, namespace: str = "default") -> None:
        """The node of the job's allocation is lost, and another allocation follows."""
        key = (namespace, job_id)
        with self._moved:
            self.index += 1
            lost = self.allocs[key][-1]
            lost |= {"ClientStatus": "lost", "DesiredStatus": "stop", "ModifyIndex": self.index}
            self._place(key, lost)
            self._publish(key, "Allocation", "NodeDeregistration")

    def drain(self, job_id: str, namespace: str = "default") -> None:
        """The node is drained: the allocation is stopped by the cluster, and another one follows."""
        key = (namespace, job_id)
        with self._moved:
            self.index += 1
            drained = self.allocs[key][-1]
            self._end_alloc(drained, "complete", 143)
            drained |= {"DesiredStatus": "stop", "DesiredDescription": "alloc is being migrated"}
            self._place(key, drained)
            self._publish(key, "Allocation", "NodeDrain")

    def collect(self, job_id: str, namespace: str = "default") -> None:
        """Garbage collection: ended allocations and evaluations are forgotten. No event tells of it."""
        key = (namespace, job_id)
        with self._moved:
            self.allocs[key] = [a for a in self.allocs[key] if a["ClientStatus"] in {"pending", "running"}]
            self.evals[key] = []

    def change(self, job_id: str, namespace: str = "default") -> None:
        """Somebody registers the job anew with other contents."""
        key = (namespace, job_id)
        with self._moved:
            self.index += 1
            job = self.jobs[key]
            self.jobs[key] = job | {"JobModifyIndex": self.index, "Version": job["Version"] + 1}
            self._publish(key, "Job", "JobRegistered")

    def purge(self, job_id: str, namespace: str = "default") -> None:
        """Somebody purges the job."""
        key = (namespace, job_id)
        with self._moved:
            self.index += 1
            gone = self.jobs.pop(key)
            self.allocs.pop(key)
            self.evals.pop(key)
            self._publish(key, "Job", "JobDeregistered", gone)

    def restart(self) -> None:
        """The server forgets its events, and its index goes back."""
        with self._moved:
            self.index = 5
            self._history.clear()
        self.end_streams()

    # The streams.

    def end_streams(self) -> None:
        """All streams end."""
        self.say(None)

    def say(self, line: bytes | None) -> None:
        """Send bytes into all streams as they are; None ends them."""
        with self._moved:
            for _, waiting in self._streams:
                waiting.put(line)
            if line is None:
                self._streams.clear()

    @property
    def streams(self) -> int:
        with self._moved:
            return len(self._streams)

    def _publish(self, key: Key, topic: str, kind: str, gone: dict[str, Any] | None = None) -> None:
        body = gone or self.jobs[key]
        if topic == "Allocation":
            body = {k: v for k, v in self.allocs[key][-1].items() if k != "TaskStates"}
        told = {
            "Topic": topic,
            "Type": kind,
            "Key": body["ID"],
            "Namespace": key[0],
            "FilterKeys": None if topic == "Job" else [key[1], ""],
            "Index": self.index,
            "Payload": {topic: body},
        }
        self._history = [*self._history[-200:], (self.index, told)]
        for request, waiting in self._streams:
            if wants(request, told):
                waiting.put(_line(told))
        self._moved.notify_all()

    def _stream(self, request: Request) -> Answer:
        self.streams_opened += 1
        waiting: queue.Queue[bytes | None] = queue.Queue()
        with self._moved:
            first = int(request.query.get("index", "0"))
            old = [told for index, told in self._history if first and index >= first and wants(request, told)]
            self._streams.append((request, waiting))

        def pieces() -> Iterator[bytes]:
            yield b"{}\n"
            for told in old:
                yield _line(told)
            try:
                while True:
                    try:
                        piece = waiting.get(timeout=BEAT)
                    except queue.Empty:
                        piece = b"" if self.mute else b"{}\n"
                    if piece is None:
                        return
                    if piece:
                        yield piece
            finally:
                with self._moved:
                    self._streams = [s for s in self._streams if s[1] is not waiting]

        return Answer(stream=pieces)

    # The answers.

    def answer(self, request: Request) -> Answer:
        """What the cluster answers."""
        if request.path == "/v1/event/stream":
            return self.stream_trouble(request) or self._stream(request)
        with self._moved:
            self.reads += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.trouble(request) or self._state(request)
        finally:
            with self._moved:
                self._at_once -= 1

    def _state(self, request: Request) -> Answer:
        parts = request.path.removeprefix("/v1/job/").split("/")
        key = (request.query.get("namespace", "default"), unquote(parts[0]))
        if len(parts) == 1:
            with self._moved:
                job = self.jobs.get(key)
                return Answer(dict(job)) if job else Answer(b"job not found", 404)
        known = int(request.query.get("index", "0"))
        wait = float(request.query.get("wait", "0ms").removesuffix("ms")) / 1000
        with self._moved:
            store = self.allocs if parts[1] == "allocations" else self.evals
            if known:
                self._moved.wait_for(lambda: _newest(store.get(key, [])) > known, min(wait, self.hold))
            body = json.dumps(store.get(key, [])).encode()
            return Answer(body, headers={"X-Nomad-Index": str(_newest(store.get(key, [])) or self.index)})


def wants(request: Request, told: dict[str, Any]) -> bool:
    """Whether a stream was asked to tell of this."""
    if request.query.get("namespace", "default") not in {"*", told["Namespace"]}:
        return False
    keys = {told["Key"], "*", *(told["FilterKeys"] or ())}
    topics = [value.partition(":") for name, value in request.every if name == "topic"]
    return any(topic == told["Topic"] and (key or "*") in keys for topic, _, key in topics)


def _newest(entries: list[dict[str, Any]]) -> int:
    return max((e.get("ModifyIndex", e["CreateIndex"]) for e in entries), default=0)


def _line(told: dict[str, Any]) -> bytes:
    return json.dumps({"Index": told["Index"], "Events": [told]}).encode() + b"\n"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def event(kind: str, words: str, details: dict[str, str] | None = None) -> dict[str, Any]:
    return {"Type": kind, "DisplayMessage": words, "Time": time.time_ns(), "Details": details or {}}


def _terminated(code: int) -> dict[str, Any]:
    details = {"exit_code": str(code), "signal": "0", "oom_killed": "false"}
    return event("Terminated", f"Exit Code: {code}", details)
