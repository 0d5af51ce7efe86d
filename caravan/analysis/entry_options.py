"""The options of a chosen entry: of a Python file, a compiled program, a script, a console command. Pure."""

import re
from collections.abc import Iterator, Sequence
from posixpath import basename, dirname, join, normpath
from typing import Final

from caravan.analysis.documents import Documented
from caravan.analysis.notebooks import parameters_of
from caravan.analysis.options import Parser, read_parameters
from caravan.analysis.program_options import ENDINGS, program_parser
from caravan.analysis.prompt import words_of
from caravan.analysis.python import read_module
from caravan.analysis.settings import named_files
from caravan.analysis.sources import Sources
from caravan.analysis.vocabulary import HYPERPARAMETERS, plain

_MAX_TRIED: Final = 12
_FEW: Final = 3
"""Key hyperparameters below which a command's own parser is taken for one that only passes its words on."""


def entry_parser(
    path: str | None, entry_point: str, sources: Sources, commands: Sequence[Documented] = ()
) -> Parser | None:
    """The parser of the file that an entry starts. `commands`: what documents and scripts start, for scripts."""
    if path is None:
        return None
    if path.endswith(ENDINGS):
        return program_parser(path, sources)
    if path.endswith(".py"):
        own = sources.deep_parser(path)
        return own if knows(own) >= _FEW else _of_subcommand(path, entry_point, sources, own)
    if path.endswith(".ipynb") and (cell := parameters_of(sources.text(path) or "")):
        return read_parameters(read_module(path, cell))
    started = (d.path for d in commands if d.command.where.file == path and d.path and d.path != path)
    for inner in list(dict.fromkeys(p for p in started if p.endswith((".py", *ENDINGS))))[:_MAX_TRIED]:
        found = program_parser(inner, sources) if inner.endswith(ENDINGS) else sources.deep_parser(inner)
        if knows(found):
            return found
    return None


def configured_elsewhere(
    path: str | None,
    parser: Parser | None,
    sources: Sources,
    commands: Sequence[Documented],
    asked: frozenset[str] = frozenset(),
) -> list[str]:
    """Configurations that other documented commands name beside the entry, for one whose own options say little.

    Of several commands the one counts that the words `asked` speak of most.
    """
    if path is None or knows(parser) >= _FEW:
        return []
    for d in sorted(commands, key=lambda d: -len(words_of(d.command.text) & asked)):
        beside = any(normpath(join(d.cwd, word)) == path for word in d.command.args)
        if (d.path == path or beside) and (found := named_files(d, sources, path)):
            return found
    return []


def knows(parser: Parser | None) -> int:
    """For how many key hyperparameters the parser has an option of a usual name."""
    if parser is None:
        return 0
    known = {plain(n).rsplit(".", 1)[-1].lower() for o in parser.options for n in o.names()}
    return sum(bool(known & set(names)) for names in HYPERPARAMETERS.values())


def _of_subcommand(path: str, entry_point: str, sources: Sources, own: Parser | None) -> Parser | None:
    """For `tool sub` whose own parser passes its words on: the parser of the package's file that is called `sub`."""
    sub = entry_point.split()[1:2]
    best = own
    for inner in _called(sub[0], path, sources) if sub and re.fullmatch(r"[a-z][\w-]*", sub[0]) else ():
        found = sources.deep_parser(inner)
        if knows(found) > knows(best):
            best = found
    return best


def _called(sub: str, path: str, sources: Sources) -> Iterator[str]:
    name = sub.replace("-", "_")
    top = path.split("/")[0] if not path.startswith("src/") else "/".join(path.split("/")[:2])
    here = (p for p in sources.paths if p.startswith(f"{top}/") and p.endswith(".py"))
    hits = [p for p in here if basename(p) in (f"{name}.py", f"train_{name}.py", f"{name}_train.py")]
    yield from sorted(hits, key=lambda p: (not re.search(r"scripts?|cli|commands?", dirname(p)), p.count("/"), p))[
        :_MAX_TRIED
    ]
