"""The cluster's variables: what they hold, in a file of their own that only its owner may read.

Apart from the ordinary state, so that no copy of that holds a secret. Everything happens on one event loop. Knows
nothing of HTTP and nothing of templates.
"""

import asyncio
import json
import re
from pathlib import Path

from caravan.cluster.local.executor import write_json
from caravan.cluster.local.words import JsonDict, now_ns

_PATH = re.compile(r"[a-zA-Z0-9\-_~/]{1,128}")
_MOST_BYTES = 64 * 1024  # of a variable's names and values together, as Nomad


class Conflict(Exception):
    """Check-and-set on another index than the variable has; `found` is the variable as it is, or None."""

    def __init__(self, found: JsonDict | None) -> None:
        super().__init__("cas conflict")
        self.found = found


class Variables:
    """Variables by path, in the file at `path`. Raises OSError or ValueError when the file can't be used."""

    def __init__(self, path: Path) -> None:
        self._file = path
        self._held: dict[str, JsonDict] = {}
        self.index = 1
        self._moved = asyncio.Event()
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._held, self.index = stored["variables"], stored["index"]

    def get(self, path: str) -> JsonDict | None:
        """The variable in Nomad's shape, with its items."""
        return self._held.get(path)

    def listed(self, prefix: str = "") -> list[JsonDict]:
        """What is known of the variables without their items, by path."""
        found = (self._held[path] for path in sorted(self._held) if path.startswith(prefix))
        return [{k: v for k, v in variable.items() if k != "Items"} for variable in found]

    def put(self, path: str, items: dict[str, str], *, cas: int | None = None) -> JsonDict:
        """Replace a variable's items. `cas`: only when it has that ModifyIndex (0: when it is new); else Conflict."""
        there = self._checked(path, cas)
        now, index = now_ns(), self.index + 1
        new = {
            "CreateIndex": there["CreateIndex"] if there else index,
            "CreateTime": there["CreateTime"] if there else now,
            "Items": items,
            "ModifyIndex": index,
            "ModifyTime": now,
            "Namespace": "default",
            "Path": path,
        }
        self._save({**self._held, path: new}, index)
        return new

    def delete(self, path: str, *, cas: int | None = None) -> None:
        """Remove a variable; one that is not there is no error. Conflict as with `put`."""
        if self._checked(path, cas) is not None:
            self._save({p: v for p, v in self._held.items() if p != path}, self.index + 1)

    def _checked(self, path: str, cas: int | None) -> JsonDict | None:
        there = self._held.get(path)
        if cas is not None and cas != (there["ModifyIndex"] if there else 0):
            raise Conflict(there)
        return there

    def _save(self, held: dict[str, JsonDict], index: int) -> None:
        write_json(self._file, {"index": index, "variables": held})
        self._held, self.index = held, index
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    @property
    def moved(self) -> asyncio.Event:
        """Is set by the next change of any variable: to be taken before one looks."""
        return self._moved


def refusal(path: str, items: object) -> str:
    """Why a variable can't be written, in Nomad's words; empty when it can."""
    if not path:
        return "missing path"
    if not _PATH.fullmatch(path):
        return f'invalid path "{path}"'
    first, _, rest = path.partition("/")
    if first == "nomad" and rest.partition("/")[0] not in ("jobs", "job-templates"):
        return 'only paths at "nomad/jobs" or "nomad/jobs/<...>" are valid under "nomad/"'
    if not isinstance(items, dict) or not items:
        return "variable missing required Items object"
    if not all(isinstance(v, str) for v in items.values()):
        return "variable Items must be strings"
    if sum(len(k.encode()) + len(v.encode()) for k, v in items.items()) > _MOST_BYTES:
        return "variables are limited to 64KiB in total size"
    return ""


def readable_by(job_id: str, group: str, task: str) -> tuple[str, ...]:
    """The paths that a task may read without any policy: Nomad's rule for workloads."""
    base = f"nomad/jobs/{job_id}"
    return "nomad/jobs", base, f"{base}/{group}", f"{base}/{group}/{task}"
