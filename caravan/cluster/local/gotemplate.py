"""Go's template language as far as job templates use it: parsing, and evaluating with given functions. Pure.

Actions: pipelines, variables, `if`, `with`, `range` (with `else`, `break`, `continue`), comments, trimming by `-`.
Not here: `define`, `template`, `block`. Errors are worded as Go words them, without what stands before them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from caravan.cluster.local.goeval import Function, Run
from caravan.cluster.local.gonodes import Chain, Command, Node, Pipe, Word, Wrong
from caravan.cluster.local.goprint import shown

__all__ = ["Template", "Wrong", "shown"]

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+) | (?P<string>"(?:[^"\\\n]|\\.)*") | (?P<raw>`[^`]*`)
    | (?P<number>[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?))
    | (?P<declare>:=) | (?P<mark>[|(),=]) | (?P<var>\$\w*) | (?P<field>\.\w+) | (?P<dot>\.) | (?P<word>\w+)
    | (?P<char>'(?:[^'\\]|\\[^']+|\\')') | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ENDS: Final = ("end", "else")


class Template:
    """A parsed template. Raises Wrong with `parsing` for what is no template, or names an unknown function."""

    def __init__(self, text: str, known: Sequence[str], left: str = "{{", right: str = "}}") -> None:
        self._known = known
        self._text = text
        self._items = list(_items(text, left or "{{", right or "}}"))
        self._at = 0
        self._ranges = 0  # how many of them are around what is read
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
            word = _first(item.text)
            if word in _ENDS:
                return nodes, item
            if word in ("if", "with", "range"):
                nodes.append(self._block(word, item.text[len(word) :], item.line, item.at + len(word)))
            elif word in ("break", "continue"):
                if not self._ranges:
                    raise Wrong(f"template: :{item.line}: {{{{{word}}}}} outside {{{{range}}}}", parsing=True)
                nodes.append(Node(word, line=item.line))
            elif word in ("define", "template", "block"):
                raise Wrong(f"template: :{item.line}: {word} is not available here", parsing=True)
            else:
                nodes.append(Node("pipe", pipe=self._pipe(item.text, item.line, item.at), line=item.line))
        return nodes, None

    def _block(self, kind: str, rest: str, line: int, at: int) -> Node:
        if not rest.strip():
            raise Wrong(f"template: :{line}: missing value for {kind}", parsing=True)
        node = Node(kind, pipe=self._pipe(rest, line, at), line=line)
        self._ranges += kind == "range"
        node.body, ended = self._list()
        self._ranges -= kind == "range"
        while ended is not None and ended.text != "end":
            more = ended.text.removeprefix("else").lstrip()
            if more:
                word = _first(more)
                at = ended.at + len(ended.text) - len(more) + len(word)
                node.other = [self._block(word, more[len(word) :], ended.line, at)]
                return node
            node.other, ended = self._list()
        if ended is None:
            raise Wrong(f"template: :{_last_line(self._items)}: unexpected EOF", parsing=True)
        return node

    def _pipe(self, text: str, line: int, at: int) -> Pipe:
        reader = _Reader(text, line, at, self._known)
        pipe = reader.pipe()
        if reader.left:
            raise Wrong(f'template: :{line}: unexpected "{reader.left[0][1]}" in operand', parsing=True)
        return pipe

    def render(self, functions: Mapping[str, Function], data: Any = None, *, strict: bool = False) -> str:
        """The text. `strict`: a key that a map lacks is an error. Raises Wrong, and what the functions raise."""
        run = Run(functions, strict=strict)
        run.nodes(self._nodes, data, [{"$": data}])
        return "".join(run.out)

    def place(self, at: int) -> str:
        """A place of the text as Go tells it: the line, and before how many of its bytes."""
        before = self._text[:at]
        return f"{before.count(chr(10)) + 1}:{len(before[before.rfind(chr(10)) + 1 :].encode())}"


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
            words = action.strip()
            found.append(Node("action", words, line=line, at=text.index(words, start + len(left))))


def _first(action: str) -> str:
    """The action's first word."""
    return action.split(None, 1)[0] if action.strip() else ""


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
            at += 1 if char == "\\" and quote != "`" else 0
            quote = "" if char == quote else quote
        elif char in "\"`'":
            quote = char
        at += 1
    return -1


