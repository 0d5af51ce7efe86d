"""URLs as downloads name them: read into their parts, and held against patterns. Pure text work, no look-ups."""

import fnmatch
import posixpath
import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

_PORTS: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_FORCED: Final = re.compile(r"^[a-z0-9]+::")
_SCP: Final = re.compile(r"^(?:[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^/\d].*|\d+[^\d/:].*)$")
# What the downloader itself makes addresses of, where no scheme is named.
_HOSTED: Final = ("github.com/", "gitlab.com/", "bitbucket.org/")


class Address(NamedTuple):
    """Where something is: scheme, host in lower case, port (None: the scheme's own), normalised path."""

    scheme: str
    host: str
    port: int | None
    path: str


def read_address(text: str) -> Address | None:
    """The address that a source means; a forced getter (`git::`), user and query are left out.

    None for what is no address, climbs with `..`, or hides where it leads.
    """
    text = _FORCED.sub("", text.strip())
    if "://" not in text:
        scp = _SCP.match(text)
        if scp:
            text = f"ssh://{scp['host']}/{scp['path']}"
        elif text.startswith(_HOSTED):
            text = f"https://{text}"
        else:
            return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    path = unquote(parts.path)
    host = (parts.hostname or "").rstrip(".").lower()
    bad = ".." in path.split("/") or "\\" in text or any(c.isspace() or c < " " for c in text) or "${" in text
    if not parts.scheme or (not host and parts.scheme != "file") or bad:
        return None
    scheme = parts.scheme.lower()
    return Address(scheme, host, None if port == _PORTS.get(scheme) else port, _path(path))


def address_matches(address: Address, pattern: str) -> bool:
    """Whether `scheme://host[:port]/path` with wildcards allows it. A `*` in the host stays in the host.

    A pattern's path means it and, where it ends with `/`, all below it; a pattern without a path means all.
    """
    if pattern == "*":
        return True
    scheme, _, rest = pattern.partition("://")
    place, slash, path = rest.partition("/")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        host, port = place, ""
    wanted = int(port) if port else None
    same_port = address.port == (None if wanted == _PORTS.get(scheme.lower()) else wanted)
    if not (same_port and fnmatch.fnmatchcase(address.scheme, scheme.lower())):
        return False
    if not fnmatch.fnmatchcase(address.host, host.lower()):
        return False
    if not slash or not path:
        return True
    if path.endswith("/"):
        return fnmatch.fnmatchcase(f"{address.path}/", f"/{path}*")
    return fnmatch.fnmatchcase(address.path, f"/{path}")


def _path(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))
