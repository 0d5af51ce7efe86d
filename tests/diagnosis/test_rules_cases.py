"""Composed logs and messages: each shows its cause and what it names, and each sign is shown by one."""

import pytest

from caravan.diagnosis.rules import diagnose, find
from caravan.diagnosis.signs import SIGNS
from caravan.values.failure import Diagnosis
from caravan.values.plan import Resources, TrainingPlan
from tests.diagnosis.cases.reading import CASES, FIRST_SET, Case

PLAN = TrainingPlan(goal="g", command=("python", "train.py"), resources=Resources(gpus=2, memory_mb=2048))


def told(case: Case) -> Diagnosis:
    return diagnose(case.evidence(), PLAN, ())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_shows_its_cause_and_what_it_names(case: Case) -> None:
    diagnosis = told(case)
    if case.denied:
        assert diagnosis.failure not in FIRST_SET, diagnosis
    else:
        assert diagnosis.failure is case.failure, diagnosis
        assert case.details.items() <= diagnosis.details.items(), diagnosis.details


def test_every_sign_is_seen_by_a_case() -> None:
    seen = {id(finding.sign) for case in CASES for finding in find(case.evidence())}
    unseen = [sign.pattern.pattern if sign.pattern else repr(sign.look) for sign in SIGNS if id(sign) not in seen]
    assert not unseen, "\n".join(unseen)
