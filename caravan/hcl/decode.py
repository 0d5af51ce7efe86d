"""A job's tree → Nomad's JSON before defaults, checked against the block schema.

Works like Nomad's decoder: what is not expected, missing or twice, and values of the wrong type are collected with
the words and places that Nomad gives them.
"""

import re
from collections.abc import Callable, Iterable, Sequence, Set
from decimal import Decimal
from typing import Any, Final

from caravan.hcl.convert import UNKNOWN, Mismatch, convert, json_value, to_bool, to_number, to_string, type_name
from caravan.hcl.distance import closest
from caravan.hcl.errors import Problem, Span
from caravan.hcl.evaluate import Scope, evaluate
from caravan.hcl.schema import Field, absent, block_types
from caravan.hcl.tree import Attribute, Block, Body, Expression, ListOf, Literal, ObjectOf

_BITS: Final = re.compile(r"(u?)int(\d*)")
_UNITS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_TYPES: Final = {"str": "string", "bool": "bool"}


class Decoder:
    """Decodes bodies in a scope. `problems` collects what is wrong; `later` holds what Nomad evaluates last."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.problems: list[Problem] = []
        self.later: list[Callable[[], list[Problem]]] = []

    def block(self, kind: str, body: Body, labels: Sequence[str] = ()) -> dict[str, Any]:
        """A block of the type `kind` as JSON."""
        from caravan.hcl.dynamic import expanded
        from caravan.hcl.special import DECODERS

        body = expanded(self, body)
        special = DECODERS.get(kind)
        return special(self, body, labels) if special else self.fields(kind, body, labels)

    def fields(self, kind: str, body: Body, labels: Sequence[str] = (), *, also: Iterable[str] = ()) -> dict[str, Any]:
        """A body's fields by the schema alone; blocks named in `also` are somebody else's."""
        fields = block_types()[kind]
        skip = set(also)
        blocks = self.check(body, sorted(fields, key=lambda f: f.name), skip)
        out: dict[str, Any] = {}
        remaining = list(labels)
        for field in fields:
            value = absent(field)
            if field.role == "label":
                value = remaining.pop(0) if remaining else value
            elif field.role == "attribute" and field.name in body.attributes:
                value = self.value(body.attributes[field.name].value, field.type, nullable=field.nullable)
            elif field.role == "block":
                value = self.nested(field, blocks.get(field.name, []))
            if value is not None or not field.omitted:
                out[field.key] = value
        return out

    def check(self, body: Body, fields: Sequence[Field], skip: Set[str] = frozenset()) -> dict[str, list[Block]]:
        """The body's blocks by name, after complaining of what the schema does not have.

        The order of the fields is that in which a similar name is looked for.
        """
        attributes = [f.name for f in fields if f.role == "attribute"]
        for field in fields:
            if field.required and field.name not in body.attributes:
                detail = f'The argument "{field.name}" is required, but no definition was found.'
                self.problems.append(Problem("Missing required argument", detail, _missing(body)))
        labels = {f.name: label_names(f) for f in fields if f.role == "block"}
        found: dict[str, list[Block]] = {}
        for block in body.blocks:
            if block.kind in labels and block.kind not in skip and self.labelled(block, labels[block.kind]):
                found.setdefault(block.kind, []).append(block)
        for attribute in body.attributes.values():
            if attribute.name not in attributes:
                free = [a for a in attributes if a not in body.attributes]
                self.unexpected_argument(attribute, free, {*labels, *skip})
        for block in body.blocks:
            if block.kind not in labels and block.kind not in skip:
                self.unexpected_block(block, list(labels), attributes)
        return found

    def unexpected_argument(self, attribute: Attribute, names: Sequence[str], blocks: Iterable[str]) -> None:
        """Complain of an argument that the schema does not have."""
        near = closest(attribute.name, names)
        hint = f' Did you mean "{near}"?' if near else ""
        if not near and attribute.name in blocks:
            hint = f' Did you mean to define a block of type "{attribute.name}"?'
        detail = f'An argument named "{attribute.name}" is not expected here.{hint}'
        self.problems.append(Problem("Unsupported argument", detail, attribute.name_span))

    def unexpected_block(self, block: Block, names: Sequence[str], attributes: Iterable[str]) -> None:
        """Complain of a block that the schema does not have."""
        near = closest(block.kind, names)
        hint = f' Did you mean "{near}"?' if near else ""
        if not near and block.kind in attributes:
            hint = f' Did you mean to define argument "{block.kind}"? If so, use the equals sign to assign it a value.'
        detail = f'Blocks of type "{block.kind}" are not expected here.{hint}'
        self.problems.append(Problem("Unsupported block type", detail, block.kind_span))

    def labelled(self, block: Block, names: Sequence[str]) -> bool:
        """Whether a block has the labels that it must have."""
        if len(block.labels) > len(names):
            detail = f"No labels are expected for {block.kind} blocks."
            if names:
                detail = f"Only {len(names)} labels ({', '.join(names)}) are expected for {block.kind} blocks."
            where = block.label_spans[len(names)]
            self.problems.append(Problem(f"Extraneous label for {block.kind}", detail, where))
            return False
        if len(block.labels) < len(names):
            detail = f"All {block.kind} blocks must have {len(names)} labels ({', '.join(names)})."
            summary = f"Missing {names[len(block.labels)]} for {block.kind}"
            self.problems.append(Problem(summary, detail, block.opened))
            return False
        return True

    def nested(self, field: Field, blocks: Sequence[Block]) -> Any:
        """The value of a field that is a block, several, or a map of them."""
        if not blocks:
            return None
        many = field.type[0] in "[<"
        if len(blocks) > 1 and not many:
            first, second = blocks[0].header, blocks[1].header
            detail = f"Only one {field.name} block is allowed. Another was defined at {first}."
            self.problems.append(Problem(f"Duplicate {field.name} block", detail, second))
            return None
        if field.type[0] == "{":
            from caravan.hcl.dynamic import expanded

            return self.mapping(field.type[1:-1], expanded(self, blocks[0].body))
        kind = field.type.strip("[]<>")
        found = [self.block(kind, b.body, b.labels) for b in blocks]
        if field.type[0] == "[":
            return found
        if field.type[0] == "<":
            return {b.labels[0]: f for b, f in zip(blocks, found, strict=True)}
        return found[0]

    def mapping(self, element: str, body: Body) -> dict[str, Any]:
        """A block whose arguments are free: each becomes an entry."""
        out: dict[str, Any] = {}
        for name, expression in free_arguments(body):
            if element == "any":
                self.later.append(lambda name=name, expression=expression: self._free(out, name, expression))  # type: ignore[misc]
            else:
                out[name] = self.value(expression, element, nullable=False)
        return out

    def _free(self, out: dict[str, Any], name: str, expression: Expression) -> list[Problem]:
        problems: list[Problem] = []
        value = evaluate(expression, self.scope, problems)
        try:
            out[name] = json_value(value)
        except Mismatch as wrong:
            problems.append(Problem("unsuitable value type", f"Unsuitable value: {wrong}", expression.start))
        return problems

    def value(self, expression: Expression, kind: str, *, nullable: bool) -> Any:
        """An argument's value as the schema's type; None after a complaint."""
        value = evaluate(expression, self.scope, self.problems)
        if kind == "duration":
            return self.duration(value, expression)
        try:
            return _fitted(convert(value, _hcl_type(kind)), kind, nullable=nullable)
        except Mismatch as wrong:
            self.unsuitable(f"Unsuitable value: {wrong}", expression)
            return None

    def unsuitable(self, detail: str, expression: Expression, summary: str = "Unsuitable value type") -> None:
        """Complain of an argument's value."""
        self.problems.append(Problem(summary, detail, expression.start))

    def duration(self, value: Any, expression: Expression) -> int | None:
        """A duration in nanoseconds from "1h30m" or a number of nanoseconds."""
        if value is None:
            self.unsuitable("Unsuitable duration value: nil", expression, "Unsuitable value")
            return None
        try:
            if isinstance(value, str):
                return parse_duration(value)
        except Mismatch as wrong:
            self.unsuitable(f"Unsuitable duration value: {wrong}", expression)
            return None
        try:
            if value is UNKNOWN:
                raise Mismatch("value must be known")
            if type_name(value) != "number":
                raise Mismatch(f"expected a string but found {type_name(value)}")
            return int(_fitted(value, "int64", nullable=False))
        except Mismatch as wrong:
            self.unsuitable(f"Unsuitable value: {wrong}", expression)
            return None

    def typed(self, attribute: Attribute, convert_to: Callable[[Any], Any]) -> Any:
        """An argument of a constraint or affinity, whose errors Nomad words in another way."""
        value = evaluate(attribute.value, self.scope, self.problems)
        try:
            return convert_to(value)
        except Mismatch as wrong:
            detail = f'Inappropriate value for attribute "{attribute.name}": {wrong}.'
            self.problems.append(Problem("Incorrect attribute value type", detail, attribute.value.span))
            return None

    def as_text(self, attribute: Attribute | None) -> str:
        """A constraint's argument as text, "" when it is not there."""
        found = self.typed(attribute, to_string) if attribute else None
        return found if isinstance(found, str) else ""

    def as_number(self, attribute: Attribute | None) -> int | Decimal | None:
        """An affinity's argument as number."""
        found = self.typed(attribute, to_number) if attribute else None
        return None if found is UNKNOWN else found

    def as_bool(self, attribute: Attribute | None) -> bool | None:
        """A constraint's argument as bool."""
        found = self.typed(attribute, to_bool) if attribute else None
        return None if found is UNKNOWN else found


