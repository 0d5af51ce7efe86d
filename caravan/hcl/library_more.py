"""More of what a job file's functions do: networks, dates, sets, tables, patterns, identifiers.

This module knows nothing of expressions and places. `library` gathers all functions.
"""

import csv
import io
import ipaddress
import itertools
import json
import math
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from caravan.hcl.convert import json_value, same, to_string

_DATE: Final = re.compile(r"'(?:[^']|'')*'|Y+|M+|D+|E+|h+|H+|A+|a+|m+|s+|Z+|[^A-Za-z']+|[A-Za-z]")
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def cidr_host(prefix: str, number: int) -> str:
    """The address of that number in a network; a negative one counts from its end."""
    net = _network(prefix)
    at = number if number >= 0 else net.num_addresses + number
    if not 0 <= at < net.num_addresses:
        raise ValueError(f"prefix of {net.prefixlen} does not accommodate a host numbered {number}")
    return str(net[int(at)])


def cidr_netmask(prefix: str) -> str:
    """The mask of a network of version 4."""
    return str(_network(prefix).netmask)


def cidr_subnet(prefix: str, bits: int, number: int) -> str:
    """The subnet of that number, by so many more bits."""
    net = _network(prefix)
    length = net.prefixlen + int(bits)
    if length > net.max_prefixlen:
        raise ValueError(f"insufficient address space to extend prefix of {net.prefixlen} by {bits}")
    if not 0 <= number < 1 << int(bits):
        raise ValueError(f"prefix extension of {bits} does not accommodate a subnet numbered {number}")
    start = int(net.network_address) + (int(number) << (net.max_prefixlen - length))
    return f"{type(net.network_address)(start)}/{length}"


