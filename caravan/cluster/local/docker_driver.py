"""The driver `docker`: a container where Docker's daemon answers and has the image, else a process in its stead.

An image that only the inventory declares is a permission, not a file system, so the programs are this machine's.
Without a view a process can't be given mounts, and they are refused, not left out: a bind mount is then taken when it
shows a path of this machine at the same place, where a process sees it anyway (and could write to it in any case).
"""

import hashlib
import socket
import sys
from pathlib import Path
from typing import Any

from caravan.cluster.local import container_config, mounts
from caravan.cluster.local.containers import Daemon, DaemonError, split_image
from caravan.cluster.local.driver_parts import CannotStart, Command, Started, find, texts, view_of, volumes_of
from caravan.cluster.local.view import Mount
from caravan.cluster.local.words import JsonDict, go_quote

_REGISTRY_SECONDS = 2.0
_PROJECT = Path(__file__).resolve().parents[3]  # the directory that the package is imported from


def in_container(start: Started) -> bool:
    """Whether the task's image is there for Docker's daemon. Asks it."""
    if start.task["Driver"] != "docker" or start.daemon is None or _pulls_anyway(start):
        return False
    try:
        return start.daemon.image(image_of(start)) is not None
    except DaemonError:
        return False


def image_of(start: Started) -> str:
    """The image as the driver reads it."""
    return str(start.config["image"]).removeprefix("https://")


def _pulls_anyway(start: Started) -> bool:
    """Whether the image is fetched although it may be there: by the job's wish, or for its moving tag."""
    return bool(start.config.get("force_pull")) or split_image(image_of(start))[1] == "latest"


def needs_pull(start: Started) -> bool:
    """Whether the task's image has to be fetched first: nobody has it, and no inventory declares it. May ask."""
    if start.task["Driver"] != "docker" or image_of(start) in start.node.drivers["docker"].images:
        return False
    return not in_container(start)


def command(start: Started) -> Command:
    """The container's watcher, or the process in its stead. Makes and starts the container. Raises CannotStart."""
    image = image_of(start)
    made = in_container(start)
    if not made and needs_pull(start):
        _pull(start, image)
        made = True
    digest = (start.daemon.image(image) if made and start.daemon else "") or _digest(image)
    cause = f"Failed to create container configuration for image {go_quote(image)} ({go_quote(digest)}): "
    _check_docker(start, cause)
    return _container(start, start.daemon, cause) if made and start.daemon else _stand_in(start, image, cause)


def _digest(image: str) -> str:
    return "sha256:" + hashlib.sha256(image.encode()).hexdigest()


def _check_docker(start: Started, cause: str) -> None:
    """What the driver refuses before it asks the daemon for anything. Raises CannotStart."""
    config, driver = start.config, start.node.drivers["docker"]
    if start.devices and "nvidia" not in driver.runtimes:
        raise CannotStart(cause + 'requested docker runtime "nvidia" was not found')
    if start.devices and config.get("runtime") not in (None, "", "nvidia"):
        clash = f'gpu runtime "nvidia" conflicts with task runtime {go_quote(config["runtime"])}'
        raise CannotStart(f"{cause}conflicting runtime requests: {clash}")
    if config.get("runtime") and config["runtime"] not in driver.runtimes:
        raise CannotStart(cause + f"requested runtime {go_quote(config['runtime'])} is not allowed")
    if config.get("privileged") and not driver.allow_privileged:
        raise CannotStart(cause + "Docker privileged mode is disabled on this Nomad agent")
    named = {n["Label"] for network in start.group.get("Networks") or [] for n in _ports_of(network)}
    for port in config.get("ports") or []:
        if port not in named:
            raise CannotStart(f"{cause}Port {go_quote(str(port))} not found, check network block")


def _ports_of(network: JsonDict) -> list[JsonDict]:
    return [*(network.get("DynamicPorts") or []), *(network.get("ReservedPorts") or [])]


def _pull(start: Started, image: str) -> None:
    """Have the daemon fetch an image; without one say why it can't be had. Raises CannotStart."""
    if start.daemon is None:
        raise CannotStart(_pull_failure(image), recoverable=True)
    auth = container_config.merged(start.config.get("auth"))
    try:
        start.daemon.pull(image, {k: v for k, v in auth.items() if v} or None)
    except DaemonError as error:
        raise CannotStart(f"Failed to pull `{image}`: {error}", recoverable=True) from error


