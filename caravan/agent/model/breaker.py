"""A model that is left alone for a while after faults in a row, so that a server that is down costs seconds.

It knows faults and time, and nothing of what is asked.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Final

from caravan.agent.model.window import HasConnections, HasWindow
from caravan.ports import ChatModel, Clock
from caravan.values.base import Json
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolSpec, Usage

SERVERS_OWN: Final = frozenset(
    {
        ModelFault.UNREACHABLE,
        ModelFault.TIMED_OUT,
        ModelFault.DENIED,
        ModelFault.UNKNOWN_MODEL,
        ModelFault.RATE_LIMITED,
        ModelFault.SERVER_ERROR,
        ModelFault.CUT,
    }
)
"""Faults that another question would meet too. The others are this question's or this reply's."""
_LASTING: Final = frozenset({ModelFault.DENIED, ModelFault.UNKNOWN_MODEL})
MOST_FAULTS: Final = 3
MOST_SECONDS: Final = 30.0
REST_S: Final = 60.0
LONGEST_REST_S: Final = 600.0


class Guarded:
    """The port ChatModel on another, which is left alone after three faults in a row, or 30 s lost by them.

    What will not change by itself (a key, a name) counts at once, and so does a server that was waited for in vain and
    has never answered. The rest is a minute, doubled with each question
    after it that fails again, up to ten minutes; meanwhile a question gets the last fault without being asked.
    """

    def __init__(self, chat: ChatModel, *, clock: Clock) -> None:
        self._chat, self._clock = chat, clock
        self._lock = Lock()
        self._faults = 0
        self._lost = 0.0
        self._answered = False
        self._rest = REST_S
        self._until: float | None = None
        self._last: ModelError | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self._chat.name

    @property
    def window(self) -> int | None:
        """The model's window; None while it is left alone and nobody knows."""
        if self._resting() is not None or not isinstance(self._chat, HasWindow):
            return None
        return self._chat.window

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        """The model's reply. Raises ModelError as it does, and the last one again while it is left alone."""
        resting = self._resting()
        if resting is not None:
            raise resting
        begin = self._clock.monotonic()
        try:
            reply = self._chat.ask(messages, step=step, schema=schema, tools=tools, thinking=thinking)
        except ModelError as error:
            self._failed(error, self._clock.monotonic() - begin)
            raise
        with self._lock:
            self._well()
        return reply

    def close(self) -> None:
        """Let go of the model's connections."""
        if isinstance(self._chat, HasConnections):
            self._chat.close()

    def _resting(self) -> ModelError | None:
        with self._lock:
            if self._until is None or self._last is None or self._clock.monotonic() >= self._until:
                return None
            left = round(self._until - self._clock.monotonic())
            said = f"The model {self._chat.name} is left alone for {left} s more: {self._last.message}"
            return ModelError(said, fault=self._last.fault, hint=self._last.hint, usage=Usage())

    def _well(self) -> None:
        self._faults, self._lost, self._rest, self._until, self._answered = 0, 0.0, REST_S, None, True

    def _failed(self, error: ModelError, seconds: float) -> None:
        with self._lock:
            if error.fault not in SERVERS_OWN:
                self._well()  # the server answered
                return
            tried_again = self._until is not None
            self._last = error
            self._faults += 1
            self._lost += seconds
            in_vain = error.fault is ModelFault.TIMED_OUT and not self._answered
            lasting = error.fault in _LASTING or tried_again or in_vain
            if lasting or self._faults >= MOST_FAULTS or self._lost >= MOST_SECONDS:
                self._rest = min(LONGEST_REST_S, self._rest * 2) if tried_again else self._rest
                self._until = self._clock.monotonic() + self._rest
