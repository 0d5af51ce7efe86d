"""Disk for packages that are installed in the allocation. Pure: the plan and the texts of its requirements in."""

from collections.abc import Iterable
from typing import Final

from caravan.planning.environments import outlives
from caravan.values.distributions import requirement_name
from caravan.values.plan import Author, PlanChange, TrainingPlan

_LARGE: Final = (
    *("torch", "torchaudio", "torchvision", "accelerate", "bitsandbytes", "peft", "trl", "unsloth"),
    *("deepspeed", "lightning", "pytorch-lightning", "sentence-transformers", "tensorflow", "vllm"),
)
"""Frameworks with CUDA's libraries, and what brings one along."""
_ROOM_MB: Final = 10_000
"""An environment with torch 2.15 and its CUDA libraries is 6 GB; meanwhile a wheel of it lies beside what it holds."""
_ENOUGH_MB: Final = 20_000
"""What has been asked for with such room in it already, as the usual disk with GPUs."""


def room_for_packages(plan: TrainingPlan, texts: Iterable[str]) -> tuple[PlanChange, ...]:
    """More disk where a large framework is installed in the allocation, and nobody has said how much there is to be.

    `texts`: what the plan's files of requirements hold.
    """
    path = "resources.disk_mb"
    if outlives(plan) or plan.set_by(path) is not Author.DEFAULT or plan.resources.disk_mb >= _ENOUGH_MB:
        return ()
    lines = [*plan.setup.pip, *(line for text in texts for line in text.splitlines())]
    names = {requirement_name(line.partition("#")[0]) for line in lines}
    found = next((name for name in _LARGE if name in names), None)
    if found is None:
        return ()
    room = plan.resources.disk_mb + _ROOM_MB
    return (PlanChange(path=path, value=room, by=Author.DEFAULT, why=f"with room for {found} and its libraries"),)
