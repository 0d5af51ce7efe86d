"""What evaluates a trained model, as the plan says it."""

import json
from typing import Any

import pytest

from caravan.planning.evaluating import evaluation_words, helper_words, in_last_phase
from caravan.values.plan import Dataset, Evaluation, ModelChoice, OutputSink, Training, TrainingPlan


def plan(*command: str, **more: Any) -> TrainingPlan:
    return TrainingPlan(goal="g", command=command or ("python", "train.py"), **more)


def ours(**more: Any) -> TrainingPlan:
    return plan("python", "sub/caravan_train/train.py", training=Training(type="sft"), **more)


def foreign(path: str = "data/a.jsonl", **more: Any) -> TrainingPlan:
    return plan(model=ModelChoice(id="org/m"), dataset=Dataset(path=path), **more)


def test_a_type_is_judged_by_its_own_script() -> None:
    found = evaluation_words(ours())
    assert found is not None
    assert found.words == ("python", "sub/caravan_train/evaluate.py")
    assert (found.by, found.script) == ("sft", "sub/caravan_train/evaluate.py")
    assert in_last_phase(ours(outputs=OutputSink(kind="url", location="s3://b/runs")))


def test_the_user_s_own_command_comes_first() -> None:
    found = evaluation_words(ours(evaluation=Evaluation(command=("python", "mine.py", "$CARAVAN_MODEL"))))
    assert found is not None
    assert found.by == "command"
    assert found.words[-1] == "$CARAVAN_MODEL"


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        (plan(), False),
        (foreign(), True),
        (foreign("org/data"), False),
        (foreign("org/data", evaluation=Evaluation(data="held.csv.gz")), True),
        (foreign("org/data", evaluation=Evaluation(on=True)), True),
        (foreign(evaluation=Evaluation(on=False)), False),
        (ours(evaluation=Evaluation(on=False, command=("x",))), False),
        (plan(dataset=Dataset(path="data/a.jsonl")), False),
    ],
)
def test_where_there_is_something_to_evaluate(asked: TrainingPlan, there: bool) -> None:
    assert (evaluation_words(asked) is not None) == there
    assert bool(helper_words(asked)) == there


def test_where_it_runs_unless_the_plan_says() -> None:
    url = OutputSink(kind="url", location="s3://b/runs")
    assert not in_last_phase(foreign(outputs=url))
    assert in_last_phase(foreign(outputs=OutputSink(kind="allocation")))
    assert in_last_phase(foreign(outputs=url, evaluation=Evaluation(where="phase")))
    assert not in_last_phase(ours(evaluation=Evaluation(where="job")))


def test_the_evaluation_is_told_what_was_set() -> None:
    words = helper_words(foreign(evaluation=Evaluation(examples=7, seed=3, canary="builtin", generate=2)))
    told = json.loads(words[words.index("--asked") + 1])
    assert (told["examples"], told["seed"], told["canary"], told["generate"]) == (7, 3, "builtin", 2)
    assert (told["base"], told["learnt"]) == ("org/m", "data/a.jsonl")
    assert "regression" not in told
    words = helper_words(ours(evaluation=Evaluation(max_s=60)))
    assert words[words.index("--max-s") + 1] == "60"
    assert "base" not in json.loads(words[words.index("--asked") + 1])
