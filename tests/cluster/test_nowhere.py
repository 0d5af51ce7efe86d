"""No cluster: it tells that it is none, and refuses everything else by name."""

import inspect

import pytest

from caravan.cluster.nowhere import NoCluster
from caravan.ports import Cluster
from caravan.values.errors import ClusterError
from caravan.values.job import ClusterKind


def test_it_is_none_and_has_no_nodes() -> None:
    cluster: Cluster = NoCluster()
    facts = cluster.facts()
    assert (facts.kind, facts.nodes, facts.shared_files) == (ClusterKind.NONE, (), False)
    assert cluster.token() is None


@pytest.mark.parametrize(
    "name", sorted(n for n in vars(Cluster) if not n.startswith("_") and n not in ("facts", "token"))
)
def test_everything_else_is_refused_with_what_to_do(name: str) -> None:
    method = getattr(NoCluster(), name)
    needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
    given = {p.name: "x" for p in needed if p.kind is p.KEYWORD_ONLY}
    with pytest.raises(ClusterError, match="no cluster") as caught:
        method(*("x" for p in needed if p.kind is not p.KEYWORD_ONLY), **given)
    assert "--cluster" in caught.value.hint
