"""Function calls in a job file: arguments counted, converted and handed to `library`, errors in HCL's words."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from caravan.hcl.convert import UNKNOWN, Mismatch, convert, text_value
from caravan.hcl.distance import closest
from caravan.hcl.errors import Problem, Span
from caravan.hcl.library import DISABLED, FUNCTIONS, BadArgument, Function
from caravan.hcl.tree import Call, Expression


def call_function(call: Call, problems: list[Problem], value_of: Callable[[Expression, list[Problem]], Any]) -> Any:
    """The value of a call, UNKNOWN when something is wrong, which is then appended to `problems`."""
    if call.name in ("try", "can"):
        return _attempt(call, value_of)
    function = FUNCTIONS.get(call.name)
    if function is None:
        return _unknown_function(call, problems)
    places = [(a, a.start) for a in call.arguments]
    values: list[Any] = []
    if call.expand and call.arguments:
        last = value_of(call.arguments[-1], problems)
        if not isinstance(last, list):
            wrong = "must not be null" if last is None else "must be of a tuple, list, or set type"
            detail = f"The expanding argument (indicated by ...) {wrong}."
            if last is not UNKNOWN:
                problems.append(Problem("Invalid expanding argument value", detail, call.arguments[-1].span))
            return UNKNOWN
        spread = call.arguments[-1]
        places = [*places[:-1], *((spread, spread.span) for _ in last)]
        values = last
    if not _counted(call, function, [where for _, where in places], problems):
        return UNKNOWN
    plain = len(places) - len(values)
    before = len(problems)
    given = []
    for i, (expression, where) in enumerate(places):
        value = value_of(expression, problems) if i < plain else values[i - plain]
        given.append(_argument(function, i, value, where, problems))
    if len(problems) > before or UNKNOWN in given:
        return UNKNOWN
    return _run(call, function, given, [where for _, where in places], problems)


def _attempt(call: Call, value_of: Callable[[Expression, list[Problem]], Any]) -> Any:
    for argument in call.arguments:
        wrong: list[Problem] = []
        value = value_of(argument, wrong)
        if not wrong:
            return True if call.name == "can" else value
    return False if call.name == "can" else UNKNOWN


def _unknown_function(call: Call, problems: list[Problem]) -> Any:
    if call.name in DISABLED:
        detail = f'Call to function "{call.name}" failed: {DISABLED[call.name]}.'
        problems.append(Problem("Error in function call", detail, call.start))
        return UNKNOWN
    if "::" in call.name:
        namespace = call.name[: call.name.rindex("::") + 2]
        detail = f'There are no functions in namespace "{namespace}".'
    else:
        near = closest(call.name, (*FUNCTIONS, *DISABLED, "try", "can"))
        detail = f'There is no function named "{call.name}".' + (f' Did you mean "{near}"?' if near else "")
    problems.append(Problem("Call to unknown function", detail, call.name_span))
    return UNKNOWN


def _counted(call: Call, function: Function, places: Sequence[Span], problems: list[Problem]) -> bool:
    """Whether the number of arguments fits."""
    wanted = len(function.parameters)
    if len(places) < wanted:
        least = " at least" if function.rest else ""
        missing = function.parameters[len(places)][0]
        detail = f'Function "{call.name}" expects{least} {wanted} argument(s). Missing value for "{missing}".'
        problems.append(Problem("Not enough function arguments", detail, call.closed))
        return False
    if function.rest is None and len(places) > wanted:
        detail = f'Function "{call.name}" expects only {wanted} argument(s).'
        problems.append(Problem("Too many function arguments", detail, places[wanted]))
        return False
    return True


def _argument(function: Function, i: int, value: Any, where: Span, problems: list[Problem]) -> Any:
    """The i-th argument as the function wants it."""
    fixed = i < len(function.parameters)
    name, kind = function.parameters[i] if fixed else function.rest or ("", "any")
    try:
        found = convert(value, kind)
        if found is None and not function.nulls:
            raise Mismatch("argument must not be null")
    except Mismatch as wrong:
        detail = f'Invalid value for "{name}" parameter: {wrong}.'
        problems.append(Problem("Invalid function argument", detail, where))
        return UNKNOWN
    return found


def _run(call: Call, function: Function, given: list[Any], places: list[Span], problems: list[Problem]) -> Any:
    try:
        result = function.run(*given)
    except BadArgument as wrong:
        names = [p[0] for p in function.parameters]
        name = names[wrong.index] if wrong.index < len(names) else (function.rest or ("",))[0]
        detail = f'Invalid value for "{name}" parameter: {wrong}.'
        where = places[min(wrong.index, len(places) - 1)] if places else call.span
        problems.append(Problem("Invalid function argument", detail, where))
        return UNKNOWN
    except (Mismatch, ValueError, TypeError, ArithmeticError, LookupError) as wrong:
        detail = f'Call to function "{call.name}" failed: {wrong}.'
        problems.append(Problem("Error in function call", detail, call.start))
        return UNKNOWN
    return _normal(result)


def _normal(value: Any) -> Any:
    """A function's result with numbers and strings as expressions have them."""
    if isinstance(value, str):
        return text_value(value)
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    if isinstance(value, list):
        return [_normal(v) for v in value]
    if isinstance(value, dict):
        return {text_value(k): _normal(v) for k, v in value.items()}
    return value
