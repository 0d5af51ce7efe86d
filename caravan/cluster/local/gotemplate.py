"""Go's template language as far as job templates use it: parsing, and evaluating with given functions. Pure.

Actions: pipelines, variables, `if`, `with`, `range` (with `else`, `break`, `continue`), comments, trimming by `-`.
Not here: `define`, `template`, `block`. Errors are worded as Go words them, without what stands before them.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Function = Callable[..., Any]
_TOKEN: Final = re.compile(
    r"""(?P<space>\s+) | (?P<string>"(?:[^"\\\n]|\\.)*") | (?P<raw>`[^`]*`) | (?P<number>[-+]?\d+(?:\.\d+)?)
    | (?P<declare>:=) | (?P<mark>[|(),=]) | (?P<var>\$\w*) | (?P<field>\.\w+) | (?P<dot>\.) | (?P<word>\w+)
    | (?P<char>'(?:[^'\\]|\\.)') | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ENDS: Final = ("end", "else")
_MOST_STEPS: Final = 1_000_000


class Wrong(Exception):
    """A template that can't be parsed (`parsing`) or evaluated, in Go's words."""

    def __init__(self, text: str, *, parsing: bool = False) -> None:
        super().__init__(text)
        self.parsing = parsing


class _Break(Exception):
    """`break` in a range."""


class _Continue(Exception):
    """`continue` in a range."""


@dataclass
class _Command:
    """Operands in a row: the first is called when it is a function."""

    operands: list[Any]


@dataclass
class _Pipe:
    commands: list[_Command]
    names: list[str] = field(default_factory=list)
    declares: bool = False


@dataclass(frozen=True)
class _Chain:
    """A variable, the dot or a parenthesis, and the fields behind it."""

    root: Any  # "$name", "." or a _Pipe
    fields: tuple[str, ...]


@dataclass(frozen=True)
class _Word:
    """A function or a constant by name."""

    name: str


@dataclass
class _Node:
    """`text`, `pipe`, or a block `if`, `with`, `range` with its two bodies."""

    kind: str
    text: str = ""
    pipe: _Pipe | None = None
    body: "list[_Node]" = field(default_factory=list)
    other: "list[_Node]" = field(default_factory=list)
    line: int = 1


class Template:
    """A parsed template. Raises Wrong with `parsing` for what is no template, or names an unknown function."""

    def __init__(self, text: str, known: Sequence[str], left: str = "{{", right: str = "}}") -> None:
        self._known = known
        self._items = list(_items(text, left or "{{", right or "}}"))
        self._at = 0
        self._nodes, ended = self._list()
        if ended:
            raise Wrong(f"template: :{ended.line}: unexpected {{{{{ended.text}}}}}", parsing=True)

    def _list(self) -> tuple[list[_Node], _Node | None]:
        """Nodes up to an `end` or `else`, which comes back."""
        nodes: list[_Node] = []
        while self._at < len(self._items):
            item = self._items[self._at]
            self._at += 1
            if item.kind == "text":
                nodes.append(item)
                continue
            word, _, rest = item.text.partition(" ")
            if word in _ENDS:
                return nodes, item
            if word in ("if", "with", "range"):
                nodes.append(self._block(word, rest, item.line))
            elif word in ("break", "continue"):
                nodes.append(_Node(word, line=item.line))
            elif word in ("define", "template", "block"):
                raise Wrong(f"template: :{item.line}: {word} is not available here", parsing=True)
            elif item.text:
                nodes.append(_Node("pipe", pipe=self._pipe(item.text, item.line), line=item.line))
        return nodes, None

    def _block(self, kind: str, rest: str, line: int) -> _Node:
        if not rest.strip():
            raise Wrong(f"template: :{line}: missing value for {kind}", parsing=True)
        node = _Node(kind, pipe=self._pipe(rest, line), line=line)
        node.body, ended = self._list()
        while ended is not None and ended.text != "end":
            more = ended.text.removeprefix("else").strip()
            if more:
                word, _, condition = more.partition(" ")
                inner = self._block(word, condition, ended.line)
                node.other = [inner]
                return node
            node.other, ended = self._list()
        if ended is None:
            raise Wrong(f"template: :{_last_line(self._items)}: unexpected EOF", parsing=True)
        return node

    def _pipe(self, text: str, line: int) -> _Pipe:
        reader = _Reader(text, line, self._known)
        pipe = reader.pipe()
        if reader.left:
            raise Wrong(f'template: :{line}: unexpected "{reader.left[0][1]}" in operand', parsing=True)
        return pipe

    def render(self, functions: Mapping[str, Function], data: Any = None, *, strict: bool = False) -> str:
        """The text. `strict`: a key that a map lacks is an error. Raises Wrong, and what the functions raise."""
        run = _Run(functions, strict=strict)
        run.nodes(self._nodes, data, [{"$": data}])
        return "".join(run.out)


