"""The profile's fields for a chosen entry: what it trains, with what, by which options. Pure, over what readers found.

Each function gives a `Found`: the value, how sure it is, and the places that say so. Order of trust: the user's
sentence, the documented command, the configuration that it names, the parser's defaults, literals in the code.
"""

import re
from collections.abc import Iterable, Sequence
from posixpath import basename, dirname, join, normpath
from typing import Final

from caravan.analysis import training
from caravan.analysis.configs import ENDINGS
from caravan.analysis.documents import Documented
from caravan.analysis.entry import Entry
from caravan.analysis.findings import Found, Module
from caravan.analysis.vocabulary import DATASET_NAMES, FRAMEWORKS, GPU_FRAMEWORKS, HYPERPARAMETERS, MODEL_NAMES, plain
from caravan.values.base import Json
from caravan.values.repo import HyperparameterFlag, Launcher, SourceLine

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_UNFILLED: Final = re.compile(r"^$|[<>${}*]|\bpath[_ /]to\b|^(?:none|null|true|false)$", re.IGNORECASE)


def framework(entry: Entry) -> Found:
    """The framework, by the entry's imports, else by what is installed for it."""
    imported = _imported(entry)
    for name, packages in FRAMEWORKS[:-1]:
        hit = next((imported[p] for p in packages if p in imported), None)
        if hit:
            return Found(name, 0.95, (hit,))
    for name, packages in FRAMEWORKS[:-1]:
        if entry.packages & set(packages):
            return Found(name, 0.6)
    return Found("numpy", 0.9, (imported["numpy"],)) if "numpy" in imported else Found()


def libraries(entry: Entry, own: Iterable[str], standard: frozenset[str]) -> Found:
    """Packages from elsewhere that the entry's modules import, most used first. `own`: the repository's packages."""
    mine = set(own)
    found = {n: where for n, where in _imported(entry).items() if n not in standard and n not in mine}
    return Found(list(found), 0.9 if found else 0.3, tuple(found.values())[:12])


def _imported(entry: Entry) -> dict[str, SourceLine]:
    found: dict[str, SourceLine] = {}
    for module in entry.modules:
        for item in module.imports:
            name = item.module.split(".")[0]
            if name and not item.level:
                found.setdefault(name, module.at(item.line))
    return found


def method(entry: Entry, model: Found) -> Found:
    """lora, qlora, full, pretrain, dpo, grpo: by the request, the command's flags, then the code."""
    if entry.wishes.method:
        return Found(entry.wishes.method, 0.9)
    signs: dict[str, SourceLine] = {}
    near = dirname(entry.modules[0].path) if entry.modules else ""
    for module in entry.modules:
        if module.path.startswith(near):  # a library's own adapters say nothing of this entry
            for kind, where in training.adapters(module):
                signs.setdefault(kind, where)
    switch = next(
        (o for o in entry.options if re.search(r"(?i)(?:use|enable)_?\w*lora|lora_?enable", o.option.flag)), None
    )
    if switch and "lora" in signs:
        given = entry.given(plain(switch.option.flag)) or switch.option.default
        if str(given).lower() not in ("true", "1", "yes"):
            return Found("full", 0.6, (switch.where,))
    rank = next((o for o in entry.options if re.search(r"(?i)lora_?-?(?:r|rank|dim)$", o.option.flag)), None)
    if "lora" in signs or rank:
        places = tuple(filter(None, (signs.get("lora"), rank.where if rank else None, signs.get("4bit"))))
        return Found("qlora" if "4bit" in signs else "lora", 0.85, places)
    name = " ".join(
        [*(m.path for m in entry.modules[:1]), entry.documented.command.heading if entry.documented else ""]
    )
    for kind in ("dpo", "grpo"):
        if re.search(rf"(?i)(?:^|[^a-z]){kind}(?:[^a-z]|$)", name):
            return Found(kind, 0.7)
    return Found("full", 0.6, model.evidence) if model.value else Found("pretrain", 0.5)


def base_model(entry: Entry) -> Found:
    """The base model's hub id or path; None when it is trained from nothing, as far as the files say."""
    if entry.wishes.model:
        return Found(entry.wishes.model, 0.95)
    found = [f for f in _said(entry, MODEL_NAMES) if _is_model(f, entry)]
    for module in entry.modules:
        found += [Found(v, 0.6, (w,)) for kind, v, w in training.loads(module) if kind == "model"]
    wanted = (entry.wishes.model_name or "").lower()
    fits = [f for f in found if wanted and wanted in str(f.value).lower()]
    return next(iter(fits or found), Found())


def _is_model(found: Found, entry: Entry) -> bool:
    value = str(found.value)
    return bool(_HUB_ID.fullmatch(value)) or value in entry.paths or value.endswith((".pt", ".pth", ".safetensors"))


def dataset(entry: Entry) -> Found:
    """The data's hub id or path: of the request, the command, a configuration, a default, or a literal in the code."""
    if entry.wishes.dataset:
        return Found(entry.wishes.dataset, 0.95)
    said = _said(entry, DATASET_NAMES)
    if said:
        return said[0]
    for kind, sure in (("dataset", 0.7), ("file", 0.5)):
        for module in entry.modules:
            for k, value, where in training.loads(module):
                if k == kind and (kind == "dataset" or normpath(value) in entry.paths):
                    return Found(value, sure, (where,))
    return Found()


def _said(entry: Entry, names: Sequence[str]) -> list[Found]:
    """What command, configuration and parser say for the first of these names, the most trusted first."""
    found = []
    for name in names:
        value = entry.given(name)
        if value is not None and entry.documented:
            found.append(Found(value, 0.9, (entry.documented.command.where,)))
    configured = entry.configured(*names)
    if configured and isinstance(configured[0], str) and not _UNFILLED.search(configured[0]):
        found.append(Found(configured[0], 0.8, (SourceLine(file=configured[1], line=0),)))
    for name in names:
        option = entry.option(name)
        default = option.option.default if option else None
        if option and isinstance(default, str) and not _UNFILLED.search(default):
            found.append(Found(default, 0.8, (option.where,)))
    return found


