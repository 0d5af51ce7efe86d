"""What a run has used of language models, read from its events. Pure: it asks no model and no store."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from pydantic import ValidationError

from caravan.values.base import Json
from caravan.values.model import Usage
from caravan.values.record import MODEL_CALL, RunEvent

CALL: Final = MODEL_CALL
"""Kind of the events that tell a call."""


class Row(NamedTuple):
    """One model in one step. `failed`: calls without a usable reply; `prompts`: the versions it was asked with."""

    step: str
    model: str
    usage: Usage
    failed: int
    prompts: tuple[str, ...] = ()


def rows(events: Iterable[RunEvent]) -> tuple[Row, ...]:
    """A row for each step and model, in the order in which they were asked first."""
    found: dict[tuple[str, str], Row] = {}
    for event in events:
        if event.kind != CALL:
            continue
        step, model = str(event.data.get("step", "")), str(event.data.get("model", ""))
        before = found.get((step, model), Row(step, model, Usage(), 0))
        failed = before.failed + ("fault" in event.data)
        prompts = tuple(dict.fromkeys((*before.prompts, *_prompt(event))))
        found[step, model] = Row(step, model, before.usage.plus(usage_of(event)), failed, prompts)
    return tuple(found.values())


def _prompt(event: RunEvent) -> tuple[str, ...]:
    """The prompt that the call was asked with, for people: its name, its version, LangFuse's number."""
    name, version = event.data.get("prompt"), event.data.get("prompt_version")
    if not isinstance(name, str) or not isinstance(version, str):
        return ()
    number, origin = event.data.get("prompt_number"), event.data.get("prompt_origin")
    where = f"LangFuse {number}" if origin == "langfuse" and number is not None else str(origin or "")
    return (f"{name} {version}" + (f" ({where})" if where else ""),)


def first_prompts(events: Iterable[RunEvent]) -> dict[str, str]:
    """Each prompt that a run was asked with, and its version at the first call."""
    found: dict[str, str] = {}
    for event in events:
        name, version = event.data.get("prompt"), event.data.get("prompt_version")
        if event.kind == CALL and isinstance(name, str) and isinstance(version, str):
            found.setdefault(name, version)
    return found


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
    steps = [
        {"step": r.step, "model": r.model, "failed": r.failed, "prompts": list(r.prompts)}
        | r.usage.model_dump(mode="json")
        for r in found
    ]
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