def _missing(body: Body) -> Span | None:
    """Where a missing argument is told: before the body."""
    return Span(body.start.start, body.start.start) if body.start else None


def label_names(field: Field) -> list[str]:
    """The names of the labels that a block takes."""
    types = block_types().get(field.type.strip("[]<>{}"), ())
    return [f.name for f in types if f.role == "label"]


def _hcl_type(kind: str) -> str:
    if kind[0] in "[{":
        return f"{'list' if kind[0] == '[' else 'map'} of {_hcl_type(kind[1:-1])}"
    return _TYPES.get(kind, "number")


def _fitted(value: Any, kind: str, *, nullable: bool) -> Any:
    """A converted value as JSON of the schema's type. Raises Mismatch."""
    if value is UNKNOWN:
        raise Mismatch("value must be known")
    if value is None:
        if nullable:
            return None
        raise Mismatch("null value is not allowed")
    if isinstance(value, list):
        return [_fitted(v, kind[1:-1], nullable=False) for v in value]
    if isinstance(value, dict):
        return {k: _fitted(v, kind[1:-1], nullable=False) for k, v in value.items()}
    bits = _BITS.fullmatch(kind)
    if bits is None:
        return value
    size = int(bits[2] or 64)
    low, high = (0, 2**size - 1) if bits[1] else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    if isinstance(value, Decimal) or not low <= value <= high:
        raise Mismatch(f"value must be a whole number, between {low} and {high}")
    return value


