"""Tables on narrow terminals: columns are left out before a figure is cut, for half a figure reads as another one."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from caravan.terminal.console import listing, without

ROWS = (("a0768164", "succeeded", "1", "12.50", "numpy-lora"), ("e1a12589", "failed", "2", "0.00", "repo"))
SPARE = ("repository", "try")


def table() -> Table:
    made = listing("run", "status", "try", "USD", "repository")
    for row in ROWS:
        made.add_row(*row)
    for column in made.columns:
        column.no_wrap = True
    made.columns[3].justify = "right"
    return made


def drawn(what: Table, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(what)
    return stream.getvalue()


def test_a_table_that_fits_keeps_all_its_columns() -> None:
    assert [column.header for column in without(table(), 80, *SPARE).columns] == [c.header for c in table().columns]
    assert drawn(without(table(), 80, *SPARE), 80) == drawn(table(), 80)


@given(st.integers(27, 80))
def test_no_figure_is_cut_where_the_columns_that_stay_have_room(width: int) -> None:
    text = drawn(without(table(), width, *SPARE), width)
    for run, status, _, usd, _ in ROWS:
        assert all(word in text for word in (run, status, usd))


def test_columns_go_in_the_order_in_which_they_are_spared() -> None:
    assert [column.header for column in without(table(), 38, *SPARE).columns] == ["run", "status", "try", "USD"]
    assert [column.header for column in without(table(), 10, *SPARE).columns] == ["run", "status", "USD"]
