"""Which fields of a plan a lesson may speak of, and which of them without a question. Names of fields, nothing else."""

from typing import Final

from caravan.values.estimate import ROOM
from caravan.values.failure import PastCase

NEVER: Final = (
    *("code", "driver", "user", "secrets", "outputs", "limits", "namespace", "region", "node_pool", "datacenters"),
    *("network_mode", "mounts", "artifacts", "templates", "docker", "job_type", "priority", "goal", "target"),
    "provenance",
)
"""Fields that no lesson may set, whoever taught it: where the job runs as whom, what it may reach and what it costs."""

UNASKED: Final = (
    *ROOM,
    *("training.micro_batch", "training.grad_accum", "training.grad_checkpointing", "training.lr"),
    *("training.max_grad_norm", "training.num_workers", "training.precision", "training.warmup"),
    "setup.pip",
)
"""Fields that a lesson of others may set without a question; of `setup.pip` each package is looked at for itself."""


def never(path: str) -> bool:
    """Whether no lesson may set the field at this path."""
    return path.partition(".")[0] in NEVER


def name_of(case: PastCase) -> str:
    """How the reason of a change names the lesson that it is by."""
    return f"lesson {case.id[:8]}"
