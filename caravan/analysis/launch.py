"""How the chosen entry is started: the documented command that fits, its directory, and what is done before it.

Pure, over documented commands. Placeholders stay readable; nothing is filled in here.
"""

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
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
_STAGE: Final = re.compile(r"(?i)[a-z_-]*(?:prepar|preprocess|download|tokeni[sz]|vocab)[a-z_-]*")
_SECRET_GAP: Final = re.compile(
    r"(?i)\s--?\w*(?:token|api[-_]?key)(?:=|\s+)(?:\.{3}|<[^<>]*>|\$\{?\w+\}?|x{3,}|\w*your\w*)(?=\s|$)"
)
_GAP: Final = re.compile(
    r"(?i)<[a-z][^<>]*>|\bpath[/_]to\b|(?:^|[=\s/])\.{3}(?=[\s/]|$)|\byour[-_]|\{[a-z_][\w. ]*\}|\bx{3,}\b"
    r"|\$\{?(?!HOME\b|PWD\b|USER\b|TMPDIR\b)[a-z_]\w*"
)
_USES: Final = re.compile(r"(?i)\binferenc|\bsampl|\bgenerat|\bdemo\b|\bevaluat|\btesting\b|\bbenchmark|\bexport")
_NO_BUILD: Final = re.compile(r"^make\s+(?:run|test\w*|clean\w*|check|lint|docs?|format|help)\b")
_NOT_TRAINING: Final = re.compile(
    r"(?i)(?:^|\s)(?:-h(?=\s*$)|--help|--eval(?:uate)?(?:[-_]only)?|--test(?:[-_]only)?|--no[-_]train|--dry[-_]run"
    r"|--(?:sampl|generat|infer|predict)\w*[-_]only|--only[-_](?:sampl|generat|infer|predict|eval|test)\w*"
    r"|--(?:generate|infer|inference|predict)(?=\s+-|\s*$))(?=\s|$)"
)
_STAGES_AFTER: Final = frozenset({"__do_eval", "__do_predict", "__do_test"})
"""Switches of programs that train with `--do_train`, and without it only evaluate."""
_QUITS: Final = re.compile(
    r"(?i)\b(?:do(?:n['’]?t| not) train|without training|instead of training|no training|skips? (?:the )?training"
    r"|and (?:then )?(?:quit|exit)|only (?:sampl|evaluat|generat|infer|predict|test)"
    r"|(?:sampl|evaluat|predict|test)\w* only)"
)
"""What the help of a switch says that makes the program do something else than to train."""
_TAKES_UP: Final = re.compile(r"(?i)\bresum|\bcontinu|\bcheckpoint|\bgo(?:es)? on\b")
"""How a request asks to take up an earlier run."""
_CONFIG: Final = re.compile(r"\.(?:py|ya?ml|json|toml|cfg|gin|ini)$")
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
    used = candidate.commands
    said = [words_of(f"{d.titles} {d.command.text}") & wishes.words for d in used]
    near = [(words_of(d.words) & wishes.words) - words for d, words in zip(used, said, strict=True)]
    shares = Counter(word for words in said for word in words)
    rarely = {word: min(2.5, 0.6 + 0.5 * math.log2(len(used) / count)) for word, count in shares.items()}

    def fit(i: int) -> float:
        d = used[i]
        points = sum(rarely[w] for w in said[i]) + 0.4 * len(near[i]) + d.weight
        points += 0.5 * (d.command.launcher is candidate.launcher)
        points += 0.5 * sum(p for p, _ in judged(wishes.text, f"{d.command.where.file} {_configs(d)}"))
        points += 0.5 * max(0.0, sum(p for p, _ in judged(wishes.text, d.command.heading)))
        points -= 0.7 * len(unknown_flags(sources, candidate.python, d)) if candidate.python else 0.0
        points += 0.3 * len(words_of(d.titles) & wishes.words) + min(0.6, 0.1 * len(d.command.args)) + _purpose(d)
        points += gpu_points(d, wishes.gpus) if wishes.gpus is not None else 0.0
        points += _abbreviated(d, wishes.words) - 4.0 * _quits(sources, candidate.python, d)
        if wishes.model_name and _letters(wishes.model_name) in _letters(d.command.text):
            points += 2
        points += 2 * bool(wishes.dataset and basename(wishes.dataset.rstrip("/")) in d.command.text)
        return points - 1.5 * (_goes_on(d) and not _TAKES_UP.search(wishes.text))

    best = max(range(len(used)), key=fit, default=None)
    return None if best is None else used[best]