def _last_line(items: Sequence[_Node]) -> int:
    return items[-1].line if items else 1


def _items(text: str, left: str, right: str) -> Sequence[_Node]:
    """Texts and actions in order, trimmed as `-` says."""
    found: list[_Node] = []
    at, trim = 0, False
    while True:
        start = text.find(left, at)
        before = text[at:] if start < 0 else text[at:start]
        before = before.lstrip() if trim else before
        if start < 0:
            found.append(_Node("text", before, line=text.count("\n", 0, len(text)) + 1))
            return found
        line = text.count("\n", 0, start) + 1
        end = _closing(text, start + len(left), right)
        if end < 0:
            raise Wrong(f"template: :{line}: unclosed action", parsing=True)
        action, at = text[start + len(left) : end], end + len(right)
        if re.match(r"-\s", action):
            before, action = before.rstrip(), action[1:]
        trim = bool(re.search(r"\s-$", action))
        action = action[:-1] if trim else action
        found.append(_Node("text", before, line=line))
        if not action.strip().startswith("/*"):
            found.append(_Node("action", " ".join(_spaced(action.strip())), line=line))


def _spaced(action: str) -> list[str]:
    """The action's first word and the rest: whatever space is between them."""
    return action.split(None, 1)


def _closing(text: str, at: int, right: str) -> int:
    """Where the action that begins at `at` ends; a closing mark in a text doesn't count."""
    if text[at:].lstrip("- \t\n").startswith("/*"):
        end = text.find("*/", at)
        return text.find(right, end) if end >= 0 else -1
    quote = ""
    while at < len(text):
        if not quote and text.startswith(right, at):
            return at
        char = text[at]
        if quote:
            at += 1 if char == "\\" and quote == '"' else 0
            quote = "" if char == quote else quote
        elif char in '"`':
            quote = char
        at += 1
    return -1


class _Reader:
    """Reads one action's pipeline."""

    def __init__(self, text: str, line: int, known: Sequence[str]) -> None:
        self.line = line
        self._known = known
        self.left = [(str(m.lastgroup), m[0]) for m in _TOKEN.finditer(text)]

    def _skip(self) -> None:
        while self.left and self.left[0][0] == "space":
            self.left.pop(0)

    def _next(self) -> tuple[str, str] | None:
        self._skip()
        return self.left[0] if self.left else None

    def pipe(self) -> _Pipe:
        pipe = _Pipe([])
        marks = [t[1] for t in self.left if t[0] != "space"]
        for mark in (":=", "="):
            head = marks[: marks.index(mark)] if mark in marks[:4] else []
            if head and all(w.startswith("$") or w == "," for w in head):
                pipe.names, pipe.declares = [w for w in head if w != ","], mark == ":="
                while self.left.pop(0)[1] != mark:
                    pass
                break
        pipe.commands.append(self._command())
        while (token := self._next()) and token[1] == "|":
            self.left.pop(0)
            pipe.commands.append(self._command())
        return pipe

    def _command(self) -> _Command:
        operands = []
        while (token := self._next()) and token[1] not in ("|", ")"):
            operands.append(self._operand())
        if not operands:
            raise Wrong(f"template: :{self.line}: missing value for command", parsing=True)
        return _Command(operands)

    def _operand(self) -> Any:
        kind, text = self.left.pop(0)
        if kind == "string":
            return _unquoted(text)
        if kind == "raw":
            return text[1:-1]
        if kind == "char":
            return ord(_unquoted('"' + text[1:-1] + '"'))
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "word":
            if text in ("true", "false", "nil"):
                return {"true": True, "false": False, "nil": None}[text]
            if text not in self._known:
                raise Wrong(f'template: :{self.line}: function "{text}" not defined', parsing=True)
            return _Word(text)
        if kind == "field":
            return _Chain(".", (text[1:], *self._fields()))
        if kind in ("var", "dot"):
            return _Chain(text, tuple(self._fields()))
        if text == "(":
            inner = self.pipe()
            if not self.left or self.left.pop(0)[1] != ")":
                raise Wrong(f"template: :{self.line}: unclosed left paren", parsing=True)
            return _Chain(inner, tuple(self._fields()))
        raise Wrong(f'template: :{self.line}: unexpected "{text}" in operand', parsing=True)

    def _fields(self) -> list[str]:
        found = []
        while self.left and self.left[0][0] == "field":
            found.append(self.left.pop(0)[1][1:])
        return found


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), text[1:-1])


