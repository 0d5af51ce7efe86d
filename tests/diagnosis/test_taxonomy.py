"""The taxonomy is total, its advice can always be told, and each field of a fix is a place in the plan."""

import string
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.entry import Fixable
from caravan.diagnosis.fields import FIELDS
from caravan.diagnosis.repair import LADDERS
from caravan.diagnosis.taxonomy import ADVICE_PLACES, TAXONOMY, advice
from caravan.values.failure import ChangePlan, FailureClass, Repair
from caravan.values.plan import TrainingPlan

PLAN = TrainingPlan(goal="g", command=("python", "train.py"))


def test_every_cause_has_a_row_and_every_row_a_cause() -> None:
    assert set(TAXONOMY) == set(FailureClass)


@pytest.mark.parametrize("failure", FailureClass)
def test_advice_names_only_known_places(failure: FailureClass) -> None:
    entry = TAXONOMY[failure]
    named = {name for _, name, _, _ in string.Formatter().parse(entry.advice) if name}
    assert named <= ADVICE_PLACES
    assert entry.description.endswith(".")
    assert bool(entry.advice) is (failure is not FailureClass.NO_FAILURE)


@given(st.sampled_from(FailureClass), st.text(max_size=60))
def test_advice_can_be_told_and_does_not_say_the_evidence_again(failure: FailureClass, message: str) -> None:
    assert "message" not in ADVICE_PLACES
    told = advice(failure, PLAN.model_copy(update={"image": message or None}))
    assert failure is FailureClass.NO_FAILURE or told


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_of_a_fix_is_a_place_in_the_plan_or_another_repair(name: str) -> None:
    place = FIELDS[name]
    if place.path is None:
        assert place.repair is not ChangePlan
        assert place.repair in get_args(get_args(Repair)[0])
    else:
        assert place.repair is ChangePlan
        if place.path:
            PLAN.get(place.path)  # raises for a path that no plan has


def test_the_fields_of_the_table_and_of_the_taxonomy_are_the_same() -> None:
    assert {name for entry in TAXONOMY.values() for name in entry.fields} == set(FIELDS)


def test_no_ladder_stands_against_what_no_job_change_mends() -> None:
    assert not [failure for failure in LADDERS if TAXONOMY[failure].fixable is Fixable.NO]
