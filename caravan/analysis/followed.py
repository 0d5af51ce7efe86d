"""What an expression in an entry's code stands for: followed through variables, parameters, classes and documents.

`from_pretrained(cfg.model.name)` says a model when `cfg` is a class with defaults, a dictionary, or a YAML file that
the code loads, here or in a module that it imports. What may be one of several values is none. Pure, over an `Entry`;
nothing is run.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from posixpath import dirname, join, normpath
from typing import Any, Final

from caravan.analysis.bindings import arguments, assigned, bound, class_around, keys, last_line, parameters
from caravan.analysis.configs import load
from caravan.analysis.entry import UNFILLED, Entry, pairs
from caravan.analysis.findings import Call, Module
from caravan.analysis.python import dotted, keyword, value_of
from caravan.analysis.resolve import Functions
from caravan.analysis.settings import resolved
from caravan.analysis.vocabulary import plain
from caravan.analysis.walking import walk
from caravan.values.base import Json

_MAX_DEPTH: Final = 14
_MAX_STEPS: Final = 200
"""Expressions looked at for one answer: code can lead in circles."""
_MAX_CALLERS: Final = 20
_READ_NEAR: Final = 8
"""Lines between `with open(path) as file:` and what is read from that file."""
_LOADS: Final = frozenset({"safe_load", "full_load", "load", "unsafe_load", "read_text", "load_yaml", "read_yaml"})
_READER: Final = re.compile(r"(?i)load|read|parse|open|^from_")
_WRAPS: Final = frozenset(
    (
        *("Namespace", "SimpleNamespace", "EasyDict", "AttrDict", "DotMap", "Munch", "Box", "DictConfig", "edict"),
        *("create", "dict", "munchify", "structured", "to_container", "deepcopy", "resolve", "Path", "str", "abspath"),
        *("expanduser", "realpath", "fspath", "strip", "absolute"),
    )
)
"""Calls that hand on what they are given, as a document or as a path."""
_DOCUMENT: Final = re.compile(r"(?i)\.(?:ya?ml|json|toml)$")
_FIELDS: Final = frozenset({"field", "Field", "attrib", "ib"})


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: its module, its function, and what a caller gives to that function."""

    module: Module
    function: Functions | None = None
    given: Mapping[str, "tuple[ast.expr, Scope]"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Made:
    """An instance of a class of the repository, or that class, with what its constructor was given."""

    module: Module
    node: ast.ClassDef
    given: Mapping[str, tuple[ast.expr, Scope]]


@dataclass(slots=True)
class Followed:
    """Follows the expressions of one entry."""

    entry: Entry
    _steps: int = 0
    _calls: dict[str, list[tuple[Module, Call]]] = field(default_factory=dict)
    _assignments: dict[int, dict[str, list[ast.expr]]] = field(default_factory=dict)
    _functions: dict[str, list[Functions]] = field(default_factory=dict)
    _known: dict[tuple[int, str], Any] = field(default_factory=dict)

    def text(self, node: ast.expr | None, module: Module) -> str | None:
        """The text that an expression of that module stands for, None where it is none or can't be known."""
        value = self.value(node, module)
        return value if isinstance(value, str) and "${" not in value else None

    def value(self, node: ast.expr | None, module: Module) -> Json:
        """Any value that an expression of that module stands for."""
        if node is None or self.entry.sources is None:
            return value_of(node, module)
        self._steps = 0
        found = self._follow(node, Scope(module, self._around(module, node)), 0)
        return None if isinstance(found, _Made) else found

    def _follow(self, node: ast.expr, scope: Scope, depth: int) -> Any:
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            return None
        match node:
            case ast.Name():
                return self._name(node.id, scope, depth + 1)
            case ast.Attribute():
                return self._attribute(node, scope, depth + 1)
            case ast.Subscript():
                return self._item(self._follow(node.value, scope, depth + 1), value_of(node.slice), node, depth)
            case ast.Call():
                return self._call(node, scope, depth + 1)
        return self._put_together(node, scope, depth)

    def _put_together(self, node: ast.expr, scope: Scope, depth: int) -> Any:
        """A text, path or dictionary of parts, one of several values, or a literal."""
        match node:
            case ast.JoinedStr():
                parts = [self._follow(p, scope, depth + 1) for p in node.values]
                return "".join(parts) if all(isinstance(p, str) for p in parts) else None
            case ast.FormattedValue():
                return self._follow(node.value, scope, depth + 1)
            case ast.BoolOp():
                return next((v for n in node.values if (v := self._follow(n, scope, depth + 1)) is not None), None)
            case ast.IfExp():
                return self._one([node.body, node.orelse], scope, depth)
            case ast.BinOp(op=ast.Div() | ast.Add()):
                sides = [self._follow(side, scope, depth + 1) for side in (node.left, node.right)]
                if not all(isinstance(s, str) for s in sides):
                    return value_of(node, scope.module)
                return normpath(join(*sides)) if isinstance(node.op, ast.Div) else "".join(sides)
            case ast.Dict():
                keys = [value_of(k) for k in node.keys]
                return {str(k): self._follow(v, scope, depth + 1) for k, v in zip(keys, node.values, strict=True)}
        return value_of(node, scope.module)

    def _one(self, nodes: list[ast.expr], scope: Scope, depth: int) -> Any:
        """The one value that all of them give, as far as they give any."""
        found: list[Any] = []
        for node in nodes[:20]:
            value = self._follow(node, scope, depth + 1)
            if value is not None and value not in found:
                found.append(value)
        return found[0] if len(found) == 1 else None

    def _name(self, name: str, scope: Scope, depth: int) -> Any:
        if scope.function is not None:
            assigned = self._values_in(scope.function).get(name, [])
            if assigned:
                return self._one(assigned, scope, depth)
            if name in parameters(scope.function):
                return self._parameter(name, scope.function, scope, depth)
        statement = scope.module.constants.get(name)
        if statement is not None and statement.value is not None:
            return self._follow(statement.value, Scope(scope.module), depth)
        return self._elsewhere(name, scope, depth)

    def _elsewhere(self, name: str, scope: Scope, depth: int) -> Any:
        """What a (dotted) name stands for that another module defines, or a class of this one."""
        found = self.entry.sources.resolver.find(scope.module, name) if self.entry.sources else None
        if found is None:
            return None
        if isinstance(found.node, ast.ClassDef):
            return _Made(found.module, found.node, {})
        if isinstance(found.node, ast.Assign | ast.AnnAssign) and found.node.value is not None:
            return self._follow(found.node.value, Scope(found.module), depth)
        return None

    def _parameter(self, name: str, function: Functions, scope: Scope, depth: int) -> Any:
        """What callers give to a parameter, else its default, else an instance of the class that it is said to be."""
        if name in scope.given:
            node, where = scope.given[name]
            return self._follow(node, where, depth)
        key = (id(function), name)
        if key not in self._known:
            self._known[key] = None  # while it is looked for: code can lead in circles
            self._known[key] = self._free(name, scope.module, function, depth)
        return self._known[key]

    def _free(self, name: str, home: Module, function: Functions, depth: int) -> Any:
        """A parameter for which no caller was followed so far."""
        scope = Scope(home)
        owner = class_around(home, function)
        called = owner.name if owner and function.name == "__init__" else function.name
        given: list[Any] = []
        for module, call in self._called(called)[:_MAX_CALLERS] if name not in ("self", "cls") else ():
            own = owner is not None or "." not in call.name
            if own and name in (given_to := bound(function, call.node)):
                inner = Scope(module, self._around(module, call.node))
                value = self._follow(given_to[name], inner, depth) if inner.function is not function else None
                if value is not None and value not in given:
                    given.append(value)
        if given:
            return given[0] if len(given) == 1 else None
        if any(plain(n) == name for o in self.entry.options for n in o.names()):  # fire, click, typer
            return self._set((name,))
        default = parameters(function).get(name)
        if default is not None and (value := self._follow(default, scope, depth)) is not None:
            return value
        if name == "self" and owner:
            return _Made(home, owner, {})
        kind = next((a.annotation for a in arguments(function) if a.arg == name), None)
        made = self._elsewhere(dotted(kind), scope, depth) if kind is not None and dotted(kind) else None
        return made if isinstance(made, _Made) else None

    def _called(self, name: str) -> list[tuple[Module, Call]]:
        """The calls of that name in the entry's modules."""
        if not self._calls:
            for module in self.entry.modules:
                for call in module.calls:
                    self._calls.setdefault(call.last, []).append((module, call))
        return self._calls.get(name, [])

    def _around(self, module: Module, node: ast.expr) -> Functions | None:
        """The innermost function around an expression."""
        functions = self._functions.get(module.path)
        if functions is None:
            methods = (f for c in module.classes.values() for f in c.body if isinstance(f, Functions))
            every = {id(f): f for f in (*module.functions.values(), *methods)}.values()
            functions = self._functions[module.path] = sorted(every, key=lambda f: -f.lineno)
        return next((f for f in functions if f.lineno <= node.lineno <= last_line(f)), None)

    def _values_in(self, function: Functions) -> dict[str, list[ast.expr]]:
        """`name` or `self.name` → what a function assigns to it."""
        if id(function) not in self._assignments:
            found: dict[str, list[ast.expr]] = {}
            for target, value in assigned(function):
                found.setdefault(target, []).append(value)
            self._assignments[id(function)] = found
        return self._assignments[id(function)]

    def _attribute(self, node: ast.Attribute, scope: Scope, depth: int) -> Any:
        if node.attr == "parent":
            return value_of(node, scope.module)
        name = dotted(node)
        found = self._elsewhere(name, scope, depth) if name and not name.startswith((".", "self.")) else None
        if found is not None:
            return found
        return self._item(self._follow(node.value, scope, depth), node.attr, node, depth)

    def _item(self, base: Any, key: Json, node: ast.expr, depth: int) -> Any:
        """A part of what was found: a field of a class, a key of a document; else what the user's command sets so."""
        if isinstance(base, _Made) and isinstance(key, str):
            return self._member(base, key, depth + 1)
        if isinstance(base, dict):
            return base.get(str(key))
        if isinstance(base, list) and isinstance(key, int) and -len(base) <= key < len(base):
            return base[key]
        return self._set(keys(node)) if base is None else None

    def _set(self, keys: tuple[str, ...]) -> Json:
        """What the documented command, its configurations and the parser's defaults say for `args.a` or `cfg.a.b`."""
        if not keys:
            return None
        whole = ".".join(keys)
        entry = self.entry
        for key, value in pairs(entry.documented.command) if entry.documented else ():
            if plain(key) == whole and not UNFILLED.search(value):
                return value
        for values in entry.configs.values():
            if (said := values.get(whole)) is not None:
                return said
        defaults = (o.option.default for o in entry.options if any(plain(n) == whole for n in o.names()))
        return next((d for d in defaults if d is not None), None)

    def _member(self, made: _Made, name: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            return None
        if name in made.given:
            node, where = made.given[name]
            return self._follow(node, where, depth)
        scope = Scope(made.module)
        for statement in made.node.body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            if isinstance(target, ast.Name) and target.id == name and isinstance(statement, ast.Assign | ast.AnnAssign):
                return self._field(statement, scope, depth)
        for method in made.node.body:
            if not isinstance(method, ast.FunctionDef):
                continue
            inner = Scope(made.module, method, made.given if method.name == "__init__" else {})
            assigned = self._values_in(method).get(f"self.{name}", [])
            if assigned and (value := self._one(assigned, inner, depth)) is not None:
                return value
        for base in made.node.bases:
            above = self._elsewhere(dotted(base), scope, depth) if dotted(base) else None
            if isinstance(above, _Made) and above.node is not made.node:
                found = self._member(_Made(above.module, above.node, made.given), name, depth + 1)
                if found is not None:
                    return found
        return None

    def _field(self, statement: ast.Assign | ast.AnnAssign, scope: Scope, depth: int) -> Any:
        """A class's own value for a name: a literal, a field's default, or an instance of the class of the field."""
        node = statement.value
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _FIELDS:
            made = keyword(node, "default_factory")
            node = (
                made.body if isinstance(made, ast.Lambda) else keyword(node, "default") or next(iter(node.args), made)
            )
        value = self._follow(node, scope, depth) if node is not None else None
        if value is None and isinstance(statement, ast.AnnAssign) and dotted(statement.annotation):
            made_of = self._elsewhere(dotted(statement.annotation), scope, depth)
            return made_of if isinstance(made_of, _Made) else None
        return value

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> Any:
        name = dotted(node.func)
        last = name.rpartition(".")[2]
        first = node.args[0] if node.args else None
        if name in ("os.getenv", "getenv", "os.environ.get", "environ.get"):
            return self._follow(node.args[1], scope, depth) if len(node.args) > 1 else None
        if last == "get" and isinstance(node.func, ast.Attribute) and first is not None:
            base = self._follow(node.func.value, scope, depth)
            found = self._item(base, value_of(first), node, depth)
            return found if found is not None or len(node.args) < 2 else self._follow(node.args[1], scope, depth)
        if last == "join" and name != ".join":
            parts = [self._follow(a, scope, depth) for a in node.args]
            return normpath(join(*parts)) if parts and all(isinstance(p, str) for p in parts) else None
        own = self._own(node, name, scope, depth) if name and not name.startswith(".") else None
        if own is not None:
            return own
        if last in _LOADS:
            return self._document(first if first is not None else getattr(node.func, "value", None), scope, depth)
        if last == "loads" and isinstance(first, ast.Call) and isinstance(first.func, ast.Attribute):
            return self._document(first.func.value, scope, depth)
        if last in _WRAPS:
            inner = first if first is not None else next((k.value for k in node.keywords if k.arg is None), None)
            if inner is not None:
                return self._follow(inner, scope, depth)
            if node.keywords:
                return {k.arg: self._follow(k.value, scope, depth) for k in node.keywords if k.arg}
            return self._follow(node.func.value, scope, depth) if isinstance(node.func, ast.Attribute) else None
        return self._document(first, scope, depth) if first is not None and _READER.search(last) else None

    def _own(self, node: ast.Call, name: str, scope: Scope, depth: int) -> Any:
        """What a call of the repository's own class makes, or of its own function gives back."""
        found = self.entry.sources.resolver.find(scope.module, name) if self.entry.sources else None
        if found is None:
            return None
        if isinstance(found.node, ast.ClassDef):
            start = next((f for f in found.node.body if isinstance(f, Functions) and f.name == "__init__"), None)
            passed = bound(start, node) if start else {k.arg: k.value for k in node.keywords if k.arg}
            return _Made(found.module, found.node, {k: (v, scope) for k, v in passed.items()})
        if not isinstance(found.node, Functions):
            return None
        inner = Scope(found.module, found.node, {k: (v, scope) for k, v in bound(found.node, node).items()})
        results = [n.value for n in walk(found.node) if isinstance(n, ast.Return) and n.value is not None]
        return self._one(results, inner, depth)

    def _document(self, node: ast.expr | None, scope: Scope, depth: int) -> Any:
        """The configuration in a file that is opened here, as nested values."""
        node = _opened(node, scope)
        path = self._follow(node, scope, depth) if node is not None else None
        if not isinstance(path, str) or not _DOCUMENT.search(path) or self.entry.sources is None:
            return None
        folders = (self.entry.cwd, dirname(scope.module.path) or ".", ".")
        hit = resolved(path, self.entry.sources, folders)
        text = self.entry.sources.text(hit) if hit else None
        if hit is None or text is None:
            return None
        try:
            return load(hit, text)
        except ValueError:
            return None


def _opened(node: ast.expr | None, scope: Scope) -> ast.expr | None:
    """The path of what is opened: `open(x)`, `Path(x).open()`, or of the `with open(x) as f` just above for `f`."""
    if isinstance(node, ast.Name):
        last = last_line(scope.function) if scope.function else 1 << 30
        first = scope.function.lineno if scope.function else 0
        near = [
            c.node
            for c in scope.module.calls
            if c.last == "open" and first <= c.line <= min(node.lineno, last) and node.lineno - c.line <= _READ_NEAR
        ]
        return _opened(near[-1], scope) if near else node
    if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in ("open", "read_text", "read"):
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        return node.args[0] if node.args and not isinstance(owner, ast.Call) else owner
    return node
