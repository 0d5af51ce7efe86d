"""Nomad's formats: durations, times, ids, grouped errors. Pure; knows nothing of jobs or HTTP."""

import re
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

JsonDict: TypeAlias = dict[str, Any]
"""A JSON object in Nomad's shape."""

SECOND = 1_000_000_000
"""Nanoseconds in a second: Nomad's durations are nanoseconds."""

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}


def now_ns() -> int:
    """The time in nanoseconds since 1970."""
    return time.time_ns()


def new_id() -> str:
    """A random UUID."""
    return str(uuid.uuid4())


def rfc3339(ns: int) -> str:
    """A time in nanoseconds as Go writes it in JSON: UTC, nanoseconds without trailing zeros."""
    whole = datetime.fromtimestamp(ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{ns % SECOND:09d}".rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def go_duration(ns: int) -> str:
    """A duration as Go prints it: `1.5s`, `10m0s`, `1h0m0s`, `250ms`."""
    if ns == 0:
        return "0s"
    if ns < 0:
        return "-" + go_duration(-ns)
    if ns < SECOND:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if ns >= size:
                return _decimal(ns, size) + unit
    minutes, rest = divmod(ns, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    seconds = _decimal(rest, SECOND) + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    digits = len(str(size)) - 1
    fraction = f"{rest:0{digits}d}".rstrip("0") if digits else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


def parse_duration(text: str) -> int:
    """A Go duration (`1h30m`, `10s`, `500ms`) in nanoseconds. Raises ValueError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"invalid duration {text!r}")
    return sum(round(float(number) * _UNITS[unit]) for number, unit in parts)


def grouped(errors: Iterable[str]) -> str:
    """Several errors as one text, as Nomad's multierror writes them: counted, one to a line."""
    lines = list(errors)
    head = "1 error occurred:" if len(lines) == 1 else f"{len(lines)} errors occurred:"
    return head + "\n\t* " + "\n\t* ".join(lines) + "\n\n"


def go_quote(text: str) -> str:
    """A text in double quotes as Go's %q writes it, for the characters that occur in names and paths."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
