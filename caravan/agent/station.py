"""The agent's own job on the cluster: registered, looked at, ended and removed, and the run that it leaves behind.

It knows no store and no folder, and not what is in what is left.
"""

from pathlib import Path
from typing import Final

from caravan.agent.ending import has_ended
from caravan.hcl import mismatches, parse_hcl, render_hcl
from caravan.planning.agent_job import AGENT, LEFT, META_AGENT_OF
from caravan.planning.jobspec import knows_max_run
from caravan.planning.policy import job_denials
from caravan.ports import Clock, Cluster
from caravan.values.errors import ClusterDenied, ClusterError, JobConflict, JobNotFound, JobRefused
from caravan.values.handover import Stationed
from caravan.values.job import JobSpec
from caravan.values.policy import Policies
from caravan.values.run import Phase

_END_S: Final = 120.0  # for an agent that was told to end; it has 30 s itself
_LOG: Final = 256 << 10  # bytes of the agent's log that are fetched


def job_of(spec: JobSpec, cluster: Cluster, policies: Policies, templates: Path) -> dict[str, object]:
    """The job as it is registered. Raises JobRefused for what the policies deny or the cluster does not take."""
    hcl = render_hcl(spec, templates=templates)
    job = parse_hcl(hcl)
    different = mismatches(spec, job)
    if different:
        raise JobRefused(f"The agent's job reads back differently: {different[0]}.")
    if policies.trouble:
        raise JobRefused(f"Nothing is deployed: {policies.trouble}")
    denials = job_denials(job, policies, timed=knows_max_run(cluster.facts().version))
    if denials:
        raise JobRefused(f"The agent's job: {denials[0].line()}")
    dry = cluster.check(job)
    wrong = (*dry.errors, *(failure.line() for failure in dry.failures))
    if wrong:
        raise JobRefused(f"The agent's job can't be placed: {wrong[0]}.")
    return dict(job)


def register(cluster: Cluster, spec: JobSpec, job: dict[str, object]) -> None:
    """Register the agent's job once: one that is there already as this one is taken over."""
    namespace = spec.namespace or "default"
    found = cluster.find(spec.id, namespace)
    if found is not None and (found.stopped or has_ended(found)):
        cluster.stop(spec.id, namespace, purge=True)  # of an earlier handing over, whose run was brought back
        found = None
    if found is None:
        try:
            cluster.register(job)
        except JobConflict:
            found = cluster.find(spec.id, namespace)
        else:
            return
    if found is None or found.meta.get(META_AGENT_OF) != spec.meta[META_AGENT_OF]:
        raise JobConflict(f"The job id {spec.id} is taken by a job that is not this run's agent.")


def works(cluster: Cluster, at: Stationed) -> bool:
    """Whether the agent's job has not ended. It may be waiting for room."""
    found = cluster.find(at.job_id, at.namespace)
    return found is not None and not found.stopped and not has_ended(found)


def left(cluster: Cluster, at: Stationed) -> list[bytes]:
    """What the agent's allocations have left, as far as it is there."""
    found = []
    for allocation in cluster.snapshot(at.job_id, at.namespace).allocations:
        try:
            data = cluster.read_file(allocation.id, LEFT)
        except JobNotFound:  # not started, or collected with its node
            continue
        if data is not None:
            found.append(data)
    return found


def words(cluster: Cluster, at: Stationed) -> bytes:
    """The end of the agent's log; what can't be had of it is left out."""
    said = []
    for allocation in cluster.snapshot(at.job_id, at.namespace).allocations:
        try:
            said.append(cluster.logs(allocation.id, AGENT, "stderr", limit=_LOG))
        except ClusterError:  # never started, or collected
            continue
    return b"".join(said)[-_LOG:]


def end(cluster: Cluster, at: Stationed, clock: Clock) -> None:
    """Tell the agent to end and wait until it has. Raises ClusterError when it does not."""
    cluster.stop(at.job_id, at.namespace)
    until = clock.monotonic() + _END_S
    for snapshot in cluster.watch(at.job_id, at.namespace):
        if snapshot.phase in (Phase.ENDED, Phase.GONE):
            return
        if clock.monotonic() > until:
            break
    raise ClusterError(f"The agent's job {at.job_id} does not end.", hint=f"Look at it: nomad job status {at.job_id}")


def remove(cluster: Cluster, at: Stationed) -> None:
    """Let the cluster forget the agent's job and what it was lent."""
    if at.lent:
        try:
            cluster.remove_variable(at.lent, at.namespace)
        except ClusterDenied:  # a right of its own; without it the variable stays, with nothing in it
            names = cluster.variable_names(at.lent, at.namespace) or ()
            cluster.write_variable(at.lent, dict.fromkeys(names, ""), at.namespace)
    cluster.stop(at.job_id, at.namespace, purge=True)
