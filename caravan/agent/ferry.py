"""A small job that copies a run's outputs out of a volume into its own allocation, where they can be read.

The cluster's API reads no volumes. The job mounts the volume read-only and asks for little; whoever calls asks the
person first, and removes the job once what it brought is fetched.
"""

import shlex
from pathlib import Path
from typing import Final, NamedTuple

from caravan.agent.outputs import IN_ALLOCATION
from caravan.hcl import parse_hcl, render_hcl
from caravan.planning.jobspec import knows_max_run
from caravan.planning.policy import job_denials
from caravan.ports import Cluster
from caravan.values.base import Json
from caravan.values.errors import ClusterError, JobRefused, UsageError
from caravan.values.job import META_RUN, JobSpec, Task, TaskGroup, TaskResources, VolumeMount, VolumeRequest
from caravan.values.plan import Constraint, Mount, TrainingPlan
from caravan.values.policy import Policies
from caravan.values.run import Allocation, Phase, Snapshot

_NAME: Final = "pull"
_MOST_JOBS: Final = 20  # of one run; each that failed keeps its id
_LONGEST_S: Final = 6 * 3600
_SPARE_MB: Final = 256


class Load(NamedTuple):
    """What is to be copied: a run's directory in a volume, on which node, and how many bytes (None: not known)."""

    run_id: str
    mount: Mount
    node: str
    bytes: int | None

    @property
    def disk_mb(self) -> int:
        """Disk that the copy needs; without a size, a guess of 20 GB."""
        return 20_000 if self.bytes is None else int(self.bytes * 1.1 / 1_000_000) + _SPARE_MB


def load_of(plan: TrainingPlan, run_id: str, node: str, size: int | None) -> Load:
    """The load of a run whose outputs are in a volume. Raises UsageError for a plan without that mount."""
    where = plan.outputs.location.rstrip("/")
    mount = next((m for m in plan.mounts if m.destination.rstrip("/") == where and m.kind != "bind"), None)
    if mount is None:
        raise UsageError(f"The plan mounts no volume at {where}, so no job can read it.")
    return Load(run_id, mount, node, size)


def ferry_job(plan: TrainingPlan, load: Load, job_id: str, *, version: str) -> JobSpec:
    """The job, sealed. A host volume is on its node alone, so the job goes there."""
    there = f"{load.mount.destination.rstrip('/')}/{load.run_id}"
    missing = f"caravan: the volume has no directory {load.run_id}"
    script = (
        f"test -d {shlex.quote(there)} || {{ echo {shlex.quote(missing)} >&2; exit 66; }}; "
        f'mkdir -p "$NOMAD_ALLOC_DIR/data/outputs" && cp -RP {shlex.quote(there)}/. "$NOMAD_ALLOC_DIR/data/outputs/"'
    )
    config: dict[str, Json] = {"command": "/bin/sh", "args": ["-c", script]}
    if plan.driver == "docker":
        config = {**config, "image": plan.image, **({"entrypoint": [""]} if plan.docker.entrypoint else {})}
    csi = load.mount.kind == "csi"
    at_node = () if csi else (Constraint(attribute="${node.unique.name}", operator="=", value=load.node),)
    # A CSI volume is claimed as the training claimed it: it may allow no other way. The task sees it read-only anyway.
    volume = VolumeRequest(name="v0", type="csi" if csi else "host", source=load.mount.source, read_only=not csi)
    task = Task(
        name=_NAME,
        driver=plan.driver,
        config=config,
        user=plan.user,
        resources=TaskResources(cpu=500, memory=256),
        volume_mounts=(VolumeMount(volume="v0", destination=load.mount.destination, read_only=True),),
    )
    group = TaskGroup(
        name=_NAME,
        tasks=(task,),
        ephemeral_disk_mb=load.disk_mb,
        volumes=(volume,),
        max_run_s=_LONGEST_S if knows_max_run(version) else None,
    )
    return JobSpec(
        id=job_id,
        namespace=plan.namespace,
        region=plan.region,
        node_pool=plan.node_pool,
        datacenters=plan.datacenters,
        priority=plan.priority,
        meta={META_RUN: load.run_id},
        constraints=(*plan.constraints, *at_node),
        groups=(group,),
    ).sealed()


class Ferry:
    """Registers such jobs and follows them. A job of an earlier, interrupted pull is taken over."""

    def __init__(self, cluster: Cluster, plan: TrainingPlan, load: Load, policies: Policies, templates: Path) -> None:
        self._cluster = cluster
        self._plan = plan
        self._load = load
        self._policies = policies
        self._templates = templates
        self._namespace = plan.namespace or "default"

    def there(self) -> str | None:
        """The id of a job of this kind that is there and has not failed, or None."""
        for job_id in self._ids():
            found = self._cluster.find(job_id, self._namespace)
            if found is None:
                return None
            snapshot = self._cluster.snapshot(job_id, self._namespace)
            if found.meta.get(META_RUN) == self._load.run_id and not found.stopped and _good(snapshot):
                return job_id
        return None

    def register(self) -> str:
        """Register a new one and return its id. Raises JobRefused for what the policies or the cluster deny."""
        job_id = next((i for i in self._ids() if self._cluster.find(i, self._namespace) is None), None)
        if job_id is None:
            raise UsageError(f"{_MOST_JOBS} copying jobs of run {self._load.run_id} have failed.", hint="Look at them.")
        version = self._cluster.facts().version
        spec = ferry_job(self._plan, self._load, job_id, version=version)
        job = parse_hcl(render_hcl(spec, templates=self._templates))
        if self._policies.trouble:
            raise JobRefused(f"Nothing is deployed: {self._policies.trouble}")
        denials = job_denials(job, self._policies, timed=knows_max_run(version))
        if denials:
            raise JobRefused(denials[0].line())
        dry = self._cluster.check(job)
        wrong = (*dry.errors, *(failure.line() for failure in dry.failures))
        if wrong:
            raise JobRefused(f"The copying job can't be placed: {wrong[0]}.")
        self._cluster.register(job)
        return job_id

    def follow(self, job_id: str) -> str:
        """Wait for the job's end; its allocation comes back. Raises ClusterError when it did not copy."""
        last: Snapshot | None = None
        for snapshot in self._cluster.watch(job_id, self._namespace):
            last = snapshot
        allocation = _carrier(last) if last is not None else None
        if allocation is None or last is None or not _good(last):
            reason = (last.reason if last else "") or "it did not come to its end"
            raise ClusterError(
                f"The job {job_id} did not copy the outputs: {reason.rstrip('.')}.", hint="Look at its log."
            )
        return allocation.id

    def remove(self, job_id: str) -> None:
        """Let the cluster forget the job and its copy."""
        self._cluster.stop(job_id, self._namespace, purge=True)

    def _ids(self) -> tuple[str, ...]:
        return tuple(f"caravan-{self._load.run_id}-pull-{n:02}" for n in range(1, _MOST_JOBS + 1))


ROOT: Final = IN_ALLOCATION
"""Where the copy is in the job's allocation."""


def _carrier(snapshot: Snapshot) -> Allocation | None:
    return snapshot.allocations[-1] if snapshot.allocations else None


def _good(snapshot: Snapshot) -> bool:
    """Whether the job may still copy, or has."""
    if snapshot.phase is not Phase.ENDED:
        return snapshot.phase is not Phase.GONE
    allocation = _carrier(snapshot)
    if allocation is None or allocation.client_status != "complete":
        return False
    ends = [task.terminated() for task in allocation.tasks]
    return all(end is not None and end.exit_code == 0 for end in ends)
