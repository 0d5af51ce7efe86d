"""Whether a reproduction agrees, as a person reads it: the verdict, a table of metrics, and what was not the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caravan.runs.comparison_words import figure
from caravan.terminal.text import one_line
from caravan.values.reproduction import Agreement

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal
    from caravan.values.reproduction import MetricAgreement, Reproduced


def show_agreement(terminal: Terminal, found: Reproduced) -> None:
    """Print it, on stdout."""
    from caravan.terminal.console import cell, draw, listing

    verdicts = {
        Agreement.AGREES: f"It agrees with run {found.original}",
        Agreement.DIFFERS: f"It does not agree with run {found.original}",
        Agreement.UNKNOWN: f"Whether it agrees with run {found.original} can't be told",
    }
    terminal.out(one_line(f"{verdicts[found.verdict]}: {found.text}."))
    if found.metrics:
        table = listing("metric", "original", "this run", "off by", "allowed", "")
        for row in found.metrics:
            table.add_row(*map(cell, _cells(row)))
        for column in table.columns[1:5]:
            column.justify = "right"
        draw(terminal.stdout, table)
        terminal.out(f"Tolerance: {found.by}.")
    if found.reasons:
        why = "Why it may be off:" if found.verdict is not Agreement.AGREES else "What was not the same, or may not be:"
        terminal.out(why)
        for reason in found.reasons:
            terminal.out(f"  {one_line(reason)}")


def _cells(row: MetricAgreement) -> tuple[str, ...]:
    both = row.original is not None and row.repeat is not None
    off = abs((row.repeat or 0.0) - (row.original or 0.0)) if both else None
    said = row.note or ("equal" if row.exact else "agrees" if row.verdict is Agreement.AGREES else "does not agree")
    apart = "0" if row.exact else figure(off)
    return one_line(row.name), figure(row.original), figure(row.repeat), apart, figure(row.allowed), said
