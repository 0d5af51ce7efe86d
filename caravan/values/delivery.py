"""How code and data leave this machine: the stores that are configured, and what a parcel is measured by.

Who puts something there, and when, is not known here.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from caravan.values.base import Value
from caravan.values.masking import MASK, mask

# Their user says how to log in, or a container's name; the key or password is elsewhere.
_KEPT_USERS: Final = ("ssh", "sftp", "smb", "hdfs", "webhdfs", "abfs", "abfss", "wasb", "wasbs")
_USER: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")


def holds_credentials(text: str) -> bool:
    """Whether an address has more of a user than ssh's plain name, or a signature or token in its query."""
    scheme, separator, rest = text.rpartition("::")[2].partition("://")
    user, at, _ = re.split(r"[/?#]", rest if separator else scheme, maxsplit=1)[0].rpartition("@")
    schemes = scheme.lower().split("+") if separator else list(_KEPT_USERS)  # `git@host:path` is ssh
    named = _USER.fullmatch(user) and any(s in _KEPT_USERS for s in schemes)
    return mask(text) != text or bool(at and not named and user != MASK)


def _plain(text: str) -> str:
    if holds_credentials(text):
        raise ValueError("it holds a secret: credentials come from the environment (see docs/jobs.md)")
    return text


Address = Annotated[str, AfterValidator(_plain)]
"""A URL or path without credentials: no user but that of ssh and its like, no signature or token in its query."""


class Depot(Value):
    """A place to which code or data is put. `fetch` is how the nodes name the same folder, where that differs.

    `url` is an fsspec URL (`s3://bucket/caravan`, `file:///mnt/share/caravan`), an http(s) one that takes PUT, or, for
    data, `volume:NAME` of a volume that has it already.
    """

    url: Address = Field(min_length=1)
    fetch: Address = Field(default="", description="a source of Nomad's artifacts, or a path as the task sees it")

    @property
    def volume(self) -> str:
        """The volume's name where it is one, else empty."""
        kind, colon, name = self.url.partition(":")
        return name if kind == "volume" and colon and not name.startswith("//") else ""


class Shipping(Value):
    """Where a run may put code, data and images; None: nowhere. `max_data_gb`: what is sent of data at most."""

    code_store: Depot | None = None
    data_store: Depot | None = None
    registry: str | None = None
    max_data_gb: int = 100


class Parcel(Value):
    """What is sent, measured: SHA-256 of the very bytes, their number, the files in it. `folder`: it is a tar file.

    `left_out`: what is there and is not sent, with the reason: it may hold a secret, or is a link that leads away.
    """

    sha256: str
    size: int = Field(ge=0)
    files: int = Field(default=1, ge=0)
    folder: bool = False
    left_out: tuple[str, ...] = ()
