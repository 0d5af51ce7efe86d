"""What trains without being a Python file: console commands, compiled programs, shell scripts. Pure, over `Sources`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from posixpath import basename, dirname, join, normpath
from typing import Final

from caravan.analysis.candidate import Candidate
from caravan.analysis.documents import Documented
from caravan.analysis.findings import source_line
from caravan.analysis.kinds import named_kinds
from caravan.analysis.scripts import ENOUGH, documentation, naming, signs
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import TRAIN_NAME
from caravan.values.repo import Launcher, SourceLine

NATIVE: Final = (".c", ".cc", ".cpp", ".cxx", ".cu")
"""Endings of the source files of compiled programs."""
_RULE: Final = r"(?m)^{name}\s*:(?!=)\s*(.*)$"
_EXECUTABLE: Final = r"add_executable\s*\(\s*{name}\s+([^)]*)\)"
_CALLED: Final = re.compile(r"(?<!\w)(?:torch::)?([A-Za-z_]\w{2,80})\s{0,3}\(")
_NATIVE: Final = (
    (2.0, "computes gradients", re.compile(r"(?i)backward|backprop")),
    (2.0, "steps an optimizer", re.compile(r"(?i)adamw?|sgd|optimi[sz]er|_update$|^step$")),
)
_SAVES: Final = re.compile(r"(?i)^fwrite$|^save$|(?:save|write|store).*(?:checkpoint|model|weights|state)")
_MAX_SHELL: Final = 60


def console_candidates(
    sources: Sources, commands: Sequence[Documented], scripts: Mapping[str, str]
) -> Iterator[Candidate]:
    """Console commands: documented ones, and those of the repository that nothing documents."""
    used: dict[str, list[Documented]] = defaultdict(list)
    for d in commands:
        if d.command.kind == "console":
            used[d.command.target].append(d)
    for target, mine in used.items():
        yield _console(sources, target, mine, scripts)
    spoken = {target.split()[0] for target in used}
    for name in scripts:
        if name not in spoken:
            yield _console(sources, name, [], scripts)


def _console(sources: Sources, target: str, used: list[Documented], scripts: Mapping[str, str]) -> Candidate:
    """A console command: one of the repository's own, or a documented `tool train …` of an installed package."""
    name, _, sub = target.partition(" ")
    own = name in scripts
    module = sources.names.get(scripts.get(name, "").partition(":")[0])
    candidate = Candidate(target, module, Launcher.CLI, used)
    speaks = bool(TRAIN_NAME.search(sub or target)) or (own and bool(named_kinds(sub)))
    weight = 0.0
    if module:
        weight = signs(candidate, sources, module, speaks) + sum(w for w, _, _ in sources.signs(sources.module(module)))
    candidate.trains = speaks if sub or module is None else (speaks and weight > 0) or weight >= ENOUGH
    documentation(candidate)
    if speaks:
        candidate.plus(1.5, "its command is named after training")
        if own:
            candidate.plus(max(1.0, 4.0 - min(4.0, weight)), "is a console command of the repository")
            if any(d.weight >= 0.9 for d in used):
                candidate.plus(2.0, "is what the README starts")
    if not own and name in {n.partition(".")[0] for n in sources.names}:
        candidate.minus(4.0, f"the repository's package {name} installs no such command")
    elif not own:
        candidate.minus(1.0, "the command comes from another package")
    return candidate


def native_candidates(sources: Sources, commands: Sequence[Documented]) -> Iterator[Candidate]:
    """Programs that are compiled from C, C++ or CUDA in the repository, and the commands that start them."""
    used: dict[str, list[Documented]] = defaultdict(list)
    for d in commands:
        if d.command.kind == "binary":
            used[basename(d.command.target)].append(d)
    for name, mine in used.items():
        found = _compiled_from(name, sources)
        if found is None:
            continue
        path, rule = found
        mine = [replace(d, path=path, cwd=dirname(rule.file) or ".") for d in mine]
        text = sources.text(path) or ""
        launcher = max(mine, key=lambda d: (d.weight, d.command.launcher is Launcher.CLI)).command.launcher
        candidate = Candidate(mine[0].command.target, path, launcher, mine)
        candidate.tool = next((d.command.tool for d in mine if d.command.tool), "")
        for points, what, pattern in _NATIVE:
            hit = next((m for m in _CALLED.finditer(text) if pattern.search(m[1])), None)
            if hit:
                candidate.plus(points, what, source_line(path, text.count("\n", 0, hit.start()) + 1, hit[0]))
        candidate.trains = candidate.score >= ENOUGH
        candidate.plus(0.5, "is compiled", rule)
        if _mostly_native(sources):
            candidate.plus(2.0, "the repository is written in C, C++ or CUDA for the most part")
        else:
            candidate.minus(2.0, "the repository is written in Python for the most part")
        documentation(candidate)
        naming(candidate, name)
        yield candidate


def saves(text: str) -> bool:
    """Whether a compiled program's source calls something that saves."""
    return any(_SAVES.search(m[1]) for m in _CALLED.finditer(text))


def _mostly_native(sources: Sources) -> bool:
    """Whether more of the files are in C, C++ or CUDA than in Python."""
    native = sum(p.endswith((*NATIVE, ".h", ".hpp", ".cuh")) for p in sources.paths)
    return native > sum(p.endswith(".py") for p in sources.paths)


def _compiled_from(name: str, sources: Sources) -> tuple[str, SourceLine] | None:
    """(source file, the rule that compiles it) of a program."""
    makefiles = [p for end in ("Makefile", "makefile", "CMakeLists.txt") for p in sources.tails.get(end, ())]
    for makefile in makefiles[:50]:
        text = sources.text(makefile) or ""
        for pattern in (_RULE, _EXECUTABLE):
            rule = re.search(pattern.format(name=re.escape(name)), text)
            words = rule[1].split() if rule else []
            for word in words:
                path = normpath(join(dirname(makefile), word))
                if word.endswith(NATIVE) and path in sources.paths and rule:
                    return path, source_line(makefile, text.count("\n", 0, rule.start()) + 1, rule[0])
    for ending in NATIVE:
        same = sources.tails.get(name + ending, ())
        if len(same) == 1:
            return same[0], source_line(same[0], 0)
    return None


def shell_candidates(sources: Sources, commands: Sequence[Documented], known: Iterable[str]) -> Iterator[Candidate]:
    """Shell scripts named after training that start none of the `known` files: they are all that says how to train."""
    files = set(known)
    inside: dict[str, list[Documented]] = defaultdict(list)
    used: dict[str, list[Documented]] = defaultdict(list)
    for d in commands:
        inside[d.command.where.file].append(d)
        if d.path and d.command.launcher is Launcher.BASH:
            used[d.path].append(d)
    named = sorted(p for p in sources.paths if p.endswith((".sh", ".bash", ".slurm", ".sbatch")))
    for path in [p for p in named if TRAIN_NAME.search(basename(p)) or p in used][:_MAX_SHELL]:
        starts = [d for d in inside.get(path, ()) if d.command.kind not in ("prepare",) and d.path != path]
        if any(d.path in files for d in starts):
            continue
        candidate = Candidate(path, path, Launcher.BASH, used.get(path, []))
        speaks = bool(TRAIN_NAME.search(basename(path)))
        candidate.says_so = bool(starts) and speaks
        documentation(candidate)
        naming(candidate, path)
        for d in starts[:3]:
            candidate.plus(0.3, f"starts {d.command.target}", d.command.where)
        yield candidate
