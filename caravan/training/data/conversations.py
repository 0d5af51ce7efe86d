"""Conversations: a list of messages with a role and what is said, under either of the two customary spellings. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from caravan.values.base import Json
from caravan.values.training import DataKind

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_OTHER_NAMES: Final = {
    **{"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"},
    **{"observation": "tool", "function_call": "assistant", "prompter": "user"},
}
_CALL: Final = " "  # stands for a call of a tool, which says nothing
_CLOSE: Final = {"assisstant": "assistant", "asistant": "assistant", "ai": "assistant", "usr": "user", "sys": "system"}


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a conversation is none that a chat template takes."""

    kind: DataKind
    text: str
    fatal: bool = True


def conversation(value: Json, column: str = "messages") -> tuple[Mapping[str, str], ...] | Unfit:
    """The messages with the roles as templates know them, or why they are no conversation."""
    if isinstance(value, str) and value.lstrip().startswith("["):  # so tables have them
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return Unfit(DataKind.MALFORMED, f"what stands in {column!r} is no JSON")
    if value is None or value == "":
        return Unfit(DataKind.EMPTY_ROW, f"{column!r} is empty", fatal=False)
    if isinstance(value, str):
        return Unfit(DataKind.MALFORMED, f"{column!r} is a text, not a list of messages")
    if not isinstance(value, list | tuple):
        return Unfit(DataKind.MALFORMED, f"{column!r} is no list of messages")
    if not value:
        return Unfit(DataKind.EMPTY_ROW, f"{column!r} has no message", fatal=False)
    messages: list[dict[str, str]] = []
    for number, item in enumerate(value, 1):
        found = _message(item, number)
        if isinstance(found, Unfit):
            return found
        messages.append(found)
    return _nothing_learned(messages) or tuple(messages)


def _message(item: Json, number: int) -> dict[str, str] | Unfit:
    if not isinstance(item, dict):
        return Unfit(DataKind.MALFORMED, f"message {number} is no object with role and content")
    role, said = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if not isinstance(role, str) or not role.strip():
        return Unfit(DataKind.ROLES, f"message {number} has no role")
    small = role.strip().lower()
    small = _OTHER_NAMES.get(small, small)
    if small not in ROLES:
        meant = _CLOSE.get(small)
        hint = f": did you mean {meant}?" if meant else f" (known: {', '.join(sorted(ROLES))})"
        return Unfit(DataKind.ROLES, f"message {number} has the role {_short(role)}, which no template knows{hint}")
    if isinstance(said, list):  # parts, as models for several kinds of input have them
        said = "".join(str(p.get("text") or "") for p in said if isinstance(p, dict))
    if said is None and (item.get("tool_calls") or item.get("function_call")):
        said = _CALL
    if said is None:
        return Unfit(DataKind.MALFORMED, f"message {number} has no content")
    if not isinstance(said, str):
        return Unfit(DataKind.MALFORMED, f"the content of message {number} is no text")
    return {"role": small, "content": said}


def _short(role: str) -> str:
    """A role as it is told: one that is no word may be content, and is not told."""
    return repr(role) if len(role) <= 20 and role.replace("_", "").replace("-", "").isalnum() else "that is no word"


def _nothing_learned(messages: list[dict[str, str]]) -> Unfit | None:
    answers = [m["content"] for m in messages if m["role"] == "assistant"]
    if not answers:
        return Unfit(DataKind.ROLES, "no message is the assistant's: there is nothing to learn")
    if not any(a.strip() or a == _CALL for a in answers):
        return Unfit(DataKind.EMPTY_ROW, "what the assistant says is empty", fatal=False)
    return None


def remark(messages: Sequence[Mapping[str, str]]) -> Unfit | None:
    """What many chat templates refuse in a conversation that is one all the same."""
    roles = [m["role"] for m in messages]
    late = next((n for n, r in enumerate(roles, 1) if r == "system" and n > 1), None)
    if late is not None:
        return Unfit(DataKind.ROLES, "a system's message is not the first: many templates refuse that", fatal=False)
    spoken = [r for r in roles if r in ("user", "assistant")]
    if spoken[0] == "assistant":
        return Unfit(DataKind.ROLES, "the assistant speaks first: many templates refuse that", fatal=False)
    if "tool" in roles or "function" in roles:
        return None
    if any(a == b for a, b in pairwise(spoken)):
        told = "user and assistant don't take turns: many templates refuse that"
        return Unfit(DataKind.ROLES, told, fatal=False)
    if any(not m["content"].strip() and m["content"] != _CALL for m in messages):
        return Unfit(DataKind.EMPTY_ROW, "a message is empty", fatal=False)
    return None
