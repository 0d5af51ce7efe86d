"""What is wrong with a group's networks and services, in Nomad's words. Pure."""

import re
from collections.abc import Iterator

from caravan.cluster.local.words import SECOND, JsonDict, go_duration, go_quote, grouped

_MOST_PORT = 65535
_SERVICE_NAME = re.compile(r"(?i:[a-z0-9]|[a-z0-9][a-z0-9\-]{0,61}[a-z0-9])")
_ADDRESS_MODES = ("host", "driver", "alloc", "alloc_ipv6")


def network_errors(group: JsonDict) -> Iterator[str]:
    """Port labels and static ports of a group and its tasks."""
    labels: dict[str, str] = {}
    taken: dict[tuple[str, int], str] = {}
    listed = [(net, "taskgroup network") for net in group["Networks"] or []]
    listed += [(net, t["Name"]) for t in group["Tasks"] for net in t["Resources"]["Networks"] or []]
    for net, owner in listed:
        for port in [*(net.get("ReservedPorts") or []), *(net.get("DynamicPorts") or [])]:
            label, value, to = port.get("Label") or "", int(port.get("Value") or 0), int(port.get("To") or 0)
            if label in labels:
                yield f"Port label {label} already in use by {labels[label]}"
            labels.setdefault(label, owner)
            place = (port.get("HostNetwork") or "default", value)
            if value and place in taken and not port.get("IgnoreCollision"):
                yield f"Static port {value} already reserved by {taken[place]}"
            elif value > _MOST_PORT:
                yield f"Port {label} ({value}) cannot be greater than {_MOST_PORT}"
            elif value:
                taken[place] = f"{owner}:{label}"
            if to < -1:
                yield f"Port {go_quote(label)} cannot be mapped to negative value {to}"
            elif to > _MOST_PORT:
                yield f"Port {go_quote(label)} cannot be mapped to a port ({to}) greater than {_MOST_PORT}"


def service_errors(group: JsonDict) -> Iterator[str]:
    """A group's services, and what they have in common with those of its tasks."""
    every = [("group", s) for s in group["Services"] or []]
    every = [*((t["Name"], s) for t in group["Tasks"] for s in t["Services"] or []), *every]
    for number, service in enumerate(group["Services"] or []):
        inner = list(_one_service(service))
        if inner:
            yield f"Service[{number}] {service.get('Name') or ''} validation failed: {grouped(inner)}"
        elif service.get("AddressMode") == "driver":
            yield (
                f'service {go_quote(service["Name"])} cannot use address_mode="driver", only services defined in a '
                '"task" block can use this mode'
            )
    ids = [(owner, s.get("Name") or "", s.get("PortLabel") or "") for owner, s in every]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        told = ", ".join(f"{owner}->{name}" + (f":{port}" if port else "") for owner, name, port in twice)
        yield f"Services are not unique: [{told}]"
    if len({s.get("Provider") or "consul" for _, s in every}) > 1:
        yield "Multiple service providers used: task group services must use the same provider"


def _one_service(service: JsonDict) -> Iterator[str]:
    name = re.sub(r"\$\{[^}]*\}", "ENV-VAR", service.get("Name") or "")
    if not _SERVICE_NAME.fullmatch(name):
        yield (
            "Service name must be valid per RFC 1123 and can contain only alphanumeric characters or dashes and must "
            f"be no longer than 63 characters: {go_quote(service.get('Name') or '')}"
        )
    mode = service.get("AddressMode") or "auto"
    if mode in _ADDRESS_MODES and service.get("Address"):
        yield 'Service address_mode must be "auto" if address is set'
    elif mode not in ("auto", *_ADDRESS_MODES):
        yield f'Service address_mode must be "auto", "host", or "driver"; not {go_quote(mode)}'
    if (service.get("OnUpdate") or "ignore") not in ("ignore", "require_healthy", "ignore_warnings"):
        known = '"require_healthy", "ignore_warnings", or "ignore"'
        yield f"Service on_update must be {known}; not {go_quote(service['OnUpdate'])}"
    provider = service.get("Provider") or "consul"
    if provider not in ("consul", "nomad"):
        yield f'Service provider must be "consul", or "nomad"; not {go_quote(provider)}'
        return
    for check in service.get("Checks") or []:
        found = _check_error(check, service, provider)
        if found:
            yield found
    if provider == "nomad" and service.get("Connect"):
        yield "Service with provider nomad cannot include Connect blocks"


def _check_error(check: JsonDict, service: JsonDict, provider: str) -> str:
    """The first mistake of a service's check; empty when it is sound."""
    kind = (check.get("Type") or "").lower()
    if kind in ("http", "tcp", "grpc") and not service.get("PortLabel") and not check.get("PortLabel"):
        asked = "check requires a port but neither check nor service"
        return f"Check {check.get('Name') or ''} invalid: {asked} {go_quote(service.get('Name') or '')} have a port"
    allowed = ["tcp", "http"] if provider == "nomad" else ["grpc", "tcp", "http", "script"]
    if kind not in allowed:
        return f"invalid check type ({go_quote(kind)}), must be one of {', '.join(allowed)}"
    if kind == "http" and not check.get("Path"):
        return "http type must have http path"
    if kind == "script" and not check.get("Command"):
        return "script type must have a valid script path"
    interval, timeout = int(check.get("Interval") or 0), int(check.get("Timeout") or 0)
    if not interval:
        return "missing required value interval. Interval cannot be less than 1s"
    if interval < SECOND:
        return f"interval ({go_duration(interval)}) cannot be lower than 1s"
    if not timeout:
        return "missing required value timeout. Timeout cannot be less than 1s"
    if timeout < SECOND:
        return f"timeout ({go_duration(timeout)}) is lower than required minimum timeout 1s"
    return ""


def task_service_errors(task: JsonDict, group: JsonDict) -> Iterator[str]:
    """A task's services."""
    nets = [*(group["Networks"] or [])[:1], *(task["Resources"]["Networks"] or [])]
    known = {p["Label"] for n in nets for p in [*(n.get("ReservedPorts") or []), *(n.get("DynamicPorts") or [])]}
    asked: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    for number, service in enumerate(task["Services"] or []):
        name, port = service.get("Name") or "", service.get("PortLabel") or ""
        found = list(_one_service(service))
        if found:
            yield f"service[{number}] {go_quote(name)} validation failed: {grouped(found)}"
        if (name, port) in seen:
            yield f"service {go_quote(name)} is duplicate"
        seen.add((name, port))
        if port and not (service.get("AddressMode") == "driver" and port.isdigit()):
            asked.setdefault(port, set()).add(name)
    for port in sorted(asked):
        if port not in known:
            yield f"port label {go_quote(port)} referenced by services {', '.join(sorted(asked[port]))} does not exist"
