"""What a run was seen to need and how fast it was, beside what was predicted: what later estimates learn from.

What follows from it is `caravan.planning.learned`'s; how it is stored is the store's.
"""

from datetime import datetime
from typing import Literal

from pydantic import Field

from caravan.values.base import Value


class Measurement(Value):
    """One look at one plan's run: its first steps, its whole run, or an out-of-memory, which is a lower bound.

    `id` is made of the run, the attempt and the kind, so that a node that runs twice stores it once. Memory in GiB of
    one GPU, speed in seconds an optimizer step. None: not seen, or not known.
    """

    id: str
    run_id: str
    attempt: int = Field(ge=1)
    at: datetime
    kind: Literal["first_steps", "run", "out_of_memory"]

    key: str = Field(description="digest of what memory and speed hang on (`caravan.planning.learned.plan_key`)")
    model: str = ""
    shape_digest: str = ""
    family: str = ""
    method: str = ""
    precision: str | None = None
    quant_bits: int | None = None
    micro_batch: int | None = None
    max_len: int | None = None
    grad_checkpointing: bool | None = None
    gpus: int = 0
    nodes: int = 1
    parallel: str = Field(default="", description="how processes share the model: a launcher's word, empty for one")
    gpu: str | None = None

    predicted_gib: float | None = Field(default=None, ge=0, description="by the formula, nothing learned in it")
    peak_gib: float | None = Field(default=None, ge=0, description="as the device or torch's reserve counts it")
    allocated_gib: float | None = Field(default=None, ge=0, description="of it, what torch had in use")
    least_gib: float | None = Field(default=None, ge=0, description="after an out-of-memory: it needs more than this")
    predicted_step_s: float | None = Field(default=None, ge=0)
    step_s: float | None = Field(default=None, ge=0)
