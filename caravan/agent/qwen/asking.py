"""How a step asks the model: its prompt, filled with masked data that fits the window, and what if no answer comes.

An answer that does not come is None and told; the rules' answer then stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeVar

from pydantic import BaseModel

from caravan.agent.model.ask import AskLimits, Tool, ask_for
from caravan.agent.model.asked import asked_by
from caravan.agent.model.tokens import message_tokens, tokens
from caravan.agent.model.window import Part, fitted, room, window_of
from caravan.agent.qwen.told import Voice
from caravan.ports import ChatModel, PromptBook
from caravan.values.base import Json
from caravan.values.errors import ModelError, StateError, UsageError
from caravan.values.filling import fill
from caravan.values.masking import mask
from caravan.values.model import Message, ModelFault, ModelReply, ToolSpec
from caravan.values.prompts import SYSTEM as SYSTEM
from caravan.values.prompts import Demo, Prompt

T = TypeVar("T", bound=BaseModel)

_SCHEMA: Final = 600  # tokens that the schema of an answer may take
_WITH_TOOLS: Final = 0.5  # of the room, where tools' answers need theirs
_DEMOS: Final = 1 / 3  # of the room that examples may take although data is cut for it


@dataclass
class Asker:
    """Asks one model for one run. `secrets` are values that never reach it."""

    chat: ChatModel
    prompts: PromptBook
    voice: Voice = field(default_factory=Voice)
    secrets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.chat.name

    def ask(
        self,
        step: str,
        prompt: str,
        kind: type[T],
        parts: Sequence[Part],
        *,
        thinking: bool = False,
        tools: Sequence[Tool] = (),
        limits: AskLimits | None = None,
    ) -> tuple[T, str] | None:
        """The model's answer and which model it was; None, told, where there is none."""
        try:
            book = self.prompts.get(prompt)
            messages = conversation(book, parts, window_of(self.chat), secrets=self.secrets, has_tools=bool(tools))
        except (UsageError, StateError) as error:
            self.voice.by_rules(step, ModelError(error.message, fault=ModelFault.MALFORMED, hint=error.hint))
            return None
        self.voice.asked(step, book, examples=(len(messages) - 2) // 2)
        heard = _Heard(self.chat)
        try:
            with asked_by(book):
                answer = ask_for(
                    heard,
                    kind,
                    messages,
                    step=step,
                    thinking=thinking,
                    tools=self._masked(tools),
                    limits=limits,
                    told=self.voice.mended,
                )
        except ModelError as error:
            self.voice.by_rules(step, error)
            return None
        return answer, heard.model or self.chat.name

    def _masked(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        def hiding(tool: Tool) -> Tool:
            def call(arguments: Mapping[str, Json]) -> str:
                with self.voice.looking(tool.spec.name, arguments) as saw:
                    found = mask(tool.call(arguments), self.secrets)
                    saw(found)
                    return found

            return Tool(tool.spec, call)

        return tuple(hiding(tool) for tool in tools)


class _Heard:
    """The port ChatModel that remembers which model has answered last: it may be the smaller one."""

    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat
        self.model = ""

    @property
    def name(self) -> str:
        return self._chat.name

    @property
    def window(self) -> int | None:
        return window_of(self._chat)

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        reply = self._chat.ask(messages, step=step, schema=schema, tools=tools, thinking=thinking)
        self.model = reply.model or self.model
        return reply


def conversation(
    prompt: Prompt, parts: Sequence[Part], window: int, *, secrets: Sequence[str] = (), has_tools: bool = False
) -> tuple[Message, ...]:
    """What is said to a model of that window: our first message, the prompt's examples that have room, then its text,
    filled. Secrets are masked. Raises UsageError where nothing fills a place.
    """
    free = room(window) - tokens(prompt.text) - tokens(SYSTEM) - _SCHEMA
    free = int(free * (_WITH_TOOLS if has_tools else 1))
    masked = _masked(parts, secrets)
    wanted = sum(tokens(part.text) + 1 for part in masked)
    known = tuple(secrets)
    examples = [Demo(given=_hidden(d.given, known), answer=_hidden(d.answer, known)) for d in prompt.demos]
    demos, taken = _with_room(examples, max(free - wanted, int(free * _DEMOS)))
    said = fill(prompt.text, _fitting(masked, free - taken))
    pairs = [(Message(role="user", text=d.given), Message(role="assistant", text=d.answer)) for d in demos]
    first, last = Message(role="system", text=SYSTEM), Message(role="user", text=said)
    return (first, *(message for pair in pairs for message in pair), last)


def _with_room(demos: Sequence[Demo], most: int) -> tuple[list[Demo], int]:
    """The examples that fit `most` tokens, in their order, each whole; and how many tokens they take."""
    kept, taken = [], 0
    for demo in demos:
        size = message_tokens(Message(role="user", text=demo.given))
        size += message_tokens(Message(role="assistant", text=demo.answer))
        if taken + size <= most:
            kept.append(demo)
            taken += size
    return kept, taken


def filled(prompt: Prompt, parts: Sequence[Part], secrets: Sequence[str], room: int) -> str:
    """The prompt's text with its places filled, masked, in `room` tokens: as a run fills it where that is the room.

    Raises UsageError where nothing fills a place.
    """
    return fill(prompt.text, _fitting(_masked(parts, secrets), room))


def _masked(parts: Sequence[Part], secrets: Sequence[str]) -> list[Part]:
    return [part.model_copy(update={"text": _hidden(part.text, tuple(secrets))}) for part in parts]


@lru_cache(maxsize=128)
def _hidden(text: str, secrets: tuple[str, ...]) -> str:
    """The text, masked: the same profile and plan are told step after step, and masking them takes most of a call."""
    return mask(text, secrets)


def _fitting(parts: Sequence[Part], room: int) -> dict[str, str]:
    """The parts' texts by name, in `room` tokens: those of most worth first; what has no room is said so."""
    kept = fitted(parts, room)
    return {
        **{part.name: "(left out: there was no room for it)" for part in parts},
        **{p.name: p.text for p in kept.parts},
    }
