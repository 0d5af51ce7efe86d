"""No cluster: what stands in for one where a plan is only to be read.

It knows no node, and nothing can be registered with it.
"""

from collections.abc import Iterator, Mapping
from typing import NoReturn

from caravan.values.base import Json
from caravan.values.errors import ClusterError
from caravan.values.job import (
    CheckResult,
    ClusterFacts,
    ClusterKind,
    DryRun,
    FileEntry,
    RegisteredJob,
    ServiceAddress,
    TokenFacts,
)
from caravan.values.run import Snapshot


class NoCluster:
    """A plan's cluster that is not chosen yet: it tells that it is none, and refuses everything else."""

    def close(self) -> None:
        """Nothing is open."""

    def facts(self) -> ClusterFacts:
        """No node, and nothing known of any."""
        return ClusterFacts(kind=ClusterKind.NONE, address="")

    def token(self) -> TokenFacts | None:
        """There is nobody to ask."""
        return None

    def parse(self, hcl: str) -> Json:
        """Refused."""
        _refuse(hcl)

    def check(self, job: Json) -> DryRun:
        """Refused."""
        _refuse(job)

    def find(self, job_id: str, namespace: str = "default") -> RegisteredJob | None:
        """Refused."""
        _refuse(job_id, namespace)

    def register(self, job: Json, *, replaces: int = 0) -> RegisteredJob:
        """Refused."""
        _refuse(job, replaces)

    def services(self, name: str, namespace: str = "default") -> tuple[ServiceAddress, ...]:
        """Refused."""
        _refuse(name, namespace)

    def checks(self, alloc_id: str) -> tuple[CheckResult, ...]:
        """Refused."""
        _refuse(alloc_id)

    def snapshot(self, job_id: str, namespace: str = "default") -> Snapshot:
        """Refused."""
        _refuse(job_id, namespace)

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        """Refused."""
        _refuse(job_id, namespace)

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Refused."""
        _refuse(alloc_id, task, stream, offset, limit)

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        """Refused."""
        _refuse(alloc_id, path)

    def follow_log(self, alloc_id: str, task: str, stream: str, *, offset: int = 0) -> Iterator[bytes]:
        """Refused."""
        _refuse(alloc_id, task, stream, offset)

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        """Refused."""
        _refuse(alloc_id, path)

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        """Refused."""
        _refuse(alloc_id, path, offset, limit)

    def variable_names(self, path: str, namespace: str = "default") -> frozenset[str] | None:
        """Refused."""
        _refuse(path, namespace)

    def write_variable(self, path: str, items: Mapping[str, str], namespace: str = "default") -> None:
        """Refused."""
        _refuse(path, namespace, list(items))

    def remove_variable(self, path: str, namespace: str = "default") -> None:
        """Refused."""
        _refuse(path, namespace)

    def stop(self, job_id: str, namespace: str = "default", *, purge: bool = False) -> None:
        """Refused."""
        _refuse(job_id, namespace, purge)


def _refuse(*asked: Json) -> NoReturn:
    del asked
    raise ClusterError("A plan on paper has no cluster.", hint="Choose one with --cluster.")
