"""A comparison as a person reads it: what differs first, then metrics, then time and cost; narrow terminals stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caravan.runs.comparison_words import base_text, cost_cells, group_text, metric_text, spread_text, versus_cells
from caravan.terminal.text import one_line, words
from caravan.values.comparison import Judged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from caravan.terminal.streams import Terminal
    from caravan.values.comparison import Comparison, CostRow

_NARROW = 24  # columns that a group's figures need at least beside the names
_STYLES = {Judged.BETTER: "green", Judged.WORSE: "red", Judged.NOT_COMPARABLE: "yellow"}


def show_comparison(terminal: Terminal, found: Comparison) -> None:
    """Print it, on stdout."""
    from caravan.terminal.console import console_on, draw

    width = console_on(terminal.stdout).size.width
    for text in found.head:
        terminal.out(one_line(text))
    for group in found.groups:
        terminal.out(one_line(f"{group.label} {group_text(group)}"))
        for note in group.notes:
            terminal.out(f"   {one_line(note)}")
    narrow = width < _NARROW * (len(found.groups) + 1)
    if found.sources:
        terminal.out("")
        draw(terminal.stdout, _sources(found))
    if found.plan:
        terminal.out("\nPlan, where it differs")
        draw(terminal.stdout, _plan(found))
    elif len(found.groups) > 1:
        terminal.out("\nThe plans say the same.")
    if found.metrics:
        terminal.out("\nMetrics (mean ± standard deviation over seeds; * is the best)")
        if narrow:
            _stacked(terminal, found)
        else:
            draw(terminal.stdout, _metrics(found))
        _verdicts(terminal, found)
    terminal.out("\nTime and cost (measured, of what was estimated)")
    draw(terminal.stdout, _costs(found.costs))
    for text in found.notes:
        terminal.out(one_line(text))


def _sources(found: Comparison) -> Table:
    from caravan.terminal.console import cell, listing

    table = listing("", *(g.label for g in found.groups), "")
    for row in found.sources:
        if row.name == "held-out data" and not any("SHA" in value for value in row.values):
            continue
        said = {True: "the same", False: "differs", None: "not known"}[row.same]
        style = "yellow" if row.same is False else ""
        table.add_row(row.name, *(cell(one_line(v)) for v in row.values), cell(said, style))
    return table


def _plan(found: Comparison) -> Table:
    from caravan.terminal.console import cell, listing

    table = listing("field", *(g.label for g in found.groups))
    for row in found.plan:
        values = (f"{words(value)} ({by})" for value, by in zip(row.values, row.by, strict=True))
        table.add_row(cell(row.path), *(cell(one_line(text, 200)) for text in values))
    return table


def _metrics(found: Comparison) -> Table:
    from caravan.terminal.console import cell, listing

    base = any(b is not None for row in found.metrics for b in row.base)
    table = listing("metric", *(["base"] if base else []), *(g.label for g in found.groups))
    for row in found.metrics:
        cells = [base_text(row)] if base else []
        cells += [spread_text(s) + " *" * (row.best == n) for n, s in enumerate(row.groups)]
        table.add_row(cell(one_line(metric_text(row))), *map(cell, cells))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _stacked(terminal: Terminal, found: Comparison) -> None:
    for row in found.metrics:
        terminal.out(one_line(metric_text(row)))
        if any(b is not None for b in row.base):
            terminal.out(f"  base {base_text(row)}")
        for number, (group, spread) in enumerate(zip(found.groups, row.groups, strict=True)):
            terminal.out(f"  {group.label} {spread_text(spread)}{' *' * (row.best == number)}")


def _verdicts(terminal: Terminal, found: Comparison) -> None:
    """What each group's figures come to beside the first one's, a line for each metric that is judged."""
    from caravan.terminal.console import cell, draw, listing

    if len(found.groups) < 2:
        return
    table = listing("metric", "", "verdict", "difference", "95 % interval", "p", "p (all)", "")
    for row in found.metrics:
        for group, versus in zip(found.groups, row.versus, strict=True):
            if versus is None or versus.judged is Judged.NOT_JUDGED:
                continue
            table.add_row(
                cell(one_line(row.name)),
                cell(f"{group.label} to {found.groups[0].label}"),
                cell(versus.judged.value, _STYLES.get(versus.judged, "")),
                *map(cell, (*versus_cells(versus), one_line(versus.text))),
            )
    if table.row_count:
        terminal.out("")
        draw(terminal.stdout, table)


def _costs(rows: Sequence[CostRow]) -> Table:
    from caravan.terminal.console import cell, listing

    table = listing("run", "", "status", "attempts", "time", "cost", "GPU memory")
    for row in rows:
        cells = (row.run_id, row.group, row.status.value, str(row.attempts), *cost_cells(row))
        table.add_row(*map(cell, cells))
    return table
