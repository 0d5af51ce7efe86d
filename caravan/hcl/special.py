"""The blocks that Nomad decodes by hand: job, group, task, constraint and affinity."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from caravan.hcl.decode import Decoder
from caravan.hcl.errors import Problem
from caravan.hcl.tree import Attribute, Block, Body

_CONSTRAINT_SHORT: Final = ("version", "semver", "regexp", "set_contains")
_CONSTRAINT_REST: Final = ("set_contains_all", "set_contains_any", "is_set", "is_not_set")
_AFFINITY_SHORT: Final = ("version", "semver", "regexp", "set_contains_any", "set_contains_all", "set_contains")


def _arguments(decoder: Decoder, body: Body, names: Sequence[str]) -> dict[str, Attribute]:
    """The body's arguments, after complaining of those that are not among `names` and of blocks."""
    for attribute in body.attributes.values():
        if attribute.name not in names:
            free = [n for n in sorted(names) if n not in body.attributes]
            decoder.unexpected_argument(attribute, free, ())
    for block in body.blocks:
        decoder.unexpected_block(block, (), names)
    return {n: a for n, a in body.attributes.items() if n in names}


def constraint(decoder: Decoder, body: Body, _labels: Sequence[str]) -> dict[str, Any]:
    """A constraint, in its long form or with the operator as the argument's name."""
    names = ("attribute", "value", "operator", "distinct_property", "distinct_hosts")
    given = _arguments(decoder, body, (*names, *_CONSTRAINT_SHORT, *_CONSTRAINT_REST))
    text = {n: decoder.as_text(a) for n, a in given.items() if n != "distinct_hosts"}
    left, right, operand = text.get("attribute", ""), text.get("value", ""), text.get("operator", "")
    for name in _CONSTRAINT_SHORT:
        if text.get(name):
            operand, right = name, text[name]
    hosts = decoder.as_bool(given.get("distinct_hosts"))
    if hosts is not None:
        operand, right = "distinct_hosts", "true" if hosts else "false"
    if text.get("distinct_property"):
        operand, left = "distinct_property", text["distinct_property"]
    return {"LTarget": left, "RTarget": right, "Operand": operand or "="}


def affinity(decoder: Decoder, body: Body, _labels: Sequence[str]) -> dict[str, Any]:
    """An affinity. Its weight is cut to eight bits, as Nomad does."""
    given = _arguments(decoder, body, ("attribute", "value", "operator", "weight", *_AFFINITY_SHORT))
    text = {n: decoder.as_text(a) for n, a in given.items() if n != "weight"}
    right, operand = text.get("value", ""), text.get("operator", "")
    for name in _AFFINITY_SHORT:
        if text.get(name):
            operand, right = name, text[name]
    weight = decoder.as_number(given.get("weight"))
    if isinstance(weight, Decimal) and not weight.is_finite():
        decoder.unsuitable("Unsuitable value: a finite number is required", given["weight"].value)
        weight = None
    cut = None if weight is None else (int(weight) + 128) % 256 - 128
    return {"LTarget": text.get("attribute", ""), "RTarget": right, "Operand": operand or "=", "Weight": cut}


def _assigned(decoder: Decoder, body: Body, name: str) -> tuple[Any, set[str]]:
    """The value of `meta = {…}` or `env = {…}`, and the names that are thereby done with."""
    attribute = body.attributes.get(name)
    if attribute is None:
        return None, set()
    again = next((b for b in body.blocks if b.kind == name), None)
    if again is not None:
        span = attribute.name_span.to(attribute.value.span)
        detail = f"{name} may not be defined more than once. Another definition is defined at {span}."
        decoder.problems.append(Problem(f"Duplicate {name} block", detail, again.header))
        return None, {name}
    return decoder.value(attribute.value, "{str}", nullable=True), {name}


def _without(body: Body, names: set[str]) -> Body:
    """The body without these arguments."""
    return Body({n: a for n, a in body.attributes.items() if n not in names}, body.blocks, body.start)


def task(decoder: Decoder, body: Body, labels: Sequence[str]) -> dict[str, Any]:
    """A task; `env` and `meta` may be arguments, `scaling` has a label."""
    env, done = _assigned(decoder, body, "env")
    meta, also = _assigned(decoder, body, "meta")
    scaling = [b for b in body.blocks if b.kind == "scaling" and decoder.labelled(b, ("name",))]
    policies = _policies(decoder, scaling)
    out = decoder.fields("Task", _without(body, done | also), labels, also={"scaling", *done, *also})
    out["ScalingPolicies"] = policies or None
    if env is not None:
        out["Env"] = env
    if meta is not None:
        out["Meta"] = meta
    return out


