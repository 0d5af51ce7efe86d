"""A run whose model is a real client on a scripted server: an unknown failure is classified and mended over HTTP."""

import json
from dataclasses import replace
from pathlib import Path

from caravan.agent.context import Context
from caravan.agent.model.access import ModelAccess
from caravan.agent.model.client import OpenAiModel
from caravan.agent.model.metered import Metered, ModelLimits
from caravan.agent.qwen.asking import Asker
from caravan.agent.qwen.reasoner import ModelReasoner
from caravan.agent.qwen.told import Voice
from caravan.agent.qwen.tools import Sight
from caravan.values.estimate import Verdict
from caravan.values.failure import FailureClass
from caravan.values.model_usage import used
from caravan.values.run import RunStatus
from machine import SystemClock
from tests.agent.qwen.test_model_in_runs import BOOK, CAUSE, SMALLER, shelf, through
from tests.agent.test_loop import World
from tests.fakes.openai_server import Asked, ScriptedOpenAi, Turn, says


def answers(asked: Asked) -> Turn:
    """The stand-in for a model: it knows the step by its prompt."""
    text = json.dumps(asked.body)
    if "fixed rules are not sure of the cause" in text:
        return says(f"<think>the shelf...</think>\n```json\n{json.dumps(CAUSE)}\n```")
    return says({"repairs": [SMALLER]}) if "No repair of the fixed rules is left" in text else says("{}")


class Served(World):
    """A world whose model is behind HTTP."""

    url = ""
    prompt_usd: float | None = None

    def context(self, run_id: str) -> Context:
        plain = super().context(run_id)
        chat = OpenAiModel(ModelAccess.at(self.url, name="qwen3-8b", prompt_usd=self.prompt_usd), clock=SystemClock())
        limits = ModelLimits(run_tokens=10**6)
        metered = Metered(chat, self.store, run_id, clock=self.clock, limits=limits, tracer=self.tracer)
        voice = Voice(self.progress, self.tracer, self.store, self.clock, run_id)
        sight = Sight(plain.facts, lambda _: (), plain.folder.log_files)
        reasoner = ModelReasoner(self.reasoner, Asker(metered, BOOK, voice), sight)
        return replace(plain, reasoner=reasoner, adviser=reasoner)


def test_an_unknown_failure_is_mended_over_http_and_its_tokens_are_counted(tmp_path: Path) -> None:
    with ScriptedOpenAi(answers) as server:
        world = Served(tmp_path, shelf)
        world.url = server.url
        record = world.start()
        assert through(world, record).status is RunStatus.SUCCEEDED
        found = world.state(record).attempts[0].diagnosis
        assert (found.failure, found.by) == (FailureClass.TRAINING_CONFIG_INVALID, "qwen3-8b")
        total = used(world.store.events(record.id))
        assert total.calls == len(server.chats)
        assert total.tokens > 0


def test_what_the_model_costs_counts_against_the_budget_before_anything_is_deployed(tmp_path: Path) -> None:
    class Priced(Served):
        prompt_usd = 1e6  # a dollar for each token

    with ScriptedOpenAi(answers) as server:
        world = Priced(tmp_path)
        world.url = server.url
        record = world.start(budget_usd=5)
        world.drive(record)
        state = world.state(record)
        asked = used(world.store.events(record.id)).usd
        assert asked is not None
        assert asked > 5
        assert state.budget.verdict is Verdict.OVER_HARD
        assert not state.attempts
