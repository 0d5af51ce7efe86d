"""Options of commands made from functions: click, typer, fire, cyclopts, jsonargparse, Lightning. Pure."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from caravan.analysis.class_options import Fields, Spelling
from caravan.analysis.findings import FoundOption, Module
from caravan.analysis.option_parts import (
    annotated_calls,
    choices_of,
    decorators,
    imports,
    literal_choices,
    make,
    parameters,
    type_name,
)
from caravan.analysis.python import dotted, keyword, text_of, value_of
from caravan.analysis.resolve import Functions, Resolver
from caravan.analysis.walking import walk
from caravan.values.base import Json

_ENTRIES: Final = ("__init__", "__call__", "train", "main", "run", "fit", "finetune")
"""Methods of a class whose parameters count when the class is the command."""


# ---- click


def read_click(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """`@click.option` and `@click.argument`, and decorators of the repository that make options of a table or class."""
    if not imports(module, "click", "rich_click", "asyncclick"):
        return
    several = len({f.name for f, _ in decorators(module, "command")}) > 1
    for function, node in decorators(module, "option", "argument"):
        flags = tuple(f for f in (text_of(a, module) for a in node.args) if f)
        if flags:
            yield _click_option(module, node, flags, _command(function, several), resolver)
    for function, _ in decorators(module, "command"):
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and "." not in (name := dotted(decorator.func)):
                yield from _made_by(module, resolver, name, decorator, _command(function, several))


def _command(function: Functions, several: bool) -> str:
    """The subcommand's name: its decorator's first word, else the function's name with dashes."""
    if not several:
        return ""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and dotted(decorator.func).rpartition(".")[2] == "command":
            given = decorator.args[0] if decorator.args else keyword(decorator, "name")
            if name := text_of(given):
                return name
    return function.name.replace("_", "-")


def _click_option(
    module: Module, node: ast.Call, flags: tuple[str, ...], command: str, resolver: Resolver
) -> FoundOption:
    spelled = tuple(f.split("/")[0] for f in flags if f.startswith("-")) or flags[:1]
    default, kind = resolver.value(module, keyword(node, "default")), keyword(node, "type")
    yes_or_no = value_of(keyword(node, "is_flag")) is True or any("/" in f for f in flags)
    choices: Json = None
    if isinstance(kind, ast.Call):  # click.Choice([…]), click.Path(…)
        choices = value_of(kind.args[0], module) if kind.args else None
    name = dotted(kind.func if isinstance(kind, ast.Call) else kind).rsplit(".", 1)[-1] if kind else None
    return make(
        module,
        node,
        spelled,
        command=command,
        default=False if yes_or_no and default is None else default,
        type="bool" if yes_or_no else name or (type(default).__name__ if default is not None else None),
        switch=_click_switch(flags) if yes_or_no else None,
        required=value_of(keyword(node, "required")) is True or not spelled[0].startswith("-"),
        choices=choices_of(choices),
        help=text_of(keyword(node, "help"), module),
    )


def _click_switch(flags: tuple[str, ...]) -> str:
    """`pair` for `--x/--no-x`, `on` for a flag alone or one whose kin is called something else."""
    kin = [f.split("/")[1].strip() for f in flags if "/" in f]
    return "pair" if any(k.startswith("--no-") or k.startswith("--no_") for k in kin) else "on"


def _made_by(module: Module, resolver: Resolver, name: str, decorator: ast.Call, command: str) -> Iterator[FoundOption]:
    """Options that a decorator of the repository makes of what it is given: a class's fields, a table with flags."""
    if resolver.function_of(module, name) is None:
        return
    for argument in decorator.args:
        given = dotted(argument)
        if resolver.class_of(module, given) if given else None:
            yield from Fields(resolver, Spelling(dashes=True, command=command)).of_class(module, given)
        elif found := resolver.constant_of(module, given) if given else None:
            owner, value = found
            for node in walk(value):
                text = text_of(node) if isinstance(node, ast.Constant) else None
                if text and text.startswith("--") and len(text) < 100 and " " not in text:
                    yield make(owner, node, (text.split("/")[0],), command=command)


