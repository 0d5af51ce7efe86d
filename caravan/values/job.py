"""The job in Nomad's shape, and what is known of a cluster.

`JobSpec` is a pure function of plan and cluster facts; HCL is rendered from it and read back to prove that it says
the same. Names follow Nomad's job specification. Durations are seconds, memory and disk MB as Nomad counts them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from caravan.values.base import Json, Value, sha256_text
from caravan.values.plan import Constraint

META_RUN = "caravan_run"
META_ATTEMPT = "caravan_attempt"
META_SHA = "caravan_spec_sha256"


class Affinity(Value):
    """A preference with a weight from -100 to 100."""

    attribute: str
    operator: str = "="
    value: str = ""
    weight: int = Field(default=50, ge=-100, le=100)


class DeviceRequest(Value):
    """A device block: `name` is type, vendor/type or vendor/type/model (`nvidia/gpu`)."""

    name: str
    count: int = Field(default=1, ge=1)
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()


class TaskResources(Value):
    """CPU in MHz, or whole cores instead; memory in MB."""

    cpu: int | None = Field(default=None, ge=1)
    cores: int | None = Field(default=None, ge=1)
    memory: int = Field(ge=10)
    memory_max: int | None = None
    devices: tuple[DeviceRequest, ...] = ()


class TemplateBlock(Value):
    """A template. The delimiters are ones that no text of ours contains, so that `{{` in a script stays as it is."""

    destination: str
    data: str
    env: bool = False
    perms: str = "0644"
    left_delimiter: str = "{{"
    right_delimiter: str = "}}"
    error_on_missing_key: bool = Field(default=False, description="a key that is not there ends the task")


class VaultBlock(Value):
    """The task's access to Vault. The token is for its templates alone, and a new one doesn't restart the training."""

    role: str | None = None
    policies: tuple[str, ...] = ()
    env: bool = False
    change_mode: Literal["noop", "restart", "signal"] = "noop"


class ArtifactBlock(Value):
    """An artifact to download before the task starts."""

    source: str
    destination: str = "local/"
    mode: Literal["any", "file", "dir"] = "any"
    options: dict[str, str] = Field(default_factory=dict)


class VolumeRequest(Value):
    """A volume that the group asks for."""

    name: str
    type: Literal["host", "csi"]
    source: str
    read_only: bool = True


class VolumeMount(Value):
    """Where a task sees a requested volume."""

    volume: str
    destination: str
    read_only: bool = True


class RestartPolicy(Value):
    """Local restarts by the client. Repair is the agent's, so the default is none."""

    attempts: int = 0
    interval_s: int = 600
    delay_s: int = 15
    mode: Literal["fail", "delay"] = "fail"


class ReschedulePolicy(Value):
    """Reschedules by the servers. Repair is the agent's, so the default is none."""

    attempts: int = 0
    unlimited: bool = False


class SpreadBlock(Value):
    """A spread of allocations over the values of an attribute."""

    attribute: str
    weight: int = Field(default=50, ge=0, le=100)


class HealthCheck(Value):
    """A check of a service. After `restart_limit` failures in a row, once `grace_s` is over, its task is restarted."""

    name: str
    type: Literal["http", "tcp"] = "http"
    path: str = Field(default="", description="of an http check")
    interval_s: int = Field(default=10, ge=1)
    timeout_s: int = Field(default=2, ge=1)
    restart_limit: int = Field(default=0, ge=0, description="0: a failing check restarts nothing")
    grace_s: int = Field(default=0, ge=0, description="after a start, for which failures don't count")


class ServiceBlock(Value):
    """A service of Nomad's own provider, by which the allocations of a group find each other."""

    name: str
    port: str
    tags: tuple[str, ...] = ()
    provider: Literal["nomad", "consul"] = "nomad"
    checks: tuple[HealthCheck, ...] = ()


class Lifecycle(Value):
    """When a task runs in its group; a sidecar runs beside the main tasks."""

    hook: Literal["prestart", "poststart", "poststop"]
    sidecar: bool = False


