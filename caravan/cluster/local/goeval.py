"""Evaluating a parsed template: Go's rules for truth, printing, ranges and calls. Pure."""

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, Final

from caravan.cluster.local.gonodes import Chain, Command, Node, Pipe, Word, Wrong
from caravan.cluster.local.goprint import shown, type_name

Function = Callable[..., Any]
_MOST_STEPS: Final = 1_000_000


class CallFailed(Exception):
    """A function that can't be done, in its own words."""


class _Break(Exception):
    """`break` in a range."""


class _Continue(Exception):
    """`continue` in a range."""


class Run:
    """Evaluates nodes; `out` collects the text."""

    def __init__(self, functions: Mapping[str, Function], *, strict: bool) -> None:
        self.out: list[str] = []
        self._functions = functions
        self._strict = strict
        self._steps = 0

    def nodes(self, nodes: Sequence[Node], dot: Any, scopes: list[dict[str, Any]]) -> None:
        """Evaluate nodes with this dot; variables are looked up from the last scope on."""
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

    def _block(self, node: Node, pipe: Pipe, dot: Any, scopes: list[dict[str, Any]]) -> None:
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

    def _range(self, node: Node, pipe: Pipe, dot: Any, scopes: list[dict[str, Any]]) -> None:
        over = self._value(Pipe(pipe.commands), dot, scopes)
        if isinstance(over, Mapping):
            pairs = [(k, over[k]) for k in sorted(over)]
        elif isinstance(over, int) and not isinstance(over, bool):
            pairs = [(i, i) for i in range(over)]
        elif over is None or isinstance(over, list | tuple | range):
            pairs = list(enumerate(over or ()))
        else:
            first = pipe.commands[0]
            raise Wrong(f"range can't iterate over {shown(over)}", at=first.at, said=first.said)
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

    def _value(self, pipe: Pipe, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        value: tuple[Any, ...] = ()
        for command in pipe.commands:
            value = (self._call(command, value, dot, scopes),)
        for name in pipe.names:
            holder = scopes[-1] if pipe.declares else next((s for s in scopes[::-1] if name in s), scopes[-1])
            holder[name] = value[0]
        return value[0]

    def _call(self, command: Command, last: tuple[Any, ...], dot: Any, scopes: list[dict[str, Any]]) -> Any:
        first, *rest = command.operands
        if isinstance(first, Word):
            if first.name in ("and", "or"):
                return self._lazily(first.name, rest, last, dot, scopes)
            given = [*(self._operand(o, dot, scopes) for o in rest), *last]
            return self._function(first, given, command)
        if first is None:
            raise Wrong("nil is not a command", at=command.at, said=command.said)
        if rest or last:
            told = f"can't give argument to non-function {command.said.split()[0]}"
            raise Wrong(told, at=command.at, said=command.said.split()[0])
        return self._operand(first, dot, scopes)

    def _function(self, word: Word, given: list[Any], command: Command) -> Any:
        """Call a function by name, its errors in Go's words."""
        function = self._functions[word.name]
        try:
            wanted = signature(function)
            wanted.bind(*given)
        except TypeError as error:
            number = sum(p.default is Parameter.empty for p in wanted.parameters.values())
            told = f"wrong number of args for {word.name}: want {number} got {len(given)}"
            raise Wrong(told, at=word.at, said=word.name) from error
        except ValueError:  # a function of C, whose arguments nobody tells
            pass
        try:
            return function(*given)
        except CallFailed as failed:
            raise Wrong(f"error calling {word.name}: {failed}", at=command.at, said=command.said) from failed
        except (TypeError, AttributeError, ValueError, ArithmeticError, LookupError) as error:
            raise Wrong(f"error calling {word.name}: {error}", at=command.at, said=command.said) from error

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
        if isinstance(operand, Word):
            return self._call(Command([operand]), (), dot, scopes)
        if not isinstance(operand, Chain):
            return operand
        if isinstance(operand.root, Pipe):
            value = self._value(operand.root, dot, scopes)
        elif operand.root == ".":
            value = dot
        else:
            found = next((s for s in scopes[::-1] if operand.root in s), None)
            if found is None:
                raise Wrong(f'undefined variable "{operand.root}"', at=operand.at, parsing=True)
            value = found[operand.root]
        for name in operand.fields:
            value = self._field(value, name, operand)
        return value

    def _field(self, value: Any, name: str, chain: Chain) -> Any:
        if isinstance(value, Mapping):
            if name not in value and self._strict:
                raise Wrong(f'map has no entry for key "{name}"', at=chain.at, said=chain.said)
            return value.get(name)
        if isinstance(value, str) and name == "Value":  # an item of a variable
            return value
        if value is None:
            if self._strict:
                raise Wrong(f'nil data; no entry for key "{name}"', at=chain.at, said=chain.said)
            return None
        raise Wrong(f"can't evaluate field {name} in type {type_name(value)}", at=chain.at, said=chain.said)


def truth(value: Any) -> bool:
    """Whether Go's `if` takes the value as true."""
    return bool(value)
