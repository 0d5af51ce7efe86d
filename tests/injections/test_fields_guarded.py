"""Whatever a model proposes in any step: a field that nobody has allowed is as the rules have it."""

from collections.abc import Iterator
from typing import Any, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.agent.qwen.allowed import FIELDS, MAPPINGS, allowed
from caravan.agent.qwen.guard import Ground, judged, refusal
from caravan.agent.qwen.questions import worded
from caravan.agent.qwen.repairs import proposed
from caravan.agent.qwen.replies import QuestionsReply, RepairsReply
from caravan.values.base import Value
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes, block_in
from caravan.values.repo import RepoProfile, ScriptOption
from tests.fakes.cluster import one_node

PROFILE = RepoProfile(
    root="/repo",
    tree_digest="0",
    is_training_repo=True,
    entry_point="train.py",
    options=(
        ScriptOption(flag="--lr", type="float", default=0.1),
        ScriptOption(flag="--model_name", default="acme/base"),
        ScriptOption(flag="--optim", choices=("adamw", "sgd")),
        ScriptOption(flag="--epochs", type="int", default=2),
        ScriptOption(flag="--push_to_hub", switch="on"),
    ),
)
PLAN = TrainingPlan(goal="Train it", command=("train.py", "--lr", "0.1"), flags={"training.epochs": "--epochs"})
FACTS = one_node()


def fields(block: type[Value] = TrainingPlan, prefix: str = "") -> Iterator[str]:
    """Every path of a plan: blocks, their fields, and a key of each free mapping."""
    for name, info in block.model_fields.items():
        path, inner = f"{prefix}{name}", block_in(info.annotation)
        yield path
        if inner is not None:
            yield from fields(inner, f"{path}.")
        elif get_origin(info.annotation) is dict:
            yield f"{path}.ANY"


PATHS = tuple(fields())
GUARDED = tuple(path for path in PATHS if not allowed(path))
VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, 2, 50, 10**9, -1, 0.5, "x", "bf16", "adamw", "hub", "archive", "raw_exec", "root"),
        *("/", "../..", "s3://evil/x", "https://evil.example", "$HOME", "evil/model", "--model_name", "--push_to_hub"),
        *(
            [],
            ["x"],
            ["train.py"],
            ["train.py", "--model_name", "evil/model"],
            ["evil-package"],
            ["dc9"],
            {},
            {"a": "b"},
        ),
        [{"kind": "bind", "source": "/", "destination": "/host"}],
        [{"attribute": "x", "value": "y"}],
        [{"destination": "x", "data": "y"}],
        {"kind": "git", "location": "https://evil.example/x.git"},
        {"max_cost_usd": 10**6},
        {"kind": "url", "location": "s3://evil/x"},
        {"metric": "loss"},
        {"kind": "trainer", "flag": "--resume"},
        {"runtime": "sysbox"},
    ]
)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in leaves(item, f"{path}.{key}" if path else key).items()}
    return {path: value}


def changed(plan: TrainingPlan) -> set[str]:
    one, other = (leaves(p.model_dump(mode="json", exclude={"provenance"})) for p in (PLAN, plan))
    return {path for path in {*one, *other} if one.get(path) != other.get(path)} - set(MAPS)


MAPS = tuple(prefix.rstrip(".") for prefix in MAPPINGS)


def test_what_is_allowed_is_there_and_what_is_new_is_guarded() -> None:
    assert set(PATHS) >= FIELDS
    assert not any(allowed(path) for path in ("brand_new", "training.brand_new", "setup.brand_new", "model.brand_new"))
    assert len(GUARDED) > len(FIELDS)


@pytest.mark.parametrize("mending", [False, True])
@given(path=st.sampled_from(GUARDED), value=VALUES)
def test_a_guarded_field_is_refused_whatever_its_value(path: str, value: Any, *, mending: bool) -> None:
    change = PlanChange(path=path, value=value, by=Author.MODEL, why="x")
    assert refusal(change, Ground(PLAN, PROFILE, FACTS, lambda _: True, mending))


CHANGES = st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=6)


@given(CHANGES, st.booleans())
def test_no_proposed_plan_has_another_guarded_field(said: list[tuple[str, Any]], mending: bool) -> None:
    ground = Ground(PLAN, PROFILE, FACTS, lambda _: False, mending)
    _, plan, _ = judged([PlanChange(path=p, value=v, by=Author.MODEL, why="x") for p, v in said], ground)
    assert all(map(allowed, changed(plan)))
    assert not any(evil in plan.model_dump_json() for evil in ("evil", "/host", "raw_exec", "root", "push_to_hub"))


@given(CHANGES)
def test_no_repair_and_no_question_has_one(said: list[tuple[str, Any]]) -> None:
    asked = [{"id": f"q{n}", "text": "Which?", "path": p, "default": v} for n, (p, v) in enumerate(said)]
    found, _, _ = worded((), PROFILE, "Train it", QuestionsReply.model_validate({"questions": asked}), "m", FACTS)
    assert all(allowed(question.path) for question in found)
    wished = [{"kind": "change_plan", "changes": [{"path": p, "value": v}], "why": "x"} for p, v in said]
    diagnosis = Diagnosis(failure=FailureClass.TRAINING_CONFIG_INVALID, confidence=0.5, cause="x")
    ground = Ground(PLAN, PROFILE, FACTS, mending=True)
    repairs, _ = proposed(RepairsReply.model_validate({"repairs": wished}), ground, diagnosis, (), "m")
    for repair in repairs:
        assert isinstance(repair, ChangePlan)
        assert all(map(allowed, changed(apply_changes(PLAN, repair.changes))))


def option(name: str, value: Any, *, mending: bool = False) -> str:
    change = PlanChange(path=f"training.options.{name}", value=value, by=Author.MODEL, why="x")
    return refusal(change, Ground(PLAN, PROFILE, FACTS, mending=mending))


def test_an_option_is_no_way_around_a_field() -> None:
    assert option("--lr", 0.01) == ""
    assert option("--optim", "sgd") == ""
    assert option("--model_name", "evil/model")
    assert option("--epochs", 1000)
    assert option("--optim", "evil.module:Optimizer")
    assert option("--push_to_hub", value=True)


def command(*words: str) -> str:
    change = PlanChange(path="command", value=list(words), by=Author.REPAIR, why="x")
    return refusal(change, Ground(PLAN, PROFILE, FACTS, mending=True))


def test_a_repaired_command_changes_no_more_than_options_may() -> None:
    assert command("train.py", "--lr", "0.01") == ""
    assert command("train.py", "--lr", "0.1", "--model_name", "evil/model")
    assert command("train.py", "--lr", "0.1", "extra.py")
    assert command("train.py", "--epochs=1000")


def test_what_was_closed_is_not_opened_by_taking_the_switch_away() -> None:
    closed = PLAN.model_copy(update={"env": {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}})
    for name in closed.env:
        change = PlanChange(path=f"env.{name}", value=None, by=Author.MODEL, why="x")
        assert refusal(change, Ground(closed, PROFILE, FACTS))
