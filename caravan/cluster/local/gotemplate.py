"""Go's template language as far as job templates use it: parsing, and evaluating with given functions. Pure.

Actions: pipelines, variables, `if`, `with`, `range` (with `else`, `break`, `continue`), comments, trimming by `-`.
Not here: `define`, `template`, `block`. Errors are worded as Go words them, without what stands before them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from caravan.cluster.local.goeval import Function, Run, shown
from caravan.cluster.local.gonodes import Chain, Command, Node, Pipe, Word, Wrong

__all__ = ["Template", "Wrong", "shown"]

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+) | (?P<string>"(?:[^"\\\n]|\\.)*") | (?P<raw>`[^`]*`) | (?P<number>[-+]?\d+(?:\.\d+)?)
    | (?P<declare>:=) | (?P<mark>[|(),=]) | (?P<var>\$\w*) | (?P<field>\.\w+) | (?P<dot>\.) | (?P<word>\w+)
    | (?P<char>'(?:[^'\\]|\\.)') | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ENDS: Final = ("end", "else")


class Template:
    """A parsed template. Raises Wrong with `parsing` for what is no template, or names an unknown function."""

    def __init__(self, text: str, known: Sequence[str], left: str = "{{", right: str = "}}") -> None:
        self._known = known
        self._items = list(_items(text, left or "{{", right or "}}"))
        self._at = 0
        self._nodes, ended = self._list()
        if ended:
            raise Wrong(f"template: :{ended.line}: unexpected {{{{{ended.text}}}}}", parsing=True)

    def _list(self) -> tuple[list[Node], Node | None]:
        """Nodes up to an `end` or `else`, which comes back."""
        nodes: list[Node] = []
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
                nodes.append(Node(word, line=item.line))
            elif word in ("define", "template", "block"):
                raise Wrong(f"template: :{item.line}: {word} is not available here", parsing=True)
            elif item.text:
                nodes.append(Node("pipe", pipe=self._pipe(item.text, item.line), line=item.line))
        return nodes, None

    def _block(self, kind: str, rest: str, line: int) -> Node:
        if not rest.strip():
            raise Wrong(f"template: :{line}: missing value for {kind}", parsing=True)
        node = Node(kind, pipe=self._pipe(rest, line), line=line)
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

    def _pipe(self, text: str, line: int) -> Pipe:
        reader = _Reader(text, line, self._known)
        pipe = reader.pipe()
        if reader.left:
            raise Wrong(f'template: :{line}: unexpected "{reader.left[0][1]}" in operand', parsing=True)
        return pipe

    def render(self, functions: Mapping[str, Function], data: Any = None, *, strict: bool = False) -> str:
        """The text. `strict`: a key that a map lacks is an error. Raises Wrong, and what the functions raise."""
        run = Run(functions, strict=strict)
        run.nodes(self._nodes, data, [{"$": data}])
        return "".join(run.out)


def _last_line(items: Sequence[Node]) -> int:
    return items[-1].line if items else 1


def _items(text: str, left: str, right: str) -> Sequence[Node]:
    """Texts and actions in order, trimmed as `-` says."""
    found: list[Node] = []
    at, trim = 0, False
    while True:
        start = text.find(left, at)
        before = text[at:] if start < 0 else text[at:start]
        before = before.lstrip() if trim else before
        if start < 0:
            found.append(Node("text", before, line=text.count("\n", 0, len(text)) + 1))
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
        found.append(Node("text", before, line=line))
        if not action.strip().startswith("/*"):
            found.append(Node("action", " ".join(_spaced(action.strip())), line=line))


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

    def pipe(self) -> Pipe:
        pipe = Pipe([])
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

    def _command(self) -> Command:
        operands = []
        while (token := self._next()) and token[1] not in ("|", ")"):
            operands.append(self._operand())
        if not operands:
            raise Wrong(f"template: :{self.line}: missing value for command", parsing=True)
        return Command(operands)

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
            return Word(text)
        if kind == "field":
            return Chain(".", (text[1:], *self._fields()))
        if kind in ("var", "dot"):
            return Chain(text, tuple(self._fields()))
        if text == "(":
            inner = self.pipe()
            if not self.left or self.left.pop(0)[1] != ")":
                raise Wrong(f"template: :{self.line}: unclosed left paren", parsing=True)
            return Chain(inner, tuple(self._fields()))
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
