"""Options that scripts inherit from the trainers' configuration classes, which are not in the repository.

Names and defaults: the reference of transformers' `TrainingArguments` and of TRL's `SFTConfig`, for the options that
a plan can use. A library's version may differ; what the repository itself says goes first.
"""

from collections.abc import Iterator
from typing import Final

from caravan.analysis.findings import FoundOption, Module, source_line
from caravan.values.base import Json
from caravan.values.repo import ScriptOption

_TRAINING: Final[tuple[tuple[str, str, Json], ...]] = (
    ("output_dir", "str", None),
    ("per_device_train_batch_size", "int", 8),
    ("per_device_eval_batch_size", "int", 8),
    ("gradient_accumulation_steps", "int", 1),
    ("learning_rate", "float", 5e-5),
    ("weight_decay", "float", 0.0),
    ("max_grad_norm", "float", 1.0),
    ("num_train_epochs", "float", 3.0),
    ("max_steps", "int", -1),
    ("lr_scheduler_type", "str", "linear"),
    ("warmup_ratio", "float", 0.0),
    ("warmup_steps", "int", 0),
    ("logging_steps", "float", 500),
    ("save_strategy", "str", "steps"),
    ("save_steps", "float", 500),
    ("save_total_limit", "int", None),
    ("seed", "int", 42),
    ("bf16", "bool", False),
    ("fp16", "bool", False),
    ("tf32", "bool", None),
    ("gradient_checkpointing", "bool", False),
    ("optim", "str", None),
    ("dataloader_num_workers", "int", 0),
    ("ddp_timeout", "int", 1800),
    ("deepspeed", "str", None),
    ("fsdp", "str", None),
    ("report_to", "str", None),
    ("resume_from_checkpoint", "str", None),
)
_SFT: Final[tuple[tuple[str, str, Json], ...]] = (
    ("max_length", "int", 1024),
    ("packing", "bool", False),
    ("dataset_text_field", "str", "text"),
)
BASES: Final = {
    "TrainingArguments": _TRAINING,
    "Seq2SeqTrainingArguments": _TRAINING,
    "SFTConfig": _TRAINING + _SFT,
    "DPOConfig": (*_TRAINING, ("max_length", "int", 1024), ("beta", "float", 0.1)),
    "GRPOConfig": (*_TRAINING, ("max_completion_length", "int", 256), ("num_generations", "int", 8)),
    "RewardConfig": (*_TRAINING, ("max_length", "int", 1024)),
}
"""Configuration classes by name, with (option, type, default)."""


def of_base(module: Module, name: str) -> Iterator[FoundOption]:
    """The options that a class of that name brings; none for a class that is not known."""
    where = next((module.at(i.line) for i in module.imports if name in i.names), source_line(module.path, 0, name))
    for option, kind, default in BASES.get(name, ()):
        flag = f"--{option}"
        yield FoundOption(ScriptOption(flag=flag, type=kind, default=default, help=f"of {name}"), (flag,), where)
