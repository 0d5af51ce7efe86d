"""The sessions that requests go through: TLS as Nomad's command line sets it up, unix sockets, proxies, deadlines.

Holds what lies below HTTP. Must not know what is asked. Nothing is taken from the environment, and the adapters ignore
what a single request says of TLS: python-nomad's calls and ours go out alike. Import it where a session is made: it
brings `requests` along.
"""

import http.client
import io
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Final

import certifi
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from caravan.cluster.addresses import Address
from caravan.values.errors import UsageError

POOL: Final = 16  # connections that are kept open to one cluster


def make_session(address: Address, tls: ssl.SSLContext | None, *, server_name: str | None, whole: bool) -> Any:
    """A `requests` session for one address. `whole`: an answer's time-out counts for all of it, not for each read."""
    made = requests.Session()
    made.trust_env = False
    adapter = _Adapter(address, tls, server_name=server_name, whole=whole)
    for scheme in tuple(made.adapters):
        made.mount(scheme, adapter)
    return made


def tls_context(verify: bool | str, cert: tuple[str, str] | None) -> ssl.SSLContext:
    """What is trusted, and who we are. `verify`: True (the system's and certifi's authorities), False, or the path of
    a file or directory of certificates in PEM, which are then the only ones trusted.

    Raises UsageError for a file that is not there or does not hold what it should.
    """
    context = ssl.create_default_context()
    if isinstance(verify, str):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for file in _authorities(Path(verify)):
            _load_authority(context, file)
    elif verify:
        context.load_verify_locations(certifi.where())
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        _load_client(context, *cert)
    return context


def _authorities(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # Nomad reads every file under the directory; OpenSSL's own way with directories wants files named by hash.
    found = sorted(p for p in path.rglob("*") if p.is_file())
    if not found:
        raise UsageError(f"{path} holds no certificate.", hint="Set NOMAD_CAPATH to a directory of PEM files.")
    return found


def _load_authority(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(str(file))
    except ssl.SSLError as error:
        raise UsageError(
            f"{file} holds no certificate in PEM.", hint="Set NOMAD_CACERT (or NOMAD_CAPATH) to the cluster's CA."
        ) from error
    except OSError as error:
        raise UsageError(
            f"The CA certificate {file} can't be read: {error.strerror}.", hint="Set NOMAD_CACERT to the cluster's CA."
        ) from error


def client_pair(cert: str | Path | None, key: str | Path | None) -> tuple[str, str] | None:
    """Client certificate and key, which come together or not at all. Raises UsageError when one is missing."""
    if bool(cert) != bool(key):
        there, missing = ("certificate", "KEY") if cert else ("key", "CERT")
        raise UsageError(f"A client {there} is set alone.", hint=f"Set NOMAD_CLIENT_{missing} too, or neither.")
    return (str(cert), str(key)) if cert and key else None


def _load_client(context: ssl.SSLContext, cert: str, key: str) -> None:
    for name, file in (("NOMAD_CLIENT_CERT", cert), ("NOMAD_CLIENT_KEY", key)):
        try:
            Path(file).open("rb").close()
        except OSError as error:
            raise UsageError(f"{file} can't be read: {error.strerror}.", hint=f"Correct {name}.") from error
    try:
        # Without a password OpenSSL would ask on the terminal.
        context.load_cert_chain(cert, key, password=lambda: b"\0")
    except (ssl.SSLError, ValueError) as error:
        said = getattr(error, "reason", None) or str(error)
        raise UsageError(
            f"{cert} and {key} are no client certificate with its key ({said.replace('_', ' ').lower()}).",
            hint="Set NOMAD_CLIENT_CERT and NOMAD_CLIENT_KEY to a matching pair in PEM, the key not encrypted.",
        ) from error


class _Adapter(HTTPAdapter):
    """Makes the connections that the address asks for, with our TLS whatever a request says."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None, *, server_name: str | None, whole: bool) -> None:
        self._pools = _pools(address.socket, whole=whole)
        self._more: dict[str, Any] = {"ssl_context": tls} if tls else {}
        if tls and server_name:
            self._more["server_hostname"] = server_name  # sent as SNI and looked for in the certificate
        super().__init__(pool_connections=2, pool_maxsize=POOL)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **more, **self._more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager: PoolManager = super().proxy_manager_for(proxy, **more, **self._more)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def build_connection_pool_key_attributes(self, request: requests.PreparedRequest, *_tls: Any, **_more: Any) -> Any:
        return super().build_connection_pool_key_attributes(request, True)[0], {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the context says it all, and what this would add would widen what is trusted."""


def _pools(path: str | None, *, whole: bool) -> dict[str, type[HTTPConnectionPool]]:
    """The classes of connections. http.client makes an answer by the class that its connection names."""
    answer = _Whole if whole else _Prompt

    class Plain(HTTPConnection):
        response_class = answer

        def _new_conn(self) -> socket.socket:
            return _unix_socket(self, path) if path else super()._new_conn()

    class Secure(HTTPSConnection):
        response_class = answer

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _unix_socket(connection: HTTPConnection, path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(connection.timeout if isinstance(connection.timeout, int | float) else None)
        made.connect(path)
    except TimeoutError as error:
        made.close()
        raise ConnectTimeoutError(connection, f"{path} timed out") from error
    except OSError as error:
        made.close()
        raise NewConnectionError(connection, f"[Errno {error.errno}] {error.strerror or error}") from error
    return made


class _Whole(http.client.HTTPResponse):
    """An answer that must be here, from its first byte to its last, within the socket's time-out."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self._hurry = _Hurry(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._hurry)


class _Prompt(_Whole):
    """An answer whose status and headers must be here within the time-out, which then counts for each read."""

    def begin(self) -> None:
        super().begin()
        self._hurry.release()


class _Hurry(io.RawIOBase):
    """Reads a socket until a deadline. A server that sends a byte now and then would hold a plain time-out off."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._limit = sock.gettimeout()
        self._until = None if self._limit is None else time.monotonic() + self._limit

    def release(self) -> None:
        """From now on the time-out counts for each read."""
        self._until = None
        self._sock.settimeout(self._limit)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
