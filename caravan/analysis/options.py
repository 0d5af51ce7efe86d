"""A script's options by the parser it uses: argparse, click, typer, fire, dataclasses. Pure, over parsed modules.

Flags are spelled as the parser spells them; defaults that can't be known without running the code are None.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from caravan.analysis.findings import Call, FoundOption, Module
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.analysis.trainer_options import BASES, of_base
from caravan.values.base import Json
from caravan.values.repo import ScriptOption

MAX_OPTIONS: Final = 1000
"""Options of one parser that are read: the profile is kept at every step of a run."""
_DATACLASS_PARSERS: Final = ("HfArgumentParser", "TrlParser", "H4ArgumentParser")
FindClass = Callable[[str], "tuple[Module, ast.ClassDef] | None"]
Functions = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Parser:
    """A parser that a module makes: its style and its options."""

    style: str
    options: tuple[FoundOption, ...]


def read_options(module: Module, find_class: FindClass | None = None) -> Parser | None:
    """The options that a module declares, or None when it makes no parser.

    `find_class` finds a class by name in other modules (dataclasses are often declared elsewhere).
    """
    find = find_class or (lambda name: (module, module.classes[name]) if name in module.classes else None)
    readers: tuple[tuple[str, Callable[[], Iterator[FoundOption]]], ...] = (
        ("hfargparser", lambda: _dataclasses(module, find)),
        ("argparse", lambda: _argparse(module)),
        ("typer", lambda: _typer(module)),
        ("click", lambda: _click(module)),
        ("fire", lambda: _fire(module)),
    )
    for style, read in readers:
        options = tuple(islice(_once(read()), MAX_OPTIONS))
        if options:
            return Parser(style, options)
    return None


def _once(options: Iterator[FoundOption]) -> Iterator[FoundOption]:
    seen: set[str] = set()
    for found in options:
        if found.option.flag not in seen:
            seen.add(found.option.flag)
            yield found


def _found(module: Module, node: ast.AST, flags: tuple[str, ...], **fields: Json) -> FoundOption:
    """An option under its first long spelling (else its first one)."""
    flag = next((f for f in flags if f.startswith("--")), flags[0])
    fields["help"] = " ".join(str(fields.get("help") or "").split())[:300]
    return FoundOption(ScriptOption(flag=flag, **fields), flags, module.at(getattr(node, "lineno", 0)))


def _choices(value: Json) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list) else ()


# ---- argparse


def _argparse(module: Module) -> Iterator[FoundOption]:
    defaults = {
        k.arg: value_of(k.value, module)
        for call in module.calls
        if call.last == "set_defaults"
        for k in call.node.keywords
        if k.arg
    }
    for call in module.calls:
        if call.last != "add_argument" or not call.node.args:
            continue
        flags = tuple(f for f in (text_of(a, module) for a in call.node.args) if f)
        if flags:
            yield _argparse_option(module, call, flags, defaults)


def _argparse_option(module: Module, call: Call, flags: tuple[str, ...], defaults: dict[str, Json]) -> FoundOption:
    node = call.node
    action = text_of(keyword(node, "action")) or dotted(keyword(node, "action") or node).rsplit(".", 1)[-1]
    default, kind = value_of(keyword(node, "default"), module), _type_name(keyword(node, "type"))
    if action in ("store_true", "store_false", "BooleanOptionalAction"):
        kind = "bool"
        if keyword(node, "default") is None and action != "BooleanOptionalAction":
            default = action == "store_false"
    found = _found(
        module,
        node,
        flags,
        default=default,
        type=kind,
        required=value_of(keyword(node, "required")) is True or _is_needed_positional(node, flags),
        choices=_choices(value_of(keyword(node, "choices"), module)),
        help=text_of(keyword(node, "help"), module),
    )
    destination = text_of(keyword(node, "dest")) or found.option.flag.lstrip("-").replace("-", "_")
    if destination in defaults:
        return FoundOption(found.option.model_copy(update={"default": defaults[destination]}), flags, found.where)
    return found


def _is_needed_positional(node: ast.Call, flags: tuple[str, ...]) -> bool:
    return not flags[0].startswith("-") and value_of(keyword(node, "nargs")) not in ("?", "*")


def _type_name(node: ast.expr | None, depth: int = 0) -> str | None:
    """The name of a type, also of an annotation: `int | None`, `Optional[int]`, `List[str]`, `Annotated[int, …]`."""
    if node is None or depth > 8:
        return None
    if isinstance(node, ast.BinOp):
        left = _type_name(node.left, depth + 1)
        return _type_name(node.right, depth + 1) if left is None else left
    if isinstance(node, ast.Subscript):
        outer = dotted(node.value).rsplit(".", 1)[-1]
        inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
        return _type_name(inner, depth + 1) if outer in ("Optional", "Union", "Annotated") else outer.lower() or None
    if isinstance(node, ast.Constant):
        return str(node.value) if node.value is not None else None
    return dotted(node).rsplit(".", 1)[-1] or None


# ---- click and typer


def _decorators(module: Module, *names: str) -> Iterator[tuple[Functions, ast.Call]]:
    for function in module.functions.values():
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and dotted(decorator.func).rsplit(".", 1)[-1] in names:
                yield function, decorator


def _imports(module: Module, name: str) -> bool:
    return any(i.module.split(".")[0] == name for i in module.imports)


def _click(module: Module) -> Iterator[FoundOption]:
    if not _imports(module, "click"):
        return
    for _, node in _decorators(module, "option", "argument"):
        flags = tuple(f for f in (text_of(a, module) for a in node.args) if f)
        if not flags:
            continue
        spelled = tuple(f.split("/")[0] for f in flags if f.startswith("-")) or flags[:1]
        default, kind = value_of(keyword(node, "default"), module), keyword(node, "type")
        yes_or_no = value_of(keyword(node, "is_flag")) is True or any("/" in f for f in flags)
        choices: Json = None
        if isinstance(kind, ast.Call):  # click.Choice([…]), click.Path(…)
            choices = value_of(kind.args[0], module) if kind.args else None
        name = dotted(kind.func if isinstance(kind, ast.Call) else kind).rsplit(".", 1)[-1] if kind else None
        yield _found(
            module,
            node,
            spelled,
            default=False if yes_or_no and default is None else default,
            type="bool" if yes_or_no else name or (type(default).__name__ if default is not None else None),
            required=value_of(keyword(node, "required")) is True or not spelled[0].startswith("-"),
            choices=_choices(choices),
            help=text_of(keyword(node, "help"), module),
        )


def _typer(module: Module) -> Iterator[FoundOption]:
    if not _imports(module, "typer"):
        return
    functions = [f for f, _ in _decorators(module, "command", "callback")]
    for call in module.calls:
        if call.name == "typer.run" and call.node.args:
            functions += [f for f in (module.functions.get(dotted(call.node.args[0])),) if f]
    for function in functions:
        for argument, default in _parameters(function):
            yield _typer_option(module, argument, default)


def _typer_option(module: Module, argument: ast.arg, default: ast.expr | None) -> FoundOption:
    described: ast.Call | None = None
    annotation = argument.annotation
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        described = next((e for e in annotation.slice.elts if isinstance(e, ast.Call)), None)
    positional_default = 0
    if isinstance(default, ast.Call) and dotted(default.func).rsplit(".", 1)[-1] in ("Option", "Argument"):
        described, positional_default = default, 1
        default = keyword(default, "default") or (default.args[0] if default.args else None)
    required = default is None or (isinstance(default, ast.Constant) and default.value is ...)
    is_argument = described is not None and dotted(described.func).endswith("Argument")
    spelled = [text_of(a) for a in described.args[positional_default:]] if described else []
    flags = tuple(f.split("/")[0] for f in spelled if f and f.startswith("-"))
    if not flags:
        bare = is_argument or (required and described is None)
        flags = (argument.arg if bare else "--" + argument.arg.replace("_", "-"),)
    return _found(
        module,
        argument,
        flags,
        default=value_of(default, module),
        type=_type_name(annotation),
        required=required,
        help=text_of(keyword(described, "help"), module) if described else None,
    )


def _parameters(function: Functions) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """A function's parameters that an option can set, with their default expressions."""
    positional = [*function.args.posonlyargs, *function.args.args]
    missing = len(positional) - len(function.args.defaults)
    for i, argument in enumerate(positional):
        if argument.arg not in ("self", "cls", "ctx"):
            yield argument, function.args.defaults[i - missing] if i >= missing else None
    yield from zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)


