"""Spreading a model over GPUs where the program can: what would have to be said to it. Pure.

Sources: accelerate's launcher (`--use_fsdp` with its `--fsdp_*` options), transformers' `TrainingArguments`
(`--fsdp "full_shard auto_wrap"`).
"""

from typing import Final

from caravan.planning.documented import DISTRIBUTED
from caravan.values.base import Json
from caravan.values.plan import STANDING, TrainingPlan
from caravan.values.repo import Launcher, RepoProfile

_SIGNS: Final = ("fsdp", "deepspeed", "zero", "megatron", "tensor_parallel", "pipeline", "device_map", "config_file")
_ACCELERATE: Final = (
    "--use_fsdp",
    "--fsdp_sharding_strategy=FULL_SHARD",
    "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
    "--fsdp_state_dict_type=FULL_STATE_DICT",
)
_FULL: Final = "full_shard"
_TRAINER: Final = f"{_FULL} auto_wrap"


def sharding(plan: TrainingPlan, profile: RepoProfile | None) -> tuple[dict[str, Json], ...]:
    """Fields that spread the model by FSDP where the plan does not spread it yet; empty where the program can't.

    Quantised weights are left whole: what spreads them needs more than an option.
    """
    told = " ".join((*plan.launch.args, *plan.command, *plan.training.options, str(plan.config_overlays))).lower()
    quantised = plan.training.quant_bits is not None or plan.training.method == "qlora"
    if quantised or any(sign in told for sign in _SIGNS):
        return ()
    if plan.launch.launcher is Launcher.ACCELERATE and plan.set_by("launch.args") not in STANDING:
        kept = [a for a in plan.launch.args if a != "--multi_gpu"]
        return ({"launch.args": [*kept, *_ACCELERATE]},)
    option = next((o for o in profile.options if o.flag == "--fsdp"), None) if profile else None
    if option is not None and plan.launch.launcher in DISTRIBUTED and plan.set_by("training.options") not in STANDING:
        value = _TRAINER if not option.choices else _FULL if _FULL in option.choices else None
        return ({"training.options": {**plan.training.options, option.flag: value}},) if value else ()
    return ()
