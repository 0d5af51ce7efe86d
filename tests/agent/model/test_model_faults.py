"""What servers do wrong, against a real HTTP server: every fault is told apart, and costs no more than its time."""

import contextlib
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from caravan.agent.model.access import ModelAccess
from caravan.agent.model.client import OpenAiModel
from caravan.values.model import Message, ModelFault
from tests.fakes.model_client import SCHEMA, RealClock, ask, fault, model
from tests.fakes.openai_server import (
    Asked,
    ScriptedOpenAi,
    Turn,
    blurts,
    cuts,
    fails,
    hangs,
    over_window,
    rambles,
    says,
)


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