def container_name(task: str, alloc_id: str) -> str:
    """The name of a task's container, as the driver gives it."""
    return f"{task.replace('/', '_')}-{alloc_id}"


def _container(start: Started, daemon: Daemon, cause: str) -> Command:
    """Make and start the task's container. Raises CannotStart."""
    name = container_name(start.task["Name"], start.alloc_id)
    try:
        config = container_config.container_config(
            {**start.config, "image": image_of(start)},
            task=start.task,
            environment=start.own,
            alloc_id=start.alloc_id,
            held=start.held,
            binds=container_config.own_binds(start.place, start.config, volumes_of(start)),
            shown=container_config.own_mounts(start.config, start.place, start.node),
        )
    except container_config.BadConfig as wrong:
        raise CannotStart(f"{cause}{wrong}") from wrong
    runtime = start.config.get("runtime") or ("nvidia" if start.devices else "")
    if runtime in daemon.runtimes:  # a declared card needs no runtime, and a daemon may have none
        config["HostConfig"]["Runtime"] = runtime
    try:
        made = daemon.create(name, config)
    except DaemonError as error:
        raise CannotStart(f"failed to create container: {error}") from error
    try:
        daemon.start(made)
    except DaemonError as error:
        raise CannotStart(f"Failed to start container {made}: {error}") from error
    words = (sys.executable, "-m", "caravan.cluster.local.container_watch", daemon.url, name)
    return Command(sys.executable, words, str(_PROJECT), container=name)


def _stand_in(start: Started, image: str, cause: str) -> Command:
    """A process in place of a container: the image is only declared. Raises CannotStart."""
    config = start.config
    shown = _docker_mounts(start, cause)
    words = [*texts(_listed(config.get("entrypoint"))), *([config["command"]] if config.get("command") else [])]
    words += texts(config.get("args"))
    if not words:
        raise CannotStart(f"the image {image} has no command here: name one in the task's config")
    found = find(words[0], start, shown)
    if found is None:
        raise CannotStart(_not_started(start, words[0], shown))
    if not start.isolated:
        cwd = Path(config.get("work_dir") or start.place.task_dir)
        return Command(found, tuple(words), str(cwd if cwd.is_dir() else start.place.task_dir))
    cwd = Path(config.get("work_dir") or "/")
    outer = Path(mounts.outer(str(cwd), shown))
    if outer.exists() and not outer.is_dir():
        raise CannotStart(_work_dir_failure(start, str(cwd)))
    if not outer.is_dir():  # Docker makes it
        made = start.folder / "work_dir"
        made.mkdir(parents=True, exist_ok=True)
        shown.append(Mount(str(cwd), str(made)))
    return Command(found, tuple(words), str(cwd), view_of(start, shown))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _container_id(start: Started) -> str:
    return hashlib.sha256(f"{start.alloc_id}/{start.task['Name']}".encode()).hexdigest()


def _work_dir_failure(start: Started, path: str) -> str:
    """Why a container does not start whose working directory is a file, as Docker's daemon says it."""
    return (
        f"Failed to start container {_container_id(start)}: Error response from daemon: failed to create shim task: "
        "OCI runtime create failed: runc create failed: unable to start container process: chdir to cwd "
        f"({go_quote(path)}) set in config.json failed: not a directory: unknown"
    )


def _not_started(start: Started, name: str, shown: list[Mount]) -> str:
    """Why a container's command does not start, as Docker's daemon says it."""
    reason = "executable file not found in $PATH"
    if "/" in name:
        real = Path(mounts.outer(name, shown))
        reason = "permission denied" if real.exists() else "no such file or directory"
        name_told = f"{go_quote(name)}: " if real.exists() else f"{go_quote(name)}: stat {name}: "
    else:
        name_told = f"{go_quote(name)}: "
    return (
        f"Failed to start container {_container_id(start)}: Error response from daemon: failed to create shim task: "
        f"OCI runtime create failed: runc create failed: unable to start container process: exec: {name_told}{reason}: "
        "unknown"
    )


def _docker_mounts(start: Started, cause: str) -> list[Mount]:
    """All that the task sees in places of its own. Raises CannotStart."""
    try:
        extra = mounts.of_docker(start.config, start.place, start.node, start.scratch)
    except mounts.BadMount as wrong:
        said = f"failed to create container: Error response from daemon: {wrong}" if wrong.daemon else f"{cause}{wrong}"
        raise CannotStart(said) from wrong
    if start.isolated:
        return [*mounts.own(start.place), *volumes_of(start), *extra]
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
