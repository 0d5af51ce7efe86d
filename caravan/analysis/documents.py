"""The commands that a repository documents, and which of its files each starts. Pure, over `Sources`.

A command is resolved against the files: as written from its own `cd`, from the document's directory, from the root,
from the directories between them.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from posixpath import basename, dirname, join, normpath
from typing import Final

from caravan.analysis.findings import Command
from caravan.analysis.markdown import Block, shell_blocks
from caravan.analysis.notebooks import shell_of
from caravan.analysis.runners import is_runner, runner_blocks
from caravan.analysis.shell import read_commands
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import ASIDE, TRAIN_NAME
from caravan.values.repo import Launcher

MAX_DOCUMENTS: Final = 1500
MAX_DOCUMENTED: Final = 10_000_000
"""Characters of all documents together in which commands are looked for."""
_HEAD: Final = 6000
"""Characters at the front of a Python file that may say how it is started."""
_DOCUMENT: Final = re.compile(r"(?i)(?:^|/)(?:[^/]*\.(?:mdx?|rst|markdown|adoc)|readme[^/]*|usage\.txt|install\.txt)$")
_SCRIPT: Final = re.compile(r"(?i)\.(?:sh|bash|slurm|sbatch|sub|zsh)$")
_PLACE: Final = re.compile(r"[<${*\[]")
_SPEAKS: Final = re.compile(r"train|tune|python|torchrun|accelerate|deepspeed|\.sh\b|\bmake\b|\brun\b")
_CELL: Final = re.compile(r"\"\s*!|%%(?:ba)?sh")
_STARTED: Final = re.compile(r"(?:python3?|torchrun|accelerate launch|deepspeed)\s+[^\n]{0,200}?(?:\.py\b|-m\s+\w)")
_ROOT_VARIABLE: Final = re.compile(r"^(?:\$\{?\w+\}?|\$\([^()]*\)|<[\w -]+>|~|/path/to(?:/[\w-]+)??)/(?=.)")

_WEIGHTS: Final = {
    **{"readme": 1.0, "page": 0.8, "script": 0.7, "task": 0.8, "head": 0.6, "notebook": 0.5, "image": 0.5, "check": 0.2}
}


@dataclass(frozen=True, slots=True)
class Documented:
    """A command and the file that it starts (`path`), None when there is no such file. `cwd` is from the root.

    `kind` of the document: readme, page, script, task (of a runner), head (of the file itself), notebook, image, check
    (tests, continuous integration). `by`: the documented command that starts the script in which this one stands.
    """

    command: Command
    path: str | None
    cwd: str
    kind: str = "page"
    by: "Documented | None" = field(default=None, compare=False)

    @property
    def weight(self) -> float:
        """How much it counts that the command is documented there, from 0 to 1."""
        own = _WEIGHTS[self.kind] - 0.05 * min(4, self.command.where.file.count("/"))
        return max(own, self.by.weight - 0.05) if self.by else own

    @property
    def titles(self) -> str:
        """What names the command: the headings above it, the file in which it stands, what starts that file."""
        own = f"{self.command.heading} {self.command.where.file}"
        return f"{own} {self.by.command.heading} {self.by.command.text}" if self.by else own

    @property
    def words(self) -> str:
        """The text in which a request's words may be found: titles, the prose before it, the command itself."""
        own = f"{self.titles} {self.command.context} {self.command.text}"
        return f"{own} {self.by.command.context}" if self.by else own


_SENTENCE: Final = re.compile(r"(?m)^.*\s(?:\.\.\.|…)[ \t]+[A-Za-z]+[ \t]+[A-Za-z].*$")
"""A line that goes on in words where its command was cut short: it tells of the command, and is none."""


def documented(
    sources: Sources, scripts: Mapping[str, str], packages: Collection[str] = frozenset()
) -> list[Documented]:
    """The commands of all documents, scripts and tasks, README files first.

    `scripts`: console command → target. `packages`: what is installed, of which a console command may come.
    """
    found: list[Documented] = []
    read = 0
    for path, kind in _documents(sources.paths):
        text = sources.text(path)
        if text is None or not _SPEAKS.search(text) or (kind == "notebook" and not _CELL.search(text)):
            continue
        read += len(text)
        if read > MAX_DOCUMENTED and found:
            sources.note(f"commands were looked for in the first {MAX_DOCUMENTED // 1_000_000} MB of documents alone")
            break
        found += [_resolved(c, sources, scripts, kind) for c in _commands(path, text)]
    found += _heads(sources, scripts)
    tools = Counter(d.command.target.split()[0] for d in found if d.command.kind == "console")
    return _promoted([d for d in found if _of_interest(d, tools, scripts, packages)])


def _documents(paths: Iterable[str]) -> list[tuple[str, str]]:
    """(path, kind) of what may document commands: README files, pages, scripts, tasks, notebooks, then checks."""
    rows = []
    for path in paths:
        kind = _kind(path)
        if kind:
            last = ("check", "notebook").index(kind) + 1 if kind in ("check", "notebook") else 0
            rows.append((last, kind != "readme", path.count("/"), path, kind))
    return [(path, kind) for *_, path, kind in sorted(rows)[:MAX_DOCUMENTS]]


def _kind(path: str) -> str | None:
    name = basename(path).lower()
    kind = None
    if _DOCUMENT.search(path):
        kind = "readme" if name.startswith("readme") else "page"
    elif _SCRIPT.search(path):
        kind = "script"
    elif is_runner(path) and ("dockerfile" in name or "compose" in name):
        kind = "image"
    elif is_runner(path):
        kind = "task"
    elif name.endswith(".ipynb"):
        kind = "notebook"
    if kind and (re.search(r"(?:^|/)(?:\.\w|tests?/|ci/)", path) or name in ("tox.ini", "noxfile.py")):
        return "check"
    return kind


