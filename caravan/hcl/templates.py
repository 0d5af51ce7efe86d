"""The parts of a string → one template expression: escapes, trimming (`~`), indentation, nested if and for.

Pure, and the parser's own; it knows nothing of how values are rendered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from caravan.hcl.errors import Problem, Span, at
from caravan.hcl.strings import undouble, unescape, without_indent
from caravan.hcl.tokens import Token
from caravan.hcl.tree import Conditional, Expression, For, Literal, Template, Wrapped


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it stands in the source."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Value:
    """`${ expression }`."""

    expression: Expression
    opened: Token
    closed: Token


@dataclass(frozen=True, slots=True)
class IfDirective:
    """`%{ if condition }`."""

    condition: Expression
    opened: Token
    closed: Token


@dataclass(frozen=True, slots=True)
class ForDirective:
    """`%{ for key, value in collection }`."""

    names: tuple[str, str]
    collection: Expression
    opened: Token
    closed: Token


@dataclass(frozen=True, slots=True)
class Directive:
    """`%{ else }`, `%{ endif }` or `%{ endfor }`."""

    kind: str
    opened: Token
    closed: Token


Part: TypeAlias = Text | Value | IfDirective | ForDirective | Directive


def assemble(opened: Token, parts: Sequence[Part], closed: Token, problems: list[Problem]) -> Template | Wrapped:
    """The expression of a quoted string or heredoc; what is wrong with it is appended to `problems`."""
    span = opened.span.to(closed.span)
    read = _trimmed(parts, opened.type == "OQUOTE", problems)
    if opened.text.startswith("<<-"):
        texts = without_indent([p.text if isinstance(p, Text) else None for p in read])
        read = [
            replace(p, text=text) if isinstance(p, Text) and text is not None else p
            for p, text in zip(read, texts, strict=True)
        ]
    read = _melded(read)
    if not read:
        return Template((Literal("", at(closed.span.end)),), span)
    if len(read) == 1 and isinstance(read[0], Value):
        return Wrapped(read[0].expression, span)
    nest = _Nest(read, closed.span, problems)
    return Template(tuple(nest.all()), span)


def _trimmed(parts: Sequence[Part], quoted: bool, problems: list[Problem]) -> list[Part]:
    """The parts with escapes resolved and white space eaten where a neighbour says `~`."""
    out: list[Part] = []
    trim_next = False
    for part in parts:
        if isinstance(part, Text):
            text, wrong = unescape(part.text, part.span) if quoted else (undouble(part.text), [])
            problems.extend(wrong)
            out.append(replace(part, text=text.lstrip() if trim_next else text))
            trim_next = False
            continue
        if part.opened.text.endswith("~") and out and isinstance(out[-1], Text):
            out[-1] = replace(out[-1], text=out[-1].text.rstrip())
        trim_next = part.closed.text.startswith("~")
        out.append(part)
    return out


def _melded(parts: Sequence[Part]) -> list[Part]:
    """The parts with neighbouring texts made one."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, Text) and isinstance(last, Text):
            out[-1] = Text(last.text + part.text, last.span.to(part.span))
        else:
            out.append(part)
    return out


class _Nest:
    """Turns the flat sequence of parts into nested expressions."""

    def __init__(self, parts: Sequence[Part], end: Span, problems: list[Problem]) -> None:
        self.parts = list(parts)
        self.end = end
        self.problems = problems
        self.at = 0

    def all(self) -> list[Expression]:
        out = []
        while self.at < len(self.parts):
            out.append(self.one())
        return out

    def one(self) -> Expression:
        part = self.parts[self.at]
        self.at += 1
        if isinstance(part, Text):
            return Literal(part.text, part.span)
        if isinstance(part, Value):
            return part.expression
        if isinstance(part, IfDirective):
            return self.when(part)
        if isinstance(part, ForDirective):
            return self.each(part)
        return self.wrong(
            f"Unexpected {part.kind} directive",
            "The control directives within this template are unbalanced.",
            _span(part),
        )

    def wrong(self, summary: str, detail: str, span: Span) -> Expression:
        self.problems.append(Problem(summary, detail, span))
        return Literal("", span)

    def until(self) -> tuple[list[Expression], Directive | None]:
        """Expressions up to a directive (any but those that open), which comes too; None at the string's end."""
        out: list[Expression] = []
        while self.at < len(self.parts):
            part = self.parts[self.at]
            if isinstance(part, Directive):
                self.at += 1
                return out, part
            out.append(self.one())
        return out, None

    def when(self, opening: IfDirective) -> Expression:
        start = _span(opening)
        yes, end = self.until()
        no: list[Expression] = []
        between = end
        if end is not None and end.kind == "else":
            no, end = self.until()
        if end is None:
            detail = f"The if directive at {start} is missing its corresponding endif directive."
            return self.wrong("Unexpected end of template", detail, self.end)
        if end.kind == "else":
            detail = f"Already in the else clause for the if started at {start}."
            return self.wrong("Unexpected else directive", detail, _span(end))
        if end.kind != "endif":
            detail = f"Expecting an endif directive for the if started at {start}."
            return self.wrong(f"Unexpected {end.kind} directive", detail, _span(end))
        close = _span(end)
        empty_no = at((_span(between) if between else close).start)
        return Conditional(opening.condition, _sequence(yes, at(start.end)), _sequence(no, empty_no), start.to(close))

    def each(self, opening: ForDirective) -> Expression:
        start = _span(opening)
        content, end = self.until()
        if end is None:
            detail = f"The for directive at {start} is missing its corresponding endfor directive."
            return self.wrong("Unexpected end of template", detail, self.end)
        if end.kind == "else":
            detail = "An else clause is not expected for a for directive."
            return self.wrong("Unexpected else directive", detail, _span(end))
        if end.kind != "endfor":
            detail = f"Expecting an endfor directive corresponding to the for directive at {start}."
            return self.wrong(f"Unexpected {end.kind} directive", detail, _span(end))
        (key, value), body = opening.names, _sequence(content, at(start.end))
        span = start.to(_span(end))
        return For(key, value, opening.collection, None, body, None, False, True, span, start)


def _sequence(parts: list[Expression], empty: Span) -> Template:
    if not parts:
        return Template((Literal("", empty),), empty)
    return Template(tuple(parts), parts[0].span.to(parts[-1].span))


def _span(part: IfDirective | ForDirective | Directive) -> Span:
    return part.opened.span.to(part.closed.span)
