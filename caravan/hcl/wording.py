"""HCL's words for what is wrong inside a value: which bracket is open, what stands in it, what came instead."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from caravan.hcl.distance import closest
from caravan.hcl.errors import Problem, Span
from caravan.hcl.templates import Text
from caravan.hcl.tokens import Token

_NESTING: Final = "This may be caused by incorrect {} nesting elsewhere in this file."
_OPERAND_ENDS: Final = frozenset({"IDENT", "NUMBER", "RSQB", "RPAR", "RBRACE", "CQUOTE", "HEREDOC_END"})


class Place(NamedTuple):
    """The innermost open bracket, what stands before and after it, and the token that can't stand there."""

    opener: Any
    before: Any
    inside: Sequence[Any]
    token: Token


def _kinds(values: Sequence[Any]) -> list[str]:
    return [v.type if isinstance(v, Token) else "" for v in values]


def no_operand(place: Place) -> Problem:
    """Where an expression should start."""
    if place.token.type == "$END":
        detail = "Expected the start of an expression, but found the end of the file."
        return Problem("Missing expression", detail, place.token.span)
    detail = "Expected the start of an expression, but found an invalid expression token."
    return Problem("Invalid expression", detail, place.token.span)


def after_name(last: str, place: Place) -> Problem:
    """After a dot, or in a function's name."""
    if last == "DOT":
        detail = "An attribute name is required after a dot."
        return Problem("Invalid attribute name", detail, place.token.span)
    if last == "SCOPE":
        detail = "Function scope resolution symbol :: must be followed by a function name in this scope."
        return Problem("Missing function name", detail, place.token.span)
    detail = "Function selector must be followed by an open parenthesis to begin the function call."
    return Problem("Missing open parenthesis", detail, place.token.span)


def no_alternative(place: Place) -> Problem:
    """After `condition ? value`."""
    detail = "The conditional operator (...?...:...) requires a false expression, delimited by a colon."
    return Problem("Missing false expression in conditional", detail, place.token.span)


def in_for(place: Place, *, operand: bool) -> Problem | None:
    """Inside a for expression; None where just an operand is missing."""
    kinds = _kinds(place.inside)
    after = kinds[kinds.index("FOR") + 1 :]
    if not after:
        detail = "For expression requires variable name after 'for'."
    elif "IN" not in after:
        comma = after[-1] == "COMMA"
        detail = (
            "For expression requires value variable name after comma."
            if comma
            else "For expression requires the 'in' keyword after its name declarations."
        )
    elif operand:
        return None
    elif "COLON" not in after:
        detail = "For expression requires a colon after the collection expression."
    else:
        detail = "Extra characters after the end of the 'for' expression."
    return Problem("Invalid 'for' expression", detail, place.token.span)


def in_string(place: Place) -> Problem:
    """Inside a string, where neither text nor an end came."""
    return Problem("Unterminated template string", "No closing marker was found for the string.", place.token.span)


def in_directive(place: Place) -> Problem:
    """Inside `%{ … }`."""
    kinds = _kinds(place.inside)
    token = place.token
    if not kinds:
        if token.type != "IDENT":
            detail = 'A template directive keyword ("if", "for", etc) is expected at the beginning of a %{ sequence.'
            return Problem("Invalid template directive", detail, token.span)
        near = closest(token.text, ("if", "for", "else", "endif", "endfor"))
        hint = f' Did you mean "{near}"?' if near else ""
        detail = f'"{token.text}" is not a valid template control keyword.{hint}'
        return Problem("Invalid template control keyword", detail, token.span)
    if kinds[0] == "FOR" and "IN" not in kinds:
        if len(kinds) == 1:
            detail = "For directive requires variable name after 'for'."
        elif kinds[-1] == "COMMA":
            detail = "For directive requires value variable name after comma."
        else:
            detail = "For directive requires 'in' keyword after names."
        return Problem("Invalid 'for' directive", detail, token.span)
    detail = "Expected a closing brace to end the sequence, but found extra characters."
    return Problem(f"Extra characters in {place.inside[0].text} marker", detail, token.span)


def in_brackets(opener: str, place: Place, rest: Sequence[Any], opened: Sequence[int]) -> tuple[Problem, bool]:
    """After a whole expression inside brackets: the problem, and whether it is told even after another."""
    if opener == "LPAR":
        return _in_parentheses(place)
    if opener == "LSQB":
        return _in_square_brackets(place), False
    if opener == "INTERP":
        return _in_interpolation(place, rest, opened), False
    return _in_object(place), False


