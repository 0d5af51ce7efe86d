"""The launch script's marks in a log: they count, and nothing that a program prints does."""

import re
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caravan.values.log_marks import Mark, Series, digested, head_of, is_marked, marks, plainly, without_tokens
from caravan.values.masking import mask
from tests.planning.scenes import TEMPLATES

SECRET = "0123456789abcdef" * 2
HEAD, MARK = marks(SECRET)
OTHER_HEAD, OTHER = marks("f" * 32)
# What a program may print: anything, marks of its own with heads of its own, and all that the log has told so far.
WORDS = st.one_of(
    st.text(max_size=40).filter(lambda text: len(text.splitlines()) < 2),
    st.sampled_from([f"caravan: {mark}" for mark in Mark]),
    st.sampled_from([OTHER_HEAD, *OTHER.values()]),
    st.builds("caravan: {} {}".format, st.sampled_from(Mark), st.text("0123456789abcdef", min_size=32, max_size=32)),
)


def told(*, before: list[str], steps: list[str], training: list[str], evaluation: list[str]) -> list[str]:
    return [
        *(HEAD, *before),
        *(MARK[Mark.STEPS_BEGIN], *steps, MARK[Mark.STEPS_OVER], *training),
        *(MARK[Mark.EVALUATION_BEGINS], *evaluation, MARK[Mark.EVALUATION_OVER]),
    ]


@given(st.data())
@example(None)
def test_no_line_of_a_program_changes_which_lines_are_the_trainings(data: st.DataObject | None) -> None:
    def said(*seen: str) -> list[str]:
        if data is None:
            return ["loss 1", *seen, f"caravan: {Mark.EVALUATION_BEGINS}", "loss 2", OTHER_HEAD, *OTHER.values()]
        return data.draw(st.lists(WORDS | st.sampled_from(seen) if seen else WORDS, max_size=8))

    # A phase may say again what stands in the log so far: the head alone is left out then, as ours.
    begun = [HEAD, MARK[Mark.STEPS_BEGIN]]
    over = [*begun, MARK[Mark.STEPS_OVER]]
    lines = {"before": said(HEAD), "steps": said(*begun), "training": said(*over)}
    lines["evaluation"] = said(*over, MARK[Mark.EVALUATION_BEGINS])
    mine = [line for line in [*lines["before"], *lines["training"]] if line != HEAD]
    assert list(Series().of(told(**lines))) == mine
    assert list(Series([head_of(HEAD)]).of(told(**lines)[1:])) == mine


def test_lines_come_in_pieces_and_with_their_ends() -> None:
    series, lines = Series(), told(before=["a"], steps=["b"], training=["c"], evaluation=["d"])
    assert [line for piece in lines for line in series.of([f"{piece}\r"])] == ["a\r", "c\r"]


def test_the_heads_of_several_logs() -> None:
    series = Series([head_of(HEAD), head_of(OTHER_HEAD)])
    lines = ["a", OTHER[Mark.EVALUATION_BEGINS], "b", OTHER[Mark.EVALUATION_OVER], "c", MARK[Mark.STEPS_BEGIN], "d"]
    assert list(series.of(lines)) == ["a", "c"]


def test_without_a_head_nothing_is_left_out() -> None:
    lines = told(before=[], steps=["a"], training=["b"], evaluation=["c"])[1:]
    assert list(Series().of(lines)) == lines


@pytest.mark.parametrize("line", [HEAD, *MARK.values()])
def test_no_mark_is_taken_for_a_secret(line: str) -> None:
    assert mask(line) == line
    assert is_marked(line)


def test_how_a_person_is_shown_them() -> None:
    assert [plainly(line) for line in (HEAD, *MARK.values(), "loss 1")] == [
        "",
        *(f"caravan: {mark}" for mark in Mark),
        "loss 1",
    ]
    log = "\n".join(told(before=["x"], steps=[], training=["y"], evaluation=[])).encode()
    assert without_tokens(log).decode().splitlines() == [
        "x",
        *(f"caravan: {mark}" for mark in (Mark.STEPS_BEGIN, Mark.STEPS_OVER)),
        "y",
        *(f"caravan: {mark}" for mark in (Mark.EVALUATION_BEGINS, Mark.EVALUATION_OVER)),
    ]


def test_the_launch_script_makes_them_so() -> None:
    text = re.sub(r"\{#.*?#\}", "", (TEMPLATES / "launch" / "marks.sh.j2").read_text(), flags=re.DOTALL)
    text += '\nfor n in "$mark_1" "$mark_2" "$mark_3" "$mark_4"; do echo "$n"; done\nenv\n'
    done = subprocess.run(
        ["/bin/sh", "-c", text],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "mark_4": "planted", "marks_head": "planted"},
    )
    head, *rest = done.stdout.splitlines()
    assert done.stderr == f"{head}\n"
    expected, lines = marks(rest[3])
    assert (head, rest[:4]) == (expected, [line.rpartition(" ")[2] for line in lines.values()])
    assert digested(rest[0]) == head_of(head)
    assert not any(token in line for token in rest[:4] for line in rest[4:])  # nothing of it is in the environment
    assert not any(line.startswith("mark") for line in rest[4:])


def test_the_last_mark_says_in_which_phase_a_log_ends() -> None:
    lines = told(before=["a"], steps=["b"], training=["c"], evaluation=["d"])
    for count, mark in ((1, None), (3, Mark.STEPS_BEGIN), (len(lines) - 1, Mark.EVALUATION_BEGINS)):
        series = Series()
        assert list(series.of(lines[:count])) is not None
        assert series.last is mark
    forged = Series()
    list(forged.of([HEAD, f"caravan: {Mark.EVALUATION_BEGINS} {SECRET}"]))
    assert forged.last is None
