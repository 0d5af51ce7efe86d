"""The commands that a repository documents, and which of its files each starts. Pure, over `Sources`.

A command is resolved against the files: as written from its own `cd`, from the document's directory, from the root.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from posixpath import basename, dirname, join, normpath
from typing import Final

from caravan.analysis.findings import Command
from caravan.analysis.makefile import recipes
from caravan.analysis.markdown import shell_blocks
from caravan.analysis.shell import read_commands
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import ASIDE, TRAIN_NAME
from caravan.values.repo import Launcher

MAX_DOCUMENTS: Final = 400
MAX_DOCUMENTED: Final = 10_000_000
"""Characters of all documents together in which commands are looked for."""
_DOCUMENT: Final = re.compile(r"(?i)(?:^|/)(?:[^/]*\.(?:md|rst)|readme[^/]*)$")
_SCRIPT: Final = re.compile(r"(?i)\.(?:sh|bash|slurm|sbatch)$")
_PLACE: Final = re.compile(r"[<${*\[]")


@dataclass(frozen=True, slots=True)
class Documented:
    """A command and the file that it starts (`path`), None when there is no such file. `cwd` is from the root."""

    command: Command
    path: str | None
    cwd: str


def documented(sources: Sources, scripts: Mapping[str, str]) -> list[Documented]:
    """The commands of all documents, scripts and recipes, README files first. `scripts`: console command → target."""
    found: list[Documented] = []
    read = 0
    for path in _documents(sources.paths):
        text = sources.text(path)
        if text is None:
            continue
        read += len(text)
        if read > MAX_DOCUMENTED and found:
            sources.note(f"commands were looked for in the first {MAX_DOCUMENTED // 1_000_000} MB of documents alone")
            break
        found += [_resolved(c, sources, scripts) for c in _commands(path, text) if _of_interest(c, scripts)]
    return found


def _documents(paths: Iterable[str]) -> list[str]:
    def order(path: str) -> tuple[bool, int, str]:
        return not basename(path).lower().startswith("readme"), path.count("/"), path

    kinds = (p for p in paths if _DOCUMENT.search(p) or _SCRIPT.search(p) or basename(p) == "Makefile")
    return sorted(kinds, key=order)[:MAX_DOCUMENTS]


def _commands(path: str, text: str) -> Iterator[Command]:
    if basename(path) == "Makefile":
        for recipe in recipes(text):
            yield from read_commands(recipe.text, path, first_line=recipe.line, heading=recipe.target)
    elif _SCRIPT.search(path):
        yield from read_commands(text, path)
    else:
        for block in shell_blocks(text):
            yield from read_commands(block.text, path, first_line=block.line, heading=block.heading)


def _of_interest(command: Command, scripts: Mapping[str, str]) -> bool:
    if command.kind != "console":
        return True
    words = command.target.split()
    return words[0] in scripts or (len(words) > 1 and bool(TRAIN_NAME.match(words[1])))


def _resolved(command: Command, sources: Sources, scripts: Mapping[str, str]) -> Documented:
    here = dirname(command.where.file) or "."
    bases = (".", here) if _SCRIPT.search(command.where.file) else (here, ".")
    if command.kind == "console":
        target = scripts.get(command.target.split()[0], "").partition(":")[0]
        return Documented(command, sources.names.get(target), _existing(normpath(join(bases[0], command.cwd)), sources))
    for base in dict.fromkeys(bases):
        for cwd in (normpath(join(base, command.cwd)), _existing(command.cwd, sources)):
            path = _file(command, cwd, sources)
            if path:
                return Documented(command, path, cwd)
    return Documented(command, None, here)


def _file(command: Command, cwd: str, sources: Sources) -> str | None:
    if command.kind == "module":
        stem = command.target if cwd == "." else f"{cwd.replace('/', '.')}.{command.target}"
        return next((p for s in (stem, f"{stem}.__main__") if (p := sources.names.get(s))), None)
    path = normpath(join(cwd, command.target))
    return path if path in sources.paths else None


def _existing(cwd: str, sources: Sources) -> str:
    """`cwd` without the leading parts that are no directory here (`cd the-clone`)."""
    parts = cwd.split("/")
    while parts and "/".join(parts) not in sources.folders:
        parts = parts[1:]
    return "/".join(parts) or "."


def stale(commands: Iterable[Documented]) -> list[Documented]:
    """Documented commands that start a training script which is not there."""
    return [
        d
        for d in commands
        if d.path is None
        and d.command.kind == "script"
        and d.command.launcher not in (Launcher.BASH, Launcher.NOTEBOOK)
        and TRAIN_NAME.search(basename(d.command.target))
        and not _PLACE.search(d.command.target)
        and not ASIDE.search(d.command.where.file)
    ]
