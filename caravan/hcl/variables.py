"""A job file's variables and locals → the scope that its job is read in."""

import re
from collections.abc import Mapping
from typing import Any, Final

from caravan.hcl.convert import PRIMITIVES, UNKNOWN, Mismatch, convert
from caravan.hcl.decode import Decoder
from caravan.hcl.errors import SOURCE_NAME, Problem
from caravan.hcl.evaluate import Scope, evaluate
from caravan.hcl.schema import Field
from caravan.hcl.tree import Attribute, Block, Body, Call, Expression, Path

_MANUAL: Final = "https://developer.hashicorp.com/nomad/docs/reference/hcl2/variables"
_DECLARATION: Final = tuple(
    Field(name, name, "str", role, False, True, False)
    for name, role in (
        ("description", "attribute"),
        ("default", "attribute"),
        ("type", "attribute"),
        ("validation", "block"),
    )
)
_TRIES: Final = 100
_NAME: Final = re.compile(r"[^\W\d][\w-]*")


class _Variable:
    def __init__(self, name: str, kind: str | None, value: Any, source: str, block: Block | None) -> None:
        self.name = name
        self.kind = kind
        self.value = value
        self.source = source  # where the value is from, as Nomad calls it; "" when there is none
        self.block = block
        self.set_by: Expression | None = None  # what the value is from, where a file says it


def read_scope(body: Body, source: str, given: Mapping[str, str], assigned: Body, problems: list[Problem]) -> Scope:
    """The scope with `var` and `local`; `assigned` is a variable file. What is wrong is appended to `problems`."""
    outer = Scope({}, source, closed=True)
    variables: dict[str, _Variable] = {}
    for block in body.blocks:
        if block.kind == "variable":
            _declare(block, variables, outer, problems)
        elif block.kind == "variables":
            for attribute in block.body.attributes.values():
                value = evaluate(attribute.value, outer, problems)
                variables[attribute.name] = _Variable(attribute.name, None, value, "default", None)
    _assign(assigned, variables, problems)
    for name, text in given.items():
        _give(name, text, variables, problems)
    for variable in variables.values():
        if not variable.source:
            detail = f"A used variable must be set or have a default value; see {_MANUAL}  for details."
            problems.append(Problem(f'Unset variable "{variable.name}"', detail, None))
        else:
            _validate(variable, source, problems)
    values = {v.name: v.value for v in variables.values()}
    scope = Scope({"var": values, "local": {}}, source)
    return _locals(body, scope, problems)


def _declare(block: Block, variables: dict[str, _Variable], scope: Scope, problems: list[Problem]) -> None:
    name = block.labels[0]
    if name in variables:
        detail = f"Duplicate {name} variable definition found."
        problems.append(Problem("Duplicate variable", detail, None))
        return
    decoder = Decoder(scope)
    decoder.check(block.body, _DECLARATION)
    problems.extend(decoder.problems)
    if not _NAME.fullmatch(name):
        allowed = "may contain only letters, digits, underscores, and dashes"
        detail = f"A name must start with a letter or underscore and {allowed}."
        problems.append(Problem("Invalid variable name", detail, block.label_spans[0]))
    attributes = block.body.attributes
    before = len(problems)
    kind = _type_of(attributes["type"].value, problems) if "type" in attributes else None
    if len(problems) > before:
        return
    variable = _Variable(name, kind, UNKNOWN, "", block)
    if "default" in attributes:
        expression = attributes["default"].value
        variable.value, variable.source = evaluate(expression, scope, problems), "default"
        variable.set_by = expression
        if len(problems) > before:
            return
        try:
            variable.value = convert(variable.value, kind or "any")
        except Mismatch as wrong:
            detail = f"This default value is not compatible with the variable's type constraint: {wrong}."
            problems.append(Problem("Invalid default value for variable", detail, expression.span))
    variables[name] = variable


def _type_of(expression: Expression, problems: list[Problem]) -> str:
    """A type expression: `string`, `list(number)`, …; objects and tuples are taken as they come."""
    if isinstance(expression, Path) and not expression.steps:
        if expression.root in (*PRIMITIVES, "any"):
            return expression.root
        if expression.root in ("list", "set", "map"):
            detail = f"The {expression.root} type constructor requires one argument specifying the element type."
        else:
            detail = f'The keyword "{expression.root}" is not a valid type specification.'
        problems.append(Problem("Invalid type specification", detail, expression.span))
        return "any"
    if isinstance(expression, Call) and expression.name in ("list", "set", "map") and len(expression.arguments) == 1:
        return f"{expression.name} of {_type_of(expression.arguments[0], problems)}"
    if not (isinstance(expression, Call) and expression.name in ("object", "tuple")):
        detail = "A type specification is either a primitive type keyword (bool, number, string) or a complex type "
        detail += "constructor call, like list(string)."
        problems.append(Problem("Invalid type specification", detail, expression.span))
    return "any"


