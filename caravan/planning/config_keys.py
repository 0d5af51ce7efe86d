"""Which key of the repository's config files holds which field of the plan, and what stands there.

Reads a profile and its documented command only. A key whose meaning is in doubt is left out, never guessed.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from caravan.planning import flags as parser
from caravan.planning.command import Documented, told_by
from caravan.planning.flag_names import CHECKPOINTING, KEY_FIELDS, is_steps, of_tracker
from caravan.planning.flags import known_flags
from caravan.values.base import Json
from caravan.values.plan import ConfigKey
from caravan.values.repo import ConfigValue, RepoProfile

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "model.id": ("base_model", "model_name_or_path", "pretrained_model_name_or_path", "model_id", "model_name"),
    "dataset.path": ("dataset_name", "dataset_path", "data_path", "train_file", "train_data", "data_dir", "dataset"),
    "training.micro_batch": (
        *("micro_batch_size", "per_device_train_batch_size", "per_device_batch_size", "train_batch_size"),
        *("batch_size", "batchsize", "bs"),
    ),
    "training.grad_accum": (
        *("gradient_accumulation_steps", "gradient_accumulation", "grad_accum_steps", "grad_accum", "accum_steps"),
        *("accumulation_steps", "accumulate_grad_batches", "gradient_accumulation_iters"),
    ),
    "training.max_len": (
        *("sequence_len", "cutoff_len", "max_seq_length", "max_seq_len", "max_length", "model_max_length"),
        *("seq_length", "seq_len", "sequence_length", "block_size", "context_length", "max_len"),
    ),
    "training.lr": ("learning_rate", "lr", "base_lr"),
    "training.epochs": ("num_train_epochs", "num_epochs", "max_epochs", "n_epochs", "epochs"),
    "training.max_steps": ("max_steps", "max_train_steps", "max_iters", "total_steps", "num_steps"),
    "training.output_dir": ("output_dir", "out_dir", "save_dir", "work_dir", "dump_dir", "checkpoint_dir"),
    "training.max_grad_norm": ("max_grad_norm", "gradient_clip_val", "clip_grad_norm", "grad_clip"),
    "training.lora_rank": ("lora_r", "lora_rank", "network_dim"),
    "training.num_workers": ("dataloader_num_workers", "num_workers"),
    "training.seed": ("seed", "random_seed"),
    "training.save_total_limit": ("save_total_limit",),
    "training.resume_from": ("resume_from_checkpoint", "resume_from"),
    "training.report_to": ("report_to",),
    "training.ddp_timeout": ("ddp_timeout",),
    "training.attn": ("attn_implementation",),
    "training.method": ("finetuning_type",),
    "training.quant_bits": ("quantization_bit",),
}
_SWITCHES: Final[dict[str, tuple[str, ...]]] = {
    "training.precision=bf16": ("bf16",),
    "training.precision=fp16": ("fp16",),
    "training.tf32=True": ("tf32",),
    "training.grad_checkpointing=True": CHECKPOINTING,
    "training.quant_bits=4": ("load_in_4bit",),
    "training.quant_bits=8": ("load_in_8bit",),
}
_ASIDE: Final = re.compile(
    r"(?:^|[._])(?:eval|evaluation|val|valid|validation|test|inference|generation|sampling)(?:[._]|$)"
)
_PLACES: Final = frozenset({"training.output_dir", "model.id", "dataset.path", "training.resume_from"})
_MODEL_KEY: Final = re.compile(r"(?:^|\.)model\.(?:partial_)?(?:pretrain(?:ed)?|path|name|id|name_or_path|model_path)$")
_NEAR: Final = frozenset(
    {"train", "training", "trainer", "training_args", "training_arguments", "optim", "optimizer", "data"}
)
_TEXTS: Final = frozenset(
    {"model.id", "dataset.path", "training.output_dir", "training.resume_from", "training.report_to", "training.attn"}
    | {"training.method"}
)
_ENDINGS: Final = (".json", ".yaml", ".yml", ".toml")
"""Files in which the job can change a key."""
_COMMAND_WINS: Final = frozenset(
    {"hydra", "omegaconf", "spacy", "gin", "absl", "hfargparser", "jsonargparse", "lightning-cli", "yacs"}
)
"""Parsers whose command line stands over the files that they read."""
_OVERRIDE: Final = re.compile(r"\+{0,2}([A-Za-z_][\w.]*)=(.*)")

# What these tools take in a config although it does not stand there yet. Sources: axolotl's config reference,
# LLaMA-Factory's arguments (which are transformers' `TrainingArguments` beside its own).
_AXOLOTL: Final = {
    "training.micro_batch": "micro_batch_size",
    "training.grad_accum": "gradient_accumulation_steps",
    "training.max_len": "sequence_len",
    "training.lr": "learning_rate",
    "training.epochs": "num_epochs",
    "training.max_steps": "max_steps",
    "training.output_dir": "output_dir",
    "training.seed": "seed",
    "training.save_total_limit": "save_total_limit",
    "training.max_grad_norm": "max_grad_norm",
    "training.resume_from": "resume_from_checkpoint",
    "training.num_workers": "dataloader_num_workers",
    "training.grad_checkpointing=True": "gradient_checkpointing",
}
_LLAMA_FACTORY: Final = {
    "training.micro_batch": "per_device_train_batch_size",
    "training.grad_accum": "gradient_accumulation_steps",
    "training.max_len": "cutoff_len",
    "training.lr": "learning_rate",
    "training.epochs": "num_train_epochs",
    "training.max_steps": "max_steps",
    "training.output_dir": "output_dir",
    "training.seed": "seed",
    "training.save_total_limit": "save_total_limit",
    "training.max_grad_norm": "max_grad_norm",
    "training.resume_from": "resume_from_checkpoint",
    "training.num_workers": "dataloader_num_workers",
    "training.quant_bits": "quantization_bit",
    "training.precision=bf16": "bf16",
    "training.precision=fp16": "fp16",
}
_TOOLS: Final = (
    (re.compile(r"axolotl"), _AXOLOTL),
    (re.compile(r"llama-?_?factory|(?:^|\s)lmf(?:\s|$)"), _LLAMA_FACTORY),
)


class Configured(NamedTuple):
    """How a repository is told its values: flags, config keys, and what stands in the configs (value, why)."""

    flags: dict[str, str]
    keys: dict[str, ConfigKey]
    values: dict[str, tuple[Json, str]]


def configured(profile: RepoProfile, documented: Documented | None) -> Configured:
    """Flags and config keys of the repository's program.

    A word like `train.lr=1e-4` in the documented command is a flag, because it beats the file. Where the command is
    nothing but a program and its config, transformers' parser takes no flags beside it.
    """
    flags = known_flags(profile)
    if profile.cli_style == "hydra":  # it takes words like `key=value` alone, and stops at an option it does not know
        flags = {path: flag for path, flag in flags.items() if not flag.lstrip("|").startswith("-")}
    found = {path: value for path, value in _found(profile) if value.file.endswith(_ENDINGS)}
    keys = dict(_keyed(profile)) | {path: ConfigKey(path=value.file, key=value.key) for path, value in found.items()}
    values = dict(_values(found))
    for path, name, value in _overrides(documented, profile):
        flags[path] = name
        values[path] = value, f"{name} in the documented command"
    sole = _sole(profile, documented)
    if sole is not None:
        names = {path: flag.lstrip("-") for path, flag in flags.items() if flag.startswith("-")}
        flags = {path: flag for path, flag in flags.items() if not flag.startswith("-")}
        keys |= _added(names, sole, keys)
    tool = _tool(profile)
    if tool is not None and (file := sole or _first_named(profile)):
        keys |= _added({p: n for p, n in tool.items() if p not in flags}, file, keys)
    if profile.cli_style in _COMMAND_WINS:
        told = {part.field for part in map(told_by, flags)}
        keys = {path: key for path, key in keys.items() if path.partition("=")[0] not in told}
    return Configured(flags, keys, values)


def _keyed(profile: RepoProfile) -> Iterator[tuple[str, ConfigKey]]:
    """The keys of files that the profile names for its key hyperparameters."""
    for name, path in KEY_FIELDS.items():
        key = profile.key_hyperparameters.get(name)
        if key is None or key.flag is None or key.file is None or not key.file.endswith(_ENDINGS):
            continue
        if path in _PLACES and of_tracker(key.flag):
            continue
        steps = is_steps(key.flag) if name == "epochs" else False
        if steps is not None:
            yield "training.max_steps" if steps else path, ConfigKey(path=key.file, key=key.flag)


def repository_values(profile: RepoProfile, documented: Documented | None) -> dict[str, tuple[Json, str]]:
    """Plan path → (value, why) as the repository has it: parser's defaults, over them configs, then the command."""
    found = parser.repository_values(profile, None)
    config = configured(profile, documented).values
    epochs = profile.key_hyperparameters.get("epochs")
    if "training.max_steps" in config and "training.epochs" not in config and not (epochs and epochs.flag):
        found.pop("training.epochs", None)  # a number of steps, which the profile keeps under that name too
    typed = parser.repository_values(profile, documented) if documented else {}
    return found | config | {path: item for path, item in typed.items() if found.get(path) != item}


