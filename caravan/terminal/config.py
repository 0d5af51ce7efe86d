"""`config`: the settings as they are now and where each comes from; its files are changed and trusted here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.terminal.streams import Terminal
    from caravan.values.settings import SettingRow, Written

NameArgument = Annotated[
    str, typer.Argument(metavar="SETTING", help="As a file has it, or its variable.", show_default=False)
]
HereOption = Annotated[bool, typer.Option("--here", help="The working directory's caravan.toml, not the user's.")]
FileArgument = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="Else caravan.toml of the working directory.")
]


def config(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those too that have their defaults.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the settings that are set, and where each comes from.

    The lowest first: /etc/caravan/caravan.toml, caravan.toml of your configuration directory, that of the working
    directory (where you trust it), environment, --setting NAME=VALUE. With --json all settings are told.
    """
    if ctx.invoked_subcommand is not None:
        return
    terminal = terminal_of(ctx)
    rows = wiring_of(ctx).settings()
    if as_json:
        terminal.document([dict(row._asdict()) for row in rows])
        return
    _table(terminal, rows if every else [row for row in rows if row.source != "default"], every=every)
    left = sum(1 for row in rows if row.source == "default")
    if left and not every:
        others = "1 other has its default" if left == 1 else f"{left} others have their defaults"
        terminal.out(f"{others}: `main.py config --all` lists them.")


def _table(terminal: Terminal, rows: Sequence[SettingRow], *, every: bool) -> None:
    if not rows:
        return
    from caravan.terminal.console import cell, draw, listing

    table = listing("setting", *(["variable"] if every else []), "value", "from")
    for row in rows:
        where = row.where if row.source != "environment" else f"environment: {row.where}"
        words = [row.name, *([row.variable] if every else []), row.value, where or row.source]
        table.add_row(*(cell(text) for text in words))
    table.columns[0].no_wrap = True
    draw(terminal.stdout, table)


def get(ctx: typer.Context, name: NameArgument, as_json: JsonOption = False) -> None:
    """Print the value of one setting; secrets are masked."""
    terminal, wanted = terminal_of(ctx), name.strip().lower()
    rows = wiring_of(ctx).settings()
    found = [row for row in rows if wanted in (row.name.lower(), row.variable.lower())]
    if not found:
        import difflib

        near = difflib.get_close_matches(wanted.removeprefix("caravan_"), [row.name for row in rows], n=1)
        hint = f"Did you mean {near[0]}?" if near else "`main.py config --all` lists them."
        raise UsageError(f"There is no setting {name}.", hint=hint)
    if as_json:
        terminal.document(dict(found[0]._asdict()))
    else:
        terminal.out(found[0].value)


def set_value(
    ctx: typer.Context,
    name: NameArgument,
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="Left out it is asked for, or read from stdin.")
    ] = None,
    here: HereOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a setting into your caravan.toml; its comments stay."""
    terminal, control = terminal_of(ctx), wiring_of(ctx).config_control
    secret = control.is_secret(name)
    if value is not None and secret:
        hint = "Leave the value out: it is asked for, or read from standard input."
        raise UsageError(f"{name} is a secret: everybody on this machine can read a command line.", hint=hint)
    if value is None:
        value = _asked(terminal, name, secret=secret)
    _tell(terminal, control.set(name, value, here=here), "{name} = {value} stands in {path}.", as_json=as_json)


def _asked(terminal: Terminal, name: str, *, secret: bool) -> str:
    if terminal.interactive:
        if not secret:
            return terminal.read(f"{name}: ")
        import getpass

        return getpass.getpass(f"{name}: ", stream=terminal.stderr).strip()
    value = terminal.stdin.readline().strip()
    if not value:
        raise UsageError(f"There is no value for {name}.", hint="Give it, or bring it on standard input.")
    return value


def unset(ctx: typer.Context, name: NameArgument, here: HereOption = False, as_json: JsonOption = False) -> None:
    """Take a setting out of your caravan.toml."""
    written = wiring_of(ctx).config_control.unset(name, here=here)
    said = "{name} is taken out of {path}." if written.changed else "{name} does not stand in {path}."
    _tell(terminal_of(ctx), written, said, as_json=as_json)


def edit(ctx: typer.Context, here: HereOption = False, as_json: JsonOption = False) -> None:
    """Open your caravan.toml in your editor, and check what you wrote."""
    written = wiring_of(ctx).config_control.edit(here=here)
    _tell(terminal_of(ctx), written, "{path} can be used.", as_json=as_json)


def path(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Say which files of settings there are, the lowest first."""
    terminal, places = terminal_of(ctx), wiring_of(ctx).config_control.places()
    if as_json:
        terminal.document([dict(place._asdict()) for place in places])
        return
    for place in places:
        state = "in force" if place.in_force else "there, not read" if place.exists else "not there"
        limits = " (not trusted: only what lowers limits)" if place.in_force and not place.trusted else ""
        terminal.out(f"{place.path}  {state}{limits}")


def trust(ctx: typer.Context, file: FileArgument = None, as_json: JsonOption = False) -> None:
    """Take all of a working directory's caravan.toml, as long as it stays as it is now. Read it before."""
    written = wiring_of(ctx).config_control.trust(file)
    _tell(terminal_of(ctx), written, "{path} is trusted until it changes. It sets: {name}.", as_json=as_json)


def untrust(ctx: typer.Context, file: FileArgument = None, as_json: JsonOption = False) -> None:
    """Take of a working directory's caravan.toml only what lowers limits, as before it was trusted."""
    written = wiring_of(ctx).config_control.untrust(file)
    said = "{path} is trusted no more." if written.changed else "{path} was not trusted."
    _tell(terminal_of(ctx), written, said, as_json=as_json)


def _tell(terminal: Terminal, written: Written, said: str, *, as_json: bool) -> None:
    if as_json:
        terminal.document(dict(written._asdict()))
    else:
        terminal.out(said.format(**written._asdict()))
