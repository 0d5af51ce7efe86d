"""The API's jobs and evaluations."""

from collections import Counter
from functools import partial
from itertools import pairwise

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caravan.cluster.local import allocs
from caravan.cluster.local.broker import NAMESPACES, Broker, Refused
from caravan.cluster.local.canonical import waits_for_dispatch
from caravan.cluster.local.diff import job_diff
from caravan.cluster.local.encoding import Kept, encoded, listed
from caravan.cluster.local.state import AllocRecord, State
from caravan.cluster.local.web import answer, body_of, flag, settle
from caravan.cluster.local.words import JsonDict, grouped

_LIST = ("CreateIndex", "ID", "JobModifyIndex", "ModifyIndex", "Name", "Namespace", "NodePool", "ParentID", "Priority")
_WRITTEN = ("plan", "evaluate", "dispatch", "revert", "stable", "periodic/force", "action")
_LIST_STATE = ("Status", "StatusDescription", "Stop", "SubmitTime", "Type", "Version")


class Jobs:
    """Handlers for jobs and evaluations, over the state and the broker."""

    def __init__(self, state: State, broker: Broker) -> None:
        self._state = state
        self._broker = broker
        self._items, self._stubs, self._evals = Kept(), Kept(), Kept()

    def routes(self) -> list[Route]:
        """The routes; those with a longer path first, for job ids may hold slashes."""
        get = partial(Route, methods=["GET"])
        put = partial(Route, methods=["PUT", "POST"])
        return [
            get("/v1/jobs", self.list),
            put("/v1/jobs", self.register),
            put("/v1/jobs/parse", self.parse),
            put("/v1/validate/job", self.validate),
            put("/v1/job/{id:path}/plan", self.plan),
            put("/v1/job/{id:path}/evaluate", self.evaluate),
            *(get(f"/v1/job/{{id:path}}/{part}", self.wrong_method) for part in _WRITTEN),
            get("/v1/job/{id:path}/allocations", self.allocations),
            get("/v1/job/{id:path}/evaluations", self.evaluations),
            get("/v1/job/{id:path}/summary", self.summary),
            get("/v1/job/{id:path}/versions", self.versions),
            get("/v1/job/{id:path}", self.read),
            put("/v1/job/{id:path}", self.register),
            Route("/v1/job/{id:path}", self.delete, methods=["DELETE"]),
            get("/v1/evaluations", self.all_evaluations),
            get("/v1/evaluation/{id}/allocations", self.evaluation_allocations),
            get("/v1/evaluation/{id}", self.evaluation),
        ]

    async def wrong_method(self, _: Request) -> Response:
        """A path of a job's that is not read: else it would be taken for the id of one."""
        raise Refused("Invalid method", 405)

    def _here(self, request: Request) -> bool:
        """Whether the request asks for a namespace that there is."""
        return request.query_params.get("namespace", "default") in (*NAMESPACES, "*")

    def _find(self, request: Request) -> JsonDict | None:
        return self._state.jobs.get(request.path_params["id"]) if self._here(request) else None

    def _job(self, request: Request) -> JsonDict:
        found = self._find(request)
        if found is None:
            raise Refused("job not found", 404)
        return found

    async def list(self, request: Request) -> Response:
        """GET /v1/jobs."""
        index = await settle(request, self._state, lambda: self._state.tables["jobs"])
        prefix, meta = request.query_params.get("prefix", ""), flag(request, "meta")
        jobs = self._state.jobs if self._here(request) else {}
        found = [jobs[key] for key in sorted(jobs) if key.startswith(prefix)]
        if meta:
            return answer([{**self._item(job), "Meta": job["Meta"]} for job in found], index=index)
        return answer(listed(self._encoded_item(job) for job in found), index=index)

    def _encoded_item(self, job: JsonDict) -> bytes:
        """The job as lists show it. One that waits to be dispatched changes with its children too."""
        if waits_for_dispatch(job):
            return encoded(self._item(job))
        touched = self._state.touched.get(job["ID"])
        return self._items.of(job["ID"], touched, lambda: self._item(job), room=len(self._state.jobs))

    def _item(self, job: JsonDict) -> JsonDict:
        item = {key: job[key] for key in (*_LIST, *_LIST_STATE)}
        item |= {"Datacenters": job["Datacenters"], "JobSummary": self._summary(job)}
        return item | {"ParameterizedJob": waits_for_dispatch(job), "Periodic": bool(job["Periodic"])}

    async def register(self, request: Request) -> Response:
        """POST /v1/jobs and /v1/job/:id."""
        body = await body_of(request)
        job = self._given_job(body, request.path_params.get("id"))
        enforce = int(body.get("JobModifyIndex") or 0) if body.get("EnforceIndex") else None
        done = self._broker.register(job, enforce=enforce)
        return answer(done, index=done["Index"])

    @staticmethod
    def _given_job(body: JsonDict, job_id: str | None) -> JsonDict:
        job = body.get("Job")
        if not isinstance(job, dict):
            raise Refused("Job must be specified", 400)
        if not job.get("ID"):
            raise Refused("Job ID hasn't been provided", 400)
        if job_id is not None and job["ID"] != job_id:
            raise Refused("Job ID does not match name", 400)
        in_region(job)
        return job

    async def parse(self, request: Request) -> Response:
        """POST /v1/jobs/parse."""
        from caravan.hcl import HclError, parse_hcl

        body = await body_of(request)
        text = body.get("JobHCL")
        if not isinstance(text, str) or not text:
            raise Refused("Job spec is empty", 400)
        try:
            return answer(parse_hcl(text, values=str(body.get("Variables") or "")))
        except HclError as error:
            raise Refused(f"Failed to parse job: {error}", 400) from error

    async def validate(self, request: Request) -> Response:
        """POST /v1/validate/job."""
        job = (await body_of(request)).get("Job")
        if not isinstance(job, dict):
            raise Refused("Job must be specified", 400)
        _, errors, warnings = self._broker.check(job)
        return answer(
            {
                "DriverConfigValidated": True,
                "Error": grouped(errors) if errors else "",
                "ValidationErrors": errors or None,
                "Warnings": warnings,
            }
        )

    async def plan(self, request: Request) -> Response:
        """POST /v1/job/:id/plan."""
        body = await body_of(request)
        job = body.get("Job")
        if not isinstance(job, dict):
            raise Refused("Job must be specified", 400)
        if not job.get("ID"):
            raise Refused("Job must have a valid ID", 400)
        if job["ID"] != request.path_params["id"]:
            raise Refused("Job ID does not match", 400)
        in_region(job)
        return answer(self._broker.plan(job, diff=bool(body.get("Diff"))))

    async def evaluate(self, request: Request) -> Response:
        """POST /v1/job/:id/evaluate."""
        job = self._find(request)
        if job is None:
            raise Refused("job not found")
        if job["ParameterizedJob"]:
            raise Refused("can't evaluate parameterized job")
        done = self._broker.evaluate(job)
        return answer(done, index=done["Index"])

    async def read(self, request: Request) -> Response:
        """GET /v1/job/:id."""

        def index() -> int:
            found = self._find(request)
            return int(found["ModifyIndex"]) if found else self._state.tables["jobs"]

        reached = await settle(request, self._state, index, request.path_params["id"])
        return answer(self._job(request), index=reached)

    async def delete(self, request: Request) -> Response:
        """DELETE /v1/job/:id."""
        job_id = request.path_params["id"] if self._here(request) else ""
        done = self._broker.deregister(job_id, purge=flag(request, "purge"))
        return answer(done, index=done["Index"])

    async def allocations(self, request: Request) -> Response:
        """GET /v1/job/:id/allocations."""
        tables = self._state.tables
        index = await settle(request, self._state, lambda: tables["allocs"], request.path_params["id"])
        job = self._find(request)
        records = self._state.allocs_of(request.path_params["id"]) if self._here(request) else []
        if job is not None and not flag(request, "all"):
            records = [r for r in records if r.job["CreateIndex"] == job["CreateIndex"]]
        return answer(listed(self._stub(r) for r in records), index=index)

    def _stub(self, record: AllocRecord) -> bytes:
        return self._stubs.of(record.id, record, lambda: allocs.stub(record), room=len(self._state.allocs))

    async def evaluations(self, request: Request) -> Response:
        """GET /v1/job/:id/evaluations."""
        tables = self._state.tables
        index = await settle(request, self._state, lambda: tables["evals"], request.path_params["id"])
        found = self._state.evals_of(request.path_params["id"]) if self._here(request) else []
        return answer(found, index=index)

    def _summary(self, job: JsonDict) -> JsonDict:
        records, evals = self._state.allocs_of(job["ID"]), self._state.evals_of(job["ID"])
        last = max([job["ModifyIndex"], *(r.body["ModifyIndex"] for r in records), *(e["ModifyIndex"] for e in evals)])
        children: Counter[str] = Counter()
        if waits_for_dispatch(job):
            made = (j for j in self._state.jobs.values() if j["ParentID"] == job["ID"])
            children.update(str(j["Status"]).title() for j in made)
        return {
            "Children": {"Dead": 0, "Pending": 0, "Running": 0, **children},
            "CreateIndex": job["CreateIndex"],
            "JobID": job["ID"],
            "ModifyIndex": last,
            "Namespace": job["Namespace"],
            "Summary": allocs.summary(job, records, evals),
        }

    async def summary(self, request: Request) -> Response:
        """GET /v1/job/:id/summary."""

        def index() -> int:
            job = self._find(request)
            return int(self._summary(job)["ModifyIndex"]) if job else self._state.tables["jobs"]

        reached = await settle(request, self._state, index, request.path_params["id"])
        return answer(self._summary(self._job(request)), index=reached)

    async def versions(self, request: Request) -> Response:
        """GET /v1/job/:id/versions."""
        tables = self._state.tables
        index = await settle(request, self._state, lambda: tables["jobs"], request.path_params["id"])
        if self._find(request) is None:
            raise Refused("job versions not found", 404)
        history = self._state.versions[request.path_params["id"]]
        diffs = None
        if flag(request, "diffs"):
            diffs = [job_diff(old, new, {}) for new, old in pairwise(history)]
        marks = {"Index": index, "KnownLeader": True, "LastContact": 0, "NextToken": ""}
        return answer({"Diffs": diffs, "Versions": history, **marks}, index=index)

    async def all_evaluations(self, request: Request) -> Response:
        """GET /v1/evaluations."""
        index = await settle(request, self._state, lambda: self._state.tables["evals"])
        prefix = request.query_params.get("prefix", "")
        found = [e for e in self._state.evals.values() if e["ID"].startswith(prefix) and self._here(request)]
        found.sort(key=lambda e: -int(e["CreateIndex"]))
        room = len(self._state.evals)
        return answer(listed(self._evals.of(e["ID"], e, partial(dict, e), room=room) for e in found), index=index)

    def _evaluation(self, request: Request) -> JsonDict:
        eval_id = request.path_params["id"]
        if len(eval_id) != 36:
            raise Refused("eval lookup failed: index error: UUID must be 36 characters")
        found = self._state.evals.get(eval_id)
        if found is None:
            raise Refused("eval not found", 404)
        return found

    async def evaluation(self, request: Request) -> Response:
        """GET /v1/evaluation/:id."""
        own = self._evaluation(request)["JobID"]
        index = await settle(request, self._state, lambda: int(self._evaluation(request)["ModifyIndex"]), own)
        return answer(self._evaluation(request), index=index)

    async def evaluation_allocations(self, request: Request) -> Response:
        """GET /v1/evaluation/:id/allocations."""
        index = await settle(request, self._state, lambda: self._state.tables["allocs"])
        eval_id = self._evaluation(request)["ID"]
        found = [r for r in self._state.allocs.values() if r.body["EvalID"] == eval_id]
        return answer(listed(self._stub(r) for r in found), index=index)


def in_region(job: JsonDict) -> None:
    """Raise Refused, as Nomad does, for a job of a region that there is no way to: there is only this one."""
    if job.get("Region") not in (None, "", "global") and not job.get("Multiregion"):
        raise Refused("No path to region")
