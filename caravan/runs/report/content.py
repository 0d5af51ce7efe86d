"""The report of a run as a document: what it tells, in which order. Pure: the same material gives the same document.

The renderings (`markdown.py`, `page.py`) take it from here; each part is told by a module of its own.
"""

import re
from typing import Final

from caravan.runs.report import attempts, forecast, judged, measured, outputs, understanding, usage
from caravan.runs.report.blocks import Badge, Block, Bullets, Code, Document, Line, Section, Tone, changed
from caravan.runs.report.material import Material
from caravan.runs.report.words import number, text_of, time_of
from caravan.values.amounts import duration, money
from caravan.values.masking import mask
from caravan.values.run import RunStatus

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TONES: dict[RunStatus, Tone] = {
    RunStatus.SUCCEEDED: "good",
    RunStatus.FAILED: "bad",
    RunStatus.ESCALATED: "bad",
    RunStatus.WAITING: "warn",
    RunStatus.REJECTED: "warn",
    RunStatus.STOPPED: "warn",
}


def content(material: Material) -> Document:
    """The document; secrets in any of its texts are masked."""
    record = material.record
    known = tuple(material.secrets)
    told = (
        _section("warnings", "Warnings", _warnings(material)),
        Section("asked", "What was asked", tuple(understanding.asked(material))),
        Section("found", "What was found", tuple(understanding.found(material))),
        Section("plan", "Plan", tuple(understanding.plan(material))),
        Section("estimate", "Estimate and measurement", tuple(forecast.blocks(material))),
        Section("attempts", "Attempts", tuple(attempts.blocks(material))),
        _section("metrics", "Metrics", measured.metrics(material)),
        _section("resources", "Resource use", measured.resources(material)),
        Section("evaluation", "Evaluation", tuple(judged.blocks(material))),
        Section("outputs", "Result and outputs", tuple(outputs.left(material))),
        _section("load", "How to load the model", tuple(outputs.load(material))),
        Section("cost", "Cost", tuple(usage.cost(material))),
        Section("go-on", "How to go on", tuple(usage.go_on(material))),
        Section("versions", "Versions", tuple(usage.versions(material))),
        Section("events", "What happened", tuple(usage.events(material))),
    )
    document = Document(
        title=f"Run {record.id}",
        badge=Badge(record.status.value, _TONES.get(record.status, "plain")),
        detail=text_of(record.detail),
        dates=_dates(material),
        summary=text_of(material.summary, 2000),
        summary_by=text_of(material.summary_by),
        facts=tuple(_facts(material)),
        sections=tuple(section for section in told if section is not None),
    )
    return changed(document, lambda text: mask(_CONTROL.sub(" ", text), known))


def _section(name: str, title: str, blocks: tuple[Block, ...]) -> Section | None:
    return Section(name, title, blocks) if blocks else None


def _dates(material: Material) -> str:
    record = material.record
    by = f" by {text_of(record.user)}" if record.user else ""
    return f"Begun {time_of(record.created_at)}{by}, last changed {time_of(record.updated_at)}."


def _warnings(material: Material) -> tuple[Block, ...]:
    items: tuple[Line, ...] = tuple((text_of(text),) for text in material.warnings)
    return (Bullets(items),) if items else ()


def _facts(material: Material) -> list[tuple[str, Line]]:
    """What everybody asks first."""
    plan, gate = material.plan, material.gate
    facts: list[tuple[str, Line]] = []
    if plan is not None and plan.model.id:
        facts.append(("Base model", (Code(text_of(plan.model.id)),)))
    if plan is not None and plan.training.method:
        facts.append(("Method", (text_of(plan.training.method),)))
    if plan is not None and plan.dataset.path:
        facts.append(("Data", (Code(text_of(plan.dataset.path)),)))
    if gate is not None:
        facts.append(("Evaluation", (judged.badge(gate.verdict),)))
    main = _main_metric(material)
    if main is not None:
        facts.append(main)
    counting = len(material.attempts)
    if counting:
        facts.append(("Attempts", (str(counting),)))
    seconds = forecast.measured_seconds(material)
    if seconds is not None:
        facts.append(("Training took", (duration(seconds, exact=True),)))
    facts.append(("Cost", (money(material.record.cost_usd),)))
    if name := _registered(material):
        facts.append(("Registered as", (Code(name),)))
    return facts


def _registered(material: Material) -> str:
    return material.model.ref if material.model is not None and material.model.version else material.registered


def _main_metric(material: Material) -> tuple[str, Line] | None:
    """The metric that the run is judged by, with its base beside it."""
    plan, gate = material.plan, material.gate
    values = dict(gate.metrics) if gate is not None and gate.metrics else dict(material.metrics)
    wished = [plan.evaluation.metric, plan.target.metric if plan.target else None] if plan is not None else []
    checked = [check.metric for check in gate.checks if check.metric] if gate is not None else []
    name = next((n for n in (*wished, *checked) if n and n in values), None)
    if name is None:
        return None
    base = gate.base.get(name) if gate is not None else None
    beside = f", its base {number(base)}" if base is not None else ""
    return name, (f"{number(values[name])}{beside}",)
