"""The value of an expression, in a scope of variables and functions.

Names that nothing defines (`attr.kernel.name`, `NOMAD_ALLOC_DIR`, `meta.x`, `env["x"]`, `node.x`, `device.x`) are
runtime references: their source text is kept, as by Nomad. Errors are collected: what went wrong has the value UNKNOWN.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException
from typing import Any, Final

from caravan.hcl.access import attribute, element
from caravan.hcl.convert import UNKNOWN, Mismatch, convert, same, text_value, to_bool, to_number, to_string, type_name
from caravan.hcl.errors import Problem
from caravan.hcl.functions import call_function
from caravan.hcl.tree import (
    Access,
    Binary,
    Bound,
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

_DECIMALS: Final = Context(prec=155)  # HCL computes with 512 bits
_MAX_ITEMS: Final = 100_000


@dataclass(frozen=True)
class Scope:
    """What names mean: `variables` by name, the source that runtime references are quoted from.

    A `closed` scope has neither variables nor functions: that of a variable's own declaration.
    """

    variables: Mapping[str, Any]
    source: str
    closed: bool = False

    def with_names(self, names: Mapping[str, Any]) -> "Scope":
        """A scope with further variables."""
        return Scope({**self.variables, **names}, self.source, self.closed)


def evaluate(expression: Expression, scope: Scope, problems: list[Problem]) -> Any:
    """The value of an expression, UNKNOWN where something is wrong, which is then appended to `problems`."""
    return _EVALUATORS[type(expression)](expression, scope, problems)


def _runtime(path: Path, source: str) -> str:
    """A runtime reference as Nomad keeps it.

    In `${…}` it is the text from the dollar on. Nomad looks for the closing brace one character late and goes on
    collecting while it sees braces and spaces; that peculiarity is kept, for the renderer must know where not to
    rely on it.
    """
    start, end = path.span.start.offset, path.span.end.offset
    text = source[start:end]
    before = source[:start].rstrip(" ")
    if not before.endswith("${"):
        return f"${{{text}}}"
    found = source[len(before) - 2 : start] + text
    for i in range(end + 1, len(source)):
        if source[i] == "}":
            found += source[end:i]
        elif source[i] != " ":
            return found + "}"
    return found


def _path(e: Path, scope: Scope, problems: list[Problem]) -> Any:
    if scope.closed and e.root not in scope.variables:
        problems.append(Problem("Variables not allowed", "Variables may not be used here.", e.root_span))
        return UNKNOWN
    if e.root not in scope.variables:
        return text_value(_runtime(e, scope.source))
    return _steps(scope.variables[e.root], e.steps, problems)


def _steps(value: Any, steps: tuple[Step, ...], problems: list[Problem]) -> Any:
    for step in steps:
        if isinstance(step.key, str) and step.is_attribute:
            value = attribute(value, step.key, step.span, problems)
        else:
            value = element(value, step.key, step.span, problems)
        if value is UNKNOWN:
            return UNKNOWN
    return value


def _index(e: Index, scope: Scope, problems: list[Problem]) -> Any:
    collection = evaluate(e.collection, scope, problems)
    return element(collection, evaluate(e.key, scope, problems), e.brackets, problems)


def _splat(e: Splat, scope: Scope, problems: list[Problem]) -> Any:
    source = evaluate(e.source, scope, problems)
    if source is UNKNOWN:
        return UNKNOWN
    items = source if isinstance(source, list) else [] if source is None else [source]
    return [evaluate(e.each, scope.with_names({"": item}), problems) for item in items]


def _call(e: Call, scope: Scope, problems: list[Problem]) -> Any:
    if scope.closed:
        problems.append(Problem("Function calls not allowed", "Functions may not be called here.", e.span))
        return UNKNOWN
    return call_function(e, problems, lambda x, found: evaluate(x, scope, found))


def _conditional(e: Conditional, scope: Scope, problems: list[Problem]) -> Any:
    yes_problems: list[Problem] = []
    no_problems: list[Problem] = []
    yes, no = evaluate(e.yes, scope, yes_problems), evaluate(e.no, scope, no_problems)
    kinds = {type_name(yes), type_name(no)} - {"dynamic"}
    if len(kinds) == 2 and kinds & {"tuple", "object"}:
        detail = (
            "The true and false result expressions must have consistent types. "
            f"The 'true' value is {type_name(yes)}, but the 'false' value is {type_name(no)}."
        )
        problems.append(Problem("Inconsistent conditional result types", detail, e.yes.span.to(e.no.span)))
        return UNKNOWN
    condition = evaluate(e.condition, scope, problems)
    if condition is None:
        detail = "The condition value is null. Conditions must either be true or false."
        problems.append(Problem("Null condition", detail, e.condition.span))
        return UNKNOWN
    if condition is UNKNOWN:
        return UNKNOWN
    try:
        chosen = to_bool(condition)
    except Mismatch:
        detail = "The condition expression must be of type bool."
        problems.append(Problem("Incorrect condition type", detail, e.condition.span))
        return UNKNOWN
    problems.extend(yes_problems if chosen else no_problems)
    value = yes if chosen else no
    return to_string(value) if len(kinds) == 2 else value


def _binary(e: Binary, scope: Scope, problems: list[Problem]) -> Any:
    before = len(problems)
    values = [evaluate(e.left, scope, problems), evaluate(e.right, scope, problems)]
    kind = "any" if e.operator in ("EQ", "NE") else "bool" if e.operator in ("AND", "OR") else "number"
    for i, (side, operand) in enumerate((("left", e.left), ("right", e.right))):
        try:
            values[i] = convert(values[i], kind)
        except Mismatch as wrong:
            detail = f"Unsuitable value for {side} operand: {wrong}."
            problems.append(Problem("Invalid operand", detail, operand.span))
    if len(problems) > before or UNKNOWN in values:
        return UNKNOWN
    if kind != "any" and None in values:
        detail = "Error during operation: argument must not be null."
        problems.append(Problem("Operation failed", detail, e.span))
        return UNKNOWN
    return _OPERATORS[e.operator](*values)


def _arithmetic(name: str) -> Callable[[Any, Any], Any]:
    def run(a: Any, b: Any) -> Any:
        try:
            found: Decimal = getattr(_DECIMALS, name)(Decimal(a), Decimal(b))
        except DecimalException:
            return a if name == "remainder" else Decimal("Infinity") if a > 0 else Decimal("-Infinity")
        whole = found.is_finite() and found == found.to_integral_value() and abs(found.adjusted()) < 400
        return int(found) if whole else found

    return run


_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "EQ": same,
    "NE": lambda a, b: not same(a, b),
    "AND": lambda a, b: a and b,
    "OR": lambda a, b: a or b,
    "LT": lambda a, b: a < b,
    "GT": lambda a, b: a > b,
    "LE": lambda a, b: a <= b,
    "GE": lambda a, b: a >= b,
    "PLUS": _arithmetic("add"),
    "MINUS": _arithmetic("subtract"),
    "STAR": _arithmetic("multiply"),
    "SLASH": _arithmetic("divide"),
    "PERCENT": _arithmetic("remainder"),
}


def _unary(e: Unary, scope: Scope, problems: list[Problem]) -> Any:
    value = evaluate(e.operand, scope, problems)
    try:
        value = to_number(value) if e.operator == "MINUS" else to_bool(value)
    except Mismatch as wrong:
        detail = f"Unsuitable value for unary operand: {wrong}."
        problems.append(Problem("Invalid operand", detail, e.operand.span))
        return UNKNOWN
    if value is UNKNOWN:
        return UNKNOWN
    if value is None:
        detail = "Error during operation: argument must not be null."
        problems.append(Problem("Operation failed", detail, e.span))
        return UNKNOWN
    return -value if e.operator == "MINUS" else not value


def _list(e: ListOf, scope: Scope, problems: list[Problem]) -> Any:
    return [evaluate(item, scope, problems) for item in e.items]


def _object(e: ObjectOf, scope: Scope, problems: list[Problem]) -> Any:
    found: dict[str, Any] = {}
    known = True
    for key_expression, value_expression in e.items:
        key = _key(key_expression, scope, problems)
        value = evaluate(value_expression, scope, problems)
        if key is None:
            problems.append(Problem("Null value as key", "Can't use a null value as a key.", value_expression.span))
            known = False
            continue
        try:
            key = to_string(key)
        except Mismatch as wrong:
            detail = f"Can't use this value as a key: {wrong}."
            problems.append(Problem("Incorrect key type", detail, key_expression.span))
            known = False
            continue
        if key is UNKNOWN:
            known = False
        else:
            found[key] = value
    return found if known else UNKNOWN


def _key(e: Expression, scope: Scope, problems: list[Problem]) -> Any:
    """An object's key: a bare name is its text."""
    if isinstance(e, Path):
        if not e.steps:
            return text_value(e.root)
        detail = (
            "If this expression is intended to be a reference, wrap it in parentheses. If it's instead intended as a "
            "literal name containing periods, wrap it in quotes to create a string literal."
        )
        problems.append(Problem("Ambiguous attribute key", detail, e.span))
        return UNKNOWN
    if isinstance(e, Literal) and (e.value is None or isinstance(e.value, bool)):
        return {None: "null", True: "true", False: "false"}[e.value]
    return evaluate(e, scope, problems)


