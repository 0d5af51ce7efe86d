"""How many GPUs a run would use and how its work is spread over them. Pure, over an `Entry`.

Order of trust: the sentence; the documented command; its configurations and the Slurm lines of its script; the
parser's defaults; what documents say in prose; the code.
"""

import re
from collections import Counter
from collections.abc import Iterator
from posixpath import basename
from typing import Final

from caravan.analysis import training
from caravan.analysis.entry import Entry, pairs
from caravan.analysis.findings import Found, Module, source_line
from caravan.analysis.gpus_asked import gpus_counted
from caravan.analysis.vocabulary import GPU_FRAMEWORKS, plain
from caravan.values.base import Json
from caravan.values.repo import Launcher, SourceLine

_PER_NODE: Final = ("nproc_per_node", "num_processes", "num_gpus", "devices", "np", "n")
_NODES: Final = ("nnodes", "num_machines", "num_nodes", "num-nodes")
_COUNTS: Final = (
    *("num_gpus", "ngpus", "n_gpus", "gpus", "ngpu", "n_gpu", "devices", "num_devices", "gpu_num", "n_gpus_per_node"),
    *("gpus_per_node", "num_gpus_per_node", "n_gpu_per_node", "num_processes", "nproc_per_node"),
)
_LISTS: Final = ("gpu_ids", "device_ids", "gpu_id", "device", "gpu", "include", "cuda_devices", "visible_devices")
_SLURM: Final = re.compile(
    r"^\s*#SBATCH\s+--(?:gres=gpu:(?:\w+:)?|gpus-per-node=(?:\w+:)?|gpus=(?:\w+:)?)(\d+)", re.MULTILINE
)
_JAX_SPREADS: Final = re.compile(
    r"^(?!\s*#).*\b(?:jax\.pmap|jax\.make_mesh|pjit|shard_map|NamedSharding|jax\.sharding)\b"
)
_STRATEGIES: Final = {"FSDPStrategy": "fsdp", "DeepSpeedStrategy": "deepspeed", "DDPStrategy": "ddp"}
_SHARDS: Final = re.compile(r"\b(?:fully_shard|FullyShardedDataParallel|FSDP)\(")
_MAX_SEARCHED: Final = 400
_DOCUMENTS: Final = re.compile(r"(?i)(?:^|/)readme[^/]*$")


def num_gpus(entry: Entry, framework: str | None) -> Found:
    """GPUs of the launch: as asked, as documented; 0 for code that can't use one; None when nothing says."""
    if entry.wishes.gpus is not None:
        return Found(entry.wishes.gpus, 0.95)
    told = _of_command(entry) or _of_configurations(entry) or _of_slurm(entry)
    if told:
        return told
    if framework is not None and framework not in GPU_FRAMEWORKS:
        return Found(0, 0.8)
    told = _of_defaults(entry)
    if told:
        return told
    if "jax" in _signs(entry):  # it takes every device that it finds
        return Found()
    alone = entry.launcher in (Launcher.PYTHON, Launcher.NOTEBOOK, Launcher.CLI, Launcher.ACCELERATE)
    several = _several(entry) if alone else None
    if entry.launcher in (Launcher.TORCHRUN, Launcher.DEEPSPEED, Launcher.BASH) or several:
        prose = _of_prose(entry)
        return prose or Found()
    if framework is None:
        return Found()
    return Found(1, 0.4) if alone else Found()


def _number(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str | float):
        return None
    text = str(value)
    return int(text) if re.fullmatch(r"\d{1,4}", text) else None


def _of_command(entry: Entry) -> Found | None:
    if entry.documented is None:
        return None
    command = entry.documented.command
    where = (command.where,)
    per_node = _number(command.launcher_value(*_PER_NODE))
    nodes = _number(command.launcher_value(*_NODES)) or 1
    if per_node:
        total = per_node if command.launcher is Launcher.ACCELERATE else per_node * nodes
        return Found(total, 0.85, where)
    include = command.launcher_value("include", "gpu_ids", "gpus")
    if include and (ids := re.search(r"\d+(?:,\d+)*$", include)):
        return Found(ids[0].count(",") + 1, 0.85, where)
    given = [(plain(k).rpartition(".")[2].lower().replace("-", "_"), v) for k, v in pairs(command)]
    for key, value in given:
        if key in _COUNTS and (count := _number(value)):
            return Found(count, 0.85, where)
    for key, value in given:
        if key in _LISTS and (ids := re.fullmatch(r"\[?(?:cuda:)?(\d+(?:,\s*\d+)*)\]?", value)):
            return Found(ids[1].count(",") + 1, 0.8, where)
    visible = command.environment.get("CUDA_VISIBLE_DEVICES", "")
    if re.fullmatch(r"\d+(?:,\d+)*", visible):
        return Found(visible.count(",") + 1, 0.85, where)
    return None


