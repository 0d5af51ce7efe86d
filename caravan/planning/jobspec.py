"""Plan and cluster facts → `JobSpec`: a pure function (it reads the script's template, nothing else).

One group and one task, both called `train`; no restarts and no reschedules, because repairing is the agent's.
"""

import re
from pathlib import Path
from typing import Final

from caravan.planning.catalogue import matches_model
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.command import sink_dir
from caravan.planning.fetching import delivery_artifacts, delivery_binds
from caravan.planning.resume import config_key, goes_on, lineage_text
from caravan.planning.script import (
    environment_helper,
    environment_words,
    free_delimiters,
    launch_script,
    outputs_helper,
    overlay_helpers,
    overlay_texts,
    resume_helpers,
)
from caravan.planning.secrets import secrets_block, vault_block
from caravan.values.base import Json
    smoke_helpers,
from caravan.values.job import (
    META_ATTEMPT,
from caravan.planning.smoke import Gate, SmokePhase, smoke_phase
    META_RUN,
    ArtifactBlock,
    ClusterFacts,
    DeviceRequest,
    JobSpec,
    NetworkPort,
    Task,
    TaskGroup,
    TaskResources,
    TemplateBlock,
    VolumeMount,
    VolumeRequest,
)
from caravan.values.plan import Constraint, TrainingPlan

GROUP: Final = "train"
TASK: Final = "train"
_MAX_RUN_SINCE: Final = (2, 0, 2)


def to_job_spec(
    plan: TrainingPlan,
    facts: ClusterFacts,
    *,
    run_id: str,
    attempt: int,
    job_id: str,
    templates: Path,
    gate: Gate | None = None,
) -> JobSpec:
    """The job of an attempt, sealed with its own digest. `gate`: what its first steps are held against; without one
    the job has no such phase. Raises PlanError for a text that no process can be given.
    """
    phase = smoke_phase(plan, gate) if gate is not None else None
    volumes = tuple(m for m in plan.mounts if m.kind != "bind")
    group = TaskGroup(
        name=GROUP,
        tasks=(_task(plan, facts, templates, phase),),
        ephemeral_disk_mb=plan.resources.disk_mb,
        volumes=tuple(
            VolumeRequest(
                name=f"v{i}", type="csi" if m.kind == "csi" else "host", source=m.source, read_only=m.read_only
            )
            for i, m in enumerate(volumes)
        ),
        ports=tuple(NetworkPort(label=p.label, static=p.static) for p in plan.ports),
        max_run_s=plan.limits.max_run_s if knows_max_run(facts.version) else None,
    )
    avoided = (Constraint(attribute="${node.unique.name}", operator="!=", value=n) for n in plan.exclude_nodes)
    return JobSpec(
        id=job_id,
        type=plan.job_type,
        namespace=plan.namespace,
        region=plan.region,
        node_pool=plan.node_pool,
        datacenters=plan.datacenters,
        priority=plan.priority,
        meta={META_RUN: run_id, META_ATTEMPT: str(attempt)},
        constraints=(*plan.constraints, *avoided),
        groups=(group,),
    ).sealed()


def _task(plan: TrainingPlan, facts: ClusterFacts, templates: Path, phase: SmokePhase | None, job_id: str) -> Task:
    volumes = [m for m in plan.mounts if m.kind != "bind"]
    return Task(
        name=TASK,
        driver=plan.driver,
        config=_config(plan, facts),
        env={"PYTHONUNBUFFERED": "1", **plan.env},
        user=plan.user,
        kill_timeout_s=plan.kill_timeout_s,
        resources=_resources(plan, facts),
        templates=_templates(plan, facts, templates, phase),
        vault=vault_block(plan),
        artifacts=_artifacts(plan),
        volume_mounts=tuple(
            VolumeMount(volume=f"v{i}", destination=m.destination, read_only=m.read_only) for i, m in enumerate(volumes)
        ),
    )


def _config(plan: TrainingPlan, facts: ClusterFacts) -> dict[str, Json]:
    config: dict[str, Json] = {"command": "/bin/sh", "args": ["${NOMAD_TASK_DIR}/launch.sh"]}
    if plan.driver != "docker":
        return config
    options: dict[str, Json] = {
        "image": plan.image,
        "entrypoint": list(plan.docker.entrypoint),
        "runtime": plan.docker.runtime,
        "network_mode": plan.network_mode,
        "shm_size": plan.shm_mb * 1024 * 1024 if plan.shm_mb else None,
        "image_pull_timeout": f"{plan.image_pull_timeout_s}s" if plan.image_pull_timeout_s else None,
        "hostname": plan.container_name,
        "ports": [p.label for p in plan.ports],
        "mount": _binds(plan, facts),
    }
    return {**config, **{name: value for name, value in options.items() if value not in (None, [])}}


