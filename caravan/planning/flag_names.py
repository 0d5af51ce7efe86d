"""Names by which programs call what a plan's fields say, and which option of a profile has one of them. Pure.

The names are those of common parsers; an option that is about something else (evaluation, rollouts) is none of them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.planning.words import plain
from caravan.values.patterns import late
from caravan.values.repo import RepoProfile, ScriptOption

KEY_FIELDS: Final = {
    "batch_size": "training.micro_batch",
    "learning_rate": "training.lr",
    "epochs": "training.epochs",
    "seq_len": "training.max_len",
    "gradient_accumulation": "training.grad_accum",
    "output_dir": "training.output_dir",
}
"""Key hyperparameters of the profile → plan paths."""

OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "model.id": (
        *("model_name_or_path", "base_model", "model_id", "pretrained_model_name_or_path", "pretrained_model"),
        *("pretrained_model_path", "model_path", "model_name", "model", "load_from", "pretrain", "base_model_name"),
    ),
    "dataset.path": (
        *("dataset_name", "dataset_path", "data_path", "train_file", "train_data_path", "train_data_dir"),
        *("train_data_file", "train_path", "dataset", "train_data", "data_dir", "datadir", "data_root", "data"),
        *("train_dir", "image_folder", "instance_data_dir", "input_bin", "data_file", "corpus", "train_dataset"),
    ),
    "training.micro_batch": (
        *("micro_batch_size", "per_device_train_batch_size", "micro_train_batch_size", "per_device_batch_size"),
        *("per_gpu_train_batch_size", "per_gpu_batch_size", "batch_size_per_gpu", "batch_size_per_device", "batch_gpu"),
        *("train_micro_batch_size_per_gpu", "train_batch_size", "batch_size", "batch"),
    ),
    "training.lr": ("learning_rate", "lr"),
    "training.epochs": (
        *("num_train_epochs", "num_epochs", "max_epochs", "n_epochs", "max_train_epochs", "epochs", "epoch_num"),
        *("num_epoch", "max_epoch", "total_epochs", "train_epochs", "nepochs", "epoch"),
    ),
    "training.max_steps": (
        *("max_steps", "max_train_steps", "max_iters", "num_iterations", "train_iters", "total_steps", "train_steps"),
        *("num_train_steps", "max_iter", "num_steps", "steps", "total_step"),
    ),
    "training.max_len": ("max_seq_length", "max_length", "seq_len", "cutoff_len", "model_max_length", "block_size"),
    "training.grad_accum": (
        *("gradient_accumulation_steps", "gradient_accumulation", "grad_accum", "accumulate", "accum_iter"),
        *("accum_steps", "grad_accum_steps", "accumulation_steps", "accumulate_grad_batches", "accum_freq"),
        *("gradient_accumulation_iters",),
    ),
    "training.global_batch": (
        "global_batch_size",
        "total_batch_size",
        "effective_batch_size",
        "global_train_batch_size",
    ),
    "training.output_dir": (
        "output_dir",
        "out_dir",
        "outdir",
        "save_dir",
        "work_dir",
        "output_path",
        "dump_dir",
        "default_root_dir",
    ),
    "training.max_grad_norm": ("max_grad_norm", "grad_clip", "clip_grad_norm", "gradient_clip_val", "clip_grad"),
    "training.optimizer": ("optim", "optimizer", "optimizer_type"),
    "training.precision": ("mixed_precision", "precision", "dtype", "torch_dtype", "amp_dtype"),
    "training.lora_rank": ("lora_r", "lora_rank", "network_dim"),
    "training.num_workers": ("dataloader_num_workers", "num_workers", "workers"),
    "training.seed": ("seed", "random_seed", "global_seed", "seed_everything"),
    "training.save_total_limit": ("save_total_limit", "checkpoints_total_limit"),
    "training.resume_from": ("resume_from_checkpoint", "resume_from", "resume"),
    "training.report_to": ("report_to",),
    "training.ddp_timeout": ("ddp_timeout",),
    "training.attn": ("attn_implementation",),
    "training.method": ("finetuning_type", "tuning_type", "train_method"),
    "launch.nodes": ("num_nodes", "nnodes", "num_machines", "n_nodes"),
}
"""Plan paths → names of the options that take their values, the surest first."""
CHECKPOINTING: Final = (
    *("gradient_checkpointing", "grad_checkpointing", "use_gradient_checkpointing", "use_grad_checkpointing"),
    *("enable_gradient_checkpointing", "activation_checkpointing", "use_activation_checkpointing"),
    *("enable_activation_checkpointing", "checkpoint_activations", "recompute_activations"),
    *("gradient_checkpoint", "grad_checkpoint", "activation_checkpoint", "grad_ckpt", "gradient_ckpt"),
)
"""Names of switches by which activations are computed anew instead of kept."""
SWITCHES: Final[dict[str, tuple[str, ...]]] = {
    "training.precision=bf16": ("bf16",),
    "training.precision=fp16": ("fp16",),
    "training.grad_checkpointing=True": CHECKPOINTING,
    "training.tf32=True": ("tf32",),
    "training.quant_bits=4": ("load_in_4bit", "use_4bit_quantization", "use_4bit"),
    "training.quant_bits=8": ("load_in_8bit", "use_8bit"),
    "training.method=lora": ("use_lora", "use_peft", "use_peft_lora", "lora_enable", "lora"),
}
"""Options for a yes or no, by the value of the field that they stand for."""
GPU_COUNTS: Final = (
    *("gpus", "num_gpus", "n_gpus", "ngpus", "n_gpu", "ngpu", "num_gpu", "gpu_num", "gpu_count", "gpus_per_node"),
    *("num_gpus_per_node", "n_gpus_per_node", "ngpus_per_node", "nproc_per_node", "devices", "num_devices", "nprocs"),
)
GPU_SAID: Final = ("num_processes", "world_size", "nproc")
"""Names that count GPUs where a documented command uses them; elsewhere they may count something else."""
GPU_LISTS: Final = ("gpu_ids", "device_ids", "gpu_list", "cuda_devices", "visible_devices", "device", "gpus", "gpu_id")
_GLOBAL: Final = late(
    r"\b(?:total|global|effective|overall)\b.{0,30}\bbatch|\bbatch.{0,60}\b(?:all|across)\b.{0,20}"
    r"\b(?:gpus?|devices?|ranks?|workers|processes|cards|nodes?|shards)\b|\bsamples between optimi[sz]er steps",
    re.IGNORECASE,
)
_PER_GPU: Final = late(r"(?i)\b(?:per|for each|on each)[- _](?:gpu|device|process|core|rank|worker|replica)")
_OF_AN_UPDATE: Final = late(r"global|effective|total_train|total_batch", re.IGNORECASE)
_EACH: Final = late(r"micro|per_(?:device|gpu|process|core|replica)|_gpu$|batch_gpu|local_batch", re.IGNORECASE)
_COUNTS_TOKENS: Final = late(r"\btokens?\b|\bper ?cent|%\)|fraction", re.IGNORECASE)
_NOT_SET: Final = late(
    r"(?i)\b(?:deprecated|do not use|don't use|obsolete|no longer|(?:computed|filled|set) (?:in|at) run-?time)\b"
)
_OTHER_STEPS: Final = late(r"(?i)rollout|inference|sampling|denois|diffusion|environment|policy|each|per ")
_ASIDE: Final = late(
    r"(?:^|[_.])(?:eval|evaluation|val|valid|validation|test|infer|inference|predict|generation|sampling|sample|dev|ref"
    r"|reference|reward|critic|teacher|export|benchmark|callbacks|logger|wandb)(?:[_.]|$)",
    re.IGNORECASE,
)


_SHARED: Final = 3
"""Variables that share their first word from which it is taken for the program's own prefix."""
_TRACKER: Final = late(
    r"(?:^|[._])(?:wandb|comet(?:_ml)?|mlflow|neptune|clearml|swanlab|tensorboard|aim)(?:[._]|$)|(?:^|[._])project(?:_name)?$",
    re.IGNORECASE,
)


