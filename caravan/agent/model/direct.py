"""ChatOpenAI whose requests go out as they were made: the OpenAI library does not look through them once more.

It would walk through every message, tool and schema to turn Python's names into the API's, which are the same here;
that was a quarter of a call. What stands in `extra_body` it takes over as it is. Importing this loads the library.
"""

from typing import Any, Final

from langchain_core.language_models import LanguageModelInput
from langchain_openai import ChatOpenAI

_ARGUMENTS: Final = frozenset({"model", "stream", "extra_body"})
"""What the library looks at itself."""


class DirectChat(ChatOpenAI):
    """ChatOpenAI with the body's large parts handed over as they are."""

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        found = {name: value for name, value in payload.items() if name in _ARGUMENTS}
        body = {name: value for name, value in payload.items() if name not in _ARGUMENTS}
        return {**found, "messages": [], "extra_body": {**body, **(payload.get("extra_body") or {})}}
