"""The report as a document: sections of blocks of text. What is told is decided elsewhere, how it looks too.

Every text in it is plain text: a rendering escapes it.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from caravan.runs.report.charts import Chart

Tone = Literal["good", "bad", "warn", "plain"]


@dataclass(frozen=True)
class Code:
    """A text to the letter, within a line."""

    text: str


@dataclass(frozen=True)
class Strong:
    """A text that stands out."""

    text: str


@dataclass(frozen=True)
class Badge:
    """A verdict in a word or two."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Link:
    """A text that leads to a web address. What is no such address is shown as code."""

    text: str
    href: str


Inline = str | Code | Strong | Badge | Link
Line = tuple[Inline, ...]


@dataclass(frozen=True)
class Paragraph:
    """A line of text."""

    line: Line


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Lines that are equals."""

    items: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells. `numbers`: columns whose cells are figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Listing:
    """Text of several lines to the letter. `language` as in Markdown: text, diff, python, sh."""

    text: str
    language: Literal["text", "diff", "python", "sh", "json"] = "text"


@dataclass(frozen=True)
class Figure:
    """A chart; where none can be drawn, its values as a table."""

    chart: Chart
    table: Table


@dataclass(frozen=True)
class Fold:
    """Blocks that most readers skip."""

    title: str
    blocks: "tuple[Block, ...]"


Block = Paragraph | Heading | Bullets | Table | Listing | Figure | Fold


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading. `id` is a word that links lead to."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole report. `facts` are the few figures that everybody asks for."""

    title: str
    badge: Badge
    detail: str
    dates: str
    summary: str = ""
    summary_by: str = ""
    facts: tuple[tuple[str, Line], ...] = ()
    sections: tuple[Section, ...] = field(default=())


_Part = TypeVar("_Part")


def changed(part: _Part, change: Callable[[str], str]) -> _Part:
    """The same with each text in it changed, whatever it stands in: for masking, which must miss none."""
    found: Any = part
    if isinstance(part, str):
        found = change(part)
    elif isinstance(part, tuple):
        found = tuple(changed(item, change) for item in part)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        found = dataclasses.replace(part, **{name: changed(value, change) for name, value in fields.items()})
    same: _Part = found
    return same
