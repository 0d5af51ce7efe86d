"""The cluster, whose words hold no secrets: errors, reasons and task events as they come in, before anybody keeps them.

Logs and files pass as they are: their copies are masked where they are written, by offset into the true bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from caravan.ports import Cluster
from caravan.values.base import Json
from caravan.values.errors import CaravanError
from caravan.values.job import (
    CheckResult,
    ClusterFacts,
    DryRun,
    FileEntry,
    RegisteredJob,
    ServiceAddress,
    TokenFacts,
)
from caravan.values.masking import mask
from caravan.values.run import Allocation, Snapshot, TaskEvent, TaskState


class MaskedCluster:
    """The port Cluster over another one. `secrets` are values known to be secret; others are known by their shape.

    `close` lets go of the other one's connections.
    """

    def __init__(self, cluster: Cluster, secrets: tuple[str, ...], *, close: Callable[[], None] = lambda: None) -> None:
        self._cluster = cluster
        self._secrets = secrets
        self._close = close

    def close(self) -> None:
        """Let go of the connections."""
        self._close()

    def _plain(self, text: str) -> str:
        return mask(text, self._secrets)

    @contextmanager
    def _words(self) -> Iterator[None]:
        """Errors as they come, with their words masked. What they were raised from is left behind: it has them too."""
        try:
            yield
        except CaravanError as error:
            message, hint = self._plain(error.message), self._plain(error.hint)
            if (message, hint) == (error.message, error.hint):
                raise
            told = type(error)(message, hint=hint)
        else:
            return
        raise told  # outside the handler, so that the error as it came does not hang on this one

    def facts(self) -> ClusterFacts:
        """As the cluster answers."""
        with self._words():
            return self._cluster.facts()

    def parse(self, hcl: str) -> Json:
        """As the cluster answers."""
        with self._words():
            return self._cluster.parse(hcl)

    def check(self, job: Json) -> DryRun:
        """As the cluster answers, its words masked."""
        with self._words():
            found = self._cluster.check(job)
        errors, warnings = (tuple(map(self._plain, texts)) for texts in (found.errors, found.warnings))
        return found.model_copy(update={"errors": errors, "warnings": warnings})

    def find(self, job_id: str, namespace: str = "default") -> RegisteredJob | None:
        """As the cluster answers."""
        with self._words():
            return self._cluster.find(job_id, namespace)

    def register(self, job: Json, *, replaces: int = 0) -> RegisteredJob:
        """As the cluster answers."""
        with self._words():
            return self._cluster.register(job, replaces=replaces)

    def services(self, name: str, namespace: str = "default") -> tuple[ServiceAddress, ...]:
        """As the cluster answers."""
        with self._words():
            return self._cluster.services(name, namespace)

    def checks(self, alloc_id: str) -> tuple[CheckResult, ...]:
        """As the cluster answers, its words masked."""
        with self._words():
            found = self._cluster.checks(alloc_id)
        return tuple(c.model_copy(update={"output": self._plain(c.output)}) for c in found)

    def snapshot(self, job_id: str, namespace: str = "default") -> Snapshot:
        """As the cluster answers, its words masked."""
        with self._words():
            return self._seen(self._cluster.snapshot(job_id, namespace))

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        """As the cluster answers, its words masked."""
        with self._words():
            for snapshot in self._cluster.watch(job_id, namespace):
                yield self._seen(snapshot)

    def _seen(self, snapshot: Snapshot) -> Snapshot:
        allocations = tuple(self._allocation(a) for a in snapshot.allocations)
        return snapshot.model_copy(update={"reason": self._plain(snapshot.reason), "allocations": allocations})

    def _allocation(self, allocation: Allocation) -> Allocation:
        texts = {name: self._plain(getattr(allocation, name)) for name in ("client_description", "desired_description")}
        return allocation.model_copy(update={**texts, "tasks": tuple(self._task(t) for t in allocation.tasks)})

    def _task(self, task: TaskState) -> TaskState:
        return task.model_copy(update={"events": tuple(self._event(e) for e in task.events)})

    def _event(self, event: TaskEvent) -> TaskEvent:
        details = {name: self._plain(text) for name, text in event.details.items()}
        return event.model_copy(update={"message": self._plain(event.message), "details": details})

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """As the cluster answers."""
        with self._words():
            return self._cluster.logs(alloc_id, task, stream, offset=offset, limit=limit)

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        """As the cluster answers."""
        with self._words():
            return self._cluster.read_file(alloc_id, path)

    def follow_log(self, alloc_id: str, task: str, stream: str, *, offset: int = 0) -> Iterator[bytes]:
        """As the cluster answers."""
        with self._words():
            yield from self._cluster.follow_log(alloc_id, task, stream, offset=offset)

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        """As the cluster answers."""
        with self._words():
            return self._cluster.list_files(alloc_id, path)

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        """As the cluster answers."""
        with self._words():
            return self._cluster.read_part(alloc_id, path, offset=offset, limit=limit)

    def variable_names(self, path: str, namespace: str = "default") -> frozenset[str] | None:
        """As the cluster answers."""
        with self._words():
            return self._cluster.variable_names(path, namespace)

    def write_variable(self, path: str, items: Mapping[str, str], namespace: str = "default") -> None:
        """As the cluster answers."""
        with self._words():
            self._cluster.write_variable(path, items, namespace)

    def remove_variable(self, path: str, namespace: str = "default") -> None:
        """As the cluster answers."""
        with self._words():
            self._cluster.remove_variable(path, namespace)

    def token(self) -> TokenFacts | None:
        """As the cluster answers."""
        with self._words():
            return self._cluster.token()

    def stop(self, job_id: str, namespace: str = "default", *, purge: bool = False) -> None:
        """As the cluster answers."""
        with self._words():
            self._cluster.stop(job_id, namespace, purge=purge)
