"""Answers that a person gives while a plan is drawn up: with the time of day, and with no run that would wait."""

import io
from datetime import datetime, timedelta, timezone

from caravan.terminal.dialogue import answer_in_person
from caravan.terminal.streams import Terminal
from caravan.terminal.summary import Scene
from caravan.values.dialogue import Ask, AskKind, Question

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=timezone(timedelta(hours=1)))
GPUS = Question(id="gpus", text="How many?", path="resources.gpus", required=True)


def told(typed: str, *, waits: bool) -> tuple[dict[str, object], str]:
    terminal = Terminal(io.StringIO(typed), io.StringIO(), out := io.StringIO())
    ask = Ask(kind=AskKind.QUESTIONS, text="Please answer.", questions=(GPUS,))
    reply = answer_in_person(terminal, ask, lambda: Scene("", ""), now=NOW, waits=waits)
    return {a.question_id: a.value for a in reply.answers}, out.getvalue()


def test_tonight_is_understood_in_an_answer() -> None:
    found, said = told("two A100s, keep it under 50 dollars, tonight\n", waits=False)
    assert found["gpus"] == 2
    assert "limits.max_run_s" in found
    assert "could not use" not in said


def test_only_a_run_is_said_to_wait() -> None:
    assert "leaves the run waiting" in told("\n2\n", waits=True)[1]
    said = told("\n2\n", waits=False)[1]
    assert "nothing is written" in said
    assert "waiting" not in said
