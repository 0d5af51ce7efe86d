"""One model on one server, against a real HTTP server: replies, what goes out, and every fault told apart."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from caravan.agent.model.access import ModelAccess
from caravan.agent.model.client import OpenAiModel
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolCall, ToolSpec
from tests.fakes.clock import FakeClock
from tests.fakes.openai_server import (
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
