"""Task drivers: from a task's configuration to a command, or the reason, in Nomad's words, why there is none.

`docker` and `exec` run the command as a process with a view of its own (see `view`), where the machine allows that:
the inventory's image is a permission, not a file system, so the programs are this machine's. Without a view a process
can't be given mounts, and they are refused, not left out: a bind mount is then taken when it shows a path of this
machine at the same place, where a process sees it anyway (and could write to it, read-only or not).
"""

import contextlib
import hashlib
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.cluster.local import mounts
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.view import Mount, View
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
ISOLATING = frozenset({"docker", "exec"})
"""The drivers that give a task a view of its own."""


class InvalidConfig(Exception):
    """A configuration that the driver's schema refuses (Nomad's event Failed Validation)."""


class CannotStart(Exception):
    """A task that the driver can't start (Nomad's event Driver Failure). `recoverable`: another try may help."""

    def __init__(self, text: str, *, recoverable: bool = False) -> None:
        super().__init__(text)
        self.recoverable = recoverable


@dataclass(frozen=True)
class Command:
    """What to run: `executable` is the program's path, `argv` what it is told, its own name first."""

    executable: str
    argv: tuple[str, ...]
    cwd: str
    view: View | None = None


@dataclass(frozen=True)
class Started:
    """What a driver is given to start a task; `environment` is complete and `config` resolved.

    `isolated`: the machine gives tasks views of their own. `scratch` is a directory of the cluster for what lasts
    longer than a task, `folder` one of this run.
    """

    task: JsonDict
    group: JsonDict
    config: JsonDict
    environment: Mapping[str, str]
    place: TaskPlace
    node: Node
    devices: int
    alloc_id: str
    isolated: bool
    scratch: Path
    folder: Path

    @property
    def seen(self) -> TaskPlace:
        """Where the task finds its directories."""
        return seen_place(self.task["Driver"], self.place, isolated=self.isolated)


def seen_place(driver: str, place: TaskPlace, *, isolated: bool) -> TaskPlace:
    """Where a task of that driver finds its directories."""
    return mounts.INNER if isolated and driver in ISOLATING else place


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
    """raw_exec and exec."""
    failed = "failed to launch command with executor: "
    name, driver = start.config["command"], start.task["Driver"]
    isolated = start.isolated and driver in ISOLATING
    if start.task["VolumeMounts"] and not isolated:
        raise CannotStart(f"the built-in cluster can't mount volumes for the driver {driver} on this machine")
    shown = [*mounts.own(start.place), *_volumes(start)] if isolated else []
    cwd = start.config.get("work_dir") or str(mounts.INNER.local.parent if isolated else start.place.task_dir)
    if not Path(mounts.outer(cwd, shown)).is_dir():
        raise CannotStart(f"{failed}chdir {cwd}: no such file or directory")
    found = _find(name, start, shown)
    if found is None:
        raise CannotStart(f"{failed}rpc error: code = Unknown desc = binary {go_quote(name)} could not be found")
    _make_executable(Path(mounts.outer(found, shown)))
    return Command(found, (name, *_texts(start.config.get("args"))), cwd, _view(start, shown) if isolated else None)


def _make_executable(path: Path) -> None:
    """As Nomad: a file that is named as the command may be run. One of somebody else stays as it is."""
    mode = path.stat().st_mode
    if mode & 0o555 != 0o555:
        with contextlib.suppress(PermissionError):
            path.chmod(mode | 0o555)


def _volumes(start: Started) -> list[Mount]:
    return mounts.of_volumes(start.task, start.group, start.node, start.scratch)


def _view(start: Started, shown: list[Mount]) -> View:
    return View(str(start.folder / "root"), tuple(sorted(shown, key=lambda m: m.target.count("/"))))


