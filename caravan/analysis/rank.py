"""Which file trains: candidates with their score, what speaks for and against each, and the command that starts it.

Pure, over `Sources` and documented commands. There is no table of repositories here: only what files say.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename, dirname
from typing import Final

from caravan.analysis.documents import Documented
from caravan.analysis.findings import Module, source_line
from caravan.analysis.notebooks import code_of
from caravan.analysis.options import Parser
from caravan.analysis.prompt import Wishes, words_of
from caravan.analysis.python import read_module
from caravan.analysis.sources import Sources
from caravan.analysis.training import distributed_signs, training_signs
from caravan.analysis.vocabulary import ASIDE, HYPERPARAMETERS, OLD, OTHER_NAME, TRAIN_NAME, plain
from caravan.values.repo import EntryCandidate, Launcher, SourceLine

MAX_SCANNED: Final = 5000
MAX_TRIED: Final = 80
ENOUGH: Final = 1.5
"""Weight of training signs from which a file is taken to train."""
_STARTS: Final = re.compile(
    r"__main__|\.backward\(|Trainer\b|\.fit\(|optimi[sz]er|add_argument|HfArgumentParser"
    r"|fire\.Fire|import (?:click|typer)"
)
_FROM_IMPORTS: Final = 0.7
_KNOWN_TO_LAUNCHERS: Final = frozenset({"local_rank", "local-rank", "deepspeed", "deepspeed_config", "help"})


@dataclass
class Candidate:
    """One way to train. `path` is the file that runs (None: a console command from elsewhere)."""

    entry_point: str
    path: str | None
    launcher: Launcher
    commands: list[Documented] = field(default_factory=list)
    score: float = 0.0
    reasons: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)
    evidence: list[SourceLine] = field(default_factory=list)
    trains: bool = False
    says_so: bool = False  # its name says that it trains, and its documentation or its options do too

    def plus(self, points: float, why: str, where: SourceLine | None = None) -> None:
        """Something that speaks for the candidate."""
        self.score += points
        self.reasons.append(why)
        if where and where not in self.evidence:
            self.evidence.append(where)

    def minus(self, points: float, why: str) -> None:
        """Something that speaks against it."""
        self.score -= points
        self.against.append(why)

    def value(self) -> EntryCandidate:
        """The candidate as the profile shows it."""
        return EntryCandidate(
            entry_point=self.entry_point,
            launcher=self.launcher,
            score=round(self.score, 2),
            reasons=tuple(self.reasons),
            against=tuple(self.against),
            evidence=tuple(self.evidence[:8]),
        )


def candidates(
    sources: Sources,
    commands: Sequence[Documented],
    scripts: Mapping[str, str],
    wishes: Wishes,
    chosen: str | None = None,
) -> list[Candidate]:
    """All candidates that train, the best first; equal scores in the order of their paths.

    `chosen` is a Python file that a person named as the entry: it comes first, whatever speaks against it.
    """
    by_path: dict[str, list[Documented]] = defaultdict(list)
    consoles: dict[str, list[Documented]] = defaultdict(list)
    for d in commands:
        if d.command.kind == "console":
            consoles[d.command.target].append(d)
        elif d.path and d.path.endswith(".py"):
            by_path[d.path].append(d)
    tried = _tried(sources, by_path, wishes)
    if chosen is not None and chosen.endswith(".py") and chosen in sources.paths and chosen not in tried:
        tried.append(chosen)
    found = [_script(sources, path, by_path.get(path, []), wishes) for path in tried]
    found += [_console(sources, target, used, scripts, wishes) for target, used in consoles.items()]
    silent = (name for name in scripts if not any(t.split()[0] == name for t in consoles))
    found += [_console(sources, name, [], scripts, wishes) for name in silent]
    found += _notebooks(sources)
    _telling(found, wishes)
    # What only says that it trains counts where nothing in the repository is seen to.
    believed = [c for c in found if c.trains] or [c for c in found if c.says_so]
    trains = [c for c in found if c in believed or c.entry_point == chosen]
    return sorted(trains, key=lambda c: (c.entry_point != chosen, -round(c.score, 6), c.entry_point))


def _tried(sources: Sources, by_path: Mapping[str, list[Documented]], wishes: Wishes) -> list[str]:
    """The Python files worth parsing, the likeliest first, judged by name and a quick look at the text."""
    rows = []
    python = sorted((p for p in sources.paths if p.endswith(".py")), key=lambda p: (p.count("/"), p))
    for path in python[:MAX_SCANNED]:
        text = sources.text(path)
        if text is None:
            continue
        signs = len(set(_STARTS.findall(text)))
        named = bool(TRAIN_NAME.search(basename(path)))
        if path in by_path or named or signs:
            likely = 6 * (path in by_path) + 3 * named + signs + 2 * len(words_of(path) & wishes.words)
            rows.append((-likely + 4 * bool(ASIDE.search(path)) + 0.2 * path.count("/"), path))
    return [path for _, path in sorted(rows)[:MAX_TRIED]]


def _script(sources: Sources, path: str, used: list[Documented], wishes: Wishes) -> Candidate:
    module = sources.module(path)
    candidate = Candidate(path, path, _launcher(sources, path, used), used)
    weight = _signs(candidate, sources, path)
    starts = module.main_line is not None or module.runs_at_top is not None
    named = bool(TRAIN_NAME.search(basename(path)))
    parser = sources.parser(path) if weight >= ENOUGH or TRAIN_NAME.match(basename(path)) else None
    hits = _key_options(parser)
    candidate.trains = (starts or bool(used)) and (weight >= ENOUGH or (module.error is not None and named))
    candidate.says_so = starts and bool(TRAIN_NAME.match(basename(path))) and bool(used or hits)
    if module.error:
        candidate.minus(1.0, f"can't be read: {module.error}")
    _documentation(candidate, sources, used, wishes)
    if module.main_line is not None:
        candidate.plus(1.0, "has a main guard", module.at(module.main_line))
    elif starts:
        candidate.plus(0.5, "does its work when it is started", module.at(module.runs_at_top or 0))
    _naming(candidate, path)
    if parser and hits and candidate.trains:
        candidate.plus(min(1.5, 0.4 * hits), f"has options for {hits} key hyperparameters", parser.options[0].where)
    return candidate


def _key_options(parser: Parser | None) -> int:
    """For how many key hyperparameters the parser has options."""
    if parser is None:
        return 0
    known = {plain(n).rsplit(".", 1)[-1] for o in parser.options for n in o.names()}
    return sum(bool(known & set(names)) for names in HYPERPARAMETERS.values())


def _signs(candidate: Candidate, sources: Sources, path: str) -> float:
    """Weigh the signs of training in the file itself, else in what it imports."""
    own = sources.signs(sources.module(path))
    weight = sum(w for w, _, _ in own)
    for points, what, where in own:
        candidate.plus(min(points, 2.0), what, where)
    if weight < 2:
        for module in sources.reached(path)[1:]:
            for points, what, where in sources.signs(module):
                if weight < 3:
                    weight += _FROM_IMPORTS * points
                    candidate.plus(_FROM_IMPORTS * points, f"{what} in {module.path}", where)
    return weight


def _documentation(candidate: Candidate, sources: Sources, used: list[Documented], wishes: Wishes) -> None:
    if not used:
        return
    main = used[0].command
    in_readme = basename(main.where.file).lower().startswith("readme")
    candidate.plus(2.0 + 0.3 * min(len(used) - 1, 3) + 0.5 * in_readme, "is documented", main.where)
    told = max(len(words_of(f"{d.command.heading} {d.command.text}") & wishes.words) for d in used)
    if told:
        candidate.plus(0.5 * min(told, 4), "its documentation fits the request")
    if candidate.path and (unknown := unknown_flags(sources, candidate.path, used[0])):
        candidate.minus(0.5, f"the documented command uses options that it doesn't have: {', '.join(unknown[:4])}")


def _naming(candidate: Candidate, path: str) -> None:
    name = basename(path)
    if TRAIN_NAME.match(name):
        candidate.plus(2.0, "is named after training")
    elif TRAIN_NAME.search(name):
        candidate.plus(1.0, "its name speaks of training")
    elif OTHER_NAME.match(name):
        candidate.minus(3.0, "is named after something else than training")
    if ASIDE.search(path):
        candidate.minus(4.0, "stands among tests, benchmarks or documentation")
    if OLD.search(path):
        candidate.minus(3.0, "its path says that it is old")
    candidate.score -= 0.15 * path.count("/")


def _telling(found: Sequence[Candidate], wishes: Wishes) -> None:
    """Points for words of the request in a candidate's path: the rarer a word among the candidates, the more."""
    words = [words_of(c.entry_point) for c in found]
    for candidate, mine in zip(found, words, strict=True):
        for word in sorted(mine & wishes.words):
            share = sum(word in w for w in words) / len(words)
            points = min(3.0, 0.4 - 0.6 * math.log2(share))
            candidate.plus(points, f"the request speaks of {word}")


