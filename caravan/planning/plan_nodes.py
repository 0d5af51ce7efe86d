"""YAML with the place of everything in it: a text becomes values that know their line and column.

Safe by construction: scalars, lists and mappings only, no tag makes an object. Keys are the texts as they are written
(`on` is no truth value), each once; anchors may be used again, but in bounds. It must not know what a plan is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from caravan.values.errors import PlanError
from caravan.values.yaml_loading import safe_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caravan.values.base import Json

_LARGEST: Final = 100_000  # values in a file, anchors used again counted each time
_DEEPEST: Final = 40
_STANDARD: Final = "tag:yaml.org,2002:"


class Mark(NamedTuple):
    """A place in a text, from 1 on."""

    line: int
    column: int


class Marked(NamedTuple):
    """A value with its place, and the place of its key. `text` is a plain scalar as it is written, else None."""

    value: Any  # a dict or list of Marked, or a scalar
    mark: Mark
    key: Mark
    text: str | None = None

    def plain(self, wants_text: Callable[[tuple[str | int, ...]], bool], inside: tuple[str | int, ...] = ()) -> Json:
        """The JSON value. `wants_text` says of a path in it whether a scalar there is taken as it is written."""
        if isinstance(self.value, dict):
            return {key: item.plain(wants_text, (*inside, key)) for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain(wants_text, (*inside, n)) for n, item in enumerate(self.value)]
        if self.text is not None and self.value is not None and wants_text(inside):
            return self.text
        return self.value

    def at(self, names: Sequence[str]) -> Marked:
        """What stands deepest on the way of these keys and numbers, as far as they lead."""
        if not names:
            return self
        here: Any = self.value
        inner = here.get(names[0]) if isinstance(here, dict) else None
        if isinstance(here, list) and names[0].isdecimal() and int(names[0]) < len(here):
            inner = here[int(names[0])]
        return inner.at(names[1:]) if inner is not None else self


class MarkedError(PlanError):
    """What is wrong with a text, and where."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark


def compose(text: str) -> Marked | None:
    """The document of a YAML text, None for an empty one. Raises MarkedError for what is no YAML or isn't taken."""
    import yaml

    try:
        node = yaml.compose(text, Loader=safe_loader(text))
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        raise MarkedError(_mark(at), _in_words(error, text, at)) from error
    except yaml.YAMLError as error:
        raise MarkedError(Mark(1, 1), f"This is no YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise MarkedError(Mark(1, 1), "This is nested too deeply.") from error
    return None if node is None else _Reader().read(node, _mark(node.start_mark), 0)


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)


def _in_words(error: Any, text: str, at: Any) -> str:
    lines = text.split("\n")
    line = lines[at.line] if at and at.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in str(error.problem):
        return "A tab stands where YAML takes spaces only."
    problem = " ".join(str(error.problem or error.context or "it can't be read").split())
    return f"This is no YAML: {problem}."


class _Reader:
    """One document being read. Counts what it makes, because an anchor can be used again and again."""

    def __init__(self) -> None:
        import yaml

        self._made = 0
        self._open: set[int] = set()
        self._scalars = yaml.SafeLoader("")

    def read(self, node: Any, key: Mark, depth: int) -> Marked:
        import yaml

        mark = _mark(node.start_mark)
        self._made += 1
        if self._made > _LARGEST or depth > _DEEPEST:
            raise MarkedError(mark, "This is too large or too deep for a plan.")
        if id(node) in self._open:
            raise MarkedError(mark, "An anchor is used within itself.")
        if not str(node.tag).startswith(_STANDARD):
            raise MarkedError(mark, f"The tag {node.tag} isn't taken: plain values only.")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return Marked(self._mapping(node, depth), mark, key)
            if isinstance(node, yaml.SequenceNode):
                return Marked([self.read(n, _mark(n.start_mark), depth + 1) for n in node.value], mark, key)
            return Marked(self._scalar(node, mark), mark, key, None if node.style else node.value)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Any, depth: int) -> dict[str, Marked]:
        import yaml

        found: dict[str, Marked] = {}
        for key, value in node.value:
            at = _mark(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                raise MarkedError(at, "A key must be a plain text.")
            if key.tag == f"{_STANDARD}merge":
                raise MarkedError(at, "`<<` isn't taken: write the fields out.")
            if key.value in found:
                first = found[key.value].key
                raise MarkedError(at, f"{key.value!r} stands here a second time (first in line {first.line}).")
            found[key.value] = self.read(value, at, depth + 1)
        return found

    def _scalar(self, node: Any, mark: Mark) -> Json:
        """A scalar's value; a date is the text that it is written as."""
        import yaml

        if node.tag == f"{_STANDARD}timestamp":
            return node.value
        if node.tag not in {f"{_STANDARD}{kind}" for kind in ("str", "null", "bool", "int", "float")}:
            raise MarkedError(mark, f"{str(node.tag).removeprefix(_STANDARD)!r} isn't taken: plain values only.")
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise MarkedError(mark, f"{node.value[:50]!r} can't be read as a value.") from error
