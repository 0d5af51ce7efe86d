"""Asking a model for a value: JSON under a schema, mended, checked, asked for again once; with tools before, if given.

What comes back keeps the schema and is otherwise as true as the model is. It knows no prompts.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pydantic import BaseModel

from caravan.agent.model.checked import checked
from caravan.agent.model.loop import AskLimits, Tool, looked_up
from caravan.agent.model.repair import parsed
from caravan.agent.model.window import cut_bytes
from caravan.ports import ChatModel
from caravan.values.base import Json, canonical_json
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply

__all__ = ["AskLimits", "Tool", "ask_for"]

T = TypeVar("T", bound=BaseModel)
_WISH: Final = "Your final answer is one JSON object and nothing around it. It keeps this JSON schema:"
_ECHOED: Final = 4000  # bytes of a useless reply that the model is shown again
_NO_THOUGHTS: Final = (ModelFault.EMPTY, ModelFault.TRUNCATED)


def _silent(_: str) -> None:
    """Tell nobody."""


def ask_for(
    chat: ChatModel,
    kind: type[T],
    messages: Sequence[Message],
    *,
    step: str,
    thinking: bool = False,
    tools: Sequence[Tool] = (),
    limits: AskLimits | None = None,
    told: Callable[[str], None] = _silent,
) -> T:
    """A value of `kind` as the model answers. `told` hears what was mended, dropped or ended on the way, in its words.

    Raises ModelError: MALFORMED where two replies hold no such value, ENDLESS where it calls tools that it was not
    given, else as the model does.
    """
    schema = kind.model_json_schema()
    reply: ModelReply | None = None
    talk = _with_schema(messages, schema)
    if tools:
        talk, reply = looked_up(chat, talk, tools, limits or AskLimits(), step=step, thinking=thinking, told=told)
    if reply is None:
        try:
            reply = chat.ask(talk, step=step, schema=schema, thinking=thinking)
        except ModelError as error:
            if not thinking or error.fault not in _NO_THOUGHTS:
                raise
            told("it thought until nothing was left for its answer: asked again without thinking")
            return _value(kind, chat.ask(talk, step=step, schema=schema), told)
    try:
        return _value(kind, reply, told)
    except ModelError as error:
        if error.fault is not ModelFault.MALFORMED:
            raise
        told(f"asked again: {error.message}")
        said = cut_bytes(reply.text, _ECHOED)
        wish = f"{error.message} Answer again, with one JSON object that keeps the schema, and nothing around it."
        again = (*talk, Message(role="assistant", text=said), Message(role="user", text=wish))
        return _value(kind, chat.ask(again, step=step, schema=schema), told)


def _with_schema(messages: Sequence[Message], schema: Json) -> tuple[Message, ...]:
    """The conversation, in which the schema is told: structured output binds a model, and does not show it the schema.

    In the system message, which is made where there is none: chat templates take one, and take it first.
    """
    wish = f"{_WISH}\n{canonical_json(_untitled(schema))}"
    if messages and messages[0].role == "system":
        first = messages[0].model_copy(update={"text": f"{messages[0].text}\n\n{wish}"})
        return (first, *messages[1:])
    return (Message(role="system", text=wish), *messages)


def _untitled(schema: Json) -> Json:
    """A schema without the titles that only repeat its names."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: _untitled(v) for k, v in schema.items() if k != "title" or not isinstance(v, str)}


def _value(kind: type[T], reply: ModelReply, told: Callable[[str], None]) -> T:
    if not reply.text:
        raise ModelError("The model goes on calling tools.", fault=ModelFault.ENDLESS)
    try:
        value, done = parsed(reply.text)
        found = checked(kind, value, told)
    except ValueError as error:
        raise ModelError(f"The model's reply can't be used: {error}.", fault=ModelFault.MALFORMED) from error
    for line in done:
        told(line)
    return found
