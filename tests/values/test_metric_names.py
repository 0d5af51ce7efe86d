"""Which way of a metric is better, by its name."""

import pytest

from caravan.gate.naming import direction
from caravan.values.metric_names import direction_of, told_direction


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("eval_loss", "min"),
        ("valLoss", "min"),
        ("val_nll", "min"),
        ("cross_entropy_loss", "min"),
        ("eval/fid", "min"),
        ("error_rate", "min"),
        ("eval_wer", "min"),
        ("accuracy", "max"),
        ("answer_accuracy", "max"),  # `wer` is in it
        ("soccer_acc", "max"),  # `cer`
        ("mean_reward", "max"),
        ("eval_f1", "max"),
    ],
)
def test_words_say_which_way_is_better(name: str, way: str) -> None:
    assert (told_direction(name), direction(name), direction_of(name)) == (way, way, way)


@pytest.mark.parametrize(("name", "way"), [("helpfulness", "max"), ("mAP50", "max"), ("trainloss", "min")])
def test_where_no_word_says_it_more_is_better_but_of_a_loss(name: str, way: str) -> None:
    assert told_direction(name) is None
    assert direction_of(name) == way
