"""Copies of logs: a secret with an escape sequence inside is masked, other escapes stay."""

from pathlib import Path

import pytest

from caravan.runs.logs import LogCopies
from caravan.values.escapes import without_escapes

SECRET = "9f8e7d6c5b4aABCDEF0123456789"
BROKEN = f"using {SECRET[:12]}\x1b[0m{SECRET[12:]} now\n".encode()


@pytest.mark.parametrize("piece", [1, 7, 20, 1000])
def test_a_secret_is_masked_by_value_across_escapes(tmp_path: Path, piece: int) -> None:
    copies = LogCopies(tmp_path, (SECRET,))
    for start in range(0, len(BROKEN), piece):
        copies.append("x.log", BROKEN[start : start + piece])
        shown = (tmp_path / "x.log").read_text()
        assert SECRET[:6] not in shown
        assert SECRET[14:] not in shown
    assert (tmp_path / "x.log").read_text() == "using [masked] now\n"


def test_the_colours_of_other_lines_stay(tmp_path: Path) -> None:
    text = f"\x1b[31mkey\x1b[0m of it\n\x1b[1m{SECRET}\x1b[0m\n\x1b[32mgoes on"
    LogCopies(tmp_path, (SECRET,)).append("x.log", text.encode())
    shown = (tmp_path / "x.log").read_text()
    assert shown == "\x1b[31mkey\x1b[0m of it\n\x1b[1m[masked]\x1b[0m\n\x1b[32mgoes on"


def test_escapes_go_and_lines_stay() -> None:
    assert without_escapes("a\x1b[1;31mb\x1b]0;title\x07c\td\r\ne\x1b[") == "abc\td\r\ne"
