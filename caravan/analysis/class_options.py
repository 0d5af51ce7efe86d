"""Options that parsers make of a class's fields: dataclasses, pydantic models, the parameters of `__init__`. Pure.

How a field's name becomes a flag is the parser's habit (`Spelling`): flat or dotted, with dashes or underscores.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.option_parts import (
    annotated_calls,
    choices_of,
    class_names,
    literal_choices,
    make,
    parameters,
    type_name,
)
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.analysis.resolve import Functions, Resolver
from caravan.analysis.trainer_options import BASES, of_base, original
from caravan.values.base import Json

_MAX_DEPTH: Final = 6
_MAX_ENTERED: Final = 400
"""Classes that are entered for one parser, each as often as it is used: classes of classes grow without bound."""
_FIELD_CALLS: Final = ("field", "Field", "attrib", "ib", "list_field", "mutable_field", "choice", "flag", "arg", "Arg")
_PLAIN: Final = frozenset(
    {"str", "int", "float", "bool", "list", "dict", "tuple", "set", "Any", "Path", "None", "type"}
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a parser spells the flag of a field. `nested`: fields of fields are dotted, else they stand flat."""

    before: str = "--"
    dashes: bool = False
    nested: bool = True
    command: str = ""

    def flag(self, path: tuple[str, ...]) -> str:
        """`("train", "batch_size")` → `--train.batch_size`."""
        name = ".".join(path) if self.nested else path[-1]
        return self.before + (name.replace("_", "-") if self.dashes else name)


