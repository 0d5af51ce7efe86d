"""Options that scripts inherit from configuration classes of installed libraries, which are not in the repository.

Names and defaults: the references of transformers' `TrainingArguments` (4.x and 5.x), of TRL's configurations, of
sentence-transformers and of Lightning's `Trainer`. A library's version may differ; what the repository says goes first.
"""

from collections.abc import Iterator
from typing import Final

from caravan.analysis.findings import FoundOption, Module, source_line
from caravan.values.base import Json
from caravan.values.repo import ScriptOption

_Rows = tuple[tuple[str, str, Json], ...]


def _rows(kind: str, **defaults: Json) -> _Rows:
    return tuple((name, kind, default) for name, default in defaults.items())


_TRAINING: Final[_Rows] = (
    ("output_dir", "str", None),
    *_rows("int", per_device_train_batch_size=8, per_device_eval_batch_size=8, gradient_accumulation_steps=1),
    *_rows("float", learning_rate=5e-5, weight_decay=0.0, max_grad_norm=1.0, num_train_epochs=3.0),
    ("max_steps", "int", -1),
    ("lr_scheduler_type", "str", "linear"),
    ("warmup_ratio", "float", 0.0),
    ("warmup_steps", "int", 0),
    ("logging_steps", "float", 500),
    ("save_strategy", "str", "steps"),
    ("save_steps", "float", 500),
    *_rows("int", save_total_limit=None, seed=42, data_seed=None),
    *_rows("bool", bf16=False, fp16=False, tf32=None, gradient_checkpointing=False, torch_compile=False),
    *_rows("bool", bf16_full_eval=False, fp16_full_eval=False, auto_find_batch_size=False, use_liger_kernel=False),
    *_rows("str", optim=None, optim_args=None, lr_scheduler_kwargs=None, gradient_checkpointing_kwargs=None),
    *_rows("float", adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, label_smoothing_factor=0.0),
    ("neftune_noise_alpha", "float", None),
    *_rows("int", dataloader_num_workers=0, dataloader_prefetch_factor=None, ddp_timeout=1800),
    *_rows("bool", dataloader_drop_last=False, dataloader_pin_memory=True, dataloader_persistent_workers=False),
    *_rows("bool", ddp_find_unused_parameters=None, remove_unused_columns=True, group_by_length=False),
    *_rows("str", ddp_backend=None, deepspeed=None, fsdp=None, fsdp_config=None),
    *_rows("str", report_to=None, run_name=None, logging_dir=None, log_level="passive", logging_strategy="steps"),
    *_rows("bool", logging_first_step=False, disable_tqdm=None, overwrite_output_dir=False, save_only_model=False),
    *_rows("bool", do_train=False, do_eval=False, do_predict=False, load_best_model_at_end=False),
    ("eval_strategy", "str", "no"),
    ("eval_steps", "float", None),
    *_rows("str", metric_for_best_model=None, resume_from_checkpoint=None, label_names=None),
    *_rows("bool", push_to_hub=False, hub_private_repo=None),
    *_rows("str", hub_model_id=None, hub_strategy="every_save", hub_revision=None),
)
_TRL: Final[_Rows] = (
    ("model_init_kwargs", "dict", None),
    ("dataset_num_proc", "int", None),
    ("max_length", "int", 1024),
    ("logging_steps", "float", 10),
    ("gradient_checkpointing", "bool", True),
    ("bf16", "bool", None),
)
_ONLINE: Final[_Rows] = (
    ("learning_rate", "float", 1e-6),
    *_rows("int", num_generations=8, max_completion_length=256, max_prompt_length=512, num_iterations=1),
    *_rows("float", temperature=1.0, top_p=1.0, epsilon=0.2, vllm_gpu_memory_utilization=0.3),
    *_rows("bool", use_vllm=False, log_completions=False, disable_dropout=False),
    *_rows("str", vllm_mode="colocate", vllm_server_host="0.0.0.0", reward_weights=None, loss_type=None),  # noqa: S104
    *(row for row in _TRL if row[0] != "max_length"),
)


def _rate(rate: float) -> _Rows:
    return (("learning_rate", "float", rate),)