def _binds(plan: TrainingPlan, facts: ClusterFacts) -> list[Json]:
    """Bind mounts: the plan's, and on a cluster that shares our files code, data and the outputs' place."""
    places = [(m.source, m.destination, m.read_only) for m in plan.mounts if m.kind == "bind"]
    places += delivery_binds(plan, facts)
    out = sink_dir(plan.outputs)
    if facts.shared_files and plan.outputs.kind == "path" and out.startswith("/"):
        places.append((out, out, False))
    return [{"type": "bind", "source": s, "target": t, "readonly": r} for s, t, r in places]


def _resources(plan: TrainingPlan, facts: ClusterFacts) -> TaskResources:
    need = plan.resources
    return TaskResources(
        cpu=None if need.cores else need.cpu_mhz,
        cores=need.cores,
        memory=need.memory_mb,
        memory_max=need.memory_max_mb,
        devices=(_device(plan, facts),) if need.gpus else (),
    )


def _device(plan: TrainingPlan, facts: ClusterFacts) -> DeviceRequest:
    need = plan.resources
    constraints = []
    if need.gpu_model:
        models = {g.model for n in facts.nodes for g in gpu_groups(n)}
        if need.gpu_model in models or not any(matches_model(need.gpu_model, m) for m in models):
            constraints.append(Constraint(attribute="${device.model}", operator="=", value=need.gpu_model))
        else:  # `A100`, when the cluster has several kinds of it
            meant = sorted(m for m in models if matches_model(need.gpu_model, m))
            value = f"^({'|'.join(re.escape(m) for m in meant)})$"
            constraints.append(Constraint(attribute="${device.model}", operator="regexp", value=value))
    if need.gpu_memory_mib:
        memory = f"{need.gpu_memory_mib} MiB"
        constraints.append(Constraint(attribute="${device.attr.memory}", operator=">=", value=memory))
    return DeviceRequest(name=f"{need.gpu_vendor}/gpu", count=need.gpus, constraints=tuple(constraints))


def _templates(
    plan: TrainingPlan, facts: ClusterFacts, templates: Path, phase: SmokePhase | None
) -> tuple[TemplateBlock, ...]:
    # Where the cluster can't hold the time limit, the script does: the budget counts on it.
    limit = None if knows_max_run(facts.version) else plan.limits.max_run_s
    script = launch_script(plan, templates, time_limit_s=limit, smoke=phase)
    blocks = [_text("local/launch.sh", script, perms="0755")]
    blocks.append(_text("local/outputs.py", outputs_helper(templates)))
    if phase is not None:
        blocks += [_text(f"local/{name}", text) for name, text in smoke_helpers(templates).items()]
    if environment_words(plan) or plan.outputs.kind == "url":
        blocks.append(_text("local/environment.py", environment_helper(templates)))
    if overlay_texts(plan) or config_key(plan):
        blocks += [_text(f"local/{name}", text) for name, text in overlay_helpers(templates).items()]
    blocks += [_text(f"local/overlays/{i}", text) for i, text in enumerate(overlay_texts(plan), start=1)]
    if goes_on(plan):
        blocks += [_text(f"local/{name}", text) for name, text in resume_helpers(templates).items()]
        blocks.append(_text("local/lineage.json", lineage_text(plan)))
    blocks += [_text(t.destination, t.data, env=t.env) for t in plan.templates]
    if plan.secrets:
        blocks.append(secrets_block(plan))
    return tuple(blocks)


def _text(destination: str, data: str, *, env: bool = False, perms: str = "0644") -> TemplateBlock:
    """A template block that says exactly `data`: its delimiters don't occur in it."""
    left, right = free_delimiters(data)
    return TemplateBlock(
        destination=destination, data=data, env=env, perms=perms, left_delimiter=left, right_delimiter=right
    )


def _artifacts(plan: TrainingPlan) -> tuple[ArtifactBlock, ...]:
    """What the client downloads: code and data, where they are behind an address, and what the plan names."""
    named = (ArtifactBlock(source=a.source, destination=a.destination, mode=a.mode) for a in plan.artifacts)
    return (*delivery_artifacts(plan), *named)


def knows_max_run(version: str) -> bool:
    """Whether that Nomad knows `max_run_duration` (2.0.2 and later)."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    return numbers is not None and tuple(int(n) for n in numbers.groups()) >= _MAX_RUN_SINCE
