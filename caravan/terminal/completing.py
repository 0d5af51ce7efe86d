"""What fits the word at the cursor: commands, options, and values where they are had without a cluster or a server.

Nothing goes wrong here: where something can't be read, nothing is offered.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, get_args

from caravan.values.errors import CaravanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from caravan.terminal.wiring import Wiring

_RUNS: Final = 200  # the newest of them
_LINE: Final = 80  # characters of what a value is
_FILES: Final = ("FILE", "PATH", "DIR", "LOG", "PLACE")
_EVERYWHERE: Final = {
    "--config": "File with settings and profiles.",
    "--setting": "A setting, for this command alone.",
    "--debug": "Show tracebacks.",
}

Pairs = list[tuple[str, str]]
"""Values with what they are, for shells that show it."""


def complete(wiring: Wiring, words: Sequence[str]) -> tuple[str, Pairs]:
    """What may stand in place of the last word: `:values`, `:nospace` or `:files`, and the values.

    `:nospace`: something follows the value at once. `:files`: the shell knows better.
    """
    *before, current = words or [""]
    command, context, waits, place = _walk(before)
    if waits == "--config":
        return ":files", []
    if waits == "--setting":
        return _of_kind(wiring, "SETTING=VALUE", current)
    if waits is not None:
        return _values(wiring, waits, context, current)
    if current.startswith("-"):
        name, equals, rest = current.partition("=")
        if equals:
            option = _option(command, name)
            if option is None and name != "--setting":
                return ":values", []
            known = _of_kind(wiring, "SETTING=VALUE", rest) if option is None else None
            follows, found = known or _values(wiring, option, context, rest)
            return follows, [(f"{name}={value}", text) for value, text in found]
        return ":values", _fitting(_options(command), current)
    if hasattr(command, "list_commands") and not place:
        shown = [(n, c) for n in command.list_commands(None) if not (c := command.get_command(None, n)).hidden]
        return ":values", _fitting([(n, c.get_short_help_str(80)) for n, c in shown], current)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    if not arguments:
        return ":values", []
    argument = arguments[min(place, len(arguments) - 1)]
    if place >= len(arguments) and argument.nargs != -1:
        return ":values", []
    return _values(wiring, argument, context, current)


def _walk(words: Sequence[str]) -> tuple[Any, str, Any, int]:
    """The command that the words lead to, its name, the option that waits for its value, arguments so far."""
    from typer.main import get_command

    from caravan.terminal.app import build_app

    command: Any = get_command(build_app(words))
    names, place, n = "", 0, 0
    while n < len(words):
        word = words[n]
        n += 1
        if word.startswith("-") and word != "-":
            option = word if word in ("--config", "--setting") else _option(command, word)
            takes = option is not None and "=" not in word and (isinstance(option, str) or not option.is_flag)
            if takes and n == len(words):
                return command, names, option, place
            n += 1 if takes else 0
        elif hasattr(command, "list_commands") and (inner := command.get_command(None, word)) is not None and not place:
            command, names = inner, f"{names} {word}".strip()
        else:
            place += 1
    return command, names, None, place


def _option(command: Any, word: str) -> Any:
    name = word.partition("=")[0]
    options = (p for p in command.params if p.param_type_name == "option")
    return next((p for p in options if name in (*p.opts, *p.secondary_opts)), None)


def _options(command: Any) -> Pairs:
    found = [
        (name, (param.help or "").split(";")[0])
        for param in command.params
        if param.param_type_name == "option" and not param.hidden
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("--")
    ]
    own = {name for name, _ in found}
    return [*found, *((n, text) for n, text in _EVERYWHERE.items() if n not in own), ("--help", "Show its help.")]


def _fitting(pairs: Iterable[tuple[str, str]], current: str) -> Pairs:
    return [(value, " ".join(text.split())[:_LINE]) for value, text in pairs if value.startswith(current)]


def _values(wiring: Wiring, param: Any, command: str, current: str) -> tuple[str, Pairs]:
    annotation = param.type_descriptor.annotation
    enums = [t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, Enum)]
    if enums:
        return ":values", _fitting([(str(choice.value), "") for choice in enums[0]], current)
    kind = (param.metavar or "").strip("[]…. ")
    own = _BY_PLACE.get((command, param.name)) or _BY_PLACE.get((command.split(" ")[0], param.name))
    if own is None and "--type" in param.opts:
        own = "TYPE"
    return _of_kind(wiring, own or kind, current)


def _of_kind(wiring: Wiring, kind: str, current: str) -> tuple[str, Pairs]:
    first = kind.split(" ")[0].strip("…. ")
    look = _KINDS.get(kind) or _KINDS.get(first)
    if look is None:
        return (":files" if any(word in kind for word in _FILES) else ":values"), []
    try:
        found = _fitting(look(wiring), current)
    except (CaravanError, OSError):
        return ":values", []
    follows = bool(found) and all(value.endswith("=") for value, _ in found)
    return (":nospace" if follows else ":values"), found


def _runs(wiring: Wiring) -> Pairs:
    """The ids by the runs' folders: no database need be opened."""
    folders = [path for path in (wiring.home / "runs").iterdir() if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [(path.name, "") for path in folders[:_RUNS]]


def _clusters(wiring: Wiring) -> Pairs:
    keys = [row.name.split(".") for row in wiring.settings() if row.name.startswith("clusters.")]
    addresses = {".".join(parts[1:-1]): "profile" for parts in keys if parts[-1] == "address"}
    return [("local", "the built-in cluster"), *addresses.items()]


def _settings(wiring: Wiring) -> Pairs:
    rows = [row for row in wiring.settings() if row.variable]
    return [(row.name, row.variable) for row in rows]


def _fields(_: Wiring) -> Pairs:
    from caravan.values.plan_reference import ROWS

    return [(f"{path}=", row.meaning) for path, row in ROWS.items() if "[" not in path and "NAME" not in path]


def _serve_fields(_: Wiring) -> Pairs:
    from caravan.values.serving import ServeOptions

    return [(f"{name}=", field.description or "") for name, field in ServeOptions.model_fields.items()]


def _statuses(_: Wiring) -> Pairs:
    from caravan.values.run import RunStatus

    return [(status.value, "") for status in RunStatus]


def _stages(_: Wiring) -> Pairs:
    from caravan.values.registry import ModelStage

    return [(stage.value, "") for stage in ModelStage]


def _classes(_: Wiring) -> Pairs:
    from caravan.values.failure import FailureClass

    return [(failure.value, "") for failure in FailureClass]


def _models(wiring: Wiring) -> Pairs:
    return [(model.ref, model.stage.value) for model in wiring.models().models()[:_RUNS]]


def _types(wiring: Wiring) -> Pairs:
    return [(entry.type.name, entry.type.about) for entry in wiring.types()]


def _prompts(_: Wiring) -> Pairs:
    from caravan.values.prompt_inputs import INPUTS

    return [(name, "") for name in INPUTS]


_KINDS: Final[dict[str, Callable[[Wiring], Pairs]]] = {
    "RUN": _runs,
    "local|URL|PROFILE": _clusters,
    "SETTING": _settings,
    "SETTING=VALUE": lambda wiring: [(f"{name}=", text) for name, text in _settings(wiring)],
    "FIELD=VALUE": _fields,
    "SERVE=VALUE": _serve_fields,
    "STATUS": _statuses,
    "STAGE": _stages,
    "REF": _models,
    "TYPE": _types,
    "PROMPT": _prompts,
    "CLASS": _classes,
}
_BY_PLACE: Final = {("serve-model", "sets"): "SERVE=VALUE", ("types", "name"): "TYPE"} | {
    (f"prompts {name}", argument): "PROMPT"
    for name in ("show", "diff", "keep", "pull", "push", "promote")
    for argument in ("name", "names")
}
"""Where a metavar alone does not tell what is meant: command and parameter → kind."""
