"""The words of a comparison, the same on a terminal and on a page: figures, spreads, differences. Pure."""

from collections.abc import Callable
from functools import partial

from caravan.values.amounts import duration, money
from caravan.values.comparison import CostRow, Group, MetricRow, Spread, Versus


def figure(value: float | None) -> str:
    """A figure in six digits; a dash where there is none."""
    return "-" if value is None else f"{value:.6g}"


def cost_cells(row: CostRow) -> tuple[str, str, str]:
    """Time, cost and GPU memory of a run: measured, of what was estimated; what is not known is left out."""
    return (
        _of_estimate(row.measured_s, row.seconds, partial(duration, exact=True)),
        _of_estimate(row.measured_usd, row.usd, money),
        _of_estimate(row.measured_gib, row.memory_gib, lambda gib: f"{gib:.3g} GiB"),
    )


def _of_estimate(measured: float | None, estimated: float | None, form: Callable[[float], str]) -> str:
    if measured is None:
        return "-" if estimated is None else f"estimated {form(estimated)}"
    return form(measured) if estimated is None else f"{form(measured)} of {form(estimated)}"


def spread_text(spread: Spread) -> str:
    """Mean, standard deviation and number of seeds."""
    if spread.mean is None:
        return "-"
    if spread.deviation is None:
        return f"{figure(spread.mean)} (n=1)"
    return f"{figure(spread.mean)} ± {spread.deviation:.2g} (n={spread.n})"


def metric_text(row: MetricRow) -> str:
    """The metric's name with its unit and which way is better."""
    arrow = {"min": " ↓", "max": " ↑", None: ""}[row.direction]
    return f"{row.name}{f' [{row.unit}]' if row.unit else ''}{arrow}"


def base_text(row: MetricRow) -> str:
    """What the models were before their training."""
    return " / ".join(dict.fromkeys(figure(b) for b in row.base if b is not None)) or "-"


def versus_cells(versus: Versus) -> tuple[str, str, str, str]:
    """Difference, interval, p-value, and that among all differences."""
    apart = "-" if versus.difference is None else f"{versus.difference:+.4g}"
    between = "-" if versus.low is None or versus.high is None else f"{versus.low:+.3g} to {versus.high:+.3g}"
    return apart, between, probability(versus.p), probability(versus.p_all)


def probability(p: float | None) -> str:
    """A p-value in two digits."""
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.2g}"


def group_text(group: Group) -> str:
    """The runs of a group and their seeds."""
    seeds = f"seeds {', '.join(map(str, group.seeds))}" if group.seeds else "no seed set"
    more = f"; taken along: {', '.join(group.taken)}" if group.taken else ""
    again = f"; made again: {', '.join(group.repeats)}" if group.repeats else ""
    named = [run for run in group.runs if run not in group.taken]
    return f"{', '.join(named)} ({seeds}{more}{again})"
