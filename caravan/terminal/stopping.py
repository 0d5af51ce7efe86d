"""Stopping a run: marked in the store first, then its jobs are told to end. Used by `stop`, `delete` and Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caravan.terminal.text import one_line

if TYPE_CHECKING:
    from caravan.ports import Cluster
    from caravan.terminal.wiring import Wiring
    from caravan.values.run import Deployment, RunRecord

_DEAD = "dead"  # Nomad's status of a job none of whose allocations runs or waits


def stop_run(wiring: Wiring, record: RunRecord) -> list[str]:
    """Mark the run as stopped and end its jobs; the ids of those that were told to end come back."""
    from caravan.values.run import RunEvent, RunStatus

    store = wiring.store()
    if record.status is not RunStatus.STOPPED:
        # Marked first: an agent that watches the job must not take its end for a failure to repair.
        store.update_run(record.id, status=RunStatus.STOPPED, detail="stopped by the user")
        store.add_event(record.id, RunEvent(at=wiring.clock.now(), kind="stopped", text="stopped by the user"))
    return stop_jobs(wiring, record)


def stop_jobs(wiring: Wiring, record: RunRecord) -> list[str]:
    """End the run's jobs that are ours and alive."""
    deployments = open_deployments(wiring, record)
    if not deployments:
        return []
    cluster = wiring.cluster(record.request)
    stopped = []
    for deployment in deployments:
        if is_ours_and_alive(cluster, deployment):
            cluster.stop(deployment.job_id, deployment.namespace)
            stopped.append(one_line(deployment.job_id))
    return stopped


def running_jobs(wiring: Wiring, record: RunRecord) -> list[str]:
    """The run's jobs that are ours and alive."""
    deployments = open_deployments(wiring, record)
    if not deployments:
        return []  # and the cluster need not answer
    cluster = wiring.cluster(record.request)
    return [one_line(d.job_id) for d in deployments if is_ours_and_alive(cluster, d)]


def open_deployments(wiring: Wiring, record: RunRecord) -> list[Deployment]:
    """Deployments that may still have a job on the cluster; one that was only intended may have been registered."""
    from caravan.values.run import DeploymentState

    return [d for d in wiring.store().deployments(record.id) if d.state is not DeploymentState.FINISHED]


def is_ours_and_alive(cluster: Cluster, deployment: Deployment) -> bool:
    """Whether the job under the deployment's id is the one that was deployed, and has not ended."""
    job = cluster.find(deployment.job_id, deployment.namespace)
    return job is not None and job.spec_sha256 == deployment.spec_sha256 and not job.stopped and job.status != _DEAD
