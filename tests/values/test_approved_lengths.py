"""How long a run trains, as it was approved: a repair that makes it shorter needs no question, anything else does."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.base import Json
from caravan.values.estimate import Envelope, held_fields, lengths
from caravan.values.guarded import kept_fields
from caravan.values.plan import Author, PlanChange, Training, TrainingPlan, apply_changes

PLAN = TrainingPlan(goal="g", command=("python", "train.py"), training=Training(epochs=6))


def approved(plan: TrainingPlan) -> Envelope:
    return Envelope(
        cost_usd=1.0,
        datacenters=("*",),
        kept=kept_fields(plan),
        held=held_fields(plan, None),
        lengths=lengths(plan),
    )


def changed(plan: TrainingPlan, by: Author, **values: Json) -> TrainingPlan:
    return apply_changes(plan, [PlanChange(path=f"training.{name}", value=v, by=by) for name, v in values.items()])


def asked(before: TrainingPlan, by: Author, values: Mapping[str, Json]) -> tuple[str, ...]:
    return approved(before).objections(changed(before, by, **values), 0.5)


@given(st.integers(1, 40))
def test_a_repair_trains_for_fewer_epochs_and_never_for_more_without_a_question(epochs: int) -> None:
    found = asked(PLAN, Author.REPAIR, {"epochs": epochs})
    assert bool(found) == (epochs > 6)
    assert all("training.epochs" in text for text in found)


def test_steps_are_a_length_too() -> None:
    steps = changed(PLAN, Author.DEFAULT, max_steps=100)
    assert asked(steps, Author.REPAIR, {"max_steps": 60}) == ()
    assert asked(steps, Author.REPAIR, {"max_steps": 160}) != ()


@pytest.mark.parametrize("values", [{"epochs": None}, {"max_steps": 10}])
def test_a_length_that_is_no_shorter_one_is_asked_about(values: dict[str, Json]) -> None:
    """Without a number it is as long as the program likes; where no steps were approved, none are fewer."""
    assert asked(PLAN, Author.REPAIR, values) != ()


@pytest.mark.parametrize("by", [Author.MODEL, Author.MEMORY])
def test_who_makes_it_shorter_matters(by: Author) -> None:
    assert asked(PLAN, by, {"epochs": 2}) != ()