class _Reader:
    """Reads one action's pipeline, which begins at `at` of the template's text."""

    def __init__(self, text: str, line: int, at: int, known: Sequence[str]) -> None:
        self.line = line
        self._at = at
        self._text = text
        self._known = known
        self.left = [(str(m.lastgroup), m[0], m.start()) for m in _TOKEN.finditer(text)]

    def _skip(self) -> None:
        while self.left and self.left[0][0] == "space":
            self.left.pop(0)

    def _next(self) -> tuple[str, str, int] | None:
        self._skip()
        return self.left[0] if self.left else None

    def _since(self, start: int) -> str:
        """What has been read from `start` on."""
        return self._text[start : self.left[0][2] if self.left else len(self._text)].strip()

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
        operands, said, last_at = [], [], 0
        self._skip()
        at = self._at + (self.left[0][2] if self.left else len(self._text))
        while (token := self._next()) and token[1] not in ("|", ")"):
            operands.append(self._operand())
            last_at = self._at + token[2]
            said.append(self._since(token[2]))
        if not operands:
            raise Wrong(f"template: :{self.line}: missing value for command", parsing=True)
        return Command(operands, at, " ".join(said), last_at, said[-1])

    def _operand(self) -> Any:
        kind, text, start = self.left.pop(0)
        at = self._at + start
        if kind == "string":
            return _unquoted(text, self.line)
        if kind == "raw":
            return text[1:-1]
        if kind == "char":
            return ord(_unquoted(text, self.line)[0])
        if kind == "number":
            return _number(text, self.line)
        if kind == "word":
            if text in ("true", "false", "nil"):
                return {"true": True, "false": False, "nil": None}[text]
            if text not in self._known:
                raise Wrong(f'template: :{self.line}: function "{text}" not defined', parsing=True)
            return Word(text, at)
        if kind == "field":
            at = self._second(at)
            fields = (text[1:], *self._fields())
            return Chain(".", fields, at, self._since(start))
        if kind in ("var", "dot"):
            at = self._second(at)
            fields = tuple(self._fields())
            return Chain(text, fields, at, self._since(start))
        if text == "(":
            inner = self.pipe()
            if not self.left or self.left.pop(0)[1] != ")":
                raise Wrong(f"template: :{self.line}: unclosed left paren", parsing=True)
            last = inner.commands[-1]  # what Go has looked at last when a field of it is missing
            return Chain(inner, tuple(self._fields()), last.last_at, last.last_said)
        raise Wrong(f'template: :{self.line}: unexpected "{text}" in operand', parsing=True)

    def _second(self, at: int) -> int:
        """Where Go places a chain of fields: at its second link, if it has one."""
        return self._at + self.left[0][2] if self.left and self.left[0][0] == "field" else at

    def _fields(self) -> list[str]:
        found = []
        while self.left and self.left[0][0] == "field":
            found.append(self.left.pop(0)[1][1:])
        return found


def _number(text: str, line: int) -> int | float:
    """A number as Go writes it: digits may be parted by `_`, a point or an exponent makes it a float."""
    plain = text.replace("_", "")
    try:
        if re.match(r"[-+]?0[xXbBoO]", plain):
            return int(plain, 0)
        if re.search(r"[.eE]", plain):
            return float(plain)
        return int(plain, 8 if re.match(r"[-+]?0\d", plain) else 10)
    except ValueError:
        raise Wrong(f'template: :{line}: bad number syntax: "{text}"', parsing=True) from None


_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_PLAIN: Final = {
    **{"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"},
    **{"\\": "\\", "'": "'", '"': '"'},
}


def _unquoted(text: str, line: int) -> str:
    """What stands between quotes, as Go reads its escapes."""

    def one(found: re.Match[str]) -> str:
        if found[5] is not None:
            if found[5] not in _PLAIN:
                raise Wrong(f"template: :{line}: invalid syntax", parsing=True)
            return _PLAIN[found[5]]
        code = int(found[4], 8) if found[4] else int(found[1] or found[2] or found[3], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise Wrong(f"template: :{line}: invalid syntax", parsing=True)
        return chr(code)

    return _ESCAPE.sub(one, text[1:-1])
