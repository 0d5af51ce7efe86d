"""Metrics of groups of runs: their spread over seeds, and whether a difference is more than that. Pure.

A group's figures are one for each seed. Runs of the same seed are repeats of one draw, so they count once, by their
mean; runs of which no seed is known count each for itself, unless they came to exactly the same.
"""

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Final, Literal

from caravan.runs.student import deviation, difference, holm, mean, seeds_that_tell, shown_with
from caravan.values.comparison import Judged, MetricRow, Spread, Subject, Versus
from caravan.values.metric_names import direction_of, judging, told_direction
from caravan.values.run import RunStatus
from caravan.values.training import MetricSpec

CONFIDENCE: Final = 0.95
_MORE_EACH: Final = (2, 4)  # further seeds of each of two groups, for which it is told what they would show
_MOST_SEEDS: Final = 100  # more are not worth naming

Members = Sequence[Sequence[Subject]]


def metric_rows(
    members: Members, wanted: Sequence[str] = (), *, comparable: bool = True
) -> tuple[tuple[MetricRow, ...], tuple[str, ...]]:
    """A row for each metric, and what must be known of them all. Without `comparable` no difference is judged."""
    names = wanted or tuple(dict.fromkeys(n for of in members for s in of for n in s.result.metrics))
    rows = [_row(name, members, comparable=comparable) for name in names]
    found = [(i, j, v.p) for i, row in enumerate(rows) for j, v in enumerate(row.versus) if v and v.p is not None]
    for (i, j, _), p in zip(found, holm([p for _, _, p in found]), strict=True):
        rows[i] = _with_p(rows[i], j, p)
    order = {name: n for n, name in enumerate(judging(tuple(names)))}
    rows.sort(key=lambda row: order.get(row.name, len(order)))
    return tuple(rows), tuple(_notes(rows, len(found)))


def _with_p(row: MetricRow, index: int, p: float) -> MetricRow:
    versus = tuple(v.model_copy(update={"p_all": p}) if v and n == index else v for n, v in enumerate(row.versus))
    return row.model_copy(update={"versus": versus})


def _notes(rows: Sequence[MetricRow], tested: int) -> Iterator[str]:
    if tested > 1:
        lost = [
            row.name
            for row in rows
            for v in row.versus
            if v and v.judged in (Judged.BETTER, Judged.WORSE, Judged.DIFFERS) and (v.p_all or 0.0) > 1 - CONFIDENCE
        ]
        yield (
            f"{tested} differences are looked at: where there is none, about one in twenty looks like one."
            + (" Taken together (Holm) not all that look like one hold: see p (all)." if lost else "")
        )
    methods = sorted({v.method for row in rows for v in row.versus if v and v.method})
    if methods:
        yield f"Intervals hold the true difference in {CONFIDENCE:.0%} of cases; by {' and '.join(methods)}."


def _row(name: str, members: Members, *, comparable: bool) -> MetricRow:
    spec, way = _definition(name, members)
    groups = tuple(_spread(name, of) for of in members)
    judged = name in judging((name,))
    versus: list[Versus | None] = [None]
    for group in groups[1:]:
        found = _versus(groups[0], group, way) if judged else Versus(judged=Judged.NOT_JUDGED)
        if not comparable and found.judged is not Judged.NOT_JUDGED:
            found = Versus(judged=Judged.NOT_COMPARABLE, difference=found.difference)
        versus.append(found)
    known = [(n, g.mean) for n, g in enumerate(groups) if g.mean is not None]
    best = None
    if judged and comparable and way is not None and len(known) > 1:
        pick = min(known, key=lambda item: item[1] if way == "min" else -item[1])
        best = pick[0] if sum(value == pick[1] for _, value in known) == 1 else None
    return MetricRow(
        name=name,
        title=spec.title if spec else "",
        unit=spec.unit if spec else "",
        direction=way if judged else None,
        type=spec.type if spec else "number",
        groups=groups,
        base=tuple(_base(name, of) for of in members),
        best=best,
        versus=tuple(versus),
    )


