"""Command lines: reading a documented one, setting the repository's own flags, and the launcher's words.

Pure text work. It knows the plan and nothing of clusters or files.
"""

import base64
import json
import re
import shlex
from typing import Final, NamedTuple

from caravan.planning.config_files import key_takes, switches
from caravan.values.base import Json
from caravan.values.masking import MASK
from caravan.values.plan import Author, OutputSink, TrainingPlan
from caravan.values.repo import Launcher

ALLOC_DIR: Final = "${NOMAD_ALLOC_DIR}"
OUTPUTS_IN_ALLOCATION: Final = f"{ALLOC_DIR}/data/outputs"
VOLUME_MOUNT: Final = "/caravan/outputs"
"""Where a task sees the volume that takes its outputs, unless the plan mounts it elsewhere."""
RUN: Final = "${NOMAD_META_caravan_run}"
"""The run's id as the job knows it: a volume has a directory for each run, so that none overwrites another's."""
DISTRIBUTED: Final = frozenset({Launcher.TORCHRUN, Launcher.ACCELERATE, Launcher.DEEPSPEED})
"""Launchers that start several processes on a node."""
MASTER_ADDR: Final = "${CARAVAN_MASTER_ADDR}"
MASTER_PORT: Final = "${CARAVAN_MASTER_PORT}"
NODE_RANK: Final = "${CARAVAN_NODE_RANK}"
"""Where the members of a training on several nodes meet, and which of them this one is; known once they have met."""

_ASSIGNMENT: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_PLACEHOLDER: Final = re.compile(
    r"^(?:[\w.-]+=)?(?:<.*>|\[.*[ _].*\]|\$\{?\w+\}?.*|/path/to/.*|path/to/.*|YOUR_.*|your_.*)$"
)
_NPROC: Final = ("--nproc_per_node", "--nproc-per-node", "--num_processes", "--num_gpus", "-n")
# What the launcher is told of other nodes: the plan and the cluster say that.
_NODES: Final = (
    *("--master", "--rdzv", "--standalone", "--include", "--exclude", "--hostfile", "--nnodes", "--node_rank"),
    *("--node-rank", "--num_nodes", "--num_machines", "--machine_rank", "--main_process_ip", "--main_process_port"),
    *("--no_ssh", "--launcher"),
)
# Options of the launchers that stand alone; every other one before the script takes a value.
_BARE: Final = frozenset(
    {
        "--standalone",
        "--multi_gpu",
        "--use_deepspeed",
        "--use_fsdp",
        "--cpu",
        "--no_python",
        "--force_multi",
        "-m",
        "--no_ssh",
    }
    | {"--module", "--quiet", "-u", "-O", "-x", "-e", "--no_local_rank", "--save_pid", "--debug", "-q"}
)


class Documented(NamedTuple):
    """A documented command taken apart. `gaps` are flags whose value is a placeholder (`<path to data>`)."""

    launcher: Launcher
    launcher_args: tuple[str, ...]
    command: tuple[str, ...]
    env: dict[str, str]
    nproc: int | None
    gaps: tuple[str, ...]