def cidr_subnets(prefix: str, *bits: int) -> list[str]:
    """Subnets one after the other, each by so many more bits."""
    net = _network(prefix)
    at, found = int(net.network_address), []
    for more in bits:
        length = net.prefixlen + int(more)
        size = 1 << (net.max_prefixlen - length)
        at = -(-at // size) * size
        if length > net.max_prefixlen or at + size > int(net.broadcast_address) + 1:
            raise ValueError(f"not enough remaining address space for a subnet with a prefix of {length} bits")
        found.append(f"{type(net.network_address)(at)}/{length}")
        at += size
    return found


def _network(prefix: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        raise ValueError(f"invalid CIDR expression: invalid CIDR address: {prefix}") from None


def csv_table(text: str) -> list[dict[str, str]]:
    """The rows of a table by the names in its first line."""
    rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        raise ValueError("missing header line")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if row]


def format_date(form: str, stamp: str) -> str:
    """A time in another form: `YYYY-MM-DD'T'hh:mm:ssZ` and the like."""
    time = _time(stamp)
    offset = time.strftime("%z")
    named: dict[str, Callable[[], str]] = {
        "YYYY": lambda: f"{time.year:04}", "YY": lambda: f"{time.year % 100:02}",
        "MMMM": lambda: time.strftime("%B"), "MMM": lambda: time.strftime("%b"),
        "MM": lambda: f"{time.month:02}", "M": lambda: str(time.month),
        "DD": lambda: f"{time.day:02}", "D": lambda: str(time.day),
        "EEEE": lambda: time.strftime("%A"), "EEE": lambda: time.strftime("%a"),
        "hh": lambda: f"{time.hour:02}", "h": lambda: str(time.hour),
        "HH": lambda: f"{(time.hour + 11) % 12 + 1:02}", "H": lambda: str((time.hour + 11) % 12 + 1),
        "AA": lambda: "AM" if time.hour < 12 else "PM", "aa": lambda: "am" if time.hour < 12 else "pm",
        "mm": lambda: f"{time.minute:02}", "m": lambda: str(time.minute),
        "ss": lambda: f"{time.second:02}", "s": lambda: str(time.second),
        "ZZZZZ": lambda: f"{offset[:3]}:{offset[3:]}", "ZZZZ": lambda: offset,
        "ZZZ": lambda: "UTC" if offset == "+0000" else offset,
        "Z": lambda: "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}",
    }  # fmt: skip
    out = []
    for part in _DATE.findall(form):
        if part.startswith("'"):
            out.append(part[1:-1].replace("''", "'"))
        elif part[0].isalpha():
            if part not in named:
                raise ValueError(f'invalid date format verb "{part}"')
            out.append(named[part]())
        else:
            out.append(part)
    return "".join(out)


def time_add(stamp: str, span: str) -> str:
    """A time later, or earlier, by a duration."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", span)
    if not parts or "".join(n + u for n, u in parts) != span.lstrip("+-"):
        raise ValueError(f'time: invalid duration "{span}"')
    seconds = sum(float(n) * _UNITS[u] for n, u in parts) * (-1 if span.startswith("-") else 1)
    time = _time(stamp) + timedelta(seconds=seconds)
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _time(stamp: str) -> datetime:
    if not _STAMP.fullmatch(stamp):
        raise ValueError(f'not a valid RFC3339 timestamp: "{stamp}"')
    found = datetime.fromisoformat(stamp)
    return found.astimezone(UTC) if stamp.endswith("Z") else found


def format_list(each: Callable[..., str], pattern: str, *values: Any) -> list[str]:
    """A format for each of the lists' elements; what is no list is used every time."""
    lengths = {len(v) for v in values if isinstance(v, list)}
    if len(lengths) > 1:
        raise ValueError("argument lists must all have the same length")
    many = lengths.pop() if lengths else 1
    return [each(pattern, *(v[i] if isinstance(v, list) else v for v in values)) for i in range(many)]


def regex_replace(text: str, pattern: str, new: str) -> str:
    """Every match of a pattern by a text, in which `$1` and `${name}` stand for what was matched."""
    try:
        return re.sub(pattern, re.sub(r"\$(\d+|\{\w+\})", lambda m: f"\\g<{m[1].strip('{}')}>", new), text)
    except re.error as error:
        raise ValueError(f"invalid regexp pattern: {error}") from None


def united(*sets: list[Any]) -> list[Any]:
    """What is in any of the sets, in their order."""
    return _sorted([x for found in sets for x in found])


def common(first: list[Any], *others: list[Any]) -> list[Any]:
    """What is in all of the sets."""
    return _sorted([x for x in first if all(any(same(x, y) for y in other) for other in others)])


def product(*sets: list[Any]) -> list[list[Any]]:
    """All combinations of one element of each."""
    return [list(found) for found in itertools.product(*sets)]


def _sorted(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if not any(same(item, seen) for seen in out):
            out.append(item)
    return sorted(out, key=lambda v: "" if isinstance(v, list | dict) else str(to_string(v)))


def logarithm(number: Any, base: Any) -> float:
    """The logarithm to a base."""
    return math.log(float(number)) / math.log(float(base))


def named_uuid(space: str, name: str) -> str:
    """The identifier that always belongs to a name."""
    spaces = {"dns": uuid.NAMESPACE_DNS, "url": uuid.NAMESPACE_URL, "oid": uuid.NAMESPACE_OID}
    spaces["x500"] = uuid.NAMESPACE_X500
    try:
        return str(uuid.uuid5(spaces.get(space) or uuid.UUID(space), name))
    except ValueError:
        raise ValueError(f"uuidv5() doesn't support namespace {space}") from None


def yaml_text(value: Any) -> str:
    """A value as YAML: texts in double quotes, maps by their keys' order."""
    return "".join(line + "\n" for line in _yaml(value))


def _yaml(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key in sorted(value) for line in _under(f"{json.dumps(key)}:", value[key], nested=True)]
    if isinstance(value, list) and value:
        return [line for item in value for line in _under("-", item, nested=False)]
    return [json.dumps(json_value(value), ensure_ascii=False)]


def _under(head: str, value: Any, *, nested: bool) -> list[str]:
    lines = _yaml(value)
    if not (isinstance(value, dict | list) and value):
        return [f"{head} {lines[0]}"]
    if nested:
        return [head, *(line if isinstance(value, list) else f"  {line}" for line in lines)]
    return [f"{head} {lines[0]}", *(f"  {line}" for line in lines[1:])]


def from_yaml(text: str) -> Any:
    """What a YAML document says. Raises ValueError."""
    import yaml

    try:
        return _plain(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _plain(value: Any) -> Any:
    """A YAML document as HCL has values: keys are texts, and so is what HCL has no type for, as dates."""
    if isinstance(value, dict):
        return {json.dumps(k) if isinstance(k, bool | None) else str(k): _plain(item) for k, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("a number is required")
    return value if isinstance(value, bool | int | float | str | None) else str(value)
