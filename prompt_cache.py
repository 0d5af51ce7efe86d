"""What LangFuse has under a label, as a run needs it: at once, or not at all.

It is asked beside the run, and a run waits for it for a moment in all. What it gave is kept on the disk, so that for
some minutes no process asks again, and so that there is something while it does not answer. It must not know what is
used instead of a version that is not there.
"""

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, Field, ValidationError

from caravan.ports import Clock
from caravan.runs.files import write_file
from caravan.values.base import Value, canonical_json, sha256_text
from caravan.values.errors import CaravanError, UsageError
from caravan.values.prompts import remote_name
from langfuse_access import LangfuseAccess, LangfuseError, LangfuseFault
from langfuse_client import LangfuseClient, RemotePrompt
from langfuse_patience import PROMPTS, Patience

OLDEST_S: Final = 30 * 24 * 3600.0
"""From then on what LangFuse gave is not used any more, even if it does not answer."""
_LARGEST: Final = 16 << 20  # bytes of the file: seven prompts with their examples are smaller


class Given(Value):
    """What LangFuse gave: the version of each prompt that has the label, and when."""

    at: AwareDatetime
    prompts: dict[str, RemotePrompt] = Field(default_factory=dict)


class LangfusePrompts:
    """The versions under `label`, of the prompts `names`. `folder` holds what was given last.

    `begin` asks beside, where what is kept is older than `cache_s`; `given` waits for it as long as the
    run's `patience` allows. No method raises.
    """

    def __init__(
        self,
        access: LangfuseAccess,
        label: str,
        folder: Path,
        *,
        names: Sequence[str],
        clock: Clock,
        cache_s: float = 300.0,
        patience: Patience | None = None,
    ) -> None:
        self._access, self._label, self._names, self._clock = access, label, tuple(names), clock
        self._cache_s, self._patience = cache_s, patience or Patience(clock)
        whose = canonical_json([access.url, access.public_key.get_secret_value(), label])
        self._path = folder / f"{sha256_text(whose)[:16]}.json"
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._given: Given | None = None
        self._error: CaravanError | None = None

    @property
    def host(self) -> str:
        """LangFuse's host."""
        return self._access.host

    def begin(self) -> None:
        """Ask beside, unless that is under way or what is kept is young enough."""
        with self._lock:
            if self._thread is not None or self._done.is_set():
                return
            self._given = self._kept()
            if self._given is not None and 0 <= self._age(self._given) < self._cache_s:
                self._done.set()
                return
            self._thread = threading.Thread(target=self._ask, name="caravan-prompts", daemon=True)
            self._thread.start()

    def given(self) -> Given | None:
        """What LangFuse gave last; it waits for a new answer as long as there is patience left."""
        self.begin()
        self._patience.wait(self._done, PROMPTS)
        with self._lock:
            return self._given

    def trouble(self) -> CaravanError | None:
        """Why there was no new answer; None where there was one, or none was needed."""
        if not self._done.is_set():
            return LangfuseError(
                f"LangFuse at {self.host} has not answered in time.",
                fault=LangfuseFault.TIMED_OUT,
                hint="`main.py doctor` looks at it.",
            )
        return self._error

    def age_s(self, given: Given) -> float:
        """How long ago that was given, in seconds."""
        return max(0.0, self._age(given))

    def _age(self, given: Given) -> float:
        return (self._clock.now() - given.at).total_seconds()

    def _ask(self) -> None:
        """Ask for all names, and keep what came."""
        client = LangfuseClient(self._access)
        try:
            there = {row.name for row in client.prompts(self._label)}
            found = {}
            for name in self._names:
                remote = client.prompt(remote_name(name), label=self._label) if remote_name(name) in there else None
                if remote is not None:
                    found[name] = remote
            given = Given(at=self._clock.now(), prompts=found)
            with self._lock:
                self._given = given
            with suppress(OSError):  # a full disk: the next process asks again
                write_file(self._path, given.model_dump_json().encode(), durable=False)
        except (LangfuseError, UsageError) as error:
            self._error = error
        finally:
            client.close()
            self._done.set()

    def kept(self) -> tuple[Given, float] | None:
        """What was given last, and for how many seconds more no run asks anew; None: nothing that a run would take."""
        given = self._kept()
        if given is None:
            return None
        age = self._age(given)
        return given, self._cache_s - age if 0 <= age < self._cache_s else 0.0

    def _kept(self) -> Given | None:
        """What was given last, to this or another process; None where that is too old or can't be read."""
        try:
            if self._path.stat().st_size > _LARGEST:
                return None
            given = Given.model_validate(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, RecursionError, ValidationError):
            return None
        return given if -self._cache_s < self._age(given) < OLDEST_S else None

    def forget(self) -> None:
        """Let the next process ask anew: something was changed in LangFuse."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def ago(seconds: float) -> str:
    """How long ago, for people."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"
