"""Whether what the cluster has under a job's id is still what this run registered there. Pure.

Measured on Nomad: registering an unchanged job again adds an evaluation and leaves JobModifyIndex and version; a
changed one, and a stop, give both anew; each allocation tells the version that it runs.
"""

from caravan.values.job import RegisteredJob
from caravan.values.run import Deployment, Phase, Snapshot


def changed_by_others(snapshot: Snapshot, deployment: Deployment) -> str:
    """How the job differs from the registered one, or an empty text. A stop, whoever's, is no change.

    A job that this run registered has version 0, because its id was new.
    """
    if snapshot.phase is Phase.GONE:
        return ""
    ran = max((a.job_version or 0 for a in snapshot.allocations), default=0)
    if snapshot.stopped:  # the stop itself made the newest version
        return f"version {ran} of it ran, version 0 was registered" if 0 < ran < snapshot.version else ""
    now = "that has ended" if snapshot.phase is Phase.ENDED else "that still runs"
    if snapshot.version > 0:
        return f"somebody registered version {snapshot.version} of it, and {now}"
    return f"somebody registered it anew, and {now}" if _moved(snapshot, deployment) else ""


def may_be_another(snapshot: Snapshot, deployment: Deployment) -> bool:
    """Whether only the job's own meta can tell: it was stopped, and before that somebody may have replaced it."""
    return snapshot.stopped and snapshot.phase is not Phase.GONE and _moved(snapshot, deployment)


def replaced(found: RegisteredJob | None, deployment: Deployment) -> str:
    """How the job that was found under the id differs by its meta, or an empty text; None: it is gone."""
    if found is None or found.spec_sha256 == deployment.spec_sha256:
        return ""
    return "the job under its id is of another specification"


def _moved(snapshot: Snapshot, deployment: Deployment) -> bool:
    known, now = deployment.job_modify_index, snapshot.modify_index
    return bool(known and now and known != now)
