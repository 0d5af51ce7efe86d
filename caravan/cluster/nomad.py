"""`NomadCluster`: the port `Cluster` over Nomad's HTTP API, for a real Nomad and for the built-in cluster alike.

Holds which calls are made and what their answers mean for the port. What JSON means is read in `facts` and
`snapshots`; a job is read in `reading` and watched in `watcher`; how requests fail is mapped in `connection`. Must not
know why a job is deployed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from caravan.cluster.addresses import Proxies
from caravan.cluster.connection import Connection
from caravan.cluster.files import AllocFiles
from caravan.cluster.hub import Reviver
from caravan.cluster.reading import JobReader
from caravan.cluster.snapshots import one_line, to_placement_failures, to_registered
from caravan.cluster.survey import Survey
from caravan.cluster.variables import Variables, token_facts
from caravan.cluster.watcher import Watcher
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.checkup import Examination
from caravan.values.errors import (
    JobNotFound,
    JobRefused,
    UsageError,
)
from caravan.values.job import (
    CheckResult,
    ClusterFacts,
    DryRun,
    FileEntry,
    RegisteredJob,
    ServiceAddress,
    TokenFacts,
)
from caravan.values.run import Snapshot


class NomadCluster:
    """A Nomad cluster at `address` (http, https or a unix socket; `caravan.cluster.addresses`).

    `namespace` is used where a job or call names none. `verify` is True, False or the path of a file or directory of
    CA certificates, `cert` the paths of client certificate and key, `server_name` the name that the server's
    certificate is for, `http_auth` `user:password` for a gateway. `timeout`: seconds for a whole answer;
    `outage_limit`: seconds that `watch` and `follow_log` ride out; `reviver` starts a cluster again that is ours to
    start and has died. Raises UsageError for an address, token, proxy or certificate that can't be used; nothing is
    sent yet.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None,
        namespace: str,
        region: str | None,
        verify: bool | str,
        cert: tuple[str, str] | None,
        clock: Clock,
        server_name: str | None = None,
        http_auth: str | None = None,
        proxies: Proxies | None = None,
        timeout: float = 15.0,
        outage_limit: float = 120.0,
        reviver: Reviver | None = None,
    ) -> None:
        from nomad import api

        if namespace == "*":
            raise UsageError("A job needs one namespace, and * is all of them.", hint="Set NOMAD_NAMESPACE to one.")
        self._connection = Connection(
            address,
            token=token,
            region=region,
            verify=verify,
            cert=cert,
            clock=clock,
            timeout=timeout,
            server_name=server_name,
            http_auth=http_auth,
            proxies=proxies,
        )
        self._namespace = namespace or "default"
        self._clock = clock
        self._has_token = bool(token)
        self._verified = None if not self._connection.address.startswith("https") else verify is not False
        self._reader = JobReader(self._connection, clock)
        self._watcher = Watcher(self._connection, self._reader, clock, outage_limit=outage_limit, reviver=reviver)
        self._files = AllocFiles(self._connection, clock, namespace=self._namespace, outage_limit=outage_limit)
        self._variables = Variables(self._connection)
        # python-nomad's endpoints one by one: its `Nomad` class takes token, namespace, region and certificates from
        # the environment where they are not given, so another cluster's token could go to this one. The namespace
        # is passed with each call, because one in the query would outrank the job's own. The token is in the session.
        settings: dict[str, Any] = {
            "address": self._connection.address,
            "region": region,
            "verify": True,  # the session's own TLS holds, whatever stands here
            "timeout": self._connection.timeouts,
            "session": self._connection.session,
        }
        self._survey = Survey(
            self._connection, api.Agent(**settings), api.Nodes(**settings), api.Node(**settings), self._namespace
        )
        self._job = api.Job(**settings)
        self._jobs = api.Jobs(**settings)
        self._validate = api.Validate(**settings)

    def __repr__(self) -> str:
        return f"NomadCluster({self._connection!r}, namespace={self._namespace!r})"

    def close(self) -> None:
        """Let go of the connections."""
        self._watcher.close()
        self._connection.close()

    def _ask(self, request: Callable[[], Any], kind: type, what: str, *, repeat: bool = True) -> Json:
        """A plain call of python-nomad whose answer is a JSON value of that kind."""
        return self._connection.shape(self._connection.call(request, what=what, repeat=repeat), kind, what)

    def facts(self) -> ClusterFacts:
        """Version, node inventory and CSI volumes. ClusterError for a Nomad that is too old."""
        return self._survey.facts()

    def parse(self, hcl: str) -> Json:
        """The cluster's canonical JSON of a job in HCL."""
        what = "parse the job"
        # By the session: python-nomad's parse follows redirects, and takes no variables (needed later).
        response = self._connection.send(
            "POST",
            "/v1/jobs/parse",
            what=what,
            params={"namespace": self._namespace},
            json={"JobHCL": hcl, "Canonicalize": True},
            repeat=True,
        )
        return self._connection.shape(self._connection.call(response.json, what=what), dict, what)

    def check(self, job: Json) -> DryRun:
        """Nomad's validate, then (for a valid job) its plan."""
        body = {"Job": self._placed(job)}
        what = "validate the job"
        try:
            # python-nomad hands back the response here: Nomad answers 200 for invalid jobs too.
            said = self._ask(lambda: self._validate.validate_job(body).json(), dict, what)
            with self._connection.reading(what):
                errors = _lines(said.get("ValidationErrors") or ([said["Error"]] if said.get("Error") else []))
                warnings = _bullets(said.get("Warnings") or "")
            if errors:
                return DryRun(errors=errors, warnings=warnings)
            what = "plan the job"
            plan = self._ask(lambda: self._job.plan_job(quote(job["ID"], safe=""), body), dict, what)
        except JobRefused as refusal:
            return DryRun(errors=_lines([refusal.message]))
        with self._connection.reading(what):
            return DryRun(
                warnings=tuple(dict.fromkeys(warnings + _bullets(plan.get("Warnings") or ""))),
                failures=to_placement_failures(plan.get("FailedTGAllocs")),
            )

    def _placed(self, job: Json) -> Json:
        return job if job.get("Namespace") else {**job, "Namespace": self._namespace}

    def find(self, job_id: str, namespace: str = "default") -> RegisteredJob | None:
        """The job of that id, or None."""
        job = self._job_document(job_id, namespace, repeat=True)
        if job is None:
            return None
        with self._connection.reading("read the job"):
            return to_registered(job)

    def _job_document(self, job_id: str, namespace: str, *, repeat: bool) -> Json | None:
        try:
            return self._ask(
                lambda: self._job.get_job(quote(job_id, safe=""), namespace), dict, "read the job", repeat=repeat
            )
        except JobNotFound:
            return None

    def register(self, job: Json, *, replaces: int = 0) -> RegisteredJob:
        """Register a job under a new id, or in place of one. Never repeated: unanswered it may have taken effect."""
        job = self._placed(job)
        what = f"register the job {job['ID']}"
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": replaces}
        answer = self._ask(lambda: self._jobs.register_job(body), dict, what, repeat=False)
        with self._connection.reading(what):
            return RegisteredJob(
                id=job["ID"],
                namespace=job["Namespace"],
                status="pending",
                modify_index=answer["JobModifyIndex"],
                meta=job.get("Meta") or {},
            )

    def snapshot(self, job_id: str, namespace: str = "default") -> Snapshot:
        """The job now."""
        return self._reader.snapshot(job_id, namespace)[0]

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        """Snapshots until the job has ended or is gone; the last one again as a heartbeat, in an outage too."""
        return self._watcher.watch(job_id, namespace)

    def services(self, name: str, namespace: str = "default") -> tuple[ServiceAddress, ...]:
        """Where a service is registered."""
        what = f"find the service {name}"
        path = f"/v1/service/{quote(name, safe='')}"
        found = self._listed(path, what, list, {"namespace": namespace})
        with self._connection.reading(what):
            return tuple(
                ServiceAddress(address=one["Address"], port=one["Port"], alloc_id=one.get("AllocID") or "")
                for one in found or ()
            )

    def checks(self, alloc_id: str) -> tuple[CheckResult, ...]:
        """What an allocation's checks said last."""
        what = "read the checks"
        found = self._listed(f"/v1/client/allocation/{quote(alloc_id, safe='')}/checks", what, dict, {})
        with self._connection.reading(what):
            return tuple(
                CheckResult(
                    name=one.get("Check") or "",
                    service=one.get("Service") or "",
                    status=one["Status"],
                    output=one_line(one.get("Output") or "", 500),
                )
                for _, one in sorted((found or {}).items())
            )

    def _listed(self, path: str, what: str, kind: type, params: dict[str, str]) -> Any:
        """The answer to a GET, or None where there is no such thing."""
        try:
            response = self._connection.send("GET", path, what=what, params=params, repeat=True)
            answer = self._connection.call(response.json, what=what)
        except JobNotFound:
            return None
        return None if answer is None else self._connection.shape(answer, kind, what)

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Bytes of a task's log from `offset` on, counted from the oldest log file that the client still keeps."""
        return self._files.logs(alloc_id, task, stream, offset=offset, limit=limit)

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        """A file of the allocation, whole, or None. A file of more than 16 MiB raises ClusterError."""
        return self._files.read_file(alloc_id, path)

    def follow_log(self, alloc_id: str, task: str, stream: str, *, offset: int = 0) -> Iterator[bytes]:
        """A log as it is written, over cut connections, until the task is over."""
        return self._files.follow_log(alloc_id, task, stream, offset=offset)

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        """What is in a directory of the allocation, or None."""
        return self._files.list_files(alloc_id, path)

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        """A part of a file of the allocation."""
        return self._files.read_part(alloc_id, path, offset=offset, limit=limit)

    def variable_names(self, path: str, namespace: str = "default") -> frozenset[str] | None:
        """The names of a variable's items, or None."""
        return self._variables.names(path, namespace)

    def write_variable(self, path: str, items: Mapping[str, str], namespace: str = "default") -> None:
        """Set items of a variable; never repeated."""
        self._variables.write(path, items, namespace)

    def remove_variable(self, path: str, namespace: str = "default") -> None:
        """Remove a variable; one that is not there is no error."""
        self._variables.remove(path, namespace)

    def token(self) -> TokenFacts | None:
        """The token in use, or None where the cluster knows no ACL."""
        return token_facts(self._connection)

    def examine(self) -> Examination:
        """Everything that can be asked without changing anything: for `doctor`. Raises nothing that a cluster does."""
        from caravan.cluster.probes import Prober

        prober = Prober(self, self._connection, self._clock, self._namespace)
        return prober.examine(has_token=self._has_token, verified=self._verified)

    def stop(self, job_id: str, namespace: str = "default", *, purge: bool = False) -> None:
        """Stop a job; `purge` also forgets it."""
        job = quote(job_id, safe="")
        flag = "true" if purge else None  # python-nomad would write True

        def request() -> Any:
            return self._job.deregister_job(job, namespace=namespace, purge=flag)

        try:
            self._connection.call(request, what=f"stop the job {job_id}", repeat=True)  # a second stop changes nothing
        except JobNotFound:
            return


def _lines(texts: list[str]) -> tuple[str, ...]:
    return tuple(one_line(t, 2000) for t in texts)


def _bullets(warnings: str) -> tuple[str, ...]:
    """Nomad's `2 warnings:\\n\\n* one\\n* two` as the single warnings."""
    found = [one_line(line.strip()[1:], 2000) for line in warnings.splitlines() if line.strip().startswith("*")]
    return tuple(found) if found else _lines([warnings] if warnings.strip() else [])