def _console(
    sources: Sources, target: str, used: list[Documented], scripts: Mapping[str, str], wishes: Wishes
) -> Candidate:
    """A console command: one of the repository's own, or a documented `tool train …` of an installed package."""
    module = sources.names.get(scripts.get(target.split()[0], "").partition(":")[0])
    candidate = Candidate(target, module, Launcher.CLI, used)
    weight = _signs(candidate, sources, module) if module else 0.0
    sub = target.partition(" ")[2]
    trains_by_name = bool(TRAIN_NAME.match(sub or target))
    candidate.trains = weight >= ENOUGH if module and not sub else trains_by_name
    _documentation(candidate, sources, used, wishes)
    if trains_by_name:
        candidate.plus(1.5, "its command is named after training")
        if module:
            candidate.plus(3.0, "is a console command of the repository")
    if module is None:
        candidate.minus(1.0, "the command comes from another package")
    return candidate


def _notebooks(sources: Sources) -> Iterator[Candidate]:
    for path in sorted(p for p in sources.paths if p.endswith(".ipynb"))[:50]:
        text = sources.text(path)
        code = code_of(text) if text else None
        if code is None:
            sources.note(f"{path} is no notebook that can be read")
            continue
        module = read_module(path, code)
        signs = training_signs(module)
        weight = sum(w for w, _, _ in signs)
        candidate = Candidate(path, path, Launcher.NOTEBOOK)
        candidate.trains = weight >= ENOUGH
        for points, what, _ in signs:
            candidate.plus(min(points, 2.0), what, source_line(path, 0, "in a code cell"))
        candidate.minus(3.0, "a script serves a batch job better than a notebook")
        _naming(candidate, path)
        yield candidate


