"""Checks of services of the provider `nomad`: asked at their intervals, their results, and what they restart.

Connections are opened here; what a check may do to its task is a function that is handed in.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from caravan.cluster.local import artifacts, events, services
from caravan.cluster.local.state import AllocRecord
from caravan.cluster.local.words import SECOND, JsonDict

Results = dict[str, dict[str, JsonDict]]
"""Of each allocation the newest result of each check, in the API's shape."""

_MOST_OUTPUT = 3 * 1024  # bytes of an answer that are kept, as Nomad's
_HEALTHY = "success"


@dataclass(frozen=True)
class Check:
    """A check of a service. `owner`: the task that it is of, empty for a group's; `address` is host and port."""

    spec: JsonDict
    service: str
    owner: str
    host: str
    port: int
    blank: JsonDict


def of_alloc(record: AllocRecord) -> Iterator[Check]:
    """The checks of an allocation's services, in order."""
    for owner, service, host, port in services.listed(record):
        for spec in service.get("Checks") or []:
            label = spec.get("PortLabel") or ""
            at = services.port_of(record, label) or (host, port) if label else (host, port)
            name = str(spec.get("Name") or "")
            task = str(spec.get("TaskName") or owner)
            parts = [record.id, record.body["TaskGroup"], task, service["Name"], name, spec.get("Type"), label]
            blank = {
                "Check": name,
                "Group": record.body["Name"],
                "ID": hashlib.sha256("\0".join(str(p) for p in parts).encode()).hexdigest(),
                "Mode": "readiness" if spec.get("OnUpdate") == "ignore" else "healthiness",
                "Output": "nomad: waiting to run",
                "Service": service["Name"],
                "Status": "pending",
                "Timestamp": int(time.time()),
            }
            yield Check(spec, service["Name"], owner, *at, {**blank, **({"Task": task} if task else {})})


Restart = Callable[[str, JsonDict], None]
"""What an unhealthy check does: told a task, empty for all, and the event."""


async def observe(
    checks: Sequence[Check], results: dict[str, JsonDict], restart: Callable[[str, JsonDict], None]
) -> None:
    """Ask all checks until cancelled. `restart` is told a task, empty for all, and the event of an unhealthy check."""
    for check in checks:
        results[check.blank["ID"]] = check.blank
    await asyncio.gather(*(_one(check, results, restart) for check in checks))


async def _one(check: Check, results: dict[str, JsonDict], restart: Restart) -> None:
    interval = max(int(check.spec.get("Interval") or 0), SECOND // 10) / SECOND
    limits = check.spec.get("CheckRestart") or {}
    grace_until = time.monotonic() + int(limits.get("Grace") or 0) / SECOND
    patience = interval * (int(limits.get("Limit") or 0) - 1)
    sick_since: float | None = None
    await asyncio.sleep(interval / 2)
    while True:
        found = await asyncio.to_thread(ask, check)
        results[check.blank["ID"]] = found
        now = time.monotonic()
        if found["Status"] == _HEALTHY:
            sick_since = None
        elif patience >= 0 and now >= grace_until:
            sick_since = now if sick_since is None else sick_since
            if now >= sick_since + patience:
                restart(check.owner, events.unhealthy(check.blank["Check"]))
                sick_since, grace_until = None, now + int(limits.get("Grace") or 0) / SECOND
        await asyncio.sleep(interval)


def ask(check: Check) -> JsonDict:
    """Ask once; the result in the API's shape."""
    seconds = max(int(check.spec.get("Timeout") or 0), SECOND // 10) / SECOND
    told = _http(check, seconds) if check.spec.get("Type") == "http" else _tcp(check, seconds)
    return {**check.blank, "Timestamp": int(time.time()), **told}


def _tcp(check: Check, seconds: float) -> JsonDict:
    import socket

    try:
        socket.create_connection((check.host, check.port), timeout=seconds).close()
    except OSError as error:
        url = f"http://{check.host}:{check.port}"
        said = f"dial tcp {check.host}:{check.port}: i/o timeout"
        return _failed(said if isinstance(error, TimeoutError) else artifacts.reason(error, url))
    return {"Output": "nomad: tcp ok", "Status": _HEALTHY}


def _http(check: Check, seconds: float) -> JsonDict:
    import requests

    spec = check.spec
    path = str(spec.get("Path") or "")
    url = f"{spec.get('Protocol') or 'http'}://{check.host}:{check.port}/{path.lstrip('/')}"
    method = str(spec.get("Method") or "GET")
    headers = {name: ",".join(values) for name, values in (spec.get("Header") or {}).items()}
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands before a service of this machine
            got = session.request(
                method, url, headers=headers, data=str(spec.get("Body") or ""), timeout=seconds, stream=True,
                verify=not spec.get("TLSSkipVerify"),
            )  # fmt: skip
            body = b"" if got.status_code == 200 else next(got.iter_content(_MOST_OUTPUT), b"")
    except requests.Timeout:
        return _failed(f'nomad: {method.title()} "{url}": context deadline exceeded')
    except requests.RequestException as error:
        return _failed(f'nomad: {method.title()} "{url}": {artifacts.reason(error, url)}')
    if got.status_code == 200:
        return {"Output": "nomad: http ok", "Status": _HEALTHY, "StatusCode": 200}
    status = _HEALTHY if got.status_code < 400 else "failure"
    return {"Output": body.decode(errors="replace"), "Status": status, "StatusCode": got.status_code}


def _failed(said: str) -> JsonDict:
    return {"Output": said, "Status": "failure"}
