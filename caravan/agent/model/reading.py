"""A stream of chunks → one reply: text, tool calls, usage. Faults of the stream are told apart here. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from caravan.agent.model.repair import without_thinking
from caravan.agent.model.tokens import PER_MESSAGE, tokens
from caravan.values.errors import ModelError
from caravan.values.model import ModelFault, ToolCall

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessageChunk

    from caravan.agent.model.net import Call

_MOST_CALLS: Final = 64
_BROKEN: Final = 2000  # characters that are kept of arguments that are no JSON object

_OFF: Final = 4  # so many times a server's count may differ from our estimate: each tokenizer is another
_TEMPLATE: Final = 256  # tokens of words that a model's template puts before the prompt


@dataclass
class Heard:
    """What has come of a reply so far. `prompt` and `completion`: tokens as the server counted them."""

    text: list[str] = field(default_factory=list)
    calls: dict[object, dict[str, str]] = field(default_factory=dict)
    finish: str = ""
    model: str = ""
    prompt: int | None = None
    completion: int | None = None

    def said(self) -> str:
        """The text so far, thinking included."""
        return "".join(self.text)


def hear(chunks: Iterable[BaseMessageChunk], call: Call, heard: Heard) -> None:
    """Read a stream to its end. Raises ModelError CUT where it ends before the model said that it was done."""
    for chunk in chunks:
        if isinstance(chunk.content, str) and chunk.content:
            call.begun = True
            heard.text.append(chunk.content)
        for part in getattr(chunk, "tool_call_chunks", None) or ():
            _add(heard.calls, part)
        usage = getattr(chunk, "usage_metadata", None)
        if usage:
            heard.prompt, heard.completion = usage["input_tokens"], usage["output_tokens"]
        heard.finish = str(chunk.response_metadata.get("finish_reason") or heard.finish)
        heard.model = str(chunk.response_metadata.get("model_name") or heard.model)
        call.left()
    if (heard.text or heard.calls) and not heard.finish:
        raise ModelError("The model's reply broke off.", fault=ModelFault.CUT)


def outcome(heard: Heard) -> tuple[str, tuple[ToolCall, ...]]:
    """The text without thinking, and the calls. Raises ModelError TRUNCATED or EMPTY."""
    if heard.finish == "length":
        raise ModelError("The model's reply is longer than it may be, and was cut.", fault=ModelFault.TRUNCATED)
    text, calls = without_thinking(heard.said()), tuple(_calls(heard.calls))
    if not text and not calls:
        raise ModelError("The model's reply is empty.", fault=ModelFault.EMPTY)
    return text, calls


def counted(heard: Heard, estimate: int, most: int) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the reply, and whether any of them is our estimate.

    `estimate`: the prompt's tokens as estimated here; `most`: the reply's as asked for. A server's own count is
    believed where it can be right: budgets and prices rest on it, so neither zeros nor any number may decide them.
    What a model thinks in silence is not heard: its count may go up to what was asked for.
    """
    written = heard.said() + "".join(c["name"] + c["args"] for c in heard.calls.values())
    said = tokens(written)
    highest = max(most, len(written.encode("utf-8", "replace")))
    prompt = _within(heard.prompt, max(1, estimate / _OFF - PER_MESSAGE), estimate * _OFF + _TEMPLATE)
    completion = _within(heard.completion, said / _OFF, highest)
    estimated = prompt is None or completion is None
    return estimate if prompt is None else prompt, said if completion is None else completion, estimated


def _within(count: int | None, low: float, high: float) -> int | None:
    return int(count) if count is not None and low <= count <= high else None


def _add(calls: dict[object, dict[str, str]], part: Any) -> None:
    """Add a piece of a call to the one with its index. A piece with another id and name begins a call of its own."""
    index: object = part.get("index")
    known = calls.get(index)
    if known is not None and part.get("id") and part.get("name") and part["id"] != known["id"]:
        index = (index, part["id"])  # servers that number all their calls 0
        known = calls.get(index)
    if known is None and len(calls) >= _MOST_CALLS:
        raise ModelError("The model asks for more tool calls than are read.", fault=ModelFault.ENDLESS)
    into = calls.setdefault(index, {"id": "", "name": "", "args": ""})
    into["id"] = into["id"] or str(part.get("id") or "")
    into["name"] += str(part.get("name") or "")
    into["args"] += str(part.get("args") or "")


def _calls(found: dict[object, dict[str, str]]) -> Iterator[ToolCall]:
    taken: set[str] = set()
    for number, raw in enumerate(found.values()):
        call_id = raw["id"] if raw["id"] and raw["id"] not in taken else f"call_{number}"
        taken.add(call_id)
        try:
            arguments = json.loads(raw["args"] or "{}", parse_constant=_no_number)
        except (ValueError, RecursionError):
            arguments = None
        if isinstance(arguments, dict):
            yield ToolCall(id=call_id, name=raw["name"], arguments=arguments)
        else:
            yield ToolCall(id=call_id, name=raw["name"], broken=raw["args"][:_BROKEN])


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
