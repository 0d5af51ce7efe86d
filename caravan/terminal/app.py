"""The command line as a whole: the typer application over the commands, and `run`, which `main.py` calls.

Errors become one line and an exit code here. What is no CaravanError passes through: only `main.py` catches it.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from caravan.terminal.options import TERMINAL
from caravan.terminal.streams import Terminal, system_terminal
from caravan.terminal.text import one_line
from caravan.terminal.train import train
from caravan.values.errors import CaravanError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json

PROGRAM: Final = "main.py"
COMPLETE: Final = "__complete"
"""The word before which a shell puts what is to be completed."""
COMMANDS: Final = {
    "analyze": ("analyze", "Say what a repository trains and how."),
    "plan": ("plan", "Show and write the plan for a repository, without a cluster or for one."),
    "types": ("types", "List the training types that Caravan brings scripts for, or show one with its knobs."),
    "data": ("data", "Look at training data: format, columns, lengths, and what is wrong in which line."),
    "estimate": ("estimate", "Say what a training needs: GPU memory line by line, GPUs that hold it, time and cost."),
    "diagnose": ("diagnose", "Say why a training failed, from its log alone."),
    "runs": ("runs", "List the newest runs, or with --spending what they have cost."),
    "show": ("show", "Show one run: attempts with cause and repair, plan, estimate."),
    "logs": ("logs", "Print the logs of a run's tasks."),
    "watch": ("watch", "Watch runs until they end; Ctrl-C leaves them alone."),
    "resume": ("resume", "Go on with a run, answering what it asks."),
    "compare": ("compare", "Set runs side by side: plans, code, data, metrics with their spread over seeds, cost."),
    "reproduce": ("reproduce", "Make a run again: same code, data, image, seed and plan, and say whether it agrees."),
    "stop": ("removal", "Stop a run and its job on the cluster."),
    "delete": ("removal", "Delete a run with its logs and outputs."),
    "pull": ("pull", "Fetch a run's outputs and logs into a folder."),
    "report": ("report", "Print a run's report as Markdown or HTML, or open it in a browser."),
    "traces": ("traces", "Print a run's steps with their time and status, or send traces to LangFuse (push)."),
    "serve-model": ("serve_model", "Serve Qwen on the cluster: vLLM as a Nomad service job."),
    "optimize": ("optimize", "Look for better prompts by DSPy, and keep those that are better on held-out cases."),
    "completion": ("completion", "Print what lets a shell complete commands, options and values, or install it."),
    "doctor": ("doctor", "Check settings, services, and the cluster with the token's rights."),
}
"""Command → its module in this room and its line on the help page (the first of its docstring; a test compares).