def parse_duration(text: str) -> int:
    """A Go duration (`1h30m`, `-1.5s`) in nanoseconds. Raises Mismatch with Go's words."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    if not body:
        raise Mismatch(f'time: invalid duration "{text}"')
    total, at = 0, 0
    while at < len(body):
        number = re.compile(r"(\d*)(?:\.(\d*))?").match(body, at)
        if number is None or not (number[1] or number[2]):
            raise Mismatch(f'time: invalid duration "{text}"')
        unit = re.compile(r"[^.\d]*").match(body, number.end())
        name = unit[0] if unit else ""
        if not name:
            raise Mismatch(f'time: missing unit in duration "{text}"')
        if name not in _UNITS:
            raise Mismatch(f'time: unknown unit "{name}" in duration "{text}"')
        total += int(Decimal(f"{number[1] or 0}.{number[2] or 0}") * _UNITS[name])
        at = number.end() + len(name)
    if total > 2**63 - 1:
        raise Mismatch(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def free_arguments(body: Body) -> list[tuple[str, Expression]]:
    """Name and value of everything in a body without a schema.

    As Nomad has it for driver options: a block is a list of objects, and so is an object that is given as argument.
    """
    found = {a.name: _listed(a.value) for a in body.attributes.values()}
    for kind in dict.fromkeys(b.kind for b in body.blocks):
        found[kind] = _as_list([b for b in body.blocks if b.kind == kind])
    return list(found.items())


def _listed(value: Expression) -> Expression:
    return ListOf((value,), value.span, value.start) if isinstance(value, ObjectOf) else value


def _as_list(blocks: Sequence[Block]) -> ListOf:
    span = blocks[0].opened.to(blocks[-1].closed)
    return ListOf(tuple(_as_object(b) for b in blocks), span, blocks[0].opened)


def _as_object(block: Block) -> Expression:
    span = block.opened.to(block.closed)
    items = tuple((Literal(name, span), value) for name, value in free_arguments(block.body))
    value: Expression = ObjectOf(items, span, block.opened)
    for label in reversed(block.labels):
        value = ObjectOf(((Literal(label, span), ListOf((value,), span, block.opened)),), span, block.opened)
    return value
