"""What evaluates a trained model, as the plan says it."""

import json
import runpy
from typing import Any

import pytest

from caravan import TEMPLATES
from caravan.planning.evaluating import JUDGED_HEADS, JUDGED_TASKS, evaluation_words, helper_words, in_last_phase
from caravan.planning.evaluation_place import nothing_to_judge
from caravan.values.outputs import OutputSummary, TrainedModel
from caravan.values.plan import (
    Author,
    Dataset,
    Evaluation,
    ModelChoice,
    OutputSink,
    PlanChange,
    Training,
    TrainingPlan,
    apply_changes,
)


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


def left(**model: Any) -> OutputSummary:
    return OutputSummary(directory="/o", files=3, bytes=9, model=TrainedModel(path=".", **model) if model else None)


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (left(kind="model", architectures=("Qwen2ForCausalLM",)), ""),
        (left(kind="model", architectures=("GPT2LMHeadModel",)), ""),
        (left(kind="adapter", task="SEQ_CLS", architectures=()), ""),
        (left(kind="adapter", architectures=()), ""),
        (left(kind="model", architectures=("WhisperForConditionalGeneration",)), "WhisperForConditionalGeneration"),
        (left(kind="model", architectures=()), "no named class"),
        (left(kind="adapter", task="TOKEN_CLS", architectures=()), "TOKEN_CLS"),
        (left(kind=""), "no model in Hugging Face's format"),
        (left(), "no model in Hugging Face's format"),
        (left(kind="model"), "what kind of model"),
        (None, "is not known"),
    ],
)
def test_a_model_that_cant_be_judged_is_known_before_a_job_is_paid_for(
    summary: OutputSummary | None, words: str
) -> None:
    apart = foreign(outputs=OutputSink(kind="path", location="/o"), evaluation=Evaluation(on=True, where="job"))
    found = nothing_to_judge(apart, summary)
    assert words in found
    assert bool(found) == bool(words)


def test_who_asks_for_an_evaluation_gets_its_job_unless_there_is_certainly_nothing() -> None:
    url = OutputSink(kind="url", location="s3://b/runs")
    asked = apply_changes(
        foreign(outputs=url, evaluation=Evaluation(where="job")),
        [PlanChange(path="evaluation.on", value=True, by=Author.USER)],
    )
    assert nothing_to_judge(asked, None) == ""
    assert nothing_to_judge(asked, left(kind="model")) == ""
    assert nothing_to_judge(asked, left(kind="")) != ""
    own = foreign(outputs=url, evaluation=Evaluation(on=True, where="job", command=("python", "mine.py")))
    assert nothing_to_judge(own, left(kind="")) == ""
    assert nothing_to_judge(ours(evaluation=Evaluation(on=True)), left(kind="")) == ""


def test_what_is_said_to_be_judged_is_what_the_evaluator_judges() -> None:
    judge = runpy.run_path(str(TEMPLATES / "judge.py"))
    assert {ending for ending, _ in judge["HEADS"]} == set(JUDGED_HEADS)
    assert set(judge["TASKS"]) == set(JUDGED_TASKS)
