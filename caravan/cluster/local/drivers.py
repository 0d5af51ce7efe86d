"""Task drivers: from a task's configuration to a command, or the reason, in Nomad's words, why there is none.

`docker` runs the command as a process of this machine: the inventory's image is a permission, not a file system, so
what the image would bring (paths, programs) must be here. What a process can't be given is refused, not left out: a
bind mount is taken when it shows a path of this machine at the same place, where a process sees it anyway (and could
write to it, read-only or not).
"""

import hashlib
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.cluster.local.inventory import Node
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.words import JsonDict, go_quote, grouped

_EXEC_OPTIONS = frozenset({"args", "cap_add", "cap_drop", "command", "ipc_mode", "pid_mode", "work_dir"})
_RAW_EXEC_OPTIONS = frozenset(
    {"args", "cgroup_v1_override", "cgroup_v2_override", "command", "denied_envvars", "oom_score_adj", "work_dir"}
)
_DOCKER_OPTIONS = frozenset(
    {
        *("advertise_ipv6_address", "args", "auth", "auth_soft_fail", "cap_add", "cap_drop", "cgroupns", "command"),
        *("container_exists_attempts", "cpu_cfs_period", "cpu_hard_limit", "cpuset_cpus", "devices", "dns_options"),
        *("dns_search_domains", "dns_servers", "entrypoint", "extra_hosts", "force_pull", "group_add", "healthchecks"),
        *("hostname", "image", "image_pull_timeout", "init", "interactive", "ipc_mode", "ipv4_address"),
        *("ipv6_address", "isolation", "labels", "load", "logging", "mac_address", "memory_hard_limit", "mount"),
        *("mounts", "network_aliases", "network_mode", "oom_score_adj", "pid_mode", "pids_limit", "port_map"),
        *("ports", "privileged", "readonly_rootfs", "runtime", "security_opt", "shm_size", "storage_opt", "sysctl"),
        *("tty", "ulimit", "userns_mode", "uts_mode", "volume_driver", "volumes", "windows_allow_insecure_container"),
        *("work_dir",),
    }
)
_OPTIONS = {"raw_exec": _RAW_EXEC_OPTIONS, "exec": _EXEC_OPTIONS, "docker": _DOCKER_OPTIONS}
_REGISTRY_SECONDS = 2.0


class InvalidConfig(Exception):
    """A configuration that the driver's schema refuses (Nomad's event Failed Validation)."""


class CannotStart(Exception):
    """A task that the driver can't start (Nomad's event Driver Failure)."""


@dataclass(frozen=True)
class Command:
    """What to run: `executable` is the program's path, `argv` what it is told, its own name first."""

    executable: str
    argv: tuple[str, ...]
    cwd: str


@dataclass(frozen=True)
class Started:
    """What a driver is given to start a task; `environment` is complete and `config` resolved."""

    task: JsonDict
    config: JsonDict
    environment: Mapping[str, str]
    place: TaskPlace
    node: Node
    devices: int
    alloc_id: str


def check_config(driver: str, config: JsonDict) -> None:
    """Raise InvalidConfig when the driver does not know an option or lacks one that it needs."""
    wrong = [
        f"Invalid label: No argument or block type is named {go_quote(name)}."
        for name in config
        if name not in _OPTIONS.get(driver, frozenset(config))
    ]
    needed = "image" if driver == "docker" else "command"
    if not config.get(needed):
        wrong.append(
            f"Missing required argument: The argument {go_quote(needed)} is required, but no definition was found."
        )
    if wrong:
        raise InvalidConfig(grouped(["failed to parse config: ", *wrong]))


def default_signal(driver: str) -> str:
    """The signal that ends a task that names none."""
    return "SIGTERM" if driver == "docker" else "SIGINT"


def exit_message(driver: str, code: int, oom: bool) -> str:
    """What the driver says of an end; empty when there is nothing to say."""
    if oom:
        return "OOM Killed"
    if driver == "docker" and code:
        return f"Docker container exited with non-zero exit code: {code}"
    return ""


def shown_signal(driver: str, signal: int) -> int:
    """The signal as the driver reports it: docker only knows exit codes."""
    return 0 if driver == "docker" else signal


def needs_pull(start: Started) -> bool:
    """Whether the task's image has to be fetched first."""
    return start.task["Driver"] == "docker" and start.config["image"] not in start.node.drivers["docker"].images


