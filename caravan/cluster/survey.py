"""What a cluster consists of, asked for: its agent, its nodes, its CSI volumes → `ClusterFacts`.

Holds which requests that takes. Attributes and meta of a node, which constraints speak of, stand in its own document
alone, so each ready node costs a request: they go out together, and a node that has not changed since is not asked for
again. What the JSON means is read in `facts`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from caravan.cluster.connection import Connection, NoSuchCall
from caravan.cluster.facts import to_facts, to_node
from caravan.cluster.versions import require
from caravan.values.base import Json
from caravan.values.errors import ClusterDenied, JobNotFound, JobRefused
from caravan.values.job import ClusterFacts, NodeFacts

AT_ONCE: Final = 8  # requests for nodes that are under way at the same time


class Survey:
    """Looks at one cluster. `agent`, `nodes` and `node` are python-nomad's endpoints over the connection's session."""

    def __init__(self, connection: Connection, agent: Any, nodes: Any, node: Any, namespace: str) -> None:
        self._connection = connection
        self._agent = agent
        self._nodes = nodes
        self._node = node
        self._namespace = namespace
        self._known: dict[tuple[str, int], NodeFacts] = {}  # by id and ModifyIndex

    def facts(self) -> ClusterFacts:
        """The cluster now. A token that may not read the agent gets the nodes' version instead.

        Raises ClusterError for a Nomad that is too old to work with.
        """
        what = "read the agent"
        try:
            agent = self._connection.shape(
                self._connection.call(self._agent.get_agent, what=what, repeat=True), dict, what
            )
        except ClusterDenied:
            agent = {}
        what = "list the nodes"
        stubs = self._connection.shape(self._connection.call(self._nodes.get_nodes, what=what, repeat=True), list, what)
        with self._connection.reading(what):
            nodes = self._all(stubs)
            facts = to_facts(
                agent,
                nodes,
                address=self._connection.shown,
                region=self._connection.region,
                csi_volumes=self._csi_volumes(),
            )
        require(facts.version)
        return facts

    def _all(self, stubs: Sequence[Json]) -> list[NodeFacts]:
        keys = [(stub["ID"], stub.get("ModifyIndex") or 0) for stub in stubs]
        asked = [stub for stub, key in zip(stubs, keys, strict=True) if key not in self._known or not key[1]]
        if len(asked) > 1:
            with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(asked))) as pool:
                read = list(pool.map(self._one, asked))
        else:
            read = [self._one(stub) for stub in asked]
        fresh = {(stub["ID"], stub.get("ModifyIndex") or 0): node for stub, node in zip(asked, read, strict=True)}
        self._known = {key: fresh[key] if key in fresh else self._known[key] for key in keys}
        return list(self._known.values())

    def _one(self, stub: Json) -> NodeFacts:
        """A ready node's document; a node that is away keeps its stub, and one that just left is no error."""
        if stub["Status"] != "ready":
            return to_node(stub)
        what = "read a node"
        try:
            found = self._connection.call(lambda: self._node.get_node(stub["ID"]), what=what, repeat=True)
        except JobNotFound:
            return to_node(stub | {"Status": "down"})
        return to_node(self._connection.shape(found, dict, what))

    def _csi_volumes(self) -> tuple[str, ...] | None:
        """The ids of the namespace's CSI volumes; None where the token may not list them or the cluster has no such."""
        what = "list the CSI volumes"
        params = {"type": "csi", "namespace": self._namespace}
        try:
            answer = self._connection.send("GET", "/v1/volumes", what=what, params=params, repeat=True)
        except (ClusterDenied, JobRefused, NoSuchCall):
            return None
        found = self._connection.call(answer.json, what=what)
        return tuple(sorted({str(volume["ID"]) for volume in found or ()}))
