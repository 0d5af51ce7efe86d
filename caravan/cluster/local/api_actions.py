"""The API's actions on jobs and allocations, and what jobs have registered: dispatch, revert, scale, services."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caravan.cluster.local import services
from caravan.cluster.local.broker import Broker, Refused
from caravan.cluster.local.canonical import group_of
from caravan.cluster.local.dispatching import BadDispatch, dispatched
from caravan.cluster.local.evaluations import answered
from caravan.cluster.local.state import AllocRecord, State
from caravan.cluster.local.web import answer, body_of, settle
from caravan.cluster.local.words import JsonDict, go_quote, now_ns

_NAMESPACE = "default"


class Actions:
    """Handlers over the state and the broker."""

    def __init__(self, state: State, broker: Broker) -> None:
        self._state = state
        self._broker = broker

    def routes(self) -> list[Route]:
        """The routes; they come before those of jobs, whose ids may hold slashes."""
        get = partial(Route, methods=["GET"])
        put = partial(Route, methods=["PUT", "POST"])
        return [
            put("/v1/job/{id:path}/dispatch", self.dispatch),
            put("/v1/job/{id:path}/revert", self.revert),
            put("/v1/job/{id:path}/scale", self.scale),
            get("/v1/job/{id:path}/services", self.job_services),
            get("/v1/job/{id:path}/deployments", self.nothing),
            get("/v1/job/{id:path}/deployment", self.no_deployment),
            get("/v1/deployments", self.nothing),
            get("/v1/volumes", self.nothing),
            get("/v1/plugins", self.nothing),
            get("/v1/services", self.services),
            get("/v1/service/{name}", self.service),
            get("/v1/allocation/{id}/services", self.alloc_services),
            put("/v1/client/allocation/{id}/restart", self.restart),
            put("/v1/client/allocation/{id}/signal", self.signal),
        ]

    async def dispatch(self, request: Request) -> Response:
        """POST /v1/job/:id/dispatch."""
        body = await body_of(request)
        job_id = request.path_params["id"]
        if body.get("JobID") not in (None, "", job_id):
            raise Refused("Job ID does not match", 400)
        job = self._state.jobs.get(job_id)
        if job is None:
            raise Refused("parameterized job not found")
        token = body.get("IdempotencyToken")
        same = (j for j in self._state.jobs.values() if j["ParentID"] == job_id)
        known = next((j for j in same if token and j["DispatchIdempotencyToken"] == token), None)
        if known is not None:
            index = known["CreateIndex"]
            told: JsonDict = {"EvalCreateIndex": 0, "EvalID": "", "Index": known["ModifyIndex"]}
            return answer({**told, "DispatchedJobID": known["ID"], "JobCreateIndex": index}, index=index)
        try:
            child = dispatched(job, body, now_ns())
        except BadDispatch as error:
            raise Refused(str(error)) from error
        done = self._broker.submit(child)
        index = done["JobModifyIndex"]
        told = {"EvalCreateIndex": done["EvalCreateIndex"], "EvalID": done["EvalID"], "Index": index}
        return answer({**told, "DispatchedJobID": child["ID"], "JobCreateIndex": index}, index=index)

    async def revert(self, request: Request) -> Response:
        """POST /v1/job/:id/revert."""
        body = await body_of(request)
        job_id = request.path_params["id"]
        if not body.get("JobID"):
            raise Refused("JobID must be specified", 400)
        if body["JobID"] != job_id:
            raise Refused("Job ID does not match", 400)
        now, wanted = self._state.jobs.get(job_id), int(body.get("JobVersion") or 0)
        if now is None:
            raise Refused(f"job {go_quote(job_id)} not found")
        if now["Version"] == wanted:
            raise Refused("can't revert to current version")
        old = next((j for j in self._state.versions[job_id] if j["Version"] == wanted), None)
        if old is None:
            raise Refused(f"job {go_quote(job_id)} in namespace {go_quote(_NAMESPACE)} at version {wanted} not found")
        enforced = body.get("EnforcePriorVersion")
        if enforced is not None and now["Version"] != int(enforced):
            raise Refused(f"Current job has version {now['Version']}; enforcing version {enforced}")
        done = self._broker.submit({**old, "Stop": False})
        return answer({**done, "Warnings": ""}, index=done["Index"])

    async def scale(self, request: Request) -> Response:
        """POST /v1/job/:id/scale."""
        body = await body_of(request)
        job_id = request.path_params["id"]
        target, count = body.get("Target") or {}, body.get("Count")
        if target.get("Job") not in (None, "", job_id):
            raise Refused("job ID in payload did not match URL", 400)
        name = str(target.get("Group") or "")
        if not name:
            raise Refused("missing task group name for scaling action", 400)
        if count is not None and count < 0:
            raise Refused("scaling action count can't be negative", 400)
        if count is not None and body.get("Error"):
            raise Refused("scaling action should not contain count if error is true", 400)
        job = self._state.jobs.get(job_id)
        if job is None:
            raise Refused(f"job {go_quote(job_id)} not found", 404)
        group = group_of(job, name)
        if group is None:
            raise Refused(f"task group {go_quote(name)} specified for scaling does not exist in job", 400)
        if count is None:
            return answer({**answered(None, job["ModifyIndex"]), "Warnings": ""}, index=self._state.index)
        _within(group["Scaling"] or {}, count)
        groups = [{**g, "Count": count} if g["Name"] == name else g for g in job["TaskGroups"]]
        done = self._broker.submit({**job, "TaskGroups": groups}, "job-scaling")
        return answer({**done, "Warnings": ""}, index=done["Index"])

    async def nothing(self, request: Request) -> Response:
        """What this cluster has none of: deployments, CSI volumes and plug-ins."""
        index = await settle(request, self._state, lambda: self._state.index)
        return answer([], index=index)

    async def no_deployment(self, request: Request) -> Response:
        """GET /v1/job/:id/deployment."""
        return answer(None, index=await settle(request, self._state, lambda: self._state.index))

    async def services(self, request: Request) -> Response:
        """GET /v1/services."""
        index = await settle(request, self._state, lambda: self._state.tables["allocs"])
        tags: dict[str, set[str]] = {}
        for one in services.registered(self._state):
            tags.setdefault(one["ServiceName"], set()).update(one["Tags"])
        listed = [{"ServiceName": name, "Tags": sorted(tags[name])} for name in sorted(tags)]
        return answer([{"Namespace": _NAMESPACE, "Services": listed}] if listed else [], index=index)

    async def service(self, request: Request) -> Response:
        """GET /v1/service/:name."""
        index = await settle(request, self._state, lambda: self._state.tables["allocs"])
        name = request.path_params["name"]
        return answer([r for r in services.registered(self._state) if r["ServiceName"] == name], index=index)

    async def job_services(self, request: Request) -> Response:
        """GET /v1/job/:id/services."""
        index = await settle(request, self._state, lambda: self._state.tables["allocs"])
        job_id = request.path_params["id"]
        return answer([r for r in services.registered(self._state) if r["JobID"] == job_id], index=index)

    async def alloc_services(self, request: Request) -> Response:
        """GET /v1/allocation/:id/services."""
        index = await settle(request, self._state, lambda: self._state.tables["allocs"])
        alloc = self._record(request).id
        return answer([r for r in services.registered(self._state) if r["AllocID"] == alloc], index=index)

    def _record(self, request: Request) -> AllocRecord:
        found = self._state.allocs.get(request.path_params["id"])
        if found is None:
            raise Refused(f"Unknown allocation {go_quote(request.path_params['id'])}", 404)
        return found

    async def restart(self, request: Request) -> Response:
        """PUT /v1/client/allocation/:id/restart."""
        body = await body_of(request)
        self._broker.restart(self._record(request), str(body.get("TaskName") or ""))
        return answer({})

    async def signal(self, request: Request) -> Response:
        """PUT /v1/client/allocation/:id/signal."""
        body = await body_of(request)
        name = str(body.get("Signal") or "SIGINT")
        self._broker.signal(self._record(request), str(body.get("Task") or body.get("TaskName") or ""), name)
        return answer({})


def _within(policy: JsonDict, count: int) -> None:
    """Raise Refused for a count that a group's scaling policy does not allow."""
    least, most = policy.get("Min"), policy.get("Max")
    if least is not None and count < least:
        raise Refused(f"group count was less than scaling policy minimum: {count} < {least}", 400)
    if most is not None and count > most:
        raise Refused(f"group count was greater than scaling policy maximum: {count} > {most}", 400)
