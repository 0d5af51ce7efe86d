"""Task drivers: from a task's configuration to a command, or the reason, in Nomad's words, why there is none.

`raw_exec` runs a command as it is, `exec` in a view of its own (see `view`) where the machine allows that. `docker` is
in `docker_driver`.
"""

import contextlib
import pwd
from collections.abc import Sequence
from pathlib import Path

from caravan.cluster.local import docker_driver, mounts
from caravan.cluster.local.docker_driver import container_name, image_of, needs_pull
from caravan.cluster.local.driver_parts import (
    ISOLATING,
    CannotStart,
    Command,
    Started,
    find,
    seen_place,
    texts,
    view_of,
    volumes_of,
)
from caravan.cluster.local.words import JsonDict, go_quote, grouped

__all__ = ["ISOLATING", "CannotStart", "Command", "Started", "container_name", "image_of", "needs_pull", "seen_place"]

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


class InvalidConfig(Exception):
    """A configuration that the driver's schema refuses (Nomad's event Failed Validation)."""


def check_config(driver: str, config: JsonDict, unknown: Sequence[str] = ()) -> None:
    """Raise InvalidConfig when the driver does not know an option or lacks one that it needs, or when a reference in
    it is `unknown`, which says why."""
    wrong = [
        f"Invalid label: No argument or block type is named {go_quote(name)}."
        for name in config
        if name not in _OPTIONS.get(driver, frozenset(config))
    ]
    wrong += unknown
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


def command(start: Started) -> Command:
    """The command of a task. Raises CannotStart."""
    if start.task["Driver"] == "docker":
        return docker_driver.command(start)
    return _process(start)


def _process(start: Started) -> Command:
    """raw_exec and exec."""
    failed = "failed to launch command with executor: "
    name, driver = start.config["command"], start.task["Driver"]
    isolated = start.isolated and driver in ISOLATING
    if start.task["VolumeMounts"] and not isolated:
        raise CannotStart(f"the built-in cluster can't mount volumes for the driver {driver} on this machine")
    shown = [*mounts.own(start.place), *volumes_of(start)] if isolated else []
    cwd = start.config.get("work_dir") or str(mounts.INNER.local.parent if isolated else start.place.task_dir)
    _check_user(start)
    found = find(name, start, shown)
    failed += "rpc error: code = Unknown desc = "
    if found is None:
        raise CannotStart(f"{failed}binary {go_quote(name)} could not be found")
    _make_executable(Path(mounts.outer(found, shown)))
    words = (found, *texts(start.config.get("args")))
    if not Path(mounts.outer(cwd, shown)).is_dir():
        told = " ".join(go_quote(word) for word in words)
        why = f"fork/exec {found}: no such file or directory"
        raise CannotStart(f"{failed}failed to start command path={go_quote(found)} --- args=[{told}]: {why}")
    return Command(found, words, cwd, view_of(start, shown) if isolated else None)


def _check_user(start: Started) -> None:
    """As the drivers: the user must be one of this machine's. Raises CannotStart."""
    user, directory = start.task["User"], str(start.config.get("work_dir") or "")
    before = "failed driver config validation: "
    if directory and not directory.startswith("/"):
        raw = start.task["Driver"] == "raw_exec"
        wrong = f"must be absolute but got relative path {go_quote(directory)}"
        raise CannotStart(f"{before}work_dir {'must be an absolute path' if raw else wrong}")
    if not user:
        return
    try:
        pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        before = before if start.task["Driver"] == "raw_exec" else ""
        text = f"failed host user validation: failed to identify user {go_quote(user)}: user: unknown user {user}"
        raise CannotStart(before + text) from None


def _make_executable(path: Path) -> None:
    """As Nomad: a file that is named as the command may be run. One of somebody else stays as it is."""
    mode = path.stat().st_mode
    if mode & 0o555 != 0o555:
        with contextlib.suppress(PermissionError):
            path.chmod(mode | 0o555)
