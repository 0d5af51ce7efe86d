"""One model on one server, against a real HTTP server: replies, and what goes out."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from caravan.agent.model.access import ModelAccess
from caravan.agent.model.client import OpenAiModel
from caravan.agent.model.tokens import prompt_tokens, tokens
from caravan.values.model import Message, ModelFault, ToolCall
from tests.fakes.model_client import HELLO, READ, SCHEMA, RealClock, ask, fault, model
from tests.fakes.openai_server import (
    ScriptedOpenAi,
    Turn,
    blurts,
    calls,
    fails,
    says,
)


def test_a_reply_with_its_usage() -> None:
    with model(says("Hello there, friend."), name="qwen3-8b", prompt_usd=1.0, completion_usd=2.0) as (chat, _):
        reply = ask(chat)
    assert (reply.text, reply.calls, reply.model) == ("Hello there, friend.", (), "qwen3-8b")
    assert (reply.usage.calls, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1, 4, 3)
    assert not reply.usage.estimated
    assert reply.usage.usd == pytest.approx((4 * 1 + 3 * 2) / 1e6)


def test_nothing_is_opened_before_the_first_question() -> None:
    with ScriptedOpenAi() as served:
        chat = OpenAiModel(ModelAccess.at(served.url), clock=RealClock())
        assert chat.name == served.url.split("/")[2]
        chat.close()
        assert served.asked == []


def test_qwens_defaults_go_out() -> None:
    with model(says("a"), says("b"), name="qwen3-8b") as (chat, served):
        ask(chat)
        ask(chat, thinking=True)
    plain, thinking = (asked.body for asked in served.chats)
    assert plain["chat_template_kwargs"] == {"enable_thinking": False}
    assert (plain["temperature"], plain["top_p"], plain["top_k"], plain["min_p"]) == (0.7, 0.8, 20, 0.0)
    assert thinking["chat_template_kwargs"] == {"enable_thinking": True}
    assert (thinking["temperature"], thinking["top_p"], thinking["top_k"], thinking["min_p"]) == (0.6, 0.95, 20, 0.0)
    assert plain["seed"] == thinking["seed"] == 20
    assert plain["stream_options"] == {"include_usage": True}
    assert thinking["max_tokens"] > plain["max_tokens"] > 0


def test_the_environment_of_the_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_ORG_ID",
        "OPENAI_ORGANIZATION",
        "OPENAI_PROJECT_ID",
        "OPENAI_API_KEY",
        "OPENAI_CUSTOM_HEADERS",
    ):
        monkeypatch.setenv(name, "x-leak: leaked")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("LC_OUTPUT_VERSION", "v1")
    with model(says("hi"), server={"key": "our-key"}, key=SecretStr("our-key")) as (chat, served):
        assert ask(chat).text == "hi"
    for asked in served.asked:
        assert "leaked" not in str(asked)
        assert set(asked.headers) <= {
            "host",
            "accept",
            "accept-encoding",
            "authorization",
            "connection",
            "content-length",
            "content-type",
            "user-agent",
        }


def test_without_a_key_none_is_sent() -> None:
    with model(says("hi")) as (chat, served):
        ask(chat)
    assert all("authorization" not in asked.headers for asked in served.asked)


def test_the_name_and_window_are_the_servers() -> None:
    with model(says("hi"), server={"models": [("some/model", 9000)]}) as (chat, served):
        reply = ask(chat)
        assert (chat.name, chat.window, reply.model) == ("some/model", 9000, "some/model")
    assert served.chats[0].body["model"] == "some/model"


def test_of_several_models_none_is_chosen() -> None:
    with model(says("hi"), server={"models": [("a", 1), ("b", None)]}) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.UNKNOWN_MODEL
    assert "several models (a, b)" in error.line()
    assert "CARAVAN_MODEL" in error.line()


@pytest.mark.parametrize("body", ["[]", "null", '{"data": 1}', '{"data": [{}]}', "<html>", b"\xff\xfe"])
def test_a_list_of_models_that_is_none(body: bytes | str) -> None:
    with ScriptedOpenAi() as served:
        served.turn = lambda asked: blurts(body, kind="application/json")  # type: ignore[method-assign]
        chat = OpenAiModel(ModelAccess.at(served.url), clock=RealClock())
        assert fault(chat).fault is ModelFault.SERVER_ERROR
        assert chat.window is None
        chat.close()


def test_a_reply_is_made_to_fit_the_window() -> None:
    with model(says("hi"), window=2048) as (chat, served):
        chat.ask([Message(role="user", text="word " * 800)], step="test")
    assert 256 <= served.chats[0].body["max_tokens"] < 1500


def test_tool_calls_and_their_answers() -> None:
    with model(calls(("read_file", {"path": "a.py"}), ("read_file", '{"path": "b')), says("Done.")) as (chat, served):
        first = ask(chat, tools=[READ])
        assert first.calls == (
            ToolCall(id="call-0", name="read_file", arguments={"path": "a.py"}),
            ToolCall(id="call-1", name="read_file", broken='{"path": "b'),
        )
        answers = [Message(role="tool", call_id=call.id, text=f"of {call.id}") for call in first.calls]
        talk = [*HELLO, Message(role="assistant", text=first.text, calls=first.calls), *answers]
        assert chat.ask(talk, step="test", tools=[READ]).text == "Done."
    sent = served.chats[1].body
    assert sent["tools"][0]["function"]["name"] == "read_file"
    assert [m["role"] for m in sent["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert [c["function"]["arguments"] for c in sent["messages"][2]["tool_calls"]] == ['{"path": "a.py"}', "{}"]
    assert sent["messages"][4] == {"role": "tool", "tool_call_id": "call-1", "content": "of call-1"}


def test_a_schema_asks_for_structured_output() -> None:
    with model(says({"a": 1})) as (chat, served):
        assert ask(chat, schema=SCHEMA).text == '{"a": 1}'
    assert served.chats[0].body["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize(
    "name", ["response_format", "chat_template_kwargs", "top_k", "min_p", "seed", "stream_options"]
)
def test_what_a_server_refuses_is_left_out_from_then_on(name: str) -> None:
    with model(says({"a": 1}), says({"a": 2}), server={"refuses": [name]}) as (chat, served):
        assert ask(chat, schema=SCHEMA).text == '{"a": 1}'
        assert ask(chat, schema=SCHEMA).text == '{"a": 2}'
        assert name in chat.refused
    assert [name in asked.body for asked in served.chats] == [True, False, False]


def test_a_server_that_takes_the_newer_limit_alone() -> None:
    with model(says("hi"), server={"refuses": ["max_tokens"]}) as (chat, served):
        assert ask(chat).text == "hi"
    assert served.chats[1].body["max_completion_tokens"] == served.chats[0].body["max_tokens"]


def test_a_server_without_a_tool_parser_is_asked_without_tools() -> None:
    with model(says("hi"), says("ho"), server={"refuses": ["tools"]}) as (chat, served):
        assert ask(chat, tools=[READ]).text == "hi"
        assert ask(chat, tools=[READ]).text == "ho"
        assert chat.refused == {"tools"}
    assert ["tools" in asked.body for asked in served.chats] == [True, False, False]


def test_one_schema_that_is_refused_does_not_cost_the_others() -> None:
    odd = fails(400, "Invalid schema: it has features that xgrammar does not know")
    with model(odd, says({"a": 1}), says({"a": 2})) as (chat, served):
        ask(chat, schema=SCHEMA | {"pattern": "x"})
        ask(chat, schema=SCHEMA)
    assert ["response_format" in asked.body for asked in served.chats] == [True, False, True]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("<think>\nhm, {}\n</think>\n\nYes.", "Yes."),
        ("hm, so be it</think>\nYes.", "Yes."),
        ("<think></think>Yes.", "Yes."),
        ('{"text": "</think>"}', '{"text": "</think>"}'),
    ],
)
def test_thinking_is_no_part_of_a_reply(said: str, left: str) -> None:
    with model(says(said, thinking="kept apart by the server " * 5)) as (chat, _):
        assert ask(chat).text == left


def test_thinking_that_never_ends_is_empty() -> None:
    with model(says("<think> and so on")) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.EMPTY
    assert error.usage is not None
    assert error.usage.completion_tokens > 0


def _counting(prompt: Any, completion: Any) -> Turn:
    rows: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": "one two three four " * 5}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}},
    ]
    said = "".join(f"data: {json.dumps({'id': '1', 'model': 'qwen3-8b', **row})}\n\n" for row in rows)
    return blurts(f"{said}data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("prompt", "completion", "believed"),
    [
        (20, 25, (True, True)),
        (20, 4096, (True, True)),
        (-5, 10**30, (False, False)),
        (0, 0, (False, False)),
        (10**12, 25, (False, True)),
        (20, -1, (True, False)),
        (20, 4097, (True, False)),
    ],
)
def test_a_count_that_can_not_be_right_is_not_believed(
    prompt: int, completion: int, believed: tuple[bool, bool]
) -> None:
    with model(_counting(prompt, completion), reply_tokens=4096) as (chat, _):
        usage = ask(chat).usage
    assert usage.prompt_tokens == (prompt if believed[0] else prompt_tokens(HELLO))
    assert usage.completion_tokens == (completion if believed[1] else tokens("one two three four " * 5))
    assert usage.estimated is not all(believed)


def test_usage_is_estimated_where_the_server_counts_none() -> None:
    with model(says("Hello there, friend.", usage=False)) as (chat, _):
        usage = ask(chat).usage
    assert usage.estimated
    assert usage.prompt_tokens > 8
    assert usage.completion_tokens > 4