Loading a command costs milliseconds, and a help page or another command does without them.
"""

GROUPS: Final[dict[str, tuple[str, dict[str, tuple[str, str]]]]] = {
    "models": (
        "The models that runs brought forth: list, show, promote, pull, export, register.",
        {
            "list": ("models", "list_models"),
            "show": ("models", "show"),
            "promote": ("models_stages", "promote"),
            "archive": ("models_stages", "archive"),
            "pull": ("models_files", "pull"),
            "verify": ("models_files", "verify"),
            "export": ("models_files", "export"),
            "register": ("models_register", "register"),
        },
    ),
    "memory": (
        "What earlier runs taught: list, search, show, add, forget, export, import.",
        {
            "list": ("memory", "list_lessons"),
            "search": ("memory", "search"),
            "show": ("memory", "show"),
            "add": ("memory", "add"),
            "forget": ("memory", "forget"),
            "export": ("memory", "export"),
            "import": ("memory", "import_lessons"),
        },
    ),
    "prompts": (
        "What the model is told: list, show, diff, keep, pull, push, promote.",
        {
            "list": ("prompts", "list_prompts"),
            **{name: ("prompts", name) for name in ("show", "diff", "keep", "pull", "push", "promote")},
        },
    ),
    "secrets": (
        "The secrets that jobs of a cluster get: list, put, remove.",
        {"list": ("secrets", "list_secrets"), "put": ("secrets", "put"), "remove": ("secrets", "remove")},
    ),
    "cluster": (
        "The built-in cluster, for trying and testing.",
        {name: ("cluster", name) for name in ("up", "down", "status", "cache")},
    ),
    "config": (
        "Show the settings and where each comes from; set them, and trust files of settings.",
        {
            "get": ("config", "get"),
            "set": ("config", "set_value"),
            "unset": ("config", "unset"),
            "edit": ("config", "edit"),
            "path": ("config", "path"),
            "trust": ("config", "trust"),
            "untrust": ("config", "untrust"),
        },
    ),
}
"""Group → its line on the help page, and its commands with their modules in this room and functions."""
PANELS: Final = {
    "Before a run": ("analyze", "data", "types", "plan", "estimate"),
    "Follow a run": ("runs", "show", "watch", "logs", "resume", "stop", "traces"),
    "After a run": ("report", "pull", "compare", "reproduce", "models", "delete"),
    "Learn from runs": ("diagnose", "memory", "prompts", "optimize"),
    "Set up": ("doctor", "config", "completion", "cluster", "secrets", "serve-model"),
}
"""Headline of the help page → the commands below it. The main job has no command."""
_INTERRUPTED: Final = 130
_WHOLE: Final = 500  # characters of a command's line on the help page: all of it
_LONGEST: Final = 1000  # characters of an error's message that are shown


def build_app(wanted: Collection[str] | None = None, *, bare: bool = False) -> typer.Typer:
    """The application: the main job as its callback, everything else as commands.

    `wanted` names the commands to load; the others only stand in the list of the help page. None: all. `bare`: without
    the main job's options, where a command is the first word: each costs a millisecond to read.
    """
    app = _typer(cls=Grouped)
    app.callback(invoke_without_command=True)(_no_job if bare else train)
    for name, (module, summary) in COMMANDS.items():
        if wanted is None or name in wanted:
            app.command(name)(_load(module, name))
        else:
            app.command(name, help=summary)(_not_loaded)
    for group, (summary, commands) in GROUPS.items():
        inner = _typer()
        if wanted is None or group in wanted:
            for name, (module, function) in commands.items():
                inner.command(name)(_load(module, function))
            if group == "config":
                inner.callback(invoke_without_command=True)(_load("config", "config"))
        app.add_typer(inner, name=group, help=summary)
    return app


class Grouped(TyperGroup):
    """The command line whose help lists the commands below headlines, each with its whole line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the order of the help page."""
        known = super().list_commands(ctx)
        return [name for names in PANELS.values() for name in names if name in known]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  (typer's signature)
        """Write the commands below their headlines."""
        for title, names in PANELS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(_WHOLE)) for name in names])


def _typer(**more: Any) -> typer.Typer:
    # Plain help, no completion, no pretty tracebacks: each would import what `--help` does not need.
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **more)


def _load(module: str, name: str) -> Callable[..., int | None]:
    found = getattr(import_module(f"caravan.terminal.{module}"), name.replace("-", "_"))
    return cast("Callable[..., int | None]", found)


def _no_job() -> None:
    """Nothing before the command."""


def _not_loaded() -> None:
    raise AssertionError("a command that is named on the command line is loaded")


def run(wiring: Wiring, argv: Sequence[str], terminal: Terminal | None = None) -> int:
    """Run one command line and return its exit code; nothing known to go wrong raises.

    `terminal`: streams in place of the process's own.
    """
    terminal = terminal or system_terminal()
    if argv[:1] == [COMPLETE]:
        return _complete(wiring, argv[1:], terminal)
    debug, as_json = "--debug" in argv, "--json" in argv
    try:
        code = _invoke(wiring, [a for a in argv if a != "--debug"], terminal)
        terminal.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        # The library quotes its own parser where a choice is none: `Value error, ` says nothing to a person.
        said = error.format_message().replace("Value error, ", "").rstrip(".")
        message = _masked(wiring, one_line(said if said.endswith("?") else f"{said}."))
        where = getattr(error, "ctx", None)  # the command that was meant, as far as it was understood
        help_page = f"{where.command_path if where is not None else PROGRAM} --help"
        return _fail(terminal, message, f"See `{help_page}`.", error.exit_code, as_json=as_json)
    except CaravanError as error:
        if debug:
            _traceback(wiring, terminal, error)
        message, hint = (_masked(wiring, text) for text in (error.message, error.hint))
        return _fail(terminal, message, hint, error.exit_code, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(terminal, "Interrupted.", _how_to_go_on(terminal), _INTERRUPTED, as_json=as_json)
    except BrokenPipeError:
        _close_quietly(terminal)
        return terminal.exit_code
    except OSError as error:  # no room, no right, a name that is a directory: the machine's fault, not the program's
        if debug:
            _traceback(wiring, terminal, error)
        place = f"{error.filename} can't be used" if error.filename else "What is printed can't be written"
        return _fail(terminal, f"{place}: {error.strerror or error}.", "Is there room?", 2, as_json=as_json)
    return code


def _complete(wiring: Wiring, words: Sequence[str], terminal: Terminal) -> int:
    """Answer a shell that completes a word. Whatever is wrong is said when the command itself is run."""
    from caravan.terminal.completing import complete
    from caravan.terminal.text import clean

    try:
        kind, pairs = complete(wiring, words)
        terminal.out(kind)
        for value, text in pairs:
            terminal.out("\t".join(one_line(clean(part)) for part in (value, text) if part))
        terminal.stdout.flush()
    except (CaravanError, OSError):
        return 0
    return 0


def _masked(wiring: Wiring, text: str) -> str:
    """What an error says without secrets: those of the environment too, unless the settings are what is wrong."""
    from caravan.values.masking import mask  # here, because a help page needs no values

    try:
        known = wiring.secrets()
    except CaravanError:
        known = ()
    return mask(text, known)


def _invoke(wiring: Wiring, argv: list[str], terminal: Terminal) -> int:
    command = get_command(build_app(argv, bare=argv[:1] != [] and (argv[0] in COMMANDS or argv[0] in GROUPS)))
    # Not `command.main`: it would end the process itself on Ctrl-C and on a broken pipe.
    with command.make_context(PROGRAM, argv, obj=wiring) as context:
        context.meta[TERMINAL] = terminal
        wiring.on_note(lambda note: terminal.err(one_line(note, _LONGEST)))
        return cast("int | None", command.invoke(context)) or 0


def _fail(terminal: Terminal, message: str, hint: str, code: int, *, as_json: bool) -> int:
    """Say in one line what is wrong, for a program also as a document."""
    try:
        terminal.stdout.flush()
        prefix = "" if code == _INTERRUPTED else "Error: "
        terminal.err(f"{prefix}{one_line(f'{one_line(message, _LONGEST)} {hint}')}")
        if as_json:
            document: dict[str, Json] = {"error": one_line(message), "hint": one_line(hint), "exit_code": code}
            if terminal.run_id:
                document["run_id"] = terminal.run_id
            terminal.document(document)
            terminal.stdout.flush()
    except OSError:  # nobody reads any more, or there is no room for it
        _close_quietly(terminal)
    return code


def _how_to_go_on(terminal: Terminal) -> str:
    return f"Go on with `{PROGRAM} resume {terminal.run_id}`." if terminal.run_id else ""


def _traceback(wiring: Wiring, terminal: Terminal, error: CaravanError | OSError) -> None:
    import traceback

    # Libraries quote in their errors what they were given.
    terminal.stderr.write(_masked(wiring, "".join(traceback.format_exception(error))))


def _close_quietly(terminal: Terminal) -> None:
    """Nobody reads any more: let what is still buffered go nowhere when the interpreter flushes it at its end."""
    try:
        number = terminal.stdout.fileno()
    except OSError:  # a stream without a file, as in tests
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