def _of_configurations(entry: Entry) -> Found | None:
    launched = entry.configured("num_processes")
    if launched and (count := _number(launched[0])) and entry.launcher is Launcher.ACCELERATE:
        return Found(count, 0.8, (SourceLine(file=launched[1], line=0),))
    for path, values in entry.configs.items():
        for key, value in values.items():
            name = key.rpartition(".")[2].lower()
            if name in _COUNTS and name != "num_processes" and (count := _number(value)):
                return Found(count, 0.7, (SourceLine(file=path, line=0),))
    return None


def _of_slurm(entry: Entry) -> Found | None:
    if entry.documented is None or entry.sources is None:
        return None
    file = entry.documented.command.where.file
    text = entry.sources.text(file) or ""
    match = _SLURM.search(text) if file.endswith((".sh", ".slurm", ".sbatch", ".bash")) else None
    line = text.count("\n", 0, match.start()) + 1 if match else 0
    return Found(int(match[1]), 0.7, (source_line(file, line, match[0]),)) if match else None


def _of_defaults(entry: Entry) -> Found | None:
    option = entry.option(*_COUNTS)
    count = _number(option.option.default) if option else None
    return Found(count, 0.6, (option.where,)) if option and count else None


def _of_prose(entry: Entry) -> Found | None:
    """A number of GPUs that documents speak of: the one nearest above the command, else the README's most frequent."""
    if entry.documented is None or entry.sources is None:
        return None
    where = entry.documented.command.where
    lines = (entry.sources.text(where.file) or "").split("\n")
    for number in range(min(where.line, len(lines)) - 1, max(-1, where.line - 25), -1):
        counts = [] if lines[number].lstrip().startswith("|") else gpus_counted(lines[number])
        if counts:
            return Found(counts[0], 0.6, (source_line(where.file, number + 1, lines[number]),))
    seen: Counter[int] = Counter()
    places: dict[int, SourceLine] = {}
    for path in sorted((p for p in entry.paths if _DOCUMENTS.search(p) and p.count("/") < 2), key=len)[:4]:
        for number, line in enumerate((entry.sources.text(path) or "").split("\n"), 1):
            for count in gpus_counted(line):
                seen[count] += 1
                places.setdefault(count, source_line(path, number, line))
    best = seen.most_common(1)
    return Found(best[0][0], 0.5, (places[best[0][0]],)) if best else None


def _several(entry: Entry) -> bool:
    """Whether the code takes all GPUs by itself."""
    return any(kind == "spawn" for m in entry.modules for kind, _ in training.distributed_signs(m))


# ---- how the work is spread


def distributed(entry: Entry, gpus: int | None) -> Found:
    """ddp, fsdp, deepspeed, jax, megatron, horovod, mpi or None: by command and configurations, then by the code."""
    told = _told(entry)
    if gpus == 1 and (told is None or entry.wishes.gpus == 1 or told.value == "ddp"):
        return Found(None, 0.8)
    if told:
        return told
    signs = _signs(entry)
    if "jax" in signs:
        return Found("jax", 0.7, (signs["jax"],))
    if gpus != 1:
        alone = ("deepspeed", "horovod") if entry.launcher is Launcher.PYTHON else ("horovod",)
        for kind in (*alone, "mirrored"):
            if kind in signs:
                return Found(kind, 0.6, (signs[kind],))
    several = (gpus or 0) > 1
    if entry.launcher in (Launcher.TORCHRUN, Launcher.DEEPSPEED, Launcher.BASH) or "spawn" in signs or several:
        return _by_code(entry, signs, several=several)
    return Found(None, 0.5)


def _by_code(entry: Entry, signs: dict[str, SourceLine], *, several: bool) -> Found:
    """How code that is started on several GPUs spreads its work."""
    for kind in ("fsdp", "deepspeed", "ddp"):
        if kind in signs:
            return Found(kind, 0.6, (signs[kind],))
    in_groups = entry.launcher is Launcher.TORCHRUN or "group" in signs
    if in_groups and (sharded := _sharded(entry)):
        return Found("fsdp", 0.5, (sharded,))
    where = signs.get("group") or signs.get("parallel")
    if where or several or entry.launcher is Launcher.TORCHRUN:
        place = (entry.documented.command.where,) if entry.documented else ()
        return Found("ddp", 0.6, (where,) if where else place)
    return Found(None, 0.5)


