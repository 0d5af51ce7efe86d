"""Asking for a value: mending, checking, asking again, and the loop of tools, over a scripted model."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from caravan.agent.model.ask import AskLimits, Tool, ask_for
from caravan.agent.model.tokens import prompt_tokens
from caravan.values.base import Json, Value
from caravan.values.errors import Interrupted, ModelError, UsageError
from caravan.values.model import Message, ModelFault, ModelReply, ToolCall, ToolSpec

HELLO = (Message(role="system", text="Be brief."), Message(role="user", text="What is it?"))


class Part(Value):
    name: str
    weight: float = 0.0


class Answer(Value):
    title: str
    count: int = 0
    sure: bool = False
    kind: Literal["a", "b"] = "a"
    tags: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


class Loose(BaseModel):
    title: str = Field(alias="Title")


class Spoken:
    """The port ChatModel that says what it is given, and remembers what it was asked."""

    def __init__(self, *said: str | ModelReply | ModelError, window: int | None = None) -> None:
        self._said = list(said)
        self.window = window
        self.asked: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return "spoken"

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        self.asked.append(
            {"messages": tuple(messages), "schema": schema, "tools": tuple(tools), "thinking": thinking, "step": step}
        )
        said = self._said.pop(0) if len(self._said) > 1 else self._said[0]
        if isinstance(said, ModelError):
            raise said
        return ModelReply(text=said) if isinstance(said, str) else said


def wants(*wanted: tuple[str, Mapping[str, Json] | str], text: str = "") -> ModelReply:
    """A reply that calls tools; arguments that are a text are broken."""
    calls = tuple(
        ToolCall(id=f"c{i}", name=name, broken=args)
        if isinstance(args, str)
        else ToolCall(id=f"c{i}", name=name, arguments=dict(args))
        for i, (name, args) in enumerate(wanted)
    )
    return ModelReply(text=text, calls=calls)


def reading(act: Callable[[Mapping[str, Json]], str] = lambda a: f"text of {a['path']}") -> Tool:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    return Tool(ToolSpec(name="read_file", description="Reads.", parameters=schema), act)


def value(*said: str | ModelReply | ModelError, **more: Any) -> tuple[Answer, list[str], Spoken]:
    told: list[str] = []
    chat = Spoken(*said)
    return ask_for(chat, Answer, HELLO, step="test", told=told.append, **more), told, chat


def no_value(*said: str | ModelReply | ModelError, **more: Any) -> tuple[ModelError, Spoken]:
    chat = Spoken(*said)
    with pytest.raises(ModelError) as caught:
        ask_for(chat, Answer, HELLO, step="test", **more)
    return caught.value, chat


def test_a_value_as_asked_for() -> None:
    found, told, chat = value('{"title": "x", "count": 2, "parts": [{"name": "y", "weight": 0.5}]}')
    assert found == Answer(title="x", count=2, parts=(Part(name="y", weight=0.5),))
    assert told == []
    assert chat.asked[0]["schema"] == Answer.model_json_schema()
    assert chat.asked[0]["thinking"] is False


def test_the_schema_is_told_in_the_system_message() -> None:
    _, _, chat = value('{"title": "x"}')
    system, user = chat.asked[0]["messages"]
    assert system.text.startswith("Be brief.")
    assert '"title":{"type":"string"}' in system.text
    assert user == HELLO[1]
    chat = Spoken('{"title": "x"}')
    ask_for(chat, Answer, [HELLO[1]], step="test")
    assert [m.role for m in chat.asked[0]["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    "said",
    [
        '```json\n{"title": "x", "count": 2}\n```',
        'Sure, here it is:\n```\n{"title": "x", "count": 2}\n```\nAnything else?',
        '<think>{"title": "no"}</think>{"title": "x", "count": 2}',
        'No {"title": "no"}.</think>{"title": "x", "count": 2}',
        "{'title': 'x', 'parts': [{\"name\": \"y\"}], 'count': 2}",
        'The answer is {"title": "x", "count": 2}. I hope {this} helps.',
        'Of {all}, [this]: {"title": "x", "count": 2}',
        '{"title": "x", "count": 2,}',
        "{'title': 'x', 'count': 2}",
        '{title: "x", count: 2}',
        '{"title": "x", // the name\n "count": 2}',
        '[{"title": "x", "count": 2}]',
    ],
)
def test_what_is_around_and_wrong_with_json_is_mended_and_told(said: str) -> None:
    found, told, chat = value(said)
    assert (found.title, found.count) == ("x", 2)
    assert told
    assert len(chat.asked) == 1


def test_extra_fields_are_dropped_and_told() -> None:
    found, told, _ = value('{"title": "x", "mount": "/", "parts": [{"name": "y", "run": "rm"}]}')
    assert found == Answer(title="x", parts=(Part(name="y"),))
    assert any("mount" in line for line in told)
    assert any("parts.0.run" in line for line in told)


def test_extra_fields_of_a_model_that_ignores_them_are_told_too() -> None:
    told: list[str] = []
    assert ask_for(Spoken('{"Title": "x", "b": 1}'), Loose, HELLO, step="t", told=told.append).title == "x"
    assert told == ["unknown fields were dropped: b"]


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"count": "3"}, "count", 3),
        ({"count": 3.0}, "count", 3),
        ({"sure": "true"}, "sure", True),
        ({"title": 7}, "title", "7"),
        ({"tags": "one"}, "tags", ("one",)),
        ({"tags": ["a", 2]}, "tags", ("a", "2")),
        ({"parts": {"name": "y"}}, "parts", (Part(name="y"),)),
    ],
)
def test_types_are_coerced_where_nothing_is_lost(given: dict[str, Json], field: str, expected: object) -> None:
    found, _, chat = value(json.dumps({"title": "x"} | given))
    assert getattr(found, field) == expected
    assert len(chat.asked) == 1


@pytest.mark.parametrize(
    "said",
    [
        '{"title": "x", "count": 2.5}',
        '{"title": "x", "count": "many"}',
        '{"title": "x", "count": 1e999}',
        '{"title": "x", "count": null}',
        '{"title": "x", "kind": "c"}',
        '{"count": 2}',
        '{"title": "x", "parts": [1]}',
        "{}",
        "[]",
        "42",
        "I can't do that.",
        '{"title": "x\\ud800"}',
        "{" * 3000,
        "[" * 3000,
    ],
)
def test_what_can_not_be_used_is_asked_for_once_more(said: str) -> None:
    found, told, chat = value(said, '{"title": "x"}')
    assert found == Answer(title="x")
    assert any(line.startswith("asked again") for line in told)
    *_, echo, wish = chat.asked[1]["messages"]
    assert echo.role == "assistant"
    assert wish.role == "user"
    assert "can't be used" in wish.text
    error, chat = no_value(said)
    assert error.fault is ModelFault.MALFORMED
    assert len(chat.asked) == 2


def test_what_was_wrong_is_said_by_its_field() -> None:
    _, _, chat = value('{"title": "x", "kind": "c"}', '{"title": "x"}')
    assert "kind: Input should be 'a' or 'b'" in chat.asked[1]["messages"][-1].text


def test_a_model_that_thought_too_long_is_asked_without_thinking() -> None:
    cut = ModelError("cut", fault=ModelFault.TRUNCATED)
    found, _, chat = value(cut, '{"title": "x"}', thinking=True)
    assert found.title == "x"
    assert [a["thinking"] for a in chat.asked] == [True, False]
    error, chat = no_value(cut)
    assert error.fault is ModelFault.TRUNCATED
    assert len(chat.asked) == 1


def test_faults_of_the_model_pass_through() -> None:
    error, _ = no_value(ModelError("gone", fault=ModelFault.UNREACHABLE))
    assert error.fault is ModelFault.UNREACHABLE


# Tools


def test_tools_are_called_and_answered() -> None:
    found, told, chat = value(
        wants(("read_file", {"path": "a"}), ("read_file", {"path": "b"})), '{"title": "x"}', tools=[reading()]
    )
    assert found.title == "x"
    assert told == []
    *_, one, other = chat.asked[1]["messages"]
    assert (one.call_id, one.text, other.call_id, other.text) == ("c0", "text of a", "c1", "text of b")
    assert chat.asked[1]["schema"] is None  # structured output would keep it from calling on
    assert [t.name for t in chat.asked[1]["tools"]] == ["read_file"]


def test_an_answer_after_tools_that_is_no_json_is_asked_for_under_the_schema() -> None:
    found, _, chat = value(wants(("read_file", {"path": "a"})), "It is x.", '{"title": "x"}', tools=[reading()])
    assert found.title == "x"
    assert chat.asked[2]["schema"] is not None
    assert chat.asked[2]["tools"] == ()


def test_endless_calls_end_with_the_turns() -> None:
    numbers = iter(range(1000))
    chat_replies = [wants(("read_file", {"path": f"f{next(numbers)}"})) for _ in range(4)]
    found, told, chat = value(*chat_replies, '{"title": "x"}', tools=[reading()], limits=AskLimits(turns=4))
    assert found.title == "x"
    assert told == ["its tools were taken away: it has used all its turns"]
    last = chat.asked[-1]
    assert (last["tools"], last["schema"] is not None) == ((), True)
    assert "final answer" in last["messages"][-1].text


def test_a_model_that_calls_on_without_tools_is_endless() -> None:
    error, chat = no_value(wants(("read_file", {"path": "a"})), tools=[reading()])
    assert error.fault is ModelFault.ENDLESS
    assert len(chat.asked) < 10


def test_the_same_call_is_carried_out_once_told_once_and_ended() -> None:
    done: list[str] = []

    def act(arguments: Mapping[str, Json]) -> str:
        done.append(arguments["path"])
        return "text"

    same = wants(("read_file", {"path": "a"}))
    found, told, chat = value(same, same, same, '{"title": "x"}', tools=[reading(act)])
    assert found.title == "x"
    assert done == ["a"]
    assert "before" in chat.asked[2]["messages"][-1].text
    assert len(chat.asked) == 4
    assert "again and again" in told[0]


def test_an_unknown_tool_is_an_answer() -> None:
    _, _, chat = value(wants(("deploy_job", {})), '{"title": "x"}', tools=[reading()])
    assert chat.asked[1]["messages"][-1].text == "Error: there is no such tool. There are: read_file."


def test_arguments_that_are_no_json_are_told_once() -> None:
    broken = wants(("read_file", '{"path'))
    _, told, chat = value(broken, '{"title": "x"}', tools=[reading()])
    assert "no JSON object" in chat.asked[1]["messages"][-1].text
    _, told, chat = value(broken, broken, '{"title": "x"}', tools=[reading()])
    assert told == ["its tools were taken away: its arguments are no JSON"]
    assert len(chat.asked) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({}, "missing arguments path"), ({"path": "a", "mode": "w"}, "unknown arguments mode")],
)
def test_wrong_arguments_are_told_and_nothing_is_called(arguments: dict[str, Json], said: str) -> None:
    def never(_: Mapping[str, Json]) -> str:
        raise AssertionError

    _, _, chat = value(wants(("read_file", arguments)), '{"title": "x"}', tools=[reading(never)])
    assert said in chat.asked[1]["messages"][-1].text


@pytest.mark.parametrize("error", [UsageError("It is denied."), KeyError("x"), ValueError("x"), OSError("x")])
def test_what_goes_wrong_in_a_tool_is_its_answer(error: Exception) -> None:
    def act(_: Mapping[str, Json]) -> str:
        raise error

    _, _, chat = value(wants(("read_file", {"path": "a"})), '{"title": "x"}', tools=[reading(act)])
    assert chat.asked[1]["messages"][-1].text.startswith("Error: ")


def test_an_interruption_passes_through() -> None:
    def act(_: Mapping[str, Json]) -> str:
        raise Interrupted("Ctrl-C")

    with pytest.raises(Interrupted):
        value(wants(("read_file", {"path": "a"})), '{"title": "x"}', tools=[reading(act)])


def test_the_bytes_of_answers_are_bounded() -> None:
    limits = AskLimits(tool_bytes=1500, answer_bytes=1000)
    reads = [wants(("read_file", {"path": str(i)})) for i in range(2)]
    _, told, chat = value(*reads, '{"title": "x"}', tools=[reading(lambda _: "line\n" * 1000)], limits=limits)
    answers = [m.text for m in chat.asked[-1]["messages"] if m.role == "tool"]
    assert sum(map(len, answers)) < 1700
    assert "(Cut here: 5000 bytes in all.)" in answers[0]
    assert told == ["its tools were taken away: it has read all that it may"]


def test_many_calls_at_once_are_not_all_carried_out() -> None:
    many = wants(*(("read_file", {"path": str(i)}) for i in range(30)))
    _, _, chat = value(many, '{"title": "x"}', tools=[reading()], limits=AskLimits(calls_per_turn=3))
    answers = [m.text for m in chat.asked[1]["messages"] if m.role == "tool"]
    assert len(answers) == 30
    assert sum(a.startswith("text of") for a in answers) == 3


def test_the_loop_stays_inside_the_window() -> None:
    numbers = iter(range(1000))
    chat = Spoken(
        *(wants(("read_file", {"path": str(next(numbers))})) for _ in range(6)), '{"title": "x"}', window=4096
    )
    ask_for(chat, Answer, HELLO, step="t", tools=[reading(lambda _: "some words here\n" * 300)])
    assert all(prompt_tokens(asked["messages"]) <= 4096 for asked in chat.asked)
    last = [m.text for m in chat.asked[-1]["messages"] if m.role == "tool"]
    assert last[0].startswith("(Left out")
    assert last[-1].startswith("some words")
