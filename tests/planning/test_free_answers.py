"""Free texts as answers: to the question, to others, to fields that nobody asked about; and what is said back."""

from datetime import datetime, timedelta, timezone

import pytest

from caravan.planning.answers import answers_to_changes, load_answers, read_answer
from caravan.values.base import Json
from caravan.values.dialogue import Answer, Question
from caravan.values.errors import UsageError
from caravan.values.plan import Author

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=timezone(timedelta(hours=1)))
GPUS = Question(id="gpus", text="How many?", path="resources.gpus", default=1, choices=(1, 2, 4))
TYPE = Question(
    id="gpu_type",
    text="Which?",
    path="resources.gpu_model",
    choices=("NVIDIA A100-SXM4-80GB", "NVIDIA L4", "NVIDIA H200"),
)
MONEY = Question(id="max_cost", text="How much?", path="limits.max_cost_usd")
MODEL = Question(id="base_model", text="Which?", path="model.id", required=True)
DATA = Question(id="dataset", text="Which?", path="dataset.path", required=True)
METHOD = Question(id="method", text="How?", path="training.method", default="lora", choices=("lora", "full"))
ENTRY = Question(id="entry_point", text="Which?", path="command", choices=("a.py", "b.py"))
ALL = (GPUS, TYPE, MONEY, MODEL, DATA, METHOD, ENTRY)


def read(question: Question, text: Json) -> dict[str, Json]:
    answers, _ = read_answer(question, ALL, text, NOW)
    return {a.question_id: a.value for a in answers}


@pytest.mark.parametrize(
    ("question", "text", "value"),
    [
        (GPUS, "two", 2),
        (GPUS, "about four please", 4),
        (GPUS, "3", 3),
        (GPUS, "zwei", 2),
        (GPUS, "两张", 2),
        (GPUS, "as you like", 1),
        (TYPE, "a100", "NVIDIA A100-SXM4-80GB"),
        (TYPE, "an L4", "NVIDIA L4"),
        (TYPE, "nvidia l4", "NVIDIA L4"),
        (MONEY, "fifty bucks", 50.0),
        (MONEY, "maximal 20 Euro", 19.0),
        (MONEY, "30", 30.0),
        (METHOD, "LoRA please", "lora"),
        (METHOD, "whatever", "lora"),
        (METHOD, "train all weights", "full"),
        (MODEL, "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        (MODEL, "my models/run 3", "my models/run 3"),
        (DATA, "data/my set.jsonl", "data/my set.jsonl"),
        (ENTRY, "c.py --epochs 3 --gpus 2", "c.py --epochs 3 --gpus 2"),
    ],
)
def test_a_text_answers_its_question(question: Question, text: str, value: Json) -> None:
    found = read(question, text)
    assert found[question.id] == value
    if question is not TYPE:
        assert list(found) == [question.id]


def test_an_answer_may_say_more_than_was_asked() -> None:
    found = read(TYPE, "two A100s, keep it under 50 dollars, tonight")
    assert found == {
        "gpu_type": "NVIDIA A100-SXM4-80GB",
        "gpus": 2,
        "max_cost": 50.0,
        "limits.max_run_s": 64800,
        "limits.queue_s": 64800,
    }
    assert read(DATA, "data/train.jsonl, on two GPUs") == {"dataset": "data/train.jsonl", "gpus": 2}
    assert read(MODEL, "Qwen/Qwen2.5-7B with LoRA for 3 epochs") == {
        "base_model": "Qwen/Qwen2.5-7B",
        "method": "lora",
        "training.epochs": 3.0,
    }


def test_an_answer_to_another_question_leaves_this_one_open() -> None:
    assert read(TYPE, "under 50 dollars") == {"max_cost": 50.0}


def test_a_field_may_be_named_at_any_question() -> None:
    assert read(GPUS, "dataset = data/x.jsonl") == {"dataset": "data/x.jsonl"}
    assert read(GPUS, "training.lr=1e-4") == {"training.lr": 1e-4}


def test_what_is_not_used_is_said_and_nonsense_refused() -> None:
    _, unused = read_answer(GPUS, ALL, "two GPUs, as cheap as possible", NOW)
    assert unused[0].startswith('I could not use "as cheap as possible"')
    with pytest.raises(UsageError, match="doesn't fit"):
        read_answer(GPUS, ALL, "blue", NOW)
    _, unclear = read_answer(GPUS, ALL, "two GPUs, 20 dollars, 50 dollars", NOW)
    assert unclear == ("It says two things of limits.max_cost_usd (20 dollars, 50 dollars): neither is taken.",)


def test_changes_say_the_words_that_made_them() -> None:
    answers, _ = read_answer(GPUS, ALL, "two A100s for three epochs", NOW)
    changes = {c.path: c for c in answers_to_changes(ALL, answers)}
    assert {p: c.value for p, c in changes.items()} == {
        "resources.gpus": 2,
        "resources.gpu_model": "NVIDIA A100-SXM4-80GB",
        "training.epochs": 3.0,
    }
    assert all(c.by is Author.ANSWER for c in changes.values())
    assert changes["training.epochs"].why == 'answer: "three epochs"'


def test_an_answer_of_an_earlier_run_is_memory_s() -> None:
    old = Answer(question_id="dataset", value="d.jsonl", by_user=False, recalled="as in run ab on 2026-11-20")
    (change,) = answers_to_changes(ALL, (old,))
    assert (change.by, change.why) == (Author.MEMORY, "as in run ab on 2026-11-20")


def test_free_texts_in_an_answers_file() -> None:
    found = load_answers("gpus: two A100s, under 50 dollars\nbase_model: a/b\n", NOW)
    assert found == {"gpus": 2, "resources.gpu_model": "A100", "limits.max_cost_usd": 50.0, "base_model": "a/b"}
    with pytest.raises(UsageError, match="could not use"):
        load_answers("gpus: two GPUs, as cheap as possible\n", NOW)


OPTION = Question(id="option:--run", text="Which value?", path="training.options.--run", required=True)


@pytest.mark.parametrize("question", [MODEL, OPTION])
def test_a_plain_word_beside_other_things_answers_the_question(question: Question) -> None:
    for text in ("my_run, 4 GPUs", "4 GPUs, my_run"):
        assert read(question, text) == {question.id: "my_run", "gpus": 4}


@pytest.mark.parametrize("text", ["a,b", "lora, full", "4 GPUs and more, mine", "my run, 4 GPUs"])
def test_a_list_is_the_value_of_an_option(text: str) -> None:
    assert read(OPTION, text) == {"option:--run": text}
