"""How LangFuse is reached, as a value: its address and keys, and what can go wrong there as errors of ours.

Pure: opens nothing, reads no environment; the client is in `langfuse_client.py`. Keys without an address are refused:
LangFuse's own library would send what it is given to its vendor's cloud.
"""

from __future__ import annotations

import re
from base64 import b64encode
from enum import StrEnum
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from caravan.values.base import Value
from caravan.values.errors import ServiceError, UsageError
from caravan.values.private_hosts import is_guarded

CONNECT_S: Final = 3.0
"""Seconds that a connection may take to be made."""
_HINT: Final = "Set LANGFUSE_BASE_URL to LangFuse's address, like https://langfuse.example.org."


class LangfuseFault(StrEnum):
    """Why LangFuse gave nothing that can be used."""

    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"  # its certificate
    TIMED_OUT = "timed_out"
    REDIRECTED = "redirected"
    DENIED = "denied"  # 401: the keys are not known there
    FORBIDDEN = "forbidden"  # 403: the keys lack a right
    MISSING = "missing"  # 404
    TOO_MANY = "too_many"  # 429
    REFUSED = "refused"  # any other 4xx
    SERVER_ERROR = "server_error"
    GARBLED = "garbled"
    TOO_LARGE = "too_large"


_PASSING: Final = frozenset(
    {LangfuseFault.UNREACHABLE, LangfuseFault.TIMED_OUT, LangfuseFault.TOO_MANY, LangfuseFault.SERVER_ERROR}
)


class LangfuseError(ServiceError):
    """There is no usable answer of LangFuse; `fault` says why, `retry_after_s` when it wants to be asked again."""

    def __init__(
        self, message: str, *, fault: LangfuseFault, hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault
        self.retry_after_s = retry_after_s

    @property
    def is_passing(self) -> bool:
        """Whether the same request may do later."""
        return self.fault in _PASSING


class LangfuseAccess(Value):
    """A LangFuse project: the server's address without a slash at its end, and the pair of keys that names the project.

    `timeout_s` bounds one answer from its first byte to its last, beside at most `CONNECT_S` for the connection.
    `proxy` is the one to go by, None for the direct way; `ca` certificates in PEM that alone are trusted.
    """

    url: str
    public_key: SecretStr
    secret_key: SecretStr
    timeout_s: float = Field(default=10.0, gt=0)
    proxy: SecretStr | None = None
    ca: Path | None = None

    @classmethod
    def of(
        cls, url: str | None, public_key: SecretStr | None, secret_key: SecretStr | None, **known: object
    ) -> Self | None:
        """The access that these settings name; None where they name none.

        Raises UsageError for a part of them that is missing, and for an address that must not be used.
        """
        if not url and not public_key and not secret_key:
            return None
        if not url:
            raise UsageError(
                "LangFuse's keys are set without its address: they would go to the vendor's cloud.", hint=_HINT
            )
        pair = {"LANGFUSE_PUBLIC_KEY": public_key, "LANGFUSE_SECRET_KEY": secret_key}
        missing = [name for name, key in pair.items() if not (key and key.get_secret_value().strip())]
        if missing or public_key is None or secret_key is None:
            raise UsageError(
                f"LangFuse's address is set without {' and '.join(missing)}.",
                hint="Set it (LangFuse shows keys under a project's settings), or unset LANGFUSE_BASE_URL.",
            )
        for name, key in pair.items():
            if key is not None and not re.fullmatch(r"[!-9;-~]+", key.get_secret_value().strip()):
                raise UsageError(f"{name} holds what no key of LangFuse holds.", hint="Set it to the key alone.")
        access = cls.model_validate(
            {
                "url": checked_url(url),
                "public_key": SecretStr(public_key.get_secret_value().strip()),
                "secret_key": SecretStr(secret_key.get_secret_value().strip()),
                **known,
            }
        )
        if not is_guarded(access.url):
            raise UsageError(
                f"LangFuse's keys would go unencrypted to {access.host}, which is on no private network.",
                hint="Use an https address.",
            )
        return access

    @property
    def host(self) -> str:
        """The server's host and port."""
        return urlsplit(self.url).netloc

    def authorization(self) -> str:
        """The header that says who asks (RFC 7617: the public key is the user, the secret key the password)."""
        pair = f"{self.public_key.get_secret_value()}:{self.secret_key.get_secret_value()}"
        return f"Basic {b64encode(pair.encode()).decode()}"


def checked_url(text: str) -> str:
    """LangFuse's address without a slash at its end, and without the path of its API.

    Raises UsageError for what is none, and, without showing it, for one that holds a user, a password or a query.
    """
    text = text.strip()
    if any(sign in text for sign in "@?#"):  # first of all, so that no message quotes it
        raise UsageError("LangFuse's address holds a user name, a key or a query.", hint=_HINT)
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets, ports
        good = False
    if not good or any(c.isspace() or not c.isprintable() for c in text):
        raise UsageError("LangFuse's address is no http or https address.", hint=_HINT)
    path = re.sub(r"/api(/public.*)?$", "", parts.path.rstrip("/")).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"
