"""The daemon of Docker, through its client library: images, containers, what came of them. Its errors end here.

Every container that is made here carries the label of its cluster; no other one is ever touched. Knows no jobs.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from caravan.cluster.local.words import JsonDict

CLUSTER_LABEL = "caravan.cluster"
_ASK_SECONDS = 60
_PROBE_SECONDS = 2
_SAID = "Error response from daemon: "


class DaemonError(Exception):
    """What the daemon refuses, in its words. `missing`: there is no such thing."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """The library's errors as DaemonError."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        missing = isinstance(error, docker.errors.NotFound)
        raise DaemonError(_SAID + str(error.explanation or error).strip(), missing=missing) from error
    except docker.errors.DockerException as error:
        raise DaemonError(str(error)) from error
    except requests.RequestException as error:
        raise DaemonError(f"Cannot connect to the Docker daemon: {error}") from error


class Daemon:
    """One daemon. `cluster` marks the containers of ours."""

    def __init__(self, url: str, cluster: str) -> None:
        self.url = url
        self.cluster = cluster
        self._client: Any = None
        self.version = ""
        self.runtimes: tuple[str, ...] = ()

    @classmethod
    def find(cls, url: str, cluster: str) -> "Daemon | None":
        """The daemon at that address, or None when none answers."""
        import docker

        found = cls(url, cluster)
        try:
            with _heard():
                probe = docker.APIClient(base_url=url, version="auto", timeout=_PROBE_SECONDS)
                told = probe.info()
                found.version = str(probe.version()["Version"])
                probe.close()
                found._client = docker.APIClient(base_url=url, version="auto", timeout=_ASK_SECONDS)
        except DaemonError:
            return None
        found.runtimes = tuple(sorted(name for name in told.get("Runtimes") or {}))
        return found

    def image(self, name: str) -> str | None:
        """The id of an image that the daemon has, else None. Raises DaemonError."""
        try:
            with _heard():
                return str(self._client.inspect_image(name)["Id"])
        except DaemonError as error:
            if error.missing:
                return None
            raise

    def pull(self, name: str, auth: Mapping[str, str] | None) -> None:
        """Fetch an image. Raises DaemonError."""
        repository, tag = split_image(name)
        with _heard():
            for told in self._client.pull(
                repository, tag=tag, stream=True, decode=True, auth_config=dict(auth) if auth else None
            ):
                if "error" in told:
                    raise DaemonError(str(told["error"]))

    def create(self, name: str, config: JsonDict) -> str:
        """Make a container of ours; one of ours that has its name already is removed. Its id. Raises DaemonError."""
        self.remove(name)
        labels = {**(config.get("Labels") or {}), CLUSTER_LABEL: self.cluster}
        with _heard():
            return str(self._client.create_container_from_config({**config, "Labels": labels}, name)["Id"])

    def start(self, container: str) -> None:
        """Start a container. Raises DaemonError; it is then removed."""
        try:
            with _heard():
                self._client.start(container)
        except DaemonError:
            with contextlib.suppress(DaemonError), _heard():
                self._client.remove_container(container, force=True, v=True)
            raise

    def _own(self, name: str) -> JsonDict | None:
        """A container of ours by name, as the daemon shows it."""
        try:
            with _heard():
                found: JsonDict = self._client.inspect_container(name)
        except DaemonError as error:
            if error.missing:
                return None
            raise
        own = (found["Config"].get("Labels") or {}).get(CLUSTER_LABEL) == self.cluster
        return found if own else None

    def outcome(self, name: str) -> tuple[int, bool] | None:
        """The exit code of a container and whether it ran out of memory; one that still runs is ended. None: gone.

        Raises DaemonError.
        """
        found = self._own(name)
        if found is not None and found["State"]["Running"]:
            with contextlib.suppress(DaemonError), _heard():
                self._client.kill(found["Id"], "SIGKILL")
            with _heard():
                self._client.wait(found["Id"])
            found = self._own(name)
        return None if found is None else (int(found["State"]["ExitCode"]), bool(found["State"]["OOMKilled"]))

    def remove(self, name: str) -> None:
        """Remove a container of ours with its nameless volumes; nothing happens when there is none."""
        with contextlib.suppress(DaemonError):
            found = self._own(name)
            if found is not None:
                with _heard():
                    self._client.remove_container(found["Id"], force=True, v=True)

    def sweep(self, keep: Collection[str]) -> list[str]:
        """Remove all containers of ours but those that are named; their names."""
        removed: list[str] = []
        with contextlib.suppress(DaemonError), _heard():
            wanted = {"label": f"{CLUSTER_LABEL}={self.cluster}"}
            for found in self._client.containers(all=True, filters=wanted):
                name = str(found["Names"][0]).lstrip("/")
                if name not in keep:
                    self._client.remove_container(found["Id"], force=True, v=True)
                    removed.append(name)
        return removed

    def execute(self, name: str, command: Sequence[str]) -> int:
        """Run a command in a container; its exit code. Raises DaemonError."""
        with _heard():
            made = self._client.exec_create(name, list(command))["Id"]
            self._client.exec_start(made)
            return int(self._client.exec_inspect(made)["ExitCode"] or 0)

    def follow(self, name: str, stream: str) -> Iterator[bytes]:
        """All that a container has said and says on `stdout` or `stderr`, until its end. Raises DaemonError."""
        kinds = {"stdout": stream == "stdout", "stderr": stream == "stderr"}
        with _heard():
            yield from self._client.logs(name, stream=True, follow=True, **kinds)

    def wait(self, name: str) -> int:
        """Wait for a container's end; its exit code. Raises DaemonError."""
        with _heard():
            return int(self._client.wait(name, timeout=None)["StatusCode"])

    def kill(self, name: str, signal: int) -> None:
        """Send a signal to a container; one that has ended is no error."""
        with contextlib.suppress(DaemonError), _heard():
            self._client.kill(name, int(signal))


def split_image(name: str) -> tuple[str, str]:
    """An image's repository and tag; `latest` where none is named. A digest is a tag here, as the library has it."""
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")
