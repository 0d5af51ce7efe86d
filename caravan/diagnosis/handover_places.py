"""What a person is asked where the cluster, its nodes or a service stands in the way: who must give or mend what.

Pure; see `handover.py`, which chooses.
"""

import json
import shlex
from collections.abc import Callable
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.room import place_of_outputs
from caravan.values.base import Json
from caravan.values.failure import FailureClass

_SHOWN: Final = 5  # names that are listed


def _token(case: Case) -> str:
    """Of a request that Nomad denies."""
    space = f" in namespace {case.plan.namespace}" if case.plan.namespace else ""
    return (
        f"Nomad denies it{space}: set NOMAD_TOKEN to the secret id of a token whose policy allows "
        "submit-job, read-job and read-logs."
    )


def _away(case: Case) -> str:
    address, kind = case.detail("address") or case.facts.address, case.detail("kind")
    what = {
        "tls": "Its certificate is not trusted: set NOMAD_CACERT, or NOMAD_TLS_SERVER_NAME.",
        "dns": "Its name is not known here: check NOMAD_ADDR.",
        "leader": "Its servers have no leader: whoever runs the cluster must see to it.",
    }.get(kind, "Is the address right (NOMAD_ADDR), and is the cluster up?")
    return f"Nomad{f' at {address}' if address else ''} does not answer. {what}"


def _registry(case: Case) -> str:
    image = case.detail("image") or case.plan.image or "the image"
    return (
        f"The registry denies {image}: check its name; if it is private, give the nodes a login, or name the secrets "
        "that hold one with docker.auth (docs/secrets.md)."
    )


def _secret(case: Case) -> str:
    kind, name = case.detail("kind"), case.detail("secret") or case.detail("path")
    if not name:
        return ""
    how = {
        "vault": f"`vault kv put {name} KEY=VALUE`, and a role that may read it",
        "consul": f"`consul kv put {name} VALUE`",
        "nomad": f"`main.py secrets put NAME --path {name}`, which asks for the value",
    }.get(kind, f"create {name}, or grant this job access to it")
    return f"{name} is missing or may not be read by this job: {how}."


def _gated(case: Case) -> str:
    repo = case.detail("repo") or case.plan.model.id
    if not repo:
        return ""
    secrets = list(dict.fromkeys((*case.plan.secrets, "HF_TOKEN")))
    return (
        f"{repo} is gated or private: accept its terms at https://huggingface.co/{repo} and give a token that may read "
        f"it as the secret HF_TOKEN ({with_set('secrets', secrets)}), or name an open model with --set model.id=VALUE."
    )


def _hub(case: Case) -> str:
    name = case.detail("repo") or case.detail("path") or case.plan.model.id
    if not name:
        return ""
    field = "dataset.path" if name == case.plan.dataset.path else "model.id"
    return (
        f"{name} is not there as it is named. Which one is meant? Name owner/name or a path with --set {field}=VALUE."
    )


def _node(case: Case) -> str:
    name = case.diagnosis.node_name
    if not name:
        return ""
    return (
        f"The GPU of node {name} needs its administrator (driver or toolkit, reset, repair); "
        "`nomad node eligibility -disable` keeps jobs away from it until then."
    )


def _contended(case: Case) -> str:
    name = case.diagnosis.node_name
    return f"Whose process holds the GPU of node {name}? `nvidia-smi` there names it." if name else ""


def _space(case: Case) -> str:
    path = case.detail("path")
    if place_of_outputs(case):
        return f"{path} has too little room: free some, or name another place with --set training.output_dir=VALUE."
    return f"{path} is full: free it, or ask for more with --set resources.disk_mb=VALUE." if path else ""


def _forbidden(case: Case) -> str:
    path = case.detail("path")
    if not path:
        return ""
    return (
        f"{path} may not be written by the job: grant it, or name another place with --set training.output_dir=VALUE."
    )


