"""What HCL says of a token that can't stand where it stands.

Works on the LALR parser's stack of values: tokens that are still open, and what has been recognised between them.
The words and places are those of HCL's own parser, which Nomad hands on.
"""

from collections.abc import Container, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from caravan.hcl.errors import Problem, Span
from caravan.hcl.tokens import Token
from caravan.hcl.tree import Body

_PAIRS: Final = {
    "RBRACE": "LBRACE",
    "RSQB": "LSQB",
    "RPAR": "LPAR",
    "CQUOTE": "OQUOTE",
    "HEREDOC_END": "HEREDOC",
}
_OPEN: Final = frozenset({"LBRACE", "LSQB", "LPAR", "OQUOTE", "HEREDOC", "INTERP", "CONTROL"})
_NESTING: Final = "This may be caused by incorrect {} nesting elsewhere in this file."
_ITEM: Final = "Argument or block definition required"
_EQUALS: Final = 'To set an argument, use the equals sign "=" to introduce the argument value.'


class Resume(Enum):
    """Where reading goes on: after the line of the broken item, or after the block that it stands in."""

    AFTER_ITEM = 1
    AFTER_BLOCK = 2


class Complaint(NamedTuple):
    """A problem and how to go on.

    `always`: told even after another. `open`: the brackets to skip out of, innermost first. `in_block`: the body that
    is left is a block's. `read`: the token itself is skipped first. `outer`: the block around is over.
    `line_first`: the line is skipped before the rest of the block. `at_closer`: told where the innermost bracket ends.
    `complete`: what stands before the token is a whole argument. `label`: reading goes on in the block's header, after
    the label ("CQUOTE") or in it, after the sequence ("SEQ_END").
    """

    problem: Problem
    always: bool = False
    resume: Resume = Resume.AFTER_ITEM
    open: tuple[str, ...] = ()
    in_block: bool = True
    read: bool = False
    outer: bool = False
    line_first: bool = False
    at_closer: bool = False
    complete: bool = False
    label: str = ""


def kind(value: Any) -> str:
    """A token's type, or "" for what has been recognised."""
    return value.type if isinstance(value, Token) else ""


def complain(stack: Sequence[Any], table: Container[str], token: Token) -> Complaint:
    """What is wrong with `token` after `stack`, `table` holding the terminals that could follow."""
    base = max((i for i, v in enumerate(stack) if isinstance(v, Body)), default=-1)
    rest = list(stack[base + 1 :])
    if all(kind(v) == "NL" for v in rest):
        return _in_body(stack, base, token)
    kinds = [kind(v) for v in rest]
    if kinds[-1] == "RBRACE" and kinds[:2] != ["IDENT", "ASSIGN"] and not _still_open(kinds, 0):
        problem = Problem(
            "Missing newline after block definition", "A block definition must end with a newline.", token.span
        )
        return Complaint(problem, outer=len(kinds) == 1)
    if "ASSIGN" not in kinds:
        return _in_header(rest, kinds, token)
    after = kinds.index("ASSIGN") + 1
    opened = _still_open(kinds, after)
    short = "LBRACE" in kinds[:after]
    found, always, read = _in_expression(rest, kinds, after, opened, table, token)
    if found is None:
        return _after_value(rest, kinds, token, short=short)
    resume = Resume.AFTER_BLOCK if short else Resume.AFTER_ITEM
    brackets = tuple(kinds[i] for i in reversed(opened))
    at_closer = found.summary.startswith("Missing close bracket")
    return Complaint(found, always, resume, brackets, read=read, line_first=short, at_closer=at_closer)


def _still_open(kinds: Sequence[str], start: int) -> list[int]:
    """Where in the stack brackets are open, outermost first."""
    opened: list[int] = []
    for i in range(start, len(kinds)):
        if kinds[i] in _OPEN:
            opened.append(i)
        elif (kinds[i] in _PAIRS or kinds[i] == "SEQ_END") and opened:
            opened.pop()
    return opened


def _in_body(stack: Sequence[Any], base: int, token: Token) -> Complaint:
    """Where an argument, a block or the end of the body should stand."""
    in_block = base > 0
    if token.type == "OQUOTE":
        problem = Problem("Invalid argument name", "Argument names must not be quoted.", token.span)
    elif token.type == "$END":
        problem = _unclosed(stack[base - 2].span)
    else:
        problem = Problem(_ITEM, "An argument or block definition is required here.", token.span)
    return Complaint(problem, False, Resume.AFTER_BLOCK, in_block=in_block, read=True, outer=True)


def _unclosed(brace: Span) -> Problem:
    detail = f"There is no closing brace for this block before the end of the file. {_NESTING.format('brace')}"
    return Problem("Unclosed configuration block", detail, brace)


def _in_header(rest: Sequence[Any], kinds: Sequence[str], token: Token) -> Complaint:
    """After an item's first name and before its equals sign or its block's content."""
    if "LBRACE" in kinds:
        return _in_short_block(rest, kinds, token)
    if _still_open(kinds, 0):
        return _in_label(token)
    if len(rest) == 1:
        name = rest[0].span if isinstance(rest[0], Token) else rest[0][0].span
        if isinstance(rest[0], Token) or not rest[0][1]:
            return Complaint(Problem(_ITEM, f"An argument or block definition is required here. {_EQUALS}", name), True)
    summary = "Invalid block definition"
    if token.type == "ASSIGN":
        detail = 'The equals sign "=" indicates an argument definition, and must not be used when defining a block.'
        return Complaint(Problem(summary, detail, token.span), True)
    if token.type == "NL":
        detail = (
            'A block definition must have block content delimited by "{" and "}", starting on the same line as the '
            "block header."
        )
        return Complaint(Problem(summary, detail, token.span), True)
    detail = 'Either a quoted string block label or an opening brace ("{") is expected here.'
    return Complaint(Problem(summary, detail, token.span))


