"""One model on one server, against a real HTTP server: replies, what goes out, and every fault told apart."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from caravan.agent.model.access import ModelAccess
from caravan.agent.model.client import OpenAiModel
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolCall, ToolSpec
from tests.fakes.clock import FakeClock
from tests.fakes.openai_server import (
    Asked,
    ScriptedOpenAi,
    Turn,
    blurts,
    calls,
    cuts,
    fails,
    hangs,
    over_window,
    rambles,
    says,
)

HELLO = (Message(role="system", text="Be brief."), Message(role="user", text="Say hello."))
READ = ToolSpec(
    name="read_file",
    description="Lines of a file.",
    parameters={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


class RealClock(FakeClock):
    """The real time, for what the socket waits for; sleeping returns at once and moves the time on."""

    def monotonic(self) -> float:
        return time.monotonic() + super().monotonic()


@contextmanager
def model(*script: Turn, server: dict[str, Any] | None = None, **access: Any) -> Iterator[tuple[Any, Any]]:
    with ScriptedOpenAi(script, **(server or {})) as served:
        chat = OpenAiModel(ModelAccess.at(served.url, **access), clock=RealClock())
        try:
            yield chat, served
        finally:
            chat.close()


def ask(chat: OpenAiModel, **more: Any) -> ModelReply:
    return chat.ask(HELLO, step="test", **more)


def fault(chat: OpenAiModel, **more: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(chat, **more)
    return caught.value


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


def test_usage_is_estimated_where_the_server_counts_none() -> None:
    with model(says("Hello there, friend.", usage=False)) as (chat, _):
        usage = ask(chat).usage
    assert usage.estimated
    assert usage.prompt_tokens > 8
    assert usage.completion_tokens > 4


# Faults


def test_connection_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        clock = RealClock()
        chat = OpenAiModel(ModelAccess.at(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", name="m"), clock=clock)
        error = fault(chat)
    assert error.fault is ModelFault.UNREACHABLE
    assert "refused" in error.line()
    assert len(clock.slept) == 1  # it was tried once more


def test_no_such_host() -> None:
    chat = OpenAiModel(ModelAccess.at("http://no-such-host.invalid/v1", name="m"), clock=RealClock())
    assert fault(chat).fault is ModelFault.UNREACHABLE


def test_a_black_hole_before_the_connection() -> None:
    with socket.socket() as full, socket.socket() as a, socket.socket() as b:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (a, b):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        chat = OpenAiModel(ModelAccess.at(url, name="m", connect_s=0.2, timeout_s=0.4), clock=RealClock())
        assert fault(chat).fault is ModelFault.TIMED_OUT


def test_a_black_hole_after_the_connection() -> None:
    with model(hangs(), timeout_s=0.3) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.TIMED_OUT
    assert "did not begin" in error.message


def test_a_slow_first_token_is_told_from_a_slow_reply() -> None:
    with model(says("hi", first_s=5), first_token_s=0.2, timeout_s=20) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.TIMED_OUT
    assert "did not begin to reply within 0.2 s" in error.message


def test_a_trickle_does_not_outlast_the_deadline() -> None:
    with model(says("a" * 4000, piece=1, between_s=0.02), timeout_s=0.5, first_token_s=0.4) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.TIMED_OUT
    assert "not complete within 0.5 s" in error.message
    assert error.usage is not None


def test_a_trickle_of_headers_does_not_outlast_it_either() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        stop = threading.Event()

        def drip() -> None:
            peer, _ = listening.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not stop.wait(0.02):
                    peer.sendall(b"a")

        thread = threading.Thread(target=drip)
        thread.start()
        chat = OpenAiModel(ModelAccess.at(url, name="m", timeout_s=0.3), clock=RealClock())
        try:
            assert fault(chat).fault is ModelFault.TIMED_OUT
        finally:
            stop.set()
            thread.join()


def test_the_deadline_is_the_clocks() -> None:
    class Later(RealClock):
        def monotonic(self) -> float:
            self.sleep(0.3)
            return super().monotonic()

    with ScriptedOpenAi([says("word " * 200)]) as served:
        chat = OpenAiModel(ModelAccess.at(served.url, name="qwen3-8b", timeout_s=1.0), clock=Later())
        assert fault(chat).fault is ModelFault.TIMED_OUT
        chat.close()


def test_a_key_that_is_refused() -> None:
    with model(says("hi"), server={"key": "right"}, key=SecretStr("wrong-key-0815"), name="qwen3-8b") as (chat, served):
        error = fault(chat)
    assert error.fault is ModelFault.DENIED
    assert "CARAVAN_MODEL_API_KEY" in error.line()
    assert "wrong-key-0815" not in error.line() + repr(chat.__dict__)
    assert len(served.chats) == 1


def test_an_unknown_model() -> None:
    with model(says("hi"), name="other") as (chat, served):
        error = fault(chat)
    assert error.fault is ModelFault.UNKNOWN_MODEL
    assert "`other` does not exist" in error.line()
    assert len(served.chats) == 1


@pytest.mark.parametrize("after", ["2", "0.5", "Fri, 02 Jan 2026 03:04:07 GMT"])
def test_a_429_is_waited_for_where_that_fits(after: str) -> None:
    with model(fails(429, "busy", retry_after=after), says("hi"), name="qwen3-8b") as (chat, _):
        assert ask(chat).text == "hi"
        (slept,) = chat._clock.slept
    assert slept == pytest.approx(0.5 if after == "0.5" else 2)


def test_a_429_that_asks_for_too_much_is_not_waited_for() -> None:
    with model(fails(429, retry_after="600"), name="qwen3-8b") as (chat, served):
        assert fault(chat).fault is ModelFault.RATE_LIMITED
        assert chat._clock.slept == []
    assert len(served.chats) == 1


def test_a_429_without_an_end() -> None:
    with model(fails(429), server={"repeat": True}, name="qwen3-8b") as (chat, served):
        assert fault(chat).fault is ModelFault.RATE_LIMITED
    assert len(served.chats) == 3


def test_a_500_is_tried_once_more() -> None:
    with model(fails(500), says("hi"), fails(500), fails(503), says("hi"), name="qwen3-8b") as (chat, served):
        assert ask(chat).text == "hi"
        assert fault(chat).fault is ModelFault.SERVER_ERROR
    assert len(served.chats) == 4


def test_a_stream_that_is_cut() -> None:
    with model(cuts("some words that break off", after=2)) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.CUT
    assert error.usage is not None
    assert error.usage.estimated
    assert error.usage.completion_tokens > 0


def test_a_stream_that_ends_without_saying_so() -> None:
    with model(says("some words", finish=None)) as (chat, _):
        assert fault(chat).fault is ModelFault.CUT


def test_a_reply_cut_by_its_length() -> None:
    with model(says("some words", finish="length")) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.TRUNCATED
    assert error.usage is not None
    assert error.usage.completion_tokens == 2


def test_a_prompt_beyond_the_window() -> None:
    with model(over_window()) as (chat, served):
        error = fault(chat, schema=SCHEMA)
    assert error.fault is ModelFault.CONTEXT_EXCEEDED
    assert len(served.chats) == 1


@pytest.mark.parametrize("turn", [says("", choices="empty"), says("", choices="null"), says(""), says("  \n")])
def test_an_empty_reply(turn: Turn) -> None:
    with model(turn) as (chat, _):
        assert fault(chat).fault is ModelFault.EMPTY


def test_a_reply_without_an_end_is_not_read_to_it() -> None:
    with model(rambles(), reply_bytes=200_000) as (chat, _):
        assert fault(chat).fault is ModelFault.TOO_LONG


def test_one_piece_of_10_mb() -> None:
    with model(blurts(b'data: {"id": "' + b"y" * 11_000_000 + b'"}\n\n')) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.TOO_LONG
    assert "10 MB" in error.line()


def test_a_packed_answer_is_not_unpacked() -> None:
    turn = Turn(raw=b"x", headers=(("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")))
    with model(turn) as (chat, _):
        assert fault(chat).fault is ModelFault.SERVER_ERROR


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\xff garbage",
        "<html>a page</html>",
        "",
        "data: null\n\n",
        "data: [1]\n\n",
        'data: {"a":\n\n',
        'data: {"choices": "abc"}\n\n',
        'data: {"choices": [null]}\n\n',
        'data: {"choices": [{}]}\n\n',
        'data: {"choices": [{"delta": "abc"}]}\n\n',
        'data: {"choices": [{"delta": {"tool_calls": [{"function": null}]}}]}\n\n',
        'data: {"choices": [{"delta": {"content": {"a": 1}}}]}\n\n',
        'data: {"choices": [], "usage": {"prompt_tokens": "many"}}\n\n',
        "data: " + "[" * 5000 + "\n\n",
        '{"choices": null}',
    ],
)
def test_garbage_is_a_fault_and_no_other_exception(body: bytes | str) -> None:
    with model(blurts(body)) as (chat, _):
        assert fault(chat).fault in (ModelFault.SERVER_ERROR, ModelFault.EMPTY, ModelFault.CUT)


def test_an_error_inside_a_stream() -> None:
    said = 'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    with model(blurts(said), blurts(said)) as (chat, _):
        error = fault(chat)
    assert error.fault is ModelFault.SERVER_ERROR
    assert "out of memory" in error.line()


def test_redirects_are_not_followed() -> None:
    with ScriptedOpenAi([says("from elsewhere")]) as other:
        turn = Turn(raw=b"", status=307, headers=(("Location", f"{other.url}/chat/completions"),))
        with model(turn, key=SecretStr("k")) as (chat, _):
            assert fault(chat).fault is ModelFault.SERVER_ERROR
        assert other.asked == []


def test_foreign_words_are_one_short_printable_line() -> None:
    with model(fails(400, "a\x1b[2J\nb" + "c" * 5000), name="qwen3-8b") as (chat, _):
        error = fault(chat)
    assert "\x1b" not in error.message
    assert len(error.message) < 400


def test_several_threads_at_once() -> None:
    def answer(asked: Asked) -> Turn:
        return says(asked.said().split()[-1], first_s=0.05)

    with ScriptedOpenAi(answer) as served:
        chat = OpenAiModel(ModelAccess.at(served.url), clock=RealClock())
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(chat.ask, [Message(role="user", text=f"say {i}")], step="test") for i in range(16)]
            assert [f.result().text for f in asked] == [str(i) for i in range(16)]
        chat.close()


def test_a_client_that_was_closed_opens_again() -> None:
    with model(says("a"), says("b")) as (chat, _):
        assert ask(chat).text == "a"
        chat.close()
        assert ask(chat).text == "b"


def test_the_library_is_loaded_at_the_first_question() -> None:
    code = "import sys, caravan.agent.model.client, caravan.agent.model.ask; print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
