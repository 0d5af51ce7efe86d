"""Stopping a run: marked in the store first, then its jobs are told to end.

Used by `stop`, `delete`, Ctrl-C, and `resume` of what was stopped already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from caravan.terminal.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.terminal.wiring import Wiring
    from caravan.values.run import Deployment, RunRecord


class Living(NamedTuple):
    """Deployments whose jobs have not ended: as this run registered them, and changed by somebody else."""

    ours: list[Deployment]
    others: list[Deployment]


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
    if not open_deployments(wiring, record):
        return []
    from caravan.agent.ending import end_jobs

    return [one_line(job_id) for job_id in end_jobs(wiring.store(), wiring.cluster(record.request), record.id)]


def jobs_that_live(wiring: Wiring, record: RunRecord) -> Living:
    """The run's jobs that have not ended, those of judged deployments too: a run may have ended beside its job."""
    deployments = wiring.store().deployments(record.id)
    living = Living([], [])
    if not deployments or (record.request.cluster == "local" and wiring.local_cluster.status() is None):
        return living  # and no cluster need answer, or be started
    from caravan.agent.ending import is_others, lives

    cluster = wiring.cluster(record.request)
    for deployment in deployments:
        job = lives(cluster, deployment)
        if job is not None:
            (living.others if is_others(job, deployment) else living.ours).append(deployment)
    return living


def end(wiring: Wiring, record: RunRecord, deployments: Sequence[Deployment]) -> None:
    """Tell the jobs of these deployments to end."""
    if deployments:
        cluster = wiring.cluster(record.request)
        for deployment in deployments:
            cluster.stop(deployment.job_id, deployment.namespace)


def running_jobs(wiring: Wiring, record: RunRecord) -> list[str]:
    """The run's jobs that are ours and alive."""
    deployments = open_deployments(wiring, record)
    if not deployments:
        return []  # and the cluster need not answer
    from caravan.agent.ending import is_ours_and_alive

    cluster = wiring.cluster(record.request)
    return [one_line(d.job_id) for d in deployments if is_ours_and_alive(cluster, d)]


def open_deployments(wiring: Wiring, record: RunRecord) -> list[Deployment]:
    """Deployments that may still have a job on the cluster."""
    from caravan.agent import ending

    return ending.open_deployments(wiring.store(), record.id)
