"""The policy of an administrator: what jobs may be, as rules that are checked in code whoever made a plan.

Every table is optional, and a rule that is not there restricts nothing; but what no job of Caravan's needs (privileges,
devices, the host's own namespaces, further options of a driver) is denied unless a policy allows it. An unknown key is
an error, so that a slip of the pen never opens anything. What files hold policies and who may write them is not known
here.
"""

import posixpath
from typing import Annotated

from pydantic import AfterValidator, Field

from caravan.values.base import Value


def _prefix(path: str) -> str:
    if not path.startswith("/") or any(c in path for c in "*?[\0") or ".." in path.split("/"):
        raise ValueError("give an absolute directory without `..` or wildcards")
    return posixpath.normpath("/" + path.lstrip("/"))


def _url(pattern: str) -> str:
    scheme, mark, rest = pattern.partition("://")
    if pattern != "*" and (not mark or not scheme or not rest or "@" in rest.partition("/")[0]):
        raise ValueError("give a pattern like https://host.example/path/* (or * for all)")
    return pattern


def _word(pattern: str) -> str:
    if not pattern.strip():
        raise ValueError("give a pattern, not an empty text")
    return pattern


Pattern = Annotated[str, AfterValidator(_word)]
"""A name, or a pattern with `*`, `?` and `[...]`."""

Prefix = Annotated[str, AfterValidator(_prefix)]
"""An absolute directory: it and all below it."""

UrlPattern = Annotated[str, AfterValidator(_url)]
"""`scheme://host[:port]/path`; a `*` in the host stays in the host, one in the path crosses slashes."""


class JobRules(Value):
    """Which drivers, and where jobs may run. A job without a name for one of them has Nomad's default."""

    drivers: tuple[Pattern, ...] | None = Field(default=None, description="task drivers")
    namespaces: tuple[Pattern, ...] | None = Field(default=None, description="Nomad namespaces")
    regions: tuple[Pattern, ...] | None = Field(default=None, description="Nomad regions")
    node_pools: tuple[Pattern, ...] | None = Field(default=None, description="node pools")
    datacenters: tuple[Pattern, ...] | None = Field(default=None, description="datacenters; `*` in a job is all")
    users: tuple[Pattern, ...] | None = Field(default=None, description="users that a task must name and run as")
    networks: tuple[Pattern, ...] | None = Field(
        default=None, description="network modes; raw_exec and exec use the node's: `host`"
    )


class ImageRules(Value):
    """Which images docker jobs may run. `ubuntu` means `docker.io/library/ubuntu:latest`, in rules as in jobs."""

    allow: tuple[Pattern, ...] | None = Field(default=None, description="whole names; `name:*` for every tag")
    registries: tuple[Pattern, ...] | None = Field(default=None, description="hosts, with their port where not 443")
    require_digest: bool = Field(default=False, description="only images pinned by `@sha256:…`")


class MountRules(Value):
    """What of the node's files jobs may see."""

    host_volumes: tuple[Pattern, ...] | None = Field(default=None, description="host volumes by name")
    csi_volumes: tuple[Pattern, ...] | None = Field(default=None, description="CSI volumes by id")
    bind: tuple[Prefix, ...] | None = Field(default=None, description="host directories that may be mounted")
    bind_read_only: tuple[Prefix, ...] = Field(default=(), description="further ones, for reading alone")


class PrivilegeRules(Value):
    """What reaches beyond a container. No job of Caravan's needs any of it: what is not allowed here is denied."""

    privileged: bool = Field(default=False, description="docker's `privileged`")
    cap_add: tuple[Pattern, ...] = Field(default=(), description="capabilities that may be added")
    devices: tuple[Pattern, ...] = Field(
        default=(), description="host paths of devices beside the GPUs that Nomad gives"
    )
    host_namespaces: tuple[Pattern, ...] = Field(default=(), description="of pid_mode, ipc_mode, uts_mode, userns_mode")
    options: tuple[Pattern, ...] = Field(
        default=(), description="further options of drivers and functions of templates"
    )
    runtimes: tuple[Pattern, ...] | None = Field(default=None, description="docker runtimes")


