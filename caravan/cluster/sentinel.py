"""Reading the sentinel that the launch script leaves in the allocation."""

from caravan.cluster.snapshots import latest
from caravan.cluster.watch import SENTINEL_PATH, parse_sentinel
from caravan.ports import Cluster
from caravan.values.errors import ClusterUnreachable, JobNotFound
from caravan.values.run import Sentinel, Snapshot


def read_sentinel(cluster: Cluster, snapshot: Snapshot) -> Sentinel | None:
    """The sentinel of the job's latest allocation that has one, or None: collected, never written, or unreadable.

    A cluster that does not answer raises ClusterUnreachable where the answer would decide on a success; for an
    allocation that failed or whose node is lost it changes nothing.
    """
    for allocation in latest(snapshot.allocations):
        try:
            data = cluster.read_file(allocation.id, SENTINEL_PATH)
        except JobNotFound:
            continue
        except ClusterUnreachable:
            if allocation.client_status == "complete":
                raise
            continue
        sentinel = parse_sentinel(data) if data is not None else None
        if sentinel is not None:
            return sentinel
    return None
