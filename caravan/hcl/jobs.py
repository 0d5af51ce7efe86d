"""A job file's text → the canonical job, or Nomad's words for why not.

Reads `variable`, `variables`, `locals` and `job`, as Nomad's parse endpoint does without files and environment.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from caravan.hcl.decode import Decoder
from caravan.hcl.defaults import canonical
from caravan.hcl.dynamic import expanded
from caravan.hcl.errors import HclError, Problem, first_of, refusal
from caravan.hcl.evaluate import Scope
from caravan.hcl.schema import Field
from caravan.hcl.special import job as decode_job
from caravan.hcl.tree import Block, Body

_TOP = tuple(
    Field(name, name, kind, "block", False, True, False)
    for name, kind in (("variables", "[None]"), ("variable", "[Action]"), ("locals", "[None]"), ("job", "[TaskGroup]"))
)  # the two types named stand for "has one label, called name"


def parse_hcl(text: str, *, variables: Mapping[str, str] | None = None, values: str = "") -> dict[str, Any]:
    """The canonical job as Nomad's `/v1/jobs/parse` answers with `Canonicalize`: JSON, durations in nanoseconds.

    `variables` are values for the file's variables, as text; `values` is a variable file's text. Raises HclError with
    Nomad's own text, which begins with the place (`input.hcl:17,5-8: Unsupported block type; …`).
    """
    if not text:
        raise HclError("Job spec is empty")
    if text.lstrip(" ").startswith("{"):
        raise HclError("Job files in HCL's JSON syntax are not read; write it in HCL")
    try:
        return _parse(text, variables or {}, values)
    except RecursionError:
        raise HclError("The job file is nested too deeply") from None


def _parse(text: str, given: Mapping[str, str], values: str) -> dict[str, Any]:
    from caravan.hcl.parser import read_tree
    from caravan.hcl.variables import read_scope

    body, problems = read_tree(text)
    assigned, wrong = read_tree(values)
    if wrong:
        raise refusal(wrong, f"unable to parse var content: {first_of(wrong)}")
    if problems:
        raise refusal(problems, first_of(problems))
    decoder = Decoder(Scope({}, text.removeprefix("\ufeff")))
    decoder.check(body, _TOP)
    _stop_at(decoder.problems)
    decoder.scope = read_scope(body, decoder.scope.source, given, assigned, decoder.problems)
    _stop_at(decoder.problems)
    job = _job(decoder, body)
    _stop_at(decoder.problems)
    late = [p for check in decoder.later for p in check()]
    if late:
        raise refusal(late, first_of(late))
    return canonical(normal(job))


def _stop_at(problems: Sequence[Problem]) -> None:
    """Raise the problems that there are, each on a line of its own."""
    if problems:
        raise refusal(problems, "\n".join(str(p) for p in problems))


def _job(decoder: Decoder, body: Body) -> dict[str, Any]:
    blocks = [b for b in body.blocks if b.kind == "job"]
    if not blocks:
        decoder.problems.append(Problem("Missing job block", "A job block is required", None))
        return {}
    found = decode_job(decoder, expanded(decoder, blocks[0].body), blocks[0].labels)
    for again in blocks[1:]:
        decoder.problems.append(_twice(blocks[0], again))
    return found


def _twice(first: Block, again: Block) -> Problem:
    detail = f'Only one block of type "job" is allowed. Previous definition was at {first.header}.'
    return Problem("Duplicate job block", detail, again.header)


def normal(job: dict[str, Any]) -> dict[str, Any]:
    """A decoded job in the shape of the API: tasks outside of groups get their own, ports are told apart, and so on."""
    tasks, vault, secrets = job.pop("_tasks"), job.pop("_vault"), job.pop("_secrets")
    if job["Periodic"] is not None and (job["Periodic"]["Spec"] is not None or job["Periodic"]["Specs"] is not None):
        job["Periodic"]["SpecType"] = "cron"
    if tasks:
        job["TaskGroups"] = [*(_alone(t) for t in tasks), *(job["TaskGroups"] or [])]
    for group in job["TaskGroups"] or ():
        _split_ports(group["Networks"])
        for task in group["Tasks"] or ():
            if task["Resources"] is not None:
                _split_ports(task["Resources"]["Networks"])
            if task["Vault"] is None and vault is not None:
                task["Vault"] = dict(vault)
            task["Secrets"] = [*(task["Secrets"] or ()), *secrets] or None
            _default_identity(task)
    return job


def _alone(task: dict[str, Any]) -> dict[str, Any]:
    """A group for a task that stands directly in the job."""
    from caravan.hcl.schema import absent, block_types

    return {**{f.key: absent(f) for f in block_types()["TaskGroup"]}, "Name": task["Name"], "Tasks": [task]}


def _split_ports(networks: list[dict[str, Any]] | None) -> None:
    """Ports with a number are reserved, the others dynamic."""
    for network in networks or ():
        ports = network["DynamicPorts"]
        if ports:
            network["DynamicPorts"] = [p for p in ports if p["Value"] <= 0] or None
            network["ReservedPorts"] = [p for p in ports if p["Value"] > 0] or None


def _default_identity(task: dict[str, Any]) -> None:
    """The identity without a name, or called default, has a place of its own."""
    identities = task["Identities"]
    for i, identity in enumerate(identities or ()):
        if identity["Name"] in ("", "default"):
            task["Identity"] = identity
            task["Identities"] = [*identities[:i], *identities[i + 1 :]]
            return
