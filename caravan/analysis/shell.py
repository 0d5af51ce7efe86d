"""Commands in shell text: scripts, README blocks, recipes. Variables, `cd` and line ends are followed, nothing is run.

Pure: text in, `Command`s out. It must not know which files exist; who combines checks that.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from posixpath import basename, join, normpath
from typing import Final

from caravan.analysis.findings import Command, clean, source_line
from caravan.values.repo import Launcher

MAX_LINES: Final = 20_000
_MAX_COMMAND: Final = 20_000
_PROMPT: Final = re.compile(r"^\s*(?:\$|>|%|#>|!|\(\w+\)\s*\$)\s+|^\s*[!%](?=[a-z])")
_ASSIGNMENT: Final = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::?[-=]([^{}]*))?\}|\((\w+)\)|(\w+))")
_PYTHON: Final = re.compile(r"^python(?:3(?:\.\d+)?)?$")
_BEFORE: Final = {
    **dict.fromkeys(("sudo", "nohup", "time", "exec", "env", "nice", "then", "do", "else", "srun", "xvfb-run"), 0),
    **dict.fromkeys(("uv run", "poetry run", "pipenv run", "pdm run", "hatch run", "conda run", "pixi run"), 1),
}
_MODULE_LAUNCHERS: Final = {
    "torch.distributed.run": Launcher.TORCHRUN,
    "torch.distributed.launch": Launcher.TORCHRUN,
    "accelerate.commands.launch": Launcher.ACCELERATE,
    "deepspeed.launcher.runner": Launcher.DEEPSPEED,
}
_LAUNCHERS: Final = {
    "torchrun": Launcher.TORCHRUN,
    "accelerate": Launcher.ACCELERATE,
    "deepspeed": Launcher.DEEPSPEED,
}
_NO_CONSOLE: Final = re.compile(
    r"cd|ls|cat|echo|export|source|pip3?|conda|mamba|apt|apt-get|brew|git|wget|curl|mkdir|rm|cp|mv|ln|unzip|tar|chmod"
    r"|docker|docker-compose|make|set|if|fi|for|done|while|case|esac|exit|return|read|test|printf|sed|awk|grep|find|tee"
    r"|sleep|kill|nvidia-smi|tensorboard|wandb|huggingface-cli|hf|pytest|tox|ruff|black|module|uv|poetry|sbatch|ssh"
    r"|nproc|head|tail|sort|wc|which|unset|shift|eval|trap|local|function|declare|let"
)


@dataclass
class _State:
    """What lines before have set."""

    cwd: str
    variables: dict[str, str] = field(default_factory=dict)
    exported: dict[str, str] = field(default_factory=dict)


def read_commands(text: str, file: str, *, first_line: int = 1, cwd: str = ".", heading: str = "") -> list[Command]:
    """The commands in a shell text that start something, in order. Never raises; a broken line is split at spaces."""
    state = _State(cwd)
    found: list[Command] = []
    for number, line in _logical_lines(text, first_line):
        for words in _simple_commands(line):
            command = _command(words, state)
            if command:
                launcher, kind, target, own, args, environment = command
                before = [f"{k}={shlex.quote(v)}" for k, v in environment.items()]
                typed = clean(" ".join(before + [_typed(w) for w in words]))
                where = source_line(file, number, line)
                found.append(Command(launcher, target, kind, own, args, environment, state.cwd, typed, where, heading))
    return found


def _typed(word: str) -> str:
    """A word as it may be typed again; places to fill in (`<path>`, `$VAR`) stay readable."""
    return word if re.fullmatch(r"[A-Za-z0-9_@%+=:,./<>${}*~-]+", word) else shlex.quote(word)


def _logical_lines(text: str, first: int) -> Iterator[tuple[int, str]]:
    """(number, text) of lines with their continuations joined and prompts taken off."""
    held, start = "", first
    for number, raw in enumerate(text.split("\n")[:MAX_LINES], first):
        line = raw.rstrip()
        if not held:
            start, line = number, _PROMPT.sub("", line)
        if line.endswith("\\") and len(held) < _MAX_COMMAND:
            held += line[:-1] + " "
            continue
        whole, held = held + line, ""
        if whole.strip() and not whole.lstrip().startswith("#"):
            yield start, whole.strip()
    if held.strip():
        yield start, held.strip()


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line, split at `&&`, `;` and `|`; redirections and comments left out."""
    if len(line) > _MAX_COMMAND:
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:  # a quote that is never closed: an apostrophe in prose, a cut command
        words = line.replace("'", "").replace('"', "").split()
    current: list[str] = []
    skip = False
    for word in words:
        if word.startswith("#"):
            break
        if word and not word.strip(";&|"):
            if current:
                yield current
            current, skip = [], False
        elif skip:
            skip = False
        elif re.fullmatch(r"\d*>{1,2}|<", word):
            skip = True
        elif not re.match(r"^\d*>{1,2}[^>]|^<(?=[^<>]*$)", word):
            current.append(word)
    if current:
        yield current


