"""Which flag of the repository takes which field of the plan, and the values that the repository has itself.

Reads a profile only. Spellings are those of common parsers; a field without a flag is left out, never guessed.
"""

import re
from typing import Final

from caravan.planning.command import Documented, is_value, same_flag
from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile, ScriptOption

_KEY_FIELDS: Final = {
    "batch_size": "training.micro_batch",
    "learning_rate": "training.lr",
    "epochs": "training.epochs",
    "seq_len": "training.max_len",
    "gradient_accumulation": "training.grad_accum",
    "output_dir": "training.output_dir",
}
"""Key hyperparameters of the profile → plan paths."""

_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "model.id": (
        "model_name_or_path",
        "base_model",
        "model_id",
        "pretrained_model_name_or_path",
        "model_name",
        "model",
        "load_from",
    ),
    "dataset.path": (
        "dataset_name",
        "dataset_path",
        "data_path",
        "train_file",
        "dataset",
        "train_data",
        "data_dir",
        "data",
    ),
    "training.micro_batch": ("micro_batch_size", "per_device_train_batch_size", "train_batch_size", "batch_size"),
    "training.lr": ("learning_rate", "lr"),
    "training.epochs": ("num_train_epochs", "num_epochs", "epochs"),
    "training.max_steps": ("max_steps", "max_train_steps", "num_steps", "steps", "total_step"),
    "training.max_len": ("max_seq_length", "max_length", "seq_len", "cutoff_len", "model_max_length", "block_size"),
    "training.grad_accum": ("gradient_accumulation_steps", "gradient_accumulation", "grad_accum", "accumulate"),
    "training.output_dir": ("output_dir", "out_dir", "save_dir", "work_dir"),
    "training.max_grad_norm": ("max_grad_norm", "grad_clip", "clip_grad_norm", "gradient_clip_val"),
    "training.optimizer": ("optim", "optimizer", "optimizer_type"),
    "training.precision": ("mixed_precision", "precision", "dtype"),
    "training.lora_rank": ("lora_r", "lora_rank", "network_dim"),
    "training.num_workers": ("dataloader_num_workers", "num_workers", "workers"),
    "training.seed": ("seed", "random_seed"),
    "training.save_total_limit": ("save_total_limit",),
    "training.resume_from": ("resume_from_checkpoint", "resume_from", "resume"),
    "training.report_to": ("report_to",),
    "training.ddp_timeout": ("ddp_timeout",),
    "training.attn": ("attn_implementation",),
    "training.method": ("finetuning_type", "tuning_type", "train_method"),
}
_FILE_NAME: Final = re.compile(r"[^/]\.[A-Za-z]\w{0,11}$")
"""A default that names a file by its ending (`model.pt`, `line.csv`); `runs/v1.0` and `./out` are directories."""
_NAME: Final = re.compile(r"[\w./:@+~-]+")
_BARE: Final[dict[str, tuple[str, ...]]] = {
    "training.precision=bf16": ("bf16",),
    "training.precision=fp16": ("fp16",),
    "training.grad_checkpointing=True": ("gradient_checkpointing", "grad_checkpointing"),
    "training.tf32=True": ("tf32",),
    "training.quant_bits=4": ("load_in_4bit", "use_4bit_quantization", "use_4bit"),
    "training.quant_bits=8": ("load_in_8bit", "use_8bit"),
    "training.method=lora": ("use_lora", "use_peft", "use_peft_lora", "lora_enable", "lora"),
}
"""Flags without a value, by the value of the field that they stand for."""


def known_flags(profile: RepoProfile) -> dict[str, str]:
    """Plan path → flag as the parser spells it (`path=value` → flag without a value), for `TrainingPlan.flags`."""
    found: dict[str, str] = {}
    for name, path in _KEY_FIELDS.items():
        key = profile.key_hyperparameters.get(name)
        if key is not None and key.flag and not key.file:
            found[path] = key.flag
    for path, names in _OPTIONS.items():
        option = _first(profile, names)
        if option is not None and (path not in found or _better_batch(path, option)) and not is_switch(option):
            found[path] = option.flag
    for path, names in _BARE.items():
        option = _first(profile, names)
        if option is not None and is_switch(option) and path.partition("=")[0] not in found:
            found[path] = option.flag
    output = profile.option(found.get("training.output_dir", ""))
    if output is not None and _FILE_NAME.search(str(output.default)):
        del found["training.output_dir"]  # it takes a file, and a directory would break it
    return found


def field_of(option: str) -> str | None:
    """The plan field that an option of that common name sets (`--data_path` → `dataset.path`), or None."""
    name = option.lstrip("-").replace("-", "_").casefold()
    return next((path for path, names in _OPTIONS.items() if name in names), None)


