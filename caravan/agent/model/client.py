"""One model on one OpenAI-compatible server, by ChatOpenAI: a reply within a deadline, or a ModelError that says why.

Nothing is opened before the first question. What is asked and what is done with a reply is not known here.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from caravan.agent.model.tokens import prompt_tokens
from caravan.values.base import Json
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolCall, ToolSpec, Usage

if TYPE_CHECKING:
    import httpx2
    from langchain_openai import ChatOpenAI

    from caravan.agent.model.access import ModelAccess
    from caravan.agent.model.net import Call
    from caravan.agent.model.reading import Heard
    from caravan.ports import Clock

_PAUSE_S: Final = 0.5  # before a request goes out again that was refused or failed
_BUSY_S: Final = (1.0, 3.0)  # before it goes out again after a 429 that names no time
_MOST_LEARNED: Final = 6  # requests of one call that only leave out what the server refused
_MOST_NAME: Final = 200
_AT_ONCE_S: Final = 10.0  # what fails later is not asked again
_FRESH_S: Final = 60.0  # how long it is known that a server was waited for in vain
_GONE: Final = (ModelFault.UNREACHABLE, ModelFault.TIMED_OUT)


class Served(NamedTuple):
    """A model that the server offers, with the tokens of its window where it says so (vLLM's `max_model_len`)."""

    name: str
    window: int | None = None


class OpenAiModel:
    """The port ChatModel on the server of `access`. One may be used by several threads.

    Repeated within the deadline: once after a refused connection, once after a 5xx, after a 429 when it fits. A server
    that has not answered yet, or no more, is asked first what it offers: it says so at once, or is not there.
    """

    def __init__(self, access: ModelAccess, *, clock: Clock) -> None:
        self._access, self._clock = access, clock
        self._lock = Lock()
        self._http: httpx2.Client | None = None
        self._chat: ChatOpenAI | None = None
        self._served: tuple[Served, ...] | None = None
        self._refused: Any = None
        self._answers = False
        self._vain: tuple[float, ModelError] | None = None

    @property
    def name(self) -> str:
        """The model's name as set, else as the server told it; before it did: the server's host."""
        if self._access.name or not self._served:
            return self._access.name or self._access.host
        return self._served[0].name

    @property
    def window(self) -> int | None:
        """Tokens of prompt and reply together: as set, else as the server says; None where nobody does."""
        if self._access.window is not None:
            return self._access.window
        begin = self._clock.monotonic()
        try:
            return next((s.window for s in self.served() if s.name == self.name), None)
        except ModelError as error:
            if error.fault is ModelFault.TIMED_OUT:
                now = self._clock.monotonic()
                error.usage = Usage(calls=1, seconds=max(0.0, now - begin))
                self._vain = now, error
            return None

    @property
    def refused(self) -> frozenset[str]:
        """Fields of a request that the server was seen to refuse, by their names in the API."""
        return frozenset() if self._refused is None else self._refused.fields

    def served(self) -> tuple[Served, ...]:
        """What the server offers (`/models`), asked once. Raises ModelError."""
        if self._served is None:
            self._served = self._ask_served()
        return self._served

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,  # noqa: ARG002
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        """One reply; its usage says how long it took, its repetitions included. Raises ModelError."""
        from caravan.agent.model.net import Call, under

        question = _Question(tuple(messages), schema, tuple(tools), thinking)
        self._opened()  # before the deadline begins: it loads the library
        with under(Call(self._access, self._clock)) as call:
            try:
                reply = self._repeated(question, call)
            except ModelError as error:
                self._answers = self._answers and error.fault not in _GONE
                if error.usage is None:
                    error.usage = Usage(calls=1, seconds=call.seconds)
                raise
        self._answers = True
        return reply

    def close(self) -> None:
        """Let go of the connections; a later call opens them again."""
        with self._lock:
            http, self._http, self._chat = self._http, None, None
        if http is not None:
            http.close()

    def _repeated(self, question: _Question, call: Call) -> ModelReply:
        tried: list[ModelFault] = []
        learned = 0
        while True:
            try:
                return self._once(question, call)
            except ModelError as error:
                words = getattr(error, "words", "")
                status = getattr(error, "status", 0)
                refused = status in (400, 422) and error.fault is ModelFault.SERVER_ERROR
                if refused and learned < _MOST_LEARNED and self._learned(question, words):
                    learned += 1
                else:
                    pause = _pause(error, tried, call.seconds)
                    if pause is None or pause >= call.left_in_all():
                        raise
                    tried.append(error.fault)
                    self._clock.sleep(pause)
            call.again()

    def _learned(self, question: _Question, words: str) -> bool:
        known: bool = self._refused.learn(words, schema=question.schema, tools=question.tools)
        return known

    def _once(self, question: _Question, call: Call) -> ModelReply:
        from caravan.agent.model.reading import Heard
        from caravan.agent.model.request import most_of

        self._look()
        name = self._named()
        estimate = prompt_tokens(question.messages, schema=question.schema, tools=question.tools)
        window = self._window_of(name)
        room = None if window is None else window - estimate
        most = most_of(self._access, thinking=question.thinking, room=room)
        heard = Heard()
        try:
            text, calls = self._heard(name, question, most, call, heard)
        except ModelError as error:
            if heard.text or heard.calls or heard.finish:  # what was said is paid for, whatever became of it
                error.usage = self._usage(heard, estimate, most, call)
            raise
        model = "".join(c for c in heard.model[:_MOST_NAME] if c.isprintable()) or name
        return ModelReply(text=text, calls=calls, model=model, usage=self._usage(heard, estimate, most, call))

    def _heard(
        self, name: str, question: _Question, most: int, call: Call, heard: Heard
    ) -> tuple[str, tuple[ToolCall, ...]]:
        from caravan.agent.model.faults import FOREIGN, fault_of
        from caravan.agent.model.reading import hear, outcome
        from caravan.agent.model.request import options, spoken

        try:
            chat = self._opened()
            asked = options(
                self._access,
                self._refused,
                schema=question.schema,
                tools=question.tools,
                thinking=question.thinking,
                most=most,
            )
            hear(chat.stream(spoken(question.messages), model=name, **asked), call, heard)
            return outcome(heard)
        except FOREIGN as error:
            begun = bool(heard.text or heard.calls)
            raise fault_of(error, self._access.host, begun=begun, now=self._clock.now()) from error

    def _usage(self, heard: Heard, estimate: int, most: int, call: Call) -> Usage:
        from caravan.agent.model.reading import counted

        prompt, completion, estimated = counted(heard, estimate, most)
        return Usage(
            calls=1,
            prompt_tokens=prompt,
            completion_tokens=completion,
            seconds=call.seconds,
            usd=self._access.usd(prompt, completion),
            estimated=estimated,
        )

    def _named(self) -> str:
        """The name to ask for. Raises ModelError where none is set and the server offers none or several."""
        if self._access.name:
            return self._access.name
        offered = [s.name for s in self.served()]
        if len(offered) == 1:
            return offered[0]
        said = "no model" if not offered else f"several models ({', '.join(offered)[:_MOST_NAME]})"
        raise ModelError(
            f"The server at {self._access.host} offers {said}.",
            fault=ModelFault.UNKNOWN_MODEL,
            hint="Set CARAVAN_MODEL to the one to use.",
        )

    def _window_of(self, name: str) -> int | None:
        """The window as far as it is known without another request."""
        if self._access.window is not None:
            return self._access.window
        return next((s.window for s in self._served or () if s.name == name), None)

    def _opened(self) -> ChatOpenAI:
        """The library's client, made at the first question: importing it takes two seconds."""
        from pydantic import SecretStr

        from caravan.agent.model.direct import DirectChat
        from caravan.agent.model.net import no_async_client

        http = self._http_opened()
        with self._lock:
            if self._chat is None:
                # Said of a body that is no reply, on the way to the error that it ends in.
                warnings.filterwarnings("ignore", "Pydantic serializer warnings", UserWarning)
                self._chat = DirectChat(
                    model=self._access.name or "unset",
                    base_url=self._access.url,
                    api_key=self._access.key or SecretStr("none"),
                    http_client=http,
                    http_async_client=no_async_client(),
                    openai_proxy=None,
                    organization=None,
                    timeout=http.timeout,
                    max_retries=0,
                    use_responses_api=False,
                    output_version="v0",
                    cache=False,
                )
            return self._chat

    def _http_opened(self) -> httpx2.Client:
        from caravan.agent.model.net import http_client
        from caravan.agent.model.request import Refused

        with self._lock:
            if self._http is None:
                self._http = http_client(self._access)
                weakref.finalize(self, self._http.close)  # for who does not close it
            if self._refused is None:
                self._refused = Refused()
            return self._http

    def _look(self) -> None:
        """See whether a server is there that has not answered yet, or no more. Raises ModelError where it is not."""
        if self._answers:
            return
        vain, self._vain = self._vain, None
        if vain is not None and self._clock.monotonic() - vain[0] < _FRESH_S:
            raise vain[1]
        try:
            self._served = self._ask_served()
        except ModelError as error:  # a server need not tell what it offers
            if error.fault in _GONE:
                raise

    def _ask_served(self) -> tuple[Served, ...]:
        from caravan.agent.model.faults import FOREIGN, GONE, fault_of, refused
        from caravan.agent.model.net import Call, left_over, under

        key = self._access.key.get_secret_value() if self._access.key else None
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            seconds = min(self._access.look_s, left_over())
            hurried = self._access.model_copy(update={"timeout_s": seconds, "first_token_s": seconds})
            with under(Call(hurried, self._clock)):
                response = self._http_opened().get(f"{self._access.url}/models", headers=headers)
            if response.status_code != 200:
                raise refused(response, self._access.host, self._clock.now())
            rows = response.json()["data"]
            return tuple(Served(str(row["id"])[:_MOST_NAME], _whole(row.get("max_model_len"))) for row in rows)
        except ModelError as error:
            if error.fault is not ModelFault.TIMED_OUT:
                raise
            said = f"The model's server at {self._access.host} says nothing within {seconds:g} s."
            raise ModelError(said, fault=error.fault, hint=GONE) from error
        except FOREIGN as error:
            raise fault_of(error, self._access.host, begun=False, now=self._clock.now()) from error


class _Question(NamedTuple):
    messages: tuple[Message, ...]
    schema: Json
    tools: tuple[ToolSpec, ...]
    thinking: bool


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _pause(error: ModelError, tried: list[ModelFault], seconds: float) -> float | None:
    """Seconds to wait before the request goes out again; None: it does not. `seconds`: what it has taken so far."""
    after = getattr(error, "after", None)
    if error.fault is ModelFault.RATE_LIMITED:
        times = tried.count(ModelFault.RATE_LIMITED)
        return None if times >= len(_BUSY_S) else after if after is not None else _BUSY_S[times]
    again = (error.fault is ModelFault.UNREACHABLE or getattr(error, "status", 0) >= 500) and seconds < _AT_ONCE_S
    return (after if after is not None else _PAUSE_S) if again and error.fault not in tried else None
