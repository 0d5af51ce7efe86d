"""The tree that the parser builds: bodies, attributes, blocks and expressions, each with its place.

Pure data. `span` is the whole of a node, `start` the part that HCL points at when it means where a node begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from caravan.hcl.errors import Span
from caravan.values.base import Json


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, string part, true, false or null."""

    value: Json
    span: Span

    @property
    def start(self) -> Span:
        """All of it."""
        return self.span


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: an attribute's name, or a constant index in brackets or after a dot."""

    key: Json
    is_attribute: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Path:
    """A name and the steps after it, such as `var.image` or `attr.kernel.name`."""

    root: str
    root_span: Span
    steps: tuple[Step, ...]
    span: Span

    @property
    def start(self) -> Span:
        """All of it."""
        return self.span


@dataclass(frozen=True, slots=True)
class Access:
    """Constant steps into the value of an expression."""

    source: "Expression"
    steps: tuple[Step, ...]
    span: Span

    @property
    def start(self) -> Span:
        """All of it."""
        return self.span


@dataclass(frozen=True, slots=True)
class Index:
    """`collection[key]` with a computed key."""

    collection: "Expression"
    key: "Expression"
    span: Span
    brackets: Span

    @property
    def start(self) -> Span:
        """The opening bracket."""
        first = self.brackets.start
        return Span(first, first._replace(column=first.column + 1, offset=first.offset + 1))


@dataclass(frozen=True, slots=True)
class Item:
    """The element that a splat is at."""

    span: Span

    @property
    def start(self) -> Span:
        """All of it."""
        return self.span


@dataclass(frozen=True, slots=True)
class Splat:
    """`source[*]` or `source.*`; `each` is what is taken of each element, an expression over `Item`."""

    source: "Expression"
    each: "Expression"
    full: bool
    span: Span
    marker: Span

    @property
    def start(self) -> Span:
        """The star."""
        return self.marker


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; `expand` says that the last argument is a list of further arguments."""

    name: str
    arguments: tuple["Expression", ...]
    expand: bool
    name_span: Span
    opened: Span
    closed: Span

    @property
    def span(self) -> Span:
        """Name to closing parenthesis."""
        return self.name_span.to(self.closed)

    @property
    def start(self) -> Span:
        """Name and opening parenthesis."""
        return self.name_span.to(self.opened)


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? yes : no`, also a template's if."""

    condition: "Expression"
    yes: "Expression"
    no: "Expression"
    span: Span

    @property
    def start(self) -> Span:
        """Where the condition begins."""
        return self.condition.start


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands; `operator` is the token's type."""

    operator: str
    left: "Expression"
    right: "Expression"
    span: Span

    @property
    def start(self) -> Span:
        """Where the left operand begins."""
        return self.left.start


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `!x`."""

    operator: str
    operand: "Expression"
    span: Span
    start: Span


@dataclass(frozen=True, slots=True)
class Paren:
    """An expression in parentheses: what makes an object's key an expression."""

    inner: "Expression"
    span: Span

    @property
    def start(self) -> Span:
        """Where the inner expression begins."""
        return self.inner.start


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, b]`."""

    items: tuple["Expression", ...]
    span: Span
    start: Span


@dataclass(frozen=True, slots=True)
class ObjectOf:
    """`{ a = b }`; keys that are bare names count as strings."""

    items: tuple[tuple["Expression", "Expression"], ...]
    span: Span
    start: Span


@dataclass(frozen=True, slots=True)
class For:
    """A for expression. `key` None makes a list, else an object; `joined` a text (a template's for)."""

    key_name: str
    value_name: str
    collection: "Expression"
    key: "Expression | None"
    value: "Expression"
    condition: "Expression | None"
    group: bool
    joined: bool
    span: Span
    start: Span


@dataclass(frozen=True, slots=True)
class Template:
    """A string of parts, at least one."""

    parts: tuple["Expression", ...]
    span: Span

    @property
    def start(self) -> Span:
        """Where the first part begins."""
        return self.parts[0].start


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A string that is nothing but one interpolation: its value keeps its type."""

    inner: "Expression"
    span: Span

    @property
    def start(self) -> Span:
        """All of it."""
        return self.span


@dataclass(frozen=True, slots=True)
class Bound:
    """An expression of a `dynamic` block's content, with what the block's own names mean there."""

    inner: "Expression"
    names: Mapping[str, Any]

    @property
    def span(self) -> Span:
        """That of the expression."""
        return self.inner.span

    @property
    def start(self) -> Span:
        """That of the expression."""
        return self.inner.start


Expression: TypeAlias = (
    Literal
    | Path
    | Access
    | Index
    | Item
    | Splat
    | Call
    | Conditional
    | Binary
    | Unary
    | Paren
    | ListOf
    | ObjectOf
    | For
    | Template
    | Wrapped
    | Bound
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """`name = expression`."""

    name: str
    name_span: Span
    value: Expression


@dataclass(slots=True)
class Body:
    """What stands between a block's braces, or in the file. `start` is where a missing item is told."""

    attributes: dict[str, Attribute] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)
    start: Span | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """`kind "label" { … }`."""

    kind: str
    kind_span: Span
    labels: tuple[str, ...]
    label_spans: tuple[Span, ...]
    opened: Span
    closed: Span
    body: Body

    @property
    def header(self) -> Span:
        """Kind and labels."""
        return self.kind_span.to(self.label_spans[-1]) if self.label_spans else self.kind_span
