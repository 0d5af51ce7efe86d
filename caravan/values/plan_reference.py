"""What each field of a plan means, what it becomes in the job, and who drafts it where nobody says: one row a field.

The comments of plan.yaml and the plan's page are made of it. It must not know how a plan is drafted or rendered;
tests hold the rows against the model, against drafted plans and against rendered jobs.
"""

from typing import Final, NamedTuple

from caravan.values.plan import split_path


class Row(NamedTuple):
    """Meaning with its unit, what it becomes (Nomad's block and argument, or what of the job), and who drafts it.

    `by` names the authors that set it where no person does; empty: it keeps its default until somebody sets it.
    """

    meaning: str
    becomes: str
    by: str = ""


_FLAG: Final = "its option or config key"
_SCRIPT: Final = "the launch script"
_ENVIRONMENT: Final = "the task that installs, or the launch script"
_AGENT: Final = "nothing of the job"
_ESTIMATE: Final = f"{_FLAG}; part of the estimate"

ROWS: Final[dict[str, Row]] = {
    "goal": Row("what shall be trained, in a sentence", _AGENT),
    "model.id": Row("base model: a hub id, or a path as the job sees it", _ESTIMATE, "repository"),
    "model.source": Row("where the base model comes from", _AGENT),
    "model.revision": Row("revision of the base model on its hub", _FLAG),
    "dataset.path": Row("training data: a hub id, a path here or as the job sees it", f"{_FLAG}; `data`", "repository"),
    "dataset.format": Row("format of the data, as the program names it", _FLAG),
    "dataset.columns": Row("columns of the data that are used", _FLAG),
    "dataset.examples": Row("how many examples the data has", _AGENT),
    "training.type": Row(
        "a training type whose script Caravan brings; unset: the repository's own program", "code, command"
    ),
    "training.method": Row("full, lora, qlora or what the program calls it", _ESTIMATE, "repository"),
    "training.micro_batch": Row("samples per GPU and step", _ESTIMATE, "repository, default, estimate, memory"),
    "training.grad_accum": Row(
        "steps accumulated before an update", _ESTIMATE, "repository, default, estimate, memory"
    ),
    "training.global_batch": Row(
        "samples of one update, on all GPUs together: the effective batch", _ESTIMATE, "repository, default"
    ),
    "training.max_len": Row("tokens per sequence", _ESTIMATE, "repository"),
    "training.lr": Row("learning rate", _FLAG, "repository"),
    "training.epochs": Row("passes over the data", _FLAG, "repository"),
    "training.max_steps": Row("steps after which it ends", _FLAG, "repository"),
    "training.warmup": Row("warm-up: steps, or a share of them below 1", _FLAG, "repository"),
    "training.max_grad_norm": Row("norm at which gradients are clipped", _FLAG, "repository"),
    "training.optimizer": Row("optimizer, as the program names it", _ESTIMATE, "repository"),
    "training.precision": Row("number format of the computation", _ESTIMATE, "repository"),
    "training.tf32": Row("TF32 for what stays in fp32", _FLAG, "repository"),
    "training.quant_bits": Row("bits of the quantised base weights", _ESTIMATE, "repository"),
    "training.grad_checkpointing": Row("compute activations again to save memory", _ESTIMATE, "repository, memory"),
    "training.attn": Row("implementation of attention, as the program names it", _ESTIMATE, "repository"),
    "training.lora_rank": Row("rank of the adapter", _ESTIMATE, "repository"),
    "training.num_workers": Row("processes that load data, for each training process", _FLAG, "repository, memory"),
    "training.seed": Row("seed of the random numbers", _FLAG, "repository"),
    "training.output_dir": Row("directory that the training writes to; unset: where `outputs` says", _FLAG),
    "training.save_total_limit": Row("how many checkpoints are kept", _FLAG, "repository"),
    "training.resume_from": Row("checkpoint to begin with", _FLAG, "repository"),
    "training.report_to": Row("tracker that is reported to, as the program names it", _FLAG, "repository"),
    "training.ddp_timeout": Row("how long processes wait for each other, in seconds", _FLAG, "repository, memory"),
    "training.gpu_memory_share": Row("share of a GPU's memory that is used, 0 to 1", _FLAG),
    "training.resize_embeddings": Row("fit the embeddings to the tokenizer", _FLAG),
    "training.options": Row("further options of the program, spelled as it spells them", "the command", "default"),
    "target": Row("metric that the training is judged by", _AGENT, "repository"),
    "target.metric": Row("name of the metric, as it is logged", _AGENT),
    "target.direction": Row("whether less or more of it is better", _AGENT),
    "target.goal": Row("value that it shall reach", _AGENT),
    "launch.launcher": Row("what starts the program", _SCRIPT, "repository"),
    "launch.nproc": Row("processes on each node", _SCRIPT, "default"),
    "launch.nodes": Row("nodes that train together", "group.count", "repository"),
    "launch.master_port": Row("port at which the processes meet", _SCRIPT),
    "launch.rdzv_endpoint": Row("host:port of torchrun's rendezvous on one node", _SCRIPT),
    "launch.rank_option": Row("the program's option for its process's number on a node", _SCRIPT, "repository"),
    "launch.args": Row("further arguments of the launcher itself", _SCRIPT, "repository"),
    "command": Row("program and its arguments, without the launcher's own", _SCRIPT, "repository"),
    "flags": Row("plan field to the program's option that takes its value", "how the command is written", "repository"),
    "workdir": Row("directory of the code that it is started in", _SCRIPT, "repository"),
    "env": Row("environment variables, by value; no secrets", "task.env", "repository, cluster, default"),
    "setup.python": Row("interpreter that starts the environment", _ENVIRONMENT, "cluster"),
    "setup.requirements": Row("file of the repository that names its packages", _ENVIRONMENT, "repository"),
    "setup.further_requirements": Row("more such files, installed with the first", _ENVIRONMENT, "repository"),
    "setup.option_requirements": Row(
        "the program's option to a file that is installed as well where the option is on", _ENVIRONMENT, "repository"
    ),
    "setup.pip": Row("further packages, as pip takes them; `.` is the repository", _ENVIRONMENT, "repository"),
    "setup.apt": Row("system packages", _ENVIRONMENT, "repository"),
    "setup.cmd": Row("commands that run before the training", _SCRIPT, "repository"),
    "setup.prestart": Row("packages are installed by a task of its own; unset: where a cache outlives it", "task"),
    "config_overlays": Row("configs of the repository that the job sees changed", "template"),
    "config_overlays[].path": Row("the config's path in the repository", "template"),
    "config_overlays[].values": Row("dotted key to its new value", "template"),
    "config_overlays[].text": Row("the whole file, in place of the repository's", "template"),
    "config_keys": Row("plan field to where a config holds its value", "how overlays are written", "repository"),
    "config_keys.NAME.path": Row("the config's path in the repository", "how overlays are written"),
    "config_keys.NAME.key": Row("dotted key in it", "how overlays are written"),
    "code.kind": Row("an archive that is sent, a git commit, inside the image, or a mounted directory", "artifact"),
    "code.location": Row("path or URL of it; unset: chosen when the job is made", "artifact.source"),
    "code.ref": Row("git commit, tag or branch", "artifact.options.ref"),
    "code.subdir": Row("directory of the git repository that the job begins in", _SCRIPT),
    "code.sha256": Row("digest of the archive", "artifact.options.checksum"),
    "code.files": Row("files delivered, where they were counted", _AGENT),
    "code.size_bytes": Row("what is sent, in bytes, where it is known", _AGENT),
    "code.uncommitted": Row("paths delivered as they are here, not as committed", _AGENT),
    "data": Row("how data on this machine gets to the job; unset: by itself", "artifact, or a mount", "cluster"),
    "data.kind": Row("on a volume, sent to a store, read where it lies, or in the code", "artifact, or a mount"),
    "data.local": Row("the path on this machine", _AGENT),
    "data.folder": Row("it is a directory, sent as one tar file", _SCRIPT),
    "data.link": Row("path in the code at which the training finds it by itself", _SCRIPT),
    "data.location": Row("fsspec URL without credentials, or the path that the node sees", "artifact.source"),
    "data.destination": Row("the path as the training sees it", "artifact.destination, volume_mount.destination"),
    "data.sha256": Row("digest of what is sent", "artifact.options.checksum"),
    "data.size_bytes": Row("its size in bytes", "ephemeral_disk.size counts with it"),
    "data.files": Row("how many files it is", _AGENT),
    "data.left_out": Row("what is there and is not sent, and why", _AGENT),
    "build": Row("image that is built of the code and pushed, after approval", "config.image", "repository"),
    "build.dockerfile": Row("path of the Dockerfile in the code", _AGENT),
    "build.tag": Row("registry, name and tag of the image", "config.image"),
    "build.sha256": Row("digest of the archive of code that it is built from", _AGENT),
    "outputs.kind": Row("where weights go: a path of the node, a volume, a URL, or only the allocation", _SCRIPT),
    "outputs.location": Row("the path, the volume's mount or name, or the URL", f"{_SCRIPT}; config.mount", "cluster"),
    "resume": Row("how the training goes on from a checkpoint; unset: it begins anew", _SCRIPT, "repository"),
    "resume.kind": Row("whose checkpoints: transformers', Lightning's, or any files", _SCRIPT),
    "resume.flag": Row("option that takes the checkpoint's path", _SCRIPT),
    "resume.auto": Row("the program finds it by itself in its output directory", _SCRIPT),
    "resume.pattern": Row("files below the output directory, the newest last", _SCRIPT),
    "smoke.on": Row("measure some steps before the rest begins", _SCRIPT, "estimate"),
    "smoke.steps": Row("how many steps", _SCRIPT),
    "smoke.max_s": Row("how long that may take, in seconds", _SCRIPT),
    "job_type": Row("a batch job ends; a service stays", "job.type"),
    "driver": Row("Nomad's task driver", "task.driver", "cluster"),
    "image": Row("container image", "config.image", "default, repository, cluster"),
    "image_pull_timeout_s": Row("how long an image may take to be pulled, in seconds", "config.image_pull_timeout"),
    "docker.runtime": Row("container runtime", "config.runtime"),
    "docker.entrypoint": Row("entry point of the container", "config.entrypoint"),
    "docker.ulimits": Row("limit to `soft[:hard]`, as `memlock` to `-1`", "config.ulimit"),
    "docker.work_dir": Row("where the container starts; the script changes it anyway", "config.work_dir"),
    "docker.auth": Row("who pulls the image: names of two of `secrets`", "config.auth"),
    "docker.auth.username": Row("the secret that holds the user", "config.auth.username"),
    "docker.auth.password": Row("the secret that holds the password", "config.auth.password"),
    "user": Row("user that the task runs as", "task.user", "cluster"),
    "container_name": Row("host name of the container", "config.hostname"),
    "network_mode": Row("the container's network", "config.network_mode"),
    "artifacts": Row("what the client downloads before the task starts", "artifact"),
    "artifacts[].source": Row("where it is (go-getter)", "artifact.source"),
    "artifacts[].destination": Row("where it goes, in the task directory", "artifact.destination"),
    "artifacts[].mode": Row("a file, a directory, or whatever it is", "artifact.mode"),
    "templates": Row("texts rendered into the task directory", "template"),
    "templates[].destination": Row("the path in the task directory", "template.destination"),
    "templates[].data": Row("the text; may hold Nomad's template syntax", "template.data"),
    "templates[].env": Row("its lines are environment variables", "template.env"),
    "mounts": Row("volumes and directories of the node that the task sees", "volume, volume_mount", "cluster"),
    "mounts[].kind": Row("a host volume, a CSI volume, or a directory of the node", "volume.type"),
    "mounts[].source": Row("the volume's name, or the path on the node", "volume.source"),
    "mounts[].destination": Row("the path in the task", "volume_mount.destination"),
    "mounts[].read_only": Row("nothing may be written there", "volume_mount.read_only"),
    "secrets": Row("environment variables that are given by reference, by name", "template", "repository"),
    "secrets_from.kind": Row("where their values are: a Nomad variable, or Vault", "template.data"),
    "secrets_from.path": Row("path of the variable or secret", "template.data"),
    "secrets_from.role": Row("Vault role of the job; unset: the cluster's default", "vault.role"),
    "secrets_from.policies": Row("Vault policies, where jobs have no roles", "vault.policies"),
    "ports": Row("ports of the job", "network.port"),
    "ports[].label": Row("name of the port", "network.port"),
    "ports[].static": Row("its number; unset: any that is free", "network.port.static"),
    "resources.gpus": Row("GPUs on each node", "resources.device.count", "repository, cluster, default"),
    "resources.gpu_vendor": Row("whose GPUs", "resources.device", "cluster"),
    "resources.gpu_model": Row("GPU type that is demanded", "resources.device", "estimate, cluster"),
    "resources.gpu_memory_mib": Row("least memory of a GPU, in MiB", "resources.device.constraint", "estimate"),
    "resources.gpu_driver": Row("oldest driver of the GPUs that will do", "constraint", "repository"),
    "resources.gpu_prefer": Row("GPU types that would do, the cheapest first", "resources.device.affinity", "estimate"),
    "resources.cpu_mhz": Row("CPU, in MHz", "resources.cpu", "default, cluster"),
    "resources.cores": Row("whole CPU cores, in place of MHz", "resources.cores"),
    "resources.memory_mb": Row("host memory, in MB", "resources.memory", "default, cluster, estimate, memory"),
    "resources.memory_max_mb": Row("host memory that it may use beyond that, in MB", "resources.memory_max"),
    "resources.disk_mb": Row("disk of the allocation, in MB", "ephemeral_disk.size", "default, cluster"),
    "shm_mb": Row("shared memory of the container, in MB", "config.shm_size", "default"),
    "namespace": Row("Nomad namespace", "job.namespace", "cluster"),
    "region": Row("Nomad region", "job.region"),
    "node_pool": Row("node pool", "job.node_pool", "cluster"),
    "datacenters": Row("datacenters, with patterns", "job.datacenters", "cluster"),
    "constraints": Row("what a node must have", "constraint"),
    "constraints[].attribute": Row("the node's attribute", "constraint.attribute"),
    "constraints[].operator": Row("how it is compared", "constraint.operator"),
    "constraints[].value": Row("with what", "constraint.value"),
    "affinities": Row("what a node should have", "affinity"),
    "affinities[].attribute": Row("the node's attribute", "affinity.attribute"),
    "affinities[].operator": Row("how it is compared", "affinity.operator"),
    "affinities[].value": Row("with what", "affinity.value"),
    "affinities[].weight": Row("how much, from -100 to 100", "affinity.weight"),
    "spreads": Row("attributes over whose values members are spread", "spread"),
    "spreads[].attribute": Row("the node's attribute", "spread.attribute"),
    "spreads[].weight": Row("how much, from 0 to 100", "spread.weight"),
    "exclude_nodes": Row("names of nodes to keep away from", "constraint"),
    "priority": Row("priority among the cluster's jobs, 1 to 100", "job.priority"),
    "kill_timeout_s": Row("how long it may take to end once it is told to, in seconds", "task.kill_timeout"),
    "progress_deadline_s": Row("how long a service may take to be healthy, in seconds", "update.progress_deadline"),
    "limits.max_run_s": Row("time limit of an attempt, in seconds", "group.max_run_duration", "estimate, cluster"),
    "limits.queue_s": Row("how long it may wait for room on the cluster, in seconds", _AGENT),
    "limits.start_s": Row("from its place on a node to the start of its task, in seconds", _AGENT),
    "limits.first_sign_s": Row("from the task's start to its first line of log, in seconds", _AGENT),
    "limits.silence_s": Row("how long a running task may write nothing, in seconds", _AGENT),
    "limits.gang_s": Row("how long some nodes of a group may wait for the others, in seconds", _AGENT),
    "limits.max_cost_usd": Row("what the whole run may cost, in US dollars", _AGENT),
    "limits.attempts": Row("deployed attempts at most, 1 to 3", _AGENT),
    "limits.fixes": Row("repairs at most, 0 to 8", _AGENT),
}
"""Dotted path → row; `[]` stands for each item of a list, `NAME` for each key of a mapping."""


def meaning(path: str) -> str:
    """What the field at a dotted path of a plan means; of a mapping's key, what the mapping means. Empty: no row."""
    parts = split_path(path)
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((ROWS[name].meaning for name in names if name in ROWS), "")
