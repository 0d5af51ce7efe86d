"""What one command starts: the launcher, the script, module, program or console command, and whose arguments follow.

Pure, over the words of a command whose variables are filled in. It must not know which files exist.
"""

import re
from posixpath import basename
from typing import Final, NamedTuple

from caravan.analysis.vocabulary import TRAIN_NAME
from caravan.values.repo import Launcher


class Started(NamedTuple):
    """What a command starts. `tool` is a launcher that is none of `Launcher`'s (`mpirun`); `kind` as in `Command`."""

    launcher: Launcher
    kind: str
    target: str
    launcher_args: tuple[str, ...]
    args: tuple[str, ...]
    tool: str = ""


_PYTHON: Final = re.compile(r"^(?:i?python|pypy)(?:3(?:\.\d+)?|w)?$")
_MODULE_LAUNCHERS: Final = {
    "torch.distributed.run": Launcher.TORCHRUN,
    "torch.distributed.launch": Launcher.TORCHRUN,
    "accelerate.commands.launch": Launcher.ACCELERATE,
    "deepspeed.launcher.runner": Launcher.DEEPSPEED,
    "deepspeed": Launcher.DEEPSPEED,
}
_LAUNCHERS: Final = {
    "torchrun": Launcher.TORCHRUN,
    "accelerate": Launcher.ACCELERATE,
    "accelerate-launch": Launcher.ACCELERATE,
    "deepspeed": Launcher.DEEPSPEED,
}
_SPREAD: Final = frozenset({"mpirun", "mpiexec", "horovodrun", "composer", "lightning", "fabric", "colossalai"})
"""Tools that start a program as several processes; what they start stands after their own options."""
_WRAPPERS: Final = frozenset(
    {
        *(
            "sudo",
            "nohup",
            "time",
            "exec",
            "env",
            "nice",
            "then",
            "do",
            "else",
            "xvfb-run",
            "(",
            "{",
            "if",
            "!",
            "eval",
        ),
        *("srun", "numactl", "taskset", "nsys", "ncu", "docker", "podman", "singularity", "apptainer", "nvidia-docker"),
        *("ray", "sky", "uv", "poetry", "pipenv", "pdm", "hatch", "conda", "mamba", "micromamba", "pixi", "tsp"),
        *("stdbuf", "timeout", "setsid", "uvx", "rye"),
    }
)
"""Words before a command that is meant to run by itself; with their options they are left out."""
_RUN_FIRST: Final = frozenset(
    {"uv", "poetry", "pipenv", "pdm", "hatch", "conda", "mamba", "pixi", "docker", "podman", "rye"}
)
_NO_CONSOLE: Final = re.compile(
    r"cd|ls|cat|echo|export|source|pip3?|conda|mamba|apt|apt-get|brew|git|wget|curl|mkdir|rm|cp|mv|ln|unzip|tar|chmod"
    r"|docker|docker-compose|make|set|if|fi|for|done|while|case|esac|exit|return|read|test|printf|sed|awk|grep|find|tee"
    r"|sleep|kill|nvidia-smi|tensorboard|wandb|huggingface-cli|hf|pytest|tox|ruff|black|module|uv|poetry|sbatch|ssh"
    r"|nproc|head|tail|sort|wc|which|unset|shift|eval|trap|local|function|declare|let|cmake|gsutil|aws|scp|rsync|gcloud"
    r"|vim?|nano|code|open|xdg-open|less|more|kubectl|helm|tmux|screen|ninja|go|npm|npx|yarn|node|cargo|julia|sudo|then"
    r"|do|else|python\S*|bazel|isort|flake8|mypy|pre-commit|nvcc|gcc|g\+\+|touch|md5sum|sha256sum|7z|gdown|kaggle|axel"
)
_PREPARES: Final = re.compile(
    r"^(?:(?:wget|curl|make|cmake|unzip|gdown|aria2c|7z|kaggle|gsutil|ninja)\s+\S|tar\s+-?\w*x|accelerate config\b"
    r"|(?:huggingface-cli|hf)\s+download\s|tfds build\b|\S*\bdownload\S*\.sh\b|git lfs (?:pull|clone|install)"
    r"|python3? setup\.py (?:build|develop|install)|git clone \S*(?:huggingface\.co/datasets|hf\.co))"
)
_SCRIPT: Final = re.compile(r"\.(?:sh|bash|slurm|sbatch|sub|zsh)$")
_NAME: Final = re.compile(r"[A-Za-z][\w.-]*")
_WORD: Final = re.compile(r"[a-z][\w-]*")


def unwrapped(words: list[str]) -> list[str]:
    """The words of the command that wrappers (`sudo`, `srun -n 8`, `uv run`, `docker run image`) start."""
    for _ in range(8):
        if not words or basename(words[0]) not in _WRAPPERS:
            break
        if words[0] == "env":
            return words[1:]  # assignments follow
        at = next((i for i, w in enumerate(words[1:40], 1) if _starts_something(w)), None)
        if at is not None:
            words = words[at:]
        elif words[0] not in _RUN_FIRST:
            words = _after_options(words[1:])
        elif words[1:2] == ["run"] and words[0] not in ("docker", "podman", "conda", "mamba"):
            words = _after_options(words[2:])
        else:
            break
    return words