def num_gpus(entry: Entry, framework_name: str | None) -> Found:
    """GPUs of the launch: as asked, as documented; 0 for code that can't use one; None when nothing says."""
    if entry.wishes.gpus is not None:
        return Found(entry.wishes.gpus, 0.95)
    if entry.documented:
        command = entry.documented.command
        count = command.launcher_value("nproc_per_node", "nproc-per-node", "num_processes", "num_gpus")
        visible = command.environment.get("CUDA_VISIBLE_DEVICES", "")
        if count and count.isdigit():
            return Found(int(count), 0.85, (command.where,))
        if re.fullmatch(r"\d+(?:,\d+)*", visible):
            return Found(visible.count(",") + 1, 0.85, (command.where,))
    configured = entry.configured("num_processes")
    if configured and isinstance(configured[0], int) and entry.launcher is Launcher.ACCELERATE:
        return Found(configured[0], 0.8, (SourceLine(file=configured[1], line=0),))
    if framework_name is None:
        return Found()
    if framework_name not in GPU_FRAMEWORKS:
        return Found(0, 0.8)
    alone = entry.launcher in (Launcher.PYTHON, Launcher.NOTEBOOK)
    return Found(1, 0.4) if alone and not distributed(entry, None).value else Found()


def distributed(entry: Entry, gpus: int | None) -> Found:
    """ddp, fsdp, deepspeed, jax or None: by the command's and its configurations' words, then by the code."""
    command = entry.documented.command if entry.documented else None
    place = (command.where,) if command else ()
    words = " ".join([*(command.args if command else ()), *(command.launcher_args if command else ()), *entry.configs])
    kinds = str((entry.configured("distributed_type") or ("",))[0]).lower()
    if (
        entry.launcher is Launcher.DEEPSPEED
        or re.search(r"--deepspeed|deepspeed|zero[23]", words)
        or "deepspeed" in kinds
    ):
        return Found("deepspeed", 0.85, place)
    if "--fsdp" in words or "use_fsdp" in words or "fsdp" in kinds:
        return Found("fsdp", 0.85, place)
    if gpus == 1 and entry.launcher is Launcher.PYTHON:
        return Found(None, 0.7)
    signs: dict[str, SourceLine] = {}
    for module in entry.modules:
        for kind, where in training.distributed_signs(module):
            signs.setdefault(kind, where)
    for kind in ("fsdp", "deepspeed", "ddp"):
        if kind in signs and (entry.launcher is not Launcher.PYTHON or "spawn" in signs):
            return Found(kind, 0.6, (signs[kind],))
    several = entry.launcher in (Launcher.TORCHRUN, Launcher.ACCELERATE) and gpus != 1
    return Found("ddp", 0.6, place) if several else Found(None, 0.5)


def hyperparameters(entry: Entry) -> tuple[dict[str, HyperparameterFlag], tuple[SourceLine, ...]]:
    """The flag and default of each key hyperparameter; a constant of the script has a default and no flag."""
    found: dict[str, HyperparameterFlag] = {}
    places: list[SourceLine] = []
    for key, names in HYPERPARAMETERS.items():
        option = entry.option(*names)
        if option:
            found[key] = HyperparameterFlag(flag=option.option.flag, default=option.option.default)
            places.append(option.where)
            continue
        constant = _constant(entry.modules, names) if not entry.options else None
        configured = entry.configured(*names) if constant is None else None
        default = constant[0] if constant else configured[0] if configured else None
        found[key] = HyperparameterFlag(default=default)
        places += [constant[1]] if constant else []
    return found, tuple(places)


def _constant(modules: Sequence[Module], names: Sequence[str]) -> tuple[Json, SourceLine] | None:
    from caravan.analysis.python import value_of

    for module in modules[:3]:
        by_name = {k.lower(): v for k, v in module.constants.items()}
        for name in names:
            statement = by_name.get(name)
            value = value_of(statement.value, module) if statement else None
            if statement and isinstance(value, int | float | str) and not isinstance(value, bool):
                return value, module.at(statement.lineno)
    return None


def metrics(entry: Entry) -> Found:
    """Names of metrics that the entry logs, nearest module first."""
    found: dict[str, SourceLine] = {}
    for module in entry.modules:
        for name, where in training.metrics(module):
            found.setdefault(name, where)
        if any(c.last.endswith("Trainer") for c in module.calls) and "transformers" in _imported(entry):
            for name in ("loss", "learning_rate", "grad_norm"):
                found.setdefault(name, module.at(1))
    return Found(list(found)[:20], 0.7 if found else 0.2, tuple(found.values())[:8])


def environment(entry: Entry) -> Found:
    """Environment variables that the entry's modules can't do without."""
    found: dict[str, SourceLine] = {}
    for module in entry.modules:
        for name, where in training.environment_names(module):
            found.setdefault(name, where)
    return Found(sorted(found), 0.8, tuple(found.values())[:8])


def config_files(used: Documented | None, paths: frozenset[str]) -> list[str]:
    """The configuration files of the repository that the documented command names."""
    if used is None:
        return []
    words = (w.rpartition("=")[2] for w in (*used.command.launcher_args, *used.command.args))
    candidates = (normpath(join(used.cwd, w)) for w in words if w.endswith((*ENDINGS, ".cfg", ".gin", ".ini")))
    return list(dict.fromkeys(c for c in candidates if c in paths and basename(c) != "package.json"))
