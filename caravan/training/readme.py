"""What a person reads beside a rendered script: what it is, what it takes, what it writes. Pure."""

from caravan.values.base import Json
from caravan.values.training import Knob, MetricSpec, TrainingType


def readme(found: TrainingType, *, version: str = "") -> str:
    """The README of a type's rendered files, as Markdown."""
    lines = [f"# {found.title}", "", found.about.strip(), ""]
    by = f"Caravan {version}".strip()
    lines += [f"Rendered by {by} from its training type `{found.name}`. Nothing of it is in the repository.", ""]
    formats = ", ".join(f"`{f.value}`" for f in found.formats)
    lines += [f"Data it takes: {formats}. Started as `python {found.entry} --data FILE …`.", ""]
    if found.knobs:
        lines += ["| option | default | meaning |", "|---|---|---|", *map(_row, found.knobs), ""]
    if found.metrics:
        lines += ["It logs, one JSON object in a line:", ""]
        lines += [
            f"- `{m.name}`{f' ({m.unit})' if m.unit else ''}{f': {m.title}' if m.title else ''}" for m in found.metrics
        ]
        lines += [""]
    return "\n".join(lines)


def _row(knob: Knob) -> str:
    default = "" if knob.default is None else f"`{written(knob.default)}`"
    choices = f" One of {', '.join(f'`{written(c)}`' for c in knob.choices)}." if knob.choices else ""
    return f"| `{knob.flag}` | {default} | {(knob.about.rstrip('.') + '.') if knob.about else ''}{choices} |"


def _metric(metric: MetricSpec) -> str:
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"- `{metric.name}`{unit}" + (f": {metric.title}" if metric.title else "")


def written(value: Json) -> str:
    """A value as it is given on the script's command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
