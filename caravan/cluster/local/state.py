"""Jobs, evaluations and allocations with their indexes: in memory, and in SQLite before anything is answered.

Everything happens on one event loop, so there are no locks. Stored objects are never changed in place: a `Change`
collects whole new ones and commits them in one transaction; then readers and waiters see them. Knows nothing of
scheduling, processes or HTTP.
"""

import asyncio
import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caravan.cluster.local.encoding import encoded
from caravan.cluster.local.words import JsonDict, now_ns

_VERSIONS_KEPT = 6  # as Nomad
_EVENTS_KEPT = 1000
_ORPHANS_KEPT = 100  # allocations of purged jobs
_EVALS_KEPT = 2000
TERMINAL = ("complete", "failed", "lost")
_OPEN_EVALS = ("pending", "blocked")
_TABLES = ("jobs", "evals", "allocs")


@dataclass(frozen=True)
class AllocRecord:
    """An allocation: `body` is what the API shows (without the job), the rest is the cluster's own.

    `runs`: how many runs of each task have been recorded to their end. `expired`: max_run_duration was exceeded.
    """

    body: JsonDict
    job: JsonDict
    runs: dict[str, int] = field(default_factory=dict)
    expired: bool = False

    @property
    def id(self) -> str:
        """The allocation's id."""
        return str(self.body["ID"])

    @property
    def client_terminal(self) -> bool:
        """Whether the client has reported its end."""
        return self.body["ClientStatus"] in TERMINAL

    @property
    def holds(self) -> bool:
        """Whether it holds resources: until its last task has ended, also when it already counts as ended."""
        states = (self.body.get("TaskStates") or {}).values()
        return not self.client_terminal or any(s["StartedAt"] and s["State"] != "dead" for s in states)


@dataclass(frozen=True)
class Event:
    """An entry of the event stream. `line` tells apart the lines that one index comes in."""

    index: int
    topic: str
    type: str
    key: str
    filter_keys: tuple[str, ...]
    payload: JsonDict
    line: int = 0

    def shown(self) -> JsonDict:
        """The event as the API shows it."""
        return {
            "FilterKeys": list(self.filter_keys) or None,
            "Index": self.index,
            "Key": self.key,
            "Namespace": "default",
            "Payload": self.payload,
            "Topic": self.topic,
            "Type": self.type,
        }


