"""The command line as a whole: the typer application over the commands, and `run`, which `main.py` calls.

Errors become one line and an exit code here. What is no CaravanError passes through: only `main.py` catches it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

import typer
from typer.main import get_command

from caravan.terminal import analyze, cluster, config, logs, removal, resume, runs, train
from caravan.terminal.options import TERMINAL
from caravan.terminal.streams import Terminal, system_terminal
from caravan.terminal.text import one_line
from caravan.values.errors import CaravanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json

PROGRAM: Final = "main.py"
_INTERRUPTED: Final = 130


def build_app() -> typer.Typer:
    """The application: the main job as its callback, everything else as commands."""
    # Plain help, no completion, no pretty tracebacks: each would import what `--help` does not need.
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(train.train)
    app.command()(analyze.analyze)
    app.command("runs")(runs.list_runs)
    app.command()(runs.show)
    app.command()(logs.logs)
    app.command()(resume.resume)
    app.command()(removal.stop)
    app.command()(removal.delete)
    app.command()(logs.report)
    app.command()(logs.traces)
    app.add_typer(_cluster(), name="cluster")
    app.command()(config.config)
    return app


def _cluster() -> typer.Typer:
    group = typer.Typer(help="The built-in cluster: for trying, developing and testing.", rich_markup_mode=None)
    group.command()(cluster.up)
    group.command()(cluster.down)
    group.command()(cluster.status)
    return group


def run(wiring: Wiring, argv: Sequence[str], terminal: Terminal | None = None) -> int:
    """Run one command line and return its exit code; nothing known to go wrong raises.

    `terminal`: streams in place of the process's own.
    """
    terminal = terminal or system_terminal()
    debug, as_json = "--debug" in argv, "--json" in argv
    try:
        code = _invoke(wiring, [a for a in argv if a != "--debug"], terminal)
        terminal.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        hint = f"See `{PROGRAM} --help`."
        return _fail(terminal, error.format_message(), hint, error.exit_code, as_json=as_json)
    except CaravanError as error:
        if debug:
            _traceback(terminal, error)
        return _fail(terminal, error.message, error.hint, error.exit_code, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(terminal, "Interrupted.", _how_to_go_on(terminal), _INTERRUPTED, as_json=as_json)
    except BrokenPipeError:
        _close_quietly(terminal)
        return terminal.exit_code
    return code


def _invoke(wiring: Wiring, argv: list[str], terminal: Terminal) -> int:
    command = get_command(build_app())
    # Not `command.main`: it would end the process itself on Ctrl-C and on a broken pipe.
    with command.make_context(PROGRAM, argv, obj=wiring) as context:
        context.meta[TERMINAL] = terminal
        return cast("int | None", command.invoke(context)) or 0


def _fail(terminal: Terminal, message: str, hint: str, code: int, *, as_json: bool) -> int:
    """Say in one line what is wrong, for a program also as a document."""
    try:
        terminal.stdout.flush()
        terminal.err(f"Error: {one_line(f'{message} {hint}')}")
        if as_json:
            document: dict[str, Json] = {"error": one_line(message), "hint": one_line(hint), "exit_code": code}
            if terminal.run_id:
                document["run_id"] = terminal.run_id
            terminal.document(document)
            terminal.stdout.flush()
    except BrokenPipeError:
        _close_quietly(terminal)
    return code


def _how_to_go_on(terminal: Terminal) -> str:
    return f"Go on with `{PROGRAM} resume {terminal.run_id}`." if terminal.run_id else ""


def _traceback(terminal: Terminal, error: CaravanError) -> None:
    import traceback

    traceback.print_exception(error, file=terminal.stderr)


def _close_quietly(terminal: Terminal) -> None:
    """Nobody reads any more: let what is still buffered go nowhere when the interpreter flushes it at its end."""
    try:
        number = terminal.stdout.fileno()
    except OSError:  # a stream without a file, as in tests
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
