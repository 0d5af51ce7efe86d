"""Nomad variables and the token in use, over `/v1/var` and `/v1/acl/token/self`. Their answers hold secrets.

So no word of an answer goes into an error, and what is read of it are names. Must not know what the variables are for.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import quote

from caravan.cluster.connection import Connection, NoSuchCall
from caravan.cluster.snapshots import nomad_time
from caravan.values.base import Json
from caravan.values.errors import JobNotFound, JobRefused, UsageError
from caravan.values.job import TokenFacts

T = TypeVar("T")

_PATH: Final = re.compile(r"[a-zA-Z0-9\-_~/]{1,128}")  # what Nomad takes as a variable's path


class Variables:
    """Reads names and writes items of Nomad variables. Every method may raise a ClusterError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def names(self, path: str, namespace: str) -> frozenset[str] | None:
        """The names of a variable's items, or None."""
        found = self._read(path, namespace)
        return None if found is None else frozenset(found[1])

    def write(self, path: str, items: Mapping[str, str], namespace: str) -> None:
        """Set items by check-and-set; other items stay. JobConflict when somebody else wrote meanwhile."""
        found = self._read(path, namespace)
        index, there = found or (0, {})
        self._connection.send(
            "PUT",
            _path(path),
            what=f"write the variable {path}",
            params={"namespace": namespace, "cas": index},
            json={"Namespace": namespace, "Path": path, "Items": {**there, **items}},
            silent=True,
        )

    def remove(self, path: str, namespace: str) -> None:
        """Remove a variable, whatever it holds; one that is not there is no error."""
        what = f"remove the variable {path}"
        try:
            self._connection.send("DELETE", _path(path), what=what, params={"namespace": namespace}, silent=True)
        except JobNotFound:
            return

    def _read(self, path: str, namespace: str) -> tuple[int, dict[str, str]] | None:
        """A variable's ModifyIndex and items, or None."""
        what = f"read the variable {path}"
        try:
            return _quiet(self._connection, what, _path(path), {"namespace": namespace}, _items)
        except JobNotFound:
            return None


def token_facts(connection: Connection) -> TokenFacts | None:
    """What the cluster says of the token; None without ACLs. The answer repeats the token itself: it is not kept."""
    try:
        return _quiet(connection, "look at the token", "/v1/acl/token/self", {}, _token)
    except NoSuchCall:
        return None  # no such call: the cluster knows no ACL
    except JobRefused:
        return None  # "ACL support disabled", with status 400


def _quiet(
    connection: Connection, what: str, path: str, params: Mapping[str, str | int], read: Callable[[Json], T]
) -> T:
    """What `read` makes of the answer; a failure to read it is told without the answer and without what it chains."""
    answer = connection.send("GET", path, what=what, params=params, repeat=True, silent=True)
    try:
        return read(answer.json())
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        pass
    # Outside the handler, so that no exception with the answer in it (JSONDecodeError.doc) hangs on ours.
    raise connection.alien(what)


def _items(body: Json) -> tuple[int, dict[str, str]]:
    items = body["Items"] or {}
    index = body["ModifyIndex"]
    if not isinstance(index, int) or not all(isinstance(v, str) for v in items.values()):
        raise TypeError
    return index, dict(items)


def _token(body: Json) -> TokenFacts:
    roles = tuple(f"role {r['Name']}" for r in body.get("Roles") or ())
    return TokenFacts(
        name=body.get("Name") or "",
        management=body["Type"] == "management",
        policies=tuple(body.get("Policies") or ()) + roles,
        expires_at=nomad_time(body.get("ExpirationTime")),
    )


def _path(path: str) -> str:
    """The call's path. Raises UsageError for a path that Nomad refuses."""
    if not _PATH.fullmatch(path):
        raise UsageError(
            f"{path!r} is no path of a Nomad variable.", hint="Use letters, digits, -, _, ~ and / (at most 128)."
        )
    return f"/v1/var/{quote(path, safe='/')}"
