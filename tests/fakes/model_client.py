"""A client on a scripted server, and what is asked of it: shared by the tests of replies and of faults."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from caravan.agent.model.access import ModelAccess
from caravan.agent.model.client import OpenAiModel
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelReply, ToolSpec
from tests.fakes.clock import FakeClock
from tests.fakes.openai_server import ScriptedOpenAi, Turn

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
