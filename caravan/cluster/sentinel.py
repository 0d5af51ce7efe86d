"""Reading the sentinel that the launch script leaves in the allocation."""

from caravan.cluster.snapshots import latest
from caravan.cluster.watch import SENTINEL_PATH, parse_sentinel
from caravan.ports import Cluster
from caravan.values.errors import ClusterUnreachable, JobNotFound
from caravan.values.run import Allocation, Sentinel, Snapshot


def read_sentinel(cluster: Cluster, snapshot: Snapshot) -> Sentinel | None:
    """The sentinel that decides on the job, or None: collected, never written, or unreadable in an allocation.

    Of several allocations each must have one, and one that tells of a failure is the job's. A cluster that does not
    answer raises ClusterUnreachable where the answer would decide on a success; for an allocation that failed or whose
    node is lost it changes nothing.
    """
    found = [_sentinel(cluster, allocation) for allocation in latest(snapshot.allocations)]
    failed = next((sentinel for sentinel in found if sentinel is not None and sentinel.exit_code != 0), None)
    if failed is not None or not found or None in found:
        return failed
    ids = {(sentinel.job_id, sentinel.spec_sha256) for sentinel in found if sentinel is not None}
    return found[0] if len(ids) == 1 else None


def _sentinel(cluster: Cluster, allocation: Allocation) -> Sentinel | None:
    try:
        data = cluster.read_file(allocation.id, SENTINEL_PATH)
    except JobNotFound:
        return None
    except ClusterUnreachable:
        if allocation.client_status == "complete":
            raise
        return None
    return parse_sentinel(data) if data is not None else None
