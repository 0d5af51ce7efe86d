"""From a docker task to the container that Docker's daemon is asked for. Pure but for the directories of mounts.

What the driver refuses is told by BadConfig in its words. Containers share the machine's network unless the task says
otherwise: the addresses that this cluster gives out are the loopback's.
"""

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from caravan.cluster.local import mounts
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.view import Mount
from caravan.cluster.local.words import JsonDict, go_quote

_MB: Final = 1024 * 1024
_ULIMIT: Final = "failed to parse ulimit configuration: "
_LOGS: Final = {"Type": "json-file", "Config": {"max-file": "2", "max-size": "2m"}}  # the driver's default
_ALLOC_LABEL: Final = "com.hashicorp.nomad.alloc_id"
_PLAIN: Final = {
    "cap_add": "CapAdd",
    "cap_drop": "CapDrop",
    "cgroupns": "CgroupnsMode",
    "dns_options": "DnsOptions",
    "dns_search_domains": "DnsSearch",
    "dns_servers": "Dns",
    "extra_hosts": "ExtraHosts",
    "group_add": "GroupAdd",
    "init": "Init",
    "ipc_mode": "IpcMode",
    "oom_score_adj": "OomScoreAdj",
    "pid_mode": "PidMode",
    "privileged": "Privileged",
    "readonly_rootfs": "ReadonlyRootfs",
    "security_opt": "SecurityOpt",
    "shm_size": "ShmSize",
    "userns_mode": "UsernsMode",
    "uts_mode": "UTSMode",
}


class BadConfig(Exception):
    """A configuration that the driver refuses."""


def merged(value: Any) -> dict[str, str]:
    """A map that a block or a list of blocks gives: the driver's options of that kind come as either."""
    blocks = value if isinstance(value, list) else [value] if value else []
    return {str(k): str(v) for block in blocks for k, v in (block or {}).items()}


def container_config(
    config: JsonDict,
    *,
    task: JsonDict,
    environment: Mapping[str, str],
    alloc_id: str,
    held: JsonDict,
    binds: list[str],
    shown: list[JsonDict],
) -> JsonDict:
    """The container's configuration in the daemon's shape. `held` is what the task got, in Nomad's shape; `binds` and
    `shown` are its directories and mounts. Raises BadConfig."""
    entrypoint = config.get("entrypoint")
    command = [str(config["command"])] if config.get("command") else []
    words = command + [str(a) for a in config.get("args") or []]
    made: JsonDict = {
        "Cmd": words or None,
        "Entrypoint": [entrypoint] if isinstance(entrypoint, str) else entrypoint,
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        "Hostname": config.get("hostname") or "",
        "Image": config["image"],
        "Labels": {**merged(config.get("labels")), _ALLOC_LABEL: alloc_id},
        "OpenStdin": bool(config.get("interactive")),
        "Tty": bool(config.get("tty")),
        "User": task["User"] or "",
        "WorkingDir": config.get("work_dir") or "",
        "HostConfig": _host_config(config, held, binds, shown),
    }
    return {key: value for key, value in made.items() if value not in (None, "")}


def _host_config(config: JsonDict, held: JsonDict, binds: list[str], shown: list[JsonDict]) -> JsonDict:
    memory, highest = int(held["Memory"]["MemoryMB"]), int(held["Memory"].get("MemoryMaxMB") or 0)
    limit = max(highest, int(config.get("memory_hard_limit") or 0)) or memory
    if memory > limit:
        raise BadConfig(f"task memory requirements exceed driver hard limit of {config['memory_hard_limit']} MB")
    logging = (config.get("logging") or [{}])[0] if isinstance(config.get("logging"), list) else config.get("logging")
    kind = (logging or {}).get("type") or (logging or {}).get("driver")
    host: JsonDict = {
        "Binds": binds,
        "CpuShares": int(held["Cpu"]["CpuShares"]),
        "CpusetCpus": ",".join(str(c) for c in held["Cpu"]["ReservedCores"] or []),
        "LogConfig": {"Type": kind, "Config": merged((logging or {}).get("config"))} if kind else _LOGS,
        "Memory": limit * _MB,
        "MemorySwap": limit * _MB,
        "Mounts": shown,
        "NetworkMode": config.get("network_mode") or "host",
        "PidsLimit": int(config.get("pids_limit") or -1),
        "StorageOpt": merged(config.get("storage_opt")),
        "Sysctls": merged(config.get("sysctl")),
        "Ulimits": _ulimits(merged(config.get("ulimit"))),
        "Devices": [_device(d) for d in config.get("devices") or []],
    }
    if limit > memory:
        host["MemoryReservation"] = memory * _MB
    host |= {there: config[ours] for ours, there in _PLAIN.items() if config.get(ours)}
    if host.get("ShmSize"):
        host["ShmSize"] = int(host["ShmSize"])
    return {key: value for key, value in host.items() if value not in (None, "", [], {})}


