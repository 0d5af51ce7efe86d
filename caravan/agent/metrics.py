"""Metrics that a training logs, read from its output by shape alone. Pure."""

import json
import re
from typing import Final

# loss=1.23, loss: 1.23, loss 1.23, 'loss': 1.23, "eval_loss": 1.2e-3; the name is one word of letters, digits, _ / . -
_PAIR: Final = re.compile(
    r"[\"']?([A-Za-z][\w./-]{0,40})[\"']?(?:\s*[=:]\s*|\s+)(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-?(?:nan|inf))(?![\w:.])"
)
_METRIC: Final = re.compile(r"loss|acc|f1|perplexity|ppl|bleu|rouge|reward|score|lr|learning_rate|epoch|step")


def last_metrics(text: str, *, names: tuple[str, ...] = ()) -> dict[str, float]:
    """The last value of each metric in `text`, which may be nan or infinite.

    Read are JSON lines, else pairs: `name=value`, `name: value`, `name value`.

    A name counts as a metric when it is in `names` or says so itself (loss, accuracy, step, ...).
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        pairs = _json_pairs(line) or [(m[1], float(m[2])) for m in _PAIR.finditer(line)]
        found |= {k: v for k, v in pairs if (k in names or _METRIC.search(k.lower()))}
    return found


def _json_pairs(line: str) -> list[tuple[str, float]]:
    if not line.lstrip().startswith("{"):
        return []
    try:
        record = json.loads(line)
    except ValueError:
        return []
    if not isinstance(record, dict):
        return []
    return [(k, float(v)) for k, v in record.items() if isinstance(v, int | float) and not isinstance(v, bool)]