_SFT: Final[_Rows] = (
    *_rate(2e-5),
    *_rows("bool", packing=False, padding_free=False, completion_only_loss=None, assistant_only_loss=False),
    *_rows("str", dataset_text_field="text", chat_template_path=None, eos_token=None),
)
_PREFERENCE: Final[_Rows] = (
    ("beta", "float", 0.1),
    *_rows("bool", disable_dropout=True, precompute_ref_log_probs=False, sync_ref_model=False),
    ("max_prompt_length", "int", 512),
)
_LIGHTNING: Final[_Rows] = (
    *_rows("str", accelerator="auto", strategy="auto", devices="auto", precision=None, default_root_dir=None),
    *_rows("int", num_nodes=1, max_epochs=None, min_epochs=None, max_steps=-1, min_steps=None),
    ("max_time", "str", None),
    *_rows("float", limit_train_batches=None, limit_val_batches=None, limit_test_batches=None, overfit_batches=0.0),
    *_rows("float", val_check_interval=None, gradient_clip_val=None),
    *_rows("int", check_val_every_n_epoch=1, num_sanity_val_steps=None, log_every_n_steps=None),
    ("accumulate_grad_batches", "int", 1),
    *_rows("bool", fast_dev_run=False, enable_checkpointing=None, enable_progress_bar=None, deterministic=None),
    *_rows("bool", benchmark=None, sync_batchnorm=False, detect_anomaly=False),
)
_MODEL: Final[_Rows] = (
    *_rows("str", model_name_or_path=None, model_revision="main", dtype=None, attn_implementation=None),
    *_rows("bool", trust_remote_code=False, use_peft=False, use_rslora=False, use_dora=False),
    *_rows("int", lora_r=16, lora_alpha=32),
    ("lora_dropout", "float", 0.05),
    *_rows("list", lora_target_modules=None, lora_modules_to_save=None),
    *_rows("bool", load_in_8bit=False, load_in_4bit=False),
    ("bnb_4bit_quant_type", "str", "nf4"),
)
_SCRIPT: Final[_Rows] = (
    *_rows("str", dataset_name=None, dataset_config=None, dataset_train_split="train", dataset_test_split="test"),
    ("dataset_streaming", "bool", False),
)
BASES: Final = {
    "TrainingArguments": _TRAINING,
    "Seq2SeqTrainingArguments": (
        *_TRAINING,
        *_rows("bool", sortish_sampler=False, predict_with_generate=False),
        *_rows("int", generation_max_length=None, generation_num_beams=None),
    ),
    "SentenceTransformerTrainingArguments": _TRAINING,
    "CrossEncoderTrainingArguments": _TRAINING,
    "SparseEncoderTrainingArguments": _TRAINING,
    "SFTConfig": (*_SFT, *_TRL, *_TRAINING),
    "GKDConfig": (*_SFT, *_TRL, *_TRAINING),
    "DPOConfig": (*_rate(1e-6), *_PREFERENCE, *_TRL, *_TRAINING),
    "KTOConfig": (*_rate(1e-6), *_PREFERENCE, *_TRL, *_TRAINING),
    "ORPOConfig": (*_rate(1e-6), *_PREFERENCE, *_TRL, *_TRAINING),
    "CPOConfig": (*_rate(1e-6), *_PREFERENCE, *_TRL, *_TRAINING),
    "RewardConfig": (*_rate(1e-4), *_TRL, *_TRAINING),
    "PRMConfig": (*_rate(1e-5), *_TRL, *_TRAINING),
    "GRPOConfig": (*_ONLINE, *_TRAINING),
    "RLOOConfig": (*_ONLINE, *_TRAINING),
    "OnlineDPOConfig": (*_rate(5e-7), *_TRL, *_TRAINING),
    "PPOConfig": (("total_episodes", "int", None), ("response_length", "int", 53), *_TRAINING),
    "ModelConfig": _MODEL,
    "ScriptArguments": _SCRIPT,
    "Trainer": _LIGHTNING,
    "deepspeed": (("deepspeed", "bool", False), ("deepspeed_config", "str", None)),
}
"""Configuration classes by name, with (option, type, default); of an option that stands twice the first counts."""


def of_base(module: Module, name: str) -> Iterator[FoundOption]:
    """The options that a class of that name (or imported under it) brings; none for a class that is not known."""
    known = original(module, name)
    where = next((module.at(i.line) for i in module.imports if known in i.names), source_line(module.path, 0, name))
    seen: set[str] = set()
    for option, kind, default in BASES.get(known, ()):
        if option not in seen:
            seen.add(option)
            flag = f"--{option}"
            yield FoundOption(ScriptOption(flag=flag, type=kind, default=default, help=f"of {known}"), (flag,), where)


def original(module: Module, name: str) -> str:
    """The name under which a library defines what the module calls `name` (`from lib import X as name`)."""
    if name in BASES:
        return name
    pairs = ((b, n) for i in module.imports for n, b in zip(i.names, i.bound, strict=False))
    return next((n for b, n in pairs if b == name), name)
