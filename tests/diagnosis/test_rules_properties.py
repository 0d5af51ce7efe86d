"""What holds for every log: any bytes are read, noise changes nothing, half a log says no surer what is wrong."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.diagnosis.details import NAMES
from caravan.diagnosis.reading import TextKind, evidence_of_text, kind_of
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import Evidence, FailureClass, Stage
from caravan.values.plan import TrainingPlan
from tests.diagnosis.cases.reading import CASES, FIRST_SET, Case

PLAN = TrainingPlan(goal="g", command=("python", "train.py"))
LOGGED = [case for case in CASES if case.origin in ("log", "docker")]
SHOWN = [case for case in LOGGED if not case.denied and case.failure in FIRST_SET]

NOISE = (
    "INFO 10:00:01 loader | shard 17 opened, 20481 rows",
    "Some weights of the model were not initialized and are newly initialized: ['score.weight']",
    "2026-01-01 10:00:03.113 I tensorflow/core/platform/cpu_feature_guard.cc:182] This binary is optimized",
    "WARNING: retrying request 3 after a timeout",
    "UserWarning: invalid escape sequence, ignored",
    "Training:  31%|###1      | 310/1000 [02:13<04:51,  2.36it/s]",
    "\rMap: 10%|#  | 1/10 [00:01<00:09]\rMap: 20%|##  | 2/10 [00:02<00:08]",
    "",
    "wandb: Tracking run with wandb version 0.18",
    "NCCL INFO Channel 00/02 : 0 1 2 3 4 5 6 7",
    "failed to fetch blob ab12cd, retrying",
    "cache miss for key 81ac, falling back to the source",
)
PREFIXES = ("", "[rank3]: ", "(TrainWorker pid=331, ip=10.0.0.4) ", "2026-01-01T10:00:00.113881Z ", "[1,0]<stderr>:")


def told(text: str) -> FailureClass:
    return diagnose(evidence_of_text(text.encode(), TextKind.TASK_STDERR), PLAN, ()).failure


noise = st.lists(st.sampled_from(NOISE), max_size=60)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SHOWN), noise, noise, st.sampled_from(PREFIXES))
def test_noise_and_prefixes_do_not_change_the_cause(
    case: Case, before: list[str], after: list[str], prefix: str
) -> None:
    lines = [*before, *case.text.rstrip("\n").split("\n"), *after]
    assert told("\n".join(prefix + line for line in lines)) is case.failure


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.name)
def test_a_cause_is_found_in_the_middle_of_a_long_log(case: Case) -> None:
    chance = random.Random(case.name)
    words = ["error", "failed", "timeout", "not found", "unable", "invalid", "missing"]
    around = [f"peer {chance.random():.3f} {chance.choice(words)} in {chance.randbytes(4).hex()}" for _ in range(1200)]
    assert told("\n".join([*around[:600], case.text, *around[600:]])) is case.failure


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SHOWN), st.floats(0, 1), st.booleans())
def test_half_a_log_says_no_surer_what_is_wrong(case: Case, share: float, tail: bool) -> None:
    whole = diagnose(case.evidence(), PLAN, ())
    cut = int(len(case.text) * share)
    part = diagnose(
        evidence_of_text((case.text[cut:] if tail else case.text[:cut]).encode(), TextKind.TASK_STDERR), PLAN, ()
    )
    assert part.failure is whole.failure or part.failure not in FIRST_SET or part.confidence <= whole.confidence


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=1500), st.sampled_from([None, *TextKind]))
def test_any_bytes_are_diagnosed(text: bytes, kind: TextKind | None) -> None:
    diagnosis = diagnose(evidence_of_text(text, kind), PLAN, ())
    assert diagnosis.cause.endswith(".")
    assert set(diagnosis.details) <= NAMES


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(CASES), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_any_mixture_of_lines_is_diagnosed(cases: list[Case], chance: random.Random) -> None:
    lines = [line for case in cases for line in case.text.splitlines()]
    chance.shuffle(lines)
    evidence = Evidence(stage=Stage.VERIFY, log_lines=tuple(lines), events=tuple(lines[:5]))
    diagnosis = diagnose(evidence, PLAN, ())
    assert set(diagnosis.lines) <= {*lines, "asked to stop"}
    assert diagnosis == diagnose(evidence, PLAN, ())


@pytest.mark.parametrize("case", [case for case in CASES if case.origin == "eval"], ids=lambda case: case.name)
def test_a_placement_is_known_by_its_form(case: Case) -> None:
    assert kind_of(case.text) is TextKind.NOMAD_EVAL


EVENTS = """Recent Events:
Time                       Type            Description
2026-04-10T13:55:21+01:00  Not Restarting  Error was unrecoverable
2026-04-10T13:55:21+01:00  Driver Failure  Failed to pull `lab/sft:7`: manifest unknown
2026-04-10T13:55:19+01:00  Task Setup      Building Task Directory
"""


def test_events_are_read_oldest_first() -> None:
    evidence = evidence_of_text(EVENTS.encode())
    assert evidence.events == (
        "Task Setup: Building Task Directory",
        "Driver Failure: Failed to pull `lab/sft:7`: manifest unknown",
        "Not Restarting: Error was unrecoverable",
    )
    diagnosis = diagnose(evidence, PLAN, ())
    assert (diagnosis.failure, diagnosis.details) == (FailureClass.IMAGE_NOT_FOUND, {"image": "lab/sft:7"})


def test_a_secret_in_a_text_is_masked_whatever_it_is() -> None:
    for kind in TextKind:
        said = f'ValueError: invalid token hf_{"a1" * 16}\n{EVENTS}\nTask Group "x" (failed to place: hf_{"b2" * 16}'
        assert "a1a1" not in evidence_of_text(said.encode(), kind).model_dump_json()


def test_failures_of_nomads_json_are_read() -> None:
    group = '{"NodesEvaluated": 2, "DimensionExhausted": {"memory": 2}, "QuotaExhausted": null}'
    text = f'{{"FailedTGAllocs": {{"train": {group}}}}}'
    diagnosis = diagnose(evidence_of_text(text.encode()), PLAN, ())
    assert diagnosis.failure is FailureClass.PLACEMENT_RESOURCES_EXHAUSTED
    assert diagnosis.details["dimension"] == "memory"