# ---- fire


def _fire(module: Module) -> Iterator[FoundOption]:
    if not _imports(module, "fire"):
        return
    for call in module.calls:
        if call.name not in ("fire.Fire", "Fire"):
            continue
        target = call.node.args[0] if call.node.args else keyword(call.node, "component")
        functions = [module.functions.get(dotted(target))] if target else list(module.functions.values())
        if isinstance(target, ast.Dict):
            functions = [module.functions.get(dotted(v)) for v in target.values]
        if target is not None and (owner := module.classes.get(dotted(target))):
            functions = [f for f in owner.body if isinstance(f, Functions) and f.name in ("__init__", "train", "main")]
        for function in functions:
            for argument, default in _parameters(function) if function else ():
                yield _found(
                    module,
                    argument,
                    ("--" + argument.arg,),
                    default=value_of(default, module),
                    type=_type_name(argument.annotation),
                    required=default is None,
                )


# ---- dataclasses (HfArgumentParser and its kin)


def _dataclasses(module: Module, find: FindClass) -> Iterator[FoundOption]:
    for call in module.calls:
        if call.last not in _DATACLASS_PARSERS:
            continue
        target = call.node.args[0] if call.node.args else keyword(call.node, "dataclass_types")
        if isinstance(target, ast.Name) and (constant := module.constants.get(target.id)):
            target = constant.value
        for item in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            if item is not None:
                yield from _class_options(module, dotted(item).rsplit(".", 1)[-1], find, 0)


def _class_options(module: Module, name: str, find: FindClass, depth: int) -> Iterator[FoundOption]:
    found = find(name) if depth < 6 else None
    if found is None:
        yield from of_base(module, name)
        return
    owner, node = found
    yield from (o for o in (_field(owner, s) for s in node.body) if o)
    for base in node.bases:
        inherited = dotted(base).rsplit(".", 1)[-1]
        if inherited in BASES or inherited != name:
            yield from _class_options(owner, inherited, find, depth + 1)


def _field(module: Module, statement: ast.stmt) -> FoundOption | None:
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        return None
    default: ast.expr | None = statement.value
    help_text: Json = None
    choices: Json = None
    required = default is None
    if isinstance(default, ast.Call) and dotted(default.func).rsplit(".", 1)[-1] == "field":
        metadata = value_of(keyword(default, "metadata"), module)
        if isinstance(metadata, dict):
            help_text, choices = metadata.get("help"), metadata.get("choices")
        required = keyword(default, "default", "default_factory") is None
        default = keyword(default, "default")
    return _found(
        module,
        statement,
        ("--" + statement.target.id,),
        default=value_of(default, module),
        type=_type_name(statement.annotation),
        required=required,
        choices=_choices(choices),
        help=help_text,
    )
