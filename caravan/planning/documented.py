"""A documented command line taken apart: launcher, program, arguments, environment, and what it leaves to fill in.

Also what belongs to its author's machine alone: a scheduler's wrapper, the wiring of processes, places of data. Pure
text work; it knows no plan.
"""

import re
import shlex
from itertools import pairwise
from typing import Final, NamedTuple

from caravan.planning.words import is_value
from caravan.values.masking import MASK
from caravan.values.patterns import late
from caravan.values.repo import Launcher, RepoProfile

DISTRIBUTED: Final = frozenset({Launcher.TORCHRUN, Launcher.ACCELERATE, Launcher.DEEPSPEED})
"""Launchers that start several processes on a node."""

_ASSIGNMENT: Final = late(r"^[A-Za-z_][A-Za-z0-9_]*=")
_PLACEHOLDER: Final = late(
    r"(?:[\w.-]+=)?(?:<(?!\|).*>|\$\{?\w+.*|\$\(.*|`.*`?|\{[A-Za-z][\w./ -]*\}|\.\.\.|…"
    r"|\"\.\.\.\"|\[[^\],\[\"'=]*\s[^\],\[\"']*\]"
    r"|\[(?:(?i:your|path|data|model|file|folder|dir|dataset|config)[\w/ .-]*|[\w-]*_(?i:path|dir|folder|name|file))\]"
    r"|(?i:/?path[_/-](?:to|of)(?:[_/-].*)?|/?your[_ -].*|.*/(?:your[_-]|path/to/).*|x{3,}|changeme|fixme|todo)"
    r"|[A-Z]+_OF_[A-Z_]+|PATH_[A-Z_]+)"
)
_FOREIGN: Final = late(
    r"(?:~(?:/|$)|[A-Za-z]:\\|/(?:home|Users|root|mnt|data\d?|datasets?|scratch|fsx|nfs|lustre|gpfs|work|workspace|project"
    r"|projects|storage|export|media|srv|ssd|raid|share|shared|disk\d*|cluster|group|local|s3|efs|models?|content|mount"
    r"|network|net|vol|volumes?|nvme\d*|nas|checkpoints?|ckpts?|output|outputs|opt)(?:/|$))",
    re.IGNORECASE,
)
"""Where paths of somebody's machine begin: nothing in a job lies there by itself."""
_NPROC: Final = ("--nproc_per_node", "--nproc-per-node", "--num_processes", "--num_gpus", "-n")
# What the launcher is told of other nodes: the plan and the cluster say that.
_NODES: Final = (
    *("--master", "--rdzv", "--standalone", "--include", "--exclude", "--hostfile", "--nnodes", "--node_rank"),
    *("--node-rank", "--num_nodes", "--num_machines", "--machine_rank", "--main_process_ip", "--main_process_port"),
    *("--no_ssh", "--launcher", "--gpu_ids", "--use_env", "--use-env", "--multi_gpu", "--same_network", "--nnode"),
)
# Options of the launchers that stand alone; every other one before the script takes a value.
_BARE: Final = frozenset(
    {"--standalone", "--multi_gpu", "--use_deepspeed", "--use_fsdp", "--cpu", "--no_python", "--force_multi", "-m"}
    | {"--no_ssh", "--module", "--quiet", "-u", "-O", "-x", "-e", "--no_local_rank", "--save_pid", "--debug", "-q"}
    | {"-OO", "-B", "-E", "-I", "-s", "-S", "-v", "--use_env", "--use-env", "--no-python", "--same_network"}
    | {"--bind_cores_to_rank", "--enable_each_rank_log", "--tpu", "--mps", "--use_cpu"}
)
_WIRING: Final = late(
    r"(?:SLURM|SBATCH|PMI|PMIX|OMPI_COMM)_\w+|CUDA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|MASTER_ADDR"
    r"|MASTER_PORT|WORLD_SIZE|RANK|LOCAL_RANK|NODE_RANK|NNODES|NUM_NODES|GPUS_PER_NODE|NPROC_PER_NODE"
)
"""Variables of the environment that say which processes and GPUs there are: the cluster and the launcher say that."""
_WRAPPERS: Final[dict[str, tuple[str, ...]]] = {
    "srun": (),
    "nohup": (),
    "time": (),
    "env": (),
    "exec": (),
    "sudo": (),
    "setsid": (),
    "stdbuf": (),
    "numactl": (),
    "taskset": (),
    "xvfb-run": (),
    "uv": ("run",),
    "poetry": ("run",),
    "pdm": ("run",),
    "pipenv": ("run",),
    "hatch": ("run",),
    "rye": ("run",),
    "pixi": ("run",),
    "conda": ("run",),
    "mamba": ("run",),
    "micromamba": ("run",),
    "nsys": ("profile",),
}
"""Programs that only start another one, with the word that makes them do so: in the job nothing is theirs to do."""
_WRAPPER_BARE: Final = frozenset(
    {"--kill-on-bad-exit", "--exclusive", "--overlap", "--label", "-l", "-u", "--unbuffered", "-i", "--no-sync", "-a"}
    | {
        "--frozen",
        "--locked",
        "--no-capture-output",
        "--live-stream",
        "--active",
        "--all-extras",
        "--isolated",
        "--pty",
    }
    | {"--no-project", "-E", "-k", "-v", "--verbose", "-q", "--quiet", "--auto-servernum"}
)
_MPI: Final = frozenset({"mpirun", "mpiexec", "horovodrun"})
_ENDINGS: Final = {".py": Launcher.PYTHON, ".sh": Launcher.BASH, ".ipynb": Launcher.NOTEBOOK}
_ASKS_HELP: Final = frozenset({"--help", "-h", "--version"})
"""Options by which a program only talks of itself, where no value follows."""


