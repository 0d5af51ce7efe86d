"""How a language model is reached, as a value: address, name, key, window, time-outs, prices, sampling.

Pure: opens nothing, reads no environment. An address or a key that must not be used is refused here, unshown.
"""

import re
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr

from caravan.values.base import Value
from caravan.values.errors import UsageError
from caravan.values.private_hosts import is_guarded

_HINT: Final = "Give the base URL of an OpenAI-compatible server, like http://127.0.0.1:8000/v1."


class Sampling(Value):
    """How the next token is drawn. `top_k` and `min_p` are vLLM's; a server that refuses them is asked without."""

    temperature: float = Field(ge=0, le=2)
    top_p: float = Field(gt=0, le=1)
    top_k: int = Field(default=20, ge=-1)
    min_p: float = Field(default=0.0, ge=0, le=1)


# The model cards of Qwen3 ("Best Practices") say these for its two modes; Qwen3-2507's Instruct has the second's.
THINKING: Final = Sampling(temperature=0.6, top_p=0.95)
PLAIN: Final = Sampling(temperature=0.7, top_p=0.8)


class ModelAccess(Value):
    """A server and what is known of its model. Times in seconds, prices in US dollars for a million tokens.

    `url` ends before `/chat/completions`. An empty `name` stands for the only model that the server offers; `window`
    None: as the server says. `first_token_s` bounds the wait for the first sign of a reply, `timeout_s` the whole call
    with its repetitions. `proxy` is the one to go by, None for the direct way.
    """

    url: str
    name: str = ""
    key: SecretStr | None = None
    window: int | None = Field(default=None, ge=1024)
    connect_s: float = Field(default=5.0, gt=0)
    look_s: float = Field(default=10.0, gt=0, description="the wait for what the server offers")
    first_token_s: float = Field(default=60.0, gt=0)
    timeout_s: float = Field(default=120.0, gt=0)
    reply_tokens: int = Field(default=4096, ge=16, description="most tokens of a reply without thinking")
    thinking_tokens: int = Field(default=8192, ge=16, description="most tokens of a reply with its thinking")
    reply_bytes: int = Field(default=10_000_000, ge=1024, description="most bytes of an answer that are read")
    plain: Sampling = PLAIN
    thinking: Sampling = THINKING
    seed: int | None = 20
    prompt_usd: float | None = Field(default=None, ge=0)
    completion_usd: float | None = Field(default=None, ge=0)
    proxy: SecretStr | None = None
    ca: Path | None = Field(default=None, description="certificates that the server is verified by, PEM")

    @classmethod
    def at(cls, url: str, **known: object) -> Self:
        """The access to the server at `url`. Raises UsageError for an address, or a key there, that must not be used.

        A key is sent over TLS, or in the clear to this machine and to a private network; to nowhere else.
        """
        access = cls.model_validate({"url": checked_url(url), **known})
        if access.key is not None and not access.key.get_secret_value().isprintable():
            raise UsageError("The model's API key holds a line break.", hint="Set it to the key alone.")
        if access.key is not None and not is_guarded(access.url):
            raise UsageError(
                f"The model's API key would go unencrypted to {access.host}, which is on no private network.",
                hint="Use an https address.",
            )
        return access

    @property
    def host(self) -> str:
        """The server's host and port."""
        return urlsplit(self.url).netloc

    @property
    def where(self) -> str:
        """The model, if it is named, and its server, for people."""
        return f"{self.name} at {self.host}" if self.name else self.host

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What these tokens cost; None where no price is known. One price that is not set counts as zero."""
        if self.prompt_usd is None and self.completion_usd is None:
            return None
        return (prompt_tokens * (self.prompt_usd or 0.0) + completion_tokens * (self.completion_usd or 0.0)) / 1e6


def checked_url(text: str) -> str:
    """The address of an OpenAI-compatible server without a slash at its end.

    Raises UsageError for what is none, and, without showing it, for one that holds a user, a password or a query.
    """
    text = text.strip()
    if "@" in text or "?" in text or "#" in text:  # first of all, so that no message quotes it
        raise UsageError(
            "The model's URL holds a user name, a key or a query.",
            hint="Take it out, and give the key in CARAVAN_MODEL_API_KEY.",
        )
    parts = _split(text)
    if parts is None or any(c.isspace() or not c.isprintable() for c in text):
        raise UsageError("The model's URL is no http or https address.", hint=_HINT)
    path = re.sub(r"/chat/completions/?$", "", parts.path).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets, ports
        return None
    return parts if known else None