def _after_options(words: list[str]) -> list[str]:
    i = 0
    while i < len(words) and words[i].startswith("-"):
        i += 1
    return words[i:]


def _starts_something(word: str) -> bool:
    name = basename(word)
    return bool(
        _PYTHON.match(name)
        or name in _LAUNCHERS
        or name in _SPREAD
        or name in ("bash", "sh")
        or word.endswith(".py")
        or _SCRIPT.search(word)
        or re.match(r"^\./[\w.-]+$", word)
    )


def started(words: list[str]) -> Started | None:
    """What a command starts; None for one that starts nothing of interest."""
    name = basename(words[0])
    if _PYTHON.match(name):
        return _python(words[1:])
    if name in _LAUNCHERS:
        rest = words[2:] if name == "accelerate" and words[1:2] == ["launch"] else words[1:]
        if name == "accelerate" and words[1:2] != ["launch"]:
            return _prepares(words)
        return _launched(_LAUNCHERS[name], rest)
    if name in _SPREAD:
        return _spread(name, words)
    if name in ("bash", "sh", "zsh", "source", ".", "sbatch", "ksh"):
        script = next((i for i, w in enumerate(words[1:], 1) if _SCRIPT.search(w)), None)
        if script is not None:
            return Started(Launcher.BASH, "script", words[script], (), tuple(words[script + 1 :]))
    if _SCRIPT.search(words[0]):
        return Started(Launcher.BASH, "script", words[0], (), tuple(words[1:]))
    if name in ("papermill", "jupyter", "runipy"):
        book = next((w for w in words[1:] if w.endswith(".ipynb")), None)
        return Started(Launcher.NOTEBOOK, "script", book, (), ()) if book else None
    if words[0].endswith(".py"):
        return Started(Launcher.PYTHON, "script", words[0], (), tuple(words[1:]))
    if re.match(r"^\.{1,2}/[\w./-]+$", words[0]):
        return Started(Launcher.BASH, "binary", words[0], (), tuple(words[1:]))
    return _prepares(words) or _console(name, words)


def _prepares(words: list[str]) -> Started | None:
    return (
        Started(Launcher.NONE, "prepare", words[0], (), tuple(words[1:])) if _PREPARES.match(" ".join(words)) else None
    )


def _console(name: str, words: list[str]) -> Started | None:
    """A console command: its name and its subcommands up to the one that is named after training."""
    if _NO_CONSOLE.fullmatch(name) or not _NAME.fullmatch(words[0]):
        return None
    subs: list[str] = []
    for word in words[1:4]:
        if not _WORD.fullmatch(word):
            break
        subs.append(word)
    named = next((i for i, w in enumerate(subs) if TRAIN_NAME.search(w)), 0)
    subs = subs[: named + 1]
    return Started(Launcher.CLI, "console", " ".join([name, *subs]), (), tuple(words[1 + len(subs) :]))


def _spread(name: str, words: list[str]) -> Started | None:
    """What `mpirun -np 8 ./program`, `composer train.py` and their like start."""
    for i, word in enumerate(words[1:], 1):
        if _PYTHON.match(basename(word)):
            inner = _python(words[i + 1 :])
            return inner._replace(launcher=Launcher.CLI, tool=name, launcher_args=tuple(words[1:i])) if inner else None
        if word.endswith(".py"):
            return Started(Launcher.CLI, "script", word, tuple(words[1:i]), tuple(words[i + 1 :]), name)
        if re.match(r"^\.{1,2}/[\w./-]+$", word) and not words[i - 1].startswith("-"):
            return Started(Launcher.CLI, "binary", word, tuple(words[1:i]), tuple(words[i + 1 :]), name)
        if re.match(r"^\./[\w.-]+$", word):
            return Started(Launcher.CLI, "binary", word, tuple(words[1:i]), tuple(words[i + 1 :]), name)
    return None


def _python(words: list[str]) -> Started | None:
    i = 0
    while i < len(words) and words[i].startswith("-"):
        if words[i] == "-m" and i + 1 < len(words):
            module = words[i + 1]
            if module in _MODULE_LAUNCHERS:
                return _launched(_MODULE_LAUNCHERS[module], words[i + 2 :])
            if module in ("pip", "venv", "pytest", "http.server", "ipykernel", "json.tool", "build"):
                return None
            return Started(Launcher.PYTHON, "module", module, tuple(words[:i]), tuple(words[i + 2 :]))
        if words[i] == "-c":
            return None
        i += 2 if words[i] in ("-W", "-X") else 1
    if i == len(words) or not words[i].endswith(".py"):
        return None
    return Started(Launcher.PYTHON, "script", words[i], tuple(words[:i]), tuple(words[i + 1 :]))


def _launched(launcher: Launcher, words: list[str]) -> Started | None:
    """The script or module after a distributed launcher's own options."""
    for i, word in enumerate(words):
        if word in ("-m", "--module") and i + 1 < len(words) and not words[i + 1].startswith("-"):
            return Started(launcher, "module", words[i + 1], tuple(words[:i]), tuple(words[i + 2 :]))
        if word.endswith(".py") and not word.startswith("-"):
            return Started(launcher, "script", word, tuple(words[:i]), tuple(words[i + 1 :]))
    return None
