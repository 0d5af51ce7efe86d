"""A language model that follows a script, without a server. It keeps the port's contract."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from caravan.values.base import Json
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolCall, ToolSpec, Usage

Said = Json | ModelReply | ModelError | Callable[[Sequence[Message]], Any]
"""A value as JSON, a text, a whole reply, an error, or a function of the conversation that gives one of these."""


class ScriptedChat:
    """The port ChatModel. `script`: what it says in each step, the last again and again; `asked` keeps what it heard.

    A step without a script has nothing to add: the empty object.
    """

    def __init__(self, script: Mapping[str, Sequence[Said]] | None = None, name: str = "Qwen/Qwen3-8B") -> None:
        self._script = {step: list(said) for step, said in (script or {}).items()}
        self._name = name
        self.asked: list[tuple[str, tuple[Message, ...], tuple[str, ...]]] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def steps(self) -> list[str]:
        return [step for step, _, _ in self.asked]

    def heard(self, step: str) -> str:
        """All that was said to it in a step."""
        return "\n".join(m.text for s, messages, _ in self.asked if s == step for m in messages)

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        self.asked.append((step, tuple(messages), tuple(tool.name for tool in tools)))
        left = self._script.get(step, [{}])
        said = left.pop(0) if len(left) > 1 else left[0]
        if callable(said):
            said = said(messages)
        if isinstance(said, ModelError):
            raise said
        if isinstance(said, ModelReply):
            return said
        text = said if isinstance(said, str) else json.dumps(said)
        return ModelReply(text=text, model=self._name, usage=Usage(calls=1, prompt_tokens=10, completion_tokens=5))


def calls(name: str, /, **arguments: Json) -> ModelReply:
    """A reply that asks for one tool call."""
    return ModelReply(calls=(ToolCall(id=f"{name}-1", name=name, arguments=arguments),), model="Qwen/Qwen3-8B")


def gone(fault: ModelFault = ModelFault.UNREACHABLE) -> ModelError:
    """The server does not answer."""
    return ModelError("The language model can't be reached.", fault=fault)