def read_command(text: str, launcher: Launcher | None = None) -> Documented | None:
    """Take a command line apart; None when it isn't one (unbalanced quotes, pipes, several commands).

    `launcher`: what is known already; else it is told from the first words and the file's ending.
    """
    text = re.sub(r"(?:^|\s)#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    text = re.sub(r"<\w[^<>|&;'\"]*>", lambda m: m[0].replace(" ", "_"), text)  # <a placeholder> is one word
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    if not words or any(w in {"|", "&&", "||", ";", "&", ">", ">>", "<"} for w in words):
        return None
    env: dict[str, str] = {}
    while words and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        if name != "CUDA_VISIBLE_DEVICES":  # the cluster hands out the GPUs
            env[name] = value
    if not words:
        return None
    told, words = _told_launcher(words)
    if told is None:
        told = launcher or Launcher.CLI
    args, nproc = ([], None) if told not in {*DISTRIBUTED, Launcher.PYTHON, Launcher.BASH} else _launcher_args(words)
    if words and words[0].endswith((".py", ".sh", ".ipynb")):
        words[0] = re.sub(r"^\$\{?\w+\}?/", "", words[0])  # ${REPO}/train.py: the code's own directory
    args, words = _without_masked(args), _without_masked(words)
    command, gaps = _without_placeholders(words)
    return Documented(told, tuple(args), tuple(command), env, nproc, tuple(gaps)) if command else None


def _told_launcher(words: list[str]) -> tuple[Launcher | None, list[str]]:
    """The launcher that the first words name, and the words after it."""
    first = words[0].rsplit("/", 1)[-1]
    if re.fullmatch(r"python[0-9.]*", first):
        if words[1:3] in (["-m", "torch.distributed.run"], ["-m", "torch.distributed.launch"]):
            return Launcher.TORCHRUN, words[3:]
        return Launcher.PYTHON, words[1:]
    if first == "accelerate" and words[1:2] == ["launch"]:
        return Launcher.ACCELERATE, words[2:]
    if first in ("torchrun", "deepspeed"):
        return Launcher(first), words[1:]
    if first in ("bash", "sh"):
        return Launcher.BASH, words[1:]
    if first == "papermill":
        return Launcher.NOTEBOOK, words[1:2]
    endings = {".py": Launcher.PYTHON, ".sh": Launcher.BASH, ".ipynb": Launcher.NOTEBOOK}
    return next((kind for ending, kind in endings.items() if first.endswith(ending)), None), words


def _launcher_args(words: list[str]) -> tuple[list[str], int | None]:
    """Cut the launcher's own options off the front of `words` (in place); `-m module` stays, it names the program."""
    kept: list[str] = []
    nproc: int | None = None
    while words and words[0].startswith("-") and words[0] not in ("-m", "--module"):
        option = words.pop(0)
        name, joined, value = option.partition("=")
        if not joined and name not in _BARE and words and not words[0].startswith("-"):
            value = words.pop(0)
        if name in _NPROC:
            nproc = int(value) if value.isdigit() and int(value) > 0 else nproc
        elif not name.startswith(_NODES):
            kept += [option] if joined or not value else [name, value]
    return kept, nproc


def _without_masked(words: list[str]) -> list[str]:
    """The words without values that were masked when the document was read, each with the option before it.

    What stands for a secret must never be given to a program; the profile's hazards say that it is left out.
    """
    kept: list[str] = []
    for word in words:
        if MASK not in word:
            kept.append(word)
        elif not word.startswith("-") and kept and kept[-1].startswith("-") and "=" not in kept[-1]:
            kept.pop()
    return kept


def _without_placeholders(words: list[str]) -> tuple[list[str], list[str]]:
    kept: list[str] = []
    gaps: list[str] = []
    for word in words:
        if not _PLACEHOLDER.match(word.partition("=")[2] if word.startswith("-") and "=" in word else word):
            kept.append(word)
        elif word.startswith("-"):
            gaps.append(word.partition("=")[0])
        elif kept and kept[-1].startswith("-"):
            gaps.append(kept.pop())
    return kept, gaps


def flag_text(value: Json) -> str:
    """A value as it is typed on a command line: whole numbers without `.0`, booleans as true and false."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        return repr(value)
    return str(value)


def same_flag(word: str, flag: str) -> bool:
    """Whether two options are one but for dashes and underscores."""
    return word.replace("-", "_") == flag.replace("-", "_")


def set_flag(words: tuple[str, ...], flag: str, value: Json) -> tuple[str, ...]:
    """`words` with `flag` set to `value`: replaced where it stands, else added at the end.

    True gives a bare flag, False takes the flag away, a list gives several values; `--x True` spelled out stays
    spelled out. A flag that doesn't begin with a dash is set as `flag=value`, as Hydra wants it.
    """
    if isinstance(value, list | tuple):
        values = [flag_text(v) for v in value]
    else:
        values = [] if isinstance(value, bool) else [flag_text(value)]
    for i, word in enumerate(words):
        name, joined, _ = word.partition("=")
        if not same_flag(name, flag) or (i == 0 and not flag.startswith("-")):
            continue
        if joined:
            text = str(value) if isinstance(value, bool) else ",".join(values)
            return (*words[:i], f"{name}={text}", *words[i + 1 :])
        end = i + 1
        while end < len(words) and is_value(words[end]) and (end == i + 1 or isinstance(value, list | tuple)):
            end += 1
        if isinstance(value, bool) and words[i + 1 : i + 2] and words[i + 1].lower() in ("true", "false"):
            return (*words[: i + 1], str(value), *words[i + 2 :])
        if isinstance(value, bool):
            return (*words[:i], *([name] if value else []), *words[i + 1 :])
        return (*words[:i], name, *values, *words[end:])
    if not flag.startswith("-"):
        return (*words, f"{flag}={str(value).lower() if isinstance(value, bool) else ','.join(values)}")
    if value is False:
        return words
    if values and values[0].startswith("-") and len(values) == 1 and not is_value(values[0]):
        return (*words, f"{flag}={values[0]}")  # else the parser would take the value for a flag
    return (*words, flag, *values)


def is_value(word: str) -> bool:
    """Whether a word after an option can be its value: no option itself, but for negative numbers."""
    return not word.startswith("-") or re.fullmatch(r"-\d[\d.eE+-]*", word) is not None


def output_dir(plan: TrainingPlan) -> str:
    """Where the training shall write: as set, or where the plan's outputs go."""
    return plan.training.output_dir or sink_dir(plan.outputs)


def sink_dir(sink: OutputSink) -> str:
    """The directory of an output place as the task sees it. What goes to a URL is written in the allocation first."""
    if sink.kind in ("allocation", "url") or not sink.location:
        return OUTPUTS_IN_ALLOCATION
    if sink.kind == "volume":
        mount = sink.location if sink.location.startswith("/") else VOLUME_MOUNT
        return f"{mount.rstrip('/')}/{RUN}"
    return sink.location


def passed_values(plan: TrainingPlan) -> dict[str, Json]:
    """Plan path → value for every field that the command must carry: those that are not the repository's own."""
    values: dict[str, Json] = {}
    for path in plan.flags:
        bare = path.partition("=")[0]
        value = output_dir(plan) if bare == "training.output_dir" else plan.get(bare)
        if bare == "dataset.path" and plan.data is not None and plan.data.destination and not plan.data.link:
            repaired = plan.set_by("dataset.path") is Author.REPAIR  # then it is another path than was delivered
            value = value if repaired else plan.data.destination  # where it lies in the job
        own = plan.set_by(bare) is Author.REPOSITORY and bare in plan.provenance
        if value is not None and not own:
            values[bare] = value
    return values


def unpassed(plan: TrainingPlan) -> tuple[str, ...]:
    """Fields that somebody set and that neither a flag nor a config key takes: the training won't follow them."""
    fields = [f"training.{k}" for k, v in plan.training.model_dump().items() if v is not None and k != "options"]
    fields += [p for p in ("model.id", "dataset.path") if plan.get(p) is not None]
    asked = [f for f in fields if plan.set_by(f) not in (Author.REPOSITORY, Author.DEFAULT)]
    return tuple(sorted(f for f in asked if not _has_flag(plan, f)))


def _has_flag(plan: TrainingPlan, field: str) -> bool:
    value = flag_text(plan.get(field))
    if any(path in (field, f"{field}={value}") for path in plan.flags) or key_takes(plan, field, value):
        return True
    # A switch that is left away says something too: fp32 without `--fp16`, no checkpointing without its switch.
    switch = any(path.startswith(f"{field}=") for path in plan.flags) or switches(plan, field)
    return value in _WITHOUT.get(field, ("False",)) and switch


_WITHOUT: Final = {"training.precision": ("fp32",), "training.method": ("full",)}


def command_line(plan: TrainingPlan) -> tuple[str, ...]:
    """The program and its arguments with the plan's values in the repository's own flags.

    A field that the repository set itself keeps its own default: no flag is passed for it.
    """
    words = plan.command
    values = passed_values(plan)
    for path, flag in plan.flags.items():
        field, choice, wanted = path.partition("=")
        if field not in values:
            continue
        words = set_flag(words, flag, flag_text(values[field]) == wanted if choice else values[field])
    for flag, value in plan.training.options.items():
        words = set_flag(words, flag, value)
    return words


def launch_words(plan: TrainingPlan) -> tuple[str, ...]:
    """The whole command as the launch script runs it; `python` is the environment's interpreter.

    torchrun, accelerate and deepspeed are started as modules of that interpreter, so that no PATH decides which.
    Empty for a plan without a command, which the checks refuse.
    """
    launch, words = plan.launch, command_line(plan)
    if not plan.command:
        return ()
    kind = launch.launcher
    if kind is Launcher.TORCHRUN:
        count = [f"--nproc-per-node={launch.nproc}", f"--nnodes={launch.nodes}"]
        return ("python", "-m", "torch.distributed.run", *_torchrun(plan), *count, *launch.args, *words)
    if kind is Launcher.ACCELERATE:
        count = [f"--num_processes={launch.nproc * launch.nodes}", f"--num_machines={launch.nodes}"]
        several = launch.nproc > 1 or (launch.nodes > 1 and plan.resources.gpus > 0)
        count += ["--multi_gpu"] if several and not _configured(launch.args) else []
        return ("python", "-m", "accelerate.commands.launch", *count, *_accelerate(plan), *launch.args, *words)
    if kind is Launcher.DEEPSPEED:
        return ("python", "-m", *_deepspeed(plan), *launch.args, *words)
    if kind is Launcher.PYTHON:
        return ("python", *launch.args, *words)
    if kind is Launcher.BASH:
        return ("bash", *launch.args, *words)
    if kind is Launcher.NOTEBOOK:
        done = f"{output_dir(plan)}/{words[0].rsplit('/', 1)[-1]}"
        return ("python", "-m", "papermill", words[0], done, *_papermill(words[1:]))
    return words


def _torchrun(plan: TrainingPlan) -> list[str]:
    """Where its processes meet. On several nodes the rendezvous is static: by c10d's the first rank could be on any
    member, and the outputs are those of the first."""
    launch = plan.launch
    if launch.nodes > 1:
        return [f"--node-rank={NODE_RANK}", f"--master-addr={MASTER_ADDR}", f"--master-port={MASTER_PORT}"]
    where = ["--standalone"] if launch.rdzv_endpoint is None and launch.master_port is None else []
    where += [f"--rdzv-endpoint={launch.rdzv_endpoint}"] if launch.rdzv_endpoint else []
    return [*where, *([f"--master-port={launch.master_port}"] if launch.master_port else [])]


def _accelerate(plan: TrainingPlan) -> list[str]:
    """Where its processes meet. With DeepSpeed its own way to other nodes would be ssh (pdsh), but for `standard`."""
    launch = plan.launch
    if launch.nodes > 1:
        where = [
            f"--machine_rank={NODE_RANK}",
            f"--main_process_ip={MASTER_ADDR}",
            f"--main_process_port={MASTER_PORT}",
        ]
        return [*where, "--deepspeed_multinode_launcher=standard"]
    return [f"--main_process_port={launch.master_port}"] if launch.master_port else []


def _deepspeed(plan: TrainingPlan) -> list[str]:
    """DeepSpeed's launcher and its words. The runner reaches other nodes by ssh, which no task has; so on several nodes
    each starts what the runner would have started there: the launcher of one node, which is told of the world."""
    launch = plan.launch
    if launch.nodes > 1:
        world = {f"node-{n}": list(range(launch.nproc)) for n in range(launch.nodes)}
        told = base64.urlsafe_b64encode(json.dumps(world).encode()).decode()
        where = [f"--node_rank={NODE_RANK}", f"--master_addr={MASTER_ADDR}", f"--master_port={MASTER_PORT}"]
        return ["deepspeed.launcher.launch", f"--world_info={told}", *where]
    port = [f"--master_port={launch.master_port}"] if launch.master_port else []
    return ["deepspeed.launcher.runner", f"--num_gpus={launch.nproc}", *port]


def _configured(args: tuple[str, ...]) -> bool:
    return any(a.startswith(("--config_file", "--use_fsdp", "--use_deepspeed", "--multi_gpu")) for a in args)


def _papermill(words: tuple[str, ...]) -> tuple[str, ...]:
    """Notebook parameters: `name=value` becomes papermill's `-p name value`; its own options stay."""
    found: list[str] = []
    for word in words:
        name, joined, value = word.partition("=")
        found += ["-p", name, value] if joined and name.isidentifier() else [word]
    return tuple(found)
