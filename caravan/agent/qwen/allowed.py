"""Which plan fields a model may propose, one by one, and which values of options and words. Pure; `guard` asks it.

What is not named here is refused: a field that a plan gets later is guarded until somebody names it.
"""

import math
import re
from collections.abc import Sequence
from typing import Final

from caravan.values.base import Json
from caravan.values.repo import RepoProfile, ScriptOption

FIELDS: Final = frozenset(
    {
        *("training.micro_batch", "training.grad_accum", "training.global_batch", "training.max_len", "training.lr"),
        *("training.epochs", "training.max_steps", "training.warmup", "training.max_grad_norm", "training.optimizer"),
        *("training.precision", "training.tf32", "training.quant_bits", "training.grad_checkpointing"),
        *("training.attn", "training.lora_rank", "training.num_workers", "training.seed", "training.method"),
        *("training.save_total_limit", "training.report_to", "training.ddp_timeout", "training.gpu_memory_share"),
        *("training.resize_embeddings", "model.id", "dataset.path", "launch.nproc", "launch.nodes"),
        *("launch.master_port", "resources.gpus", "resources.cpu_mhz", "resources.cores", "resources.memory_mb"),
        *("resources.memory_max_mb", "resources.disk_mb", "shm_mb", "kill_timeout_s", "image_pull_timeout_s"),
        *("exclude_nodes", "command", "setup.pip"),
    }
)
"""Fields that a model may propose, each with the checks of `guard`."""

MAPPINGS: Final = ("env.", "flags.", "training.options.")
"""Mappings of which it may propose single keys, each looked at for itself."""

LENGTH: Final = ("training.epochs", "training.max_steps")
"""How long it trains: never more than the plan has, or than the user's words say."""

COUNTED: Final = frozenset(
    {
        *("training.micro_batch", "training.grad_accum", "training.global_batch", "training.max_len", "training.lr"),
        *("training.warmup", "training.max_grad_norm", "training.lora_rank", "training.num_workers", "training.seed"),
        *("training.save_total_limit", "training.grad_checkpointing", "training.tf32", "training.resize_embeddings"),
    }
)
"""Fields of numbers and switches: what an option is given by a model's `flags` is no word of anybody's."""

MOST: Final = {"training.num_workers": 64, "training.ddp_timeout": 7200, "image_pull_timeout_s": 7200}
"""Amounts beyond which a job only hangs or starves its node: two hours, and more workers than a node has cores."""

WORDS: Final = ("training.optimizer", "training.attn", "training.method")
"""Fields that are a name of the trainer's."""
_WORD: Final = re.compile(r"[A-Za-z0-9][\w.+-]{0,39}", re.ASCII)

_WHAT: Final = frozenset(
    {
        *("model", "models", "data", "dataset", "datasets", "tokenizer", "config", "configs", "path", "paths", "dir"),
        *("directory", "file", "files", "folder", "root", "id", "revision", "adapter", "weights", "checkpoint"),
        *("ckpt", "pretrained", "init", "from", "script", "module", "class", "cls", "func", "function", "cmd"),
        *("command", "exec", "code", "import", "loader", "template", "prompt", "task", "corpus", "split", "name"),
    }
)
"""Words in names of options that say what is trained, or name something to be read or run."""
_HOW: Final = frozenset(
    {
        *("optim", "optimizer", "scheduler", "sched", "attn", "attention", "precision", "dtype", "backend", "padding"),
        *("strategy", "checkpointing", "quantization", "bf16", "fp16", "mixed", "level", "verbosity", "collator"),
    }
)
"""Words of options that say how the same is trained."""
_LONG: Final = frozenset({"epoch", "epochs", "steps", "iters", "iterations", "duration", "hours", "minutes", "updates"})
_NOT_LONG: Final = frozenset({"eval", "save", "log", "logging", "warmup", "accumulation", "accum", "print", "every"})
_DEAR: Final = frozenset({"gpu", "gpus", "device", "devices", "node", "nodes", "nproc", "world", "trials", "sweep"})
_UNSAFE: Final = frozenset(
    {
        *("unsafe", "insecure", "pickle", "code", "exec", "shell", "verify", "ssl", "safetensors", "overwrite"),
        *("delete", "clean", "purge", "force", "allow", "trust", "eval-code", "debugpy", "listen", "port"),
    }
)


