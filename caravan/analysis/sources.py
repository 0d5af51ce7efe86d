"""The repository's texts as the readers share them: read once, parsed once, within bounds. Opens nothing itself."""

import re
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Final

from caravan.analysis.argparse_options import adds_options
from caravan.analysis.findings import Module
from caravan.analysis.option_parts import once
from caravan.analysis.options import Parser, read_options
from caravan.analysis.python import imported_files, module_paths, read_module
from caravan.analysis.resolve import Resolver
from caravan.analysis.training import training_signs
from caravan.values.repo import SourceLine

MAX_READ: Final = 100_000_000
"""Characters of all texts that are read and kept together."""
MAX_PARSED: Final = 400
"""Python files that are parsed at most: the likeliest first, so that the time is bounded in any repository."""
MAX_PARSED_TEXT: Final = 20_000_000
"""Characters of Python text that are parsed together; a syntax tree takes a hundred times as much memory."""
MAX_REACHED: Final = 25
_MAX_DEPTH: Final = 3
_MAX_DEEP: Final = 80
_MAX_DEPTH_DEEP: Final = 7
_ABOUT_OPTIONS: Final = re.compile(r"(?:^|[/_])(?:h?arg|option|pars|h?param|conf|cmd|cli|setting)[^/]*|/__init__\.py$")
_SPREAD: Final = ("argparse", "absl")
"""Parsers to which many files add options."""
_MAX_TEXTS: Final = 600
_TEXTS: Final = (".md", ".rst", ".sh", ".yaml", ".yml", ".toml", ".gin", ".txt")


