"""What a run has used of language models, read from its events. Pure: it asks no model and no store."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from pydantic import ValidationError

from caravan.values.base import Json
from caravan.values.model import Usage
from caravan.values.run import RunEvent

CALL: Final = "model_call"
"""Kind of the events that tell a call."""


class Row(NamedTuple):
    """One model in one step. `failed`: calls without a usable reply."""

    step: str
    model: str
    usage: Usage
    failed: int


def rows(events: Iterable[RunEvent]) -> tuple[Row, ...]:
    """A row for each step and model, in the order in which they were asked first."""
    found: dict[tuple[str, str], Row] = {}
    for event in events:
        if event.kind != CALL:
            continue
        step, model = str(event.data.get("step", "")), str(event.data.get("model", ""))
        before = found.get((step, model), Row(step, model, Usage(), 0))
        failed = before.failed + ("fault" in event.data)
        found[step, model] = Row(step, model, before.usage.plus(usage_of(event)), failed)
    return tuple(found.values())


def used(events: Iterable[RunEvent]) -> Usage:
    """All together."""
    total = Usage()
    for row in rows(events):
        total = total.plus(row.usage)
    return total


def document(events: Iterable[RunEvent]) -> Json:
    """For programs: the sum and each step; None where no model was asked."""
    found = rows(events)
    if not found:
        return None
    total = Usage()
    for row in found:
        total = total.plus(row.usage)
    steps = [{"step": r.step, "model": r.model, "failed": r.failed, **r.usage.model_dump(mode="json")} for r in found]
    return {**total.model_dump(mode="json"), "steps": steps}


def line(usage: Usage, failed: int = 0) -> str:
    """The sum in a line, with the calls that had no usable reply; empty where no model was asked."""
    if not usage.calls:
        return ""
    about = "about " if usage.estimated else ""
    price = f", {usage.usd:.4f} USD" if usage.usd is not None else ""
    calls = f"{usage.calls} call{'' if usage.calls == 1 else 's'}"
    if failed:
        calls += " without a reply" if failed >= usage.calls else f" ({failed} without a reply)"
    return f"{calls}, {about}{usage.prompt_tokens} + {usage.completion_tokens} tokens, {usage.seconds:.1f} s{price}"


def usage_of(event: RunEvent) -> Usage:
    """What a call used, from its event; nothing where the event holds no counts."""
    try:
        return Usage.model_validate({name: event.data[name] for name in Usage.model_fields if name in event.data})
    except ValidationError:
        return Usage()