def _added(names: Mapping[str, str], file: str, keys: Mapping[str, ConfigKey]) -> dict[str, ConfigKey]:
    """Keys of that file for the fields that have none yet."""
    plain = {path for path in keys if "=" not in path}
    new = {path: name for path, name in names.items() if path not in keys and path.partition("=")[0] not in plain}
    return {path: ConfigKey(path=file, key=name) for path, name in new.items()}


def _found(profile: RepoProfile) -> Iterator[tuple[str, ConfigValue]]:
    usable = [v for v in profile.config_values if not _ASIDE.search(v.key.lower())]
    own = [v for v in usable if not of_tracker(v.key)]
    for path, names in _NAMES.items():
        value = _best([v for v in (own if path in _PLACES else usable) if _fits(path, v.value)], names)
        if value is not None:
            yield path, value
    for path, names in _SWITCHES.items():
        value = _best([v for v in usable if v.value is None or isinstance(v.value, bool) or v.value == "auto"], names)
        if value is not None:
            yield path, value


def _fits(path: str, value: Json) -> bool:
    """Whether the key can be the field's: a number where it counts something, a text where it names something."""
    if path in _TEXTS:
        return value is None or isinstance(value, str)
    return not isinstance(value, bool)


def _best(values: list[ConfigValue], names: tuple[str, ...]) -> ConfigValue | None:
    """The value under the first of these names, nearest to the top or below `train`; None where two are as near."""
    for name in names:
        hits = [v for v in values if v.key.rpartition(".")[2].replace("-", "_") == name]
        files = list(dict.fromkeys(v.file for v in hits))
        ranked = sorted(hits, key=lambda v: _rank(v, files))
        if len(ranked) > 1 and _rank(ranked[0], files) == _rank(ranked[1], files):
            continue
        if ranked:
            return ranked[0]
    return None


