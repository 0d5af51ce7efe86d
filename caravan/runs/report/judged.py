"""What the evaluation gate made of the model: verdict, checks, base beside tuned, what the figures come again with."""

from collections.abc import Iterator

from caravan.runs.report.blocks import Badge, Block, Fold, Heading, Line, Listing, Paragraph, Table, Tone
from caravan.runs.report.material import Material
from caravan.runs.report.measured import defined
from caravan.runs.report.words import block_of, code, number, text_of, words
from caravan.values.base import Json
from caravan.values.evaluation import GateCheck, GateReport, GateVerdict
from caravan.values.training import MetricSpec

_WORDS: dict[GateVerdict, tuple[str, Tone]] = {
    GateVerdict.PASS: ("pass", "good"),
    GateVerdict.LOOK: ("needs a look", "warn"),
    GateVerdict.FAIL: ("fail", "bad"),
    GateVerdict.UNKNOWN: ("not known", "plain"),
}
_CHECKS = {
    "target": "the target",
    "base": "better than its base",
    "learnt": "it has learnt",
    "overfit": "not overfitted",
    "finite": "all figures are numbers",
    "collapse": "not one answer to all",
    "regression": "the fixed set is no worse",
    "canary": "safe answers",
    "ran": "the evaluation ran",
}
_BY = {
    "evaluation": "Judged by an evaluation of the trained model.",
    "log": "Judged by the metrics that the training logged: no evaluation measured the model itself.",
    "nothing": "There was nothing to judge by: no evaluation ran and no metric was logged.",
}


def badge(verdict: GateVerdict) -> Badge:
    """A verdict in words."""
    return Badge(*_WORDS[verdict])


def blocks(material: Material) -> Iterator[Block]:
    """The section."""
    gate = material.gate
    earlier = [a for a in material.attempts if a.gate is not None and a.gate != gate]
    if gate is None:
        yield Paragraph(("The model was not evaluated.",))
    else:
        yield from _report(gate, defined(material))
    for attempt in earlier:
        if attempt.gate is not None:
            title = f"What was made of attempt {attempt.number}: {_WORDS[attempt.gate.verdict][0]}"
            yield Fold(title, tuple(_report(attempt.gate, defined(material))))


def _report(gate: GateReport, definitions: dict[str, MetricSpec]) -> Iterator[Block]:
    yield Paragraph((badge(gate.verdict), f" {_BY[gate.judged_by]}"))
    if gate.checks:
        head = ("Check", "Verdict", "What was found", "Value", "Held against", "Limit")
        yield Table(head, tuple(_check(check) for check in gate.checks), frozenset({3, 4, 5}))
    names = list(dict.fromkeys((*gate.metrics, *gate.base, *gate.learnt)))
    if names:
        yield Heading("Figures")
        yield _figures(gate, names, definitions)
    if gate.generations:
        yield Heading("What the model says")
        yield Paragraph(("Samples that were asked for. They are the model's words, not ours.",))
        for said in gate.generations:
            text = f"Prompt: {said.prompt}\n\nTuned: {said.text}"
            text += f"\n\nBase: {said.base}" if said.base is not None else ""
            yield Listing(block_of(text))
    if gate.recorded:
        rows = tuple((code(name), code(value)) for name, value in _flat(gate.recorded))
        yield Fold("With what the figures come again", (Table(("What", "Value"), rows),))


def _check(check: GateCheck) -> tuple[Line, ...]:
    name: Line = (_CHECKS.get(check.kind.value, check.kind.value),)
    metric: Line = (" (", *code(check.metric), ")") if check.metric else ()
    figures = tuple(_figure(value) for value in (check.value, check.base, check.limit))
    return ((*name, *metric), (badge(check.verdict),), words(check.text), *figures)


def _figures(gate: GateReport, names: list[str], definitions: dict[str, MetricSpec]) -> Table:
    """Base beside tuned, held-out beside learnt; columns of which nothing is known are left out."""
    sides = [
        ("Tuned", gate.metrics),
        ("Base", gate.base),
        ("On learnt data", gate.learnt),
        ("Without a model", gate.guess),
    ]
    sides = [(title, values) for title, values in sides if any(name in values for name in names)]
    rows = []
    for name in names:
        spec = definitions.get(name)
        meaning = text_of(spec.title) if spec is not None else ""
        rows.append(
            (
                code(name),
                *(_figure(values.get(name)) for _, values in sides),
                (_direction(spec),) if spec is not None else ("not known",),
                words(spec.unit) if spec is not None else (),
                words(meaning),
            )
        )
    head = ("Metric", *(title for title, _ in sides), "Better is", "Unit", "Meaning")
    return Table(head, tuple(rows), frozenset(range(1, 1 + len(sides))))


def _direction(spec: MetricSpec) -> str:
    return "lower" if spec.direction == "min" else "higher"


def _figure(value: float | None) -> Line:
    return (number(value),) if value is not None else ()


def _flat(recorded: dict[str, Json], above: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in recorded.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