def _in_parentheses(place: Place) -> tuple[Problem, bool]:
    token = place.token
    if not isinstance(place.before, tuple) or isinstance(place.before, Token):
        detail = "Expected a closing parenthesis to terminate the expression."
        return Problem("Unbalanced parentheses", detail, token.span), True
    last = place.inside[-1] if place.inside else None
    if isinstance(last, Token) and last.type == "ELLIPSIS":
        detail = "An expanded function argument (with ...) must be immediately followed by closing parentheses."
        return Problem("Missing closing parenthesis", detail, last.span), False
    if token.type == "$END":
        detail = (
            "There is no closing parenthesis for this function call before the end of the file. "
            f"{_NESTING.format('parenthesis')}"
        )
        return Problem("Unterminated function call", detail, place.before[1].to(place.opener.span)), True
    detail = "A comma is required to separate each function argument from the next."
    return Problem("Missing argument separator", detail, token.span), True


def _is_operand(value: Any) -> bool:
    if isinstance(value, Token):
        return value.type in _OPERAND_ENDS
    return hasattr(value, "span")


def _in_square_brackets(place: Place) -> Problem:
    token = place.token
    if _is_operand(place.before):
        if _kinds(place.inside)[-1:] == ["STAR"]:
            detail = 'The star for a full splat operator must be immediately followed by a closing bracket ("]").'
            return Problem("Missing close bracket on splat index", detail, token.span)
        detail = 'The index operator must end with a closing bracket ("]").'
        return Problem("Missing close bracket on index", detail, token.span)
    if token.type == "$END":
        detail = f"There is no corresponding closing bracket before the end of the file. {_NESTING.format('bracket')}"
        return Problem("Unterminated tuple constructor expression", detail, place.opener.span)
    detail = "Expected a comma to mark the beginning of the next item."
    return Problem("Missing item separator", detail, token.span)


def _in_object(place: Place) -> Problem:
    token = place.token
    if token.type == "$END":
        detail = f"There is no corresponding closing brace before the end of the file. {_NESTING.format('brace')}"
        return Problem("Unterminated object constructor expression", detail, place.opener.span)
    if {"ASSIGN", "COLON"} & set(_kinds(place.inside)):
        detail = "Expected a newline or comma to mark the beginning of the next attribute."
        return Problem("Missing attribute separator", detail, token.span)
    if token.type in ("NL", "COMMA"):
        detail = 'Expected an attribute value, introduced by an equals sign ("=").'
        return Problem("Missing attribute value", detail, token.span)
    detail = 'Expected an equals sign ("=") to mark the beginning of the attribute value.'
    if token.type == "IDENT":
        detail += (
            " If you intended to given an attribute name containing periods or spaces, write the name in quotes to "
            "create a string literal."
        )
    return Problem("Missing key/value separator", detail, token.span)


def _in_interpolation(place: Place, rest: Sequence[Any], opened: Sequence[int]) -> Problem:
    token = place.token
    string = opened[-2] if len(opened) > 1 else opened[-1]
    unclosed = "Unclosed template interpolation sequence"
    cause = "This might be caused by incorrect nesting inside the given expression."
    if token.type == "$END":
        detail = f"There is no closing brace for this interpolation sequence before the end of the file. {cause}"
        return Problem(unclosed, detail, _first_span(rest[string + 1]))
    if token.type == "COLON":
        detail = (
            "Template interpolation doesn't expect a colon at this location. Did you intend this to be a literal "
            "sequence to be processed as part of another language? If so, you can escape it by starting with "
            '"$${" instead of just "${".'
        )
        return Problem("Extra characters after interpolation expression", detail, token.span)
    if token.type in ("CQUOTE", "OQUOTE") and rest[string].type == "OQUOTE":
        detail = (
            f"There is no closing brace for this interpolation sequence before the end of the quoted template. {cause}"
        )
        return Problem(unclosed, detail, _first_span(rest[string + 1]))
    detail = (
        "Expected a closing brace to end the interpolation expression, but found extra characters.\n\nThis can happen "
        "when you include interpolation syntax for another language, such as shell scripting, but forget to escape "
        "the interpolation start token. If this is an embedded sequence for another language, escape it by starting "
        'with "$${" instead of just "${".'
    )
    return Problem("Extra characters after interpolation expression", detail, token.span)


def _first_span(value: Any) -> Span:
    """Where the first token inside a string stands."""
    if not isinstance(value, Token) and hasattr(value, "children"):
        value = value.children[0]
    if isinstance(value, Token | Text):
        return value.span
    span: Span = value.opened.span
    return span