def of_tracker(flag: str) -> bool:
    """Whether an option or key is for a service that watches a training: a directory or a name there is that one's."""
    return _TRACKER.search(plain(flag)) is not None


def last_name(option: ScriptOption | str) -> str:
    """An option's name without what it stands under: `--train.lr` and `trainer.optimizer.lr` are `lr`."""
    flag = option if isinstance(option, str) else option.flag
    return plain(flag).rpartition(".")[2].rpartition("/")[2]


def named(profile: RepoProfile, names: Iterable[str]) -> Iterator[ScriptOption]:
    """The profile's options under these names, the surest first; those under a name of their own before nested ones."""
    options = [o for o in profile.options if not _NOT_SET.search(o.help)]
    prefix = _prefix(options)
    known = [(o, {plain(f).casefold() for f in (o.flag, *o.aliases)}) for o in options]
    deep = [(o, last_name(o).casefold()) for o in options if "." in plain(o.flag)]
    for name in names:
        whole = [o for o, own in known if name in own]
        whole += [o for o in options if prefix and o.flag.casefold() == f"${prefix}_{name}"]
        nested = [o for o, last in deep if last == name and o not in whole]
        near = sorted((o for o in nested if not _ASIDE.search(plain(o.flag))), key=lambda o: plain(o.flag).count("."))
        yield from whole
        yield from near


