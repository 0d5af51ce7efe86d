"""Artifacts: fetching what a task's `artifact` blocks name, by HTTP or git, unpacking archives, checking sums.

Errors are worded as by the fetcher that Nomad's client starts. Opens files and connections; knows no events.
"""

import errno
import hashlib
import lzma
import posixpath
import re
import shutil
import socket
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from caravan.cluster.local.taskdir import EscapesDirectory, inside
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.words import JsonDict, go_quote

_CHUNK = 1 << 20
_SECONDS = 30 * 60
_NAMED = {"tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar", "zip"}
_SINGLE = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}
_SUMS = {"md5": "digest", "sha1": "digest", "sha256": "Digest", "sha512": "Digest"}  # and Go's name of each type
_FAILED = "getter subprocess failed: exit status 1: failed to download artifact: "


class NotFetched(Exception):
    """An artifact that could not be had, in the words of Nomad's event."""


def fetch(artifact: JsonDict, place: TaskPlace, resolve: Callable[[str], str]) -> None:
    """Bring one artifact to its destination. `resolve` gives the meaning of `${...}`. Raises NotFetched."""
    source = artifact["GetterSource"]
    said = f"failed to download artifact {go_quote(source)}: "
    url, options = _split(resolve(source), {k: resolve(v) for k, v in (artifact["GetterOptions"] or {}).items()})
    try:
        target = inside(place.alloc_dir.parent, _inner(resolve(artifact["RelativeDest"]), place))
    except EscapesDirectory as error:
        raise NotFetched(f"{said}artifact destination path escapes alloc directory") from error
    headers = {k: resolve(v) for k, v in (artifact["GetterHeaders"] or {}).items()}
    try:
        _get(url, options, target, headers, artifact["GetterMode"], insecure=bool(artifact["GetterInsecure"]))
    except (_Refused, EscapesDirectory, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise NotFetched(f"{said}{_FAILED}{error}") from error


class _Refused(Exception):
    """Why something can't be fetched, in the fetcher's words."""


def _inner(path: str, place: TaskPlace) -> str:
    """A destination below the allocation's directory; relative ones are the task's."""
    task = place.task_dir.name
    for shown, real in (("/alloc", "alloc"), ("/local", f"{task}/local"), ("/secrets", f"{task}/secrets")):
        if path == shown or path.startswith(shown + "/"):
            return real + path[len(shown) :]
    root = str(place.alloc_dir.parent)
    return path[len(root) :] if path.startswith(root + "/") else f"{task}/{path.lstrip('/')}"


def _split(source: str, given: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The address without what is meant for the fetcher, and that: checksum, archive, ref, depth, sshkey."""
    own = ("archive", "checksum", "depth", "filename", "ref", "sshkey")
    # What forces a way of fetching (`git::https://…`) is no part of the address: urllib would take the rest for a path.
    forced, colons, address = source.rpartition("::") if re.match(r"[a-z0-9]+::", source) else ("", "", source)
    plain, _, asked = address.partition("?")
    query = [*parse_qsl(asked, keep_blank_values=True), *given.items()]
    rest = urlencode([(k, v) for k, v in query if k not in own])
    return f"{forced}{colons}{plain}{'?' if rest else ''}{rest}", {k: v for k, v in query if k in own}


def _get(
    url: str, options: Mapping[str, str], target: Path, headers: Mapping[str, str], mode: str, *, insecure: bool
) -> None:
    forced, _, rest = url.partition("::")
    scheme = forced if rest else urlsplit(url).scheme
    if scheme == "git" or (not rest and url.endswith(".git")):
        _clone(rest or url, options, target)
        return
    if scheme not in ("http", "https"):
        raise _Refused(f"download not supported for scheme '{scheme or 'file'}'")
    address = rest or url
    name = posixpath.basename(urlsplit(address).path) or "index"
    known = [*_NAMED, *_SINGLE]
    archive = options.get("archive") or next((n for n in sorted(known, key=len)[::-1] if name.endswith("." + n)), "")
    if archive in _SINGLE and mode != "file":
        raise _Refused(f"{_SINGLE[archive]}-compressed files can only unarchive to a single file")
    if archive not in known and (mode == "dir" or urlsplit(address).path.endswith("/")):
        raise _Refused(f"error downloading '{address}': no source URL was returned")
    unpacks = archive in _NAMED and mode != "file"
    folder = target if unpacks or mode != "file" else target.parent
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    try:
        _download(address, part, headers, insecure=insecure)
        _check(part, options.get("checksum") or "", name)
        if unpacks:
            _unpack(part, archive, target)
        else:
            part.replace(target if mode == "file" else inside(target, options.get("filename") or name))
    finally:
        part.unlink(missing_ok=True)


def _download(url: str, part: Path, headers: Mapping[str, str], *, insecure: bool) -> None:
    import requests

    try:
        with requests.get(url, headers=dict(headers), stream=True, timeout=_SECONDS, verify=not insecure) as got:
            if got.status_code >= 400:
                raise _Refused(f"bad response code: {got.status_code}")
            with part.open("wb") as out:
                for piece in got.iter_content(_CHUNK):
                    out.write(piece)
    except requests.RequestException as error:
        raise _Refused(f"Get {go_quote(url)}: {reason(error, url)}") from error


def reason(error: BaseException, url: str) -> str:
    """A failed connection in Go's words."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return f"dial tcp: lookup {parts.hostname}: no such host"
        if isinstance(cause, ConnectionRefusedError):
            return f"dial tcp {parts.hostname}:{port}: connect: connection refused"
        if isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT):
            why = {errno.ENETUNREACH: "network is unreachable", errno.EHOSTUNREACH: "no route to host"}
            return f"dial tcp {parts.hostname}:{port}: connect: {why.get(cause.errno, 'connection timed out')}"
    return str(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what stands behind it, also where a library hands it on as an argument."""
    waiting: list[Any] = [error]
    seen = 0
    while waiting and seen < 20:
        found = waiting.pop(0)
        seen += 1
        if isinstance(found, BaseException):
            yield found
            waiting += [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]


def _check(path: Path, wanted: str, name: str) -> None:
    """Hold a file against `kind:sum`, or a sum alone whose length says the kind."""
    if not wanted:
        return
    kind, colon, value = wanted.partition(":")
    if not colon:
        kind, value = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}.get(len(wanted), ""), wanted
    if kind not in _SUMS:
        told = f"unsupported checksum type: {kind}" if colon else f"unknown type for checksum {wanted}"
        raise _Refused(f"invalid checksum: {told}")
    with path.open("rb") as file:
        have = hashlib.file_digest(file, kind).hexdigest()
    if have != value.lower():
        told = f"Expected: {value}\nGot: {have}\n*{kind}.{_SUMS[kind]}"
        raise _Refused(f"Checksums did not match for {path.with_name(name)}.\n{told}")


def _unpack(path: Path, archive: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    try:
        if archive == "zip":
            with zipfile.ZipFile(path) as opened:
                opened.extractall(target)  # noqa: S202 - zipfile keeps it inside
            return
        with tarfile.open(path) as tar:
            tar.extractall(target, filter="data")
    except (EOFError, RuntimeError, ValueError, lzma.LZMAError, zlib.error) as error:
        # What the libraries raise for an archive that breaks off, is damaged, or asks for a password.
        raise _Refused(f"{archive} archive can't be read: {error}") from error


def _clone(url: str, options: Mapping[str, str], target: Path) -> None:
    """A git repository at `ref`, with its history up to `depth`."""
    git = shutil.which("git")
    if git is None:
        raise _Refused("git must be available and on the PATH")
    depth = ["--depth", options["depth"]] if options.get("depth", "").isdigit() else []
    commands = [[git, "clone", *depth, "--", url, str(target)]]
    if options.get("ref"):
        commands.append([git, "-C", str(target), "checkout", "--quiet", options["ref"]])
    for command in commands:
        try:
            # No input: nobody is there to type a password.
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _Refused(f"error downloading '{url}': context deadline exceeded") from error
        if done.returncode:
            raise _Refused(f"error downloading '{url}': {git} exited with {done.returncode}: {done.stderr.strip()}")
