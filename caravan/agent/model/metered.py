"""What a run's questions to a model use, kept in the run's events and its trace, and held to the run's budgets.

Every call is an event of kind `model_call`, so that what a run has used outlives the process that asked. It writes
counts, names and faults, and nothing of what was said unless a person wants that in the trace.
"""

from collections.abc import Sequence
from threading import Lock

from pydantic import Field

from caravan.agent.model.asked import prompt_told
from caravan.agent.model.tokens import prompt_tokens
from caravan.agent.model.window import HasConnections, HasWindow
from caravan.ports import ChatModel, Clock, Span, Store, Tracer
from caravan.values.base import Json, Value
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ModelReply, ToolCall, ToolSpec, Usage
from caravan.values.model_usage import CALL, usage_of
from caravan.values.run import RunEvent


class ModelLimits(Value):
    """What one run, and one step of it, may use of a model: tokens, seconds of waiting. None: as much as it likes."""

    run_tokens: int | None = Field(default=None, ge=0)
    step_tokens: int | None = Field(default=None, ge=0)
    run_seconds: float | None = Field(default=None, ge=0)
    step_seconds: float | None = Field(default=None, ge=0)


class Metered:
    """The port ChatModel on another, counted for one run. Questions of one step, by its name, count together.

    A question that the budget has no room for is not asked. One that is under way is not cut off for it: a run may use
    what one reply takes more. A question that is interrupted is counted by its prompt; a process that is killed during
    one leaves that one uncounted. A model that is left alone was not asked: that is no call. `content`: what is asked
    and said goes into the trace too, but for what tools returned, which may be rows of data.
    """

    def __init__(
        self,
        chat: ChatModel,
        store: Store,
        run_id: str,
        *,
        clock: Clock,
        limits: ModelLimits,
        tracer: Tracer,
        content: bool = False,
    ) -> None:
        self._chat, self._store, self._run_id = chat, store, run_id
        self._clock, self._limits, self._tracer, self._content = clock, limits, tracer, content
        self._lock = Lock()
        self._used: dict[str, Usage] | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self._chat.name

    @property
    def window(self) -> int | None:
        """The model's window."""
        return self._chat.window if isinstance(self._chat, HasWindow) else None

    def usage(self, step: str | None = None) -> Usage:
        """What the run has used in all, or one step of it; through all its resumes."""
        with self._lock:
            return self._sum(step)

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        """The model's reply. Raises ModelError as it does, and OVER_BUDGET without asking it."""
        need = prompt_tokens(messages, schema=schema, tools=tools)
        with self._lock:
            self._hold(step, need)
        asked: dict[str, Json] = {"messages": len(messages), "tools": len(tools), "structured": schema is not None}
        asked |= prompt_told() | ({"input": _content(messages)} if self._content else {})
        with self._tracer.span(f"model {step}", "generation", step=step, thinking=thinking, **asked) as span:
            begin = self._clock.monotonic()
            used: Usage | None = None  # as long as nobody has said it
            fault, model = "interrupted", ""
            try:
                reply = self._chat.ask(messages, step=step, schema=schema, tools=tools, thinking=thinking)
                used, fault, model = reply.usage, "", reply.model
                if self._content:
                    span.set(output={"role": "assistant", "content": reply.text} | _calls(reply.calls))
                return reply
            except ModelError as error:
                used = error.usage or Usage(calls=1, seconds=max(0.0, self._clock.monotonic() - begin))
                fault = error.fault.value
                raise
            finally:
                seconds = max(0.0, self._clock.monotonic() - begin)
                used = used or Usage(calls=1, prompt_tokens=need, seconds=seconds, estimated=True)
                self._keep(step, model or self.name, used, span, fault)

    def close(self) -> None:
        """Let go of the model's connections."""
        if isinstance(self._chat, HasConnections):
            self._chat.close()

    def _hold(self, step: str, need: int) -> None:
        """Raise OVER_BUDGET where a budget has no room for a prompt of `need` tokens."""
        limits = self._limits
        for what, used, tokens, seconds in (
            ("the run", self._sum(None), limits.run_tokens, limits.run_seconds),
            (f"the step {step}", self._sum(step), limits.step_tokens, limits.step_seconds),
        ):
            if tokens is not None and used.tokens + need > tokens:
                said = f"{what} may use {tokens} tokens of the model, and has used {used.tokens}"
            elif seconds is not None and used.seconds >= seconds:
                said = f"{what} may wait {seconds:g} s for the model, and has waited {used.seconds:.0f} s"
            else:
                continue
            scope = "RUN" if what == "the run" else "STEP"
            unit = "TOKENS" if "tokens" in said else "SECONDS"
            raise ModelError(
                f"The model's budget is used up: {said}.",
                fault=ModelFault.OVER_BUDGET,
                hint=f"Raise CARAVAN_MODEL_{scope}_{unit}.",
            )

    def _keep(self, step: str, model: str, usage: Usage, span: Span, fault: str) -> None:
        if not usage.calls:
            span.set(fault=fault)
            return
        with self._lock:
            number = self._sum(None).calls + 1
            used = self._steps()
            used[step] = used.get(step, Usage()).plus(usage)
        counts: dict[str, Json] = usage.model_dump(mode="json")
        data = {"step": step, "model": model, **counts} | ({"fault": fault} if fault else {})
        span.set(**{key: value for key, value in data.items() if key != "step" and value is not None})
        data |= prompt_told()
        end = f"no reply ({fault})" if fault else f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
        text = f"Question {number} to {model}, for {step}: {end}, {usage.seconds:.1f} s"
        self._store.add_event(self._run_id, RunEvent(at=self._clock.now(), kind=CALL, text=text, data=data))

    def _sum(self, step: str | None) -> Usage:
        steps = self._steps()
        if step is not None:
            return steps.get(step, Usage())
        total = Usage()
        for used in steps.values():
            total = total.plus(used)
        return total

    def _steps(self) -> dict[str, Usage]:
        """What each step has used; read from the events once."""
        if self._used is None:
            self._used = {}
            for event in self._store.events(self._run_id):
                if event.kind == CALL:
                    step = str(event.data.get("step", ""))
                    self._used[step] = self._used.get(step, Usage()).plus(usage_of(event))
        return self._used


def _content(messages: Sequence[Message]) -> list[Json]:
    """The conversation as a trace holds it; of what a tool returned its size alone."""
    told: list[Json] = []
    for message in messages:
        text = f"({len(message.text)} characters that a tool returned)" if message.role == "tool" else message.text
        told.append({"role": message.role, "content": text} | _calls(message.calls))
    return told


def _calls(calls: Sequence[ToolCall]) -> dict[str, Json]:
    return {"calls": [{"name": call.name, "arguments": call.arguments} for call in calls]} if calls else {}
