"""Options of `argparse` parsers and of their kin (ConfigArgParse, optparse): flags, defaults, subcommands. Pure.

Also those that helpers add: functions that hand their own arguments on to `add_argument`, loops over a mapping of
defaults or a dataclass's fields, an `add_argument` under another name.
"""

import ast
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from caravan.analysis.class_options import Fields, Spelling
from caravan.analysis.findings import Call, FoundOption, Module
from caravan.analysis.handed_defaults import loop_over_parameter, rows
from caravan.analysis.option_parts import choices_of, class_at, make, type_name
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.analysis.resolve import Definition, Functions, Resolver
from caravan.analysis.trainer_options import of_base
from caravan.analysis.walking import walk
from caravan.values.base import Json

_SWITCHES: Final = ("store_true", "store_false", "BooleanOptionalAction")
_KINDS: Final[Mapping[str, str]] = {"store_true": "on", "store_false": "off", "BooleanOptionalAction": "pair"}
_ADDS: Final = frozenset({"add_argument", "add_option", "add_arg"})
_PASSED: Final = re.compile(rf"\.(?:{'|'.join(sorted(_ADDS))})\b(?!\s*\()")
_MAX_ROUNDS: Final = 200
"""Options that one loop makes at most."""
_MAX_NESTED: Final = 20
"""Functions before a line among which the one around it is looked for."""
_MANY: Final = 4
"""Calls with a flag among their arguments from which they are taken for a table of options."""
_BRINGS: Final[Mapping[str, str]] = {
    "add_argparse_args": "Trainer",  # Lightning 1's `Trainer.add_argparse_args(parser)`
    "add_config_arguments": "deepspeed",
}


@dataclass(frozen=True, slots=True)
class _Adder:
    """A function that hands a parameter on as a flag: its position, the text put before it, the default's parameter."""

    position: int
    parameter: str
    before: str
    after: str
    default: int | None
    dashes: bool


