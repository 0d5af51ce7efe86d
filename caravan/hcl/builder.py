"""The parser's callbacks: what it has recognised → our tree.

`make_builder` gives a `lark.Transformer`; its methods are named after the grammar's rules. It checks what the grammar
can't: an argument set twice, a number that is none, escapes.
"""

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from caravan.hcl.errors import Problem, Span
from caravan.hcl.strings import unescape
from caravan.hcl.templates import Directive, ForDirective, IfDirective, Part, Text, Value, assemble
from caravan.hcl.tokens import Token
from caravan.hcl.tree import (
    Access,
    Attribute,
    Binary,
    Block,
    Body,
    Call,
    Conditional,
    Expression,
    For,
    Index,
    Item,
    ListOf,
    Literal,
    ObjectOf,
    Paren,
    Path,
    Splat,
    Step,
    Template,
    Unary,
    Wrapped,
)

_CONSTANTS = {"true": True, "false": False, "null": None}


def number(text: str) -> int | Decimal:
    """A number literal's value, whole numbers as int. Raises ValueError for what is no number (`1.2.3`, `Infinity`)."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite():
        raise ValueError(text)
    whole = value == value.to_integral_value() and abs(value.adjusted()) < 400
    return int(value) if whole else value


def _extended(expression: Expression, step: Step) -> Expression:
    """The expression with one more constant step."""
    if isinstance(expression, Splat) and (expression.full or step.is_attribute):
        return replace(expression, each=_extended(expression.each, step), span=expression.span.to(step.span))
    if isinstance(expression, Path | Access):
        return replace(expression, steps=(*expression.steps, step), span=expression.span.to(step.span))
    return Access(expression, (step,), expression.span.to(step.span))


def _indexed(expression: Expression, key: Expression, brackets: Span) -> Expression:
    """The expression with `[key]` after it."""
    if isinstance(key, Literal):
        return _extended(expression, Step(key.value, False, brackets))
    if isinstance(key, Template) and len(key.parts) == 1 and isinstance(key.parts[0], Literal):
        return _extended(expression, Step(key.parts[0].value, False, brackets))
    if isinstance(expression, Splat) and expression.full:
        return replace(expression, each=_indexed(expression.each, key, brackets), span=expression.span.to(brackets))
    return Index(expression, key, expression.span.to(brackets), brackets)


def make_builder(problems: list[Problem]) -> Any:
    """A `lark.Transformer` that builds our tree and appends to `problems`."""
    from lark import Transformer

    class Builder(Transformer[Any, Any], _Structure, _Expressions, _Strings):
        """All callbacks."""

    builder = Builder()
    builder.problems = problems
    return builder


class _Structure:
    """Callbacks for bodies, attributes and blocks. Each gets the list of its rule's children."""

    problems: list[Problem]

    def start(self, c: list[Any]) -> Body:
        body: Body = c[0]
        return body

    def no_items(self, _c: list[Any]) -> Body:
        return Body()

    def more_newlines(self, c: list[Any]) -> Body:
        body: Body = c[0]
        return body

    def more_items(self, c: list[Any]) -> Body:
        body: Body = c[0]
        item: Attribute | Block = c[1]
        if isinstance(item, Block):
            body.blocks.append(item)
        elif item.name in body.attributes:
            first = body.attributes[item.name].name_span
            detail = f'The argument "{item.name}" was already set at {first}. Each argument may be set only once.'
            self.problems.append(Problem("Attribute redefined", detail, item.name_span))
        else:
            body.attributes[item.name] = item
        return body

    def attribute(self, c: list[Any]) -> Attribute:
        return Attribute(c[0].text, c[0].span, c[2])

    def header(self, c: list[Any]) -> tuple[Token, list[tuple[str, Span]]]:
        return c[0], c[1:]

    def bare_label(self, c: list[Any]) -> tuple[str, Span]:
        return c[0].text, c[0].span

    def quoted_label(self, c: list[Any]) -> tuple[str, Span]:
        texts = []
        for token in c[1:-1]:
            text, wrong = unescape(token.text, token.span)
            texts.append(text)
            self.problems.extend(wrong)
        return "".join(texts), c[0].span.to(c[-1].span)

    def empty_block(self, c: list[Any]) -> Block:
        return self._block(c[0], c[1], c[2], Body(start=c[1].span))

    def long_block(self, c: list[Any]) -> Block:
        body: Body = c[3]
        body.start = c[1].span
        return self._block(c[0], c[1], c[4], body)

    def short_block(self, c: list[Any]) -> Block:
        attribute = Attribute(c[2].text, c[2].span, c[4])
        return self._block(c[0], c[1], c[5], Body({attribute.name: attribute}, [], c[2].span))

    def _block(self, header: tuple[Token, list[tuple[str, Span]]], opened: Token, closed: Token, body: Body) -> Block:
        kind, labels = header
        names, spans = tuple(n for n, _ in labels), tuple(s for _, s in labels)
        return Block(kind.text, kind.span, names, spans, opened.span, closed.span, body)