def _definition(name: str, members: Members) -> tuple[MetricSpec | None, Literal["min", "max"] | None]:
    """What the metric means and which way is better: as it is defined, else by the plan's target, else by its name."""
    for of in members:
        for subject in of:
            gate, target = subject.result.gate, subject.plan.target
            found = next((d for d in gate.definitions if d.name == name), None) if gate else None
            if found is not None:
                return found, found.direction
            if target is not None and target.metric == name:
                return None, target.direction
    low = name.lower()
    told = told_direction(name) is not None or any(word in low for word in _TELLING)
    return None, direction_of(name) if told else None


_TELLING: Final = (
    *("acc", "f1", "precision", "recall", "auc", "bleu", "rouge", "map", "ndcg", "mrr", "score", "reward"),
    *("loss", "perplexity", "error"),
)
"""What says it inside a longer word too: `mAP50`, `trainloss`."""


def _base(name: str, of: Sequence[Subject]) -> float | None:
    values = [s.result.gate.base[name] for s in of if s.result.gate is not None and name in s.result.gate.base]
    return mean(values) if values else None


def _spread(name: str, of: Sequence[Subject]) -> Spread:
    values = draws(name, of)
    if not values:
        return Spread()
    return Spread(n=len(values), mean=mean(values), deviation=deviation(values), values=values)


def draws(name: str, of: Sequence[Subject]) -> tuple[float, ...]:
    """The metric's figure for each seed of a group, of the runs that ended well."""
    seeded: dict[int, list[float]] = {}
    others: list[float] = []
    for subject in of:
        result = subject.result
        value = result.metrics.get(name)
        if value is None or result.status is not RunStatus.SUCCEEDED:
            continue
        if result.seed is None:
            others.append(value)
        else:
            seeded.setdefault(result.seed, []).append(value)
    if others and min(others) == max(others):
        others = others[:1]  # the program's own seed, each time the same
    return (*(mean(values) for _, values in sorted(seeded.items())), *others)


def _versus(first: Spread, other: Spread, way: Literal["min", "max"] | None) -> Versus:
    if first.mean is None or other.mean is None:
        return Versus(judged=Judged.NOT_JUDGED, text="measured in one of them alone")
    found = difference(first.values, other.values, CONFIDENCE)
    apart = other.mean - first.mean
    if found is None:
        judged = Judged.EQUAL if apart == 0 else Judged.NOISE_NOT_KNOWN
        return Versus(judged=judged, difference=apart, text=_wanting(apart))
    known = {"difference": found.value, "low": found.low, "high": found.high, "p": found.p, "method": found.method}
    if found.value == 0 and found.low == found.high:
        return Versus(judged=Judged.EQUAL, **known)
    if found.p >= 1 - CONFIDENCE:
        return Versus(judged=Judged.WITHIN_NOISE, text=_more(first, other, apart), **known)
    better = None if way is None else (found.value < 0) == (way == "min")
    judged = Judged.DIFFERS if better is None else Judged.BETTER if better else Judged.WORSE
    return Versus(judged=judged, **known)


def _wanting(apart: float) -> str:
    """With one seed each: what further seeds would show."""
    if apart == 0:
        return ""
    told = [f"{more} more seeds each show {shown_with(1 + more):.1f} times the spread" for more in _MORE_EACH]
    return f"one seed each: {' and '.join(told)}"


def _more(first: Spread, other: Spread, apart: float) -> str:
    """How many seeds each would tell, if difference and spread stay as they are."""
    spreads = [(s.deviation, s.n) for s in (first, other) if s.deviation is not None]
    pooled = sqrt(sum((n - 1) * d * d for d, n in spreads) / sum(n - 1 for _, n in spreads))
    needed = seeds_that_tell(apart, pooled, CONFIDENCE, most=_MOST_SEEDS) if apart and pooled else None
    if needed is None:
        return f"even {_MOST_SEEDS} seeds each would hardly tell" if apart else ""
    have = max(first.n, other.n)
    return f"about {max(needed, have + 1)} seeds each would tell"
