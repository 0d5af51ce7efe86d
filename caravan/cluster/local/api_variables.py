"""The API's variables: `/v1/var/:path` and `/v1/vars`, with check-and-set. Items go to whoever has the token."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caravan.cluster.local.broker import NAMESPACES, Refused
from caravan.cluster.local.variables import Conflict, Variables, refusal
from caravan.cluster.local.web import answer, body_of
from caravan.cluster.local.words import go_quote


class VariableCalls:
    """Handlers for variables."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables

    def routes(self) -> list[Route]:
        """The routes."""
        at = "/v1/var/{path:path}"
        return [
            Route("/v1/vars", self.listed, methods=["GET"]),
            Route(at, self.get, methods=["GET"]),
            Route(at, self.put, methods=["PUT", "POST"]),
            Route(at, self.delete, methods=["DELETE"]),
        ]

    async def listed(self, request: Request) -> Response:
        """GET /v1/vars; `prefix` of their paths. Without items."""
        _namespace(request)
        return answer(self._variables.listed(request.query_params.get("prefix", "")), index=self._variables.index)

    async def get(self, request: Request) -> Response:
        """GET /v1/var/:path, with its items."""
        _namespace(request)
        found = self._variables.get(_path(request))
        if found is None:
            raise Refused("variable not found", 404)
        return answer(found, index=self._variables.index)

    async def put(self, request: Request) -> Response:
        """PUT /v1/var/:path; with `cas` only when its index is that one, else 409 with the variable as it is."""
        body, path = await body_of(request), _path(request)
        said = body.get("Path") or path
        if said != path:
            raise Refused(f"mismatched path: path in URL {go_quote(path)}, path in body {go_quote(str(said))}", 400)
        _namespace(request, body.get("Namespace"))
        items = body.get("Items")
        if why := refusal(path, items):
            raise Refused(why, 400)
        try:
            stored = self._variables.put(path, dict(items or {}), cas=_cas(request))
        except Conflict as conflict:
            return _conflict(conflict, path)
        return answer(stored, index=self._variables.index)

    async def delete(self, request: Request) -> Response:
        """DELETE /v1/var/:path; with `cas` as for PUT."""
        _namespace(request)
        path = _path(request)
        try:
            self._variables.delete(path, cas=_cas(request))
        except Conflict as conflict:
            return _conflict(conflict, path)
        return Response(status_code=204)


def _conflict(conflict: Conflict, path: str) -> Response:
    """As Nomad: the variable as it is, or one of index 0 where there is none."""
    none = {"Namespace": "default", "Path": path, "CreateIndex": 0, "ModifyIndex": 0, "Items": {}}
    return answer(conflict.found or none, status=409)


def _path(request: Request) -> str:
    return str(request.path_params["path"]).strip("/")


def _namespace(request: Request, said: str | None = None) -> None:
    wanted = request.query_params.get("namespace") or said or "default"
    if wanted not in NAMESPACES and wanted != "*":
        raise Refused(f"nonexistent namespace {go_quote(str(wanted))}", 400)


def _cas(request: Request) -> int | None:
    text = request.query_params.get("cas")
    if text is None or text == "":
        return None
    if not text.isdigit():
        raise Refused(f"can not parse cas: {go_quote(text)}", 400)
    return int(text)