class Sources:
    """Texts and parsed modules by path. `read` gives a file's text, or None for what can't be read."""

    def __init__(self, paths: Iterable[str], read: Callable[[str], str | None]) -> None:
        self.paths = frozenset(paths)
        self.folders = frozenset(p[:i] for p in self.paths for i, c in enumerate(p) if c == "/") | {".", ""}
        self.tails: dict[str, list[str]] = {}
        for path in sorted(self.paths):
            self.tails.setdefault(path.rpartition("/")[2], []).append(path)
        self.names = module_paths(frozenset(p for p in self.paths if p.endswith(".py")))
        self.notes: list[str] = []
        self._read = read
        self._texts: dict[str, str | None] = {}
        self._modules: dict[str, Module] = {}
        self._kept = self._parsed = 0
        self._reached: dict[str, tuple[Module, ...]] = {}
        self._signs: dict[str, list[tuple[float, str, SourceLine]]] = {}
        self._parsers: dict[str, Parser | None] = {}
        self._own: dict[str, Parser | None] = {}
        self._deep: dict[str, Parser | None] = {}
        self.resolver = Resolver(self.names, self.module, self.reached)

    def text(self, path: str) -> str | None:
        """A file's text, or None; also None, with a note, beyond the bound."""
        if path not in self._texts:
            if self._kept > MAX_READ:
                self.note(f"only the first {MAX_READ // 1_000_000} MB of text were read")
                return None
            self._texts[path] = text = self._read(path) if path in self.paths else None
            self._kept += len(text or "")
        return self._texts[path]

    def add(self, path: str, text: str) -> None:
        """Let a text that was made of a file (a notebook's code) stand for the file."""
        self._texts[path] = text

    def module(self, path: str) -> Module:
        """The parsed file; an empty module, and a note, for one that does not parse or is beyond the bound."""
        if path not in self._modules:
            text = self.text(path)
            if len(self._modules) >= MAX_PARSED or self._parsed > MAX_PARSED_TEXT:
                self.note(f"only {len(self._modules)} Python files were parsed")
                return Module(path, error="not parsed")
            self._parsed += len(text or "")
            module = Module(path, error="not readable") if text is None else read_module(path, text)
            if module.error and text is not None:
                self.note(module.error)
            self._modules[path] = module
        return self._modules[path]

    def reached(self, path: str) -> tuple[Module, ...]:
        """The module and the repository's own modules that it imports, directly or not, nearest first; bounded."""
        if path not in self._reached:
            found: dict[str, Module] = {path: self.module(path)}
            edge = [path]
            for _ in range(_MAX_DEPTH):
                edge = [p for e in edge for p, _ in imported_files(found[e], self.names) if p not in found]
                for p in dict.fromkeys(edge):
                    if len(found) < MAX_REACHED:
                        found[p] = self.module(p)
                edge = [p for p in dict.fromkeys(edge) if p in found]
            self._reached[path] = tuple(found.values())
        return self._reached[path]

    def parser(self, path: str) -> Parser | None:
        """The options of a script: of its own parser and of the modules that it imports."""
        if path not in self._parsers:
            self._parsers[path] = self._parser(self.reached(path))
        return self._parsers[path]

    def deep_parser(self, path: str) -> Parser | None:
        """`parser`; where that is none, the first parser among all that the script imports, likeliest first."""
        if path not in self._deep:
            self._deep[path] = self.parser(path)  # what a module finds that imports itself
            self._deep[path] = self._look_deep(path, self._deep[path])
        return self._deep[path]

    def _look_deep(self, path: str, near: Parser | None) -> Parser | None:
        if near is not None and near.style != "argv":
            return near
        seen = {path}
        queue: list[tuple[bool, int, int, str]] = [(False, 0, 0, path)]
        for _ in range(_MAX_DEEP):
            if not queue:
                break
            _, depth, _, here = heappop(queue)
            module = self.module(here)
            found = self._own_parser(module) if here != path else None
            if found is None and here != path and adds_options(module):  # of a table that stands elsewhere
                found = self.deep_parser(here)
            if found and found.style != "argv" and _is_used(found, module):
                return self.deep_parser(here)
            for target, item in imported_files(module, self.names):
                if target not in seen and depth < _MAX_DEPTH_DEEP:
                    seen.add(target)
                    heappush(queue, (not _ABOUT_OPTIONS.search(target), depth + 1, item.line, target))
        return near

    def signs(self, module: Module) -> list[tuple[float, str, SourceLine]]:
        """The module's signs of training (`training_signs`)."""
        if module.path not in self._signs:
            self._signs[module.path] = training_signs(module)
        return self._signs[module.path]

    def own_names(self) -> frozenset[str]:
        """What the repository calls itself: its packages at the top and under `src`, and its README's first title."""
        tops = {name.split(".")[0] for name in self.names if "." in name}
        readme = next((p for p in sorted(self.paths) if p.lower() in ("readme.md", "readme.rst", "readme")), None)
        title = re.search(r"^#\s+(.{1,80})$", (self.text(readme) or "") if readme else "", re.MULTILINE)
        return frozenset(tops | set(re.findall(r"[\w.-]+", title[1]) if title else ()))

    def texts_near(self, path: str) -> list[str]:
        """Documents, scripts and configurations, those of the path's own directory first, and the path itself."""
        folder = path.rpartition("/")[0]

        def order(other: str) -> tuple[bool, bool, int, str]:
            return other.rpartition("/")[0] != folder, not other.lower().endswith(".md"), other.count("/"), other

        near = sorted((p for p in self.paths if p.endswith(_TEXTS)), key=order)
        return ([path, *near] if path else near)[:_MAX_TEXTS]

    def _own_parser(self, module: Module) -> Parser | None:
        """The parser that a module makes itself; its dataclasses may stand in modules that it imports."""
        if module.path not in self._own:
            self._own[module.path] = read_options(module, self.resolver)
        return self._own[module.path]

    def _parser(self, modules: Sequence[Module]) -> Parser | None:
        """The nearest module's parser; those that add to one parser from many files are put together."""
        entry = modules[0]
        found = [(m, p) for m in modules if (p := self._own_parser(m))]
        found = [f for f in found if f[1].style != "argv"] or found[
            :1
        ]  # a parser is better than texts that look like flags
        if not found:
            return None
        style = found[0][1].style
        if style not in _SPREAD:
            return found[0][1]
        # Scripts let imported helpers add options to their parser, so those count too, after the script's own; but
        # not what a helper's own main guard adds, for that does not run.
        options = (
            o
            for m, p in found
            if p.style == style
            for o in p.options
            if m is entry or m.main_line is None or o.where.line < m.main_line
        )
        return Parser(style, tuple(once(options)))

    def note(self, text: str) -> None:
        """Keep a remark for the profile, once."""
        if text not in self.notes and len(self.notes) < 50:
            self.notes.append(text)


def _is_used(parser: Parser, module: Module) -> bool:
    """Whether a module that is imported makes its parser for others: not only below its own main guard."""
    first = module.main_line
    return first is None or any(o.where.line < first or o.where.file != module.path for o in parser.options)