class _Run:
    """Evaluates nodes; `out` collects the text."""

    def __init__(self, functions: Mapping[str, Function], *, strict: bool) -> None:
        self.out: list[str] = []
        self._functions = functions
        self._strict = strict
        self._steps = 0

    def nodes(self, nodes: Sequence[_Node], dot: Any, scopes: list[dict[str, Any]]) -> None:
        for node in nodes:
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise Wrong("template: too many steps")
            if node.kind == "text":
                self.out.append(node.text)
            elif node.kind == "break":
                raise _Break
            elif node.kind == "continue":
                raise _Continue
            elif node.pipe is not None:
                self._block(node, node.pipe, dot, scopes)

    def _block(self, node: _Node, pipe: _Pipe, dot: Any, scopes: list[dict[str, Any]]) -> None:
        if node.kind == "pipe":
            value = self._value(pipe, dot, scopes)
            if not pipe.names:
                self.out.append(shown(value))
            return
        inner = [*scopes, {}]
        if node.kind == "range":
            self._range(node, pipe, dot, inner)
            return
        value = self._value(pipe, dot, inner)
        if truth(value):
            self.nodes(node.body, value if node.kind == "with" else dot, inner)
        else:
            self.nodes(node.other, dot, inner)

    def _range(self, node: _Node, pipe: _Pipe, dot: Any, scopes: list[dict[str, Any]]) -> None:
        over = self._value(_Pipe(pipe.commands), dot, scopes)
        if isinstance(over, Mapping):
            pairs = [(k, over[k]) for k in sorted(over)]
        elif isinstance(over, int) and not isinstance(over, bool):
            pairs = [(i, i) for i in range(over)]
        elif over is None or isinstance(over, list | tuple):
            pairs = list(enumerate(over or ()))
        else:
            raise Wrong(f"range can't iterate over {shown(over)}")
        for key, value in pairs:
            names = dict(zip(pipe.names, (key, value) if len(pipe.names) > 1 else (value,), strict=False))
            try:
                self.nodes(node.body, value, [*scopes, names])
            except _Break:
                break
            except _Continue:
                continue
        if not pairs:
            self.nodes(node.other, dot, scopes)

    def _value(self, pipe: _Pipe, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        value: tuple[Any, ...] = ()
        for command in pipe.commands:
            value = (self._call(command, value, dot, scopes),)
        for name in pipe.names:
            holder = scopes[-1] if pipe.declares else next((s for s in scopes[::-1] if name in s), scopes[-1])
            holder[name] = value[0]
        return value[0]

    def _call(self, command: _Command, last: tuple[Any, ...], dot: Any, scopes: list[dict[str, Any]]) -> Any:
        first, *rest = command.operands
        if isinstance(first, _Word):
            if first.name in ("and", "or"):
                return self._lazily(first.name, rest, last, dot, scopes)
            given = [self._operand(o, dot, scopes) for o in rest]
            try:
                return self._functions[first.name](*given, *last)
            except TypeError as error:
                raise Wrong(f"wrong number or type of args for {first.name}: {error}") from error
        if rest or last:
            raise Wrong(f"can't give argument to non-function {shown(self._operand(first, dot, scopes))}")
        return self._operand(first, dot, scopes)

    def _lazily(
        self, name: str, operands: list[Any], last: tuple[Any, ...], dot: Any, scopes: list[dict[str, Any]]
    ) -> Any:
        value: Any = None
        for operand in [*operands, *last]:
            value = operand if last and operand is last[0] else self._operand(operand, dot, scopes)
            if truth(value) == (name == "or"):
                return value
        return value

    def _operand(self, operand: Any, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        if isinstance(operand, _Word):
            return self._call(_Command([operand]), (), dot, scopes)
        if not isinstance(operand, _Chain):
            return operand
        if isinstance(operand.root, _Pipe):
            value = self._value(operand.root, dot, scopes)
        elif operand.root == ".":
            value = dot
        else:
            found = next((s for s in scopes[::-1] if operand.root in s), None)
            if found is None:
                raise Wrong(f'undefined variable "{operand.root}"')
            value = found[operand.root]
        for name in operand.fields:
            value = self._field(value, name)
        return value

    def _field(self, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            if name not in value and self._strict:
                raise Wrong(f'at <.{name}>: map has no entry for key "{name}"')
            return value.get(name)
        if isinstance(value, str) and name == "Value":  # an item of a variable
            return value
        if value is None:
            raise Wrong(f"nil pointer evaluating interface {{}}.{name}")
        raise Wrong(f"can't evaluate field {name} in type {type(value).__name__}")


def truth(value: Any) -> bool:
    """Whether Go's `if` takes the value as true."""
    return bool(value)


def shown(value: Any) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + " ".join(shown(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{k}:{shown(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)
