"""Which prompt the question under way is asked with: known to who counts it, though no request says it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from caravan.values.base import Json
from caravan.values.prompts import Prompt

_asked: Final[ContextVar[Prompt | None]] = ContextVar("caravan_prompt", default=None)


@contextmanager
def asked_by(prompt: Prompt) -> Iterator[None]:
    """Questions inside the block are asked with that prompt."""
    token = _asked.set(prompt)
    try:
        yield
    finally:
        _asked.reset(token)


def prompt_told() -> dict[str, Json]:
    """The prompt's name, version, number in LangFuse and origin, as attributes; empty outside such a block."""
    prompt = _asked.get()
    if prompt is None:
        return {}
    told: dict[str, Json] = {"prompt": prompt.name, "prompt_version": prompt.version}
    if prompt.number is not None:
        told["prompt_number"] = prompt.number
    return told | {"prompt_origin": prompt.origin.value}
