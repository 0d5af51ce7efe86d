"""What `doctor` says of a language model: whether its server answers, takes the key, offers the model, and what it can.

A model that can't be used keeps no run back: the rules go on. So nothing here is worse than a warning.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Protocol

from caravan.terminal.text import one_line
from caravan.values.checkup import Area, Finding, Level
from caravan.values.errors import ModelError
from caravan.values.model import Message, ModelFault, ToolSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caravan.values.base import Json
    from caravan.values.model import ModelReply

_STEP: Final = "doctor"
_SCHEMA: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
_TOOL: Final = ToolSpec(
    name="read_file",
    description="Reads a file of the repository.",
    parameters={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
_LEAST_WINDOW: Final = 8192
"""Tokens below which a profile and the files that matter hardly fit."""
_SLOW_S: Final = 15.0
_MANY: Final = 6  # names in a line
_ON: Final = "docs/model.md"


class Offer(Protocol):
    """A model that a server offers."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def window(self) -> int | None:
        """Tokens of its window, where the server says them."""


class Server(Protocol):
    """A model on its server, as `caravan.agent.model.client` has it."""

    @property
    def name(self) -> str:
        """The model's name as it is asked for."""

    @property
    def window(self) -> int | None:
        """The window as set, else as the server says."""

    @property
    def refused(self) -> frozenset[str]:
        """Fields of a request that the server was seen to refuse."""

    def served(self) -> Sequence[Offer]:
        """What the server offers. Raises ModelError."""

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        """One reply. Raises ModelError."""


def model_findings(servers: Sequence[Server]) -> Iterator[Finding]:
    """The findings of the first and, where there is one, the second model; none is set: that the rules are alone."""
    if not servers:
        text = "None is set: the rules work alone. `main.py serve-model` serves one, CARAVAN_MODEL_URL names one."
        yield _finding("model", Level.OK, text)
        return
    for number, server in enumerate(servers):
        yield from _of(server, "model" if number == 0 else "second model")


def _of(server: Server, what: str) -> Iterator[Finding]:
    try:
        offers = server.served()
    except ModelError as error:
        yield _unusable(what, error)
        return
    yield _finding(f"{what} server", Level.OK, f"It answers and takes the key; it offers {_named(offers)}.")
    offer = next((o for o in offers if o.name == server.name), None)
    if offer is None:
        text = f"It offers no model {one_line(server.name)}."
        yield _finding(what, Level.WARNING, text, f"Set CARAVAN_MODEL to one of: {_named(offers)}.")
        return
    yield _window(server, offer, what)
    for name, look in (("reply", _reply), ("structured", _structured), ("tools", _tools)):
        try:
            yield look(server, f"{what} {name}")
        except ModelError as error:
            yield _unusable(f"{what} {name}", error)
            return


def _unusable(name: str, error: ModelError) -> Finding:
    hints = {
        ModelFault.UNREACHABLE: "Is it up, and reached from here? `main.py serve-model --status` tells its address.",
        ModelFault.TIMED_OUT: "It may still be loading, or too slow: see CARAVAN_MODEL_TIMEOUT_S.",
        ModelFault.DENIED: "Set CARAVAN_MODEL_API_KEY_FILE to the key's file: `main.py serve-model --status` names it.",
        ModelFault.UNKNOWN_MODEL: "Set CARAVAN_MODEL to a model that it offers.",
    }
    hint = error.hint or hints.get(error.fault, f"The rules go on without it; see {_ON}.")
    return _finding(name, Level.WARNING, f"{error.message.rstrip('.')}. Runs go on by the rules alone.", hint)


def _window(server: Server, offer: Offer, what: str) -> Finding:
    name, has, uses = f"{what} context", offer.window, server.window
    if has is None and uses is None:
        hint = "Set CARAVAN_MODEL_WINDOW to the tokens of its window."
        return _finding(name, Level.WARNING, "The server does not say how long its context is.", hint)
    if has is not None and uses is not None and uses > has:
        text = f"CARAVAN_MODEL_WINDOW is {uses}, and the server takes {has} tokens."
        return _finding(name, Level.WARNING, text, "Leave it unset, or serve the model with a longer --context.")
    tokens = uses or has or 0
    if tokens < _LEAST_WINDOW:
        hint = (
            f"Serve it with --context {_LEAST_WINDOW} or more: less hardly holds a profile and the files that matter."
        )
        return _finding(name, Level.WARNING, f"{tokens} tokens.", hint)
    return _finding(name, Level.OK, f"{tokens} tokens.")


def _reply(server: Server, name: str) -> Finding:
    reply = server.ask((Message(role="user", text="Answer with the one word: ready"),), step=_STEP)
    seconds = reply.usage.seconds
    text = f"A first short reply took {seconds:.1f} s, its first token at most that."
    if seconds > _SLOW_S:
        return _finding(name, Level.WARNING, text, "Steps will take minutes: use a smaller model or a faster GPU.")
    return _finding(name, Level.OK, text)


def _structured(server: Server, name: str) -> Finding:
    asked = Message(role="user", text='What is 2 + 3? Answer as JSON: {"answer": NUMBER}')
    reply = server.ask((asked,), step=_STEP, schema=_SCHEMA)
    hint = f"vLLM takes response_format by itself; of other servers see {_ON}."
    if "response_format" in server.refused:
        text = "The server takes no schema: replies are put right from their text, or asked for again."
        return _finding(name, Level.WARNING, text, hint)
    try:
        found = json.loads(reply.text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("answer"), int):
        return _finding(name, Level.WARNING, "Its reply to a schema was not JSON of that schema.", hint)
    return _finding(name, Level.OK, "A reply under a schema was as the schema says.")


def _tools(server: Server, name: str) -> Finding:
    asked = Message(role="user", text="Call the tool read_file with the path README.md. Don't answer yourself.")
    reply = server.ask((asked,), step=_STEP, tools=(_TOOL,))
    hint = f"vLLM needs --enable-auto-tool-choice and --tool-call-parser hermes for Qwen3 (see {_ON})."
    if server.refused & {"tools", "tool_choice"}:
        return _finding(name, Level.WARNING, "The server takes no tools: the model can't look into files.", hint)
    call = next((c for c in reply.calls if c.name == _TOOL.name), None)
    if call is None:
        text = "It called no tool where it was told to: it will look into few files."
        return _finding(name, Level.WARNING, text, hint)
    if call.broken or not isinstance(call.arguments.get("path"), str):
        return _finding(name, Level.WARNING, "It called a tool with arguments that can't be used.", hint)
    return _finding(name, Level.OK, "It called a tool with the arguments that it takes.")


def _named(offers: Sequence[Offer]) -> str:
    names = [one_line(o.name) for o in offers]
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return (", ".join(names[:_MANY]) or "nothing") + more


def _finding(name: str, level: Level, text: str, hint: str = "") -> Finding:
    return Finding(area=Area.SERVICE, name=name, level=level, text=text, hint=hint)