def _ulimits(given: Mapping[str, str]) -> list[JsonDict]:
    """`name = soft` or `soft:hard`. Raises BadConfig."""
    made = []
    for name, text in sorted(given.items()):
        soft, _, hard = text.partition(":")
        if not text:
            raise BadConfig(f'{_ULIMIT}Malformed ulimit specification {name}: "", cannot be empty')
        try:
            made.append({"Name": name, "Soft": int(soft), "Hard": int(hard or soft)})
        except ValueError:
            raise BadConfig(f"{_ULIMIT}Malformed soft ulimit {name}: {text}") from None
    return made


def _device(given: JsonDict) -> JsonDict:
    if not given.get("host_path"):
        raise BadConfig("host path must be set in configuration for devices")
    inner = given.get("container_path") or given["host_path"]
    return {
        "PathOnHost": given["host_path"],
        "PathInContainer": inner,
        "CgroupPermissions": given.get("cgroup_permissions") or "rwm",
    }


def own_binds(place: TaskPlace, config: JsonDict, volumes: list[Mount]) -> list[str]:
    """The task's own directories, its host volumes and the option `volumes`, as Docker's binds."""
    binds = [f"{m.source}:{m.target}{':ro' if m.read_only else ''}" for m in [*mounts.own(place), *volumes]]
    for spec in config.get("volumes") or []:
        source, colon, rest = str(spec).partition(":")
        if not colon or not source or not rest:
            raise BadConfig(f"invalid docker volume {go_quote(str(spec))}: not <src>:<destination> format")
        outer = source if config.get("volume_driver") else posixpath.join(str(place.task_dir), source)
        binds.append(f"{posixpath.normpath(outer)}:{rest}")
    return binds


def own_mounts(config: JsonDict, place: TaskPlace, node: Node) -> list[JsonDict]:
    """The options `mount` and `mounts` as the daemon reads them. Raises BadConfig."""
    enabled = node.drivers["docker"].volumes
    made = []
    for given in [*(config.get("mount") or []), *(config.get("mounts") or [])]:
        kind, source = given.get("type") or "volume", str(given.get("source") or "")
        one: JsonDict = {
            "Type": kind,
            "Target": given.get("target") or "",
            "ReadOnly": str(given.get("readonly")).lower() in ("true", "1"),
        }
        if kind == "bind":
            one["Source"] = source = posixpath.normpath(posixpath.join(str(place.task_dir), source))
            if not enabled and place.alloc_dir.parent not in Path(source).parents:
                raise BadConfig(f"volumes are not enabled; cannot mount host path: {go_quote(source)}")
            propagation = _first(given.get("bind_options")).get("propagation")
            one |= {"BindOptions": {"Propagation": propagation}} if propagation else {}
        elif kind == "tmpfs":
            told = _first(given.get("tmpfs_options"))
            sizes = {"SizeBytes": int(told.get("size") or 0), "Mode": int(told.get("mode") or 0)}
            one["TmpfsOptions"] = {key: value for key, value in sizes.items() if value}
        else:
            if not enabled:
                raise BadConfig(f"volumes are not enabled; cannot mount volume: {go_quote(source)}")
            one["Source"] = source
        made.append(one)
    return made


def _first(value: Any) -> JsonDict:
    found = value[0] if isinstance(value, list) and value else value
    return dict(found or {})