def _rank(value: ConfigValue, files: list[str]) -> tuple[int, int, int]:
    parents = value.key.split(".")[:-1]
    return files.index(value.file), len(parents) if not set(parents) & _NEAR else 0, len(parents)


def _values(found: Mapping[str, ConfigValue]) -> Iterator[tuple[str, tuple[Json, str]]]:
    for path, held in found.items():
        field, choice, wanted = path.partition("=")
        why = f"{held.key} in {held.file}:{held.line}"
        if choice and held.value is True:
            yield field, (wanted, why)
        elif not choice and held.value is not None and field != "training.output_dir":
            value = held.value if field in _TEXTS else _number(held.value)
            if value is not None:
                yield field, (value, why)


def _number(value: Json) -> Json:
    """The number, also of a text such as `1e-4`, which YAML 1.1 takes for one."""
    if isinstance(value, int | float):
        return value
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _overrides(documented: Documented | None, profile: RepoProfile) -> Iterator[tuple[str, str, Json]]:
    """Words like `train.batch_size=8` of the documented command: path, name and value."""
    if documented is None or not profile.config_values:
        return
    for word in documented.command[1:]:
        match = _OVERRIDE.fullmatch(word)
        if match is None or _ASIDE.search(match[1].lower()):
            continue
        last = match[1].rpartition(".")[2]
        if _holds_model(match[1], match[2], profile):
            yield "model.id", match[1], match[2]
            continue
        for path, names in _NAMES.items():
            value = match[2] if path in _TEXTS else _number(match[2])
            if last in names and value is not None and not (path in _PLACES and of_tracker(match[1])):
                yield path, match[1], value


def _holds_model(key: str, value: str, profile: RepoProfile) -> bool:
    """Whether a word of the command names the model: by a key `…model.path`, or by the repository's model there."""
    return bool(_MODEL_KEY.search(key.lower()) and "/" in value) or (
        value == profile.base_model and "/" in value and "data" not in key.lower()
    )


def _sole(profile: RepoProfile, documented: Documented | None) -> str | None:
    """The config that is the program's only argument, where its parser is transformers': then it takes no other."""
    if profile.cli_style != "hfargparser" or documented is None or len(documented.command) != 2:
        return None
    word = documented.command[1]
    ends = word.endswith((".json", ".yaml", ".yml")) and not word.startswith("-")
    return _first_named(profile) if ends else None


def _first_named(profile: RepoProfile) -> str | None:
    return next((f for f in profile.config_files if f.endswith((".json", ".yaml", ".yml", ".toml"))), None)


def _tool(profile: RepoProfile) -> Mapping[str, str] | None:
    words = f"{profile.launch_command or ''} {profile.cli_name or ''}".lower()
    return next((names for pattern, names in _TOOLS if pattern.search(words)), None)
