"""Changing the plan: one function, validated as a whole, with provenance and standing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.errors import PlanError
from caravan.values.estimate import Envelope
from caravan.values.plan import (
    Author,
    Mount,
    PlanChange,
    TrainingPlan,
    apply_changes,
    plan_diff,
    split_path,
)

PLAN = TrainingPlan(goal="x", command=("train.py",))


def change(path: str, value: Any, by: Author = Author.USER) -> PlanChange:
    return PlanChange(path=path, value=value, by=by, why="test")


def test_a_change_keeps_who_and_why() -> None:
    plan = apply_changes(PLAN, [change("training.micro_batch", 4, Author.REPAIR)])
    assert plan.training.micro_batch == 4
    assert plan.set_by("training.micro_batch") is Author.REPAIR
    assert plan.provenance["training.micro_batch"].why == "test"
    assert plan.set_by("training.lr") is Author.DEFAULT


@pytest.mark.parametrize("standing", [Author.USER, Author.ANSWER, Author.REPAIR])
@pytest.mark.parametrize("weak", [Author.ESTIMATE, Author.MEMORY, Author.MODEL, Author.REPOSITORY, Author.CLUSTER])
def test_what_has_standing_stays(standing: Author, weak: Author) -> None:
    changes = [change("training.micro_batch", 4, standing), change("training.micro_batch", 8, weak)]
    assert apply_changes(PLAN, changes).training.micro_batch == 4


def test_a_later_decision_of_a_person_or_a_repair_counts() -> None:
    changes = [change("training.micro_batch", 4), change("training.micro_batch", 2, Author.REPAIR)]
    assert apply_changes(PLAN, changes).training.micro_batch == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.nonsense", 1),
        ("nonsense", 1),
        ("training.micro_batch.deeper", 1),
        ("training.micro_batch", 0),
        ("training.micro_batch", "many"),
        ("limits.attempts", 4),
        ("resources.gpus", -1),
        ("limits.max_cost_usd", float("nan")),
    ],
)
def test_what_makes_no_valid_plan_is_refused_and_named(path: str, value: Any) -> None:
    with pytest.raises(PlanError) as refused:
        apply_changes(PLAN, [change(path, value)])
    assert path.split(".")[0] in refused.value.line()


def test_none_unsets() -> None:
    plan = apply_changes(PLAN, [change("resources.gpu_model", "A100"), change("resources.gpu_model", None)])
    assert plan.resources.gpu_model is None


def test_the_users_own_names_may_hold_dots() -> None:
    assert split_path("env.A.B") == ["env", "A.B"]
    plan = apply_changes(PLAN, [change("env.A.B", "1"), change("training.options.--model.lr", 3)])
    assert plan.env == {"A.B": "1"}
    assert plan.training.options == {"--model.lr": 3}
    assert plan.get("env.A.B") == "1"


def test_two_plans_that_run_the_same_have_one_digest() -> None:
    by_user = apply_changes(PLAN, [change("priority", 60)])
    by_repair = apply_changes(PLAN, [change("priority", 60, Author.REPAIR)])
    assert by_user.digest() == by_repair.digest() != PLAN.digest()


def test_a_diff_shows_both_sides() -> None:
    plan = apply_changes(PLAN, [change("env.A", "1"), change("resources.memory_mb", 4096)])
    assert plan_diff(PLAN, plan) == {"env.A": (None, "1"), "resources.memory_mb": (2048, 4096)}
    assert plan_diff(plan, plan) == {}


_LEAVES = ("priority", "training.epochs", "training.seed", "resources.memory_mb", "env.X", "image")


@given(st.lists(st.tuples(st.sampled_from(_LEAVES), st.one_of(st.none(), st.integers(-5, 5000), st.text(max_size=5)))))
def test_a_plan_is_valid_or_unchanged_whatever_is_asked(wishes: list[tuple[str, Any]]) -> None:
    plan = PLAN
    for path, value in wishes:
        before = plan
        try:
            plan = apply_changes(plan, [change(path, value)])
        except PlanError:
            assert plan is before
        assert TrainingPlan.model_validate_json(plan.model_dump_json()) == plan


def test_an_envelope_says_what_is_outside() -> None:
    mount = Mount(kind="host", source="data", destination="/data")
    envelope = Envelope(cost_usd=10, methods=("lora",), images=("a:1",), mounts=(mount,), datacenters=("dc1",))
    inside = PLAN.model_copy(update={"image": "a:1", "mounts": (mount,), "datacenters": ("dc1",)})
    assert envelope.objections(inside, 10) == ()
    assert "10.50" in envelope.objections(inside, 10.5)[0]
    outside = apply_changes(
        inside,
        [
            change("training.method", "full"),
            change("image", "b:1"),
            change("datacenters", ["dc1", "dc2"]),
            change("mounts", [{"kind": "bind", "source": "/", "destination": "/host"}]),
        ],
    )
    assert len(envelope.objections(outside, 1)) == 4
    assert Envelope(cost_usd=1, datacenters=("*",)).objections(PLAN, 1) == ()
