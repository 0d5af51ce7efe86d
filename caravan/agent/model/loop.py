"""The loop in which a model looks things up with tools before it answers. It ends by itself, whatever the model does.

Tools answer; what goes wrong in one is its answer. What a tool may do is the tool's to say: this gives none a right.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from caravan.agent.model.window import bounded, cut_bytes, room, window_of
from caravan.ports import ChatModel
from caravan.values.base import Json, Value, canonical_json
from caravan.values.errors import ClusterError, ServiceError, UsageError
from caravan.values.model import Message, ModelReply, ToolCall, ToolSpec


@dataclass(frozen=True)
class Tool:
    """A tool and what it does. What `call` raises as UsageError, ClusterError or ServiceError is told to the model."""

    spec: ToolSpec
    call: Callable[[Mapping[str, Json]], str]


class AskLimits(Value):
    """What one question may take: turns with tools, calls in a turn, equal calls, bytes of all answers and of one."""

    turns: int = Field(default=8, ge=0)
    calls_per_turn: int = Field(default=8, ge=1)
    equal_calls: int = Field(default=2, ge=1, description="the next one like these ends the loop")
    tool_bytes: int = Field(default=64_000, ge=0)
    answer_bytes: int = Field(default=16_000, ge=256)


@dataclass
class Looked:
    """A conversation with what tools were asked and answered. `ended` says why no more may be asked; empty: it may."""

    messages: list[Message]
    limits: AskLimits
    ended: str = ""
    bytes_left: int = 0
    asked: dict[tuple[str, str], int] = field(default_factory=dict)
    broken: int = 0


def looked_up(
    chat: ChatModel,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    limits: AskLimits,
    *,
    step: str,
    thinking: bool,
    told: Callable[[str], None],
) -> tuple[tuple[Message, ...], ModelReply | None]:
    """Let the model call tools until it answers or must end: the conversation, and its reply where it gave one.

    Without a reply the conversation ends in the request to answer now. Raises ModelError as the model does.
    """
    by_name = {tool.spec.name: tool for tool in tools}
    specs = tuple(tool.spec for tool in tools)
    looked = Looked(list(messages), limits, bytes_left=limits.tool_bytes)
    most = room(window_of(chat))
    for _ in range(limits.turns):
        reply = chat.ask(bounded(looked.messages, most), step=step, tools=specs, thinking=thinking)
        if not reply.calls:
            return bounded(looked.messages, most), reply
        looked.messages.append(Message(role="assistant", text=reply.text, calls=reply.calls))
        for number, call in enumerate(reply.calls):
            looked.messages.append(Message(role="tool", call_id=call.id, text=_answer(looked, by_name, call, number)))
        if looked.ended:
            break
    told(f"its tools were taken away: {looked.ended or 'it has used all its turns'}")
    looked.messages.append(Message(role="user", text=_NO_MORE))
    return bounded(looked.messages, most), None


_NO_MORE = "No more tools can be called. Give your final answer now, from what you know."


def _answer(looked: Looked, tools: Mapping[str, Tool], call: ToolCall, number: int) -> str:
    """What one call is answered. Every call of a turn has an answer, also one that is not carried out."""
    if number >= looked.limits.calls_per_turn:
        return f"Error: at most {looked.limits.calls_per_turn} calls at once. This one was not carried out."
    if call.broken:
        looked.broken += 1
        looked.ended = "its arguments are no JSON" if looked.broken > 1 else looked.ended
        return "Error: the arguments are no JSON object. Call it again with a JSON object."
    tool = tools.get(call.name)
    if tool is None:
        return f"Error: there is no such tool. There are: {', '.join(tools)}."
    wrong = _wrong(tool.spec, call.arguments)
    key = (call.name, canonical_json(call.arguments))
    times = looked.asked[key] = looked.asked.get(key, 0) + 1
    if times > looked.limits.equal_calls:
        looked.ended = f"it called {call.name} with the same arguments again and again"
    if times > 1:
        return "Error: you have called this with the same arguments before. Its answer is above; use it."
    if wrong or looked.bytes_left <= 0:
        return wrong or "Error: no more can be read."
    text = cut_bytes(_called(tool, call), min(looked.limits.answer_bytes, looked.bytes_left))
    looked.bytes_left -= len(text.encode("utf-8", "replace"))
    if looked.bytes_left <= 0:
        looked.ended = "it has read all that it may"
    return text


def _wrong(spec: ToolSpec, arguments: Mapping[str, Json]) -> str:
    """What is wrong with the arguments' names; empty: nothing."""
    known = spec.parameters.get("properties")
    needed = spec.parameters.get("required")
    if isinstance(known, dict) and (unknown := sorted(set(arguments) - set(known))):
        return f"Error: unknown arguments {', '.join(unknown)[:200]}. It takes: {', '.join(known) or 'none'}."
    missing = [str(name) for name in needed if name not in arguments] if isinstance(needed, list) else []
    return f"Error: missing arguments {', '.join(missing)}." if missing else ""


def _called(tool: Tool, call: ToolCall) -> str:
    try:
        return tool.call(call.arguments) or "(nothing)"
    except (UsageError, ClusterError, ServiceError) as error:
        return f"Error: {error.line()}"
    except (ValueError, TypeError, KeyError, OSError) as error:  # of a kind, or a place, that the tool does not take
        return f"Error: the arguments can't be used ({type(error).__name__})."