def _give(name: str, text: str, variables: dict[str, _Variable], problems: list[Problem]) -> None:
    """Set a variable from outside: text for a string, HCL for other types."""
    variable = variables.get(name)
    if variable is None:
        detail = f'A variable named "{name}" was assigned, but the job file does not declare it.'
        problems.append(Problem("Undefined variable", detail, None))
        return
    value: Any = text
    if variable.kind not in (None, *PRIMITIVES):
        from caravan.hcl.parser import read_tree

        tree, wrong = read_tree(f"value = {text}\n")
        problems.extend(wrong)
        found: Attribute | None = tree.attributes.get("value")
        value = evaluate(found.value, Scope({}, f"value = {text}\n"), problems) if found else UNKNOWN
    try:
        variable.value, variable.source = convert(value, variable.kind or "any"), "input"
    except Mismatch as wrong:
        detail = f'The value for variable "{name}" is not compatible with its type constraint: {wrong}.'
        problems.append(Problem("Invalid value for variable", detail, None))


def _assign(assigned: Body, variables: dict[str, _Variable], problems: list[Problem]) -> None:
    """Set variables from a variable file, which may declare none."""
    for block in assigned.blocks:
        if block.kind == "variable" and len(block.labels) == 1:
            name = block.labels[0]
            detail = (
                "A .var file is used to assign values to variables that have already been declared in job files, not "
                f'to declare new variables. To declare variable "{name}", place this block in one of your job files\n\n'
                f"To set a value for this variable in {SOURCE_NAME}, use the definition syntax instead:\n"
                f"    {name} = <value>"
            )
            problems.append(Problem("Variable declaration in a .var file", detail, block.kind_span))
    if problems:
        return
    for block in assigned.blocks:
        detail = "Blocks are not allowed here."
        problems.append(Problem(f'Unexpected "{block.kind}" block', detail, block.kind_span))
    for attribute in assigned.attributes.values():
        variable = variables.get(attribute.name)
        if variable is None:
            continue  # Nomad's server only warns of it, and tells nobody
        value = evaluate(attribute.value, Scope({}, "", closed=True), problems)
        variable.value, variable.source, variable.set_by = UNKNOWN, "varfile", attribute.value
        try:
            variable.value = convert(value, variable.kind or "any")
        except Mismatch as wrong:
            told = f"The value for {attribute.name} is not compatible with the variable's type constraint: {wrong}."
            problems.append(Problem("Invalid value for variable", told, attribute.value.span))


def _validate(variable: _Variable, source: str, problems: list[Problem]) -> None:
    """The variable's own validation rules."""
    for rule in variable.block.body.blocks if variable.block else ():
        condition, message = rule.body.attributes.get("condition"), rule.body.attributes.get("error_message")
        if rule.kind != "validation" or condition is None:
            continue
        scope = Scope({"var": {variable.name: variable.value}}, source)
        if evaluate(condition.value, scope, problems) is False:
            text = evaluate(message.value, scope, problems) if message else ""
            detail = f"{text}\n\nThis was checked by the validation rule at {rule.header}."
            where = variable.set_by.span if variable.set_by else rule.header
            problems.append(Problem(f"Invalid value for {variable.source} variable", detail, where))


def _locals(body: Body, scope: Scope, problems: list[Problem]) -> Scope:
    """The scope with the locals, evaluated in the order that their references need."""
    waiting = [a for b in body.blocks if b.kind == "locals" for a in b.body.attributes.values()]
    values: dict[str, Any] = {}
    for _ in range(_TRIES):
        left: list[Attribute] = []
        wrong: list[Problem] = []
        for attribute in waiting:
            found: list[Problem] = []
            value = evaluate(attribute.value, scope.with_names({"local": dict(values)}), found)
            if found:
                left.append(attribute)
                wrong.extend(found)
            else:
                values[attribute.name] = value
        if not left:
            break
        if len(left) == len(waiting):
            problems.append(wrong[0])
            break
        waiting = left
    else:
        problems.append(wrong[0]._replace(detail=f"Locals are read in at most {_TRIES} rounds. {wrong[0].detail}"))
    return scope.with_names({"local": values})
