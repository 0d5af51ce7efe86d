"""Jobs that are made from a parameterised one: what a dispatch may hold, and the job that it makes. Pure."""

import base64
import binascii
import copy
import uuid

from caravan.cluster.local.words import SECOND, JsonDict, go_quote

_MOST_BYTES = 16 * 1024  # of a payload, as Nomad


class BadDispatch(Exception):
    """A dispatch that is refused, in Nomad's words."""


def dispatched(job: JsonDict, request: JsonDict, now: int) -> JsonDict:
    """The job that a dispatch of `job` makes at `now` (ns). Raises BadDispatch."""
    if not job["ParameterizedJob"] or job["Dispatched"]:
        raise BadDispatch(f"Specified job {go_quote(job['ID'])} is not a parameterized job")
    if job["Stop"]:
        raise BadDispatch(f"Specified job {go_quote(job['ID'])} is stopped")
    payload, meta = request.get("Payload") or "", dict(request.get("Meta") or {})
    priority = int(request.get("Priority") or job["Priority"])
    _check_payload(job["ParameterizedJob"], payload)
    _check_meta(job["ParameterizedJob"], meta)
    if not 1 <= priority <= 100:
        raise BadDispatch("dispatch job priority must be between [1, 100]")
    prefix = f"{request['IdPrefixTemplate']}-" if request.get("IdPrefixTemplate") else ""
    name = f"{job['ID']}/dispatch-{prefix}{now // SECOND}-{uuid.uuid4().hex[:8]}"
    return {
        **copy.deepcopy(job),
        "DispatchIdempotencyToken": request.get("IdempotencyToken") or "",
        "Dispatched": True,
        "ID": name,
        "Meta": {**(job["Meta"] or {}), **meta} or None,
        "Name": name,
        "ParentID": job["ID"],
        "Payload": payload or None,
        "Priority": priority,
        "StatusDescription": "",
    }


def _check_payload(rules: JsonDict, payload: str) -> None:
    wanted = rules.get("Payload") or "optional"
    if wanted == "required" and not payload:
        raise BadDispatch("Payload is not provided but required by parameterized job")
    if wanted == "forbidden" and payload:
        raise BadDispatch("Payload provided but forbidden by parameterized job")
    try:
        size = len(base64.b64decode(payload, validate=True))
    except binascii.Error as error:
        raise BadDispatch(f"illegal base64 data in the payload: {error}") from error
    if size > _MOST_BYTES:
        raise BadDispatch(f"Payload exceeds maximum size; {size} > {_MOST_BYTES}")


def _check_meta(rules: JsonDict, meta: JsonDict) -> None:
    required, optional = rules.get("MetaRequired") or [], rules.get("MetaOptional") or []
    unknown = [k for k in meta if k not in required and k not in optional]
    if unknown:
        raise BadDispatch(f"Dispatch request included unpermitted metadata keys: [{' '.join(unknown)}]")
    missing = [k for k in required if k not in meta]
    if missing:
        raise BadDispatch(f"Dispatch did not provide required meta keys: [{' '.join(missing)}]")