def _goes_on(d: Documented) -> bool:
    """Whether the command takes up an earlier run's checkpoint."""
    value = d.command.value("resume_from_checkpoint", "resume", "resume_from", "resume_path", "resume_ckpt")
    return value is not None and not re.fullmatch(r"(?i)|none|null|false|auto|-.*", value)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _quits(sources: Sources, path: str | None, d: Documented) -> bool:
    """Whether the command turns on a switch of the script whose help says that nothing is trained then."""
    parser = sources.parser(path) if path else None
    given = {plain(str(f)) for f, value in d.command.given_flags() if value in (None, "", True)} if parser else set()
    return any(o.names() & given and _QUITS.search(o.option.help or "") for o in parser.options) if parser else False


def _abbreviated(d: Documented, wanted: Collection[str]) -> float:
    """For a script's name that shortens a word of the request (`sup` for supervised); against one of its opposite."""
    names = set(re.findall(r"[a-z]{3,}", basename(d.command.where.file).lower()))
    names |= set(re.findall(r"[a-z]{3,}", basename(d.by.command.target).lower())) if d.by else set()
    long = [w for w in wanted if len(w) >= 8]
    points = 1.5 * any(w.startswith(n) and w != n for w in long for n in names)
    opposite = any(n[2:] and w.startswith(n[2:]) for w in long for n in names if n.startswith("un") and len(n) > 4)
    return points - 2.0 * opposite


def _configs(d: Documented) -> str:
    """The names of the configuration files that a command is given."""
    return " ".join(basename(a) for a in d.command.args if _CONFIG.search(a))


def _purpose(d: Documented) -> float:
    """Against a command that only shows help or evaluates, or hands another script over; for one in plain view."""
    points = 0.0
    words = {w.partition("=")[0].replace("-", "_") for w in d.command.args}
    if _NOT_TRAINING.search(" ".join(d.command.args)) or (words & _STAGES_AFTER and "__do_train" not in words):
        points -= 3.0
    inner = next((a for a in d.command.args[:3] if a.endswith(".py")), None)
    if inner and OTHER_NAME.match(basename(inner)):
        points -= 3.0
    elif inner and TRAIN_NAME.search(basename(inner)):
        points += 1.0
    file = d.command.where.file
    if ASIDE.search(file) and d.kind != "page":
        points -= 3.0 if d.kind == "check" else 1.0
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


def preparation(
    used: Documented | None, commands: Sequence[Documented], note: Callable[[str], None] | None = None
) -> tuple[str, ...]:
    """Commands before the launch that fetch, convert or compile, in the order in which they stand.

    They stand before it in the same document, or before the command that starts the script in which it stands; not in
    a section that uses what is trained. One with places to fill in is left out, which `note` is told.
    """
    if used is None:
        return ()
    found: dict[tuple[str, ...], str] = {}
    for start in filter(None, (used.by, used)):
        where = start.command.where
        before = [d for d in commands if d.command.where.file == where.file and d.command.where.line < where.line]
        foreign = _foreign(before, start.command.heading, used)
        over = {d.command.heading: d.command.where.line for d in reversed(before) if d.path and d.path == used.path}
        over.pop(start.command.heading, None)  # what follows another section's training is about its model
        for d in before:
            after = over.get(d.command.heading, where.line) < d.command.where.line
            if after or d.command.heading in foreign or not _prepares(d, used):
                continue
            text = _SECRET_GAP.sub("", _from(d, used.cwd))  # secrets come from the environment
            if not _GAP.search(text):
                stage = bool(d.path and d.command.args and _STAGE.fullmatch(d.command.args[0]))
                key = (d.path or "", d.command.args[0]) if stage else (text,)
                found.pop(key, None)  # the same stage once more, as the nearer documentation has it
                found[key] = text
            elif note:
                note(f"`{text[:200]}` may have to run before the training; it has places to fill in and is left out")
    return tuple(dict.fromkeys(found.values()))[-_MAX_PREPARED:]


def _foreign(before: Sequence[Documented], heading: str, used: Documented) -> set[str]:
    """The sections before the training's own that use a model instead: they start programs which don't prepare."""
    trains = {d.command.heading for d in before if d.path and d.path == used.path} | {heading}
    uses = {
        d.command.heading
        for d in before
        if _USES.search(d.command.heading) or (d.command.kind == "binary" and d.path != used.path)
    }
    return uses - trains


def _prepares(d: Documented, used: Documented) -> bool:
    if d.command.kind == "prepare":
        return not _NO_BUILD.match(d.command.text)
    if not d.path or d.path == used.path:
        return False
    if d.command.args and _STAGE.fullmatch(d.command.args[0]):
        return True
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
