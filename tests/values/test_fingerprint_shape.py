"""Fingerprints: equal for the same failure in another place, different for another failure, never failing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.fingerprint import fingerprint, shape

STACK = (
    '  File "/srv/jobs/a1b2/train.py", line 120, in main',
    '  File "/srv/jobs/a1b2/lib/model.py", line 9, in forward',
    "RuntimeError: shape '[4, 128]' is invalid for input of size 1024 at 0x7f3a2c",
)
MOVED = (
    '  File "C:\\work\\train.py", line 7, in main',
    '  File "model.py", line 12345, in forward',
    "RuntimeError: shape '[8, 64]' is invalid for input of size 77 at 0xdeadbeef",
)


def test_place_and_figures_do_not_matter_but_cause_and_functions_do() -> None:
    assert fingerprint("user_code_bug", STACK) == fingerprint("user_code_bug", MOVED)
    assert fingerprint("user_code_bug", STACK) != fingerprint("unknown", STACK)
    assert fingerprint("user_code_bug", STACK) != fingerprint("user_code_bug", (STACK[0], STACK[2]))
    assert fingerprint("unknown", ["", "  "]) == "unknown:-"


@pytest.mark.parametrize(
    ("line", "blank"),
    [
        ("Tried to allocate 2.50 GiB (GPU 0; 79.2 GiB total)", "Tried to allocate <size> (GPU <n>; <size> total)"),
        ("can't open '/x/y.txt': didn't exist", "can't open <s>: didn't exist"),
        ("see https://a.b/c?d=1 or ./x/y", "see <url> or .<path>"),
        ("alloc 0b6f1d22-93ce-41d7-8a50-e2c4f70a915b died", "alloc <hex> died"),
        ("commit deadbeef99 lr 1e-4", "commit <hex> lr <n>"),
        ("feedface accede", "feedface accede"),
    ],
)
def test_shapes(line: str, blank: str) -> None:
    assert shape(line) == blank


@given(st.text())
def test_any_text_has_a_shape(text: str) -> None:
    assert not set(shape(text)) & set("\n\t0123456789")


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_numbers_do_not_change_a_shape(a: int, b: int) -> None:
    assert shape(f"step {a} of {b}") == shape("step 1 of 2")
