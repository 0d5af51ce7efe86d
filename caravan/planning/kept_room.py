"""What a training of one of our own types needs of the machine beside its GPUs: disk for checkpoints, memory of a CPU.

Only of our own scripts it is known what they write and keep: weights that learn in 32 bit, Adam's two moments beside
them in each checkpoint, one checkpoint more while the oldest goes, the model once more at the end. Pure.
"""

import math
from typing import Final

from caravan.planning.memory import Setting, memory_parts
from caravan.planning.memory.trained import trained_params
from caravan.values.plan import TrainingPlan
from caravan.values.shape import ModelShape

USUAL_DISK_MB: Final = {True: 51200, False: 2048}
"""The usual disk of a job with GPUs and of one without."""
_MOMENTS: Final = 8
_WEIGHT: Final = 4
_KEPT: Final = 2  # the scripts' own default
_BASE_MB: Final = 1024
"""Python with torch, transformers, peft, trl and datasets on a CPU, before any model. A whole training of a model of
125,000 parameters came to 0.56 GiB by the sampler; the rest, for larger batches and what loads later, is a guess."""
_MARGIN: Final = 1.25


def outputs_mb(plan: TrainingPlan, shape: ModelShape, setting: Setting) -> int:
    """MB that checkpoints and the trained model take at most."""
    kept = (plan.training.save_total_limit or _KEPT) + 1
    trained = trained_params(shape, setting)
    return math.ceil(trained * (kept * (_WEIGHT + _MOMENTS) + _WEIGHT) / 1e6)


def disk_mb(plan: TrainingPlan, shape: ModelShape | None, setting: Setting) -> int | None:
    """MB of disk to ask for, where outputs are written in the allocation and take much of what is usual; else None."""
    own = plan.training.output_dir
    elsewhere = plan.outputs.kind not in ("allocation", "url") or (own is not None and own.startswith("/"))
    if plan.training.type is None or shape is None or elsewhere:
        return None
    usual, needed = USUAL_DISK_MB[plan.resources.gpus > 0], outputs_mb(plan, shape, setting)
    return usual + needed if needed > usual / 2 else None


def cpu_memory_mb(plan: TrainingPlan, shape: ModelShape | None, setting: Setting) -> int | None:
    """Host memory in MB of a training without GPUs: Python and torch, and all that a GPU would hold, in 32 bit.

    None for another program than a type's, of which nobody knows what it holds.
    """
    if plan.training.type is None or shape is None:
        return None
    on_cpu = setting._replace(compute_dtype="fp32", weights_dtype="fp32", gpus=1, parallel="none", offload=False)
    tensors = sum(part.gib for part in memory_parts(shape, on_cpu._replace(metric="allocated")))
    return math.ceil(_BASE_MB + tensors * 1024 * _MARGIN)
