"""Against GPU memory that ran out, beyond a smaller batch: how it is cut up, the optimiser's states, several GPUs.

Nothing here changes what is learned but for the optimiser's rounding.
"""

import re
from typing import Final

from caravan.diagnosis.ladders.case import Case, with_item
from caravan.values.base import Json
from caravan.values.distributions import requirement_name
from caravan.values.repo import Launcher

_SEGMENTS: Final = "expandable_segments:True"
_VARIABLE: Final = "PYTORCH_CUDA_ALLOC_CONF"
_IDLE: Final = re.compile(r"(\d+(?:\.\d+)?) (MiB|GiB) is reserved by PyTorch but unallocated")
_RESERVED: Final = re.compile(
    r"(\d+(?:\.\d+)?) (MiB|GiB) already allocated;.{0,80}; (\d+(?:\.\d+)?) (MiB|GiB) reserved in total"
)
_UNIT: Final = {"MiB": 1 / 1024, "GiB": 1.0}
_ADAM: Final = ("adam", "adamw", "adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused")
_SMALL_ADAM: Final = ("paged_adamw_8bit", "adamw_bnb_8bit", "adamw_8bit", "adam8bit", "adamw8bit")
_BITSANDBYTES: Final = "bitsandbytes>=0.43.2"


def whole_segments(case: Case) -> dict[str, Json]:
    """An allocator that moves the ends of its blocks, where what lies idle between them would have been enough."""
    tried, idle = case.number("tried_gib"), _idle_gib(case.text)
    known = case.plan.env.get(_VARIABLE, "")
    if tried is None or idle is None or idle < tried or "expandable_segments" in known:
        return {}
    return {f"env.{_VARIABLE}": ",".join(filter(None, (known, _SEGMENTS)))}


def _idle_gib(text: str) -> float | None:
    """What torch says that it holds and does not use, in GiB; None where it doesn't say."""
    said = _IDLE.search(text)
    if said:
        return float(said[1]) * _UNIT[said[2]]
    both = _RESERVED.search(text)
    return float(both[3]) * _UNIT[both[4]] - float(both[1]) * _UNIT[both[2]] if both else None


def small_states(case: Case) -> dict[str, Json]:
    """Adam's states in eight bits, where the whole model is trained by Adam and the program lets that be chosen."""
    training = case.plan.training
    if (training.method or case.profile.method or "full") not in ("full", "sft", "finetune", "pretrain"):
        return {}
    option = case.taker("training.optimizer")
    if option is None or str(training.optimizer or option.default or "adamw").lower() not in _ADAM:
        return {}
    offered = [o for o in _SMALL_ADAM if o in option.choices]
    offered = offered or ([_SMALL_ADAM[0]] if not option.choices and _by_trainer(case) else [])
    values = case.heard({"training.optimizer": offered[0]}) if offered else {}
    has = any(requirement_name(x) == "bitsandbytes" for x in case.plan.setup.pip)
    if values and not has and "bitsandbytes" not in case.profile.libraries:
        values["setup.pip"] = with_item(case.plan.setup.pip, _BITSANDBYTES)
    return values


def _by_trainer(case: Case) -> bool:
    """Whether the options are transformers' own, whose names of optimisers are known."""
    if "transformers" not in case.profile.libraries:
        return False
    return case.profile.option("optim") is not None or case.plan.training.type is not None  # ours take the same names


def sharded(case: Case) -> dict[str, Json]:
    """The model's parts spread over the GPUs, a second one if there is but one, by the program's own option for it."""
    plan, launch = case.plan, case.plan.launch
    option = case.profile.option("fsdp")
    usual = launch.launcher in (Launcher.PYTHON, Launcher.TORCHRUN)
    script = bool(plan.command) and plan.command[0].endswith(".py")
    if option is None or not plan.resources.gpus or launch.nodes > 1 or not (usual and script):
        return {}
    if not _by_trainer(case) or plan.training.options.get(option.flag):
        return {}
    gpus = max(2, plan.resources.gpus)
    spread = "full_shard" if "full_shard" in option.choices else "full_shard auto_wrap"
    values: dict[str, Json] = {f"training.options.{option.flag}": spread}
    if gpus != plan.resources.gpus:
        values["resources.gpus"] = gpus
    if launch.nproc != gpus:
        values["launch.nproc"] = gpus
    if launch.launcher is not Launcher.TORCHRUN:
        values["launch.launcher"] = Launcher.TORCHRUN.value
    steps, per_gpu = plan.training.grad_accum or 1, gpus // max(launch.nproc, 1)
    if per_gpu > 1 and steps % per_gpu == 0:
        values |= case.heard({"training.grad_accum": steps // per_gpu})
    asked = case.tried(values)
    return values if asked is not None and case.outlook.gpus(asked) else {}
