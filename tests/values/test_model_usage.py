"""What a run has used of language models, from its events."""

from datetime import UTC, datetime
from typing import Any

from caravan.values.model_usage import CALL, document, line, rows, used
from caravan.values.run import RunEvent

AT = datetime(2026, 1, 2, tzinfo=UTC)


def call(step: str, model: str = "m", **data: Any) -> RunEvent:
    known = {"calls": 1, "prompt_tokens": 100, "completion_tokens": 10, "seconds": 1.5, "usd": 0.25}
    return RunEvent(at=AT, kind=CALL, data={"step": step, "model": model, **known, **data})


def test_calls_count_by_step_and_model_and_together() -> None:
    events = (call("diagnose"), call("diagnose", fault="cut"), call("plan", "n", usd=None), RunEvent(at=AT, kind="x"))
    found = [(r.step, r.model, r.usage.calls, r.failed) for r in rows(events)]
    assert found == [("diagnose", "m", 2, 1), ("plan", "n", 1, 0)]
    assert line(used(events)) == "3 calls, 300 + 30 tokens, 4.5 s, 0.5000 USD"
    assert document(events)["usd"] == 0.5
    assert [s["step"] for s in document(events)["steps"]] == ["diagnose", "plan"]


def test_nothing_was_asked() -> None:
    assert document(()) is None
    assert line(used(())) == ""


def test_an_event_of_another_form_counts_nothing() -> None:
    assert used((call("x", prompt_tokens="many"),)).tokens == 0
