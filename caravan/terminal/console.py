"""The rich console that everything of ours is drawn on. Import it in bodies: rich costs tens of milliseconds."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal, cast

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from caravan.terminal.text import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from rich.console import RenderableType
    from rich.table import Column

_PLAIN_WIDTH = 120  # columns where no terminal says its width
_GAP = 2  # blanks between the columns of a table


class OurConsole(Console):
    """A console that lets a broken pipe pass, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Called by rich while it handles the BrokenPipeError."""
        raise  # what rich is handling


def console_on(stream: TextIO) -> OurConsole:
    """A console on a stream. It takes no markup from texts and colours a real terminal only, and not with NO_COLOR."""
    width = None if stream.isatty() else _PLAIN_WIDTH
    return OurConsole(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=False, width=width)


def painter_for(console: OurConsole) -> OurConsole:
    """A console that colours texts as `console` would and writes nowhere, to capture what it prints."""
    colours = console.color_system
    return OurConsole(
        file=io.StringIO(),
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=True,
        color_system=cast("Literal['standard']", colours) if colours else None,
        no_color=console.no_color,
        legacy_windows=False,
    )


def draw(stream: TextIO, *pictures: RenderableType) -> None:
    """Draw one under the other, without the blanks with which rich fills every line."""
    console = console_on(stream)
    with console.capture() as captured:
        for picture in pictures:
            console.print(picture)
    stream.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def cell(text: str, style: str = "") -> Text:
    """A foreign text for a table or a line, cleaned."""
    return Text(clean(text), style=style)


def pairs(rows: list[tuple[str, str]], *, gap: int = 2) -> Table:
    """Names and values in two columns without lines; long values wrap in theirs."""
    table = Table.grid(padding=(0, gap))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), cell(value))
    return table


def rows_table(rows: Iterable[Sequence[str]]) -> Table:
    """Names, values and who set them, without a heading."""
    table = listing("", "", "")
    table.show_header = False
    table.columns[0].no_wrap = True
    table.columns[0].style = "bold"
    table.columns[0].min_width = 16
    for name, value, by in rows:
        table.add_row(Text(name), cell(one_line(value)), Text(by))
    return table


def without(table: Table, width: int, *spare: str) -> Table:
    """The table without as many of the `spare` columns, by their headings and in this order, as make it fit in `width`
    columns of a terminal: a figure that is cut reads as another one.
    """
    kept = list(table.columns)
    for name in spare:
        if sum(map(_wide, kept)) - _GAP <= width:
            break
        kept = [column for column in kept if column.header != name]
    fitting = listing(*(str(column.header) for column in kept))
    for made, column in zip(fitting.columns, kept, strict=True):
        made.justify, made.no_wrap = column.justify, column.no_wrap
    for cells in zip(*(column.cells for column in kept), strict=True):
        fitting.add_row(*cells)
    return fitting


def _wide(column: Column) -> int:
    return max(cell_len(str(one)) for one in (column.header, *column.cells)) + _GAP


def listing(*columns: str) -> Table:
    """An empty table with a heading line and no frame."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
