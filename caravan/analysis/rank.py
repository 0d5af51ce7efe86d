"""Which file trains: candidates with their score, what speaks for and against each, the best first.

Pure, over `Sources` and documented commands. There is no table of repositories here: only what files say.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from posixpath import basename, join, normpath

from caravan.analysis.candidate import Candidate
from caravan.analysis.documents import Documented
from caravan.analysis.fitting import fit
from caravan.analysis.launch import unknown_flags
from caravan.analysis.programs import console_candidates, native_candidates, shell_candidates
from caravan.analysis.prompt import Wishes
from caravan.analysis.scripts import notebook_candidates, script_candidates
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import TRAIN_NAME


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
    for d in commands:
        if d.path and d.path.endswith(".py") and d.command.kind in ("script", "module"):
            by_path[d.path].append(d)
            handed = _handed(d, sources)
            if handed:
                by_path[handed].append(d)
    found = script_candidates(sources, by_path, wishes, chosen)
    found += console_candidates(sources, commands, scripts)
    found += native_candidates(sources, commands)
    found += notebook_candidates(sources)
    found += shell_candidates(sources, commands, {c.path for c in found if c.trains and c.path})
    _submitted(found, sources)
    believed = [c for c in found if c.trains] or [c for c in found if c.says_so]
    # What only says that it trains counts where nothing in the repository is seen to.
    trains = [c for c in found if c in believed or c.entry_point == chosen]
    for candidate in trains:
        _stale(candidate, sources)
        _opens(candidate, sources, wishes)
    fit(trains, wishes, _packages(sources))
    return sorted(trains, key=lambda c: (c.entry_point != chosen, -round(c.score, 6), c.entry_point))


def _submitted(found: Sequence[Candidate], sources: Sources) -> None:
    """What a submitter starts is what trains: the documented script that it imports, where there is one."""
    scripts = {c.python: c for c in found if c.python and c.commands}
    for candidate in found:
        module = sources.module(candidate.python) if candidate.python else None
        if module is None or not any(i.module.split(".")[0] == "submitit" for i in module.imports):
            continue
        paths = {sources.names.get(i.module) for i in module.imports}
        inner = next((c for p, c in scripts.items() if p in paths and c is not candidate), None)
        if inner is not None and candidate.trains:
            inner.trains = True
            candidate.minus(3.0, f"submits {inner.entry_point}, which can be started itself")


def _opens(candidate: Candidate, sources: Sources, wishes: Wishes) -> None:
    """For a script that opens the very file that the request names."""
    name = basename(wishes.dataset or "")
    module = sources.module(candidate.python) if candidate.python and "." in name else None
    hit = next((n for n in module.strings if str(n.value).rpartition("/")[2] == name), None) if module else None
    if hit is not None and module is not None:
        candidate.plus(1.0, f"names {name}, as the request does", module.at(hit.lineno))


def _handed(d: Documented, sources: Sources) -> str | None:
    """The training script that a launcher of the repository's own is given (`python start.py train.py conf.yml`)."""
    first = d.command.args[0] if d.command.args else ""
    path = normpath(join(d.cwd, first))
    return path if first.endswith(".py") and path in sources.paths and TRAIN_NAME.search(basename(path)) else None


def _packages(sources: Sources) -> list[str]:
    """The folders of the outermost packages."""
    inits = {path.removesuffix("/__init__.py") for path in sources.tails.get("__init__.py", ()) if "/" in path}
    inits |= {folder for folder in sources.folders if folder.startswith("src/") and folder.count("/") == 1}
    return sorted(folder for folder in inits if folder.rpartition("/")[0] not in inits)


def _stale(candidate: Candidate, sources: Sources) -> None:
    if candidate.commands and candidate.python:
        unknown = unknown_flags(sources, candidate.python, candidate.commands[0])
        if unknown:
            shown = ", ".join(unknown[:4])
            candidate.minus(0.5, f"the documented command uses options that it doesn't have: {shown}")