def _first(profile: RepoProfile, names: tuple[str, ...]) -> ScriptOption | None:
    return next((o for name in names if (o := profile.option(name)) is not None), None)


def _better_batch(path: str, option: ScriptOption) -> bool:
    """A flag for the batch of one GPU beats one for the batch of all."""
    return path == "training.micro_batch" and option.flag.lstrip("-").replace("-", "_") in (
        "micro_batch_size",
        "per_device_train_batch_size",
    )


def is_switch(option: ScriptOption) -> bool:
    """Whether the option is a yes or no."""
    return isinstance(option.default, bool) or (option.type or "").lower() in ("bool", "flag", "store_true", "switch")


def repository_values(profile: RepoProfile, documented: Documented | None) -> dict[str, tuple[Json, str]]:
    """Plan path → (value, why) as the repository has it: its documented command first, then its parser's defaults."""
    found: dict[str, tuple[Json, str]] = {}
    by_flag = {o.flag: o for o in profile.options}
    keys = {flag: p for p, flag in known_flags(profile).items()}
    for name, path in _KEY_FIELDS.items():
        key = profile.key_hyperparameters.get(name)
        if key is not None and key.default is not None and known_flags(profile).get(path) in (key.flag, None):
            found[path] = key.default, f"default of {key.flag or name}"
    for flag, path in keys.items():
        option = by_flag.get(flag)
        if option is not None and option.default is not None and path not in found:
            field, choice, value = path.partition("=")
            if not choice:
                found[field] = option.default, f"default of {flag}"
            elif option.default is True:
                found[field] = value, f"{flag} is on by default"
    for flag, text in (_typed_flags(documented.command) if documented else {}).items():
        known = next((p for f, p in keys.items() if same_flag(f, flag)), None)
        if known is None:
            continue
        field, choice, value = known.partition("=")
        if not choice or text.lower() != "false":
            found[field] = (value if choice else text), f"{flag} in the documented command"
    found.pop("training.output_dir", None)  # the outputs' place is the plan's business
    named = ("model.id", "dataset.path")  # an expression (`HERE / "data"`) names nothing
    return {p: v for p, v in found.items() if p not in named or _NAME.fullmatch(str(v[0]))}


def typed_changes(plan: TrainingPlan) -> tuple[PlanChange, ...]:
    """The fields whose options a person typed themselves, in the command or as further options, with their values.

    They are that person's as if the field had been named: no rule replaces them, a repair of them is asked about. A
    field that somebody set by its own name stays, and so does the place of the outputs, which is the plan's business.
    """
    typed: dict[str, tuple[Json, Author]] = {}
    if (by := plan.set_by("command")) in _PERSONS and not plan.is_own("command"):
        typed |= {flag: (text, by) for flag, text in _typed_flags(plan.command).items()}
    for flag, value in plan.training.options.items():
        if (by := plan.set_by(f"training.options.{flag}")) in _PERSONS:
            typed[flag] = value, by
    changes: list[PlanChange] = []
    for path, flag in plan.flags.items():
        field, choice, wanted = path.partition("=")
        given = next((given for name, given in typed.items() if same_flag(name, flag)), None)
        origin = plan.provenance.get(field)
        named = plan.set_by(field) in STANDING and not (origin and (origin.own or origin.why.startswith(_TYPED)))
        if given is None or named or field == "training.output_dir" or (choice and _is_off(given[0])):
            continue
        values: dict[str, tuple[Json, str]] = {field: (wanted if choice else given[0], f"{_TYPED} {flag}")}
        changes += fitting(plan, values, given[1])
    return tuple(changes)


_TYPED: Final = "typed as"
_PERSONS: Final = (Author.USER, Author.ANSWER)


def _is_off(value: Json) -> bool:
    return str(value).lower() == "false"


def _typed_flags(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word, after in zip(words, (*words[1:], "-"), strict=True):
        name, joined, value = word.partition("=")
        if word.startswith("-") or joined:
            found[name] = value if joined else (after if is_value(after) else "true")
    return found


def fitting(plan: TrainingPlan, values: dict[str, tuple[Json, str]], by: Author) -> tuple[PlanChange, ...]:
    """Those of `values` that are valid in a plan: a default like `batch // micro_batch` says nothing and is left."""
    changes = []
    for path, (value, why) in values.items():
        change = PlanChange(path=path, value=value, by=by, why=why)
        try:
            apply_changes(plan, [change])
        except PlanError:
            continue
        changes.append(change)
    return tuple(changes)
