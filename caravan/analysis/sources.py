"""The repository's texts as the readers share them: read once, parsed once, within bounds. Opens nothing itself."""

import ast
from collections.abc import Callable, Iterable
from typing import Final

from caravan.analysis.findings import Module
from caravan.analysis.options import Parser, read_options
from caravan.analysis.python import imported_files, module_paths, read_module

MAX_PARSED: Final = 400
"""Python files that are parsed at most: the likeliest first, so that the time is bounded in any repository."""
MAX_REACHED: Final = 40
_MAX_DEPTH: Final = 3


class Sources:
    """Texts and parsed modules by path. `read` gives a file's text, or None for what can't be read."""

    def __init__(self, paths: Iterable[str], read: Callable[[str], str | None]) -> None:
        self.paths = frozenset(paths)
        self.folders = frozenset(p[:i] for p in self.paths for i, c in enumerate(p) if c == "/") | {".", ""}
        self.names = module_paths(frozenset(p for p in self.paths if p.endswith(".py")))
        self.notes: list[str] = []
        self._read = read
        self._texts: dict[str, str | None] = {}
        self._modules: dict[str, Module] = {}
        self._reached: dict[str, tuple[Module, ...]] = {}

    def text(self, path: str) -> str | None:
        """A file's text, or None."""
        if path not in self._texts:
            self._texts[path] = self._read(path) if path in self.paths else None
        return self._texts[path]

    def add(self, path: str, text: str) -> None:
        """Let a text that was made of a file (a notebook's code) stand for the file."""
        self._texts[path] = text

    def module(self, path: str) -> Module:
        """The parsed file; an empty module, and a note, for one that does not parse or is beyond the bound."""
        if path not in self._modules:
            if len(self._modules) >= MAX_PARSED:
                self.note(f"only {MAX_PARSED} Python files were parsed")
                return Module(path, error="not parsed")
            text = self.text(path)
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
        """The options of a script: its own parser's, else those of the nearest module that it imports."""
        modules = self.reached(path)

        def find(name: str) -> tuple[Module, ast.ClassDef] | None:
            return next(((m, m.classes[name]) for m in modules if name in m.classes), None)

        return next((p for m in modules if (p := read_options(m, find))), None)

    def note(self, text: str) -> None:
        """Keep a remark for the profile, once."""
        if text not in self.notes and len(self.notes) < 50:
            self.notes.append(text)