_Parts = tuple[Launcher, str, str, tuple[str, ...], tuple[str, ...], dict[str, str]]


def _command(words: list[str], state: _State) -> _Parts | None:
    """What one command starts; None for one that starts nothing of interest. Changes `state` and expands `words`."""
    environment: dict[str, str] = {}
    words[:] = [_expand(w, state) for w in words]
    while words:
        assigned = _ASSIGNMENT.match(words[0])
        if assigned:
            environment[assigned[1]] = assigned[2]
        elif (n := _wrapper_words(words)) == 0:
            break
        else:
            del words[: n - 1]
        del words[0]
    if not words:
        state.variables.update(environment)
        return None
    first = words[0]
    if first == "export":
        pairs = {m[1]: m[2] for w in words[1:] if (m := _ASSIGNMENT.match(w))}
        state.variables.update(pairs)
        state.exported.update(pairs)
        return None
    if first in ("cd", "pushd") and len(words) == 2:
        state.cwd = _moved(state.cwd, words[1])
        return None
    started = _started(words)
    return (*started, {**state.exported, **environment}) if started else None


def _wrapper_words(words: list[str]) -> int:
    """How many leading words only wrap the command that follows."""
    if words[0] in ("(", "{", "if", "!"):
        return 1
    if words[0] in _BEFORE:
        return 1
    return 2 if " ".join(words[:2]) in _BEFORE else 0


def _moved(cwd: str, to: str) -> str:
    """The directory after `cd`; what leaves the repository or can't be known leaves the old one."""
    if to.startswith(("/", "~", "$", "<", "-")):
        return cwd
    moved = normpath(join(cwd, to))
    return cwd if moved.startswith("..") else moved


def _expand(word: str, state: _State) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3] or match[4]
        known = state.variables.get(name, match[2])
        return match[0] if known is None or len(known) > 500 else known

    return _VARIABLE.sub(value, word) if "$" in word else word


def _started(words: list[str]) -> tuple[Launcher, str, str, tuple[str, ...], tuple[str, ...]] | None:
    """(launcher, kind, target, the launcher's own arguments, the target's arguments) of a command."""
    name = basename(words[0])
    if _PYTHON.match(name):
        return _python(words[1:])
    if name in _LAUNCHERS:
        rest = words[2:] if name == "accelerate" and words[1:2] == ["launch"] else words[1:]
        return None if name == "accelerate" and words[1:2] != ["launch"] else _launched(_LAUNCHERS[name], rest)
    if name in ("bash", "sh", "zsh", "source", ".") and len(words) > 1 and words[1].endswith(".sh"):
        return Launcher.BASH, "script", words[1], (), tuple(words[2:])
    if words[0].endswith(".sh"):
        return Launcher.BASH, "script", words[0], (), tuple(words[1:])
    if name in ("papermill", "jupyter", "runipy"):
        book = next((w for w in words[1:] if w.endswith(".ipynb")), None)
        return (Launcher.NOTEBOOK, "script", book, (), ()) if book else None
    if words[0].endswith(".py"):
        return Launcher.PYTHON, "script", words[0], (), tuple(words[1:])
    if _NO_CONSOLE.fullmatch(name) or not re.fullmatch(r"[A-Za-z][\w.-]*", words[0]):
        return None
    sub = words[1] if len(words) > 1 and re.fullmatch(r"[a-z][\w-]*", words[1]) else None
    return Launcher.CLI, "console", f"{name} {sub}" if sub else name, (), tuple(words[2:] if sub else words[1:])


def _python(words: list[str]) -> tuple[Launcher, str, str, tuple[str, ...], tuple[str, ...]] | None:
    i = 0
    while i < len(words) and words[i].startswith("-"):
        if words[i] == "-m" and i + 1 < len(words):
            module = words[i + 1]
            if module in _MODULE_LAUNCHERS:
                return _launched(_MODULE_LAUNCHERS[module], words[i + 2 :])
            return Launcher.PYTHON, "module", module, tuple(words[:i]), tuple(words[i + 2 :])
        if words[i] == "-c":
            return None
        i += 2 if words[i] in ("-W", "-X") else 1
    if i == len(words) or not words[i].endswith(".py"):
        return None
    return Launcher.PYTHON, "script", words[i], tuple(words[:i]), tuple(words[i + 1 :])


def _launched(
    launcher: Launcher, words: list[str]
) -> tuple[Launcher, str, str, tuple[str, ...], tuple[str, ...]] | None:
    """The script or module after a distributed launcher's own options."""
    for i, word in enumerate(words):
        if word in ("-m", "--module") and i + 1 < len(words) and not words[i + 1].startswith("-"):
            return launcher, "module", words[i + 1], tuple(words[:i]), tuple(words[i + 2 :])
        if word.endswith(".py") and not word.startswith("-"):
            return launcher, "script", word, tuple(words[:i]), tuple(words[i + 1 :])
    return None