def _for(e: For, scope: Scope, problems: list[Problem]) -> Any:
    collection = evaluate(e.collection, scope, problems)
    if collection is UNKNOWN:
        return UNKNOWN
    if not isinstance(collection, list | dict):
        if collection is None:
            summary = "Iteration over null value"
            detail = "A null value cannot be used as the collection in a 'for' expression."
        else:
            summary = "Iteration over non-iterable value"
            kind = type_name(collection)
            detail = f"A value of type {kind} cannot be used as the collection in a 'for' expression."
        problems.append(Problem(summary, detail, e.collection.span))
        return UNKNOWN
    pairs = sorted(collection.items()) if isinstance(collection, dict) else list(enumerate(collection))
    found: list[tuple[Any, Any]] = []
    for key, value in pairs[:_MAX_ITEMS]:
        inner = scope.with_names({e.value_name: value, **({e.key_name: key} if e.key_name else {})})
        if e.condition is not None and not _chosen(e.condition, inner, problems):
            continue
        name = evaluate(e.key, inner, problems) if e.key is not None else None
        found.append((name, evaluate(e.value, inner, problems)))
    if e.joined:
        return _joined(e, [v for _, v in found], problems)
    return [v for _, v in found] if e.key is None else _grouped(e, found, problems)


def _chosen(condition: Expression, scope: Scope, problems: list[Problem]) -> bool:
    value = evaluate(condition, scope, problems)
    try:
        chosen = to_bool(value)
    except Mismatch as wrong:
        detail = f"The 'if' clause value is invalid: {wrong}."
        problems.append(Problem("Invalid 'for' condition", detail, condition.span))
        return False
    if chosen is None:
        problems.append(Problem("Condition is null", "The value of the 'if' clause must not be null.", condition.span))
    return chosen is True