def _prefix(options: Iterable[ScriptOption]) -> str:
    """The word before its own names that a program gives most of its environment variables (`TRAIN_LR`), else empty."""
    variables = [o.flag[1:].casefold() for o in options if o.flag.startswith("$")]
    heads = Counter(head for v in variables if (head := v.partition("_")[0]) != v)
    head, count = next(iter(heads.most_common(1)), ("", 0))
    return head if count >= _SHARED and 2 * count > len(variables) else ""


def first(profile: RepoProfile, names: Iterable[str]) -> ScriptOption | None:
    """The first of `named`, or None."""
    return next(named(profile, names), None)


def is_switch(option: ScriptOption) -> bool:
    """Whether the option is a yes or no."""
    kind = (option.type or "").lower()
    return option.switch is not None or isinstance(option.default, bool) or kind in _YES_OR_NO


_YES_OR_NO: Final = (
    "bool",
    "flag",
    "store_true",
    "switch",
    "str2bool",
    "boolean",
    "str_to_bool",
    "strtobool",
    "_str_to_bool",
)


def counts_tokens(option: ScriptOption) -> bool:
    """Whether a batch is counted in tokens or shares, which is nothing to be set from a number of samples."""
    return bool(_COUNTS_TOKENS.search(option.help)) or "token" in plain(option.flag).lower()


def counts_all(option: ScriptOption, profile: RepoProfile) -> str:
    """How an option for a batch counts: `global` the samples of an update, `step` those of a step on all GPUs, empty
    those of one GPU."""
    name = last_name(option).lower()
    if _EACH.search(name):
        return ""
    each = next((o for o in profile.options if is_micro(o)), None)
    whole, one = _GLOBAL.search(option.help), _PER_GPU.search(option.help)
    said = (whole is not None and not (one and one.start() < whole.start())) or plain(
        option.flag
    ).upper() == "SOLVER.IMS_PER_BATCH"
    if _OF_AN_UPDATE.search(name) or (each is not None and name in ("batch_size", "train_batch_size", "batch")):
        return "global"
    if not said:
        return ""
    return "step" if first(profile, OPTIONS["training.grad_accum"]) is not None else "global"


def is_micro(option: ScriptOption) -> bool:
    """Whether the option takes the samples of one GPU by its name."""
    name = last_name(option).lower()
    return (
        bool(_EACH.search(name))
        and re.search(r"batch(?!es)", name) is not None
        and not _ASIDE.search(plain(option.flag))
        and not is_switch(option)
    )


def is_steps(flag: str) -> bool | None:
    """Whether a name for the length counts steps rather than epochs; None where it counts something else."""
    name = last_name(flag).lower()
    if "epoch" in name:
        return False
    steps = re.search(r"(?:^|_)(?:steps?|iters?|iterations?|updates?)$", name)
    return True if steps and "timestep" not in name else None


def counts_training_steps(option: ScriptOption) -> bool:
    """Whether steps that an option counts are the training's, not those of a rollout or a sampler."""
    plainly = last_name(option).lower() not in ("num_steps", "steps", "total_step")
    return plainly or not _OTHER_STEPS.search(option.help)


def field_of(option: str) -> str | None:
    """The plan field that an option of that common name sets (`--data_path` → `dataset.path`), or None."""
    name = plain(option).casefold()
    return next((path for path, names in OPTIONS.items() if name in names), None)
