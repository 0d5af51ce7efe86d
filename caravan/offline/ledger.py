"""Every question of an optimisation: asked once, kept with its reply, held to the budgets.

What was asked before, in this process or in one that was killed, is answered from the file `replies.jsonl`: to go on
costs nothing twice. It knows no prompts, cases or optimisers.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import Final

from caravan.agent.model.tokens import prompt_tokens
from caravan.agent.model.window import HasWindow
from caravan.ports import ChatModel
from caravan.values.base import Json, canonical_json, sha256_text
from caravan.values.errors import CaravanError, ModelError, StateError
from caravan.values.model import Message, ModelFault, ModelReply, ToolSpec, Usage

_LOST: Final = (ModelFault.UNREACHABLE, ModelFault.DENIED, ModelFault.UNKNOWN_MODEL)
_SILENT: Final = 5  # questions in a row without a reply: it is lost too


class BudgetEnd(CaravanError):
    """The calls or the tokens are used up: nothing more is asked."""

    exit_code = 1


class ModelLost(CaravanError):
    """The model does not answer any more."""

    exit_code = 5


class Ledger:
    """Keeps replies in `folder` and counts what they used. `varied`: the same model, asked without a fixed seed.

    `calls` and `tokens` are what was used in all, `asked` the calls of this process. `hold` keeps calls and tokens
    back from what is asked until it is lifted.
    """

    def __init__(
        self, folder: Path, chat: ChatModel, *, max_calls: int, max_tokens: int, varied: ChatModel | None = None
    ) -> None:
        self.chat, self._varied = chat, varied or chat
        self.max_calls, self.max_tokens = max_calls, max_tokens
        self.calls = self.tokens = self.asked = 0
        self.hold = (0, 0)
        self.ended: BudgetEnd | ModelLost | None = None
        self._silent = 0
        self._lock = RLock()  # who asks the same at the same time waits for the reply of the first
        self._path = folder / "replies.jsonl"
        self._known: dict[str, ModelReply | ModelError] = {}
        self._read()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.chat.name

    @property
    def window(self) -> int | None:
        """The model's window."""
        return self.chat.window if isinstance(self.chat, HasWindow) else None

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
        rollout: int = 0,
    ) -> ModelReply:
        """The reply, kept or new. `rollout`: another number asks for another reply to the same question.

        Raises ModelError as the model does, BudgetEnd without asking, ModelLost where it is of no use to ask on.
        """
        key = self._key(messages, schema, tools, thinking, rollout)
        with self._lock:
            known = self._known.get(key)
            if isinstance(known, ModelError):
                raise known
            if known is not None:
                return known
            self._may(prompt_tokens(messages, schema=schema, tools=tools))
            return self._asked(key, messages, step, schema, tools, thinking, self._varied if rollout else self.chat)

    def _asked(
        self,
        key: str,
        messages: Sequence[Message],
        step: str,
        schema: Json,
        tools: Sequence[ToolSpec],
        thinking: bool,
        chat: ChatModel,
    ) -> ModelReply:
        self.asked += 1
        try:
            reply = chat.ask(messages, step=step, schema=schema, tools=tools, thinking=thinking)
        except ModelError as error:
            self._failed(key, error)
            raise
        self._silent = 0
        self._count(reply.usage)
        self._known[key] = reply
        self._keep({"key": key, "step": step, "reply": reply.model_dump(mode="json")})
        return reply

    def _key(
        self, messages: Sequence[Message], schema: Json, tools: Sequence[ToolSpec], thinking: bool, rollout: int
    ) -> str:
        told: list[Json] = [
            self.chat.name,
            [message.model_dump(mode="json") for message in messages],
            schema,
            [tool.model_dump(mode="json") for tool in tools],
            thinking,
            rollout,
        ]
        return sha256_text(canonical_json(told))

    def _may(self, need: int) -> None:
        """Raise what has ended it, or BudgetEnd where there is no room for a prompt of `need` tokens."""
        if self.ended is not None:
            raise self.ended
        calls, tokens = self.hold
        if self.calls + 1 + calls > self.max_calls:
            self._end("calls", self.calls, calls, self.max_calls)
        if self.tokens + need + tokens > self.max_tokens:
            self._end("tokens", self.tokens, tokens, self.max_tokens)

    def _end(self, what: str, used: int, held: int, most: int) -> None:
        kept = f", and {held} are held back for the comparison" if held else ""
        self.ended = BudgetEnd(
            f"The budget is used up: {used} of {most} {what} were used{kept}.", hint=f"Raise --max-{what}."
        )
        raise self.ended

    def lift(self) -> None:
        """What was held back may be used now."""
        self.hold = (0, 0)
        if isinstance(self.ended, BudgetEnd):
            self.ended = None

    def _failed(self, key: str, error: ModelError) -> None:
        """Count a question without a reply; it is asked again by the next process, and not by this one."""
        used = error.usage or Usage(calls=1)
        self._count(used)
        self._known[key] = error
        self._keep({"used": used.model_dump(mode="json"), "fault": error.fault.value})
        self._silent += 1
        if error.fault in _LOST or self._silent >= _SILENT:
            self.ended = ModelLost(f"The model does not answer: {error.message}", hint=error.hint)
            raise self.ended from error

    def _count(self, usage: Usage) -> None:
        self.calls += max(1, usage.calls)
        self.tokens += usage.tokens

    def _read(self) -> None:
        """Take over what was kept. A last line that a killed process left half written is cut off."""
        try:
            data = self._path.read_bytes() if self._path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(self._path, len(whole))
        except OSError as error:
            raise StateError(f"{self._path} can't be read: {error.strerror}.") from error
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:  # pydantic's are ValueErrors
                raise StateError(
                    f"Line {number} of {self._path} is damaged.",
                    hint="Remove that line: its question is asked again.",
                ) from error

    def _take(self, document: Json) -> None:
        if "reply" in document:
            reply = ModelReply.model_validate(document["reply"])
            self._known[document["key"]] = reply
            self._count(reply.usage)
        else:
            self._count(Usage.model_validate(document["used"]))

    def _keep(self, document: Json) -> None:
        """Append one line, on the disk before anything goes on."""
        try:
            with self._path.open("ab") as stream:
                stream.write(f"{json.dumps(document, ensure_ascii=False)}\n".encode("utf-8", "surrogatepass"))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StateError(f"{self._path} can't be written: {error.strerror}.") from error


class Rollout:
    """The port ChatModel on a ledger: one of several samples of the same question."""

    def __init__(self, ledger: Ledger, rollout: int) -> None:
        self._ledger, self._rollout = ledger, rollout

    @property
    def name(self) -> str:
        """The model's name."""
        return self._ledger.name

    @property
    def window(self) -> int | None:
        """The model's window."""
        return self._ledger.window

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        """As the ledger does."""
        return self._ledger.ask(
            messages, step=step, schema=schema, tools=tools, thinking=thinking, rollout=self._rollout
        )
