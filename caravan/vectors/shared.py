"""One embedded store for several processes: who comes first owns it and answers the others over a socket.

The owner is whoever holds the lock `owner.lock`; it serves `owner.sock`, in a folder that is its user's alone. When it
lets go or is killed, the next one that has something to ask becomes the owner. All requests may be repeated without
harm (points have the ids that the asker gave), so one that got no answer is asked again. It knows nothing of lessons.
"""

import fcntl
import json
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final

from caravan.ports import Clock
from caravan.values.base import Json
from caravan.vectors.shard import EngineError, Shard

_WAIT_S: Final = 10.0  # for an owner that neither answers nor lets go, such as one on another machine
_ANSWER_S: Final = (
    60.0  # for one answer, or one turn: writing 10,000 lessons anew takes seconds, on a busy machine many
)
_LOOK_S: Final = 0.005
_LONGEST: Final = 1 << 30  # bytes of a message
_SOCKET_PATH: Final = 100  # characters; the systems take 104 or 108


class InUse(Exception):
    """Somebody has the embedded store and does not answer."""


class _NoAnswer(Exception):
    """The owner is gone, or goes."""


class SharedShard:
    """The embedded store of a folder, owned here or asked for elsewhere. Threads may share it.

    Constructing it touches nothing. Every call may raise InUse, EngineError or OSError.
    """

    def __init__(self, folder: Path, clock: Clock, opened: Callable[[], Shard]) -> None:
        self._folder = folder
        self._clock = clock
        self._opened = opened
        self._lock = threading.RLock()
        self._owner: _Owner | None = None
        self._line: socket.socket | None = None

    def call(self, operation: str, **arguments: Any) -> Json:
        """The store's answer to one request (`shard.Shard.run`)."""
        with self._lock:
            end: float | None = None
            while True:
                if self._owner is not None:
                    return self._owner.shard.run(operation, arguments)
                with suppress(_NoAnswer):
                    return self._asked(operation, arguments)
                if self._take():
                    continue
                end = end if end is not None else self._clock.monotonic() + _WAIT_S
                if self._clock.monotonic() >= end:
                    raise InUse
                self._clock.sleep(_LOOK_S)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else reads and then writes meanwhile. Raises InUse."""
        with turn(self._folder, self._clock):
            yield

    def close(self) -> None:
        """Let go: of the store, or of the connection to its owner."""
        with self._lock:
            self._hang_up()
            owner, self._owner = self._owner, None
            if owner is not None:
                owner.close()

    def _take(self) -> bool:
        """Become the owner, if nobody is."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = locked(self._folder / "owner.lock")
        if lock is None:
            return False
        try:
            self._owner = _Owner(_address(self._folder), self._opened, lock)
        except BaseException:
            lock.close()
            raise
        return True

    def _asked(self, operation: str, arguments: dict[str, Any]) -> Json:
        """The owner's answer. Raises _NoAnswer when there is none, EngineError for what it says went wrong."""
        line = self._connected()
        try:
            _send(line, {"operation": operation, "arguments": arguments})
            answer = _receive(line)
        except TimeoutError as error:
            self._hang_up()
            raise InUse from error
        except OSError as error:
            self._hang_up()
            raise _NoAnswer from error
        if answer is None:
            self._hang_up()
            raise _NoAnswer
        if "error" in answer:
            raise EngineError(str(answer["error"]))
        return answer["result"]

    def _connected(self) -> socket.socket:
        if self._line is None:
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(_ANSWER_S)
            try:
                line.connect(_address(self._folder))
            except OSError as error:
                line.close()
                raise _NoAnswer from error
            self._line = line
        return self._line

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()