def _launcher(sources: Sources, path: str, used: list[Documented]) -> Launcher:
    """The launcher that most documented commands use, else the one that the code is written for."""
    if used:
        counts: dict[Launcher, float] = defaultdict(float)
        for i, d in enumerate(used):
            counts[d.command.launcher] += 1 - 0.01 * min(i, 50)
        return max(counts, key=lambda k: counts[k])
    signs = {kind for m in sources.reached(path)[:8] for kind, _ in distributed_signs(m)}
    if "spawn" in signs:
        return Launcher.PYTHON
    if "deepspeed" in signs:
        return Launcher.DEEPSPEED
    if "accelerate" in signs:
        return Launcher.ACCELERATE
    return Launcher.TORCHRUN if signs & {"ddp", "fsdp"} else Launcher.PYTHON


def best_command(candidate: Candidate, sources: Sources, wishes: Wishes) -> Documented | None:
    """The documented command that fits the request best: its words, its GPUs, its launcher, options that exist."""

    def fit(d: Documented) -> float:
        points = 1.0 * len(words_of(f"{d.command.heading} {d.command.text} {d.command.where.file}") & wishes.words)
        points += 0.5 * (d.command.launcher is candidate.launcher)
        points -= 0.7 * len(unknown_flags(sources, candidate.path, d)) if candidate.path else 0.0
        if wishes.gpus is not None:
            several = d.command.launcher not in (Launcher.PYTHON, Launcher.CLI)
            points += 2 * (several == (wishes.gpus > 1))
        if wishes.model_name and wishes.model_name.lower() in d.command.text.lower():
            points += 2
        return points

    return max(candidate.commands, key=fit, default=None)


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


def entry_folder(candidate: Candidate) -> str:
    """The directory of the candidate's file from the root (`.` for the root itself)."""
    return dirname(candidate.path or "") or "."


def entry_modules(candidate: Candidate, sources: Sources) -> tuple[Module, ...]:
    """The parsed modules that run when the candidate is started, nearest first."""
    if candidate.path is None:
        return ()
    if candidate.launcher is Launcher.NOTEBOOK:
        return (read_module(candidate.path, code_of(sources.text(candidate.path) or "") or ""),)
    return sources.reached(candidate.path)
