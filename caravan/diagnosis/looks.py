"""Looks: what no single line shows, as small predicates over the lines of a log. Pure; rows name them.

Thresholds are physical where they can be (who holds a GPU's memory), else stated with their reason.
"""

import math
import re
from typing import Final

from caravan.diagnosis.details import gib
from caravan.diagnosis.series import STRETCH, losses
from caravan.diagnosis.sign import Seen, is_warning

_EXCEPTION: Final = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|OutOfResources)\b|^(?:[a-z_]\w*\.)+[A-Z]\w+:"
)
_NUMERIC: Final = re.compile(r"\b(?:nan|inf|infinity|non-?finite|not finite|overflow)\b", re.IGNORECASE)
_WRAPPER: Final = re.compile(r"ChildFailedError|CalledProcessError|ProcessRaisedException|DistBackendError")

# A cross-entropy in nats: below 5 something was learnt, above 5 little is known; what it had learnt it does not lose
# by noise. Of a loss on another scale nothing is known but its ratio.
_CONFUSED: Final = 5.0
_LEARNT: Final = 2.5  # times
_BLOWN: Final = 10.0  # times


def _ended_otherwise(lines: tuple[str, ...]) -> bool:
    """Whether an exception that speaks of no number ended the program: then the losses are not why."""
    return any(_EXCEPTION.match(s) and not _NUMERIC.search(s) and not _WRAPPER.search(s) for s in lines)


def _values(lines: tuple[str, ...]) -> dict[str, list[tuple[float, int]]]:
    found: dict[str, list[tuple[float, int]]] = {}
    for index, line in enumerate(lines):
        if not is_warning(line):
            for name, value in losses(line.lower()):
                found.setdefault(name, []).append((value, index))
    return found


def lost_numbers(lines: tuple[str, ...]) -> Seen | None:
    """A loss whose last value is no finite number, in a log that no other exception ended."""
    if _ended_otherwise(lines):
        return None
    for name, values in _values(lines).items():
        if not math.isfinite(values[-1][0]):
            first = next(index for value, index in values if not math.isfinite(value))
            return Seen((lines[first],), first, {"metric": name, **_step(lines[first])})
    return None


def blown_up(lines: tuple[str, ...]) -> Seen | None:
    """A loss that ends far above what it had come down to and stays there, in a log that no exception ended."""
    if _ended_otherwise(lines):
        return None
    for name, values in _values(lines).items():
        if len(values) < 2 * STRETCH or not all(math.isfinite(value) for value, _ in values):
            continue
        stretches = (values[start : start + STRETCH] for start in range(len(values) - STRETCH))
        least = max(min(stretches, key=lambda some: max(value for value, _ in some)))[0]
        last, index = min(values[-STRETCH:])
        wanted = max(_LEARNT * least, _CONFUSED) if 0 <= least < _CONFUSED else _BLOWN * abs(least)
        if last > wanted:
            return Seen((lines[index],), index, {"metric": name, **_step(lines[index])})
    return None


_STEP: Final = re.compile(r"\b(?:global_)?(?:step|iter(?:ation)?)s?['\"]?\s*[=:]?\s*(\d+)", re.IGNORECASE)


def _step(line: str) -> dict[str, str]:
    match = _STEP.search(line)
    return {"step": match[1]} if match else {}


_GROUP: Final = re.compile(r"Could not find '(?P<option>[\w.@-]+)/(?P<value>[\w./-]+)'$")


def no_such_group_option(lines: tuple[str, ...]) -> Seen | None:
    """Hydra's words on a group's option that is not there, with the options that it lists below."""
    for index, line in enumerate(lines):
        match = _GROUP.search(line)
        if match is None:
            continue
        head = f"Available options in '{match['option']}':"
        listed = []
        for below in lines[lines.index(head) + 1 :] if head in lines else ():
            if not below[:1].isspace():
                break
            listed.append(below.strip())
        return Seen((line,), index, {**match.groupdict(), **({"choices": ",".join(listed)} if listed else {})})
    return None


_SIZE = r"(\d+(?:\.\d+)? [KMGT]?i?B)"
_OOM: Final = re.compile(r"(?:CUDA|HIP) out of memory\. Tried to allocate")
_TOTAL: Final = re.compile(rf"total capacity of {_SIZE}|{_SIZE} total capacity")
_FREE: Final = re.compile(rf"of which {_SIZE} is free|{_SIZE} free")
_OWN: Final = re.compile(rf"this process has {_SIZE} memory in use")
_ALLOCATED: Final = re.compile(rf"{_SIZE} is allocated by PyTorch|{_SIZE} already allocated")
_RESERVED: Final = re.compile(rf"{_SIZE} is reserved by PyTorch|{_SIZE} reserved in total")
_CONTEXT_GIB: Final = 1.5  # what CUDA, cuBLAS and NCCL hold of their own beside the allocator's memory
_OTHERS: Final = 0.25  # share of the GPU in other hands from which on it is they who are too large


def held_by_others(lines: tuple[str, ...]) -> Seen | None:
    """A CUDA out-of-memory message by whose own figures another process holds much of the GPU."""
    for index, line in enumerate(lines):
        if not _OOM.search(line):
            continue
        total, free, own = _gib(_TOTAL, line), _gib(_FREE, line), _gib(_OWN, line)
        if own is None:
            allocated, reserved = _gib(_ALLOCATED, line), _gib(_RESERVED, line)
            if allocated is None or reserved is None:
                continue
            # "reserved in total" holds what is allocated, "reserved but unallocated" comes on top of it.
            own = (reserved if "reserved in total" in line else allocated + reserved) + _CONTEXT_GIB
        if total and free is not None and total - free - own > _OTHERS * total:
            return Seen((line,), index, {"total_gib": f"{total:g}", "free_gib": f"{free:g}"})
    return None


def _gib(pattern: re.Pattern[str], line: str) -> float | None:
    match = pattern.search(line)
    text = gib(next((group for group in match.groups() if group), "")) if match else ""
    return float(text) if text else None
