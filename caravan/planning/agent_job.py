"""The job of an agent that works on the cluster itself: a pure function of its place, the run, and where that may run.

Repairing a training is the agent's; bringing the agent back is the cluster's, so this job is restarted and placed anew.
"""

import posixpath
from collections.abc import Sequence
from typing import Final

from caravan.planning.policy import name_matches, within
from caravan.planning.secrets import environment_block
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.handover import AgentPlace
from caravan.values.job import (
    ClusterFacts,
    JobSpec,
    ReschedulePolicy,
    RestartPolicy,
    Task,
    TaskGroup,
    TaskResources,
    TemplateBlock,
    VolumeMount,
    VolumeRequest,
)
from caravan.values.plan import SecretSource, TrainingPlan
from caravan.values.policy import Policies

META_AGENT_OF: Final = "caravan_agent_of"
"""The run that the agent works on. Its job carries no attempt: nothing takes it for one."""
AGENT: Final = "agent"
LEFT: Final = "alloc/data/caravan-run.b64"
"""Where the agent leaves the run, in its allocation."""

_BROUGHT: Final = "local/caravan-run.b64"
_VOLUME_AT: Final = "/caravan-agent"
_CPU_MHZ: Final = 500
_MEMORY_MB: Final = 1024  # embedding texts for the memory is the most that it does
_DISK_MB: Final = 1000
_RESTARTS: Final = RestartPolicy(attempts=3, interval_s=3600, delay_s=15, mode="fail")
_KILL_S: Final = 30  # to leave the run behind


def agent_driver(place: AgentPlace, facts: ClusterFacts, policies: Policies, *, remote: bool) -> str:
    """The driver of the agent's task. `remote`: the repository is at an address that every node reaches.

    Raises UsageError saying what is missing.
    """
    if not remote and not facts.shared_files:
        raise UsageError(
            "An agent on the cluster can't read this repository: it is a directory of this machine.",
            hint="Give --codebase-path as a git URL, or use --detach.",
        )
    nodes = within(facts, policies).usable_nodes()
    rules = [file.policy.jobs.drivers for file in policies.files]
    there = {
        name
        for node in nodes
        for name, driver in node.drivers.items()
        if driver.healthy and all(rule is None or any(name_matches(name, p) for p in rule) for rule in rules)
    }
    if place.image and "docker" in there and remote:
        return "docker"
    if facts.shared_files and "raw_exec" in there:
        return "raw_exec"
    if not place.image:
        raise UsageError(
            "An agent on the cluster needs an image of Caravan.",
            hint="Build it from the Dockerfile and set CARAVAN_AGENT_IMAGE, or agent_image in the profile.",
        )
    raise UsageError("No node of the cluster may run an agent: none has docker.", hint="Use --detach.")


def agent_job_id(run_id: str) -> str:
    """The id of the agent's job."""
    return f"caravan-agent-{run_id}"


def lent_at(job_id: str) -> str:
    """The path of the Nomad variable that the agent's job alone may read."""
    return f"nomad/jobs/{job_id}"


def agent_job(
    place: AgentPlace,
    plan: TrainingPlan,
    run_id: str,
    *,
    driver: str,
    packed: str,
    lent: Sequence[str],
    namespace: str,
) -> JobSpec:
    """The agent's job, sealed. `packed` is the run; `lent` are the names in the variable of the job."""
    job_id = agent_job_id(run_id)
    kept = place.volume if driver == "docker" else None
    task = Task(
        name=AGENT,
        driver=driver,
        config=_config(place, driver, run_id),
        env=_environment(place, lent, namespace, posixpath.join(_VOLUME_AT, run_id) if kept else None),
        kill_signal="SIGTERM",
        kill_timeout_s=_KILL_S,
        identity=not place.address and "NOMAD_TOKEN" not in lent,
        resources=TaskResources(cpu=_CPU_MHZ, memory=_MEMORY_MB),
        templates=_templates(packed, lent, lent_at(job_id), driver),
        volume_mounts=(VolumeMount(volume="v0", destination=_VOLUME_AT, read_only=False),) if kept else (),
    )
    group = TaskGroup(
        name=AGENT,
        tasks=(task,),
        ephemeral_disk_mb=_DISK_MB,
        volumes=(VolumeRequest(name="v0", type="host", source=kept, read_only=False),) if kept else (),
        restart=_RESTARTS,
        reschedule=ReschedulePolicy(unlimited=True),
    )
    return JobSpec(
        id=job_id,
        namespace=namespace,
        region=plan.region,
        node_pool=plan.node_pool,
        datacenters=plan.datacenters,
        priority=plan.priority,
        meta={META_AGENT_OF: run_id},
        groups=(group,),
    ).sealed()


def _config(place: AgentPlace, driver: str, run_id: str) -> dict[str, Json]:
    brought = f"${{NOMAD_TASK_DIR}}/{posixpath.basename(_BROUGHT)}"
    left = f"${{NOMAD_ALLOC_DIR}}/{LEFT.removeprefix('alloc/')}"
    words = ["resume", run_id, "--agent", "--adopt", brought, "--leave", left]
    if driver == "docker":
        return {"image": place.image, "args": words}  # the image's own entry point is the program
    return {"command": place.program[0], "args": [*place.program[1:], *words]}


def _environment(place: AgentPlace, lent: Sequence[str], namespace: str, home: str | None) -> dict[str, str]:
    given = {name: value for name, value in place.env.items() if set(place.only_with.get(name, ())) <= set(lent)}
    return {
        **given,
        "CARAVAN_HOME": home or "${NOMAD_ALLOC_DIR}/data/caravan",
        "NOMAD_ADDR": place.address or "unix://${NOMAD_SECRETS_DIR}/api.sock",
        "NOMAD_NAMESPACE": namespace,
    }


def _templates(packed: str, lent: Sequence[str], path: str, driver: str) -> tuple[TemplateBlock, ...]:
    # Nomad's agent writes it as root, and the image's user is none: it has to be able to read it. No secret is in it.
    brought = TemplateBlock(destination=_BROUGHT, data=packed, perms="0644" if driver == "docker" else "0600")
    secrets = environment_block(SecretSource(kind="nomad", path=path), tuple(lent)) if lent else None
    return (brought, secrets) if secrets else (brought,)
