"""What the client libraries raise → ModelError with its fault. Pure but for reading the error's own body.

The server's words are quoted in one short line: they are foreign text, and may be wrong.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2
import openai

from caravan.values.errors import ModelError
from caravan.values.model import ModelFault

# What comes out of the libraries for a body that is not what they expect: JSON that is none, null for a list, text for
# an object. Found by sending such bodies.
GARBAGE: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
FOREIGN: Final = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, *GARBAGE)

# How servers say that the prompt is too long: vLLM, OpenAI, llama.cpp, Ollama and TGI.
_CONTEXT: Final = re.compile(
    r"context[ _](?:length|window|size)|max(?:imum)?[ _]?(?:model[ _]?len|context)|prompt is too long|too many tokens"
    r"|longer than the (?:max|model)|exceeds? the (?:max|available)",
    re.IGNORECASE,
)
_QUOTED: Final = 200
GONE: Final = "Start it, or correct CARAVAN_MODEL_URL: `serve-model --status` says where one on the cluster is now."


class Refusal(ModelError):
    """A ModelError of one request, with what is needed to decide on another: status, words, when to come again."""

    def __init__(
        self,
        message: str,
        *,
        fault: ModelFault,
        hint: str = "",
        status: int = 0,
        words: str = "",
        after: float | None = None,
    ) -> None:
        super().__init__(message, fault=fault, hint=hint)
        self.status, self.words, self.after = status, words, after


def fault_of(error: BaseException, where: str, *, begun: bool, now: datetime | None = None) -> ModelError:
    """The error of a request to `where` (host and port). `begun`: a part of the reply had come already."""
    if isinstance(error, ModelError):
        return error
    if isinstance(error, openai.APIStatusError):
        return _refused(error.status_code, error.response, _words(error), where, now or datetime.now(UTC))
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        if any(isinstance(e, httpx2.ConnectTimeout) for e in _causes(error)):
            said = f"The model's server at {where} can't be reached (no connection in time)."
            return Refusal(said, fault=ModelFault.TIMED_OUT, hint=GONE)
        return Refusal(f"The model's server at {where} did not answer in time.", fault=ModelFault.TIMED_OUT)
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError):
        if begun:
            return Refusal(f"The model's reply from {where} broke off.", fault=ModelFault.CUT)
        cause = _line(str(_causes(error)[-1]))
        said = f"The model's server at {where} can't be reached ({cause})."
        return Refusal(said, fault=ModelFault.UNREACHABLE, hint=GONE)
    if isinstance(error, openai.APIError):  # an error inside a stream
        words = _words(error)
        fault = ModelFault.CONTEXT_EXCEEDED if _CONTEXT.search(words) else ModelFault.SERVER_ERROR
        return Refusal(f"The model's server at {where} failed: {_line(words)}.", fault=fault, words=words, status=500)
    kind = type(error).__name__
    said = f"The model's server at {where} answered what can't be read as a reply ({kind})."
    return ModelError(said, fault=ModelFault.SERVER_ERROR, hint="CARAVAN_MODEL_URL must end like /v1.")


def refused(response: httpx2.Response, where: str, now: datetime) -> ModelError:
    """The error for an answer that is none of success."""
    return _refused(response.status_code, response, response.text[:2000], where, now)


def _refused(status: int, response: httpx2.Response, words: str, where: str, now: datetime) -> ModelError:
    line = _line(words)
    if status in (401, 403):
        said = f"The model's server at {where} refuses the key ({status})."
        return Refusal(said, fault=ModelFault.DENIED, hint="Correct CARAVAN_MODEL_API_KEY.", status=status)
    if status == 404:
        said = f"The server at {where} has no such model, or no such path: {line}."
        hint = "Correct CARAVAN_MODEL or CARAVAN_MODEL_URL."
        return Refusal(said, fault=ModelFault.UNKNOWN_MODEL, hint=hint, status=status)
    if status == 429:
        after = retry_after(response.headers.get("retry-after"), now)
        said = f"The model's server at {where} takes no more requests now (429)."
        return Refusal(said, fault=ModelFault.RATE_LIMITED, status=status, after=after)
    if status in (400, 413, 422) and _CONTEXT.search(words):
        said = f"The conversation does not fit the model's window: {line}."
        return Refusal(said, fault=ModelFault.CONTEXT_EXCEEDED, status=status, words=words)
    said = f"The model's server at {where} answered {status}: {line}."
    after = retry_after(response.headers.get("retry-after"), now)
    return Refusal(said, fault=ModelFault.SERVER_ERROR, status=status, words=words, after=after)


def retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3: seconds or a date); None: it says nothing."""
    if not text:
        return None
    if re.fullmatch(r"\s*\d{1,9}(?:\.\d{1,9})?\s*", text, re.ASCII):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, the first cause last."""
    found = [error]
    while found[-1].__cause__ is not None and len(found) < 16:
        found.append(found[-1].__cause__)
    return found


def _words(error: openai.APIError) -> str:
    """What the server said, of an error's body in any of the shapes that servers use."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        said = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(said, str):
            return said[:2000]
    return (body if isinstance(body, str) else error.message)[:2000]


def _line(text: str) -> str:
    """One short line of foreign words, without what moves a terminal's cursor."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _QUOTED]).split())
    return shown[:_QUOTED].rstrip(". ") or "nothing"
