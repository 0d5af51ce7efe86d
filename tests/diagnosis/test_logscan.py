"""Long logs: what is read of them, and that nothing that matters is lost before or behind megabytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.diagnosis.logscan import chosen
from caravan.diagnosis.logtext import digest
from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import FailureClass
from caravan.values.plan import TrainingPlan
from tests.diagnosis.cases.reading import CASES, Case

PLAN = TrainingPlan(goal="g", command=("python", "train.py"))
QUIET = b"".join(b"[rank%d]: batch %d took 0.31 s, lr 2.0e-05\n" % (n % 4, n) for n in range(30_000))
WANTED = (FailureClass.CUDA_OOM, FailureClass.GPU_NODE_BROKEN, FailureClass.USER_CODE_BUG, FailureClass.SHM_TOO_SMALL)
SHOWN = [case for case in CASES if case.origin == "log" and not case.denied and case.failure in WANTED]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=400))
def test_the_chosen_lines_are_lines_of_the_log_in_order(lines: list[bytes]) -> None:
    log = b"\n".join(lines) * 3
    places = list(chosen(log))
    assert [place for place, _ in places] == sorted({place for place, _ in places})
    for place, line in places:
        assert log[place : place + len(line)] == line
        assert place == 0 or log[place - 1 : place] == b"\n" or len(log) > 32_768


def test_little_is_read_of_a_long_log() -> None:
    assert len(list(chosen(QUIET))) < 400
    assert len(list(chosen(b"x" * 3_000_000))) == 1


def test_a_traceback_in_the_middle_is_read_whole() -> None:
    frames = b"".join(b'  File "/w/a.py", line %d, in f\n    f()\n' % n for n in range(40))
    log = QUIET + b"Traceback (most recent call last):\n" + frames + b"KeyError: 'x'\n" + QUIET
    assert digest(log).chain[0][-1] == "KeyError: 'x'"


def test_a_traceback_across_a_blocks_end_is_read_whole() -> None:
    head = b"Traceback (most recent call last):\n" + b'  File "/w/a.py", line 1, in f\n    f()\n'
    for shift in range(0, 120, 7):
        before = QUIET[: 65_536 - 60 + shift]
        log = before[: before.rfind(b"\n") + 1] + head + b"KeyError: 'x'\n" + QUIET
        assert digest(log).chain[0] == ('  File "/w/a.py", line 1, in f', "    f()", "KeyError: 'x'")


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.name)
def test_the_answer_is_the_same_behind_megabytes(case: Case) -> None:
    alone = diagnose(case.evidence(), PLAN, ())
    behind = diagnose(evidence_of_text(QUIET + case.text.encode(), TextKind.TASK_STDERR), PLAN, ())
    assert behind.failure is alone.failure


def test_a_loss_that_is_lost_in_the_middle_is_seen() -> None:
    going = b"".join(b"step %d loss %.3f\n" % (n, 9 - n / 9000) for n in range(40_000))
    lost = b"".join(b"step %d loss nan\n" % n for n in range(40_000, 80_000))
    found = diagnose(evidence_of_text(going + lost, TextKind.TASK_STDERR), PLAN, ())
    assert (found.failure, found.details["step"]) == (FailureClass.NUMERIC_DIVERGENCE, "40000")


def test_the_last_progress_bar_is_kept() -> None:
    bars = b"".join(b"\r %d%%|##  | %d/100 [00:01<00:09, 1.0it/s]" % (n, n) for n in range(50))
    assert "49%|##  | 49/100 [00:01<00:09, 1.0it/s]" in digest(b"begin\n" + bars).decisive()
