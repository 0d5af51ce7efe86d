"""What `estimate` says of a training that needs no GPU: its time and cost, as the plan's own estimate has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caravan.terminal.text import one_line, span
from caravan.values.amounts import duration, money

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal
    from caravan.values.estimate import Estimate


def show_without_gpu(terminal: Terminal, name: str, found: Estimate, *, as_json: bool) -> int:
    """Print it; exit code 0. Seconds and US dollars are null where they aren't known."""
    seconds, cost = found.seconds, found.cost_usd
    if as_json:
        terminal.document(
            {
                "model": name,
                "peak_gib": 0.0,
                "high_gib": 0.0,
                "breakdown": {},
                "gpus": [],
                "seconds": seconds.model_dump(mode="json") if seconds else None,
                "cost_usd": cost.model_dump(mode="json") if cost else None,
                "assumptions": list(found.assumptions),
            }
        )
        return 0
    terminal.out("The training needs no GPU, so no GPU memory.")
    terminal.out()
    if seconds is not None:
        terminal.out(f"time: {duration(seconds.likely)} ({span(seconds.low, seconds.high, duration)})")
    if cost is not None:
        terminal.out(f"cost: {money(cost.likely)} ({span(cost.low, cost.high, money)})")
    for note in found.assumptions:
        terminal.out(one_line(f"Note: {note}"))
    return 0
