"""Questions to a cluster that change nothing: is it there, what may the token do, what has it. Bounded in time.

Holds which request shows which right; what the answers mean for a person is judged elsewhere. A right is only shown by
the call that needs it: Nomad has no question "may I". Each probe is asked once, without repeats.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from caravan.cluster.connection import Connection, NoSuchCall, Params
from caravan.cluster.versions import left_out, parse_version
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.checkup import Examination, Heard, Probe
from caravan.values.errors import (
    CaravanError,
    ClusterDenied,
    ClusterUnreachable,
    JobNotFound,
)
from caravan.values.job import ClusterFacts, TokenFacts

if TYPE_CHECKING:
    from caravan.ports import Cluster

LONGEST: Final = 45.0  # seconds after which no further probe is begun
JOB_ID: Final = "caravan-doctor"
NO_ALLOC: Final = "00000000-0000-4000-8000-000000000000"
_HEARS: Final = 2.0  # seconds in which an event stream that is refused would have said so
_JOB: Final = f"""
job "{JOB_ID}" {{
  type        = "batch"
  datacenters = ["*"]
  group "probe" {{
    task "probe" {{
      driver = "raw_exec"
      config {{
        command = "/bin/true"
      }}
      resources {{
        cpu    = 1
        memory = 10
      }}
    }}
  }}
}}
"""
"""A job that is parsed, validated and planned, and never registered."""


class _Call(NamedTuple):
    name: str
    what: str
    path: str
    read: Callable[[Any], Json]
    params: dict[str, str | int]


class Prober:
    """Asks one cluster. `cluster` gives what the port can say, `connection` the rest, `namespace` the job's."""

    def __init__(self, cluster: "Cluster", connection: Connection, clock: Clock, namespace: str) -> None:
        self._cluster = cluster
        self._connection = connection
        self._clock = clock
        self._namespace = namespace
        self._probes: list[Probe] = []
        self._began = clock.monotonic()
        self._facts: ClusterFacts | None = None
        self._token: TokenFacts | None = None

    def examine(self, *, has_token: bool, verified: bool | None) -> Examination:
        """Everything that can be asked. When nobody answers the first question, it is the only one."""
        if self._ask("leader", self._leader) not in (Heard.UNREACHABLE, Heard.FAILED):
            self._ask("token", self._look_at_token)
            self._ask("nodes", self._look_at_facts)
            for call in self._reads():
                self._ask(call.name, partial(self._get, call))
            self._rights()
        version = self._facts.version if self._facts else ""
        return Examination(
            address=self._connection.shown,
            namespace=self._namespace,
            has_token=has_token,
            verified=verified,
            probes=tuple(self._probes),
            facts=self._facts,
            token=self._token,
            left_out=left_out(parse_version(version)) if version else (),
        )

    def _ask(self, name: str, question: Callable[[], Json]) -> Heard:
        """Ask, unless the time is up or the cluster went away meanwhile."""
        gone = any(p.heard is Heard.UNREACHABLE for p in self._probes)
        began = self._clock.monotonic()
        if gone or began - self._began > LONGEST:
            self._probes.append(Probe(name=name, heard=Heard.SKIPPED))
            return Heard.SKIPPED
        heard, said, found = Heard.OK, ("", ""), None
        try:
            found = question()
        except CaravanError as error:
            heard, said = _heard(error), (error.message, error.hint)
        seconds = self._clock.monotonic() - began
        self._probes.append(
            Probe(name=name, heard=heard, message=said[0], hint=said[1], seconds=max(0.0, seconds), found=found)
        )
        return heard

    def _leader(self) -> Json:
        """Needs no right, and goes to the servers: an agent without them answers 500."""
        leader = self._json("/v1/status/leader", "find its leader", {})
        return leader if isinstance(leader, str) else ""

    def _look_at_token(self) -> Json:
        self._token = self._cluster.token()
        return self._token is not None

    def _look_at_facts(self) -> Json:
        self._facts = self._cluster.facts()
        return len(self._facts.nodes)

    def _reads(self) -> list[_Call]:
        here: dict[str, str | int] = {"namespace": self._namespace}
        return [
            _Call("agent", "read the agent", "/v1/agent/self", lambda _: None, {}),
            _Call("regions", "list the regions", "/v1/regions", list, {}),
            _Call("namespaces", "list the namespaces", "/v1/namespaces", _names, {}),
            _Call("pools", "list the node pools", "/v1/node/pools", _names, {}),
            _Call("scheduler", "read the scheduler's settings", "/v1/operator/scheduler/configuration", _scheduler, {}),
            _Call("read-job", "read a job", f"/v1/job/{JOB_ID}", lambda _: None, here),
            _Call("allocations", "list allocations", "/v1/allocations", _an_alloc, {**here, "per_page": 20}),
        ]

    def _get(self, call: _Call) -> Json:
        answer = self._json(call.path, call.what, call.params)
        with self._connection.reading(call.what):
            return call.read(answer)

    def _json(self, path: str, what: str, params: dict[str, str | int]) -> Json:
        response = self._connection.send("GET", path, what=what, params=params)
        return self._connection.call(response.json, what=what)

    def _rights(self) -> None:
        job: list[Json] = []
        if self._ask("parse", lambda: job.append(self._cluster.parse(_JOB))) is Heard.OK:
            body = {"Job": {**job[0], "Namespace": self._namespace}}
            plan = f"/v1/job/{JOB_ID}/plan"
            self._ask("validate", lambda: self._put("/v1/validate/job", "validate a job", body))
            self._ask("plan", lambda: self._put(plan, "plan a job", body))
        alloc = next((p.found for p in self._probes if p.name == "allocations" and p.found), None)
        alloc_id, task = (str(alloc[0]), str(alloc[1])) if isinstance(alloc, list) else (NO_ALLOC, "train")
        self._ask("read-logs", lambda: self._fs("logs", alloc_id, {"task": task, "type": "stdout", "plain": "true"}))
        self._ask("read-fs", lambda: self._fs("ls", alloc_id, {"path": "alloc"}))
        self._ask("events", self._events)
        self._ask("variables", self._variables)

    def _variables(self) -> Json:
        return self._cluster.variable_names("nomad/jobs", self._namespace) is not None

    def _put(self, path: str, what: str, body: Json) -> Json:
        params: dict[str, str | int] = {"namespace": self._namespace}
        self._connection.send("PUT", path, what=what, params=params, json=body)
        return None

    def _fs(self, call: str, alloc_id: str, params: dict[str, str | int]) -> Json:
        """The answer's first bytes; whether there was an allocation to ask about is what is found."""
        what = {"logs": "read a log", "ls": "list files"}[call]
        query = {**params, "namespace": self._namespace}
        self._connection.read(f"/v1/client/fs/{call}/{quote(alloc_id, safe='')}", what=what, params=query, limit=1)
        return True

    def _events(self) -> Json:
        """Open the stream. One that says nothing for a while was not refused: nothing has happened yet."""
        from caravan.cluster.refusals import TimedOut

        params: Params = {"topic": [f"Job:{JOB_ID}"], "namespace": self._namespace}
        try:
            with self._connection.stream("/v1/event/stream", what="follow events", params=params, idle=_HEARS):
                return True
        except TimedOut:
            return False


def _heard(error: CaravanError) -> Heard:
    if isinstance(error, ClusterDenied):
        return Heard.DENIED
    if isinstance(error, (JobNotFound, NoSuchCall)):
        return Heard.ABSENT
    return Heard.UNREACHABLE if isinstance(error, ClusterUnreachable) else Heard.FAILED


def _names(answer: Any) -> Json:
    return [item["Name"] for item in answer]


def _scheduler(answer: Any) -> Json:
    config = answer["SchedulerConfig"]
    preemption = config.get("PreemptionConfig") or {}
    return {
        "oversubscription": bool(config.get("MemoryOversubscriptionEnabled")),
        "preemption": bool(preemption.get("BatchSchedulerEnabled")),
        "closed": bool(config.get("RejectJobRegistration")),
    }


def _an_alloc(answer: Any) -> Json:
    """An allocation that has run a task, with the task: its logs and files show whether they may be read."""
    for alloc in answer:
        for task, state in (alloc.get("TaskStates") or {}).items():
            if state.get("StartedAt"):
                return [alloc["ID"], task]
    return None
