"""Drawing a timeline: a tree with its times in columns, and the slowest steps as a list. Returns rich texts.

The tree's lines, the name and what matters of a step stand on the left; time, share of the whole and state in words
stand in columns on the right, in the same place on every row.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from caravan.runs.timeline import State
from caravan.terminal.text import one_line, words
from caravan.values.amounts import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caravan.runs.timeline import Step, Timeline
    from caravan.values.base import Json

_TIME: Final = 13  # columns: `> 59 min 59 s`
_SHARE: Final = 6
_STATE: Final = 13
_NARROWEST: Final = 24  # columns for the left side, whatever the terminal says
_SHOWN_SHARE: Final = 0.01
_SLOW_SHARE: Final = 0.10

_MEASURABLE: Final = 0.0005  # seconds; less is `<1 ms`
_MOST_NOTES: Final = 8  # rows of changed fields or of an error under a step

# Branch, last branch, trunk, nothing, arrow, what stands for left-out text: for a terminal that has them and for ASCII.
_MARKS: Final = {True: ("├─ ", "└─ ", "│  ", "   ", "→", "…"), False: ("|- ", "`- ", "|  ", "   ", "->", "~")}
_STYLES: Final = {
    State.FAILED: "bold red",
    State.CUT_OFF: "yellow",
    State.INTERRUPTED: "yellow",
    State.ASKED: "cyan",
    State.WAITING: "cyan",
    State.RUNNING: "green",
}
# Attribute → how it is said; what is not here is left to `--json`. The first stand first.
_SAID: Final = {
    "attempt": "attempt {}",
    "by": "{}",
    "asks": "asks for {}",
    "repair": "{}",
    "case": "case {}",
    "for": "for {}",
    "score": "score {}",
    "why": "{}",
    "job": "job {}",
    "alloc": "{}",
    "path": "{}",
    "stream": "{}",
    "model": "{}",
    "prompt_version": "prompt {}",
    "failure_class": "{}",
    "confidence": "confidence {}",
    "outcome": "{}",
    "found": "found: {}",
    "entry_point": "{}",
    "files": "{} files",
    "questions": "questions: {}",
    "answers": "answers: {}",
    "cases": "cases: {}",
    "changes": "changes: {}",
    "repairs": "repairs: {}",
    "first": "first: {}",
    "worked": "worked: {}",
    "nodes": "nodes: {}",
    "cluster": "{}",
    "errors": "errors: {}",
    "placement_failures": "not placed: {}",
    "budget": "budget {}",
    "run_status": "run {}",
    "node": "on {}",
    "snapshots": "{} snapshots",
    "log_bytes": "{} bytes of log",
    "bytes": "{} bytes",
    "reason": "{}",
    "failure": "{}",
    "input_tokens": "{} tokens in",
    "output_tokens": "{} tokens out",
    "at": "{} UTC",
    "pid": "process {}",
}


def tree_rows(line: Timeline, *, width: int, depth: int | None = None, fancy: bool = True) -> Iterator[Text]:
    """The tree down to `depth` (1: drives alone), a row for each step and further ones for an error or a change.

    `fancy`: the terminal has more than ASCII.
    """
    layout = _Layout(width, line.seconds, fancy=fancy)
    branch, last_branch, trunk, blank = _MARKS[fancy][:4]
    waiting = list(reversed(_children(line.steps, 1, "")))
    while waiting:
        level, step, before, last = waiting.pop()
        below = before + (blank if last else trunk)
        shown = step.inside if depth is None or level < depth else []
        yield layout.row(step, before + (last_branch if last else branch), hidden=len(step.inside) - len(shown))
        yield from layout.notes(step, below + (trunk if shown else blank))
        waiting += reversed(_children(shown, level + 1, below))


def _children(steps: Sequence[Step], level: int, before: str) -> list[tuple[int, Step, str, bool]]:
    return [(level, step, before, number == len(steps)) for number, step in enumerate(steps, 1)]


def slowest_rows(line: Timeline, count: int, *, width: int, fancy: bool = True) -> Iterator[Text]:
    """The steps with the most time of their own, as a list."""
    layout = _Layout(width, line.seconds, fancy=fancy)
    for step in line.slowest(count):
        yield layout.row(step, "", seconds=step.own_seconds)


class _Layout:
    """The columns. `whole`: seconds that are 100 %."""

    def __init__(self, width: int, whole: float, *, fancy: bool) -> None:
        self._width = max(width, _NARROWEST + _TIME + _SHARE + _STATE)
        self._left = self._width - _TIME - _SHARE - _STATE
        self._whole = whole
        self._arrow, self._more = _MARKS[fancy][4:]

    def row(self, step: Step, guide: str, *, hidden: int = 0, seconds: float | None = None) -> Text:
        """A step on one line of the layout's width."""
        seconds = step.seconds if seconds is None else seconds
        share = seconds / self._whole if seconds is not None and self._whole > 0 else 0.0
        name, said = one_line(step.name) or "?", details(step) + (f"  (+{hidden} inside)" if hidden else "")
        text = self._fitted(f"{guide}{name}  {said}".rstrip(), self._left)
        row = Text(text + " " * (self._left - cell_len(text)), no_wrap=True, overflow="ignore")
        row.stylize("dim", 0, len(guide))
        row.stylize("bold" if step.kind in ("run", "node") else "", len(guide), len(guide) + len(name))
        row.stylize("dim", len(guide) + len(name))
        took = (
            ""
            if seconds is None
            else f"{'> ' if step.at_least and seconds >= _MEASURABLE else ''}{took_words(seconds)}"
        )
        row.append(f"{took:>{_TIME}}", style="bold" if share >= _SLOW_SHARE else "")
        share = min(share, 1.0)  # a part is never more than the whole, which rounding of short times can make it
        row.append(f"{share:{_SHARE}.0%}" if share >= _SHOWN_SHARE else " " * _SHARE)
        row.append("  ")
        row.append(step.state.value, style=_STYLES.get(step.state, ""))
        return row

    def notes(self, step: Step, guide: str) -> Iterator[Text]:
        """What a step's row has no room for, under it: its error, and the fields that it changed."""
        lines = [(f"{path} {a} {self._arrow} {b}", "") for path, a, b in _changed(step)]
        if step.error and not any(s.error == step.error for s in step.inside):  # told where it came from
            room = max(self._width - cell_len(guide) - 2, _NARROWEST)
            pieces = [p for row in wrap(one_line(step.error), room) for p in chop_cells(row, room)]
            lines += [(f"! {piece}", "red") for piece in pieces]
        for line, style in lines[:_MOST_NOTES]:
            row = Text(guide, style="dim", no_wrap=True, overflow="ignore")
            row.append(self._fitted(line, self._width - cell_len(guide)), style=style or "not dim")
            yield row

    def _fitted(self, text: str, room: int) -> str:
        return text if cell_len(text) <= room else set_cell_size(text, room - 1).rstrip() + self._more


def details(step: Step) -> str:
    """What matters of a step's attributes, in words."""
    return "  ".join(form.format(words(value)) for key, form in _SAID.items() if _told(value := _value(step, key)))


def _value(step: Step, key: str) -> Json:
    """An attribute as a row has room for it; `--json` has it whole."""
    value = step.attributes.get(key)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return None
    if key == "job" and isinstance(value, str):
        return (
            None if step.kind == "node" else value.rpartition("-")[2]
        )  # the rest is the run's; a node has its attempt
    if isinstance(value, float):
        return round(value, 2)
    return value[:8] if key == "case" and isinstance(value, str) else value


def _told(value: Json) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def _changed(step: Step) -> list[tuple[str, str, str]]:
    before, after = step.attributes.get("before"), step.attributes.get("after")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return []
    return [(one_line(path), words(before.get(path)), words(after.get(path))) for path in {**before, **after}]


def took_words(seconds: float) -> str:
    """Seconds as `<1 ms`, `12 ms`, `1.2 s`, then as `duration` says what was measured."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= _MEASURABLE else "<1 ms"
    return f"{seconds:.1f} s" if seconds < 59.95 else duration(seconds, exact=True)
