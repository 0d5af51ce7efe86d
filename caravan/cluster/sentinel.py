"""Reading the sentinel that the launch script leaves in the allocation."""

from caravan.cluster.files import FileTooLarge
from caravan.cluster.snapshots import latest
from caravan.cluster.watch import SENTINEL_PATH, parse_sentinel
from caravan.ports import Cluster
from caravan.values.errors import ClusterDenied, ClusterError, JobNotFound
from caravan.values.run import Allocation, Sentinel, Snapshot


def read_sentinel(cluster: Cluster, snapshot: Snapshot) -> Sentinel | None:
    """The sentinel that decides on the job, or None: collected, never written, or unreadable in an allocation.

    Of several allocations each must have one, and one that tells of a failure is the job's. A cluster that does not
    answer, or not with the file, raises ClusterError where the answer would decide on a success; for an allocation
    that failed or whose node is lost it changes nothing.
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
    except (JobNotFound, FileTooLarge):  # what our script writes is small
        return None
    except ClusterError as error:
        if allocation.client_status != "complete":
            return None
        if isinstance(error, ClusterDenied):
            hint = "Whether the job succeeded stands in its result file: give the token the capability read-fs."
            raise ClusterDenied(error.message, hint=hint) from error
        raise
    return parse_sentinel(data) if data is not None else None
