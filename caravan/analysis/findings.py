"""What the readers of one kind of evidence hand to those who combine it: frozen facts with their file and line."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from caravan.values.base import Json
from caravan.values.repo import Launcher, ScriptOption, SourceLine


def source_line(file: str, line: int, text: str = "") -> SourceLine:
    """A place in a file; its text on one line, shortened to what a `SourceLine` holds."""
    return SourceLine(file=file, line=max(0, line), text=clean(" ".join(text.split()))[:300])


def clean(text: str) -> str:
    """The text without lone surrogates (a literal can spell them) makes them), which no file or terminal can take."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Found:
    """A profile field's value with the places that say so and how sure they make it; a value of None is "not said"."""

    value: Json = None
    confidence: float = 0.0
    evidence: tuple[SourceLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Import:
    """An import: `module` as written (without dots), the names taken from it, the number of leading dots.

    `bound`: the names that it binds here, one for each of `names` (for `import a.b as c` the single `c`).
    """

    module: str
    names: tuple[str, ...]
    level: int
    line: int
    bound: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call by a dotted name (`wandb.log`, `.backward` when it is called on an expression)."""

    name: str
    node: ast.Call
    last: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        """Keep the name's last part: every reader asks for it."""
        object.__setattr__(self, "last", self.name.rpartition(".")[2])

    @property
    def line(self) -> int:
        """The line on which the call begins."""
        return self.node.lineno


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file as parsed. `error` says why it could not be parsed; then everything else is empty."""

    path: str
    lines: tuple[str, ...] = ()
    imports: tuple[Import, ...] = ()
    calls: tuple[Call, ...] = ()
    functions: Mapping[str, ast.FunctionDef | ast.AsyncFunctionDef] = field(default_factory=dict)
    classes: Mapping[str, ast.ClassDef] = field(default_factory=dict)
    constants: Mapping[str, ast.Assign | ast.AnnAssign] = field(default_factory=dict)
    subscripts: tuple[ast.Subscript, ...] = ()
    strings: tuple[ast.Constant, ...] = ()
    loops: tuple[ast.For, ...] = ()
    attributes: tuple[ast.Assign, ...] = ()
    whiles: tuple[ast.While, ...] = ()
    main_line: int | None = None
    runs_at_top: int | None = None
    error: str | None = None

    def at(self, line: int) -> SourceLine:
        """The place of a line of this file."""
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return source_line(self.path, line, text)


@dataclass(frozen=True, slots=True)
class FoundOption:
    """A parser's option, all its spellings and where it is declared."""

    option: ScriptOption
    flags: tuple[str, ...]
    where: SourceLine
    command: str = ""  # the subcommand that takes it; empty: the program itself, or all of them
    source: str = ""  # the configuration file whose key it is, when no option of the command line takes it

    def names(self) -> frozenset[str]:
        """The spellings without dashes, with underscores; a variable's (`$LR`) in lower case."""
        return frozenset(f[1:].lower() if f.startswith("$") else f.lstrip("-").replace("-", "_") for f in self.flags)


@dataclass(frozen=True, slots=True)
class Command:
    """A documented command. `target`: a script or a program as written, a module after `-m`, a console command's words.

    `kind`: script, module, console, binary (a program that is there or is compiled), or prepare (fetches, compiles).
    `cwd` is the directory from the repository's root in which it is meant to run; `text` is the whole command as it
    would be typed there, on one line. `heading` is the nearest one, `context` the headings above it and the words
    before it; `tool` starts the target where no launcher of ours does (`mpirun`); `scheduler` holds what a batch
    script asks for (`gpus` and `gpus_per_node`, `nodes`), as written there.
    """

    launcher: Launcher
    target: str
    kind: str
    launcher_args: tuple[str, ...]
    args: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str
    text: str
    where: SourceLine
    heading: str = ""
    context: str = ""
    tool: str = ""
    scheduler: Mapping[str, str] = field(default_factory=dict)

    def value(self, *names: str) -> str | None:
        """The value given to one of the options named (dashes and underscores alike), or None."""
        wanted = {n.replace("-", "_") for n in names}
        for i, word in enumerate(self.args):
            key, equals, value = word.partition("=")
            if key.lstrip("-+").replace("-", "_") not in wanted or not (key.startswith("-") or equals):
                continue
            if equals:
                return value
            following = self.args[i + 1] if i + 1 < len(self.args) else ""
            return None if following.startswith("--") else following or None
        return None

    def launcher_value(self, *names: str) -> str | None:
        """The value of one of the launcher's own options, or None."""
        for i, word in enumerate(self.launcher_args):
            key, equals, value = word.partition("=")
            if key.lstrip("-").replace("-", "_") in {n.replace("-", "_") for n in names}:
                following = self.launcher_args[i + 1] if i + 1 < len(self.launcher_args) else None
                return value if equals else following
        return None

    def given_flags(self) -> tuple[tuple[str, Json], ...]:
        """(flag, value) of the long options in the command; True for one without a value."""
        found: list[tuple[str, Json]] = []
        for i, word in enumerate(self.args):
            if word.startswith("--") and len(word) > 2:
                key, equals, value = word.partition("=")
                following = self.args[i + 1] if i + 1 < len(self.args) else "--"
                found.append((key, value if equals else True if following.startswith("--") else following))
        return tuple(found)
