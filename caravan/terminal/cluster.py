"""`cluster up`, `down`, `status` and `cache`: the built-in cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line, words
from caravan.values.amounts import size_text
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json


def up(
    ctx: typer.Context,
    inventory: Annotated[
        str | None, typer.Option(metavar="FILE", help="Nodes to simulate (JSON); without it this machine is the node.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start the built-in cluster, or find it running."""
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    path = Path(inventory).resolve() if inventory is not None else None
    if path is not None and not path.is_file():
        raise UsageError(f"There is no inventory file {inventory}.", hint="Check --inventory.")
    running = wiring.local_cluster.up(path)
    if as_json:
        terminal.document(running)
    else:
        _print(terminal, running)
        terminal.out("It is for trying: it runs tasks as processes and never pretends that a declared GPU is real.")


def down(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """End the built-in cluster."""
    terminal, ended = terminal_of(ctx), wiring_of(ctx).local_cluster.down()
    if as_json:
        terminal.document({"running": False, "ended": ended})
        return
    terminal.out("The built-in cluster has ended." if ended else "The built-in cluster was not running.")


def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Say whether the built-in cluster runs, and where."""
    terminal = terminal_of(ctx)
    running = wiring_of(ctx).local_cluster.status()
    if as_json:
        terminal.document({"running": running is not None, **(running or {})})
    elif running is None:
        terminal.out("The built-in cluster does not run. `main.py cluster up` starts it.")
    else:
        _print(terminal, running)


def cache(
    ctx: typer.Context,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove it; the next job that needs it makes it anew.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say how large the built-in cluster's cache of packages and downloads is, or clear it."""
    terminal, control = terminal_of(ctx), wiring_of(ctx).local_cluster
    removed = control.clear_cache() if clear else None
    there = control.cache()
    if as_json:
        terminal.document({**there, "removed_bytes": removed})
    elif removed is not None:
        terminal.out(f"{size_text(removed)} were removed from {one_line(there['path'])}.")
    else:
        terminal.out(f"The cache has {size_text(there['bytes'])} in {one_line(there['path'])}.")
        if there["bytes"]:
            terminal.out("`main.py cluster cache --clear` removes it; the next job that needs it makes it anew.")


def _print(terminal: Terminal, running: Mapping[str, Json]) -> None:
    terminal.out("The built-in cluster runs.")
    for name, value in running.items():
        terminal.out(f"  {one_line(name).replace('_', ' '):<10} {words(value)}")
