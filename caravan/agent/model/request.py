"""A question as the OpenAI-compatible request for it, and what of it a server has refused before.

Pure, but for remembering refusals. What is not in OpenAI's own API (vLLM's `chat_template_kwargs`, `top_k`, `min_p`)
goes with every request until the server says no to it; then the requests go without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from caravan.values.base import Json, canonical_json, sha256_text
from caravan.values.model import Message, ToolSpec

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from caravan.agent.model.access import ModelAccess

SCHEMA: Final = "response_format"
TOOLS: Final = "tools"
_MOST_SCHEMAS: Final = 3  # after so many refused schemas no other is tried
# What a refusal names → what is left out then. OpenAI's newer models want `max_completion_tokens`.
_NAMED: Final = {
    "chat_template_kwargs": "chat_template_kwargs",
    "enable_thinking": "chat_template_kwargs",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stream_options": "stream_options",
    "include_usage": "stream_options",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
}
_ABOUT_TOOLS: Final = re.compile(r"tool[ _]choice|tool[ _-]call|--enable-auto-tool|\btools?\b|function", re.IGNORECASE)


class Refused:
    """What one server does not take, as learned from its answers. For several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._fields: frozenset[str] = frozenset()
        self._schemas: frozenset[str] = frozenset()

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields that are left out of every request."""
        return self._fields | ({SCHEMA} if len(self._schemas) >= _MOST_SCHEMAS else frozenset())

    def takes(self, schema: Json) -> bool:
        """Whether structured output under that schema may be asked for."""
        return SCHEMA not in self.fields and _digest(schema) not in self._schemas

    def learn(self, words: str, *, schema: Json, tools: Sequence[ToolSpec]) -> bool:
        """Take note of a 400's words; whether the request will now be another."""
        with self._lock:
            before = self._fields, self._schemas
            low = words.lower()
            named = {left for name, left in _NAMED.items() if re.search(rf"\b{name}\b", low)}
            if named - self._fields:
                self._fields |= named
            elif tools and TOOLS not in self._fields and _ABOUT_TOOLS.search(words):
                self._fields |= {TOOLS}
            elif schema is not None and _digest(schema) not in self._schemas:
                # named or not: with structured output in the request, a refusal is tried without it first
                self._schemas |= {_digest(schema)}
                if re.search(r"response_format|json_schema", words) and not _ABOUT_ONE.search(words):
                    self._fields |= {SCHEMA}
            return before != (self._fields, self._schemas)


# A refusal of this one schema, not of structured output.
_ABOUT_ONE: Final = re.compile(r"invalid|unsupported (?:keyword|feature|schema)|features", re.IGNORECASE)


def _digest(schema: Json) -> str:
    return sha256_text(canonical_json(schema))


def most_of(access: ModelAccess, *, thinking: bool, room: int | None) -> int:
    """The tokens that a reply may have. `room`: tokens that the window has left."""
    most = access.thinking_tokens if thinking else access.reply_tokens
    return most if room is None else max(_LEAST_REPLY, min(most, room))


def options(
    access: ModelAccess,
    refused: Refused,
    *,
    schema: Json,
    tools: Sequence[ToolSpec],
    thinking: bool,
    most: int,
) -> dict[str, Any]:
    """The keyword arguments of a call of ChatOpenAI, but its messages. `most`: tokens of the reply."""
    without = refused.fields
    sampling = access.thinking if thinking else access.plain
    extra: dict[str, Json] = {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "chat_template_kwargs": {"enable_thinking": thinking},
        "max_completion_tokens" if "max_tokens" in without else "max_tokens": most,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if access.seed is not None:
        extra["seed"] = access.seed
    # In the body and not as an argument: with the argument the library parses the reply itself, and raises.
    if schema is not None and refused.takes(schema):
        extra[SCHEMA] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    found: dict[str, Any] = {
        "extra_body": {key: value for key, value in extra.items() if key not in without},
        "stream_usage": "stream_options" not in without,
    }
    if tools and TOOLS not in without:
        found["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
    return found


_LEAST_REPLY: Final = 256


def _function(tool: ToolSpec) -> dict[str, Json]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def spoken(messages: Sequence[Message]) -> list[BaseMessage]:
    """Our messages as the library's. Broken calls go back as they came, so that the model sees what it wrote."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

    found: list[BaseMessage] = []
    for message in messages:
        if message.role == "system":
            found.append(SystemMessage(message.text))
        elif message.role == "user":
            found.append(HumanMessage(message.text))
        elif message.role == "tool":
            found.append(ToolMessage(message.text, tool_call_id=message.call_id))
        else:
            # A server that reads the arguments for its template (vLLM's Qwen) fails on what is no JSON object.
            calls = [{"id": c.id, "name": c.name, "args": c.arguments} for c in message.calls]
            found.append(AIMessage(message.text, tool_calls=calls))
    return found