@dataclass(frozen=True, slots=True)
class Fields:
    """Reads fields as options for one parser."""

    resolver: Resolver
    spelling: Spelling
    entered: list[str] = field(default_factory=list, compare=False)

    def of_class(
        self,
        module: Module,
        name: str,
        path: tuple[str, ...] = (),
        given: Mapping[str, ast.expr] | None = None,
        depth: int = 0,
    ) -> Iterator[FoundOption]:
        """The options of a class and of its bases. `given`: arguments of the call that makes its default."""
        if len(self.entered) > _MAX_ENTERED:
            return
        self.entered.append(name)
        found = self.resolver.class_of(module, name) if depth < _MAX_DEPTH else None
        if found is None:
            yield from self._of_known_base(module, name.rpartition(".")[2], path)
            return
        owner, node = found
        after = zip(node.body, [*node.body[1:], None], strict=True)
        fields = [(s, a) for s, a in after if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
        inits = [s for s in node.body if isinstance(s, Functions) and s.name == "__init__"]
        if inits and not fields:
            yield from self.of_function(owner, inits[0], path, depth)
        for statement, following in fields:
            yield from self._field(owner, statement, following, path, given or {}, depth)
        for base in node.bases:
            inherited = dotted(base.value if isinstance(base, ast.Subscript) else base)
            last = inherited.rpartition(".")[2]
            if original(owner, last) in BASES or (last and last != node.name):
                yield from self.of_class(owner, inherited, path, given, depth + 1)

    def of_function(
        self, module: Module, function: Functions, path: tuple[str, ...] = (), depth: int = 0
    ) -> Iterator[FoundOption]:
        """The options that a function's parameters are."""
        helps = _documented(function)
        for argument, default in parameters(function):
            here = (*path, argument.arg)
            nested = list(self._nested(module, argument.annotation, default, here, depth))
            yield from nested or [
                make(
                    module,
                    argument,
                    (self.spelling.flag(here),),
                    command=self.spelling.command,
                    default=self.resolver.value(module, default),
                    type=type_name(argument.annotation),
                    required=default is None,
                    choices=literal_choices(argument.annotation),
                    help=helps.get(argument.arg),
                )
            ]

    def _of_known_base(self, module: Module, name: str, path: tuple[str, ...]) -> Iterator[FoundOption]:
        for found in of_base(module, name):
            flag = self.spelling.flag((*path, found.option.flag.removeprefix("--")))
            yield replace(
                found,
                option=found.option.model_copy(update={"flag": flag}),
                flags=(flag,),
                command=self.spelling.command,
            )

    def _nested(
        self, module: Module, annotation: ast.expr | None, default: ast.expr | None, path: tuple[str, ...], depth: int
    ) -> Iterator[FoundOption]:
        """The options of the classes that an annotation (else a default that is a call) names."""
        given = {k.arg: k.value for k in default.keywords if k.arg} if isinstance(default, ast.Call) else {}
        for name in [*class_names(annotation), *([dotted(default.func)] if isinstance(default, ast.Call) else [])]:
            last = name.rpartition(".")[2]
            if last in _PLAIN or depth >= _MAX_DEPTH:
                continue
            found = self.resolver.find(module, name)
            known = original(module, last) in BASES
            if known or (found and isinstance(found.node, ast.ClassDef) and _is_record(found.node)):
                flat = any(text_of(keyword(c, "name")) == "*" for c in annotated_calls(annotation))
                yield from self.of_class(module, name, path[:-1] if flat else path, given, depth + 1)
                return

    def _field(
        self,
        module: Module,
        statement: ast.AnnAssign,
        following: ast.stmt | None,
        path: tuple[str, ...],
        given: Mapping[str, ast.expr],
        depth: int,
    ) -> Iterator[FoundOption]:
        name = statement.target.id if isinstance(statement.target, ast.Name) else ""
        if type_name(statement.annotation) in ("ClassVar", "classvar", "KW_ONLY") or name.startswith("_"):
            return
        default = given.get(name) or statement.value
        described = statement.value if _is_field_call(statement.value) else None
        if described is not None and name not in given:
            default = _default_of(described)
        nested = list(self._nested(module, statement.annotation, default, (*path, name), depth))
        if nested:
            yield from nested
            return
        notes = _notes(module, described)
        calls = list(annotated_calls(statement.annotation))
        yield make(
            module,
            statement,
            (self.spelling.flag((*path, name)), *_aliases(described, self.spelling)),
            command=self.spelling.command,
            default=self.resolver.value(module, default),
            type=type_name(statement.annotation),
            required=default is None and (described is None or not _has_default(described)),
            choices=choices_of(notes.get("choices")) or literal_choices(statement.annotation),
            help=notes.get("help")
            or next((h for c in calls if (h := text_of(keyword(c, "help", "description"), module))), None)
            or _said_beside(module, statement, following),
        )


def _is_record(node: ast.ClassDef) -> bool:
    """Whether a class holds settings: it has annotated fields, and it is no enumeration."""
    bases = {dotted(b).rpartition(".")[2] for b in node.bases}
    return not bases & {"Enum", "StrEnum", "IntEnum", "Protocol"} and (
        any(isinstance(s, ast.AnnAssign) for s in node.body) or bool(bases & set(BASES))
    )


def _is_field_call(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _FIELD_CALLS


def _default_of(node: ast.expr) -> ast.expr | None:
    """The default in `field(default=…)`, `Field(…, …)` or what a `default_factory` gives."""
    if not isinstance(node, ast.Call):
        return node
    given = keyword(node, "default") or (node.args[0] if node.args else None)
    if given is None and (factory := keyword(node, "default_factory")):
        if isinstance(factory, ast.Lambda):
            return factory.body
        name = dotted(factory)
        empty = {"list": ast.List(elts=[], ctx=ast.Load()), "dict": ast.Dict(keys=[], values=[])}
        made = empty.get(name) or ast.Call(func=factory, args=[], keywords=[])
        return ast.copy_location(ast.fix_missing_locations(made), factory)
    if isinstance(given, ast.Constant) and given.value is ...:
        return None
    return given


def _has_default(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _default_of(node) is not None


def _notes(module: Module, described: ast.expr | None) -> Mapping[str, Json]:
    """Help and choices in a field's call: `metadata={"help": …}`, `help=…`, `description=…`."""
    if not isinstance(described, ast.Call):
        return {}
    metadata = value_of(keyword(described, "metadata", "json_schema_extra"), module)
    notes = dict(metadata) if isinstance(metadata, dict) else {}
    said = text_of(keyword(described, "help", "description"), module)
    return {**notes, "help": notes.get("help") or notes.get("description") or said}


def _aliases(described: ast.expr | None, spelling: Spelling) -> tuple[str, ...]:
    if not isinstance(described, ast.Call):
        return ()
    of_variables = ("validation_alias", "env") if spelling.before == "$" else ()
    value = value_of(keyword(described, *of_variables, "alias", "aliases"))
    names = value if isinstance(value, list) else [value]
    return tuple(n if n.startswith("-") else f"{spelling.before}{n}" for n in names if isinstance(n, str) and n)


def _said_beside(module: Module, statement: ast.AnnAssign, after: ast.stmt | None) -> str | None:
    """The text after a field: a string of its own, else a comment on its line."""
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return text_of(after.value)
    line = module.at(statement.end_lineno or statement.lineno).text
    code, mark, comment = line.partition("  # ") if "  # " in line else line.partition(" # ")
    return comment.strip() if mark and code and not comment.startswith(("type:", "noqa")) else None


def _documented(function: Functions) -> Mapping[str, str]:
    """Parameter → what the function's docstring says of it, for lines like `name: text` and `name (int): text`."""
    text = ast.get_docstring(function, clean=True) or ""
    found: dict[str, str] = {}
    for line in text.splitlines()[:400]:
        name, colon, said = line.strip().removeprefix(":param ").partition(":")
        word = name.split("(")[0].strip().lstrip("-*`").rstrip("`*")
        if colon and said.strip() and word.isidentifier():
            found.setdefault(word, said.strip())
    return found