class Documented(NamedTuple):
    """A documented command taken apart.

    `gaps` are flags whose value is a placeholder (`<path to data>`), `places` those of them whose value was a place on
    its author's machine. `local_rank`: it is started as by `torch.distributed.launch`, which tells each process its
    number by an option.
    """

    launcher: Launcher
    launcher_args: tuple[str, ...]
    command: tuple[str, ...]
    env: dict[str, str]
    nproc: int | None
    gaps: tuple[str, ...]
    places: tuple[str, ...] = ()
    local_rank: bool = False


def documented_of(profile: RepoProfile) -> Documented | None:
    """The profile's documented command; None where it has none.

    It is somebody else's: a place that only its author's machine has is a gap, as a placeholder is.
    """
    if not profile.launch_command:
        return None
    return read_command(profile.launch_command, profile.launcher, foreign=True)


def read_command(text: str, launcher: Launcher | None = None, *, foreign: bool = False) -> Documented | None:
    """Take a command line apart; None when it isn't one (unbalanced quotes, pipes, several commands).

    `launcher`: what is known already; else it is told from the first words and the file's ending. `foreign`: it was
    written for another machine, whose places of data are of no use here.
    """
    text = re.sub(r"(?:^|\s)#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    text = re.sub(r"<\w[^<>|&;'\"]*>", lambda m: m[0].replace(" ", "_"), text)  # <a placeholder> is one word
    text = _HERE.sub(lambda m: "" if m[1] else ".", text)
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    if not words or any(w in {"|", "&&", "||", ";", "&", ">", ">>", "<"} for w in words):
        return None
    env, words = _unwrapped(_whole_brackets(words))
    if not words:
        return None
    local_rank = words[1:3] == ["-m", "torch.distributed.launch"] and not {"--use_env", "--use-env"} & set(words)
    typed = words
    told, words = _told_launcher(words)
    if told is None:
        told = launcher or Launcher.CLI
    args, nproc = ([], None) if told not in {*DISTRIBUTED, Launcher.PYTHON, Launcher.BASH} else _launcher_args(words)
    args = _of_papermill(typed) if told is Launcher.NOTEBOOK else args
    if words and words[0].endswith((".py", ".sh", ".ipynb")):
        words[0] = re.sub(r"^(?:\$\{?\w+\}?|\.\.\.)/", "", words[0])  # ${REPO}/train.py: the code's own directory
    words = _without_wiring(words) if told is Launcher.CLI else words
    args, words = _without_masked(args), _without_masked(words)
    if foreign:
        after = (*words[1:], "-")
        words = [w for w, n in zip(words, after, strict=False) if w not in _ASKS_HELP or is_value(n)]
    command, gaps, places = _without_placeholders(words, foreign=foreign)
    if not command:
        return None
    return Documented(
        told, tuple(args), tuple(command), env, nproc, tuple(gaps), places=tuple(places), local_rank=local_rank
    )


_HERE: Final = late(r"(?:\$\(pwd\)|\$\{PWD\}|\$PWD(?!\w)|`pwd`)(?:(/)(?=[\w.])|(?=[\s\"']|$))")
"""The directory that the command is run in: a path from there is the same without it."""


def _unwrapped(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The environment that the command is given, and the command without what only starts it elsewhere."""
    env: dict[str, str] = {}
    while words:
        name, equals, value = words[0].partition("=")
        if equals and _ASSIGNMENT.match(words[0]):
            words = words[1:]
            value = _paths(value) if name == "PYTHONPATH" else value
            if not _WIRING.fullmatch(name) and value and not re.search(r"\$|`|<.*>", value):
                env[name] = value
            continue
        wrapper = words[0].rsplit("/", 1)[-1]
        if wrapper == "sbatch":
            words = ["bash", *_after_options(words[1:])]
            continue
        after = _WRAPPERS.get(wrapper)
        if after is None or tuple(words[1 : 1 + len(after)]) != after:
            break
        inner = _after_options(words[1 + len(after) :])
        if wrapper in ("taskset",) and inner:
            inner = inner[1:]
        if not inner:
            break
        words = inner
    return env, words


def _after_options(words: list[str]) -> list[str]:
    """The words after a wrapper's own options."""
    while words and words[0].startswith("-"):
        option, words = words[0], words[1:]
        if option == "--":
            break
        if (
            "=" not in option
            and option not in _WRAPPER_BARE
            and words
            and is_value(words[0])
            and not _is_program(words[0])
        ):
            words = words[1:]
    return words


def _is_program(word: str) -> bool:
    last = word.rsplit("/", 1)[-1]
    return bool(re.fullmatch(r"python[0-9.]*|torchrun|accelerate|deepspeed|bash|sh", last)) or last.endswith(
        tuple(_ENDINGS)
    )


def _paths(value: str) -> str:
    """A search path without what only a shell knows: the directory that the command runs in is where it begins."""
    parts = [
        re.sub(r"^(?:\$\{?PWD\}?|\$\(pwd\)|`pwd`|\$\{?\w+\}?(?=/))/?", "", p) or "." for p in value.split(":") if p
    ]
    return ":".join(dict.fromkeys(p for p in parts if "$" not in p and "`" not in p and not _FOREIGN.match(p)))


def _whole_brackets(words: list[str]) -> list[str]:
    """`[a`, `placeholder]` as one word again, where brackets were opened and closed in different words."""
    found: list[str] = []
    for n, word in enumerate(words):
        opened = found and found[-1].startswith("[") and "]" not in found[-1]
        if opened and not word.startswith("-") and any("]" in w for w in words[n:]):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def _told_launcher(words: list[str]) -> tuple[Launcher | None, list[str]]:
    """The launcher that the first words name, and the words after it."""
    first = words[0].rsplit("/", 1)[-1]
    if re.fullmatch(r"python[0-9.]*", first):
        if words[1:3] in (["-m", "torch.distributed.run"], ["-m", "torch.distributed.launch"]):
            return Launcher.TORCHRUN, words[3:]
        if words[1:3] == ["-m", "accelerate.commands.launch"]:
            return Launcher.ACCELERATE, words[3:]
        if words[1:3] == ["-m", "papermill"]:
            return Launcher.NOTEBOOK, _notebook(words[3:])
        return Launcher.PYTHON, words[1:]
    if first == "accelerate" and words[1:2] == ["launch"]:
        return Launcher.ACCELERATE, words[2:]
    if first in ("torchrun", "deepspeed"):
        return Launcher(first), words[1:]
    if first in ("bash", "sh"):
        return Launcher.BASH, words[1:]
    if first == "papermill":
        return Launcher.NOTEBOOK, _notebook(words[1:])
    if first == "jupyter" and (book := next((w for w in words if w.endswith(".ipynb")), None)):
        return Launcher.NOTEBOOK, [book]
    if first in _MPI:
        count = [i for i, w in enumerate(words[:12]) if w in ("-n", "--np", "-c")]
        return Launcher.CLI, [*words[: count[0]], "-np", *words[count[0] + 1 :]] if count else words
    return next((kind for ending, kind in _ENDINGS.items() if first.endswith(ending)), None), words


def _notebook(words: list[str]) -> list[str]:
    """A papermill command's notebook and its parameters as `name=value`."""
    book, found, n = [w for w in words if w.endswith(".ipynb")][:1] or words[:1], list[str](), 0
    while n < len(words):
        if words[n] in ("-p", "-r", "--parameters", "--parameters_raw") and n + 2 < len(words):
            found.append(f"{words[n + 1]}={words[n + 2]}")
            n += 2
        n += 1
    return [*book, *found]


def _of_papermill(typed: list[str]) -> list[str]:
    """papermill's own options that a job keeps: kernel and directory. Its kernel stands where it was started; that of
    Jupyter's tools in the notebook's directory, which needs no word.
    """
    if "papermill" not in (typed[0].rsplit("/", 1)[-1], *typed[2:3]):
        return []
    long = {"-k": "--kernel", "--kernel": "--kernel", "--cwd": "--cwd"}
    kept = {long[word]: value for word, value in pairwise(typed) if word in long}
    if "/" in next((word for word in typed if word.endswith(".ipynb")), ""):
        kept.setdefault("--cwd", ".")
    return [word for pair in kept.items() for word in pair]


def _launcher_args(words: list[str]) -> tuple[list[str], int | None]:
    """Cut the launcher's own options off the front of `words` (in place); `-m module` stays, it names the program."""
    kept: list[str] = []
    nproc: int | None = None
    while words and words[0].startswith("-") and words[0] not in ("-m", "--module"):
        option = words.pop(0)
        name, joined, value = option.partition("=")
        if not joined and name not in _BARE and words and not words[0].startswith("-") and not _is_program(words[0]):
            value = words.pop(0)
        if name in _NPROC:
            nproc = int(value) if value.isdigit() and int(value) > 0 else nproc
        elif name in ("--include", "--gpu_ids"):
            nproc = _ids(value) or nproc
        elif not name.startswith(_NODES) and not value.startswith("$"):
            kept += [option] if joined or not value else [name, value]
    return kept, nproc


def _without_wiring(words: list[str]) -> list[str]:
    """The words of a launcher that is none of ours without what it is told of other nodes, before its script."""
    script = next((i for i, w in enumerate(words) if w.endswith(".py")), 0)
    kept: list[str] = []
    skip = False
    for n, word in enumerate(words):
        told = n < script and word.startswith((*_NODES, "--num-nodes", "--main-address", "--main-port", "--nodes"))
        if not skip and not told:
            kept.append(word)
        skip = told and "=" not in word and n + 1 < script and is_value(words[n + 1])
    return kept


def _ids(value: str) -> int | None:
    """How many GPUs `localhost:0,1,2,3` or `0,1` names."""
    found = re.fullmatch(r"(?:[\w.-]+:)?(\d+(?:,\d+)*)", value)
    return len(found[1].split(",")) if found else None


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


def _without_placeholders(words: list[str], *, foreign: bool) -> tuple[list[str], list[str], list[str]]:
    """The words without those to be filled in, the flags that these belong to, and which of them were places."""
    kept: list[str] = []
    gaps: list[str] = []
    places: list[str] = []
    for n, word in enumerate(words):
        value = word.partition("=")[2] if word.startswith(("-", "+")) and "=" in word else word
        before = kept[-1] if kept and kept[-1].startswith("-") and "=" not in kept[-1] else ""
        place = foreign and bool(_FOREIGN.match(_bare(value)))
        special = re.fullmatch(r"</?\w*>", value) and "token" in (word if "=" in word else before)
        if (
            (not _PLACEHOLDER.fullmatch(_bare(value)) and not place)
            or special
            or (n == 0 and not value.startswith("<"))
        ):
            kept.append(word)
            continue
        flag = word.partition("=")[0] if "=" in word and word != value else ""
        if not flag and before:
            flag = kept.pop()
        if not flag and re.match(r"[\w.+]+=", word):
            flag = word.partition("=")[0]
        if flag:
            gaps.append(flag)
        places += [flag] if place and flag else []
    return kept, gaps, places


def _bare(value: str) -> str:
    """What stands after `key=` in a word without dashes."""
    found = re.fullmatch(r"[\w.+]+=(.*)", value, re.DOTALL)
    return (found[1] if found else value).strip("'\"")
