"""Memories around the store: one that keeps what can't be stored now, and one that is switched off.

They know the port alone, and nothing of Mem0 and Qdrant (`memory.py`).
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from caravan.lessons import prepared
from caravan.ports import Clock, Memory
from caravan.values.base import Json, sha256_text
from caravan.values.errors import ServiceError
from caravan.values.failure import Diagnosis, Exported, Lesson, PastCase

_NAME: Final = 200  # characters of a folder's name; file systems take 255 bytes
_AWAY_S: Final = 30.0  # after a failure lessons are kept at once, without trying each one
_LEFT_S: Final = 60.0  # a file that is half written for so long was left by an agent that was killed


def folder_of(tenant: str) -> str:
    """The name of a folder for that tenant: no two tenants have the same, and none is a path or hidden."""
    name = quote(tenant, safe="@+").replace(".", "%2E")
    return name if len(name) <= _NAME else f"{name[: _NAME - 65]}-{sha256_text(tenant)}"


class KeepingMemory:
    """A memory that loses no lesson: what can't be stored now is kept as a file in `folder`, and stored later.

    The next call that reaches the memory, of whichever agent, takes the files in. Kept or stored twice is once,
    because a lesson says which run told it. A lesson does not say whose it is, so each tenant needs a folder of its own
    (`folder_of`); `earlier` is one more whose files are this tenant's.
    """

    def __init__(
        self, memory: Memory, folder: Path, *, clock: Clock, secrets: Sequence[str] = (), earlier: Path | None = None
    ) -> None:
        self._memory = memory
        self._folder = folder
        self._folders = (folder,) if earlier is None else (earlier, folder)
        self._clock = clock
        self._secrets = tuple(secrets)
        self._away: tuple[float, ServiceError] | None = None  # since when it is away, on the monotonic clock, and why

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        """As the memory does."""
        self._take_in()
        cases = self._memory.recall(text=text, diagnosis=diagnosis, context=context, limit=limit)
        self._away = None
        return cases

    def remember(self, lesson: Lesson) -> str:
        """As the memory does. Where it can't, the lesson is kept, and the ServiceError says so."""
        now = self._clock.monotonic()
        away = self._away if self._away and now - self._away[0] < _AWAY_S else None
        try:
            if away:
                raise away[1]
            return self._memory.remember(lesson)
        except ServiceError as error:
            self._away = away or (now, error)
            self._keep(lesson, error)
            message = f"{error.message.rstrip('.')}; lessons are kept in {self._folder} until it can be used."
            raise ServiceError(message, hint=error.hint) from error

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """As the memory does."""
        self._take_in()
        return self._memory.all(limit=limit)

    def forget(self, case_id: str) -> bool:
        """As the memory does; what is kept is stored first, so that no copy stays among it."""
        self._take_in()
        forgotten = self._memory.forget(case_id)
        self._sweep()
        return forgotten

    def export(self) -> tuple[dict[str, Json], ...]:
        """As the memory does."""
        self._take_in()
        return self._memory.export()

    def note_export(self, path: Path) -> None:
        """As the memory does."""
        self._memory.note_export(path)

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:
        """As the memory does."""
        return self._memory.exports_of(case_id)

    def restore(self, record: Json) -> bool:
        """As the memory does."""
        return self._memory.restore(record)

    def close(self) -> None:
        """As the memory does."""
        self._memory.close()

    def _keep(self, lesson: Lesson, why: ServiceError) -> None:
        text = prepared(lesson, self._secrets).canonical()
        path = self._folder / f"{sha256_text(text)[:32]}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            partly = path.with_suffix(f".{uuid.uuid4().hex}")
            partly.touch(mode=0o600, exist_ok=False)
            partly.write_text(text, encoding="utf-8")
            partly.replace(path)
        except OSError as error:
            raise ServiceError(
                f"{why.message.rstrip('.')}, and {self._folder} takes no lessons ({error.strerror}): they are lost.",
                hint=why.hint,
            ) from error

    def _take_in(self) -> None:
        """Store what was kept. Raises ServiceError while the memory still can't be used; then the files stay."""
        for path in self._kept():
            try:
                lesson = Lesson.model_validate_json(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # gone, because another agent took it, or of a later version: left alone
                continue
            self._memory.remember(lesson)
            with suppress(OSError):  # it stays, and is merged into itself the next time
                path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what agents that were killed left half written: it may hold a forgotten lesson's text."""
        before = self._clock.now().timestamp() - _LEFT_S
        with suppress(OSError):
            for path in (path for folder in self._folders if folder.is_dir() for path in folder.iterdir()):
                if path.suffix != ".json" and path.is_file() and path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)

    def _kept(self) -> list[Path]:
        try:
            return [path for folder in self._folders for path in sorted(folder.glob("*.json"))]
        except OSError as error:
            raise ServiceError(f"Lessons kept in {self._folder} can't be read ({error.strerror}).") from error


class NullMemory:
    """Memory switched off: it knows nothing and keeps nothing."""

    def recall(self, **_: object) -> tuple[PastCase, ...]:
        """Nothing."""
        return ()

    def remember(self, lesson: Lesson) -> str:  # noqa: ARG002
        """Nothing is stored: the id is empty."""
        return ""

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    def forget(self, case_id: str) -> bool:  # noqa: ARG002
        """There is nothing to forget."""
        return False

    def export(self) -> tuple[dict[str, Json], ...]:
        """Nothing."""
        return ()

    def note_export(self, path: Path) -> None:
        """Nothing is exported."""

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:  # noqa: ARG002
        """None."""
        return ()

    def restore(self, record: Json) -> bool:  # noqa: ARG002
        """Nothing is stored."""
        return False

    def close(self) -> None:
        """There is nothing to let go of."""