def _policies(decoder: Decoder, blocks: Sequence[Block]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    seen: dict[str, Block] = {}
    for block in blocks:
        label = block.labels[0].lower()
        kind = {"cpu": "vertical_cpu", "mem": "vertical_mem"}.get(label)
        if kind is None:
            detail = 'scaling policy name must be "cpu" or "mem"'
            decoder.problems.append(Problem("Invalid scaling policy name", detail, block.label_spans[0]))
        elif label in seen:
            first = seen[label].header
            detail = f"Only one scaling {label} block is allowed. Another was defined at {first}."
            decoder.problems.append(Problem(f'Duplicate scaling "{label}" block', detail, block.header))
        else:
            seen[label] = block
            policy = decoder.block("ScalingPolicy", block.body)
            if policy["Type"] and policy["Type"] != kind:
                detail = f'Invalid policy type, expected "{policy["Type"]}" but found "{kind}"'
                decoder.problems.append(Problem("Invalid scaling policy type", detail, block.header))
            policy["Type"] = kind
            out.append(policy)
    return out


def group(decoder: Decoder, body: Body, labels: Sequence[str]) -> dict[str, Any]:
    """A task group; its `vault` and `secret` are its tasks'."""
    meta, done = _assigned(decoder, body, "meta")
    vaults = [b for b in body.blocks if b.kind == "vault" and decoder.labelled(b, ())]
    secrets = [b for b in body.blocks if b.kind == "secret" and decoder.labelled(b, ("name",))]
    vault = [decoder.block("Vault", b.body) for b in vaults][-1:]
    shared = [decoder.block("Secret", b.body, b.labels) for b in secrets]
    out = decoder.fields("TaskGroup", _without(body, done), labels, also={"vault", "secret", *done})
    if meta is not None:
        out["Meta"] = meta
    for each in out["Tasks"] or ():
        if vault and each["Vault"] is None:
            each["Vault"] = vault[0]
        if shared and not each["Secrets"]:
            each["Secrets"] = shared
    scaling = out["Scaling"]
    if scaling is not None:
        scaling["Type"] = scaling["Type"] or "horizontal"
        block = next(b for b in body.blocks if b.kind == "scaling")
        _check_group_scaling(decoder, scaling, block)
    return out


def _check_group_scaling(decoder: Decoder, scaling: dict[str, Any], block: Block) -> None:
    if scaling["Max"] is None and "max" not in block.body.attributes:
        detail = 'The argument "max" is required, but no definition was found.'
        where = block.body.start
        span = None if where is None else where._replace(end=where.start)
        decoder.problems.append(Problem("Missing required argument", detail, span))
    if scaling["Type"] != "horizontal" and "type" in block.body.attributes:
        detail = f'task group scaling policy had invalid type: "{scaling["Type"]}"'
        where = block.body.attributes["type"].value.span
        decoder.problems.append(Problem("Invalid group scaling type", detail, where))


def job(decoder: Decoder, body: Body, labels: Sequence[str]) -> dict[str, Any]:
    """A job. Its own `task`, `vault` and `secret` come back under `_tasks`, `_vault` and `_secrets`."""
    meta, done = _assigned(decoder, body, "meta")
    blocks = [b for b in body.blocks if b.kind in ("vault", "secret", "task")]
    blocks = [b for b in blocks if decoder.labelled(b, () if b.kind == "vault" else ("name",))]
    vaults = [b for b in blocks if b.kind == "vault"]
    for again in vaults[1:]:
        first = vaults[0].header
        detail = f'Only one block of type "vault" is allowed. Previous definition was at {first}.'
        decoder.problems.append(Problem("Duplicate vault block", detail, again.header))
    out = decoder.fields("Job", _without(body, done), labels, also={"vault", "secret", "task", *done})
    if meta is not None:
        out["Meta"] = meta
    out["_tasks"] = [decoder.block("Task", b.body, b.labels) for b in blocks if b.kind == "task"]
    out["_secrets"] = [decoder.block("Secret", b.body, b.labels) for b in blocks if b.kind == "secret"]
    out["_vault"] = decoder.block("Vault", vaults[0].body) if vaults else None
    out["ID"] = labels[0] if out["ID"] is None else out["ID"]
    out["Name"] = labels[0] if out["Name"] is None else out["Name"]
    return out


DECODERS: Final[dict[str, Callable[[Decoder, Body, Sequence[str]], dict[str, Any]]]] = {
    "Constraint": constraint,
    "Affinity": affinity,
    "Task": task,
    "TaskGroup": group,
    "Job": job,
}
