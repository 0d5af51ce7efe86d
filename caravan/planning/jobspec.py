"""Plan and cluster facts → `JobSpec`: a pure function (it reads the script's template, nothing else).

One group and one task, both called `train`, as often as the plan has nodes; no restarts and no reschedules, because
repairing is the agent's.
"""

import re
from pathlib import Path
from typing import Final

from caravan.planning.cluster_fit import driver_constraints
from caravan.planning.command import command_variables, sink_dir
from caravan.planning.devices import gpu_request
from caravan.planning.environments import SCRIPT, environment_words, prepares, preparing_task, without_code
from caravan.planning.evaluating import in_last_phase
from caravan.planning.fetching import delivery_artifacts, delivery_binds
from caravan.planning.members import member_ports, member_services, members_block, network_mode
from caravan.planning.resume import config_key, goes_on, lineage_text
from caravan.planning.script import (
    environment_helper,
    evaluation_helpers,
    free_delimiters,
    launch_script,
    members_helper,
    outputs_helpers,
    overlay_helpers,
    overlay_texts,
    prepare_script,
    resume_helpers,
    sampler_helpers,
    smoke_helpers,
)
from caravan.planning.secrets import secrets_block, vault_block
from caravan.planning.smoke import Gate, SmokePhase, smoke_phase
from caravan.values.base import Json
from caravan.values.job import (
    META_ATTEMPT,
    META_RUN,
    Affinity,
    ArtifactBlock,
    ClusterFacts,
    JobSpec,
    LogPolicy,
    NetworkPort,
    SpreadBlock,
    Task,
    TaskGroup,
    TaskResources,
    TemplateBlock,
    VolumeMount,
    VolumeRequest,
)
from caravan.values.plan import Constraint, RegistryAuth, TrainingPlan

GROUP: Final = "train"
TASK: Final = "train"
_KILL_SIGNAL: Final = "SIGTERM"
"""What the script passes on, so that a checkpoint can be written. Unsaid it would be SIGINT for exec and raw_exec, and
for docker whatever the image says."""
_LOGS_MB: Final = LogPolicy().max_files * LogPolicy().max_file_size_mb
_PROGRESS_S: Final = 600  # Nomad's own
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
        count=plan.launch.nodes,
        tasks=_tasks(plan, _task(plan, facts, templates, phase, job_id), templates),
        ephemeral_disk_mb=plan.resources.disk_mb,
        volumes=tuple(
            VolumeRequest(
                name=f"v{i}", type="csi" if m.kind == "csi" else "host", source=m.source, read_only=m.read_only
            )
            for i, m in enumerate(volumes)
        ),
        ports=(*(NetworkPort(label=p.label, static=p.static) for p in plan.ports), *member_ports(plan)),
        services=member_services(plan, job_id),
        max_run_s=plan.limits.max_run_s if _holds_limit(plan, facts) else None,
        progress_deadline_s=_progress_deadline(plan),
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
        constraints=(*plan.constraints, *avoided, *driver_constraints(plan, facts)[1]),
        # A weight of 0 says nothing, and Nomad refuses it.
        affinities=tuple(Affinity(**wish.model_dump()) for wish in plan.affinities if wish.weight),
        spreads=tuple(SpreadBlock(**spread.model_dump()) for spread in plan.spreads if spread.weight),
        groups=(group,),
    ).sealed()


def _task(plan: TrainingPlan, facts: ClusterFacts, templates: Path, phase: SmokePhase | None, job_id: str) -> Task:
    volumes = [m for m in plan.mounts if m.kind != "bind"]
    return Task(
        name=TASK,
        driver=plan.driver,
        config=_config(plan, facts),
        env={"PYTHONUNBUFFERED": "1", **plan.env, **command_variables(plan)},
        user=plan.user,
        kill_timeout_s=plan.kill_timeout_s,
        kill_signal=_KILL_SIGNAL,
        resources=_resources(plan, facts),
        templates=(*_templates(plan, facts, templates, phase), *_members(plan, templates, job_id)),
        vault=vault_block(plan),
        artifacts=_artifacts(plan),
        volume_mounts=tuple(
            VolumeMount(volume=f"v{i}", destination=m.destination, read_only=m.read_only) for i, m in enumerate(volumes)
        ),
        logs=_logs(plan),
    )


