"""Runs of one family: what makes another one, and what does not."""

import pytest

from caravan.values.base import Json
from caravan.values.family import family_of, seed_of
from caravan.values.plan import Author, CodeSource, PlanChange, TrainingPlan, apply_changes

PLAN = TrainingPlan(
    goal="Fine-tune it",
    command=("train.py",),
    code=CodeSource(kind="archive", location="/home/one/runs/0000aaaa/code.tar.gz", sha256="a" * 64),
)


def changed(path: str, value: Json) -> TrainingPlan:
    return apply_changes(PLAN, [PlanChange(path=path, value=value, by=Author.USER)])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.seed", 7),
        ("training.options", {"--seed": 7}),
        ("training.options", {"--random-state": 7}),
        ("goal", "The same, with another seed"),
        ("limits.max_cost_usd", 3.0),
        ("exclude_nodes", ["gpu-3"]),
        ("outputs", {"kind": "path", "location": "/home/one/runs/0000bbbb/outputs"}),
        ("code.location", "s3://bucket/code.tar.gz"),
    ],
)
def test_a_run_of_the_same_family(path: str, value: Json) -> None:
    assert family_of(changed(path, value)) == family_of(PLAN)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.lr", 1e-4),
        ("training.options", {"--data-seed": 7}),
        ("code.sha256", "b" * 64),
        ("dataset.path", "other.jsonl"),
        ("resources.gpus", 2),
        ("image", "pytorch:2"),
    ],
)
def test_a_run_of_another_family(path: str, value: Json) -> None:
    assert family_of(changed(path, value)) != family_of(PLAN)


def test_the_seed_is_the_fields_or_an_options() -> None:
    assert seed_of(PLAN) is None
    assert seed_of(changed("training.seed", 3)) == 3
    assert seed_of(changed("training.options", {"--random_seed": 4, "--data_seed": 5})) == 4