def _grouped(e: For, found: list[tuple[Any, Any]], problems: list[Problem]) -> Any:
    out: dict[str, Any] = {}
    where = e.key.span if e.key is not None else e.span
    for key, value in found:
        try:
            name = to_string(key)
        except Mismatch as wrong:
            detail = f"The key expression produced an invalid result: {wrong}."
            problems.append(Problem("Invalid object key", detail, where))
            return UNKNOWN
        if name is UNKNOWN:
            return UNKNOWN
        if name is None:
            detail = "Key expression in 'for' expression must not produce a null value."
            problems.append(Problem("Invalid object key", detail, where))
        elif e.group:
            out.setdefault(name, []).append(value)
        elif name in out:
            detail = (
                f"Two different items produced the key \"{name}\" in this 'for' expression. If duplicates are "
                "expected, use the ellipsis (...) after the value expression to enable grouping by key."
            )
            problems.append(Problem("Duplicate object key", detail, where))
        else:
            out[name] = value
    return out


def _joined(e: For, values: list[Any], problems: list[Problem]) -> Any:
    texts = []
    for value in values:
        try:
            text = to_string(value)
        except Mismatch as wrong:
            detail = f"Cannot include one of the interpolation results into the string template: {wrong}."
            problems.append(Problem("Invalid template interpolation value", detail, e.span))
            continue
        if text is UNKNOWN:
            return UNKNOWN
        texts.append(text or "")
    return text_value("".join(texts))


def _template(e: Template, scope: Scope, problems: list[Problem]) -> Any:
    texts: list[str] = []
    known = True
    for part in e.parts:
        value = evaluate(part, scope, problems)
        if value is None:
            detail = "The expression result is null. Cannot include a null value in a string template."
            problems.append(Problem("Invalid template interpolation value", detail, part.span))
            continue
        try:
            text = to_string(value)
        except Mismatch as wrong:
            detail = f"Cannot include the given value in a string template: {wrong}."
            problems.append(Problem("Invalid template interpolation value", detail, part.span))
            continue
        known = known and text is not UNKNOWN
        texts.append(text if known else "")
    return text_value("".join(texts)) if known else UNKNOWN


def _literal(e: Literal, _scope: Scope, _problems: list[Problem]) -> Any:
    return text_value(e.value) if isinstance(e.value, str) else e.value


def _inner(e: Paren | Wrapped, scope: Scope, problems: list[Problem]) -> Any:
    return evaluate(e.inner, scope, problems)


def _access(e: Access, scope: Scope, problems: list[Problem]) -> Any:
    return _steps(evaluate(e.source, scope, problems), e.steps, problems)


def _item(_e: Item, scope: Scope, _problems: list[Problem]) -> Any:
    return scope.variables.get("", UNKNOWN)


_EVALUATORS: Final[dict[type, Callable[[Any, Scope, list[Problem]], Any]]] = {
    Literal: _literal,
    Path: _path,
    Access: _access,
    Index: _index,
    Item: _item,
    Splat: _splat,
    Call: _call,
    Conditional: _conditional,
    Binary: _binary,
    Unary: _unary,
    Paren: _inner,
    ListOf: _list,
    ObjectOf: _object,
    For: _for,
    Template: _template,
    Wrapped: _inner,
    Bound: lambda e, scope, problems: evaluate(e.inner, scope.with_names(e.names), problems),
}