def _find(name: str, start: Started, shown: list[Mount]) -> str | None:
    """A program, by the path that the task sees: in its directories, else on its PATH."""
    for folder in (start.seen.local, start.seen.task_dir):
        if not name.startswith("/") and Path(mounts.outer(str(folder / name), shown)).is_file():
            return str(folder / name)
    if "/" in name:
        real = Path(mounts.outer(name, shown))
        runs = real.is_file() and (start.task["Driver"] != "docker" or os.access(real, os.X_OK))
        return name if runs else None
    return shutil.which(name, path=start.environment.get("PATH", ""))


def _texts(values: Any) -> list[str]:
    return [str(v) for v in values or []]


def _docker(start: Started) -> Command:
    config = start.config
    driver = start.node.drivers["docker"]
    image = config["image"]
    if needs_pull(start):
        raise CannotStart(_pull_failure(image), recoverable=True)
    digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
    cause = f'Failed to create container configuration for image {go_quote(image)} ("{digest}"): '
    if config.get("runtime") and config["runtime"] not in driver.runtimes:
        raise CannotStart(cause + f"requested runtime {go_quote(config['runtime'])} is not allowed")
    if start.devices and "nvidia" not in driver.runtimes:
        raise CannotStart(cause + 'requested docker runtime "nvidia" was not found')
    if config.get("privileged") and not driver.allow_privileged:
        raise CannotStart(cause + "Docker privileged mode is disabled on this Nomad agent")
    shown = _docker_mounts(start, cause)
    words = [*_texts(_listed(config.get("entrypoint"))), *([config["command"]] if config.get("command") else [])]
    words += _texts(config.get("args"))
    if not words:
        raise CannotStart(f"the image {image} has no command here: name one in the task's config")
    found = _find(words[0], start, shown)
    if found is None:
        raise CannotStart(_not_started(start, words[0], shown), recoverable=True)
    if not start.isolated:
        cwd = Path(config.get("work_dir") or start.place.task_dir)
        return Command(found, tuple(words), str(cwd if cwd.is_dir() else start.place.task_dir))
    cwd = Path(config.get("work_dir") or "/")
    if not Path(mounts.outer(str(cwd), shown)).is_dir():  # Docker makes it
        made = start.folder / "work_dir"
        made.mkdir(parents=True, exist_ok=True)
        shown.append(Mount(str(cwd), str(made)))
    return Command(found, tuple(words), str(cwd), _view(start, shown))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _not_started(start: Started, name: str, shown: list[Mount]) -> str:
    """Why a container's command does not start, as Docker's daemon says it."""
    container = hashlib.sha256(f"{start.alloc_id}/{start.task['Name']}".encode()).hexdigest()
    reason = "executable file not found in $PATH"
    if "/" in name:
        real = Path(mounts.outer(name, shown))
        reason = "permission denied" if real.exists() else "no such file or directory"
        name_told = f"{go_quote(name)}: " if real.exists() else f"{go_quote(name)}: stat {name}: "
    else:
        name_told = f"{go_quote(name)}: "
    return (
        f"Failed to start container {container}: Error response from daemon: failed to create shim task: OCI "
        f"runtime create failed: runc create failed: unable to start container process: exec: {name_told}{reason}: "
        "unknown"
    )


def _docker_mounts(start: Started, cause: str) -> list[Mount]:
    """All that the task sees in places of its own. Raises CannotStart."""
    try:
        extra = mounts.of_docker(start.config, start.place, start.node, start.scratch)
    except mounts.BadMount as wrong:
        said = f"failed to create container: Error response from daemon: {wrong}" if wrong.daemon else f"{cause}{wrong}"
        raise CannotStart(said, recoverable=wrong.daemon) from wrong
    if start.isolated:
        return [*mounts.own(start.place), *_volumes(start), *extra]
    if start.task["VolumeMounts"] or any(m.source and m.source != m.target for m in extra):
        raise CannotStart(
            "the built-in cluster gives tasks no view of their own on this machine, so it can only show them paths "
            "where they are, nothing mounted elsewhere"
        )
    return []


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