class State:
    """The cluster's memory. Open it with the file it lives in.

    OSError and SQLite errors pass through to the caller; ValueError, KeyError and TypeError for a file that holds
    something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite's other files take over its mode
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS objects(kind TEXT, id TEXT, body TEXT, PRIMARY KEY(kind, id))")
        self.jobs: dict[str, JsonDict] = {}
        self.versions: dict[str, list[JsonDict]] = {}
        self.evals: dict[str, JsonDict] = {}
        self.allocs: dict[str, AllocRecord] = {}
        self._of_job: dict[str, dict[str, set[str]]] = {"alloc": {}, "eval": {}}  # ids by job
        self.holding: dict[str, AllocRecord] = {}  # those allocations that hold resources
        self.open_evals: dict[str, JsonDict] = {}  # those evaluations that are not over
        self._gone: set[str] = set()  # jobs that are purged and have left allocations
        self.touched: dict[str, int] = {}  # the index of the last change of a job, its evaluations and allocations
        self.index = 1
        self.tables = dict.fromkeys(_TABLES, 1)
        self.events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}  # for a job, or for anything
        self._load()

    def _load(self) -> None:
        rows: dict[str, dict[str, Any]] = {}
        for kind, key, body in self._db.execute("SELECT kind, id, body FROM objects"):
            rows.setdefault(kind, {})[key] = json.loads(body)
        self.jobs, self.versions, self.evals = (rows.get(kind, {}) for kind in ("job", "versions", "eval"))
        for key, job in self.jobs.items():  # the newest version is the job itself, stored once
            older = self.versions.get(key, [])
            self.versions[key] = older if older and older[0]["Version"] == job["Version"] else [job, *older]
        jobs = rows.get("alloc_job", {})
        for key, stored in rows.get("alloc", {}).items():
            self.allocs[key] = AllocRecord(stored["body"], jobs[key], stored["runs"], stored["expired"])
        for key, record in self.allocs.items():
            self.belongs("alloc", key, str(record.body["JobID"]))
            if record.holds:
                self.holding[key] = record
        for key, evaluation in self.evals.items():
            self.belongs("eval", key, str(evaluation["JobID"]))
            if evaluation["Status"] in _OPEN_EVALS:
                self.open_evals[key] = evaluation
        self.note_gone(self._of_job["alloc"])
        self.index = rows.get("meta", {}).get("index", 1)
        self.tables = dict.fromkeys(_TABLES, self.index)
        # Whoever starts the cluster is to hear at once that nothing can be stored.
        self._db.execute(
            "INSERT OR REPLACE INTO objects(kind, id, body) VALUES('meta', 'index', ?)", (str(self.index),)
        )

    def belongs(self, kind: str, key: str, job_id: str, *, gone: bool = False) -> None:
        """Note that an allocation or evaluation is of a job, or is no more."""
        keys = self._of_job[kind].setdefault(job_id, set())
        if gone:
            keys.discard(key)
        else:
            keys.add(key)

    def note_gone(self, job_ids: Iterable[str]) -> None:
        """Note which of these jobs are gone and have left allocations."""
        gone = {job_id for job_id in job_ids if job_id not in self.jobs and self._of_job["alloc"].get(job_id)}
        self._gone = (self._gone - set(job_ids)) | gone

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def change(self, cause: str) -> Iterator["Change"]:
        """Collect changes under one new index and commit them together; `cause` is the event's type."""
        change = Change(self, cause)
        yield change
        change.settle()
        if change.puts or change.drops:
            self._commit(change)

    def _commit(self, change: "Change") -> None:
        rows = [(kind, key, encoded(body).decode()) for (kind, key), body in change.rows().items()]
        rows.append(("meta", "index", str(change.index)))
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT OR REPLACE INTO objects(kind, id, body) VALUES(?, ?, ?)", rows)
            self._db.executemany("DELETE FROM objects WHERE kind = ? AND id = ?", change.drops)
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # whatever went wrong: the next change needs one of its own
                self._db.execute("ROLLBACK")
        self.index = change.index
        for key in ("", *change.apply()):
            for waiter in self._waiting.pop(key, ()):
                if not waiter.done():
                    waiter.set_result(None)

    async def moved(self, seconds: float, job_id: str = "") -> None:
        """Return after the next commit (that touches the job, where one is named), or after so many seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return
        finally:
            others = self._waiting.get(job_id, set())
            others.discard(waiter)
            if not others:
                self._waiting.pop(job_id, None)

    def allocs_of(self, job_id: str) -> list[AllocRecord]:
        """The allocations of a job, the newest first."""
        found = [self.allocs[key] for key in self._of_job["alloc"].get(job_id, ())]
        return sorted(found, key=lambda a: (-a.body["CreateIndex"], a.body["Name"]))

    def evals_of(self, job_id: str) -> list[JsonDict]:
        """The evaluations of a job, the newest first."""
        found = [self.evals[key] for key in self._of_job["eval"].get(job_id, ())]
        return sorted(found, key=lambda e: -int(e["CreateIndex"]))

    def orphans(self) -> list[str]:
        """Ended allocations of jobs that are gone, beyond the number that is kept: the oldest first."""
        of_job = self._of_job["alloc"]
        ended = [self.allocs[k] for gone in self._gone for k in of_job.get(gone, ()) if k not in self.holding]
        ended.sort(key=lambda a: int(a.body["ModifyIndex"]))
        return [a.id for a in ended[: max(0, len(ended) - _ORPHANS_KEPT)]]

    def stale_evals(self) -> list[str]:
        """Ended evaluations beyond the number that is kept: the oldest first."""
        if len(self.evals) <= _EVALS_KEPT:
            return []
        ended = [e for e in self.evals.values() if e["Status"] not in _OPEN_EVALS]
        ended.sort(key=lambda e: int(e["ModifyIndex"]))
        return [str(e["ID"]) for e in ended[: max(0, len(self.evals) - _EVALS_KEPT)]]


class Change:
    """New objects under one index. `now` is the change's time in nanoseconds."""

    def __init__(self, state: State, cause: str) -> None:
        self._state = state
        self._cause = cause
        self.index = state.index + 1
        self.now = now_ns()
        self.puts: dict[tuple[str, str], Any] = {}
        self.drops: list[tuple[str, str]] = []
        self._touched: set[str] = set()
        self._versioned: set[str] = set()

    def put_job(self, job: JsonDict, *, version: bool) -> None:
        """Store a job; `version` adds it to its history instead of replacing the newest entry."""
        key = job["ID"]
        history = list(self.puts.get(("versions", key)) or self._state.versions.get(key, []))
        history = [job, *history][:_VERSIONS_KEPT] if version else [job, *history[1:]]
        self.puts["job", key] = job
        self.puts["versions", key] = history
        if version:
            self._versioned.add(key)
        self._touched.add(key)

    def drop_job(self, job_id: str) -> None:
        """Forget a job and its versions; its evaluations and allocations stay."""
        self.drops += [("job", job_id), ("versions", job_id)]

    def put_eval(self, evaluation: JsonDict) -> JsonDict:
        """Store an evaluation with this change's index and time; the stored one comes back."""
        stored = {**evaluation, "ModifyIndex": self.index, "ModifyTime": self.now}
        stored.setdefault("CreateIndex", self.index)
        stored.setdefault("CreateTime", self.now)
        self.puts["eval", stored["ID"]] = stored
        self._touched.add(stored["JobID"])
        return stored

    def put_alloc(self, record: AllocRecord) -> None:
        """Store an allocation with this change's index and time."""
        body = {**record.body, "ModifyIndex": self.index, "ModifyTime": self.now}
        body.setdefault("CreateIndex", self.index)
        body.setdefault("CreateTime", self.now)
        body.setdefault("AllocModifyIndex", self.index)
        self.puts["alloc", record.id] = AllocRecord(body, record.job, record.runs, record.expired)
        self._touched.add(body["JobID"])

    def drop_alloc(self, alloc_id: str) -> None:
        """Forget an allocation."""
        self.drops += [("alloc", alloc_id), ("alloc_job", alloc_id)]

    def drop_eval(self, eval_id: str) -> None:
        """Forget an evaluation."""
        self.drops.append(("eval", eval_id))

    def settle(self) -> None:
        """Give each touched job the status that its evaluations and allocations now make."""
        dropped = set(self.drops)
        if self._cause == "PlanResult":
            self._mark_evaluations()
        for job_id in self._touched:
            job = self.puts.get(("job", job_id)) or self._state.jobs.get(job_id)
            if job is None or ("job", job_id) in dropped:
                continue
            status = self._status(job)
            if status != job["Status"]:
                self.put_job({**job, "Status": status, "ModifyIndex": self.index}, version=False)

    def _mark_evaluations(self) -> None:
        """As in Nomad, a plan's result changes the evaluations that it comes from."""
        sources = {v.body["EvalID"] for (kind, _), v in self.puts.items() if kind == "alloc"}
        for eval_id in sources:
            known = self._state.evals.get(eval_id)
            if known is not None and known["Status"] == "pending" and ("eval", eval_id) not in self.puts:
                self.put_eval(known)

    def _status(self, job: JsonDict) -> str:
        """Nomad's rule: running with an allocation that is not over, pending with an open evaluation, else dead."""
        if job.get("ParameterizedJob") and not job.get("Dispatched"):
            return "dead" if job["Stop"] else "running"
        key = job["ID"]
        allocs = {a.id: a for a in self._state.allocs_of(key)}
        allocs |= {k: v for (kind, k), v in self.puts.items() if kind == "alloc" and v.body["JobID"] == key}
        evals = {e["ID"]: e for e in self._state.evals_of(key)}
        evals |= {k: v for (kind, k), v in self.puts.items() if kind == "eval" and v["JobID"] == key}
        own = [a for a in allocs.values() if a.job["CreateIndex"] == job["CreateIndex"]]
        if any(not a.client_terminal and a.body["DesiredStatus"] == "run" for a in own):
            return "running"
        if any(not a.client_terminal for a in own):
            return "dead" if job["Stop"] else "running"
        if any(e["Status"] in _OPEN_EVALS for e in evals.values()) and not job["Stop"]:
            return "pending"
        return "dead" if job["Stop"] or own or evals else "pending"

    def rows(self) -> dict[tuple[str, str], Any]:
        """The rows to write."""
        rows: dict[tuple[str, str], Any] = {}
        for (kind, key), value in self.puts.items():
            if kind == "versions":
                if key in self._versioned:
                    rows[kind, key] = value[1:]
                continue
            if kind != "alloc":
                rows[kind, key] = value
                continue
            rows[kind, key] = {"body": value.body, "runs": value.runs, "expired": value.expired}
            if key not in self._state.allocs or self._state.allocs[key].job is not value.job:
                rows["alloc_job", key] = value.job
        return rows

    def apply(self) -> set[str]:
        """Make the committed objects visible and tell the event stream; the jobs that this touches come back."""
        state = self._state
        stores: dict[str, tuple[dict[str, Any], str]] = {
            "job": (state.jobs, "jobs"),
            "versions": (state.versions, "jobs"),
            "eval": (state.evals, "evals"),
            "alloc": (state.allocs, "allocs"),
        }
        purged = [state.jobs[key] for kind, key in self.drops if kind == "job" and key in state.jobs]
        touched: set[str] = set()
        for (kind, key), value in self.puts.items():
            store, table = stores[kind]
            store[key] = value
            state.tables[table] = self.index
            touched.add(key if kind in ("job", "versions") else _job_of(value))
            if kind in ("alloc", "eval"):
                state.belongs(kind, key, _job_of(value))
                self._sort_in(kind, key, value)
        for kind, key in self.drops:
            if kind not in stores:
                continue
            dropped = stores[kind][0].pop(key, None)
            state.tables[stores[kind][1]] = self.index
            if kind in ("job", "versions"):
                touched.add(key)
            elif dropped is not None:
                touched.add(_job_of(dropped))
                state.belongs(kind, key, _job_of(dropped), gone=True)
                self._sort_in(kind, key, None)
        state.note_gone(touched)
        state.touched.update(dict.fromkeys(touched, self.index))
        state.events.extend(self._told(purged))
        return touched

    def _sort_in(self, kind: str, key: str, value: Any) -> None:
        """Keep the lists of what holds resources and of what is not over; None for what is gone."""
        if kind == "alloc":
            if value is not None and value.holds:
                self._state.holding[key] = value
            else:
                self._state.holding.pop(key, None)
        elif value is not None and value["Status"] in _OPEN_EVALS:
            self._state.open_evals[key] = value
        else:
            self._state.open_evals.pop(key, None)

    def _told(self, purged: list[JsonDict]) -> Iterator[Event]:
        """What the event stream says of this change, in Nomad's order: a registration's job comes first, in a line of
        its own; a plan's evaluation comes before the allocations, and those before the job."""
        apart = self._cause in ("JobRegistered", "JobDeregistered")
        for job in purged:
            yield Event(self.index, "Job", self._cause, job["ID"], (), {"Deleted": True, "Job": job})
        order = {"job": 0, "eval": 1, "alloc": 2} if apart else {"eval": 0, "alloc": 1, "job": 2}
        topics = {"job": "Job", "eval": "Evaluation", "alloc": "Allocation"}
        told = [(kind, key, value) for (kind, key), value in self.puts.items() if kind in topics]
        for kind, key, value in sorted(told, key=lambda t: order[t[0]]):
            body = value.body if isinstance(value, AllocRecord) else value
            related = () if kind == "job" else (str(body["JobID"]), "")
            line = 1 if apart and kind != "job" else 0
            yield Event(self.index, topics[kind], self._cause, key, related, {topics[kind]: body}, line)


def _job_of(value: Any) -> str:
    """The id of the job that an allocation or evaluation is of."""
    return str((value.body if isinstance(value, AllocRecord) else value)["JobID"])
