"""`dynamic` blocks: one block for each element of a collection, with names that stand for the element."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from caravan.hcl.convert import UNKNOWN, type_name
from caravan.hcl.errors import Problem
from caravan.hcl.evaluate import Scope, evaluate
from caravan.hcl.tree import Attribute, Block, Body, Bound, Path

_MOST: Final = 10_000  # blocks that one dynamic block makes


class Reader(Protocol):
    """What reads bodies: its scope, and where it complains."""

    scope: Scope
    problems: list[Problem]


def expanded(reader: Reader, body: Body) -> Body:
    """The body with its `dynamic` blocks put in full. The blocks in what they make are left for when those are read."""
    if not any(b.kind == "dynamic" and len(b.labels) == 1 for b in body.blocks):
        return body
    blocks: list[Block] = []
    for block in body.blocks:
        blocks += _made(reader, block) if block.kind == "dynamic" and len(block.labels) == 1 else [block]
    return Body(body.attributes, blocks, body.start)


def _made(reader: Reader, block: Block) -> list[Block]:
    attributes = block.body.attributes
    content = [b for b in block.body.blocks if b.kind == "content"]
    if "for_each" not in attributes:
        detail = 'The argument "for_each" is required, but no definition was found.'
        reader.problems.append(Problem("Missing required argument", detail, block.opened))
        return []
    if len(content) != 1:
        few = "Missing" if not content else "Extraneous"
        detail = (
            'A dynamic block must have a nested block of type "content" to describe the body of each generated block.'
        )
        if content:
            detail = 'Only one nested block of type "content" is allowed in a dynamic block.'
        reader.problems.append(Problem(f"{few} content block", detail, block.header))
        return []
    over = evaluate(attributes["for_each"].value, reader.scope, reader.problems)
    if over is UNKNOWN:
        return []
    if not isinstance(over, list | dict):
        detail = f"Cannot use a {type_name(over)} value in for_each. An iterable collection is required."
        reader.problems.append(Problem("Invalid dynamic for_each value", detail, attributes["for_each"].value.span))
        return []
    name = _iterator(block)
    pairs = list(over.items() if isinstance(over, dict) else enumerate(over))[:_MOST]
    return [_one(reader, block, content[0], {name: {"key": k, "value": v}}) for k, v in pairs]


def _iterator(block: Block) -> str:
    """What the element is called: the block's own label, or what `iterator` says."""
    given = block.body.attributes.get("iterator")
    named = given.value if given is not None else None
    while isinstance(named, Bound):
        named = named.inner
    return named.root if isinstance(named, Path) else block.labels[0]


def _one(reader: Reader, block: Block, content: Block, names: Mapping[str, Any]) -> Block:
    scope = reader.scope.with_names(names)
    labels: tuple[str, ...] = ()
    if "labels" in block.body.attributes:
        found = evaluate(block.body.attributes["labels"].value, scope, reader.problems)
        labels = tuple(str(v) for v in found) if isinstance(found, list) else ()
    spans = tuple(block.label_spans[0] for _ in labels)
    body = _bound(content.body, names)
    return Block(block.labels[0], block.label_spans[0], labels, spans, content.opened, content.closed, body)


def _bound(body: Body, names: Mapping[str, Any]) -> Body:
    """A body in which the names have their meaning, at every depth."""
    attributes = {n: Attribute(a.name, a.name_span, Bound(a.value, names)) for n, a in body.attributes.items()}
    blocks = [
        Block(b.kind, b.kind_span, b.labels, b.label_spans, b.opened, b.closed, _bound(b.body, names))
        for b in body.blocks
    ]
    return Body(attributes, blocks, body.start)
