"""The figures that a model is known by, with what they mean: which one comes first, and how it is told. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from caravan.values.evaluation import CheckKind
from caravan.values.metric_names import held_out
from caravan.values.registry import ModelVersion
from caravan.values.training import MetricSpec


class Figure(NamedTuple):
    """A metric's value beside that of the base model; None: not measured. `known`: its definition is."""

    name: str
    value: float | None
    base: float | None
    spec: MetricSpec
    known: bool = True

    @property
    def way(self) -> str:
        """`higher` or `lower` is better; a dash where nobody has said which."""
        return {"max": "higher", "min": "lower"}[self.spec.direction] if self.known else "-"


def figures(model: ModelVersion) -> tuple[Figure, ...]:
    """All of them, the one that it was judged by first, then those with a definition in their order, then the rest.

    Where it was judged by no single one, what was taken over held-out data comes before what was learned from: the
    loss of a training says little of its model.
    """
    specs = {spec.name: spec for spec in model.definitions}
    names = [c.metric for c in model.gate.checks if c.metric] if model.gate else []
    judged = [c.metric for c in (model.gate.checks if model.gate else ()) if c.kind in _JUDGED and c.metric]
    order = dict.fromkeys([*judged, *specs, *names, *model.metrics, *model.base_metrics])
    known = [n for n in order if n in model.metrics or n in model.base_metrics]
    known.sort(key=lambda name: (name not in judged, not held_out(name)))
    return tuple(
        Figure(n, model.metrics.get(n), model.base_metrics.get(n), specs.get(n) or MetricSpec(name=n), n in specs)
        for n in known
    )


_JUDGED = (CheckKind.TARGET, CheckKind.BASE)


def figure(model: ModelVersion, name: str) -> Figure | None:
    """The figure of that name, where the model has it."""
    return next((found for found in figures(model) if found.name == name and found.value is not None), None)


def best_first(models: Iterable[ModelVersion], name: str) -> tuple[ModelVersion, ...]:
    """Models by a metric, the best first; those without it last."""
    rows = list(models)
    direction = next((f.spec.direction for m in rows if (f := figure(m, name)) is not None), "min")

    def key(model: ModelVersion) -> tuple[int, float]:
        found = figure(model, name)
        if found is None or found.value is None:
            return 1, 0.0
        return 0, -found.value if direction == "max" else found.value

    return tuple(sorted(rows, key=key))


def shown(value: float | None, spec: MetricSpec) -> str:
    """A value with its unit: shares in percent, integers whole."""
    if value is None:
        return "-"
    if spec.type == "share":
        return f"{100 * value:.4g} %"
    text = f"{value:.0f}" if spec.type == "integer" else f"{value:.4g}"
    return f"{text} {spec.unit}" if spec.unit else text