def allowed(path: str) -> bool:
    """Whether a model may propose the field at all."""
    return path in FIELDS or any(path.startswith(m) and len(path) > len(m) for m in MAPPINGS)


def option_of(name: str, profile: RepoProfile) -> ScriptOption | None:
    """The parser's option of that name, by any of its spellings."""
    return next((o for o in profile.options if name in (o.flag, *o.aliases) and not o.flag.startswith("$")), None)


def word(path: str, value: Json) -> str:
    """Why a value is no name of an optimiser and its like; empty: it is one."""
    plain = value is None or (isinstance(value, str) and _WORD.fullmatch(value))
    return "" if path not in WORDS or plain else "it is a plain word"


def longer(value: Json, now: Json, goal: str) -> str:
    """Why a length of the training may not be proposed: it is the user's to make it longer."""
    number, before = number_of(value), number_of(now)
    if number is None:
        return "" if now is None and value is None else "how long it trains is the user's to say"
    if before is not None and number <= before:
        return ""
    named = re.search(rf"(?<![\w.]){re.escape(f'{number:g}')}(?![\w])(?!\.\d)", goal)
    return "" if named and before is None else "longer costs more: that is the user's to say"


def value_of(option: ScriptOption, value: Json, now: Json, goal: str) -> str:
    """Why an option may not have this value by a model: numbers and switches, the parser's own choices, or a plain
    word where the option's name says how something is computed."""
    words = words_of(option.flag)
    if words & _UNSAFE or lasts(option):
        return let(option, value, now, goal)
    if value is None or isinstance(value, bool) or number_of(value) is not None:
        return "" if value is not None or not words & _WHAT else "what is trained is the user's to say"
    if isinstance(value, list):
        numbers = all(number_of(item) is not None for item in value)
        return "" if numbers else "a list of words is not the model's to give"
    if words & _WHAT or not isinstance(value, str):
        return "what is trained, read or run is not the model's to say"
    fits = value in option.choices or (bool(_WORD.fullmatch(value)) and bool(words & _HOW))
    return "" if fits else "it is none of the parser's choices"


def let(option: ScriptOption, value: Json, now: Json, goal: str) -> str:
    """Why an option may not have this value whoever chose it: by what it lets happen, how much it uses, how long."""
    words = words_of(option.flag)
    if words & _UNSAFE:
        return "what that option lets happen is not the model's to say"
    if words & _DEAR:
        return "how many are used is the plan's and the user's to say"
    return longer(value, option.default if now is None else now, goal) if lasts(option) else ""


def lasts(option: ScriptOption) -> bool:
    """Whether an option says how long is trained, or on how much."""
    words = words_of(option.flag)
    return bool(words & _DEAR or (words & _LONG and not words & _NOT_LONG))


def counts(option: ScriptOption) -> bool:
    """Whether an option takes a number or a switch, so that a field may be passed by it."""
    if words_of(option.flag) & (_UNSAFE | _DEAR):
        return False
    return option.switch is not None or option.type in ("int", "float", "bool") or number_of(option.default) is not None


def names_what(name: str) -> bool:
    """Whether an option's name says what is trained, or what is read or run."""
    return bool(words_of(name) & _WHAT)


def words_of(flag: str) -> frozenset[str]:
    """An option's name as its words: `--hub_modelId` is hub, model, id."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", flag)
    return frozenset(re.sub(r"[^a-z0-9]+", "-", split.lower()).strip("-").split("-"))


def pairs(words: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Json]]:
    """A program's arguments: those that stand alone, and the options with their values; a switch has True."""
    alone, found, n = list[str](), dict[str, Json](), 0
    while n < len(words):
        name, equals, value = words[n].partition("=")
        after = words[n + 1] if n + 1 < len(words) else "-"
        if not name.startswith("-"):
            alone.append(words[n])
        elif equals:
            found[name] = value
        elif after.startswith("-") and number_of(after) is None:
            found[name] = True
        else:
            found[name] = after
            n += 1
        n += 1
    return tuple(alone), found


def number_of(value: Json) -> float | None:
    """A value as the plan's fields read it: `"8"` and `8.0` are eight as well."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