# ---- typer


def read_typer(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """The parameters of typer's commands."""
    if not imports(module, "typer"):
        return
    functions = [f for f, _ in decorators(module, "command", "callback")]
    several = len({f.name for f, _ in decorators(module, "command")}) > 1
    for call in module.calls:
        target = call.node.args[0] if call.node.args else None
        if call.name == "typer.run" or (call.last == "command" and isinstance(target, ast.Name)):
            found = resolver.function_of(module, dotted(target)) if target else None
            functions += [found[1]] if found else []
        elif isinstance(call.node.func, ast.Call) and dotted(call.node.func.func).endswith(".command") and target:
            found = resolver.function_of(module, dotted(target))  # app.command("train")(train)
            functions += [found[1]] if found else []
    for function in dict.fromkeys(functions):
        for argument, default in parameters(function):
            yield _typer_option(module, argument, default, _command(function, several))


def _typer_option(module: Module, argument: ast.arg, default: ast.expr | None, command: str) -> FoundOption:
    annotation = argument.annotation
    described = next(annotated_calls(annotation), None)
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
    return make(
        module,
        argument,
        flags,
        command=command,
        default=value_of(default, module),
        type=type_name(annotation),
        required=required,
        choices=literal_choices(annotation),
        help=text_of(keyword(described, "help"), module) if described else None,
    )


# ---- fire


def read_fire(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """The parameters of what `fire.Fire` is given: a function, a class, a mapping of commands, or the module."""
    if not imports(module, "fire"):
        return
    for call in module.calls:
        if call.name not in ("fire.Fire", "Fire"):
            continue
        target = call.node.args[0] if call.node.args else keyword(call.node, "component")
        if target is None:
            for name, function in module.functions.items():
                yield from _free(module, resolver, function, "" if len(module.functions) == 1 else name)
        else:
            for command, owner, function in targets(module, resolver, target):
                yield from _free(owner, resolver, function, command)


def _free(module: Module, resolver: Resolver, function: Functions, command: str) -> Iterator[FoundOption]:
    """A function's parameters, and with `**kwargs` the fields of the settings that it hands them to."""
    fields = Fields(resolver, Spelling(nested=False, command=command))
    for argument, default in parameters(function):
        yield make(
            module,
            argument,
            ("--" + argument.arg,),
            command=command,
            default=resolver.value(module, default),
            type=type_name(argument.annotation),
            required=default is None,
        )
    if function.args.kwarg is None:
        return
    for node in walk(function):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            found = resolver.find(module, name)
            if found and isinstance(found.node, ast.ClassDef) and _has_fields(found.node):
                yield from fields.of_class(module, name)


def _has_fields(node: ast.ClassDef) -> bool:
    return sum(isinstance(s, ast.AnnAssign) for s in node.body) >= 2


def targets(
    module: Module, resolver: Resolver, target: ast.expr, depth: int = 0
) -> Iterator[tuple[str, Module, Functions]]:
    """(subcommand, module, function) of what a command line is made from; a class counts by its usual methods."""
    if depth > 3:
        return
    if isinstance(target, ast.Dict):
        for key, value in zip(target.keys, target.values, strict=True):
            yield from ((text_of(key) or "", o, f) for _, o, f in targets(module, resolver, value, depth + 1))
    elif isinstance(target, ast.List | ast.Tuple):
        for item in target.elts:
            yield from ((c or f.name, o, f) for c, o, f in targets(module, resolver, item, depth + 1))
    elif isinstance(target, ast.Call):  # fire.Fire(Trainer())
        yield from targets(module, resolver, target.func, depth + 1)
    elif found := resolver.find(module, dotted(target)):
        owner, node = found
        if isinstance(node, Functions):
            yield "", owner, node
        elif isinstance(node, ast.ClassDef):
            entries = (s for s in node.body if isinstance(s, Functions) and s.name in _ENTRIES)
            yield from (("", owner, s) for s in entries)
        elif node.value is not None:
            yield from targets(owner, resolver, node.value, depth + 1)


# ---- functions and classes: cyclopts, jsonargparse, tyro, defopt


def read_cyclopts(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """The parameters of cyclopts' commands, with the fields of the classes that they are annotated with."""
    if not imports(module, "cyclopts"):
        return
    functions = [f for f, _ in decorators(module, "command", "default")]
    functions += [
        f
        for f in module.functions.values()
        if any(isinstance(d, ast.Attribute) and d.attr in ("command", "default") for d in f.decorator_list)
    ]
    for call in module.calls:
        if call.name in ("cyclopts.run", "run") and call.node.args:
            found = resolver.function_of(module, dotted(call.node.args[0]))
            functions += [found[1]] if found else []
    unique = list(dict.fromkeys(functions))
    for function in unique:
        command = function.name.replace("_", "-") if len(unique) > 1 else ""
        yield from Fields(resolver, Spelling(dashes=True, command=command)).of_function(module, function)


def read_jsonargparse(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """What `jsonargparse.CLI` or `auto_cli` is given, and the classes and functions that a parser adds arguments of."""
    if not imports(module, "jsonargparse"):
        return
    for call in module.calls:
        target = call.node.args[0] if call.node.args else keyword(call.node, "components")
        if call.last in ("CLI", "auto_cli", "auto_parser") and target is not None:
            for command, owner, function in targets(module, resolver, target):
                yield from Fields(resolver, Spelling(command=command)).of_function(owner, function)
                yield from _chosen_optimizer(owner, function, command)
        elif call.last in ("add_class_arguments", "add_subclass_arguments", "add_dataclass_arguments") and target:
            given = call.node.args[1] if len(call.node.args) > 1 else keyword(call.node, "nested_key")
            prefix = text_of(given)
            path = (prefix,) if prefix else ()
            yield from Fields(resolver, Spelling()).of_class(module, dotted(target), path)
        elif call.last == "add_function_arguments" and target is not None:
            for _, owner, function in targets(module, resolver, target):
                yield from Fields(resolver, Spelling()).of_function(owner, function)


def _chosen_optimizer(module: Module, function: Functions, command: str) -> Iterator[FoundOption]:
    """The learning rate of an optimizer that is given by its class: the parser takes its arguments below its name."""
    for argument, _ in parameters(function):
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        if re.fullmatch(r"optim(?:izer)?", argument.arg) and re.search(r"(?i)\bdict\b|optim", kind):
            flag = f"--{argument.arg}.lr"
            help_text = "learning rate of the chosen optimizer"
            yield make(module, argument, (flag,), command=command, type="float", help=help_text)


def read_lightning_cli(module: Module, resolver: Resolver) -> Iterator[FoundOption]:
    """`LightningCLI(Model, Data)`: the trainer's options and the parameters of both classes, each with its prefix."""
    for call in module.calls:
        if not call.last.endswith("LightningCLI") and not (call.last.endswith("CLI") and _is_cli(module, call.last)):
            continue
        fields = Fields(resolver, Spelling())
        yield from fields.of_class(module, "Trainer", ("trainer",))
        for i, (prefix, name) in enumerate((("model", "model_class"), ("data", "datamodule_class"))):
            given = call.node.args[i] if i < len(call.node.args) else keyword(call.node, name)
            if given is not None and dotted(given):
                yield from fields.of_class(module, dotted(given), (prefix,))
        yield make(module, call.node, ("--optimizer.lr",), type="float", help="learning rate of the chosen optimizer")


def _is_cli(module: Module, name: str) -> bool:
    node = module.classes.get(name)
    return node is not None and any(dotted(b).endswith("LightningCLI") for b in node.bases)