class NetworkPort(Value):
    """A port label of a group; `static` None is dynamic."""

    label: str
    static: int | None = None


class LogPolicy(Value):
    """How many log files of how many MB the client keeps per stream."""

    max_files: int = 10
    max_file_size_mb: int = 10


class Task(Value):
    """A task. `config` is the driver's own."""

    name: str
    driver: str
    config: dict[str, Json] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    user: str | None = None
    kill_timeout_s: int = 30
    kill_signal: str | None = Field(default=None, description="None: the driver's own")
    lifecycle: Lifecycle | None = None
    leader: bool = False
    identity: bool = Field(default=False, description="the task is told the token of its own identity: NOMAD_TOKEN")
    resources: TaskResources
    constraints: tuple[Constraint, ...] = ()
    templates: tuple[TemplateBlock, ...] = ()
    vault: VaultBlock | None = None
    artifacts: tuple[ArtifactBlock, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    logs: LogPolicy = Field(default_factory=LogPolicy)


class TaskGroup(Value):
    """A task group: the tasks that run together on one node, `count` times."""

    name: str
    count: int = Field(default=1, ge=1)
    tasks: tuple[Task, ...]
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    spreads: tuple[SpreadBlock, ...] = ()
    services: tuple[ServiceBlock, ...] = ()
    ephemeral_disk_mb: int = 300
    volumes: tuple[VolumeRequest, ...] = ()
    ports: tuple[NetworkPort, ...] = ()
    restart: RestartPolicy = Field(default_factory=RestartPolicy)
    reschedule: ReschedulePolicy = Field(default_factory=ReschedulePolicy)
    max_run_s: int | None = Field(default=None, description="max_run_duration, where the server knows it")
    progress_deadline_s: int | None = Field(
        default=None, ge=60, description="of a service's update; None: Nomad's own of ten minutes"
    )
    healthy_deadline_s: int | None = Field(
        default=None, ge=1, description="within it: half of it, at most five minutes, where it is None"
    )
    sticky_disk: bool = Field(default=False, description="the next allocation on the same node gets what is on it")


class JobSpec(Value):
    """A job in Nomad's shape. `meta` carries run, attempt and the SHA-256 of the rest (see `sealed`)."""

    id: str
    type: Literal["batch", "service"] = "batch"
    namespace: str | None = None
    region: str | None = None
    node_pool: str | None = None
    datacenters: tuple[str, ...] = ("*",)
    priority: int = 50
    meta: dict[str, str] = Field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    spreads: tuple[SpreadBlock, ...] = ()
    groups: tuple[TaskGroup, ...]

    def digest(self) -> str:
        """SHA-256 of the spec without the digest that its meta may carry."""
        bare = {k: v for k, v in self.meta.items() if k != META_SHA}
        return sha256_text(self.model_copy(update={"meta": bare}).canonical())

    def sealed(self) -> "JobSpec":
        """The spec with its own SHA-256 in the meta, by which a registered job is recognised as this one."""
        return self.model_copy(update={"meta": {**self.meta, META_SHA: self.digest()}})


class DriverFacts(Value):
    """A task driver of a node. `images` are known only on the built-in cluster (None: not known)."""

    healthy: bool = True
    version: str = ""
    images: tuple[str, ...] | None = None
    runtimes: tuple[str, ...] = ()


class DeviceGroup(Value):
    """Equal devices of a node. `memory_mib` per device; `declared`: the built-in cluster only pretends it."""

    vendor: str
    type: str
    model: str
    count: int = Field(ge=0)
    memory_mib: int | None = None
    driver: str = Field(default="", description="version of the kernel's driver, as the device plug-in tells it")
    declared: bool = False


class HostVolume(Value):
    """A host volume of a node."""

    path: str = ""
    read_only: bool = False


class NodeFacts(Value):
    """A node as the cluster reports it: totals, not what is free now."""

    id: str
    name: str
    datacenter: str = "dc1"
    node_pool: str = "default"
    node_class: str = ""
    ready: bool = True
    eligible: bool = True
    cpu_mhz: int = 0
    cores: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    drivers: dict[str, DriverFacts] = Field(default_factory=dict)
    devices: tuple[DeviceGroup, ...] = ()
    host_volumes: dict[str, HostVolume] = Field(default_factory=dict)
    attributes: dict[str, str] = Field(default_factory=dict)
    meta: dict[str, str] = Field(default_factory=dict)


class ClusterKind(StrEnum):
    """A real Nomad, the built-in cluster for trying, developing and testing, or none: a plan on paper."""

    NOMAD = "nomad"
    BUILTIN = "builtin"
    NONE = "none"


class ClusterFacts(Value):
    """What is known of a cluster. `shared_files`: tasks see this machine's files at the same paths."""

    kind: ClusterKind
    address: str
    version: str = ""
    region: str = "global"
    nodes: tuple[NodeFacts, ...] = ()
    csi_volumes: tuple[str, ...] | None = Field(default=None, description="ids; None: not known")
    shared_files: bool = False

    def usable_nodes(self) -> tuple[NodeFacts, ...]:
        """The nodes that take new allocations."""
        return tuple(n for n in self.nodes if n.ready and n.eligible)


class TokenFacts(Value):
    """What the cluster says of the token that it is asked with. `expires_at` None: never. Never the secret itself."""

    name: str = ""
    management: bool = False
    policies: tuple[str, ...] = ()
    expires_at: datetime | None = None


class FileEntry(Value):
    """A file or directory of an allocation. `size` in bytes."""

    name: str
    is_dir: bool = False
    is_link: bool = False
    size: int = 0


class PlacementFailure(Value):
    """Why a group can't be placed: Nomad's FailedTGAllocs in our names."""

    group: str
    nodes_evaluated: int = 0
    nodes_filtered: int = 0
    nodes_exhausted: int = 0
    nodes_available: dict[str, int] = Field(default_factory=dict)
    class_filtered: dict[str, int] = Field(default_factory=dict)
    constraint_filtered: dict[str, int] = Field(default_factory=dict)
    dimension_exhausted: dict[str, int] = Field(default_factory=dict)
    quota_exhausted: tuple[str, ...] = ()

    def line(self) -> str:
        """The reasons in one line, the most frequent first."""
        counts = {**self.constraint_filtered, **self.dimension_exhausted}
        parts = [f"{why} ({n} node{'s' if n != 1 else ''})" for why, n in sorted(counts.items(), key=lambda i: -i[1])]
        parts += [f"quota {q} exhausted" for q in self.quota_exhausted]
        if not parts and not any(self.nodes_available.values()):
            parts = ["no node is in the datacenters and the node pool asked for"]
        return f"{self.group}: " + (", ".join(parts) or "can't be placed")


class DryRun(Value):
    """Nomad's validate and plan: nothing is registered. Empty `errors` and `failures`: it can be placed now."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: tuple[PlacementFailure, ...] = ()


class ServiceAddress(Value):
    """Where a service of Nomad's own provider is registered."""

    address: str
    port: int
    alloc_id: str = ""

    @property
    def host(self) -> str:
        """Host and port as they stand in a URL."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class CheckResult(Value):
    """What a service's check said last: `success`, `failure` or `pending`, with its output."""

    name: str
    service: str = ""
    status: str = "pending"
    output: str = ""


class RegisteredJob(Value):
    """A job that the cluster knows."""

    id: str
    namespace: str
    status: str
    stopped: bool = False
    modify_index: int = 0
    version: int = Field(default=0, description="counts the registrations that changed it")
    meta: dict[str, str] = Field(default_factory=dict)

    @property
    def spec_sha256(self) -> str | None:
        """The SHA-256 that our agent put into the meta, or None for a job of somebody else."""
        return self.meta.get(META_SHA)
