"""A comparison as one HTML page that needs nothing else: no script, no address, the report's style."""

import base64
import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from caravan.runs.comparison_words import (
    base_text,
    cost_cells,
    figure,
    group_text,
    metric_text,
    spread_text,
    versus_cells,
)
from caravan.values.base import Json
from caravan.values.comparison import Comparison, Judged, MetricRow

_STYLE: Final = "report.css"
_TONES: Final = {Judged.BETTER: "good", Judged.WORSE: "bad", Judged.NOT_COMPARABLE: "warn"}
WIDTH: Final = 640  # units of the picture's view box, as are those below
_LEFT: Final = 40
_RIGHT: Final = 24
_ROW: Final = 26


class Dots(NamedTuple):
    """A group's figures on a line: x of each seed's, of their mean, and y."""

    label: str
    at: tuple[float, ...]
    mean: float
    y: float
    tone: int


class Strip(NamedTuple):
    """One metric's figures, a line for each group, with the ends of the scale."""

    rows: tuple[Dots, ...]
    height: int
    low: str
    high: str
    text: str


def comparison_html(found: Comparison, templates: Path) -> str:
    """The page. `templates` holds its template and the report's style."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(templates), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals.update(
        spread=spread_text,
        metric=metric_text,
        base=base_text,
        group_text=group_text,
        cells=versus_cells,
        strip=strip,
        tone=lambda judged: _TONES.get(judged, ""),
        plain=_plain,
        costs=cost_cells,
        width=WIDTH,
    )
    style = (templates / _STYLE).read_text("utf-8").strip() + "\n"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("compare.html.j2").render(found=found, style=style, digest=digest)


def strip(row: MetricRow, labels: tuple[str, ...]) -> Strip | None:
    """Where the figures of each seed stand; None where there are fewer than two or all are the same."""
    values = [value for spread in row.groups for value in spread.values]
    if len(values) < 2 or min(values) == max(values):
        return None
    low, high = min(values), max(values)

    def x(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 1)

    rows = [
        Dots(label, tuple(x(v) for v in spread.values), x(spread.mean), _ROW * (n + 0.5), n % 8)
        for n, (label, spread) in enumerate(zip(labels, row.groups, strict=True))
        if spread.mean is not None
    ]
    told = "; ".join(f"{label}: {spread_text(s)}" for label, s in zip(labels, row.groups, strict=True))
    return Strip(tuple(rows), _ROW * len(row.groups) + 20, figure(low), figure(high), told)


def _plain(value: Json) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return str(value)
