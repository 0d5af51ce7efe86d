"""An answer that is read while the server still writes it, and that another thread may break off.

Must not know what the bytes mean.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from caravan.cluster.connection import Connection

if TYPE_CHECKING:
    import requests


class Streaming:
    """A GET whose body comes bit by bit. `open` and `read` may raise a ClusterError."""

    def __init__(
        self, connection: Connection, path: str, *, what: str, params: Mapping[str, str | int | list[str]]
    ) -> None:
        self._connection = connection
        self._what = what
        self._path = path
        self._params = params
        self._response: requests.Response | None = None
        self._broken_off = threading.Event()

    def open(self, *, silence: float) -> None:
        """Ask, and wait for the answer's begin. `silence`: seconds without a byte after which it counts as broken."""
        response = self._connection.send("GET", self._path, what=self._what, params=self._params, stream=True)
        self._response = response
        # The time-out for a first answer is short; a stream may be silent for longer between two signs of life.
        sock = getattr(response.raw.connection, "sock", None)
        if sock is not None:
            sock.settimeout(silence)

    def read(self) -> bytes:
        """The bytes that have come, at least one; nothing when the answer has ended or was broken off."""
        return self._connection.call(self._read, what=self._what)

    def _read(self) -> bytes:
        import requests
        from urllib3.exceptions import HTTPError

        if self._response is None or self._broken_off.is_set():
            return b""
        try:
            data: bytes = self._response.raw.read1(1 << 16, decode_content=True)
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            if self._broken_off.is_set():  # the socket fails in whatever way it was being read
                return b""
            if isinstance(error, HTTPError):
                raise
            raise requests.ConnectionError(error) from error
        return data

    def break_off(self) -> None:
        """Let the reading thread find the end of the answer. Any thread may call it."""
        self._broken_off.set()
        if self._response is not None:
            with suppress(OSError, ValueError, AttributeError, RuntimeError):  # it ended by itself meanwhile
                self._response.raw.shutdown()

    def close(self) -> None:
        """Let go of the connection. Only the reading thread may call it."""
        if self._response is not None:
            self._response.close()
