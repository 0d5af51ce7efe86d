"""What an attempt used over its time, from the lines of its samplers.

There may be a hundred thousand lines, so they are read as plain JSON: each figure that is used is checked here.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from caravan.agent.thinning import Thinned
from caravan.ports import RunFolder
from caravan.values.curves import Curve
from caravan.values.samples import GIB_MB

_LONGEST: Final = 16384  # characters of a line
_MOST_MB: Final = 1e12
_DEVICES: Final = 64
_MEMBERS: Final = 16
_GIB: Final = "GiB"


class _Taken:
    """The curves of all members as they grow."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.since: float | None = None
        self.known: dict[tuple[str, str, str], Thinned[float]] = {}  # group, name, unit
        self.limits: dict[tuple[str, str, str], float] = {}

    def line(self, record: dict[str, Any], who: str) -> None:
        if record.get("kind") == "begin" and (limit := _amount(record.get("host_limit_mb"))) is not None:
            self.limits["host memory", f"{who}host memory", _GIB] = limit / GIB_MB
        at = _amount(record.get("at"))
        if at is None or record.get("kind"):
            return
        self.began = at if self.began is None else self.began
        minute = (at - self.began) / 60
        if self.since is None and record.get("phase") == "training":
            self.since = max(0.0, minute)
        self._add(("host memory", f"{who}host memory", _GIB), minute, record.get("host_mb"), 1 / GIB_MB)
        self._add(("cores in use", f"{who}cores", "cores"), minute, record.get("cores"))
        devices = record.get("gpus")
        for device in devices[:_DEVICES] if isinstance(devices, list) else []:
            if isinstance(device, dict):
                self._device(device, f"{who}GPU {_name(device.get('n'))}", minute)

    def _device(self, device: dict[str, Any], name: str, minute: float) -> None:
        memory = ("GPU memory", name, _GIB)
        self._add(memory, minute, device.get("used_mb"), 1 / GIB_MB)
        if (total := _amount(device.get("total_mb"))) is not None:
            self.limits[memory] = total / GIB_MB
        self._add(("GPU use", name, "%"), minute, device.get("busy"))

    def _add(self, key: tuple[str, str, str], minute: float, value: object, times: float = 1.0) -> None:
        amount = _amount(value)
        if amount is not None and (key in self.known or len(self.known) < 4 * _DEVICES):
            self.known.setdefault(key, Thinned(512)).add(minute, amount * times)


def resource_curves(folder: RunFolder, allocations: Mapping[str, int]) -> tuple[tuple[Curve, ...], float | None]:
    """The curves over minutes since the first sample, and when the training itself began, in such minutes."""
    taken = _Taken()
    several = len(set(allocations.values())) > 1
    for alloc_id, member in list(allocations.items())[:_MEMBERS]:
        who = f"node {member}, " if several else ""
        for line in folder.samples(alloc_id).splitlines():
            if len(line) > _LONGEST:
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                taken.line(record, who)
    curves = [_curve(key, values, taken.limits.get(key)) for key, values in taken.known.items()]
    return tuple(sorted(curves, key=lambda c: (c.group, c.name))), taken.since


def _curve(key: tuple[str, str, str], values: Thinned[float], limit: float | None) -> Curve:
    group, name, unit = key
    points = values.points()
    return Curve(
        name=name,
        group=group,
        unit=unit,
        over="minutes",
        x=tuple(round(at, 4) for at, _ in points),
        y=tuple(round(value, 4) for _, value in points),
        seen=values.seen,
        limit=limit,
    )


def _amount(value: object) -> float | None:
    """A figure that a sampler may say, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MOST_MB else None  # nan is in no range


def _name(value: object) -> str:
    return str(value)[:20] if isinstance(value, str | int) else "?"