class _Owner:
    """The open store, and the threads that answer other processes."""

    def __init__(self, address: str, opened: Callable[[], Shard], lock: IO[str]) -> None:
        self._address = address
        self._lock = lock
        self._lines: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._guard = threading.Lock()
        self._closing = False
        # Others may line up while the store is opened: they see that there is an owner.
        Path(address).unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        try:
            self._door.bind(address)
            Path(address).chmod(0o600)
            self._door.listen(64)
            self.shard = opened()
        except BaseException:
            self._door.close()
            raise
        self._porter = threading.Thread(target=self._admit, name="memory", daemon=True)
        self._porter.start()

    def close(self) -> None:
        """Answer what was asked, let nobody in any more, close the store, let go of the lock."""
        with self._guard:
            self._closing = True
            lines = list(self._lines)
        with suppress(OSError), socket.socket(socket.AF_UNIX) as bell:  # wakes the porter
            bell.settimeout(1)
            bell.connect(self._address)
        self._porter.join()
        self._door.close()
        for line in lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RD)  # what is being answered still is
        for thread in list(self._threads):
            thread.join(_ANSWER_S)
        try:
            self.shard.close()
        finally:
            Path(self._address).unlink(missing_ok=True)
            self._lock.close()

    def _admit(self) -> None:
        while True:
            try:
                line, _ = self._door.accept()
            except OSError:  # no more descriptors, or the caller is gone already
                if self._closing:
                    return
                continue
            with self._guard:
                if self._closing:
                    line.close()
                    return
                thread = threading.Thread(target=self._serve, args=(line,), name="memory", daemon=True)
                self._lines.add(line)
                self._threads.add(thread)
                thread.start()

    def _serve(self, line: socket.socket) -> None:
        try:
            while (request := _receive(line)) is not None:
                _send(line, self._answer(request))
        except OSError:  # the asker is gone
            pass
        finally:
            line.close()
            with self._guard:
                self._lines.discard(line)
                self._threads.discard(threading.current_thread())

    def _answer(self, request: Any) -> dict[str, Json]:
        try:
            return {"result": self.shard.run(request["operation"], request["arguments"])}
        except (EngineError, OSError, ValueError, TypeError, LookupError) as error:
            return {"error": f"{type(error).__name__}: {error}"}


def locked(path: Path) -> IO[str] | None:
    """The lock of that file, held while what comes back is open; None: another has it. A killed holder has let go."""
    file = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            return None
        raise
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def turn(folder: Path, clock: Clock) -> Iterator[None]:
    """The only one in the folder that reads and then writes; in turn: who waits longest is next. Raises InUse.

    One waits for the turn, the others wait to be that one. Who had the turn lines up behind.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _waited_for(folder / "next.lock", clock):
        held = _waited_for(folder / "turn.lock", clock)
    with held:
        yield


def _waited_for(path: Path, clock: Clock) -> IO[str]:
    end = clock.monotonic() + _ANSWER_S
    while (lock := locked(path)) is None:
        if clock.monotonic() >= end:
            raise InUse
        clock.sleep(_LOOK_S)
    return lock


def _address(folder: Path) -> str:
    """Where the owner listens: in the store's folder, or, because such paths are short, in a private one for it."""
    place = str(folder.absolute() / "owner.sock")
    if len(os.fsencode(place)) <= _SOCKET_PATH:
        return place
    name = f"caravan-{os.getuid()}-{sha256(os.fsencode(place)).hexdigest()[:16]}"
    private = Path(tempfile.gettempdir()) / name
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if private.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(1, "Belongs to somebody else", str(private))
    return str(private / "owner.sock")


def _send(line: socket.socket, document: Json) -> None:
    data = json.dumps(document, allow_nan=False).encode()
    line.sendall(struct.pack(">I", len(data)) + data)


def _receive(line: socket.socket) -> Any:
    """The next document, None when the other side is gone. Raises OSError."""
    head = _exactly(line, 4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    if length > _LONGEST:
        raise OSError(f"a message of {length} bytes")
    data = _exactly(line, length)
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise OSError("a message that is no JSON") from error


def _exactly(line: socket.socket, length: int) -> bytes | None:
    parts, missing = [], length
    while missing:
        part = line.recv(min(missing, 1 << 20))
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