def read_argparse(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """The options that a module adds to parsers, in the order of its lines."""
    if not _touches(module):
        return
    reader = _Reader(module, resolver)
    yield from reader.options()


def read_registry(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """Options that stand in a table: calls like `Field(arg="--lr", default=1e-3, help="…")`, several in a module."""
    rows = [(c.node, flag) for c in module.calls if c.last not in _ADDS and (flag := _flag_given(c.node))]
    if len(rows) < _MANY:
        return
    for node, flag in rows:
        default = keyword(node, "default", "default_value")
        value = resolver.value(module, default) if default is not None else None
        kind = type_name(keyword(node, "type")) or (type(value).__name__ if value is not None else None)
        said = text_of(keyword(node, "help", "help_text", "description", "doc"), module)
        yield make(module, node, (flag,), default=value, type=kind, help=said)


def _flag_given(node: ast.Call) -> str | None:
    """The first text like `--flag` among a call's keyword arguments."""
    texts = (text_of(k.value) for k in node.keywords if k.arg and isinstance(k.value, ast.Constant))
    return next((t for t in texts if t and re.fullmatch(r"--[a-z][\w-]{1,60}", t)), None)


def adds_options(module: Module) -> bool:
    """Whether the module adds an option to a parser."""
    return any(c.last in _ADDS or c.last in _BRINGS for c in module.calls)


def _touches(module: Module) -> bool:
    known = any(i.module.split(".")[0] in ("argparse", "configargparse", "jsonargparse") for i in module.imports)
    return known or adds_options(module)


class _Reader:
    def __init__(self, module: Module, resolver: Resolver) -> None:
        self.module, self.resolver = module, resolver
        self.functions = sorted(module.functions.values(), key=lambda f: f.lineno)
        self.starts = [f.lineno for f in self.functions]
        self.defaults = _set_defaults(module)
        self.loops = _loops(module)
        self.commands = _subcommands(module)
        self.aliases = _aliases(module)
        self.adders = _adders(module)

    def options(self) -> Iterator[FoundOption]:
        for call in self.module.calls:
            node = call.node
            if call.last in _BRINGS:
                yield from of_base(self.module, _BRINGS[call.last])
            elif found := self._of_class(call) or self._of_mapping(call):
                yield from found
            elif call.last in self.adders:
                for adder in self.adders[call.last]:
                    yield from self._by_helper(node, adder)
            elif node.args and (call.last in _ADDS or call.name in self.aliases):
                yield from self._added(call)
            elif node.args and call.last == "add" and (text_of(node.args[0]) or "").startswith("-"):
                yield from self._added(call)  # ConfigArgParse's short form

    def _of_class(self, call: Call) -> list[FoundOption]:
        """The fields of a class that is handed to code of the repository which adds an option for each."""
        given = [n for a in call.node.args[:3] if (n := self._class_name(a)).rpartition(".")[2][:1].isupper()]
        maker = self.resolver.find(self.module, call.name) if given and call.last not in _ADDS else None
        if maker is None or isinstance(maker.node, ast.Assign | ast.AnnAssign):
            return []
        texts = _adding(self.resolver, maker)
        spelling = Spelling(dashes="'-'" in texts, nested=False, command=self._command(call.node))
        return list(Fields(self.resolver, spelling).of_class(self.module, given[0])) if texts else []

    def _class_name(self, node: ast.expr) -> str:
        """A class by its name, or one with annotated fields by a call that makes one of it (`Settings()`)."""
        if not isinstance(node, ast.Call):
            return dotted(node)
        name = dotted(node.func)
        found = self.resolver.class_of(self.module, name) if name.rpartition(".")[2][:1].isupper() else None
        return name if found and any(isinstance(s, ast.AnnAssign) for s in found[1].body) else ""

    def _of_mapping(self, call: Call) -> list[FoundOption]:
        """The items of a mapping of defaults that is handed to a function which adds an option for each."""
        if len(call.node.args) < 2 or call.last in _ADDS:
            return []
        maker = self.resolver.function_of(self.module, call.name)
        loop = loop_over_parameter(maker[1]) if maker else None
        if maker is None or loop is None or loop.position >= len(call.node.args):
            return []
        adds = [n for n in walk(loop.loop) if isinstance(n, ast.Call) and dotted(n.func).rpartition(".")[2] in _ADDS]
        names = [t.id for t in walk(loop.loop.target) if isinstance(t, ast.Name)]
        around = self.module.functions.get(self._function_at(call.node) or "")
        if not adds or not adds[0].args or not names:
            return []
        found = rows(self.resolver, self.module, around, call.node.args[loop.position])
        flags = [(flag, value) for name, value in found if (flag := _filled(adds[0].args[0], {names[0]: name}))]
        return [self._option(call.node, (flag,), value) for flag, value in flags]

    def _added(self, call: Call) -> Iterator[FoundOption]:
        flags = tuple(f for f in (text_of(a, self.module) for a in call.node.args) if f)
        if flags:
            yield self._option(call.node, flags)
        elif loop := self.loops.get(id(call.node)):
            yield from self._in_loop(call.node, loop)

    def _option(self, node: ast.Call, flags: tuple[str, ...], default: Json = None) -> FoundOption:
        module, given = self.module, keyword(node, "default")
        action = text_of(keyword(node, "action")) or dotted(keyword(node, "action") or node).rsplit(".", 1)[-1]
        value = self.resolver.value(module, given) if given is not None and default is None else default
        kind = type_name(keyword(node, "type"))
        if action in _SWITCHES:
            kind = "bool"
            if given is None and action != "BooleanOptionalAction":
                value = action == "store_false"
        found = make(
            module,
            node,
            flags,
            command=self._command(node),
            default=value,
            type=kind,
            switch=_KINDS.get(action),
            required=value_of(keyword(node, "required")) is True or _is_needed_positional(node, flags),
            choices=choices_of(self.resolver.value(module, keyword(node, "choices"))),
            help=text_of(keyword(node, "help"), module),
        )
        destination = text_of(keyword(node, "dest")) or found.option.flag.lstrip("-").replace("-", "_")
        if destination in self.defaults:
            option = found.option.model_copy(update={"default": self.defaults[destination]})
            return replace(found, option=option)
        return found

    def _command(self, node: ast.Call) -> str:
        owner = dotted(node.func).rpartition(".")[0]
        rows = self.commands.get((owner, self._function_at(node))) if self.commands else None
        if rows is None and self.commands and owner.startswith("self."):  # another method of the same class made it
            rows = self.commands.get((owner, class_at(self.module, node)))
        before = [row for row in rows or () if row[0] <= node.lineno]
        helped = {command for line, command in before if line == 0}
        return "" if len(helped) > 1 or not before else max(before)[1]  # a helper of several adds to all

    def _function_at(self, node: ast.AST) -> str | None:
        """The innermost function around the node."""
        at = bisect_right(self.starts, getattr(node, "lineno", 0)) - 1
        for function in self.functions[max(0, at - _MAX_NESTED) : at + 1][::-1]:
            if getattr(node, "lineno", 0) <= (function.end_lineno or 0):
                return function.name
        return None

    def _by_helper(self, node: ast.Call, adder: _Adder) -> Iterator[FoundOption]:
        given = keyword(node, adder.parameter)
        if given is None and adder.position < len(node.args):
            given = node.args[adder.position]
        name = text_of(given, self.module)
        if name and len(name) < 100:
            flag = f"{adder.before}{name.replace('_', '-') if adder.dashes else name}{adder.after}"
            has_default = adder.default is not None and adder.default < len(node.args)
            default = value_of(node.args[adder.default], self.module) if has_default and adder.default else None
            yield self._option(node, (flag,), default)

    def _in_loop(self, node: ast.Call, loop: ast.For) -> Iterator[FoundOption]:
        """The options of `for name, default in DEFAULTS.items(): parser.add_argument(f"--{name}", default=default)`."""
        names = [t.id for t in walk(loop.target) if isinstance(t, ast.Name)]
        for row in list(self._rows(loop.iter))[:_MAX_ROUNDS]:
            values = dict(zip(names, row, strict=False))
            flag = _filled(node.args[0], values)
            if flag:
                given = keyword(node, "default")
                named = dotted(given) if given is not None else ""
                default = values.get(named.split(".")[0]) if named.split(".")[0] != names[0] else None
                if named.endswith(".default") and len(row) > 1:  # a dataclass's field
                    default = row[1]
                yield self._option(node, (flag,), default)

    def _rows(self, node: ast.expr) -> Iterator[tuple[Json, ...]]:
        """What a loop goes through: (name, default) of a mapping or of a dataclass's fields, the items of a list."""
        inner = node
        if isinstance(node, ast.Call):
            last = dotted(node.func).rpartition(".")[2]
            if last in ("fields", "get_type_hints", "signature") and node.args:
                yield from self._fields(dotted(node.args[0]))
                return
            if last in ("items", "keys", "values") and isinstance(node.func, ast.Attribute):
                inner = node.func.value
                if dotted(inner).endswith("__dataclass_fields__"):
                    yield from self._fields(dotted(inner).rpartition(".")[0])
                    return
            elif node.args:
                inner = node.args[0]
        value = self.resolver.value(self.module, inner)
        if isinstance(value, dict):
            yield from value.items()
        elif isinstance(value, list):
            yield from (tuple(v) if isinstance(v, list) else (v,) for v in value)

    def _fields(self, name: str) -> Iterator[tuple[Json, ...]]:
        found = self.resolver.class_of(self.module, name)
        for statement in found[1].body if found else ():
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and found:
                default = statement.value
                if isinstance(default, ast.Call):
                    default = keyword(default, "default")
                yield statement.target.id, value_of(default, found[0])


def _adding(resolver: Resolver, maker: Definition, depth: int = 0) -> str:
    """The texts in a function or class that adds options (its own, else a base's), as one; empty when it adds none."""
    nodes = list(walk(maker.node))
    if any(isinstance(n, ast.Call) and dotted(n.func).rpartition(".")[2] in _ADDS for n in nodes):
        return " ".join(repr(n.value) for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    for base in maker.node.bases if isinstance(maker.node, ast.ClassDef) and depth < 3 else ():
        found = resolver.find(maker.module, dotted(base))
        if found and (texts := _adding(resolver, found, depth + 1)):
            return texts
    return ""


def _set_defaults(module: Module) -> dict[str, Json]:
    return {
        k.arg: value_of(k.value, module)
        for call in module.calls
        if call.last == "set_defaults"
        for k in call.node.keywords
        if k.arg
    }


def _is_needed_positional(node: ast.Call, flags: tuple[str, ...]) -> bool:
    return not flags[0].startswith("-") and value_of(keyword(node, "nargs")) not in ("?", "*")


def _functions(module: Module) -> Iterator[tuple[str | None, list[ast.stmt]]]:
    yield None, list(module.constants.values())
    for name, function in module.functions.items():
        yield name, function.body


def _assignments(module: Module) -> Iterator[tuple[str | None, str, ast.expr]]:
    """(function, name, value) of simple assignments anywhere in functions and at the top, in order."""
    for function, body in _functions(module):
        for statement in body:
            for node in walk(statement):
                if isinstance(node, ast.Assign) and len(node.targets) == 1 and (name := dotted(node.targets[0])):
                    yield function, name, node.value


def _aliases(module: Module) -> set[str]:
    """Names that stand for the method that adds an option (`add = parser.add_argument`)."""
    if not any(_PASSED.search(line) for line in module.lines):
        return set()
    return {n for _, n, v in _assignments(module) if isinstance(v, ast.Attribute) and v.attr in _ADDS}


def _subcommands(module: Module) -> dict[tuple[str, str | None], list[tuple[int, str]]]:
    """(variable, function) → (line, subcommand), for what `add_parser("name")` gives; also as a helper's parameter."""
    found: dict[tuple[str, str | None], list[tuple[int, str]]] = defaultdict(list)
    made = [c for c in module.calls if c.last == "add_parser"]
    if not made:
        return found
    names = {id(c.node): text_of(c.node.args[0], module) or "" for c in made if c.node.args}
    for function, variable, value in _assignments(module):
        if id(value) in names:
            place = class_at(module, value) if variable.startswith("self.") else function
            found[variable, place].append((value.lineno, names[id(value)]))
    for call in module.calls:
        helper = module.functions.get(call.last)
        for i, argument in enumerate(call.node.args if helper else ()):
            before = [r for (n, _), rows in found.items() if n == dotted(argument) for r in rows if r[0] <= call.line]
            command = names.get(id(argument)) or (max(before)[1] if before else "")
            if helper and command and i < len(helper.args.args):
                found[helper.args.args[i].arg, helper.name].append((0, command))
    return found


def _loops(module: Module) -> dict[int, ast.For]:
    """id of a call that adds an option in a loop's body → the loop."""
    found: dict[int, ast.For] = {}
    for loop in module.loops:
        for node in walk(loop):
            if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _ADDS:
                found[id(node)] = loop
    return found


def _adders(module: Module) -> dict[str, list[_Adder]]:
    """The module's functions that hand one of their parameters on as a flag."""
    found: dict[str, list[_Adder]] = defaultdict(list)
    for name, function in module.functions.items():
        if name in _ADDS:
            continue
        for node in walk(function):
            if isinstance(node, ast.Call) and node.args and dotted(node.func).rpartition(".")[2] in _ADDS:
                adder = _handed_on(function, node)
                if adder:
                    found[name].append(adder)
    return found


def _handed_on(function: Functions, node: ast.Call) -> _Adder | None:
    pieces = _pieces(node.args[0])
    names = [a.arg for a in function.args.args]
    places = [i for i, (_, name) in enumerate(pieces) if name.rstrip("-") in names]
    if len(places) != 1:
        return None
    at = places[0]
    before, after = ("".join(t for t, _ in part) for part in (pieces[:at], pieces[at + 1 :]))
    parameter = pieces[at][1].rstrip("-")
    own = 1 if names[:1] == ["self"] else 0
    given = keyword(node, "default")
    default = names.index(dotted(given)) - own if given is not None and dotted(given) in names else None
    return _Adder(names.index(parameter) - own, parameter, before, after, default, pieces[at][1].endswith("-"))


def _pieces(node: ast.expr, depth: int = 0) -> list[tuple[str, str]]:
    """The (text, name) pieces of `"--" + name`, `f"--{name}"` or `name`; the name of anything else is `?`.

    A name whose underscores are made dashes ends in `-`.
    """
    if depth > 20:
        return [("", "?")]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _pieces(node.left, depth + 1) + _pieces(node.right, depth + 1)
    if isinstance(node, ast.JoinedStr):
        return [p for v in node.values[:8] for p in _pieces(v, depth + 1)]
    if isinstance(node, ast.FormattedValue):
        return _pieces(node.value, depth + 1)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [(node.value, "")]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # name.replace("_", "-")
        dashes = node.func.attr == "replace" and [text_of(a) for a in node.args] == ["_", "-"]
        return [("", (dotted(node.func.value).removesuffix(".name") or "?") + "-" * dashes)]
    return [("", dotted(node).removesuffix(".name") or "?")]


def _filled(node: ast.expr, values: Mapping[str, Json]) -> str:
    """The flag with a loop's values put in; empty where a piece is not known."""
    whole = ""
    for text, name in _pieces(node):
        value = values.get(name.rstrip("-")) if name else None
        if name and not isinstance(value, str):
            return ""
        whole += (str(value).replace("_", "-") if name.endswith("-") else str(value)) if name else text
    return whole if len(whole) < 100 else ""