def command(start: Started) -> Command:
    """The command of a task. Raises CannotStart."""
    if start.task["Driver"] == "docker":
        return _docker(start)
    return _process(start)


def _process(start: Started) -> Command:
    name = start.config["command"]
    cwd = start.place.task_dir
    if start.task["VolumeMounts"]:
        raise CannotStart(f"the built-in cluster can't mount volumes for the driver {start.task['Driver']}")
    if start.config.get("work_dir"):
        cwd = Path(start.config["work_dir"])
        if not cwd.is_dir():
            raise CannotStart(f"failed to launch command with executor: chdir {cwd}: no such file or directory")
    found = _find(name, start)
    if found is None:
        raise CannotStart(
            f"failed to launch command with executor: rpc error: code = Unknown desc = binary {go_quote(name)} "
            "could not be found"
        )
    return Command(found, (name, *_texts(start.config.get("args"))), str(cwd))


def _find(name: str, start: Started) -> str | None:
    """A program: in the task's directories, else on its PATH."""
    for folder in (start.place.local, start.place.task_dir):
        if not name.startswith("/") and (folder / name).is_file():
            return str(folder / name)
    return shutil.which(name, path=start.environment.get("PATH", ""))


def _texts(values: Any) -> list[str]:
    return [str(v) for v in values or []]


def _docker(start: Started) -> Command:
    config = start.config
    driver = start.node.drivers["docker"]
    image = config["image"]
    if needs_pull(start):
        raise CannotStart(_pull_failure(image))
    digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
    cause = f'Failed to create container configuration for image {go_quote(image)} ("{digest}"): '
    if config.get("privileged") and not driver.allow_privileged:
        raise CannotStart(cause + "Docker privileged mode is disabled on this Nomad agent")
    if start.devices and "nvidia" not in driver.runtimes:
        raise CannotStart(cause + 'requested docker runtime "nvidia" was not found')
    _check_mounts(start)
    words = [*_texts(config.get("entrypoint")), *([config["command"]] if config.get("command") else [])]
    words += _texts(config.get("args"))
    if not words:
        raise CannotStart(f"the image {image} has no command here: name one in the task's config")
    cwd = Path(config.get("work_dir") or start.place.task_dir)
    if not cwd.is_dir():
        cwd = start.place.task_dir
    found = _find(words[0], start)
    if found is None:
        container = hashlib.sha256(f"{start.alloc_id}/{start.task['Name']}".encode()).hexdigest()
        raise CannotStart(
            f"Failed to start container {container}: Error response from daemon: failed to create shim task: OCI "
            "runtime create failed: runc create failed: unable to start container process: exec: "
            f"{go_quote(words[0])}: executable file not found in $PATH: unknown"
        )
    return Command(found, tuple(words), str(cwd))


def _check_mounts(start: Started) -> None:
    mounts = [*(start.config.get("mount") or []), *(start.config.get("mounts") or [])]
    for mount in mounts:
        source = mount.get("source") or ""
        if mount.get("type", "volume") == "bind" and not Path(source).exists():
            raise CannotStart(
                'failed to create container: Error response from daemon: invalid mount config for type "bind": bind '
                f"source path does not exist: {source}"
            )
    moved = any(m.get("type", "volume") != "bind" or m.get("source") != m.get("target") for m in mounts)
    if moved or start.config.get("volumes"):
        raise CannotStart(
            "the built-in cluster runs docker tasks as processes and can only show them paths of this machine where "
            "they are, nothing mounted elsewhere"
        )
    if start.task["VolumeMounts"]:
        raise CannotStart("the built-in cluster runs docker tasks as processes and can't mount volumes for them")


def _pull_failure(image: str) -> str:
    """Why an image can't be had. Only a registry on this machine is asked; nothing is ever fetched."""
    head, _, rest = image.partition("/")
    failed = f"Failed to pull `{image}`: Error response from daemon: "
    if rest and head.partition(":")[0] in ("127.0.0.1", "localhost"):
        host, _, port = head.partition(":")
        try:
            socket.create_connection((host, int(port or 80)), timeout=_REGISTRY_SECONDS).close()
        except (OSError, ValueError) as error:
            refused = isinstance(error, ConnectionRefusedError)
            reason = "connect: connection refused" if refused else str(error)
            return failed + f'Get "http://{head}/v2/": dial tcp {head}: {reason}'
    return failed + f"manifest for {image} not found: the built-in cluster has only the images of its inventory"
