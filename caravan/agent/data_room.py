"""Whether a training's outputs have a place: one that may be written, with room for the checkpoints. Only looks.

Known only where the job writes to this machine's disk.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from caravan.agent.context import Context
from caravan.training.data.model_files import ModelFiles
from caravan.training.data.room import adapter_parameters, needed_bytes
from caravan.values.amounts import size_text
from caravan.values.plan import TrainingPlan
from caravan.values.training import DataKind, DataProblem

_RANK = 16
_KEPT = 2


def room_problems(plan: TrainingPlan, model: ModelFiles, context: Context) -> tuple[DataProblem, ...]:
    """The problems of the place for outputs."""
    place = _place(plan, context)
    if place is None:
        return ()
    return tuple(_problems(place, plan, model))


def _place(plan: TrainingPlan, context: Context) -> Path | None:
    """The folder on this machine to which the job writes; None where that is not to be seen."""
    if not context.facts().shared_files or plan.driver == "docker":
        return None
    own = plan.training.output_dir
    if own and own.startswith("/"):
        return Path(own)
    if plan.outputs.kind == "path" and plan.outputs.location.startswith("/"):
        return Path(plan.outputs.location)
    return None


def _problems(place: Path, plan: TrainingPlan, model: ModelFiles) -> Iterator[DataProblem]:
    nearest = _nearest(place)
    if nearest is None:
        return
    if not nearest.is_dir():
        text = f"the outputs can't go there: {nearest} is a file"
        yield DataProblem(kind=DataKind.OUTPUT_UNWRITABLE, text=text, file=str(place))
        return
    if not os.access(nearest, os.W_OK | os.X_OK):
        text = f"the outputs can't go there: {nearest} may not be written by this user"
        yield DataProblem(kind=DataKind.OUTPUT_UNWRITABLE, text=text, file=str(place))
        return
    needed = _needed(plan, model)
    try:
        free = shutil.disk_usage(nearest).free
    except OSError:
        return
    if needed is not None and free < needed:
        text = f"{_kept(plan)} checkpoints and the model need about {size_text(needed)}, {size_text(free)} are free"
        hint = "lower training.save_total_limit, or name another place by training.output_dir"
        yield DataProblem(kind=DataKind.DISK_FULL, text=f"{text}: {hint}", file=str(place))


def _nearest(place: Path) -> Path | None:
    """The place, or the folder above it that is there."""
    try:
        return next((each for each in (place, *place.parents) if each.exists()), None)
    except OSError:
        return None


def _kept(plan: TrainingPlan) -> int:
    return plan.training.save_total_limit or _KEPT


def _needed(plan: TrainingPlan, model: ModelFiles) -> int | None:
    if plan.training.method in ("lora", "qlora"):
        trained = adapter_parameters(model.config, plan.training.lora_rank or _RANK)
        return needed_bytes(trained, whole=False, kept=_kept(plan)) if trained else None
    if not model.parameters:
        return None
    return needed_bytes(model.parameters, whole=True, kept=_kept(plan), weights=model.weights_bytes)