def _in_label(token: Token) -> Complaint:
    """In a quoted label: HCL skips to its end, or to that of a sequence in it, and reads the header on."""
    if token.type in ("INTERP", "CONTROL"):
        sign = token.text[0]
        detail = (
            "Template sequences are not allowed in this string. To include a literal "
            f'"{sign}", double it (as "{sign}{sign}") to escape it.'
        )
        return Complaint(Problem("Invalid string literal", detail, token.span), label="SEQ_END")
    if token.type == "$END":
        detail = "Unable to find the closing quote mark before the end of the file."
        return Complaint(Problem("Unterminated string literal", detail, token.span), label="CQUOTE")
    detail = "This item is not valid in a string literal."
    return Complaint(Problem("Invalid string literal", detail, token.span), label="CQUOTE")


def _in_short_block(rest: Sequence[Any], kinds: Sequence[str], token: Token) -> Complaint:
    """After a block's opening brace, on the same line, before an equals sign."""
    last = rest[-1]
    if kinds[-1] == "LBRACE":
        if token.type == "$END":
            return Complaint(_unclosed(last.span), False, Resume.AFTER_BLOCK)
        detail = "An argument or block definition is required here."
        return Complaint(Problem(_ITEM, detail, token.span), True, Resume.AFTER_BLOCK, read=True, line_first=True)
    if token.type in ("OQUOTE", "LBRACE", "IDENT"):
        detail = (
            "A single-line block definition can contain only a single argument. If you meant to define argument "
            f'"{last.text}", use an equals sign to assign it a value. To define a nested block, place it on a line '
            "of its own within its parent block."
        )
        where = last.span.to(token.span)
        problem = Problem("Argument definition required", detail, where)
        return Complaint(problem, True, Resume.AFTER_BLOCK, line_first=True)
    detail = f"An argument or block definition is required here. {_EQUALS}"
    return Complaint(Problem(_ITEM, detail, last.span), True, Resume.AFTER_BLOCK, line_first=True)


def _after_value(rest: Sequence[Any], kinds: Sequence[str], token: Token, *, short: bool) -> Complaint:
    """After an argument's whole value."""
    if not short:
        summary, detail = "Missing newline after argument", "An argument definition must end with a newline."
        if token.type == "COMMA":
            summary = "Unexpected comma after argument"
            detail = f"Argument definitions must be separated by newlines, not commas. {detail}"
        return Complaint(Problem(summary, detail, token.span), complete=True)
    if token.type == "$END":
        return Complaint(_unclosed(rest[kinds.index("LBRACE")].span), False, Resume.AFTER_BLOCK)
    return Complaint(unfinished(token), token.type in ("COMMA", "NL"), Resume.AFTER_BLOCK)


def unfinished(token: Token) -> Problem:
    """What is said of a token that stands where a block on one line must end."""
    if token.type == "COMMA":
        detail = (
            "Single-line block syntax can include only one argument definition. To define multiple arguments, use the "
            "multi-line block syntax with one argument definition per line."
        )
    elif token.type == "NL":
        detail = (
            "An argument definition on the same line as its containing block creates a single-line block definition, "
            "which must also be closed on the same line. Place the block's closing brace immediately after the "
            "argument definition."
        )
    else:
        detail = (
            "A single-line block definition must end with a closing brace immediately after its single argument "
            "definition."
        )
    return Problem("Invalid single-argument block definition", detail, token.span)


def _in_expression(
    rest: Sequence[Any], kinds: Sequence[str], start: int, opened: Sequence[int], table: Container[str], token: Token
) -> tuple[Problem | None, bool, bool]:
    """The problem inside a value, None when the value is complete; whether it is always told; whether to skip on."""
    from caravan.hcl import wording

    here = opened[-1] if opened else start - 1
    place = wording.Place(rest[here], rest[here - 1] if opened else None, rest[here + 1 :], token)
    if kinds[-1] in ("DOT", "SCOPE") or (kinds[-1] == "IDENT" and len(rest) > 1 and kinds[-2] == "SCOPE"):
        return wording.after_name(kinds[-1], place), True, False
    if "FOR" in kinds[here + 1 :] and kinds[here] != "CONTROL":
        problem = wording.in_for(place, operand="NUMBER" in table)
        if problem is not None:
            return problem, False, False
    if kinds[here] in ("OQUOTE", "HEREDOC"):
        return wording.in_string(place), False, True
    if kinds[here] == "CONTROL" and "NUMBER" not in table:
        return wording.in_directive(place), False, False
    if "NUMBER" in table:
        return wording.no_operand(place), False, False
    signs = [k for k in kinds[here + 1 :] if k in ("QUESTION", "COLON")]
    if signs and signs[-1] == "QUESTION":
        return wording.no_alternative(place), True, False
    if not opened:
        return None, False, False
    problem, always = wording.in_brackets(kinds[here], place, rest, opened)
    return problem, always, False