def _sharded(entry: Entry) -> SourceLine | None:
    """Where the package that holds the entry shards its weights, when that is more of its code than replicating."""
    if entry.sources is None or not entry.modules:
        return None
    top = entry.modules[0].path.partition("/")[0]
    found: list[SourceLine] = []
    replicated = 0
    for path in sorted(p for p in entry.paths if p.startswith(f"{top}/") and p.endswith(".py"))[:_MAX_SEARCHED]:
        text = entry.sources.text(path) or ""
        replicated += len(re.findall(r"\bDistributedDataParallel\(|\bDDP\(", text))
        places = ((text.count("\n", 0, m.start()) + 1, m[0]) for m in _SHARDS.finditer(text))
        found += [source_line(path, number, words) for number, words in places]
    return found[0] if len(found) > replicated else None


def _told(entry: Entry) -> Found | None:
    """What the command and its configurations say, by their words."""
    command = entry.documented.command if entry.documented else None
    place = (command.where,) if command else ()
    own = [*(command.args if command else ()), *(command.launcher_args if command else ())]
    words = " ".join([*own, *(basename(p) for p in entry.configs)]).lower()
    kinds = str((entry.configured("distributed_type") or ("",))[0]).lower()
    strategy = _strategy(entry)
    if (
        entry.launcher is Launcher.DEEPSPEED
        or re.search(r"--deepspeed|deepspeed|zero[-_]?[123]\b", words)
        or "deepspeed" in kinds + strategy
        or (entry.configured("deepspeed") or (None,))[0]
    ):
        return Found("deepspeed", 0.85, place)
    if re.search(r"--fsdp\b|use_fsdp|enable_fsdp|fsdp2?\.(?:ya?ml|json)|--fsdp_config|fsdp=true", words):
        return Found("fsdp", 0.85, place)
    if "fsdp" in kinds + strategy or _configured_fsdp(entry):
        return Found("fsdp", 0.85, place)
    if re.search(r"tensor[-_]model[-_]parallel|pipeline[-_]model[-_]parallel|model[-_]parallel[-_]size", words):
        return Found("megatron", 0.8, place)
    if "horovod" in words:
        return Found("horovod", 0.8, place)
    if re.search(r"multi_gpu", words + kinds) or re.search(r"\bddp", strategy):
        return Found("ddp", 0.8, place)
    return None


def _strategy(entry: Entry) -> str:
    found = [str(f.value).lower() for f in entry.said(("strategy",)) if isinstance(f.value, str)]
    return next((f for f in found if f not in ("auto", "no")), "")


def _configured_fsdp(entry: Entry) -> bool:
    return any(
        re.match(r"(?i)(?:.*\.)?(?:fsdp(?:_config|_version)?(?:\.|$)|(?:dp|data_parallel)_shard\w*$)", key)
        and value not in (None, "", False, [], 0, 1)
        for values in entry.configs.values()
        for key, value in values.items()
    )


def _signs(entry: Entry) -> dict[str, SourceLine]:
    found: dict[str, SourceLine] = {}
    top = entry.modules[0].path.partition("/")[0] if entry.modules and "/" in entry.modules[0].path else ""
    for module in entry.modules:
        for kind, where in training.distributed_signs(module):
            found.setdefault("group" if "init_process_group" in where.text else kind, where)
        for kind, where in _further(module):
            if kind != "jax" or (
                not top or module.path.startswith(f"{top}/")
            ):  # a library's sharding is not the example's
                found.setdefault(kind, where)
    return found


def _further(module: Module) -> Iterator[tuple[str, SourceLine]]:
    for item in module.imports:
        if item.module.split(".")[0] == "horovod":
            yield "horovod", module.at(item.line)
        elif item.module.startswith("deepspeed.launcher"):
            yield "deepspeed", module.at(item.line)
    for call in module.calls:
        if call.last in _STRATEGIES:
            yield _STRATEGIES[call.last], module.at(call.line)
        elif call.last == "DataParallel":
            yield "parallel", module.at(call.line)
        elif call.last.endswith(("MirroredStrategy", "TPUStrategy")):
            yield "mirrored", module.at(call.line)
    for number, line in enumerate(module.lines, 1):
        if _JAX_SPREADS.search(line):
            yield "jax", module.at(number)
            return
