"""What a run uses of a model is counted and bounded; a model that is down is left alone, a second one asked."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caravan.agent.model.breaker import LONGEST_REST_S, REST_S, Guarded
from caravan.agent.model.fallback import WithFallback
from caravan.agent.model.metered import Metered, ModelLimits
from caravan.ports import ChatModel, Clock, Store
from caravan.runs.store import SqlStore
from caravan.values.base import Json
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolSpec, Usage
from caravan.values.model_usage import CALL
from caravan.values.run import RunEvent, RunRecord, RunRequest
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore
from tests.fakes.tracer import MemoryTracer

HELLO = (Message(role="user", text="Say hello to sk-proj-0123456789abcdefghij0123."),)


class Model:
    """The port ChatModel: each reply costs 10 + 5 tokens and two seconds; `faults` are raised first."""

    def __init__(self, name: str, clock: Clock, *faults: ModelFault | None, seconds: float = 2.0) -> None:
        self.name, self._clock, self.faults, self._seconds = name, clock, list(faults), seconds
        self.asked = 0
        self.window: int | None = 1000

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        self.asked += 1
        self._clock.sleep(self._seconds)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise ModelError("It failed.", fault=fault, usage=Usage(calls=1, prompt_tokens=7))
        usage = Usage(calls=1, prompt_tokens=10, completion_tokens=5, seconds=self._seconds, usd=0.001)
        return ModelReply(text="hello", model=self.name, usage=usage)


def stored(store: Store) -> Store:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    request = RunRequest(prompt="train", source="/x")
    store.create_run(RunRecord(id="r1", request=request, created_at=at, updated_at=at))
    return store


def metered(chat: ChatModel, store: Store, clock: FakeClock, **limits: float) -> Metered:
    return Metered(
        chat, store, "r1", clock=clock, limits=ModelLimits.model_validate(limits), tracer=MemoryTracer(clock)
    )


def test_calls_are_counted_through_resumes(tmp_path: Path) -> None:
    clock = FakeClock()
    store = stored(SqlStore(tmp_path / "c.db", clock))
    chat = metered(Model("m", clock), store, clock)
    chat.ask(HELLO, step="plan")
    chat.ask(HELLO, step="diagnose")
    again = metered(Model("m", clock), store, clock)
    assert again.usage() == Usage(calls=2, prompt_tokens=20, completion_tokens=10, seconds=4.0, usd=0.002)
    again.ask(HELLO, step="plan")
    assert again.usage("plan").calls == 2
    assert again.usage().tokens == 45
    events = [e for e in store.events("r1") if e.kind == CALL]
    assert [e.text for e in events][-1] == "Question 3 to m, for plan: 10 + 5 tokens, 2.0 s"
    store.add_event("r1", events[0])  # told once more after a crash
    assert metered(Model("m", clock), store, clock).usage().calls == 3
    store.close()


def test_events_and_spans_hold_nothing_of_what_was_said() -> None:
    clock = FakeClock()
    store, tracer = stored(MemoryStore(clock)), MemoryTracer(clock)
    chat = Metered(Model("m", clock), store, "r1", clock=clock, limits=ModelLimits(), tracer=tracer)
    chat.ask(HELLO, step="plan", thinking=True)
    (span,) = tracer.spans()
    assert (span.kind, span.name, span.attributes["model"]) == ("generation", "model plan", "m")
    assert (span.attributes["prompt_tokens"], span.attributes["completion_tokens"]) == (10, 5)
    assert "sk-proj" not in str((tracer.spans(), store.events("r1")))
    assert "hello" not in str((tracer.spans(), store.events("r1")))


def test_a_fault_is_counted_and_named() -> None:
    clock = FakeClock()
    store = stored(MemoryStore(clock))
    chat = metered(Model("m", clock, ModelFault.TIMED_OUT), store, clock)
    with pytest.raises(ModelError):
        chat.ask(HELLO, step="plan")
    (event,) = store.events("r1")
    assert event.data["fault"] == "timed_out"
    assert chat.usage() == Usage(calls=1, prompt_tokens=7)


@pytest.mark.parametrize(
    ("limits", "calls", "setting"),
    [
        ({"run_tokens": 60}, 2, "CARAVAN_MODEL_RUN_TOKENS"),
        ({"step_tokens": 60}, 2, "CARAVAN_MODEL_STEP_TOKENS"),
        ({"run_seconds": 3}, 2, "CARAVAN_MODEL_RUN_SECONDS"),
        ({"step_seconds": 1}, 1, "CARAVAN_MODEL_STEP_SECONDS"),
        ({"run_tokens": 0}, 0, "CARAVAN_MODEL_RUN_TOKENS"),
    ],
)
def test_beyond_a_budget_nothing_is_asked(limits: dict[str, float], calls: int, setting: str) -> None:
    clock = FakeClock()
    model = Model("m", clock)
    chat = metered(model, stored(MemoryStore(clock)), clock, **limits)
    for _ in range(calls):
        chat.ask(HELLO, step="plan")
    with pytest.raises(ModelError) as caught:
        chat.ask(HELLO, step="plan")
    assert caught.value.fault is ModelFault.OVER_BUDGET
    assert setting in caught.value.line()
    assert model.asked == calls
    if "step" in next(iter(limits)):
        chat.ask(HELLO, step="diagnose")


def test_events_of_another_version_count_nothing() -> None:
    clock = FakeClock()
    store = stored(MemoryStore(clock))
    store.add_event("r1", RunEvent(at=clock.now(), kind=CALL, data={"step": "x", "calls": "many"}))
    store.add_event("r1", RunEvent(at=clock.now(), kind="other", data={"calls": 4}))
    assert metered(Model("m", clock), store, clock).usage() == Usage()


# Left alone


def test_after_faults_in_a_row_a_model_is_left_alone() -> None:
    clock = FakeClock()
    model = Model("m", clock, *[ModelFault.UNREACHABLE] * 4, seconds=0.1)
    chat = Guarded(model, clock=clock)
    for _ in range(10):
        with pytest.raises(ModelError) as caught:
            chat.ask(HELLO, step="s")
        assert caught.value.fault is ModelFault.UNREACHABLE
    assert model.asked == 3
    assert "left alone" in caught.value.line()
    assert chat.window is None
    clock.sleep(REST_S)
    with pytest.raises(ModelError):
        chat.ask(HELLO, step="s")  # tried once
    assert model.asked == 4
    clock.sleep(REST_S)
    with pytest.raises(ModelError):
        chat.ask(HELLO, step="s")  # the rest is twice as long
    assert model.asked == 4
    clock.sleep(REST_S)
    assert chat.ask(HELLO, step="s").text == "hello"
    assert chat.window == 1000


def test_a_rest_has_a_longest() -> None:
    clock = FakeClock()
    model = Model("m", clock, *[ModelFault.DENIED] * 20)
    chat = Guarded(model, clock=clock)
    for _ in range(12):
        with pytest.raises(ModelError):
            chat.ask(HELLO, step="s")
        clock.sleep(LONGEST_REST_S)
    assert model.asked == 12


def test_what_will_not_change_by_itself_counts_at_once() -> None:
    clock = FakeClock()
    model = Model("m", clock, ModelFault.DENIED)
    chat = Guarded(model, clock=clock)
    for _ in range(3):
        with pytest.raises(ModelError):
            chat.ask(HELLO, step="s")
    assert model.asked == 1


def test_a_slow_model_costs_a_run_half_a_minute() -> None:
    clock = FakeClock()
    model = Model("m", clock, None, *[ModelFault.TIMED_OUT] * 9, seconds=20)
    chat = Guarded(model, clock=clock)
    chat.ask(HELLO, step="s")
    for _ in range(9):
        with pytest.raises(ModelError):
            chat.ask(HELLO, step="s")
    assert model.asked == 3


def test_who_never_answers_is_waited_for_once_and_is_no_call_after_that() -> None:
    clock = FakeClock()
    model = Model("m", clock, *[ModelFault.TIMED_OUT] * 9, seconds=10)
    chat = metered(Guarded(model, clock=clock), stored(MemoryStore(clock)), clock)
    for _ in range(4):
        with pytest.raises(ModelError) as caught:
            chat.ask(HELLO, step="s")
    assert model.asked == chat.usage().calls == 1
    assert "left alone" in caught.value.line()


def test_a_question_that_is_interrupted_is_counted() -> None:
    class Interrupted(Model):
        def ask(self, messages: Sequence[Message], **_: object) -> ModelReply:
            raise KeyboardInterrupt

    clock = FakeClock()
    store = stored(MemoryStore(clock))
    chat = metered(Interrupted("m", clock), store, clock)
    with pytest.raises(KeyboardInterrupt):
        chat.ask(HELLO, step="plan")
    assert (chat.usage().calls, chat.usage().estimated) == (1, True)
    assert chat.usage().prompt_tokens > 0
    assert store.events("r1")[0].data["fault"] == "interrupted"


def test_faults_of_a_question_are_not_the_servers() -> None:
    clock = FakeClock()
    model = Model("m", clock, *[ModelFault.CONTEXT_EXCEEDED, ModelFault.TRUNCATED] * 5)
    chat = Guarded(model, clock=clock)
    for _ in range(10):
        with pytest.raises(ModelError):
            chat.ask(HELLO, step="s")
    assert model.asked == 10


# The second model


@pytest.mark.parametrize(
    "fault",
    [ModelFault.UNREACHABLE, ModelFault.TIMED_OUT, ModelFault.CONTEXT_EXCEEDED, ModelFault.CUT, ModelFault.DENIED],
)
def test_the_second_answers_for_the_first(fault: ModelFault) -> None:
    clock = FakeClock()
    told: list[str] = []
    chat = WithFallback(Model("big", clock, fault), Model("small", clock), told=told.append)
    reply = chat.ask(HELLO, step="s")
    assert (reply.model, chat.name, chat.window) == ("small", "big", 1000)
    assert reply.usage.prompt_tokens == 17  # what the first used is not forgotten
    assert told == ["small is asked in place of big: It failed."]
    assert chat.ask(HELLO, step="s").model == "big"


def test_when_both_fail_the_first_ones_fault_is_told() -> None:
    clock = FakeClock()
    chat = WithFallback(Model("big", clock, ModelFault.TIMED_OUT), Model("small", clock, ModelFault.DENIED))
    with pytest.raises(ModelError) as caught:
        chat.ask(HELLO, step="s")
    assert caught.value.fault is ModelFault.TIMED_OUT
    assert "The fallback model: It failed." in caught.value.line()
    assert caught.value.usage == Usage(calls=2, prompt_tokens=14)


def test_a_used_budget_is_used_for_both() -> None:
    clock = FakeClock()
    second = Model("small", clock)
    chat = WithFallback(Model("big", clock, ModelFault.OVER_BUDGET), second)
    with pytest.raises(ModelError):
        chat.ask(HELLO, step="s")
    assert second.asked == 0
