"""Endless lines: patterns see a bounded part of them, and even on that part none has many ways to fail."""

import itertools
import re

import pytest

from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.logtext import LINE_LIMIT
from caravan.diagnosis.reading import evidence_of_text
from caravan.diagnosis.series import losses
from caravan.diagnosis.sign import LOOKED_AT, Origin, is_mild, is_warning, row
from caravan.diagnosis.signs import SIGNS, telling
from caravan.values.failure import FailureClass, Stage

ANY = row(r"^(?P<value>.*)$", (Origin.LOG, Origin.EVENT), FailureClass.UNKNOWN, 0.5)
BEGINNINGS = ("", "error ", "ValueError: data ", "RuntimeError: bad test sample ", "1.0 GiB total capacity;")
PIECES = ("a", "1", ".", "/", " ", "'", '"', "[", "a/", "a.", "1.", "1%|", "loss ", "loss/", "a=1 ", "No such file ")


@pytest.mark.parametrize("size", [500, 8192, 100_000])
def test_a_row_sees_a_bounded_part_of_a_line(size: int) -> None:
    bounded = row(rf"^.{{{LOOKED_AT + 1},}}$", Origin.LOG, FailureClass.UNKNOWN, 0.5)
    assert not bounded.tells("a" * size)
    assert bounded.find({Origin.LOG: ("a" * size,)}) is None
    assert ANY.find({Origin.EVENT: ("a" * size,)}) is not None


def test_what_stands_beyond_is_not_looked_at() -> None:
    tail = " CUDA out of memory. Tried to allocate 20.00 MiB."
    assert telling("RuntimeError:" + tail)
    assert not telling("x" * LINE_LIMIT + tail)
    assert not is_warning("x" * LOOKED_AT + " UserWarning: y")
    assert not is_mild("x" * LOOKED_AT + " skipped")


def test_adversarial_lines_are_read_by_every_row() -> None:
    """With a pattern of cubic time one of these lines alone would outlast the patience of any runner."""
    for begin, piece in itertools.product(BEGINNINGS, PIECES):
        line = (begin + piece * 8192)[:8192]
        evidence_of(Stage.VERIFY, log=f"{line}\n{line[:4096]}/{line[4096:]}\n".encode())
        evidence_of(Stage.VERIFY, message=line)
    assert all(isinstance(sign.tells("a/" * 4096), bool) for sign in SIGNS)


@pytest.mark.parametrize("piece", ["a", "1.", " ", "a/", "'", "data ", "requires "])
def test_adversarial_lines_with_its_words_are_read_by_every_row(piece: str) -> None:
    for sign in SIGNS:
        for word in sorted(sign.needs)[:2]:
            told = [sign.tells((begin + word + piece * LOOKED_AT)[:LOOKED_AT]) for begin in ("", "ValueError: ")]
            assert all(isinstance(one, bool) for one in [*told, sign.tells((word + piece) * 40)])


def test_a_series_names_its_losses_in_bounded_words() -> None:
    assert list(losses("loss/" * 2000 + " 1.5")) == []
    assert [len(name) for name, _ in losses("a_" * 1500 + "loss 1.5")] == [64]
    assert list(losses("train/loss" + " " * 12 + "= 0.5")) == [("train/loss", 0.5)]


def test_a_path_without_a_root_is_named_whole() -> None:
    lines = evidence_of(Stage.VERIFY, log=b"ValueError: dataset data/train set does not exist").log_lines
    found = [sign.find({Origin.LOG: lines}) for sign in SIGNS if sign.failure is FailureClass.DATA_PATH_MISSING]
    assert [seen.details["path"] for where in found if where for seen in where[1:]] == ["data/train"]


def test_counts_and_blank_lines_without_end_are_read() -> None:
    text = b'Task Group "x" (failed to place 1 allocation):\n  * Constraint "a": ' + b"9" * 5000 + b" nodes excluded\n"
    assert evidence_of_text(text).placement_failures[0].constraint_filtered == {}
    assert evidence_of_text(b"\n" * 200_000 + b"x").log_lines == ("x",)


def test_a_secret_with_an_escape_inside_is_masked_in_all_evidence() -> None:
    secret = "9f8e7d6c5b4aABCDEF0123456789"
    broken = f"error: using {secret[:12]}\x1b[0m{secret[12:]} now"
    said = evidence_of(Stage.EVALUATE, message=broken, log=broken.encode(), secrets=(secret,))
    text = re.sub(r"\\x1b\[0m|\x1b\[0m", "", str(said) + str(evidence_of_text(broken.encode(), secrets=(secret,))))
    assert secret not in text
    assert "[masked]" in text
