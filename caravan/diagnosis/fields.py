"""Where a canonical fix lands: each field that the taxonomy names is a plan path, or a repair that is no plan change.

Only data. A pattern (`training.*`, `resources.{dimension}`) and `jobspec` stand for any field below their path: HCL is
never edited, so what a message says about the job is mended in the plan that it was rendered from.
"""

from dataclasses import dataclass
from typing import Final

from caravan.values.failure import ChangePlan, Requery, RetryElsewhere, Wait


@dataclass(frozen=True)
class Place:
    """Where a fix lands: a dotted plan path ("" is the whole plan) with ChangePlan, or None with another repair."""

    path: str | None
    repair: type[ChangePlan | Wait | RetryElsewhere | Requery] = ChangePlan


_SAME_NAME: Final = (
    "artifacts",
    "command",
    "constraints",
    "container_name",
    "datacenters",
    "dataset.columns",
    "dataset.format",
    "dataset.path",
    "docker.runtime",
    "driver",
    "env.HF_HOME",
    "env.HF_HUB_OFFLINE",
    "env.LD_LIBRARY_PATH",
    "env.NCCL_DEBUG",
    "env.NCCL_IB_DISABLE",
    "env.NCCL_SOCKET_IFNAME",
    "env.OMP_NUM_THREADS",
    "env.PYTHONPATH",
    "env.TOKENIZERS_PARALLELISM",
    "env.WANDB_MODE",
    "exclude_nodes",
    "image",
    "job_type",
    "limits.max_run_s",
    "launch.launcher",
    "launch.master_port",
    "launch.nproc",
    "launch.rdzv_endpoint",
    "model.id",
    "model.source",
    "mounts",
    "namespace",
    "network_mode",
    "node_pool",
    "ports",
    "region",
    "resources.disk_mb",
    "resources.gpu_model",
    "resources.gpus",
    "resources.memory_mb",
    "setup.apt",
    "setup.cmd",
    "setup.pip",
    "shm_mb",
    "templates",
    "training.attn",
    "training.ddp_timeout",
    "training.epochs",
    "training.gpu_memory_share",
    "training.grad_accum",
    "training.grad_checkpointing",
    "training.lora_rank",
    "training.lr",
    "training.max_grad_norm",
    "training.max_len",
    "training.max_steps",
    "training.method",
    "training.micro_batch",
    "training.num_workers",
    "training.output_dir",
    "training.precision",
    "training.report_to",
    "training.resize_embeddings",
    "training.resume_from",
    "training.save_total_limit",
    "training.tf32",
    "training.warmup",
    "user",
    "workdir",
)

FIELDS: Final[dict[str, Place]] = {
    **{name: Place(name) for name in _SAME_NAME},
    "args": Place("command"),  # program and arguments are one value in the plan
    "image_pull_timeout": Place("image_pull_timeout_s"),
    "jobspec": Place(""),
    "kill_timeout": Place("kill_timeout_s"),
    "progress_deadline": Place("progress_deadline_s"),
    "query.id": Place(None, Requery),
    "resources.{dimension}": Place("resources"),
    "retry.after_s": Place(None, Wait),
    "retry.max": Place(None, RetryElsewhere),
    "training.*": Place("training"),
}
