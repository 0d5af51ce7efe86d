"""What is said to a language model and what comes back, whatever server it is on: messages, tools, replies, usage.

What a model says is data. A reply proposes; nothing here gives it a right.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from caravan.values.base import Json, Value


class ToolSpec(Value):
    """A tool as it is described to a model. `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Json] = Field(default_factory=dict)


class ToolCall(Value):
    """A call that a model asks for. `broken` holds what it wrote where that is no JSON object."""

    id: str
    name: str
    arguments: dict[str, Json] = Field(default_factory=dict)
    broken: str = ""


class Message(Value):
    """One message of a conversation. An assistant's may hold calls; a tool's answers the call of `call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


class Usage(Value):
    """What calls have used: tokens as the server counted them, else as estimated; seconds of waiting; US dollars.

    `usd` is None where no price of a token is known: a server of one's own has none.
    """

    calls: int = Field(default=0, ge=0)
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    usd: float | None = None
    estimated: bool = Field(default=False, description="some tokens were not counted by the server")

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "Usage") -> "Usage":
        """Both together."""
        known = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            seconds=self.seconds + other.seconds,
            usd=sum(known) if known else None,
            estimated=self.estimated or other.estimated,
        )


class ModelReply(Value):
    """What a model answered: text without its thinking, the tool calls it asks for, and which model it was."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    model: str = ""
    usage: Usage = Field(default_factory=Usage)


class ModelFault(StrEnum):
    """Why there is no usable reply of a language model."""

    UNREACHABLE = "unreachable"  # refused, no such host, reset
    TIMED_OUT = "timed_out"  # black hole, slow first token, slow stream: the whole deadline counts
    DENIED = "denied"  # 401, 403
    UNKNOWN_MODEL = "unknown_model"  # 404
    RATE_LIMITED = "rate_limited"  # 429, after waiting as it asked where that fits the deadline
    SERVER_ERROR = "server_error"  # 5xx, a body that is no JSON
    CUT = "cut"  # the stream broke off
    TRUNCATED = "truncated"  # finish_reason length
    CONTEXT_EXCEEDED = "context_exceeded"
    EMPTY = "empty"  # no choices, null choices, no text and no calls
    TOO_LONG = "too_long"  # a reply beyond what is read
    MALFORMED = "malformed"  # twice no JSON of the schema
    ENDLESS = "endless"  # it went on calling tools
    OVER_BUDGET = "over_budget"  # the tokens or seconds of the step or the run are used up