def _volume(case: Case) -> str:
    name = case.detail("volume") or next((m.source for m in case.plan.mounts), "")
    if not name:
        return ""
    known = tuple(dict.fromkeys(v for n in case.facts.usable_nodes() for v in n.host_volumes))
    there = f" The nodes have {listed(known)}." if known else ""
    return f"No node has the volume {name}.{there} Where are the data? Name it with {words_for(case, 'mounts')}."


def _unreached(case: Case) -> str:
    host = case.detail("index") or case.detail("host")
    if not host:
        return ""
    if case.detail("kind") == "down":
        return f"{host} answers that it is out of order: go on once it answers again, or name a mirror or a local copy."
    return f"The nodes can't reach {host}: is there a mirror (env, or the cluster's profile), or a copy on a volume?"


def _toolchain(case: Case) -> str:
    program, package = case.detail("program"), case.detail("package")
    if not program and not package:
        return ""
    built = f"{package} must be built" if package else "A package must be built"
    return f"{built} and {program or 'a compiler'} is missing: name an image that has it with --set image=VALUE."


def _crash(case: Case) -> str:
    signal = case.detail("signal")
    how = "its CPU lacks what a package was built for" if signal == "SIGILL" else "a package's native code is at fault"
    return (
        f"It ends by {signal}: {how}. Name another image with --set image=VALUE, or other versions with "
        f"{words_for(case, 'setup.pip')}."
        if signal
        else ""
    )


def with_set(path: str, value: Json) -> str:
    """The option that sets a field, as a shell takes it."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return f"--set {shlex.quote(f'{path}={text}')}"


def words_for(case: Case, path: str) -> str:
    """The option with which a person sets a field, VALUE in the place of what they decide; empty: there is none.

    What a list holds beside it stays.
    """
    plan, detail = case.plan, case.detail
    if path == "setup.pip":
        return with_set(path, [*plan.setup.pip, "VALUE"])
    if path == "mounts":
        missing = [m for m in plan.mounts if m.source in (detail("volume"), detail("path"))] or list(plan.mounts[:1])
        if not missing:
            return with_set(path, [{"kind": "host", "source": "VALUE", "destination": "/data"}])
        replaced = [m.model_copy(update={"source": "VALUE"}) if m is missing[0] else m for m in plan.mounts]
        return with_set(path, [m.model_dump(mode="json") for m in replaced])
    if path == "constraints":
        return with_set(path, []) if plan.constraints else ""
    if path == "artifacts":
        named = [{**a.model_dump(mode="json"), "source": "VALUE"} for a in plan.artifacts[:1]]
        return with_set(path, [*named, *(a.model_dump(mode="json") for a in plan.artifacts[1:])]) if named else ""
    return f"--set {path}=VALUE"


def listed(names: tuple[str, ...]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


PLACES: Final[dict[FailureClass, Callable[[Case], str]]] = {
    FailureClass.ACL_PERMISSION_DENIED: _token,
    FailureClass.NOMAD_API_UNREACHABLE: _away,
    FailureClass.REGISTRY_AUTH_DENIED: _registry,
    FailureClass.TEMPLATE_SECRET_UNAVAILABLE: _secret,
    FailureClass.HF_GATED_AUTH: _gated,
    FailureClass.HUB_NOT_FOUND: _hub,
    FailureClass.GPU_NODE_BROKEN: _node,
    FailureClass.GPU_MEMORY_CONTENDED: _contended,
    FailureClass.DISK_FULL: _space,
    FailureClass.OUTPUT_PERMISSION_DENIED: _forbidden,
    FailureClass.VOLUME_UNAVAILABLE: _volume,
    FailureClass.NETWORK_UNREACHABLE: _unreached,
    FailureClass.BUILD_TOOLCHAIN_MISSING: _toolchain,
    FailureClass.PROCESS_CRASH_NATIVE: _crash,
}
"""The question for each of these causes; empty where the evidence names too little."""
