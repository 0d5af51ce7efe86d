"""The API's nodes, agent and allocations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caravan.cluster.local import allocs, nodes
from caravan.cluster.local.broker import NAMESPACES, Broker, Refused
from caravan.cluster.local.encoding import Kept, listed
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.state import AllocRecord, State
from caravan.cluster.local.web import answer, settle
from caravan.cluster.local.words import JsonDict

_BUILTIN_POOLS = {"all": "Node pool with all nodes in the cluster.", "default": "Default node pool."}


@dataclass(frozen=True)
class Identity:
    """What the cluster says of itself. `since` is when it came up, in ns."""

    name: str
    address: str
    pid: int
    inventory: str
    since: int


class Cluster:
    """Handlers for what the cluster is and what it runs."""

    def __init__(self, state: State, broker: Broker, machines: Sequence[Node], identity: Identity) -> None:
        self._state = state
        self._broker = broker
        self._machines = machines
        self._identity = identity
        self._stubs = Kept()

    def routes(self) -> list[Route]:
        """The routes."""
        get = partial(Route, methods=["GET"])
        put = partial(Route, methods=["PUT", "POST"])
        return [
            get("/v1/agent/self", self.agent),
            get("/v1/agent/health", self.health),
            get("/v1/status/leader", self.leader),
            get("/v1/status/peers", self.peers),
            get("/v1/regions", self.regions),
            get("/v1/namespaces", self.namespaces),
            get("/v1/operator/scheduler/configuration", self.scheduler),
            get("/v1/nodes", self.nodes),
            get("/v1/node/pools", self.pools),
            get("/v1/node/{id}/allocations", self.node_allocations),
            get("/v1/node/{id}", self.node),
            get("/v1/allocations", self.allocations),
            put("/v1/allocation/{id}/stop", self.stop),
            get("/v1/allocation/{id}", self.allocation),
        ]

    async def agent(self, _: Request) -> Response:
        """GET /v1/agent/self: it says that it is the built-in cluster."""
        me = self._identity
        tags = {"caravan_builtin": "true", "role": "nomad", "region": "global", "dc": "dc1"}
        version = {"Version": nodes.NOMAD_VERSION, "VersionPrerelease": "", "VersionMetadata": "caravan"}
        config = {"Datacenter": "dc1", "NodeName": me.name, "Region": "global", "Version": version}
        return answer(
            {
                "config": config,
                "member": {"Addr": "127.0.0.1", "Name": me.name, "Status": "alive", "Tags": tags},
                "stats": {"caravan": {"pid": str(me.pid), "inventory": me.inventory}},
            }
        )

    async def health(self, _: Request) -> Response:
        """GET /v1/agent/health."""
        return answer({"client": {"message": "ok", "ok": True}, "server": {"message": "ok", "ok": True}})

    async def leader(self, _: Request) -> Response:
        """GET /v1/status/leader."""
        return answer(self._identity.address.removeprefix("http://"))

    async def peers(self, _: Request) -> Response:
        """GET /v1/status/peers."""
        return answer([self._identity.address.removeprefix("http://")])

    async def regions(self, _: Request) -> Response:
        """GET /v1/regions."""
        return answer(["global"])

    async def namespaces(self, _: Request) -> Response:
        """GET /v1/namespaces."""
        shown = [
            {
                "Capabilities": None,
                "CreateIndex": 1,
                "Description": "Default shared namespace",
                "Meta": None,
                "ModifyIndex": 1,
                "Name": name,
                "Quota": "",
            }
            for name in NAMESPACES
        ]
        return answer(shown, index=1)

    async def scheduler(self, _: Request) -> Response:
        """GET /v1/operator/scheduler/configuration."""
        config = {
            "CreateIndex": 1,
            "MemoryOversubscriptionEnabled": False,
            "ModifyIndex": 1,
            "PauseEvalBroker": False,
            "PreemptionConfig": {
                "BatchSchedulerEnabled": False,
                "ServiceSchedulerEnabled": False,
                "SysBatchSchedulerEnabled": False,
                "SystemSchedulerEnabled": False,
            },
            "RejectJobRegistration": False,
            "SchedulerAlgorithm": "binpack",
        }
        marks = {"Index": 1, "KnownLeader": True, "LastContact": 0, "NextToken": ""}
        return answer({"SchedulerConfig": config, **marks}, index=1)

    async def pools(self, _: Request) -> Response:
        """GET /v1/node/pools."""
        shown = [
            {
                "CreateIndex": 1,
                "Description": _BUILTIN_POOLS.get(name, ""),
                "Hash": None,
                "Meta": None,
                "ModifyIndex": 1,
                "Name": name,
                "SchedulerConfiguration": None,
            }
            for name in self._broker.pools
        ]
        return answer(shown, index=1)

    async def nodes(self, request: Request) -> Response:
        """GET /v1/nodes; `resources=true` adds what they have."""
        wanted = request.query_params.get("resources", "").lower() == "true"
        prefix = request.query_params.get("prefix", "")
        at = self._identity.since
        shown = [nodes.stub(n, at=at, index=1, resources=wanted) for n in self._machines if n.id.startswith(prefix)]
        return answer(shown, index=1)

    def _node(self, request: Request) -> Node:
        node_id = request.path_params["id"]
        if len(node_id) != 36:
            raise Refused("node lookup failed: index error: UUID must be 36 characters")
        for node in self._machines:
            if node.id == node_id:
                return node
        raise Refused("node not found", 404)

    async def node(self, request: Request) -> Response:
        """GET /v1/node/:id."""
        return answer(nodes.full(self._node(request), at=self._identity.since, index=1), index=1)

    async def node_allocations(self, request: Request) -> Response:
        """GET /v1/node/:id/allocations."""
        index = await settle(request, self._state, lambda: self._state.tables["allocs"])
        node = self._node(request)
        return answer([allocs.full(r) for r in self._state.allocs.values() if r.body["NodeID"] == node.id], index=index)

    async def allocations(self, request: Request) -> Response:
        """GET /v1/allocations."""
        index = await settle(request, self._state, lambda: self._state.tables["allocs"])
        prefix = request.query_params.get("prefix", "")
        found = [r for r in self._state.allocs.values() if r.id.startswith(prefix)]
        found.sort(key=lambda r: -int(r.body["CreateIndex"]))
        room = len(self._state.allocs)
        stubs = (self._stubs.of(r.id, r, partial(allocs.stub, r), room=room) for r in found)
        return answer(listed(stubs), index=index)

    def _record(self, request: Request) -> AllocRecord:
        alloc_id = request.path_params["id"]
        if len(alloc_id) != 36:
            raise Refused("alloc lookup failed: index error: UUID must be 36 characters")
        found = self._state.allocs.get(alloc_id)
        if found is None:
            raise Refused("alloc not found", 404)
        return found

    async def allocation(self, request: Request) -> Response:
        """GET /v1/allocation/:id."""
        own = self._record(request).body["JobID"]
        index = await settle(request, self._state, lambda: int(self._record(request).body["ModifyIndex"]), own)
        return answer(allocs.full(self._record(request)), index=index)

    async def stop(self, request: Request) -> Response:
        """POST /v1/allocation/:id/stop."""
        done: JsonDict = self._broker.stop_alloc(self._record(request))
        return answer(done, index=done["Index"])