class _Expressions:
    """Callbacks for expressions other than strings."""

    problems: list[Problem]

    def conditional(self, c: list[Any]) -> Conditional:
        return Conditional(c[0], c[2], c[4], c[0].span.to(c[4].span))

    def binary(self, c: list[Any]) -> Binary:
        return Binary(c[1].type, c[0], c[2], c[0].span.to(c[2].span))

    def unary(self, c: list[Any]) -> Unary:
        return Unary(c[0].type, c[1], c[0].span.to(c[1].span), c[0].span)

    def dot_name(self, c: list[Any]) -> Expression:
        return _extended(c[0], Step(c[2].text, True, c[1].span.to(c[2].span)))

    def dot_number(self, c: list[Any]) -> Expression:
        text = c[2].text
        if "." in text:
            first, _, second = text.partition(".")
            splat = " with a full splat expression [*]" if isinstance(c[0], Splat) and not c[0].full else ""
            detail = (
                "When using the legacy index syntax, chaining two indexes together is not permitted. Use the proper "
                f"index syntax{splat} instead, like [{first}][{second}]."
            )
            self.problems.append(Problem("Invalid legacy index syntax", detail, c[2].span))
            return _extended(c[0], Step(0, True, c[1].span.to(c[2].span)))
        # Counts as an attribute so that it goes into an attribute-only splat, as HCL has it.
        return _extended(c[0], Step(self._number(c[2]), True, c[1].span.to(c[2].span)))

    def dot_star(self, c: list[Any]) -> Splat:
        marker = c[1].span.to(c[2].span)
        return Splat(c[0], Item(marker), False, c[0].span.to(marker), marker)

    def bracket(self, c: list[Any]) -> Expression:
        return _indexed(c[0], c[2], c[1].span.to(c[3].span))

    def bracket_star(self, c: list[Any]) -> Expression:
        marker = c[1].span.to(c[3].span)
        if isinstance(c[0], Splat) and c[0].full:
            inner = Splat(c[0].each, Item(marker), True, c[0].each.span.to(marker), marker)
            return replace(c[0], each=inner, span=c[0].span.to(marker))
        return Splat(c[0], Item(marker), True, c[0].span.to(marker), marker)

    def number(self, c: list[Any]) -> Literal:
        return Literal(self._number(c[0]), c[0].span)

    def _number(self, token: Token) -> int | Decimal:
        try:
            return number(token.text)
        except ValueError:
            detail = "Failed to recognize the value of this number literal."
            self.problems.append(Problem("Invalid number literal", detail, token.span))
            return 0

    def name(self, c: list[Any]) -> Expression:
        text, span = c[0].text, c[0].span
        return Literal(_CONSTANTS[text], span) if text in _CONSTANTS else Path(text, span, (), span)

    def paren(self, c: list[Any]) -> Paren:
        return Paren(c[1], c[0].span.to(c[2].span))

    def function(self, c: list[Any]) -> tuple[str, Span]:
        return "".join(t.text for t in c), c[0].span.to(c[-1].span)

    def arguments(self, c: list[Any]) -> tuple[Expression, ...]:
        return (c[0],) if len(c) == 1 else (*c[0], c[2])

    def call(self, c: list[Any]) -> Call:
        (name, span), arguments = c[0], c[2] if isinstance(c[2], tuple) and not isinstance(c[2], Token) else ()
        return Call(name, arguments, c[-2].__class__ is Token and c[-2].type == "ELLIPSIS", span, c[1].span, c[-1].span)

    def list_of(self, c: list[Any]) -> ListOf:
        items = c[1] if len(c) > 2 else ()
        return ListOf(items, c[0].span.to(c[-1].span), c[0].span)

    def object(self, c: list[Any]) -> ObjectOf:
        pairs = next((x for x in c if isinstance(x, list)), [])
        return ObjectOf(tuple(pairs), c[0].span.to(c[-1].span), c[0].span)

    def newlines(self, _c: list[Any]) -> None:
        return None

    def separator(self, _c: list[Any]) -> None:
        return None

    def pairs(self, c: list[Any]) -> list[Any]:
        if isinstance(c[0], list):
            c[0].append(c[2])
            found: list[Any] = c[0]
            return found
        return [c[0]]

    def pair(self, c: list[Any]) -> tuple[Expression, Expression]:
        return c[0], c[2]

    def names(self, c: list[Any]) -> tuple[str, str]:
        return ("", c[0].text) if len(c) == 1 else (c[0].text, c[2].text)

    def loop(self, c: list[Any]) -> dict[str, Any]:
        kinds = {x.type: i for i, x in enumerate(c) if x.__class__ is Token}
        arrow = kinds.get("ARROW")
        return {
            "key_name": c[1][0],
            "value_name": c[1][1],
            "collection": c[3],
            "key": c[5] if arrow else None,
            "value": c[arrow + 1] if arrow else c[5],
            "condition": c[kinds["IF"] + 1] if "IF" in kinds else None,
            "group": "ELLIPSIS" in kinds,
        }

    def for_list(self, c: list[Any]) -> For:
        loop = c[1]
        if loop["key"] is not None:
            detail = "Key expression is not valid when building a tuple."
            self.problems.append(Problem("Invalid 'for' expression", detail, loop["key"].span))
        return For(**{**loop, "key": None}, joined=False, span=c[0].span.to(c[2].span), start=c[0].span)

    def for_object(self, c: list[Any]) -> For:
        loop = c[1]
        if loop["key"] is None:
            detail = "Key expression is required when building an object."
            self.problems.append(Problem("Invalid 'for' expression", detail, loop["value"].span))
        return For(**loop, joined=False, span=c[0].span.to(c[2].span), start=c[0].span)


class _Strings:
    """Callbacks for strings and what is in them."""

    problems: list[Problem]

    def text(self, c: list[Any]) -> Part:
        return Text(c[0].text, c[0].span)

    def interpolation(self, c: list[Any]) -> Part:
        return Value(c[1], c[0], c[2])

    def if_directive(self, c: list[Any]) -> Part:
        return IfDirective(c[2], c[0], c[3])

    def for_directive(self, c: list[Any]) -> Part:
        return ForDirective(c[2], c[4], c[0], c[5])

    def directive(self, c: list[Any]) -> Part:
        return Directive(c[1].text, c[0], c[2])

    def template(self, c: list[Any]) -> Template | Wrapped:
        return assemble(c[0], c[1:-1], c[-1], self.problems)