def _commands(path: str, text: str) -> Iterator[Command]:
    if _SCRIPT.search(path):
        yield from read_commands(text, path)
        return
    if path.endswith(".ipynb"):
        blocks = [Block(shell, 1, "") for shell in [shell_of(text)] if shell]
    else:
        blocks = runner_blocks(path, text) if is_runner(path) else shell_blocks(text)
    for block in blocks:
        yield from read_commands(block.text, path, first_line=block.line, heading=block.heading, context=block.context)


def _heads(sources: Sources, scripts: Mapping[str, str]) -> Iterator[Documented]:
    """What Python files say at their own front of how they are started."""
    for path in sorted(p for p in sources.paths if p.endswith(".py")):
        text = (sources.text(path) or "")[:_HEAD]
        stem = basename(path)[:-3]
        name = basename(dirname(path)) if stem.startswith("__") else stem
        if name in text and _STARTED.search(text):
            shell = re.sub(r"(?m)^[ \t]*#+ ?|^[ \t]*(?:[$>]\s+|\"\"\"|r?'''|Usage:|- )+", "", text)
            shell = _SENTENCE.sub("", shell)
            for command in read_commands(shell, path):
                if command.kind in ("script", "module") and command.launcher not in (Launcher.BASH, Launcher.NOTEBOOK):
                    found = _resolved(command, sources, scripts, "check" if ASIDE.search(path) else "head")
                    if found.path == path:
                        yield found


def _of_interest(
    found: Documented, tools: Mapping[str, int], scripts: Mapping[str, str], packages: Collection[str]
) -> bool:
    """Whether a console command is the repository's, or an installed tool's that is named after training."""
    command = found.command
    if command.kind != "console":
        return True
    words = command.target.split()
    if words[0] in scripts:
        return True
    if not any(TRAIN_NAME.match(w) for w in words[1:]):
        return False
    stem = re.split(r"[-_.]", words[0])[0].lower()
    if len(stem) > 2 and any(stem in p.lower() for p in packages):
        return True
    told = bool(command.args) and any(re.search(r"^-|[./=<]", a) for a in command.args)
    return told and tools.get(words[0], 0) > 1


def _promoted(found: list[Documented]) -> list[Documented]:
    """The commands of scripts that are documented themselves with the command that starts the script."""
    starts: dict[str, Documented] = {}
    for d in found:
        if not d.path or d.command.launcher is not Launcher.BASH or d.path == d.command.where.file:
            continue
        if d.path not in starts or d.weight > starts[d.path].weight:
            starts[d.path] = d
    return [replace(d, by=starts[d.command.where.file]) if d.command.where.file in starts else d for d in found]


def _resolved(command: Command, sources: Sources, scripts: Mapping[str, str], kind: str) -> Documented:
    here = dirname(command.where.file) or "."
    bases = [".", here] if _SCRIPT.search(command.where.file) else [here, "."]
    above = here
    while above not in (".", ""):
        above = dirname(above)
        bases.append(above or ".")
    if command.kind == "console":
        target = scripts.get(command.target.split()[0], "").partition(":")[0]
        cwd = _existing(normpath(join(here, command.cwd)), sources)
        return Documented(command, sources.names.get(target), cwd if kind in ("readme", "task") else ".", kind)
    for base in dict.fromkeys(bases):
        for cwd in (normpath(join(base, command.cwd)), _existing(command.cwd, sources)):
            path = _file(command, cwd, sources)
            if path:
                return Documented(command, path, cwd, kind)
    return _elsewhere(command, sources, here, kind)


def _elsewhere(command: Command, sources: Sources, here: str, kind: str) -> Documented:
    """A command whose file is not where it is said to be: the one file with that path's end; else a tool's module."""
    if command.kind == "script":
        tail = "/" + _ROOT_VARIABLE.sub("", command.target).lstrip("./")
        hits = [p for p in sources.tails.get(basename(tail), ()) if f"/{p}".endswith(tail)]
        if len(hits) == 1:
            return Documented(command, hits[0], hits[0][: -len(tail)] or ".", kind)
    if command.kind == "module":
        tail = "/" + command.target.replace(".", "/")
        named = [p for end in (".py", "/__main__.py") for p in sources.tails.get(basename(tail + end), ())]
        hits = [p for p in named if f"/{p}".endswith((f"{tail}.py", f"{tail}/__main__.py"))]
        if len(hits) == 1:
            cut = hits[0].removesuffix(".py").removesuffix("/__main__")
            return Documented(command, hits[0], cut[: -len(tail)] or ".", kind)
        if command.args and TRAIN_NAME.match(command.args[0]) and "." not in command.target:
            told = replace(command, kind="console", launcher=Launcher.CLI, target=f"{command.target} {command.args[0]}")
            return Documented(told, None, _existing(normpath(join(here, command.cwd)), sources), kind)
    return Documented(command, None, here, kind)


def _file(command: Command, cwd: str, sources: Sources) -> str | None:
    if command.kind == "module":
        stem = command.target if cwd == "." else f"{cwd.replace('/', '.')}.{command.target}"
        return next((p for s in (stem, f"{stem}.__main__") if (p := sources.names.get(s))), None)
    path = normpath(join(cwd, _ROOT_VARIABLE.sub("", command.target)))
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
