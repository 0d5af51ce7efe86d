"""A second model for what the first can't answer: it is down, slow or out of its window.

Who answered stands in the reply's `model`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from caravan.agent.model.breaker import SERVERS_OWN
from caravan.agent.model.window import HasConnections, HasWindow
from caravan.ports import ChatModel
from caravan.values.base import Json
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolSpec

PASSED_ON: Final = SERVERS_OWN | {
    ModelFault.CONTEXT_EXCEEDED,
    ModelFault.TRUNCATED,
    ModelFault.EMPTY,
    ModelFault.TOO_LONG,
}
"""Faults for which the second is asked. A used budget is used for both; the rest is found after a reply."""


def _silent(_: str) -> None:
    """Tell nobody."""


class WithFallback:
    """The port ChatModel: `first`, and where that has no reply, `second`."""

    def __init__(self, first: ChatModel, second: ChatModel, *, told: Callable[[str], None] = _silent) -> None:
        """`told` hears in a line why the second is asked, once for each kind of fault in a row."""
        self._first, self._second, self._told = first, second, told
        self._why: ModelFault | None = None

    @property
    def name(self) -> str:
        """The first one's name: a reply's `model` says who answered."""
        return self._first.name

    @property
    def window(self) -> int | None:
        """The first one's window, or the second's where the first does not tell."""
        known = self._first.window if isinstance(self._first, HasWindow) else None
        return known or (self._second.window if isinstance(self._second, HasWindow) else None)

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        """A reply of the first that has one. Raises the first's ModelError, with the second's words in its hint."""
        try:
            reply = self._first.ask(messages, step=step, schema=schema, tools=tools, thinking=thinking)
            self._why = None
            return reply
        except ModelError as error:
            if error.fault not in PASSED_ON:
                raise
            if error.fault is not self._why:
                self._told(f"{self._second.name} is asked in place of {self._first.name}: {error.message}")
            self._why = error.fault
            try:
                reply = self._second.ask(messages, step=step, schema=schema, tools=tools, thinking=thinking)
            except ModelError as other:
                hint = f"{error.hint} The fallback model: {other.line()}".strip()
                used = [e.usage for e in (error, other) if e.usage is not None]
                both = used[0].plus(used[1]) if len(used) > 1 else used[0] if used else None
                raise ModelError(error.message, fault=error.fault, hint=hint, usage=both) from other
            usage = reply.usage if error.usage is None else reply.usage.plus(error.usage)
            return reply.model_copy(update={"usage": usage})

    def close(self) -> None:
        """Let go of both models' connections."""
        for chat in (self._first, self._second):
            if isinstance(chat, HasConnections):
                chat.close()
