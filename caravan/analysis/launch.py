"""How the chosen entry is started: the documented command that fits, its directory, and what is done before it.

Pure, over documented commands. Placeholders stay readable; nothing is filled in here.
"""

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from posixpath import basename, relpath
from typing import Final

from caravan.analysis.candidate import Candidate
from caravan.analysis.documents import Documented
from caravan.analysis.fitting import gpu_points
from caravan.analysis.kinds import judged
from caravan.analysis.prompt import Wishes, words_of
from caravan.analysis.scripts import entry_folder
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import ASIDE, OTHER_NAME, TRAIN_NAME, plain
from caravan.values.repo import Launcher

_KNOWN_TO_LAUNCHERS: Final = frozenset({"local_rank", "local-rank", "deepspeed", "deepspeed_config", "help"})
_PREPARES: Final = re.compile(
    r"(?i)prepar|preprocess|download|tokeni[sz]|convert|fetch|get_?data|make_?data|build_?data"
)
_NOT_TRAINING: Final = re.compile(
    r"(?i)(?:^|\s)(?:-h|--help|--eval(?:uate)?(?:[-_]only)?|--test(?:[-_]only)?|--no[-_]train|--dry[-_]run)(?=\s|$)"
)
_BENCHMARK: Final = re.compile(r"(?i)benchmark|profil")
_TRANSLATED: Final = re.compile(
    r"(?i)[-_.](?:zh|cn|ja|jp|ko|es|fr|de|pt|ru|hi|tr|vi)(?:[-_][a-z]{2})?\.(?:md|rst)$|/(?:zh|ja|ko|cn)[-_/]"
)
_MAX_PREPARED: Final = 12


@dataclass(frozen=True, slots=True)
class Launch:
    """The command that starts the entry, and the directory, from the root, in which it runs."""

    command: str
    cwd: str


def best_command(candidate: Candidate, sources: Sources, wishes: Wishes) -> Documented | None:
    """The documented command that fits the request best: its words, its GPUs, its launcher, options that exist."""

    def fit(d: Documented) -> float:
        points = 1.0 * len(words_of(d.words) & wishes.words) + d.weight
        points += 0.5 * (d.command.launcher is candidate.launcher)
        points += 0.5 * sum(p for p, _ in judged(wishes.text, f"{d.command.where.file} {d.command.heading}"))
        points -= 0.7 * len(unknown_flags(sources, candidate.python, d)) if candidate.python else 0.0
        points += 0.3 * bool(d.command.args) + _purpose(d)
        points += gpu_points(d, wishes.gpus) if wishes.gpus is not None else 0.0
        if wishes.model_name and wishes.model_name.lower() in d.command.text.lower():
            points += 2
        return points

    return max(candidate.commands, key=fit, default=None)


def _purpose(d: Documented) -> float:
    """Against a command that only shows help or evaluates, or hands another script over; for one in plain view."""
    points = 0.0
    if _NOT_TRAINING.search(" ".join(d.command.args)):
        points -= 3.0
    inner = next((a for a in d.command.args[:3] if a.endswith(".py")), None)
    if inner and OTHER_NAME.match(basename(inner)):
        points -= 3.0
    elif inner and TRAIN_NAME.search(basename(inner)):
        points += 1.0
    file = d.command.where.file
    if ASIDE.search(file) and d.kind != "page":
        points -= 1.0
    if _BENCHMARK.search(file):
        points -= 1.5
    return points - 0.5 * bool(_TRANSLATED.search(file))


def unknown_flags(sources: Sources, path: str, used: Documented) -> list[str]:
    """Long options of a documented command that the script's parser doesn't declare; empty when that can't be known."""
    parser = sources.parser(path)
    if parser is None or used.command.kind == "console" or parser.style in ("fire", "click", "typer"):
        return []  # subcommands, free keyword arguments
    known = {plain(n) for o in parser.options for n in o.names()} | _KNOWN_TO_LAUNCHERS
    if parser.style == "hfargparser":  # only a part of the trainer's own options is known here
        return []
    flags = [str(f) for f, _ in used.command.given_flags()]
    return [f for f in flags if plain(f) not in known and not any(k.startswith(plain(f)) for k in known)]


def launch(best: Candidate, used: Documented | None, with_requirements: Collection[str]) -> Launch:
    """The command that starts the entry, and where: as documented, else made from the launcher.

    `with_requirements`: directories that hold dependency files of their own.
    """
    if used:
        return Launch(used.command.text, used.cwd)
    folder = entry_folder(best)
    cwd = folder if folder in with_requirements else "."
    inside = relpath(best.entry_point, cwd) if best.path else best.entry_point
    script = shlex.quote(f"./{inside}" if inside.startswith("-") else inside) if best.path else inside
    words = {
        Launcher.PYTHON: f"python {script}",
        Launcher.TORCHRUN: f"torchrun --standalone --nproc_per_node=1 {script}",
        Launcher.ACCELERATE: f"accelerate launch {script}",
        Launcher.DEEPSPEED: f"deepspeed {script}",
        Launcher.NOTEBOOK: f"jupyter nbconvert --to notebook --execute {script}",
        Launcher.BASH: f"bash {script}",
    }
    return Launch(words.get(best.launcher, best.entry_point), "." if best.launcher is Launcher.CLI else cwd)


def preparation(used: Documented | None, commands: Sequence[Documented]) -> tuple[str, ...]:
    """Commands before the launch that fetch, convert or compile, in the order in which they stand.

    They stand before it in the same document, or before the command that starts the script in which it stands.
    """
    if used is None:
        return ()
    found: list[str] = []
    for start in filter(None, (used.by, used)):
        where = start.command.where
        found += [
            _from(d, used.cwd)
            for d in commands
            if d.command.where.file == where.file and d.command.where.line < where.line and _prepares(d, used)
        ]
    return tuple(dict.fromkeys(found))[-_MAX_PREPARED:]


def _prepares(d: Documented, used: Documented) -> bool:
    if d.command.kind == "prepare":
        return True
    if not d.path or d.path == used.path:
        return False
    name = basename(d.path)
    if _PREPARES.search(name):
        return bool(OTHER_NAME.match(name)) or bool(_PREPARES.match(name)) or d.command.launcher is Launcher.BASH
    return bool(re.search(r"(?:^|/)(?:data|datasets?|preprocess\w*|data_prep\w*)/", d.path)) and d.cwd == used.cwd


def _from(d: Documented, cwd: str) -> str:
    """The command as it is typed in `cwd`."""
    return (
        d.command.text
        if d.cwd == cwd or d.command.kind == "prepare"
        else f"(cd {relpath(d.cwd, cwd)} && {d.command.text})"
    )
