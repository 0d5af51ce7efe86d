"""A prompt's worked examples: said before the question where they have room, left out whole where they have none."""

from pathlib import Path

from caravan.agent.model.metered import Metered, ModelLimits
from caravan.agent.model.window import Part
from caravan.agent.qwen.asking import Asker, conversation
from caravan.agent.qwen.replies import SummaryReply
from caravan.agent.qwen.told import Voice
from caravan.values.model_usage import first_prompts, rows
from caravan.values.prompts import SYSTEM, Demo, Prompt, PromptOrigin
from caravan.values.run import RunRecord, RunRequest
from prompts import LocalPromptBook, fields
from tests.fakes.chat import ScriptedChat
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore
from tests.fakes.tracer import MemoryTracer

TEXT = LocalPromptBook(Path(__file__).parents[3] / "templates" / "prompts").get("report_summary").text
KEY = "hunter2-very-secret"
DEMOS = (Demo(given=f"short {KEY}", answer='{"summary": "a"}'), Demo(given="long " * 3000, answer='{"summary": "b"}'))
PARTS = (Part(name="report", text="# Report\n"),)


def prompt(demos: tuple[Demo, ...] = DEMOS) -> Prompt:
    return Prompt(
        name="report_summary",
        text=TEXT,
        demos=demos,
        fields=fields(TEXT),
        origin=PromptOrigin.LANGFUSE,
        number=7,
    )


def test_examples_come_between_our_first_message_and_the_text() -> None:
    said = conversation(prompt(), PARTS, 32_768, secrets=(KEY,))
    assert [m.role for m in said] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert said[0].text == SYSTEM
    assert KEY not in "".join(m.text for m in said)
    assert said[2].text == '{"summary": "a"}'
    assert "# Report" in said[-1].text
    assert [m.role for m in conversation(prompt(()), PARTS, 32_768)] == ["system", "user"]


def test_an_example_without_room_is_left_out_whole() -> None:
    said = conversation(prompt(), PARTS, 6_000)
    assert [m.role for m in said] == ["system", "user", "assistant", "user"]
    assert said[1].text.startswith("short")


def test_data_goes_before_examples_but_for_a_third() -> None:
    parts = (Part(name="report", text="line of the report\n" * 3000),)
    said = conversation(prompt(), parts, 8_000)
    assert [m.role for m in said] == ["system", "user", "assistant", "user"]
    assert "line of the report" in said[-1].text


class Book:
    """The port PromptBook with one prompt."""

    def get(self, name: str) -> Prompt:
        return prompt()

    def names(self) -> tuple[str, ...]:
        return ("report_summary",)


def test_every_call_says_which_version_of_which_prompt() -> None:
    clock = FakeClock()
    store, tracer = MemoryStore(clock), MemoryTracer(clock)
    chat = ScriptedChat({"summary": [{"summary": "It went well."}]})
    at = clock.now()
    store.create_run(RunRecord(id="r1", request=RunRequest(prompt="", source=""), created_at=at, updated_at=at))
    metered = Metered(chat, store, "r1", clock=clock, limits=ModelLimits(), tracer=tracer)
    asker = Asker(metered, Book(), Voice(None, tracer))
    assert asker.ask("summary", "report_summary", SummaryReply, PARTS) is not None
    (span,) = [s for s in tracer.spans() if s.kind == "generation"]
    told = {"prompt": "report_summary", "prompt_version": prompt().version, "prompt_number": 7}
    assert {**told, "prompt_origin": "langfuse"}.items() <= span.attributes.items()
    events = store.events("r1")
    assert first_prompts(events) == {"report_summary": prompt().version}
    assert rows(events)[0].prompts == (f"report_summary {prompt().version} (LangFuse 7)",)
    (asked,) = [s.attributes for s in tracer.spans() if s.name == "model asked"]
    assert asked["examples"] + asked["examples_left_out"] == len(DEMOS)