class SecretRules(Value):
    """Where secrets may come from, by their path. Values never pass through here."""

    nomad: tuple[Pattern, ...] | None = Field(default=None, description="paths of Nomad variables")
    vault: tuple[Pattern, ...] | None = Field(default=None, description="paths of Vault secrets")
    vault_roles: tuple[Pattern, ...] | None = Field(
        default=None, description="Vault roles; `default` where none is named"
    )


class SourceRules(Value):
    """From where code and other files may come, and to where results may go, as URL patterns."""

    code: tuple[UrlPattern, ...] | None = Field(default=None, description="of the training code")
    artifacts: tuple[UrlPattern, ...] | None = Field(default=None, description="of whatever else is downloaded")
    outputs: tuple[UrlPattern, ...] | None = Field(default=None, description="to which results are copied")
    package_indexes: tuple[UrlPattern, ...] | None = Field(default=None, description="of Python packages")


class LimitRules(Value):
    """The most that one job may ask for, all its groups and their counts together."""

    gpus: int | None = Field(default=None, ge=0, description="GPUs and other devices of a job")
    gpu_models: tuple[Pattern, ...] | None = Field(default=None, description="types that a job must name one of")
    memory_mb: int | None = Field(default=None, ge=1, description="memory, with what it may take beyond, in MB")
    cpu_mhz: int | None = Field(default=None, ge=1, description="CPU in MHz")
    cores: int | None = Field(default=None, ge=0, description="whole cores")
    disk_mb: int | None = Field(default=None, ge=1, description="ephemeral disk in MB")
    max_run_s: int | None = Field(default=None, ge=1, description="time limit in seconds, which a job must then have")
    priority: int | None = Field(default=None, ge=1, le=100, description="Nomad priority")
    attempts: int | None = Field(default=None, ge=1, description="deployed attempts of a run")


class MoneyRules(Value):
    """What may be spent, in US dollars, estimated ahead. What has no known cost is over every such limit."""

    per_run_usd: float | None = Field(default=None, ge=0, description="by one run, all its attempts")
    per_day_usd: float | None = Field(default=None, ge=0, description="by all runs together in a UTC day")
    per_month_usd: float | None = Field(default=None, ge=0, description="by all runs together in a UTC month")
    per_user_month_usd: float | None = Field(default=None, ge=0, description="by the runs of one user in a UTC month")


class Policy(Value):
    """A whole policy. The empty one still denies what no job of Caravan's needs."""

    jobs: JobRules = Field(default_factory=JobRules)
    images: ImageRules = Field(default_factory=ImageRules)
    mounts: MountRules = Field(default_factory=MountRules)
    privileges: PrivilegeRules = Field(default_factory=PrivilegeRules)
    secrets: SecretRules = Field(default_factory=SecretRules)
    sources: SourceRules = Field(default_factory=SourceRules)
    limits: LimitRules = Field(default_factory=LimitRules)
    money: MoneyRules = Field(default_factory=MoneyRules)


class PolicyFile(Value):
    """A policy and the file it was read from, for whoever is denied something."""

    path: str
    policy: Policy


class Policies(Value):
    """All policies in force: what is done must be allowed by each.

    `trouble` says in a sentence why a policy that there is can't be relied on: then nothing may be deployed.
    """

    files: tuple[PolicyFile, ...] = ()
    trouble: str = ""

    def beside(self, others: "Policies") -> "Policies":
        """These and the others together: all of them hold."""
        files = tuple(dict.fromkeys((*self.files, *others.files)))
        return Policies(files=files, trouble=self.trouble or others.trouble)


class Denial(Value):
    """What a policy denies: the plan's field, its value, the rule with its file, and the nearest that is allowed."""

    field: str
    value: str
    rule: str
    file: str
    nearest: str = ""

    def line(self) -> str:
        """The denial in one line."""
        nearest = f" The nearest allowed: {self.nearest}." if self.nearest else ""
        return f"Policy: {self.field} = {self.value} is not allowed by {self.rule} in {self.file}.{nearest}"


class Spending(Value):
    """What money is asked about: this run's cost with all its attempts, and what all runs have cost since, in USD.

    None: not known. `ahead_usd` is what the coming attempt may cost: it is in `run_usd`, not in the others. What other
    running runs may still spend is in them.
    """

    run_usd: float | None = None
    ahead_usd: float | None = None
    day_usd: float = 0.0
    month_usd: float = 0.0
    user_month_usd: float = 0.0
