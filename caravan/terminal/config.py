"""`config`: the settings as they are now, and where each comes from."""

from __future__ import annotations

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of


def config(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show the settings and where each comes from."""
    terminal = terminal_of(ctx)
    rows = wiring_of(ctx).settings()
    if as_json:
        terminal.document([{"name": name, "value": value, "source": source} for name, value, source in rows])
        return
    from caravan.terminal.console import cell, draw, listing

    table = listing("setting", "value", "from")
    for row in rows:
        table.add_row(*(cell(text) for text in row))
    table.columns[0].no_wrap = True
    draw(terminal.stdout, table)
