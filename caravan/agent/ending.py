"""Ending a run's jobs on the cluster: which may still be there, and which of those are ours and alive.

It decides nothing about the run itself, and loads nothing heavy: the terminal's commands use it too.
"""

from typing import Final

from caravan.ports import Cluster, Store
from caravan.values.job import RegisteredJob
from caravan.values.run import Deployment, DeploymentState

_DEAD: Final = "dead"  # Nomad's status of a job none of whose allocations runs or waits


def open_deployments(store: Store, run_id: str) -> list[Deployment]:
    """Deployments that may still have a job on the cluster; one that was only intended may have been registered."""
    return [d for d in store.deployments(run_id) if d.state is not DeploymentState.FINISHED]


def has_ended(job: RegisteredJob) -> bool:
    """Whether none of the job's allocations runs or waits."""
    return job.status == _DEAD


def lives(cluster: Cluster, deployment: Deployment) -> RegisteredJob | None:
    """The job under the deployment's id, whoever's it is, as long as it has not ended."""
    job = cluster.find(deployment.job_id, deployment.namespace)
    if job is None or job.stopped or has_ended(job):
        return None
    return job


def is_ours_and_alive(cluster: Cluster, deployment: Deployment) -> bool:
    """Whether the job under the deployment's id is the one that was deployed, and has not ended."""
    job = lives(cluster, deployment)
    return job is not None and not is_others(job, deployment)


def is_others(job: RegisteredJob, deployment: Deployment) -> bool:
    """Whether somebody registered the job anew: an edited copy keeps our mark. We register each id once."""
    return bool(job.version) or job.spec_sha256 != deployment.spec_sha256


def end_jobs(store: Store, cluster: Cluster, run_id: str) -> list[str]:
    """End the run's jobs that are ours and alive; their ids come back. Raises ClusterError when it does not answer."""
    ended = []
    for deployment in open_deployments(store, run_id):
        if is_ours_and_alive(cluster, deployment):
            cluster.stop(deployment.job_id, deployment.namespace)
            ended.append(deployment.job_id)
    return ended