def _holds_limit(plan: TrainingPlan, facts: ClusterFacts) -> bool:
    """Whether the cluster ends the job at its time limit: of a service it does not."""
    return plan.job_type == "batch" and knows_max_run(facts.version)


def _progress_deadline(plan: TrainingPlan) -> int | None:
    """A service must be healthy within it, and is refused where its task may take longer to end."""
    if plan.job_type == "batch":
        return None
    return max(plan.progress_deadline_s or _PROGRESS_S, plan.kill_timeout_s + 1, 60)


def _tasks(plan: TrainingPlan, training: Task, templates: Path) -> tuple[Task, ...]:
    """The training's task, and before it the one that prepares its Python, where packages have a task of their own."""
    if not prepares(plan):
        return (training,)
    blocks = (
        _text(SCRIPT, prepare_script(plan, templates), perms="0755"),
        _text("local/environment.py", environment_helper(templates)),
    )
    return preparing_task(plan, training, blocks), without_code(training)


def _logs(plan: TrainingPlan) -> LogPolicy:
    """The client's log files. They must be smaller than the disk asked for, or the job is refused."""
    disk = plan.resources.disk_mb
    return LogPolicy() if disk >= _LOGS_MB * 2 else LogPolicy(max_files=5, max_file_size_mb=max(1, disk // 20))


def _config(plan: TrainingPlan, facts: ClusterFacts) -> dict[str, Json]:
    config: dict[str, Json] = {"command": "/bin/sh", "args": ["${NOMAD_TASK_DIR}/launch.sh"]}
    if plan.driver != "docker":
        return config
    options: dict[str, Json] = {
        "image": plan.image,
        "entrypoint": list(plan.docker.entrypoint),
        "runtime": plan.docker.runtime,
        "work_dir": plan.docker.work_dir,
        "network_mode": network_mode(plan),
        "shm_size": plan.shm_mb * 1024 * 1024 if plan.shm_mb else None,
        "image_pull_timeout": f"{plan.image_pull_timeout_s}s" if plan.image_pull_timeout_s else None,
        "hostname": plan.container_name,
        "ports": [p.label for p in plan.ports],
        "mount": _binds(plan, facts),
        "ulimit": [dict(plan.docker.ulimits)] if plan.docker.ulimits else [],
        "auth": [_auth(plan.docker.auth)] if plan.docker.auth else [],
    }
    return {**config, **{name: value for name, value in options.items() if value not in (None, [])}}


def _auth(auth: RegistryAuth) -> Json:
    """By reference: the client fills in what the template of the secrets gives the task."""
    return {"username": f'${{env["{auth.username}"]}}', "password": f'${{env["{auth.password}"]}}'}


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
        memory_max=need.memory_max_mb if (need.memory_max_mb or 0) > need.memory_mb else None,
        devices=(gpu_request(plan, facts),) if need.gpus else (),
    )


def _templates(
    plan: TrainingPlan, facts: ClusterFacts, templates: Path, phase: SmokePhase | None
) -> tuple[TemplateBlock, ...]:
    # Where the cluster can't hold the time limit, the script does: the budget counts on it.
    limit = None if _holds_limit(plan, facts) else plan.limits.max_run_s
    script = launch_script(plan, templates, time_limit_s=limit, smoke=phase)
    blocks = [_text("local/launch.sh", script, perms="0755")]
    blocks += [_text(f"local/{name}", text) for name, text in outputs_helpers(templates).items()]
    blocks += [_text(f"local/{name}", text) for name, text in sampler_helpers(templates).items()]
    if in_last_phase(plan):
        blocks += [_text(f"local/{name}", text) for name, text in evaluation_helpers(plan, templates).items()]
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


def _members(plan: TrainingPlan, templates: Path, job_id: str) -> tuple[TemplateBlock, ...]:
    """What a member needs to find the others."""
    if plan.launch.nodes == 1:
        return ()
    return _text("local/members.py", members_helper(templates)), members_block(job_id)


def _text(destination: str, data: str, *, env: bool = False, perms: str = "0644") -> TemplateBlock:
    """A template block that says exactly `data`: its delimiters don't occur in it. Nomad refuses an empty one, so that
    nothing is said by a template."""
    if not data:
        return TemplateBlock(destination=destination, data='{{ "" }}', env=env, perms=perms)
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
