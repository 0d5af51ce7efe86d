"""What LangFuse shows that a model cost is what the run counted, to the cent; without prices it is told none."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caravan.agent.model.metered import Metered, ModelLimits
from caravan.runs.observations import About, observations
from caravan.runs.traces import read_trace
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, Usage
from caravan.values.model_usage import used
from caravan.values.run import RunRecord, RunRequest
from observability import LocalTracer, trace_id
from tests.fakes.chat import ScriptedChat
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore

RUN = "abc12345"


def costs(tmp_path: Path, prices: tuple[float | None, ...]) -> tuple[list[float], float | None]:
    """What the generations say that they cost, and what the run says of itself in all."""
    clock = FakeClock()
    store, path = MemoryStore(clock), tmp_path / "trace.jsonl"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    store.create_run(RunRecord(id=RUN, created_at=at, updated_at=at, request=RunRequest(prompt="p", source="/x")))
    spent = [Usage(calls=1, prompt_tokens=100, completion_tokens=7, usd=usd) for usd in prices]
    lost = ModelError("It broke off.", fault=ModelFault.UNREACHABLE, usage=spent[-1])
    script = [*(ModelReply(text="{}", model="m", usage=usage) for usage in spent[:-1]), lost]
    tracer = LocalTracer(path, run_id=RUN, clock=clock)
    chat = Metered(ScriptedChat({"plan": script}), store, RUN, clock=clock, limits=ModelLimits(), tracer=tracer)
    with tracer.span("run", "run"):
        for _ in prices[:-1]:
            chat.ask([Message(role="user", text="?")], step="plan")
        with pytest.raises(ModelError):
            chat.ask([Message(role="user", text="?")], step="plan")
    about = About(run_id=RUN, trace_id=trace_id(RUN))
    made = observations(read_trace(path), about, clock.now(), live=False)
    generations = [o for o in made if o.attributes["langfuse.observation.type"] == "generation"]
    assert len(generations) == len(prices)
    told = [o.attributes["langfuse.observation.cost_details"] for o in generations if _has_cost(o.attributes)]
    return [json.loads(str(text))["total"] for text in told], used(store.events(RUN)).usd


def _has_cost(attributes: object) -> bool:
    return isinstance(attributes, dict) and "langfuse.observation.cost_details" in attributes


def test_the_sum_over_the_spans_is_the_run_s(tmp_path: Path) -> None:
    prices = (0.000123, 0.004, 1e-9, 0.25)  # the last one's answer broke off: it was paid for all the same
    shown, counted = costs(tmp_path, prices)
    assert shown == list(prices)
    assert counted == pytest.approx(sum(shown), abs=0, rel=1e-12)


def test_without_prices_none_is_claimed(tmp_path: Path) -> None:
    assert costs(tmp_path, (None, None, None)) == ([], None)
