"""`watch`: look at runs that other processes drive, without touching them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.terminal.progress import View
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.run import RunRecord

_PAUSE_S = 1.0
_DETACHED = 130


def watch(
    ctx: typer.Context,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run ids, or their beginnings.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> int:
    """Watch runs until they end; Ctrl-C leaves them alone.

    The exit code is the run's; of several runs the highest. With --json one document at the end has them all (`runs`).
    """
    from caravan.terminal.results import document, show_result

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    store = wiring.store()
    records = {record.id: record for record in map(store.run, runs)}
    codes = _watch(wiring, terminal, list(records.values()))
    if codes is None:
        what = "the run is" if len(records) == 1 else "the runs are"
        if as_json:
            runs_left: list[Json] = [{"run_id": i, "status": store.run(i).status.value} for i in records]
            terminal.document({"runs": runs_left, "exit_code": _DETACHED})
        terminal.err(f"Left; {what} not changed by that. Watch again with `main.py watch {joined(records, ' ')}`.")
        return _DETACHED
    from caravan.terminal.lookup import look_up

    results = [look_up(wiring, store.run(run_id)) for run_id in records]
    if as_json:
        terminal.document({"runs": [document(result) for result in results], "exit_code": max(codes)})
        return max(codes)
    for result in results:
        show_result(terminal, result, as_json=False)
    return max(codes)


def _watch(wiring: Wiring, terminal: Terminal, records: Sequence[RunRecord]) -> list[int] | None:
    """The runs' exit codes at their ends; None when the person left before."""
    from caravan.terminal.following import Follower
    from caravan.terminal.interrupts import Interrupts
    from caravan.terminal.progress import make_views

    titles = [record.id for record in records] if len(records) > 1 else [""]
    with Interrupts(wiring.clock), wiring.driver() as driver, ExitStack() as held:
        views = make_views(terminal, wiring.clock, titles)
        try:
            open_: dict[Follower, tuple[View, ExitStack]] = {}
            for record, view in zip(records, views, strict=True):
                showing = held.enter_context(ExitStack())
                showing.enter_context(view)
                open_[Follower(wiring, driver, record.id, view)] = view, showing
            codes = []
            while True:
                for follower in list(open_):
                    code = follower.look()
                    if code is not None:
                        codes.append(code)
                        open_.pop(follower)[1].close()
                if not open_:
                    return codes
                wiring.clock.sleep(_PAUSE_S)
        except KeyboardInterrupt:
            for view in views:  # also one that was interrupted while it opened
                view.__exit__(None, None, None)
            return None
