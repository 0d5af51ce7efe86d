"""Metrics that a training logs, read from its output by shape alone. Pure."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.values.metric_names import QUALIFIED, joined

# loss=1.23, loss: 1.23, loss 1.23, 'loss': 1.23, "eval_loss": 1.2e-3, 'loss': '1.23' (as Transformers 5 prints it); the
# name is one word of letters, digits, _ / . -, or has words before it that say of what it is: `Val Loss: 1.23`
_NUMBER: Final = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-?(?:nan|inf)"
_PAIR: Final = re.compile(
    rf"[\"']?(?<![\w/-])(?P<before>(?i:{QUALIFIED}){{1,3}})?(?P<name>[A-Za-z][\w./-]{{0,40}})[\"']?(?:\s*[=:]\s*|\s+)"
    rf"(?P<quote>[\"']?)(?P<value>{_NUMBER})(?P=quote)(?![\w:.])"
)
_QUOTED: Final = re.compile(_NUMBER)
_COUNTED: Final = re.compile(r"epochs?|(?:global_)?steps?|lr|learning_rate|episodes?", re.IGNORECASE)
# What a program says of its arguments, not of its training: `train.py: error: ...`, `usage: ...`; `error: 0.5` is none.
_SAID: Final = re.compile(r"\s*+(?:\S{1,80}:\s++)?(?:error|usage):(?!\s*-?[\d.])", re.IGNORECASE)
METRIC: Final = re.compile(
    r"loss|acc|f1|perplexity|ppl|bleu|rouge|reward|rew_|_rew|return_|_return|score|lr|learning_rate|epoch|step|episode"
)
"""What a name says, in small letters, that is taken for a metric's."""

MOST: Final = 50
"""Names of metrics that are kept of a log."""
_LONGEST: Final = 4096  # characters of a line that are read; no metric stands further on
_DIGITS: Final = 40  # characters of a number in quotes


def metric_rows(lines: Iterable[str], *, names: tuple[str, ...] = ()) -> Iterator[dict[str, float]]:
    """The metrics of each line that has any, in order: what was logged together stays together.

    Read are JSON objects, else pairs: `name=value`, `name: value`, `name value`. A value may be nan or infinite, and in
    quotes. A name of several words is told as one: `train_loss` of `Train Loss: 0.5` (`metric_names.QUALIFIED`).
    What an option of a command line is given (`--lr 0.1`) is none, nor what stands in a line on wrong arguments.
    A name counts as a metric when it is in `names` or says so itself (loss, accuracy, step, ...).
    """
    for line in lines:
        line = line[:_LONGEST]
        if _SAID.match(line):
            continue
        pairs = _json_pairs(line) or [(_named(m, names), float(m["value"])) for m in _PAIR.finditer(line)]
        found = {k: v for k, v in pairs if (k in names or METRIC.search(k.lower()))}
        if found:
            yield found


def last_metrics(text: str, *, names: tuple[str, ...] = ()) -> dict[str, float]:
    """The last value of each metric in `text`, read as `metric_rows` does: of the first 50, those in `names` first."""
    known: dict[str, float] = {}
    others: dict[str, float] = {}
    for row in metric_rows(text.splitlines(), names=names):
        for name, value in row.items():
            if name in names:
                known[name] = value
            elif name in others or len(others) < MOST:
                others[name] = value
    first = {name: known[name] for name in names if name in known}
    return dict(list({**first, **others}.items())[:MOST])


def _named(found: re.Match[str], names: tuple[str, ...]) -> str:
    """The name with what was said before it, where it is a metric's and no counter's."""
    before, name = found["before"], found["name"]
    if not before or _COUNTED.fullmatch(name):
        return name
    whole = joined(before, name)
    return whole if name in names or METRIC.search(whole) else name


def _json_pairs(line: str) -> list[tuple[str, float]]:
    if not line.lstrip().startswith("{"):
        return []
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return []
    if not isinstance(record, dict):
        return []
    return [(k, value) for k, v in record.items() if (value := _value(v)) is not None]


def _value(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if len(value) < _DIGITS and _QUOTED.fullmatch(value) else None
    return _number(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return float("inf") if value > 0 else float("-inf")
