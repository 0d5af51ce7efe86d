"""Prompts as LangFuse holds them, and as ours: text and chat prompts, both ways; pushing, labelling, listing.

A chat prompt is pairs of user and assistant messages, the worked examples, and at its end a user message, the text. It
must not know which version runs use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from caravan.values.errors import UsageError
from caravan.values.filling import fields
from caravan.values.prompt_inputs import troubles
from caravan.values.prompts import SYSTEM, Demo, Prompt, PromptOrigin, PushedVersion, remote_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.values.base import Json
    from langfuse_client import LangfuseClient, RemotePrompt

_DEMOS: Final = "demos"
"""Where a text prompt's configuration holds the examples: LangFuse takes no chat version of a text prompt."""
_TAG: Final = "caravan"


def as_chat(prompt: Prompt) -> list[dict[str, Json]]:
    """The messages of a chat prompt. The first message of a question, the system's, is none of them."""
    found: list[dict[str, Json]] = []
    for demo in prompt.demos:
        found += [{"role": "user", "content": demo.given}, {"role": "assistant", "content": demo.answer}]
    return [*found, {"role": "user", "content": prompt.text}]


def from_remote(name: str, remote: RemotePrompt, label: str | None = None) -> Prompt:
    """LangFuse's version as ours. Raises UsageError, whose message is a clause, for one that can't be read as one."""
    text, demos = _of_text(remote) if isinstance(remote.content, str) else _of_chat(remote.content)
    return Prompt(
        name=name,
        text=text,
        demos=demos,
        fields=fields(text),
        origin=PromptOrigin.LANGFUSE,
        number=remote.number,
        label=label,
    )


def usable(name: str, remote: RemotePrompt, label: str | None = None) -> Prompt:
    """The same, where a run may use it. Raises UsageError, whose message is a clause, for one that it may not."""
    prompt = from_remote(name, remote, label)
    wrong = troubles(name, prompt.text, prompt.demos)
    if wrong:
        raise UsageError("; ".join(wrong))
    return prompt


def _of_text(remote: RemotePrompt) -> tuple[str, tuple[Demo, ...]]:
    told = remote.config.get(_DEMOS) if isinstance(remote.config, dict) else None
    try:
        return str(remote.content), tuple(Demo.model_validate(demo) for demo in told or ())
    except (TypeError, ValidationError) as error:
        raise UsageError(
            "`demos` in its configuration are no list of examples, each with `given` and `answer`"
        ) from error


def _of_chat(messages: Sequence[dict[str, Json]]) -> tuple[str, tuple[Demo, ...]]:
    told = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if message.get("type") == "placeholder" or not isinstance(content, str):
            raise UsageError("it has a placeholder for messages, which nothing fills")
        if role == "system":
            if content.split() != SYSTEM.split():
                raise UsageError("it has a system message, and that one is Caravan's own")
            continue
        told.append((role, content))
    roles = [role for role, _ in told]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise UsageError("its messages are not pairs of user and assistant with a user message at the end")
    texts = [content for _, content in told]
    return texts[-1], tuple(Demo(given=a, answer=b) for a, b in zip(texts[:-1:2], texts[1::2], strict=True))


def push(client: LangfuseClient, prompt: Prompt, *, labels: Sequence[str] = (), message: str = "") -> PushedVersion:
    """Bring a version to LangFuse. Where its newest has the same content, that one gets the labels instead.

    Raises UsageError for a text that can't be used, LangfuseError.
    """
    wrong = troubles(prompt.name, prompt.text, prompt.demos)
    if wrong:
        raise UsageError(f"This can't be the prompt {prompt.name}: {'; '.join(wrong)}.", hint="See docs/prompts.md.")
    name = remote_name(prompt.name)
    newest = client.prompt(name, label="latest")
    if newest is not None and _same(prompt, newest):
        missing = [label for label in labels if label not in newest.labels]
        found = client.label_prompt(name, newest.number, missing) if missing else newest
        return PushedVersion(prompt=from_remote(prompt.name, found), labels=found.labels, is_new=False)
    is_text = newest is not None and isinstance(newest.content, str)
    config = {_DEMOS: [demo.model_dump() for demo in prompt.demos]} if is_text and prompt.demos else {}
    made = client.create_prompt(
        name,
        prompt.text if is_text else as_chat(prompt),
        labels=labels,
        tags=(_TAG,),
        config={**config, "version": prompt.version},
        message=message,
    )
    return PushedVersion(prompt=from_remote(prompt.name, made), labels=made.labels)


def _same(prompt: Prompt, remote: RemotePrompt) -> bool:
    try:
        return from_remote(prompt.name, remote).version == prompt.version
    except UsageError:
        return False
